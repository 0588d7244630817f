"""Asking a model over TensorFlow Serving's gRPC API."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bert_keras.serving import received
from bert_keras.serving.client.client import GRPC_OPTIONS, Client
from bert_keras.serving.client.retries import RequestError, Retries

# The codes that the RESTful API shows as 400, and those of a server that is busy or away.
_REFUSED = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION"}
_PASSING = {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}


class GrpcClient(Client):
    """A model behind gRPC.

    Args:
        address: `host:port`.
        name: the model's name.
        version: a certain version, or None for the one that the server prefers.
        timeout: in seconds.
        retries: what is asked again; nothing by default.
    """

    def __init__(
        self,
        address: str,
        name: str,
        version: int | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
    ):
        super().__init__(retries)
        self.address, self.timeout = address, timeout
        self._name, self._version = name, version
        self._channel = grpc.insecure_channel(address, options=GRPC_OPTIONS)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def serialize(self, signature: str, inputs: Mapping[str, Any]) -> bytes:
        """The bytes of a PredictRequest."""
        return self._request(signature, inputs).SerializeToString()

    def _run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        response = self._call(self._stub.Predict, self._request(signature, inputs))
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def _request(self, signature: str, inputs: Mapping[str, Any]) -> Any:
        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(received.array(values)))
        return request

    def input_names(self, signature: str) -> list[str]:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self._metadata().metadata["signature_def"].Unpack(signatures)
        return list(signatures.signature_def[signature].inputs)

    def close(self) -> None:
        super().close()
        self._channel.close()

    def _pin(self) -> dict[str, Any]:
        self._version = self._metadata().model_spec.version.value
        return {"name": self._name, "version": self._version}

    def _metadata(self) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        return self._call(self._stub.GetModelMetadata, request)

    def _fill(self, spec: Any) -> None:
        spec.name = self._name
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code, said = error.code().name, f"{error.code().name}: {error.details()}"
            # RESOURCE_EXHAUSTED has two meanings; a message that is too long stays so.
            too_long = "larger than max" in said
            raise RequestError(
                f"grpc://{self.address}/{self._name} answers {said}",
                said=said,
                refused=code in _REFUSED or too_long,
                passing=code in _PASSING and not too_long,
            ) from None
