"""Asking a SavedModel, over REST, over gRPC or in this process; the answers look the same.

client = connect("http://localhost:8501/v1/models/sentiment")
client.predict(["a fine film"])  ->  [{"label": "positive", "probabilities": {...}, ...}]
"""

import abc
import http.client
import json
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras.errors import InputError
from bert_keras.serving import received
from bert_keras.serving.model_store import find_versions

_GRPC = re.compile(r"grpc://(?P<address>[^/]+)/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?/?")
_REST = re.compile(r"https?://[^/]+(?:/.*)?/v1/models/[^/:]+(?:/versions/\d+)?/?", re.I)


def connect(server: str, *, timeout: float = 60.0) -> "Client":
    """Opens a client for a model on a server.

    Args:
        server: `http://host:port/v1/models/NAME` or `grpc://host:port/NAME`, either one followed
            by `/versions/N` for a certain version.
        timeout: how long to wait for an answer, in seconds.

    Raises:
        InputError: the address has neither form, or nothing useful answers there.
    """
    match = _GRPC.fullmatch(server)
    if match:
        version = int(match["version"]) if match["version"] else None
        return GrpcClient(match["address"], match["name"], version, timeout=timeout)
    if _REST.fullmatch(server):
        return RestClient(server.rstrip("/"), timeout=timeout)
    raise InputError(
        f"--server {server}: expected http://host:port/v1/models/NAME or grpc://host:port/NAME."
    )


class Client(abc.ABC):
    """A model behind TensorFlow Serving's signatures; a subclass says how they are called."""

    _labels: list[str] | None = None
    _inputs: tuple[str, ...] | None = None

    @abc.abstractmethod
    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Calls one signature with a list for each input; gives an array for each output."""

    @abc.abstractmethod
    def input_names(self, signature: str) -> list[str]:
        """The names of a signature's inputs."""

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
            InputError: the server cannot be reached, or refuses; with its message.
        """
        names = self.inputs
        self._labels = None  # the server may have gone on to another version
        answers: list[dict[str, Any]] = []
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            inputs = {name: _clean(x) for name, x in received.columns(names, batch).items()}
            outputs = self.run("serving_default", inputs)
            answers += received.answers(outputs, batch, self._label_names)
        return answers

    def _label_names(self, count: int) -> list[str]:
        if self._labels is None:
            names = self.run("labels", {"index": list(range(count))})
            self._labels = [_text(name) for name in next(iter(names.values())).tolist()]
        return self._labels


class SavedModelClient(Client):
    """A SavedModel in this process.

    Args:
        directory: one version, or a directory of versions, of which the highest is taken.
    """

    def __init__(self, directory: str | pathlib.Path):
        directory = pathlib.Path(directory)
        if not (directory / "saved_model.pb").exists():
            versions = find_versions(directory)
            if not versions:
                raise InputError(
                    f"--savedmodel_dir {directory}: neither a saved_model.pb nor a numbered "
                    "version in it; expected what export_savedmodel wrote."
                )
            directory = versions[max(versions)]
        from bert_keras.serving.servable import Servable

        self._servable = Servable(directory)

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        from bert_keras.serving.status import ServingError

        arrays = {name: received.array(values) for name, values in inputs.items()}
        try:
            return self._servable.run(signature, arrays)
        except ServingError as error:
            raise InputError(f"{self._servable.path}: {error.message}") from None

    def input_names(self, signature: str) -> list[str]:
        if signature not in self._servable.signature_defs:
            raise InputError(f"{self._servable.path}: no signature {signature} in this SavedModel.")
        return list(self._servable.signature_defs[signature].inputs)


class RestClient(Client):
    """A model behind a RESTful API.

    Args:
        url: `http://host:port/v1/models/NAME`, with or without `/versions/N`.
        timeout: in seconds.
    """

    def __init__(self, url: str, *, timeout: float = 60.0):
        self._url, self._timeout = url, timeout
        self._single: dict[str, str] = {}  # by signature, the name of its only output

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode("utf-8")
        answer = self._call(f"{self._url}:predict", body)
        if not isinstance(answer, dict) or "outputs" not in answer:
            raise InputError(f"{self._url}: the answer has no outputs; is this a model server?")
        outputs = answer["outputs"]
        if not isinstance(outputs, dict):  # a single output comes without its name
            if signature not in self._single:
                self._single[signature] = self._names(signature, "outputs")[0]
            outputs = {self._single[signature]: outputs}
        return {name: np.array(values) for name, values in outputs.items()}

    def input_names(self, signature: str) -> list[str]:
        return self._names(signature, "inputs")

    def _names(self, signature: str, side: str) -> list[str]:
        answer = self._call(f"{self._url}/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return list(signatures[signature][side])
        except (KeyError, TypeError):
            raise InputError(f"{self._url}: the model has no signature {signature}.") from None

    def _call(self, url: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise InputError(f"{url} answers {error.code}: {_error_text(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or repr(error)
            raise InputError(f"{url}: no answer ({reason}); is the server running?") from None
        except ValueError:
            raise InputError(f"{url}: the answer is not JSON; is this a model server?") from None


class GrpcClient(Client):
    """A model behind gRPC.

    Args:
        address: `host:port`.
        name: the model's name.
        version: a certain version, or None for the one that the server prefers.
        timeout: in seconds.
    """

    def __init__(
        self, address: str, name: str, version: int | None = None, *, timeout: float = 60.0
    ):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._address, self._name, self._version = address, name, version
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)],
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(received.array(values)))
        response = self._call(self._stub.Predict, request)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def input_names(self, signature: str) -> list[str]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        response = self._call(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return list(signatures.signature_def[signature].inputs)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _fill(self, spec: Any) -> None:
        spec.name = self._name
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise InputError(
                f"grpc://{self._address}/{self._name} answers {error.code().name}: "
                f"{error.details()}"
            ) from None


def _clean(value: Any) -> Any:
    """Texts, or lists of them, without lone surrogates, which have no UTF-8 and no tokens."""
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return value.encode("utf-8", "ignore").decode("utf-8")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _error_text(error: urllib.error.HTTPError) -> str:
    body = error.read()
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
