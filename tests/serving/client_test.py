"""The client's own part: addresses, faults, and the shape of the answers."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import grpc
import pytest

from bert_keras.errors import InputError
from bert_keras.serving.client import retries
from bert_keras.serving.client.client import SavedModelClient, connect
from bert_keras.serving.client.retries import RequestError, Retries
from bert_keras.serving.server.server import ModelServer
from tests.serving.conftest import free_port
from tests.serving.fake_server import FakeServer, fake_grpc_server


@pytest.fixture(scope="module")
def server(toy_dir):
    with ModelServer("toy", toy_dir, poll_seconds=0) as server:
        yield server


def clients(server, toy_dir):
    return {
        "rest": connect(server.rest_url),
        "rest version": connect(server.rest_url + "/versions/1/"),
        "grpc": connect(f"grpc://{server.grpc_address}/toy"),
        "grpc version": connect(f"grpc://{server.grpc_address}/toy/versions/1"),
        "here": SavedModelClient(toy_dir),
        "here version": SavedModelClient(toy_dir / "1"),
    }


def test_every_way_gives_the_same_answers(server, toy_dir):
    texts = ["a", "abcd", "é\u0000\ufffd", "\ud800"] * 5  # the last one has no UTF-8
    answers = {}
    for name, client in clients(server, toy_dir).items():
        assert client.inputs == ("text",)
        answers[name] = client.predict(texts, batch_size=3)
    first = answers["here"]
    assert [answer["label"] for answer in first[:4]] == ["short", "long", "long", "short"]
    assert list(first[0]["probabilities"]) == ["long", "short"]
    for found in answers.values():
        assert [list(answer) for answer in found] == [["label", "probabilities", "logits"]] * 20
        for one, other in zip(found, first):
            assert one["label"] == other["label"] and one["logits"] == other["logits"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-7)


def test_nothing_asked_is_nothing_answered(server):
    assert connect(server.rest_url).predict([]) == []


@pytest.mark.parametrize(
    "address",
    ["localhost:8501", "http://localhost:8501", "ftp://x/v1/models/y", "grpc://localhost:8500", ""],
)
def test_addresses_of_another_form(address):
    with pytest.raises(InputError, match="expected http://host:port/v1/models/NAME"):
        connect(address)


def test_nobody_there():
    port = free_port()
    with pytest.raises(InputError, match="is the server running"):
        connect(f"http://127.0.0.1:{port}/v1/models/toy").predict(["a"])
    with pytest.raises(InputError, match="UNAVAILABLE"):
        connect(f"grpc://127.0.0.1:{port}/toy").predict(["a"])


def test_the_servers_refusal_is_passed_on(server):
    other = server.rest_url.replace("/toy", "/other")
    with pytest.raises(InputError, match="404: Servable not found for request: Latest"):
        connect(other).predict(["a"])
    with pytest.raises(InputError, match="NOT_FOUND: Servable not found for request"):
        connect(f"grpc://{server.grpc_address}/other").predict(["a"])
    with pytest.raises(InputError, match="1 text.* at a time, not 2"):
        connect(server.rest_url).predict([("a", "b")])


def test_something_else_listens():
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            with pytest.raises(InputError, match="not JSON; is this a model server"):
                connect(f"http://127.0.0.1:{page.server_port}/v1/models/x").predict(["a"])
        finally:
            page.shutdown()
            thread.join()


def test_no_saved_model_there(tmp_path):
    with pytest.raises(InputError, match="neither a saved_model.pb nor a numbered version"):
        SavedModelClient(tmp_path)


def test_a_model_of_other_inputs_or_outputs_is_named(tmp_path):
    import tensorflow as tf

    for name, function in {
        "words": lambda words: {"label": words},
        "text": lambda text: {"length": tf.strings.length(text)},
    }.items():
        module = tf.Module()
        spec = tf.TensorSpec([None], tf.string, name=name)
        module.f = tf.function(function, input_signature=[spec])
        place = tmp_path / name
        tf.saved_model.save(module, str(place), signatures={"serving_default": module.f})
    with pytest.raises(InputError, match="takes words; expected one of: text; text_a and text_b;"):
        SavedModelClient(tmp_path / "words").predict(["a"])
    with pytest.raises(InputError, match="answers with length, and export_savedmodel writes none"):
        SavedModelClient(tmp_path / "text").predict(["a"])


class Canned(BaseHTTPRequestHandler):
    """A model of regression, whose single output comes without its name."""

    signature: ClassVar[dict] = {"inputs": {"text": {}}, "outputs": {"score": {}}}
    metadata: ClassVar[dict] = {
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}
    }
    answer: ClassVar[bytes] = json.dumps({"outputs": [1.5, 2.5]}).encode()

    def do_GET(self):
        self._send(json.dumps(self.metadata).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(self.answer)

    def _send(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def ask_canned(handler):
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = connect(f"http://127.0.0.1:{server.server_port}/v1/models/toy")
        return client.predict(["a", "b"])
    finally:
        server.shutdown()
        server.server_close()


def test_the_single_output_of_a_regression_keeps_its_name_over_rest():
    assert ask_canned(Canned) == [{"score": 1.5}, {"score": 2.5}]


def test_an_answer_without_outputs():
    with pytest.raises(InputError, match="the answer has no outputs"):
        ask_canned(type("Other", (Canned,), {"answer": b'{"predictions": []}'}))


def test_an_answer_that_is_not_http():
    class Broken(Canned):
        def do_GET(self):
            self.wfile.write(b"SSH-2.0-x\r\n\r\n")

    with pytest.raises(InputError, match="no answer .*BadStatusLine"):
        ask_canned(Broken)


# --- asking again -----------------------------------------------------------------------------


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)


@pytest.mark.parametrize(
    "answer, requests",
    [
        ((429, {"error": "slow down"}), 3),
        ((503, {"error": "busy"}), 3),
        ((None, None), 3),  # the connection breaks
        ((400, {"error": "no"}), 1),
        ((404, {"error": "gone"}), 1),
        ((500, {"error": "broken"}), 1),
        ((504, {"error": "late"}), 1),
    ],
    ids=["429", "503", "reset", "400", "404", "500", "504"],
)
def test_what_is_asked_again_over_rest(no_waits, answer, requests):
    with FakeServer(lambda texts, number: answer if number <= 2 else None) as server:
        client = connect(server.url, num_retries=2)
        if requests == 3:
            assert client.predict(["abc"]) == [{"score": 3.0}]
        else:
            with pytest.raises(RequestError, match=answer[1]["error"]):
                client.predict(["abc"])
        assert len(server.asked) == requests


def test_the_last_refusal_says_how_often_it_was_asked(no_waits):
    with FakeServer(lambda texts, number: (503, {"error": "busy"})) as server:
        with pytest.raises(RequestError, match=r"503: busy \(asked 4 times\)"):
            connect(server.url, num_retries=3).predict(["a"])
        assert len(server.asked) == 4
        with pytest.raises(RequestError, match="503: busy$"):
            connect(server.url).predict(["a"])


def test_a_timeout_is_not_asked_again(no_waits):
    with FakeServer(lambda texts, number: time.sleep(0.5)) as server:
        with pytest.raises(RequestError, match="timed out"):
            connect(server.url, timeout=0.1, num_retries=5).predict(["a"])
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "code, details, requests",
    [
        ("UNAVAILABLE", "away", 3),
        ("RESOURCE_EXHAUSTED", "busy", 3),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", 1),
        ("INVALID_ARGUMENT", "no", 1),
        ("INTERNAL", "broken", 1),
    ],
    ids=["unavailable", "exhausted", "long", "invalid", "internal"],
)
def test_what_is_asked_again_over_grpc(no_waits, code, details, requests):
    asked = []

    def predict(request, context):
        asked.append(request)
        context.abort(grpc.StatusCode[code], details)

    with fake_grpc_server(predict) as address:
        client = connect(f"grpc://{address}/fake", num_retries=2)
        with pytest.raises(RequestError) as error:
            client.run("serving_default", {"text": ["a"]})
        client.close()
    assert len(asked) == requests and f"{code}: {details}" in str(error.value)
    assert error.value.refused == (requests == 1 and code != "INTERNAL")


class Waits:
    """In place of the event that ends waits: keeps how long they are."""

    def __init__(self):
        self.seconds = []

    def wait(self, seconds):
        self.seconds.append(seconds)
        return False


def waits(seed, retry_after=0.0):
    found = Retries(9, seed)
    found._stopped = Waits()

    def ask():
        raise RequestError("busy", passing=True, retry_after=retry_after)

    with pytest.raises(RequestError):
        found.call(ask)
    return found._stopped.seconds


def test_waits_double_up_to_half_a_minute():
    longest = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert len(waits(1)) == 9
    for wait, most in zip(waits(1), longest, strict=True):
        assert most / 2 <= wait <= most
    assert waits(1) == waits(1) != waits(2)
    assert min(waits(1, retry_after=7.0)) == 7.0
    assert max(waits(1, retry_after=1e9)) == 30.0


def test_retry_after_is_read():
    busy = (503, {"error": "busy", "headers": {"Retry-After": "7"}})
    with FakeServer(lambda texts, number: busy) as server:
        with pytest.raises(RequestError) as error:
            connect(server.url).run("serving_default", {"text": ["a"]})
    assert error.value.retry_after == 7.0 and error.value.passing


def test_closing_ends_a_wait():
    with FakeServer(lambda texts, number: (503, {"error": "busy"})) as server:
        client = connect(server.url, num_retries=100)
        threading.Timer(0.2, client.close).start()
        begin = time.monotonic()
        with pytest.raises(RequestError, match="busy"):
            client.predict(["a"])
        assert time.monotonic() - begin < 5


def test_a_pinned_client_keeps_its_version_and_asks_for_the_labels_once(server, toy_dir):
    for client in clients(server, toy_dir).values():
        assert client.pin()["version"] in (1, "1")
        asked, run = [], client.run
        client.run = lambda signature, inputs, asked=asked, run=run: (
            asked.append(signature) or run(signature, inputs)
        )
        for text in ("a", "abcd"):
            assert client.predict([text])[0]["label"] == {"a": "short", "abcd": "long"}[text]
        assert asked == ["serving_default", "labels", "serving_default"]
    with FakeServer(version=4) as fake:
        client = connect(fake.url)
        assert client.pin() == {"name": "fake", "version": 4}
        client.predict(["a"])
        assert fake.paths == ["/v1/models/fake/versions/4:predict"]
