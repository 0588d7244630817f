"""Asking a SavedModel, over REST, over gRPC or in this process; the answers look the same.

client = connect("http://localhost:8501/v1/models/sentiment")
client.predict(["a fine film"])  ->  [{"label": "positive", "probabilities": {...}, ...}]
"""

import abc
import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_keras.errors import InputError
from bert_keras.serving import received
from bert_keras.serving.client.retries import RequestError, Retries
from bert_keras.serving.version_folders import find_versions

if TYPE_CHECKING:
    from bert_keras.serving.client.grpc_client import GrpcClient
    from bert_keras.serving.client.rest_client import RestClient
    from bert_keras.serving.servable import Servable

_GRPC = re.compile(r"grpc://(?P<address>[^/]+)/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?/?")
_REST = re.compile(r"https?://[^/]+(?:/.*)?/v1/models/[^/:]+(?:/versions/\d+)?/?", re.I)

# Answers may be long, and a proxy for the web is none for this.
GRPC_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0))


def connect(
    server: str, *, timeout: float = 60.0, num_retries: int = 0, random_seed: int = 0
) -> "RestClient | GrpcClient":
    """Opens a client for a model on a server.

    Args:
        server: `http://host:port/v1/models/NAME` or `grpc://host:port/NAME`, either one followed
            by `/versions/N` for a certain version.
        timeout: how long to wait for an answer, in seconds.
        num_retries: how often a request is asked again that a busy server turned away (429, 503,
            RESOURCE_EXHAUSTED, UNAVAILABLE) or whose connection broke. What was refused or took
            too long is not asked again.
        random_seed: of the waits between.

    Raises:
        InputError: the address has neither form.
    """
    retries = Retries(num_retries, random_seed)
    match = _GRPC.fullmatch(server)
    if match:
        from bert_keras.serving.client.grpc_client import GrpcClient

        version = int(match["version"]) if match["version"] else None
        return GrpcClient(
            match["address"], match["name"], version, timeout=timeout, retries=retries
        )
    if _REST.fullmatch(server):
        from bert_keras.serving.client.rest_client import RestClient

        return RestClient(server.rstrip("/"), timeout=timeout, retries=retries)
    raise InputError(
        f"--server {server}: expected http://host:port/v1/models/NAME or grpc://host:port/NAME."
    )


class Client(abc.ABC):
    """A model behind TensorFlow Serving's signatures; a subclass says how they are called.

    It may be asked from several threads at once.
    """

    def __init__(self, retries: Retries | None = None):
        self._retries = retries or Retries()
        self._inputs: tuple[str, ...] | None = None
        self._labels: received.Labels | None = None

    @abc.abstractmethod
    def input_names(self, signature: str) -> list[str]:
        """The names of a signature's inputs."""

    @abc.abstractmethod
    def _run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        pass

    @abc.abstractmethod
    def _pin(self) -> dict[str, Any]:
        pass

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Calls one signature with a list for each input; gives an array for each output.

        Raises:
            RequestError: the server cannot be reached, or refuses; with its message.
        """
        return self._retries.call(lambda: self._run(signature, inputs))

    def pin(self) -> dict[str, Any]:
        """Keeps to the version that answers now, and tells its name and number."""
        told = self._pin()
        self._labels = functools.cache(self._ask_labels)
        return told

    def close(self) -> None:
        """Gives up requests that wait to be asked again, and closes connections."""
        self._retries.stop()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what an example has, such as ("text",) or ("question", "context")."""
        if self._inputs is None:
            self._inputs = received.input_names(self.input_names("serving_default"))
        return self._inputs

    def predict(self, examples: Sequence[Any], *, batch_size: int = 32) -> list[dict[str, Any]]:
        """Answers examples in their order, as `TextModel.predict` does.

        Args:
            examples: what the model takes: texts, pairs, or a text with a list of endings.
            batch_size: examples in one request.

        Raises:
            InputError: an example has another form.
            RequestError: the server cannot be reached, or refuses; with its message.
        """
        names = self.inputs
        # Asked anew by every call: the server may have gone on to another version.
        labels = self._labels or functools.cache(self._ask_labels)
        answers: list[dict[str, Any]] = []
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            outputs = self.run("serving_default", columns(names, batch))
            answers += received.answers(outputs, batch, labels)
        return answers

    def _ask_labels(self, count: int) -> list[str]:
        names = self.run("labels", {"index": list(range(count))})
        return [_text(name) for name in next(iter(names.values())).tolist()]


def columns(names: Sequence[str], examples: Sequence[Any]) -> dict[str, list[Any]]:
    """Examples as what `Client.run` takes: `received.columns`, and nothing that has no UTF-8."""
    return {name: _clean(values) for name, values in received.columns(names, examples).items()}


class ServableClient(Client):
    """A SavedModel that is loaded in this process."""

    def __init__(self, servable: "Servable"):
        super().__init__()
        self._servable = servable

    def _run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        from bert_keras.serving.status import INVALID_ARGUMENT, ServingError

        arrays = {name: received.array(values) for name, values in inputs.items()}
        try:
            return self._servable.run(signature, arrays)
        except ServingError as error:
            raise RequestError(
                f"{self._servable.path}: {error.message}",
                said=error.message,
                refused=error.code == INVALID_ARGUMENT,
            ) from None

    def _pin(self) -> dict[str, Any]:
        return {"version": self._servable.path.name}

    def input_names(self, signature: str) -> list[str]:
        if signature not in self._servable.signature_defs:
            raise InputError(f"{self._servable.path}: no signature {signature} in this SavedModel.")
        return list(self._servable.signature_defs[signature].inputs)


class SavedModelClient(ServableClient):
    """A SavedModel on disk, asked in this process.

    Args:
        directory: one version, or a directory of versions, of which the highest is taken.
    """

    def __init__(self, directory: str | pathlib.Path):
        # Asking a server must not take TensorFlow's seconds and memory; this does.
        from bert_keras.serving.servable import Servable

        directory = pathlib.Path(directory)
        if not (directory / "saved_model.pb").exists():
            versions = find_versions(directory)
            if not versions:
                raise InputError(
                    f"--savedmodel_dir {directory}: neither a saved_model.pb nor a numbered "
                    "version in it; expected what export_savedmodel wrote."
                )
            directory = versions[max(versions)]
        super().__init__(Servable(directory))


def _clean(value: Any) -> Any:
    """Texts, or lists of them, without lone surrogates, which have no UTF-8 and no tokens."""
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return value.encode("utf-8", "ignore").decode("utf-8")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
