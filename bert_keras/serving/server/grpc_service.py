"""TensorFlow Serving's gRPC services, as the `tensorflow-serving-api` stubs call them."""

import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bert_keras.errors import InputError
from bert_keras.serving import status
from bert_keras.serving.servable import DEFAULT_SIGNATURE
from bert_keras.serving.server import health, protos
from bert_keras.serving.server.admission import Admission
from bert_keras.serving.server.grpc_messages import ParsedByUs
from bert_keras.serving.server.metrics import Metrics
from bert_keras.serving.server.model_registry import Models
from bert_keras.serving.server.models_config import models_of

_LOG = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_SPARE_THREADS = 16  # for what is not counted: refusals, states, metadata


def create_server(
    models: Models, admission: Admission, metrics: Metrics, *, max_request_bytes: int
) -> grpc.Server:
    """Builds the gRPC server; the caller adds a port and starts it.

    Args:
        models: what to serve.
        admission: how many requests to take.
        metrics: counts them.
        max_request_bytes: a longer message is refused with RESOURCE_EXHAUSTED.
    """
    # A request waits in a thread of its own for its turn or its batch: threads come as needed.
    pool = futures.ThreadPoolExecutor(admission.most + _SPARE_THREADS, thread_name_prefix="grpc")
    server = grpc.server(
        pool,
        interceptors=[ParsedByUs()],
        options=[
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # two servers on one port would share its requests
            # A client that vanished without a word must not hold a thread.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )
    answer = _Answer(metrics)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(models, admission, answer), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(models, answer), server)
    ready = lambda: not admission.refuses and models.are_available()  # noqa: E731
    server.add_generic_rpc_handlers((health.handler(ready, _SERVICES),))
    return server


class _Answer:
    """Calls a method's function, counts it, and turns what it raises into a gRPC status."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def __call__(
        self, context: grpc.ServicerContext, method: str, function: Callable[["_Call"], Any]
    ) -> Any:
        call = _Call(method, context)
        began = time.monotonic()
        fault = None
        try:
            response = function(call)
        except status.ServingError as error:
            fault = error
        except Exception as error:  # a fault of this server; the client gets one line all the same
            _LOG.exception("%s", method)
            fault = status.ServingError(status.INTERNAL, f"Internal error: {type(error).__name__}")
        name = fault.name if fault else "OK"
        self._metrics.observe_request(call.model, call.signature, name, time.monotonic() - began)
        if fault:
            context.abort(_CODES.get(fault.code, grpc.StatusCode.UNKNOWN), fault.message)
        return response


class _Call:
    """What is known of a call under way: its deadline, and what the metrics name it by."""

    def __init__(self, method: str, context: grpc.ServicerContext):
        self.model, self.signature = "", method
        remaining = context.time_remaining()
        self.deadline = None if remaining is None else time.monotonic() + remaining


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: Models, admission: Admission, answer: _Answer):
        self._models, self._admission, self._answer = models, admission, answer

    def Predict(self, request, context):
        return self._answer(context, "Predict", lambda call: self._predict(request, call))

    def GetModelMetadata(self, request, context):
        return self._answer(
            context, "GetModelMetadata", lambda call: _metadata(self._models, request, call)
        )

    def Classify(self, request, context):
        return self._answer(context, "Classify", _not_offered)

    def Regress(self, request, context):
        return self._answer(context, "Regress", _not_offered)

    def MultiInference(self, request, context):
        return self._answer(context, "MultiInference", _not_offered)

    def _predict(self, request: predict_pb2.PredictRequest, call: _Call) -> Any:
        self._admission.enter()
        try:
            return _predict(self._models, request, call)
        finally:
            self._admission.leave()


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: Models, answer: _Answer):
        self._models, self._answer = models, answer

    def GetModelStatus(self, request, context):
        return self._answer(context, "GetModelStatus", lambda call: _status(self._models, request))

    def HandleReloadConfigRequest(self, request, context):
        return self._answer(
            context, "HandleReloadConfigRequest", lambda call: _reload(self._models, request)
        )


def _predict(models: Models, request: predict_pb2.PredictRequest, call: _Call) -> Any:
    store, version, label = _find(models, request)
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    with store.acquire(version, label) as (number, servable):
        call.model = store.name
        servable.signature(signature_name)
        call.signature = signature_name
        inputs = {name: protos.to_array(name, proto) for name, proto in request.inputs.items()}
        outputs = servable.run(signature_name, inputs, request.output_filter, call.deadline)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = store.name
    response.model_spec.version.value = number
    response.model_spec.signature_name = signature_name
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(protos.to_tensor_proto(value))
    return response


def _metadata(
    models: Models, request: get_model_metadata_pb2.GetModelMetadataRequest, call: _Call
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    store, version, label = _find(models, request)
    if not request.metadata_field:
        raise status.invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise status.invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with store.acquire(version, label) as (number, servable):
        call.model = store.name
        response.metadata["signature_def"].Pack(protos.metadata_proto(servable))
    response.model_spec.name = store.name
    response.model_spec.version.value = number
    return response


def _status(
    models: Models, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    spec = request.model_spec
    return protos.status_proto(models.versions(spec.name, _version(spec), spec.version_label))


def _reload(
    models: Models, request: model_management_pb2.ReloadConfigRequest
) -> model_management_pb2.ReloadConfigResponse:
    """Serves the models of the request instead; an empty status, as TensorFlow Serving gives it."""
    try:
        models.configure(models_of(request.config))
    except InputError as error:
        raise status.invalid(f"ReloadConfig failed: {error}") from None
    response = model_management_pb2.ReloadConfigResponse()
    response.status.error_code = 0
    return response


def _find(models: Models, request: Any) -> tuple[Any, int | None, str]:
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise status.invalid("ModelSpec has no name specified.")
    version = _version(spec)
    return models.get(spec.name, version), version, spec.version_label


def _version(spec: model_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _not_offered(call: _Call) -> None:
    raise status.ServingError(
        status.UNIMPLEMENTED,
        f"{call.signature} is not offered: exports have no such signature; for tf.Examples use "
        "Predict with the signature serve_examples",
    )
