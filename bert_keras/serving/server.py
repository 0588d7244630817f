"""A model server that speaks TensorFlow Serving's API over HTTP and gRPC.

It is the way to try a model where `tensorflow_model_server` is not installed. It has no
authentication and no encryption: put a proxy in front of it where others can reach it.
"""

import pathlib
import socket
import threading
import time
import urllib.parse

import grpc
import uvicorn

from bert_keras.errors import InputError
from bert_keras.serving import grpc_service, rest
from bert_keras.serving.model_store import ModelStore

DEFAULT_MAX_REQUEST_BYTES = 32 * 1024 * 1024
DEFAULT_MAX_BATCH_SIZE = 1024


class ModelServer:
    """Serves one model until it is stopped.

    Args:
        name: the model's name in requests.
        base_path: a directory with numbered versions.
        host: the address to listen on; the default takes connections from this machine alone.
        port: the gRPC port; 0 takes a free one, None leaves gRPC out.
        rest_api_port: the HTTP port, likewise.
        poll_seconds: how often to look for new versions, in seconds; 0 never.
        max_request_bytes: the longest request body or message.
        max_batch_size: the most rows in a request: memory grows with them.
    """

    def __init__(
        self,
        name: str,
        base_path: str | pathlib.Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = 0,
        rest_api_port: int | None = 0,
        poll_seconds: float = 1.0,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    ):
        if port is None and rest_api_port is None:
            raise InputError("--port and --rest_api_port are both 0; nothing to listen on.")
        if not name or set(name) & set("/:"):
            raise InputError(f"--model_name {name!r}: expected a name without '/' and ':'.")
        self.store = ModelStore(
            name, base_path, poll_seconds=poll_seconds, max_batch_size=max_batch_size
        )
        self.host, self.port, self.rest_api_port = host, port, rest_api_port
        self._max_request_bytes = max_request_bytes
        self._grpc: grpc.Server | None = None
        self._http: uvicorn.Server | None = None
        self._http_thread: threading.Thread | None = None

    @property
    def grpc_address(self) -> str | None:
        """`host:port` of the gRPC services, or None."""
        return None if self.port is None else f"{_brackets(self.host)}:{self.port}"

    @property
    def rest_url(self) -> str | None:
        """The model's address over HTTP, to which `:predict` is added, or None."""
        if self.rest_api_port is None:
            return None
        name = urllib.parse.quote(self.store.name)
        return f"http://{_brackets(self.host)}:{self.rest_api_port}/v1/models/{name}"

    def start(self) -> None:
        """Loads the model, then opens the ports.

        Raises:
            InputError: no version loads, or a port is taken.
        """
        self.store.start()
        try:
            if self.rest_api_port is not None:
                self._start_http()
            if self.port is not None:
                self._start_grpc()
        except BaseException:
            self.stop(grace=0)
            raise

    def stop(self, grace: float = 10.0) -> None:
        """Takes no new requests, lets those under way finish for `grace` seconds, closes."""
        stopping = self._grpc.stop(grace) if self._grpc else None
        if self._http and self._http_thread:
            self._http.config.timeout_graceful_shutdown = max(1, round(grace))
            self._http.should_exit = True
            self._http_thread.join(grace + 5)
        if stopping:
            stopping.wait(grace + 5)
        self.store.stop()

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start_http(self) -> None:
        listener = _listen(self.host, self.rest_api_port or 0, "--rest_api_port")
        self.rest_api_port = listener.getsockname()[1]
        config = uvicorn.Config(
            rest.application(self.store, max_request_bytes=self._max_request_bytes),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
        )
        self._http = uvicorn.Server(config)
        # Away from the main thread, uvicorn leaves the signal handlers alone.
        self._http_thread = threading.Thread(
            target=self._http.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )
        self._http_thread.start()
        while not self._http.started and self._http_thread.is_alive():
            time.sleep(0.01)

    def _start_grpc(self) -> None:
        self._grpc = grpc_service.create_server(
            self.store, max_request_bytes=self._max_request_bytes
        )
        try:
            bound = self._grpc.add_insecure_port(f"{_brackets(self.host)}:{self.port}")
        except RuntimeError:
            bound = 0
        if not bound:
            self._grpc = None
            raise InputError(f"--port {self.port}: cannot listen on {self.host}:{self.port}.")
        self.port = bound
        self._grpc.start()


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{flag} {port}: cannot listen on {host}:{port} ({error.strerror}); "
            "is another server running?"
        ) from None
    return listener


def _brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host
