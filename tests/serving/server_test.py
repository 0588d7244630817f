"""The whole server around a model that takes no time: many models, limits, deadlines, its end."""

import concurrent.futures
import contextlib
import gzip
import http.client
import json
import socket
import time

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from uvicorn.protocols.http.h11_impl import H11Protocol

from bert_keras.errors import InputError
from bert_keras.serving.server import runner, server
from bert_keras.serving.server.batching import BatchingParameters
from bert_keras.serving.server.server import ModelServer
from bert_keras.serving.server_files import METRICS_PATH
from tests.serving.conftest import Served, wait_until
from tests.serving.fake_servable import Loader, versions

CONFIG = """model_config_list {{
  config {{ name: "a" base_path: "{0}/a" model_platform: "tensorflow"
    model_version_policy {{ all {{ }} }} version_labels {{ key: "stable" value: 1 }} }}
  config {{ name: "b" base_path: "{0}/b" model_platform: "tensorflow" }}
}}"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts servers of the model "a", versions 1 and 2, and "b", version 3."""
    loader = Loader()
    monkeypatch.setattr(runner, "load", loader)
    versions(tmp_path / "a", 1, 2)
    versions(tmp_path / "b", 3)
    (tmp_path / "models.config").write_text(CONFIG.format(tmp_path))
    with contextlib.ExitStack() as stack:

        def make(**more):
            found = ModelServer(
                model_config_file=tmp_path / "models.config", poll_seconds=0, **more
            )
            stack.callback(found.stop, grace=1)
            found.start()
            found.loader, found.folder = loader, tmp_path
            return found

        yield make
        for servable in loader.loaded.values():
            servable.go.set()


def ask(found, method, path, body=None, headers=None):
    return Served("", found.grpc_address, found.rest_api_port).http(method, path, body, headers)


def predict(found, path, *texts):
    return ask(found, "POST", f"/v1/models/{path}:predict", {"instances": texts})


def spoken(found, text="abc", timeout=30, **spec):
    """A prediction over gRPC: (version, lengths), or the name of the error and its line."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "a")
    request.model_spec.version_label = spec.get("label", "")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
    with grpc.insecure_channel(found.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            response = stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return response.model_spec.version.value, list(response.outputs["length"].int_val)


# --- several models ------------------------------------------------------------------------------


def test_models_versions_and_labels_over_both(start):
    found = start()
    for path, expected in {
        "a": [6],
        "a/versions/1": [3],
        "a/versions/2": [6],
        "a/labels/stable": [3],
        "b": [9],
    }.items():
        assert predict(found, path, "abc") == (200, {"predictions": expected})
    assert spoken(found) == (2, [6])
    assert spoken(found, version=1) == spoken(found, label="stable") == (1, [3])
    assert spoken(found, name="b") == (3, [9])
    code, body = predict(found, "a/labels/beta", "abc")
    assert (code, body["error"]) == (400, "Unrecognized servable version label: beta")
    assert spoken(found, label="beta") == ("INVALID_ARGUMENT", body["error"])
    assert predict(found, "c", "abc")[0] == 404 and spoken(found, name="c")[0] == "NOT_FOUND"
    states = ask(found, "GET", "/v1/models/a")[1]["model_version_status"]
    assert [each["version"] for each in states] == ["2", "1"]
    states = ask(found, "GET", "/v1/models/a/labels/stable")[1]["model_version_status"]
    assert [each["version"] for each in states] == ["1"]
    code, body = ask(found, "GET", "/v1/models/a/labels/stable/metadata")
    assert (code, body["model_spec"]["version"]) == (200, "1")
    assert ask(found, "GET", "/page/model.json") == (200, {"name": "a"})
    assert found.rest_url.endswith("/v1/models/a")


def test_a_model_is_named_once():
    for one in ({}, {"name": "a", "base_path": "x", "model_config_file": "y"}):
        with pytest.raises(InputError, match="--model_base_path.*or --model_config_file"):
            ModelServer(**one)


def test_models_are_reloaded_over_grpc(start):
    found = start()
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add()
    config.name, config.base_path = "b", str(found.folder / "b")
    with grpc.insecure_channel(found.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def refusal(call, message):
            with pytest.raises(grpc.RpcError) as caught:
                call(message, timeout=30)
            return caught.value.code().name, caught.value.details()

        code, details = refusal(stub.HandleReloadConfigRequest, request)
        assert code == "INVALID_ARGUMENT" and "model_platform" in details
        config.model_platform = "tensorflow"
        config.version_labels["stable"] = 8
        code, details = refusal(stub.HandleReloadConfigRequest, request)
        assert code == "INVALID_ARGUMENT" and "'stable' to version 8" in details
        assert found.models.names == ["a", "b"]
        config.version_labels["stable"] = 3
        response = stub.HandleReloadConfigRequest(request, timeout=30)
        assert response.status.error_code == 0 and found.models.names == ["b"]
        assert spoken(found, name="b", label="stable") == (3, [9])
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "a"
        assert refusal(stub.GetModelStatus, request)[0] == "NOT_FOUND"


# --- limits --------------------------------------------------------------------------------------


@pytest.fixture
def crowd():
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        yield pool


def waiting(found, version=2):
    """Returns the servable once one more request waits in it."""
    servable = found.loader.loaded["a", version]
    assert servable.waiting.acquire(timeout=20)
    return servable


@pytest.mark.parametrize("batching", [None, BatchingParameters(num_batch_threads=2)], ids=str)
def test_a_crowd_is_refused_at_once_and_the_others_are_answered(start, crowd, batching):
    found = start(max_queued_requests=2, batching=batching)
    under_way = [
        crowd.submit(predict, found, "a", "wait"),
        crowd.submit(spoken, found, "wait"),
    ]
    servable = [waiting(found), waiting(found)][-1]
    code, body = predict(found, "a", "abc")
    assert code == 429 and "busy: 2 requests" in body["error"]
    assert spoken(found)[0] == "RESOURCE_EXHAUSTED"
    assert ask(found, "GET", "/v1/models/a")[0] == 200
    assert ask(found, "GET", "/readyz") == (200, {"status": "SERVING"})
    servable.go.set()
    assert [each.result(30) for each in under_way] == [
        (200, {"predictions": [8]}),
        (2, [8]),
    ]
    assert predict(found, "a", "abc") == (200, {"predictions": [6]})
    text = metrics(found)
    for state in ("OK", "RESOURCE_EXHAUSTED"):
        assert f'status="{state}"' in text


def test_what_has_not_begun_in_time_never_does(start, crowd, monkeypatch):
    monkeypatch.setattr(server, "_AT_ONCE", 1)
    found = start(rest_timeout_seconds=0.5)
    began = time.monotonic()
    first = crowd.submit(predict, found, "a", "wait")
    servable = waiting(found)
    late, later = crowd.submit(predict, found, "a", "late"), spoken(found, "later", timeout=0.3)
    assert later[0] == "DEADLINE_EXCEEDED"
    for each in (first, late):
        code, body = each.result(20)
        assert code == 504 and "within its time" in body["error"]
    assert time.monotonic() - began < 10
    servable.go.set()
    wait_until(lambda: predict(found, "a", "abc")[0] == 200)
    assert servable.seen == [b"wait", b"abc"]


def raw(found, *pieces, seconds=20):
    """What the server says to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", found.rest_api_port), seconds) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    return received


def test_slow_clients_are_given_up_and_disturb_nobody(start):
    found = start(rest_timeout_seconds=0.5, max_queued_requests=4)
    head = b"POST /v1/models/a:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n"
    with contextlib.ExitStack() as stack:
        for number in range(40):
            connection = socket.create_connection(("127.0.0.1", found.rest_api_port))
            stack.enter_context(connection)
            connection.sendall(head + b"\r\n{" if number % 2 else head)
        assert predict(found, "a", "abc")[0] == 200
    assert raw(found, head) == b""  # no whole header: no answer
    assert raw(found) == b""
    answer = raw(found, head + b"\r\n{")
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.5 s" in answer
    assert b"connection: close" in answer.lower()
    # A header that comes byte by byte is not waited for longer.
    with socket.create_connection(("127.0.0.1", found.rest_api_port)) as connection:
        for byte in b"GET / HTTP/1.1\r\n":
            with contextlib.suppress(OSError):
                connection.send(bytes([byte]))
            time.sleep(0.1)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""


GZIP = {"Content-Encoding": "gzip"}
BODY = json.dumps({"instances": ["abc"]}).encode()


def test_an_answer_does_not_wait_for_acknowledgements(start, monkeypatch):
    """Header and body are two writes: with Nagle's algorithm the second may wait for 40 ms."""
    at_once = []
    connection_made = H11Protocol.connection_made

    def made(protocol, transport):
        connection = transport.get_extra_info("socket")
        at_once.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        connection_made(protocol, transport)

    monkeypatch.setattr(H11Protocol, "connection_made", made)
    assert predict(start(), "a", "abc")[0] == 200
    assert at_once == [1]


def test_gzip(start):
    found = start(max_request_bytes=100_000)

    def send(body, headers=GZIP):
        return ask(found, "POST", "/v1/models/a:predict", body, headers)

    assert send(gzip.compress(BODY)) == (200, {"predictions": [6]})
    assert send(BODY, {"Content-Encoding": "identity"})[0] == 200
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    assert send(bomb) == (413, {"error": "Request body is longer than 100000 bytes"})
    for broken in (BODY, gzip.compress(BODY)[:-3], gzip.compress(BODY) + b"more", b""):
        code, body = send(broken)
        assert code == 400 and "gzip" in body["error"]
    code, body = send(BODY, {"Content-Encoding": "br"})
    assert code == 415 and "'br'" in body["error"]


# --- what a server tells of itself ---------------------------------------------------------------


def metrics(found, path=METRICS_PATH):
    connection = http.client.HTTPConnection("127.0.0.1", found.rest_api_port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return text if response.status == 200 else response.status


def test_metrics(start):
    found = start()
    predict(found, "a", "abc")
    spoken(found)
    predict(found, "nobody", "abc")
    predict(found, "a", 7)
    counts = [line for line in metrics(found).splitlines() if ":request_count{" in line]
    assert sorted(counts) == [
        ':tensorflow:serving:request_count{model_name="",signature="predict",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="a",signature="predict",'
        'status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="a",signature="serving_default",'
        'status="OK"} 2',
    ]
    assert metrics(start(metrics_path="/m"), "/m").startswith("# HELP")
    assert metrics(start(metrics_path=None)) == 404


def check(found, request=b""):
    """gRPC's health check, by its bytes on the wire."""
    with grpc.insecure_channel(found.grpc_address) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return call(request, timeout=20)
        except grpc.RpcError as error:
            return error.code().name


def test_health(start, crowd):
    found = start()
    assert check(found) == b"\x08\x01"
    name = b"tensorflow.serving.PredictionService"
    assert check(found, b"\x0a" + bytes([len(name)]) + name) == b"\x08\x01"
    assert check(found, b"\x0a\x01x") == "NOT_FOUND"
    assert check(found, b"nonsense") == "INVALID_ARGUMENT"
    assert ask(found, "GET", "/healthz") == (200, {"status": "SERVING"})
    assert ask(found, "POST", "/healthz")[0] == 404


def test_health_through_the_official_stub(start):
    messages = pytest.importorskip("grpc_health.v1.health_pb2")
    services = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    found = start()
    with grpc.insecure_channel(found.grpc_address) as channel:
        stub = services.HealthStub(channel)
        response = stub.Check(messages.HealthCheckRequest(), timeout=20)
        assert response.status == messages.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(messages.HealthCheckRequest(service="x"), timeout=20)
        assert caught.value.code().name == "NOT_FOUND"


# --- the end -------------------------------------------------------------------------------------


def test_at_its_end_it_answers_what_it_took_and_refuses_the_rest(start, crowd):
    found = start()
    kept = http.client.HTTPConnection("127.0.0.1", found.rest_api_port, timeout=20)
    kept.request("POST", "/v1/models/a:predict", BODY)
    assert kept.getresponse().read() == b'{"predictions": [6]}'
    under_way = [crowd.submit(predict, found, "a", "wait"), crowd.submit(spoken, found, "wait")]
    servable = [waiting(found), waiting(found)][-1]
    end = crowd.submit(found.stop, grace=20, linger=1.0)
    wait_until(lambda: ask(found, "GET", "/readyz")[0] == 503)
    assert ask(found, "GET", "/healthz")[0] == 200
    assert check(found) == b"\x08\x02"
    kept.request("POST", "/v1/models/a:predict", BODY)
    response = kept.getresponse()
    assert response.status == 503 and response.headers["Connection"] == "close"
    assert "shutting down" in json.loads(response.read())["error"]
    assert spoken(found)[0] == "UNAVAILABLE"
    servable.go.set()
    assert [each.result(30) for each in under_way] == [(200, {"predictions": [8]}), (2, [8])]
    assert end.result(30) is True
    assert b"abc" not in servable.seen[1:]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", found.rest_api_port), timeout=2)
    assert spoken(found, timeout=2)[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_its_grace_has_an_end(start, crowd):
    found = start()
    asked = crowd.submit(predict, found, "a", "wait")
    servable = waiting(found)
    began = time.monotonic()
    assert found.stop(grace=0.3) is False
    assert time.monotonic() - began < 8
    assert asked.result(30)[0] == 503
    servable.go.set()
