"""A model server that speaks TensorFlow Serving's API over HTTP and gRPC.

It is the way to try models where `tensorflow_model_server` is not installed. It has no
authentication and no encryption: put a proxy in front of it where others can reach it.
"""

import functools
import pathlib
import sys
import time
import urllib.parse
from collections.abc import Sequence

import grpc

from bert_keras.errors import InputError
from bert_keras.serving.server import grpc_service, http_server, runner
from bert_keras.serving.server.admission import Admission
from bert_keras.serving.server.batching import BatchingParameters
from bert_keras.serving.server.metrics import Metrics
from bert_keras.serving.server.model_registry import Models
from bert_keras.serving.server.model_store import ModelStore
from bert_keras.serving.server.models_config import ModelConfig, read_models_config
from bert_keras.serving.server.rest import RestApi
from bert_keras.serving.server_files import METRICS_PATH

DEFAULT_MAX_REQUEST_BYTES = 32 * 1024 * 1024
DEFAULT_MAX_BATCH_SIZE = 1024
DEFAULT_MAX_QUEUED_REQUESTS = 256
DEFAULT_REST_TIMEOUT_SECONDS = 30.0
DEFAULT_GRACE_SECONDS = 30.0

_AT_ONCE = 16  # requests in the graph at a time where they are not batched


class ModelServer:
    """Serves models until it is stopped.

    Args:
        name: the model's name in requests.
        base_path: a directory with numbered versions.
        model_config_file: models instead of that one, as `models_config` reads them.
        config_poll_seconds: how often to read that file again, in seconds; 0 never.
        allow_unavailable_labels: a label that is not in use may name a version that is yet to come.
        host: the address to listen on; the default takes connections from this machine alone.
        port: the gRPC port; 0 takes a free one, None leaves gRPC out.
        rest_api_port: the HTTP port, likewise.
        poll_seconds: how often to look for new versions, in seconds; 0 never.
        max_request_bytes: the longest request body or message.
        max_batch_size: the most rows in a request: memory grows with them.
        max_queued_requests: the most requests under way and waiting; others are refused.
        rest_timeout_seconds: how long an HTTP request may take to arrive, and then to be answered.
        batching: how requests share batches; None for each by itself.
        metrics_path: where Prometheus finds the metrics over HTTP; None for nowhere.
    """

    def __init__(
        self,
        name: str | None = None,
        base_path: str | pathlib.Path | None = None,
        *,
        model_config_file: str | pathlib.Path | None = None,
        config_poll_seconds: float = 0.0,
        allow_unavailable_labels: bool = False,
        host: str = "127.0.0.1",
        port: int | None = 0,
        rest_api_port: int | None = 0,
        poll_seconds: float = 1.0,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
        max_queued_requests: int = DEFAULT_MAX_QUEUED_REQUESTS,
        rest_timeout_seconds: float = DEFAULT_REST_TIMEOUT_SECONDS,
        batching: BatchingParameters | None = None,
        metrics_path: str | None = METRICS_PATH,
    ):
        if port is None and rest_api_port is None:
            raise InputError("--port and --rest_api_port are both 0; nothing to listen on.")
        self.host, self.port, self.rest_api_port = host, port, rest_api_port
        self.metrics = Metrics()
        self._admission = Admission(max_queued_requests, _AT_ONCE)
        self._config_file, self._config_poll_seconds = model_config_file, config_poll_seconds

        def make_store(config: ModelConfig) -> ModelStore:
            return ModelStore(
                config.name,
                config.base_path,
                policy=config.policy,
                labels=config.labels,
                allow_unavailable_labels=allow_unavailable_labels,
                poll_seconds=poll_seconds,
                load=functools.partial(
                    runner.load,
                    model=config.name,
                    max_batch_size=max_batch_size,
                    admission=self._admission,
                    batching=batching,
                    metrics=self.metrics,
                ),
                log=_log,
            )

        self.models = Models(_configs(name, base_path, model_config_file), make_store, _log)
        self._rest = RestApi(
            self.models,
            self._admission,
            self.metrics,
            max_request_bytes=max_request_bytes,
            timeout_seconds=rest_timeout_seconds,
            metrics_path=metrics_path,
        )
        self._patience_seconds = rest_timeout_seconds
        self._max_request_bytes = max_request_bytes
        self._grpc: grpc.Server | None = None
        self._http: http_server.HttpServer | None = None

    @property
    def store(self) -> ModelStore:
        """The first model."""
        return self.models.first()

    @property
    def grpc_address(self) -> str | None:
        """`host:port` of the gRPC services, or None."""
        return None if self.port is None else f"{_brackets(self.host)}:{self.port}"

    @property
    def rest_url(self) -> str | None:
        """The first model's address over HTTP, to which `:predict` is added, or None."""
        if self.rest_api_port is None:
            return None
        name = urllib.parse.quote(self.store.name)
        return f"http://{_brackets(self.host)}:{self.rest_api_port}/v1/models/{name}"

    def start(self) -> None:
        """Loads the models, then opens the ports.

        Raises:
            InputError: a model has nothing to serve, or a port is taken.
        """
        try:
            self.models.start()
            if self.rest_api_port is not None:
                self._start_http()
            if self.port is not None:
                self._start_grpc()
        except BaseException:
            self.stop(grace=0)
            raise
        if self._config_file and self._config_poll_seconds > 0:
            self.models.watch(self._config_file, self._config_poll_seconds)

    def stop(self, grace: float = DEFAULT_GRACE_SECONDS, linger: float = 0.0) -> bool:
        """Refuses new requests, answers those that were taken, and closes.

        Args:
            grace: how long requests under way may take, in seconds.
            linger: how long the ports stay open at least, in seconds: a client that goes on
                asking is told 503 or UNAVAILABLE, instead of finding its connection broken.

        Returns:
            Whether all requests were answered.
        """
        began = time.monotonic()
        self._admission.refuse()
        answered = self._admission.wait(grace)
        left = began + min(linger, grace) - time.monotonic()
        if left > 0 and (self._grpc or self._http):
            time.sleep(left)
        left = max(1.0, began + grace - time.monotonic())  # to send what was answered
        stopping = self._grpc.stop(left) if self._grpc else None
        if self._http:
            self._http.stop(left)
        if stopping:
            stopping.wait(left + 5)
        self._rest.close()
        self.models.stop()
        return answered

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start_http(self) -> None:
        listener = http_server.listen(self.host, self.rest_api_port or 0, "--rest_api_port")
        self.rest_api_port = listener.getsockname()[1]
        self._http = http_server.HttpServer(
            self._rest.application, listener, self._patience_seconds
        )
        self._http.start()

    def _start_grpc(self) -> None:
        self._grpc = grpc_service.create_server(
            self.models,
            self._admission,
            self.metrics,
            max_request_bytes=self._max_request_bytes,
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


def _configs(
    name: str | None,
    base_path: str | pathlib.Path | None,
    model_config_file: str | pathlib.Path | None,
) -> Sequence[ModelConfig]:
    if (base_path is None) == (model_config_file is None):
        raise InputError(
            "expected --model_base_path for one model or --model_config_file for several."
        )
    if model_config_file is not None:
        return read_models_config(model_config_file)
    return [ModelConfig(name or "", pathlib.Path(base_path or ""))]


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")


def _brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host
