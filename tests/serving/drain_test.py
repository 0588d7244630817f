"""A server process under load over both protocols: new versions, SIGTERM, SIGTERM twice."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.conftest import free_port, wait_until
from tests.serving.toy_model import save_toy_model

ROOT = Path(__file__).parents[2]
PATH = "/v1/models/toy:predict"
GONE = "gone"  # the port is closed


class Process:
    """`tools.serve` with a toy model."""

    def __init__(self, base, *flags):
        self.rest, self.grpc = free_port(), free_port()
        command = [sys.executable, "-m", "tools.serve", "--model_name=toy"]
        self.errors = base.parent / "stderr.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [
                    *command,
                    f"--model_base_path={base}",
                    f"--port={self.grpc}",
                    f"--rest_api_port={self.rest}",
                    "--file_system_poll_wait_seconds=0.2",
                    *flags,
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout.readline().startswith("Serving toy"), self.errors.read_text()


@pytest.fixture
def process(tmp_path):
    save_toy_model(tmp_path / "toy" / "1")
    found = Process(tmp_path / "toy", "--shutdown_grace_seconds=20")
    yield found
    found.process.kill()
    found.process.communicate()


class RestClient:
    """Asks over one connection, as long as the server lets it; (200 or the error, scale)."""

    def __init__(self, server):
        self._port, self._connection = server.rest, None
        self._body = json.dumps({"instances": ["abc"]})

    def ask(self):
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            self._connection.connect() if self._connection.sock is None else None
        except ConnectionRefusedError:
            return GONE, None
        self._connection.request("POST", PATH, self._body)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            return {503: "UNAVAILABLE"}.get(response.status, response.status), None
        return "OK", answer["predictions"][0]["logits"][1] / 2

    def close(self):
        if self._connection:
            self._connection.close()


class SlowClient(RestClient):
    """Asks once what takes the toy model a second."""

    def __init__(self, server):
        super().__init__(server)
        self._body = json.dumps({"instances": ["slow"]})


class GrpcClient:
    """The same over a channel."""

    def __init__(self, server):
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc}")
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._request = predict_pb2.PredictRequest()
        self._request.model_spec.name = "toy"
        self._request.inputs["text"].CopyFrom(tf.make_tensor_proto(["abc"]))

    def ask(self):
        try:
            response = self._stub.Predict(self._request, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, None
        return "OK", response.outputs["logits"].float_val[1] / 2

    def close(self):
        self._channel.close()


class Load:
    """Threads that ask until they are refused; `answers` in the order of each thread."""

    def __init__(self, server, clients=(RestClient, RestClient, GrpcClient, GrpcClient)):
        self.answers, self.faults = [[] for _ in clients], []
        self._threads = [
            threading.Thread(target=self._run, args=(client(server), answers))
            for client, answers in zip(clients, self.answers)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, client, answers):
        with contextlib.closing(client):
            while True:
                try:
                    answers.append(client.ask())
                except Exception as error:
                    self.faults.append(error)
                    return
                if answers[-1][0] != "OK":
                    return
                time.sleep(0.002)

    def finish(self):
        for thread in self._threads:
            thread.join(60)
        assert not self.faults
        return self.answers


def test_no_request_is_lost_under_load(process, tmp_path):
    """Three new versions, then SIGTERM: each answer is one whole version's, or a clear refusal."""
    load = Load(process)
    wait_until(lambda: all(load.answers))
    for version, scale in ((2, 10.0), (3, 1.0), (4, 10.0)):
        save_toy_model(tmp_path / "toy" / str(version), scale)
        drained = f"version {version - 1} is drained"
        wait_until(lambda drained=drained: drained in process.errors.read_text())
    wait_until(lambda: all(each[-1] == ("OK", 10.0) for each in load.answers))
    slow = Load(process, (SlowClient,))
    time.sleep(0.1)
    process.process.send_signal(signal.SIGTERM)
    for answers in load.finish():
        *answered, (last, _) = answers
        assert {state for state, _ in answered} == {"OK"}
        assert last in ("UNAVAILABLE", GONE)
        changes = [b for (_, a), (_, b) in zip(answered, answered[1:]) if a != b]
        assert changes == [10.0, 1.0, 10.0]  # forward, and never back
    assert slow.finish()[0][0] == ("OK", 10.0)  # it was under way
    assert process.process.wait(30) == 0
    assert "Traceback" not in process.errors.read_text()


WITHOUT_TENSORFLOW = """
import sys, threading, time, types
from bert_keras.serving import server_files

class ModelServer:
    models, rest_url, grpc_address = types.SimpleNamespace(names=["toy"]), None, None
    def __init__(self, *args, **more): pass
    def start(self): pass
    def stop(self, grace, linger):
        print("stopping", flush=True)
        time.sleep(GRACE)
        return False

sys.modules["bert_keras.serving.server.server"] = types.ModuleType("server")
sys.modules["bert_keras.serving.server.server"].ModelServer = ModelServer
from tools import command, serve
command.run(serve.define_flags, serve.main, ["serve", "--model_base_path=x"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("twice", [True, False], ids=["twice", "once"])
def test_a_second_signal_ends_at_once_and_the_first_one_in_time(number, twice):
    """A server whose requests are never done: it waits, but not after the second signal."""
    code = WITHOUT_TENSORFLOW.replace("GRACE", "60" if twice else "0.1")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "Serving toy: REST off, gRPC off\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"
        if twice:
            process.send_signal(number)
        assert process.wait(20) == (-number if twice else 1)
        if not twice:
            assert "--shutdown_grace_seconds" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
