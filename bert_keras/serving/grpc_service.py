"""TensorFlow Serving's gRPC services, as the `tensorflow-serving-api` stubs call them."""

import logging
import math
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bert_keras.serving import status
from bert_keras.serving.model_store import ModelStore
from bert_keras.serving.servable import DEFAULT_SIGNATURE, Servable

_LOG = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MOST_ELEMENTS = 1 << 26

# The TensorProto field that holds each type's values; TensorFlow Serving fills these, not
# `tensor_content`, so that clients in every language can read them.
_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.string: "string_val",
    tf.bool: "bool_val",
}


def create_server(
    store: ModelStore, *, max_request_bytes: int, max_workers: int = 16
) -> grpc.Server:
    """Builds the gRPC server; the caller adds a port and starts it.

    Args:
        store: the model to serve.
        max_request_bytes: a longer message is refused with RESOURCE_EXHAUSTED.
        max_workers: requests that are worked on at once.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=max_workers, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # two servers on one port would share its requests
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(store), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(store), server)
    return server


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, store: ModelStore):
        self._store = store

    def Predict(self, request, context):
        return _answer(context, _predict, self._store, request)

    def GetModelMetadata(self, request, context):
        return _answer(context, _model_metadata, self._store, request)

    def Classify(self, request, context):
        return _answer(context, _not_offered, "Classify")

    def Regress(self, request, context):
        return _answer(context, _not_offered, "Regress")

    def MultiInference(self, request, context):
        return _answer(context, _not_offered, "MultiInference")


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, store: ModelStore):
        self._store = store

    def GetModelStatus(self, request, context):
        return _answer(context, _model_status, self._store, request)

    def HandleReloadConfigRequest(self, request, context):
        return _answer(context, _not_offered, "HandleReloadConfigRequest")


def status_proto(
    store: ModelStore, version: int | None = None
) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of the model's versions, highest first."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for entry in store.versions(version):
        proto = response.model_version_status.add(version=entry.number)
        proto.state = get_model_status_pb2.ModelVersionStatus.State.Value(entry.state)
        proto.status.error_code = 2 if entry.error else 0  # UNKNOWN or OK
        proto.status.error_message = entry.error
    return response


def metadata_proto(servable: Servable) -> get_model_metadata_pb2.SignatureDefMap:
    """The signatures of a loaded model."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signature_defs.items():
        signatures.signature_def[name].CopyFrom(signature)
    return signatures


def _answer(context: grpc.ServicerContext, function: Any, *args: Any) -> Any:
    """Calls `function`; turns what it raises into a gRPC status."""
    try:
        return function(*args)
    except status.ServingError as error:
        code, message = _CODES.get(error.code, grpc.StatusCode.UNKNOWN), error.message
    except Exception as error:  # a fault of this server; the client gets one line all the same
        _LOG.exception("%s", function.__name__)
        code, message = grpc.StatusCode.INTERNAL, f"Internal error: {type(error).__name__}"
    context.abort(code, message)


def _predict(store: ModelStore, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    version = _check_spec(store, request)
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    inputs = {name: _to_array(name, proto) for name, proto in request.inputs.items()}
    with store.acquire(version) as (number, servable):
        outputs = servable.run(signature_name, inputs, request.output_filter)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = store.name
    response.model_spec.version.value = number
    response.model_spec.signature_name = signature_name
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(to_tensor_proto(value))
    return response


def _model_metadata(
    store: ModelStore, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    version = _check_spec(store, request)
    if not request.metadata_field:
        raise status.invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise status.invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with store.acquire(version) as (number, servable):
        response.metadata["signature_def"].Pack(metadata_proto(servable))
    response.model_spec.name = store.name
    response.model_spec.version.value = number
    return response


def _model_status(
    store: ModelStore, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    name, version = request.model_spec.name, _version(request.model_spec)
    if name != store.name:
        raise status.ServingError(
            status.NOT_FOUND,
            f"Could not find any versions of model {name}"
            if version is None
            else f"Could not find version {version} of model {name}",
        )
    return status_proto(store, version)


def _check_spec(store: ModelStore, request: Any) -> int | None:
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    if not request.model_spec.name:
        raise status.invalid("ModelSpec has no name specified.")
    version = _version(request.model_spec)
    store.check_name(request.model_spec.name, version)
    return version


def _version(spec: model_pb2.ModelSpec) -> int | None:
    if spec.version_label:
        raise status.invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _not_offered(method: str) -> None:
    raise status.ServingError(
        status.UNIMPLEMENTED, f"{method} is not offered by this server; use Predict"
    )


def _to_array(name: str, proto: Any) -> np.ndarray:
    """A request's tensor, refused before it is spread out in memory if it claims to be huge."""
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise status.invalid(f"tensor parsing error: {name}")
    if math.prod(sizes) > _MOST_ELEMENTS:
        raise status.invalid(f"input {name} has more than {_MOST_ELEMENTS} values")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise status.invalid(f"tensor parsing error: {name}") from None


def to_tensor_proto(value: np.ndarray) -> Any:
    """An array as TensorFlow Serving writes it: every value in the field of its type."""
    value = np.asarray(value)
    dtype = tf.string if value.dtype.kind in "OSU" else tf.dtypes.as_dtype(value.dtype)
    if dtype not in _VALUE_FIELDS:
        return tf.make_tensor_proto(value)
    proto = tf.make_tensor_proto(np.empty(0, dtype=value.dtype), dtype=dtype, shape=[0])
    proto.ClearField("tensor_shape")
    proto.ClearField("tensor_content")
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, _VALUE_FIELDS[dtype]).extend(value.ravel().tolist())
    return proto
