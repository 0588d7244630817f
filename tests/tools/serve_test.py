"""The serve command as a process: ready line, signals, ports, faults."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from bert_keras.errors import InputError
from tests.serving.conftest import free_port, wait_until
from tests.serving.toy_model import save_toy_model
from tools import command

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy_dir(tmp_path_factory):
    base = tmp_path_factory.mktemp("toy")
    save_toy_model(base / "1")
    return base


def start(base, *flags):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tools.serve",
            "--model_name=toy",
            f"--model_base_path={base}",
            *flags,
        ],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def predict(url, text):
    body = json.dumps({"instances": [text]}).encode()
    with urllib.request.urlopen(f"{url}:predict", body, timeout=60) as response:
        return json.load(response)["predictions"][0]


def test_a_life_of_the_server(toy_dir, tmp_path):
    """Ready line; a new version while a slow request runs; SIGTERM while another one does."""
    base = tmp_path / "base"
    shutil.copytree(toy_dir, base)
    rest, grpc = free_port(), free_port()
    process = start(
        base,
        f"--port={grpc}",
        f"--rest_api_port={rest}",
        "--file_system_poll_wait_seconds=0.1",
    )
    try:
        line = process.stdout.readline()
        url = f"http://127.0.0.1:{rest}/v1/models/toy"
        assert line == f"Serving toy: REST {url}, gRPC 127.0.0.1:{grpc}\n"
        assert predict(url, "abc")["logits"] == [3.0, 2.0]

        slow = Asking(url)
        save_toy_model(base / "2", scale=10.0)
        wait_until(lambda: predict(url, "abc")["logits"] == [30.0, 20.0])
        assert slow.answer()["logits"] == [4.0, 2.0]  # by the version that it began with
        wait_until(lambda: '"END"' in urllib.request.urlopen(url).read().decode())

        slow = Asking(url)
        process.send_signal(signal.SIGTERM)
        assert slow.answer()["logits"] == [40.0, 20.0]
        assert process.wait(20) == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", rest), timeout=2)
    finally:
        process.kill()
        out, errors = process.communicate()
    assert out == ""
    assert "version 2 is available" in errors and "version 1 is drained" in errors
    assert "Traceback" not in errors


class Asking:
    """A request of about a second, under way in a thread."""

    def __init__(self, url):
        self.result = []
        self.sent = threading.Event()
        self.thread = threading.Thread(target=self.ask, args=(url,))
        self.thread.start()
        self.sent.wait(10)

    def ask(self, url):
        try:
            body = json.dumps({"instances": ["slow"]}).encode()
            host = url.split("/")[2]
            request = (
                f"POST /v1/models/toy:predict HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            address, port = host.split(":")
            with socket.create_connection((address, int(port)), timeout=60) as connection:
                connection.sendall(request.encode() + body)
                # The slow work has begun when the server has had time to read the request.
                threading.Event().wait(0.1)
                self.sent.set()
                received = b""
                while piece := connection.recv(65536):
                    received += piece
            self.result.append(json.loads(received.partition(b"\r\n\r\n")[2]))
        finally:
            self.sent.set()

    def answer(self):
        self.thread.join(60)
        return self.result[0]["predictions"][0]


def test_ctrl_c_and_one_port_alone(toy_dir):
    process = start(toy_dir, "--port=0", f"--rest_api_port={free_port()}")
    try:
        assert re.fullmatch(
            r"Serving toy: REST http://127\.0\.0\.1:\d+/v1/models/toy, gRPC off\n",
            process.stdout.readline(),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def fault(base, *flags):
    """The message of a server that does not start; in a thread, where it leaves signals alone."""
    arguments = ["--model_name=toy", f"--model_base_path={base}", *flags]
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(InputError) as caught:
        pool.submit(command.call, "serve", arguments).result()
    return str(caught.value)


def test_faults_are_told_apart(toy_dir, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--rest_api_port {port}" in fault(toy_dir, f"--rest_api_port={port}", "--port=0")
        assert f"--port {port}" in fault(toy_dir, f"--port={port}", "--rest_api_port=0")
    assert "both 0" in fault(toy_dir, "--port=0", "--rest_api_port=0")
    assert "named by a number" in fault(tmp_path)
    assert "without '/'" in fault(toy_dir, "--model_name=a/b")


def test_tensorflow_is_told_of_its_threads(toy_dir, monkeypatch):
    from tensorflow.config import threading as pools

    told = {}
    for pool in ("intra", "inter"):
        name = f"set_{pool}_op_parallelism_threads"
        monkeypatch.setattr(pools, name, lambda count, pool=pool: told.update({pool: count}))
    fault(toy_dir, "--port=0", "--rest_api_port=0", "--tensorflow_intra_op_parallelism=1")
    assert told == {"intra": 1}
    fault(toy_dir, "--port=0", "--rest_api_port=0", "--tensorflow_inter_op_parallelism=3")
    assert told == {"intra": 1, "inter": 3}


def test_a_fault_is_one_line(tmp_path):
    process = start(tmp_path / "absent")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and out == ""
    lines = [line for line in errors.splitlines() if line.startswith("serve: error:")]
    assert len(lines) == 1 and "Traceback" not in errors
    assert "no such directory" in lines[0]
