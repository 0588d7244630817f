"""A server with the hand-made model, and TensorFlow Serving's own where it is installed."""

import dataclasses
import http.client
import json
import shutil
import socket
import subprocess
import time

import pytest


@dataclasses.dataclass
class Served:
    """Where a server listens, and one HTTP call to it."""

    kind: str
    grpc_address: str
    rest_port: int

    def http(self, method, path, body=None, headers=None):
        """Returns (status code, parsed JSON body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        if isinstance(body, str):
            body = body.encode("utf-8")
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode("utf-8")
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.headers["Content-Type"].startswith("application/json"), text
        return response.status, json.loads(text)

    def predict(self, body, path="/v1/models/toy:predict"):
        return self.http("POST", path, body)


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    """A base path with version 1 of the toy model."""
    from tests.serving.toy_model import save_toy_model

    base = tmp_path_factory.mktemp("toy")
    save_toy_model(base / "1")
    return base


REAL_SERVER = shutil.which("tensorflow_model_server")


@pytest.fixture(
    scope="module", params=["embedded", *(["tensorflow_model_server"] if REAL_SERVER else [])]
)
def served(request, toy_dir):
    """A server of the toy model, under the name "toy": ours, and the real one if it is there."""
    if request.param == "embedded":
        from bert_keras.serving.server.server import ModelServer

        with ModelServer("toy", toy_dir, poll_seconds=0) as server:
            yield Served("embedded", server.grpc_address, server.rest_api_port)
        return
    grpc_port, rest_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            REAL_SERVER,
            "--model_name=toy",
            f"--model_base_path={toy_dir}",
            f"--port={grpc_port}",
            f"--rest_api_port={rest_port}",
        ]
    )
    try:
        served = Served("tensorflow_model_server", f"127.0.0.1:{grpc_port}", rest_port)
        wait_until(lambda: served.http("GET", "/v1/models/toy")[0] == 200)
        yield served
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds=30):
    """Waits until the condition holds (an OSError is a no), or fails."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
