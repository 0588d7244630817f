"""Servers of a made-up model, scripted by the test; they need no TensorFlow.

The model takes `text` and answers with `score`, the length of the text.
"""

import contextlib
import json
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

PREDICT = "tensorflow.serving.PredictionService"


class FakeServer(ThreadingHTTPServer):
    """Over REST. `script(texts, number)` gives (status, answer) of a request, or None to answer.

    Attributes:
        asked: the texts of every request, in the order of arrival.
        paths: of every request for an answer.
        connections: how many there were.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script=lambda texts, number: None, version=1, hang_up=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.version, self.hang_up = script, version, hang_up
        self.asked, self.paths, self.connections = [], [], 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1/models/fake"

    def note(self, texts, path):
        with self._lock:
            self.asked.append(texts)
            self.paths.append(path)
            return len(self.asked)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def setup(self):
        self.server.connections += 1
        super().setup()

    def do_GET(self):
        signature = {"inputs": {"text": {}}, "outputs": {"score": {}}}
        metadata = {"signature_def": {"signature_def": {"serving_default": signature}}}
        spec = {"name": "fake", "version": str(self.server.version)}
        self._send(200, {"model_spec": spec, "metadata": metadata})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = body["inputs"]["text"]
        number = self.server.note(texts, self.path)
        status, answer = self.server.script(texts, number) or (200, None)
        if status is None:  # the connection breaks
            self.close_connection = True
            return
        self._send(status, answer or {"outputs": [float(len(text)) for text in texts]})
        self.close_connection = self.close_connection or self.server.hang_up

    def _send(self, status, answer):
        body = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the client may have left
            self.send_response(status)
            for name, value in answer.pop("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def fake_grpc_server(predict):
    """Over gRPC, with messages as bytes: `predict(request, context)` gives the answer's."""
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PREDICT, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
