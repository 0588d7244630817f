"""The gRPC services, called through the official stubs."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.conftest import Served


@pytest.fixture(scope="module")
def channel(served):
    with grpc.insecure_channel(served.grpc_address) as channel:
        yield channel


@pytest.fixture
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request_for(inputs=None, signature="", name="toy", version=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in ({"text": ["a", "abcd"]} if inputs is None else inputs).items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value.code(), caught.value.details()


def test_predict(prediction):
    response = prediction.Predict(request_for(), timeout=30)
    assert response.model_spec.name == "toy"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    assert tf.make_ndarray(response.outputs["label"]).tolist() == [b"short", b"long"]
    logits = response.outputs["logits"]
    assert tf.make_ndarray(logits).tolist() == [[1.0, 2.0], [4.0, 2.0]]
    # The fields that clients in other languages read.
    assert list(logits.float_val) == [1.0, 2.0, 4.0, 2.0]
    assert [dim.size for dim in logits.tensor_shape.dim] == [2, 2]
    assert list(response.outputs["label"].string_val) == [b"short", b"long"]


def test_output_filter(prediction):
    request = request_for()
    request.output_filter.append("label")
    assert list(prediction.Predict(request).outputs) == ["label"]
    request.output_filter.append("nothing")
    code, details = refusal(prediction.Predict, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "nothing" in details


def test_named_signature(prediction):
    inputs = {
        "token_ids": np.array([[1, 2, 9]], np.int32),
        "segment_ids": np.array([[0, 1, 1]], np.int32),
        "padding_mask": np.array([[1, 1, 0]], np.int32),
    }
    response = prediction.Predict(request_for(inputs, "token_ids"))
    assert tf.make_ndarray(response.outputs["logits"]).tolist() == [[4.0, -4.0]]


@pytest.mark.parametrize(
    "request_, code, words",
    [
        (request_for(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (request_for(version=9), "NOT_FOUND", "Servable not found for request: Specific(toy, 9)"),
        (request_for(name=""), "INVALID_ARGUMENT", ""),
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", ""),
        (request_for(signature="x"), "FAILED_PRECONDITION", '"x" not found'),
        (request_for({}), "INVALID_ARGUMENT", "text"),
        (request_for({"words": ["a"]}), "INVALID_ARGUMENT", "words"),
        (request_for({"text": ["a"], "words": ["a"]}), "INVALID_ARGUMENT", "words"),
        (request_for({"text": [1, 2]}), "INVALID_ARGUMENT", "string"),
        (request_for({"text": [1.5]}), "INVALID_ARGUMENT", "string"),
        (request_for({"index": [7]}, "labels"), "INVALID_ARGUMENT", "7"),
    ],
    ids=str,
)
def test_refusals(prediction, request_, code, words):
    found, details = refusal(prediction.Predict, request_)
    assert found.name == code
    assert words in details
    assert "\n" not in details


def test_wrong_rank_is_refused(prediction, served):
    code, _ = refusal(prediction.Predict, request_for({"text": [["a"]]}))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_nul_broken_utf8_and_a_megabyte_are_texts(prediction):
    texts = [b"a\x00b", b"\xff\xfe", b"x" * 1_000_000]
    response = prediction.Predict(request_for({"text": texts}))
    assert tf.make_ndarray(response.outputs["logits"])[:, 0].tolist() == [3.0, 2.0, 1e6]


def test_metadata(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "toy"
    response = prediction.GetModelMetadata(request)
    assert response.model_spec.name == "toy" and response.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.inputs["text"].dtype == tf.string.as_datatype_enum
    assert set(default.outputs) == {"label", "probabilities", "logits"}


def test_metadata_refusals(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "toy"
    assert refusal(prediction.GetModelMetadata, request)[0].name == "INVALID_ARGUMENT"
    request.metadata_field.append("weights")
    assert refusal(prediction.GetModelMetadata, request)[0].name == "INVALID_ARGUMENT"
    request.metadata_field[0] = "signature_def"
    request.model_spec.name = "other"
    assert refusal(prediction.GetModelMetadata, request)[0].name == "NOT_FOUND"


def test_status(models):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "toy"
    (entry,) = models.GetModelStatus(request).model_version_status
    assert entry.version == 1 and entry.status.error_code == 0
    assert entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request.model_spec.version.value = 5
    assert refusal(models.GetModelStatus, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 5 of model toy",
    )
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(models.GetModelStatus, request)[0].name == "INVALID_ARGUMENT"
    request.model_spec.name = "other"
    assert refusal(models.GetModelStatus, request)[0].name == "NOT_FOUND"


@pytest.fixture(scope="module")
def embedded(toy_dir):
    from bert_keras.serving.server.server import ModelServer

    with ModelServer("toy", toy_dir, poll_seconds=0, max_request_bytes=100_000) as server:
        served = Served("embedded", server.grpc_address, server.rest_api_port)
        with grpc.insecure_channel(served.grpc_address) as channel:
            yield channel


def test_what_is_not_offered_says_what_to_use(embedded):
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(embedded)
    for call, request in (
        (prediction.Classify, classification_pb2.ClassificationRequest()),
        (prediction.Regress, regression_pb2.RegressionRequest()),
        (prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
    ):
        code, details = refusal(call, request)
        assert code == grpc.StatusCode.UNIMPLEMENTED
        assert "Predict with the signature serve_examples" in details


def test_every_method_of_the_official_stubs_is_answered(embedded):
    """By a line of this server: a method that it did not know would be "Method not found!"."""
    services = (
        prediction_service_pb2_grpc.PredictionServiceStub,
        model_service_pb2_grpc.ModelServiceStub,
    )
    requests = {
        "Predict": predict_pb2.PredictRequest,
        "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
        "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
        "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
    }
    methods = {name: call for stub in services for name, call in vars(stub(embedded)).items()}
    assert sorted(methods) == sorted(requests)
    for name, call in methods.items():
        code, details = refusal(call, requests[name]())  # every empty message is refused
        assert code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED"), name
        assert details and "not found" not in details


def test_a_message_over_the_limit_is_refused(embedded):
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(embedded)
    code, _ = refusal(prediction.Predict, request_for({"text": ["x" * 200_000]}))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert prediction.Predict(request_for()).model_spec.version.value == 1


def test_a_tensor_that_only_claims_to_be_huge_costs_nothing(embedded):
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(embedded)
    for sizes in ([10**12], [10**6, 10**6], [-1], [2**62, 4]):
        request = request_for({"text": ["a"]})
        request.inputs["text"].tensor_shape.ClearField("dim")
        for size in sizes:
            request.inputs["text"].tensor_shape.dim.add(size=size)
        code, _ = refusal(prediction.Predict, request)
        assert code == grpc.StatusCode.INVALID_ARGUMENT
    request = request_for({"text": ["a"]})
    request.inputs["text"].dtype = 99
    assert refusal(prediction.Predict, request)[0] == grpc.StatusCode.INVALID_ARGUMENT
    request = request_for({"index": [1]}, "labels")
    request.inputs["index"].tensor_content = b"\x01"
    assert refusal(prediction.Predict, request)[0] == grpc.StatusCode.INVALID_ARGUMENT
