"""The RESTful API against TensorFlow Serving's documentation, and against hostile requests."""

import base64
import http.client
import json
import math

import pytest

PREDICT = "/v1/models/toy:predict"


def softmax(a, b):
    return [math.exp(a) / (math.exp(a) + math.exp(b)), math.exp(b) / (math.exp(a) + math.exp(b))]


def test_status_of_all_versions_and_of_one(served):
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert served.http("GET", "/v1/models/toy") == (200, expected)
    assert served.http("GET", "/v1/models/toy/versions/1") == (200, expected)


@pytest.mark.parametrize(
    "path, code, words",
    [
        ("/v1/models/toy/versions/7", 404, "Could not find version 7 of model toy"),
        ("/v1/models/other", 404, "Could not find any versions of model other"),
        ("/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/toy/labels/stable", 400, "label"),
        ("/v1/models/toy/versions/99999999999999999999", 400, "Failed to convert version"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/toy/versions/x", 400, "Malformed request: GET /v1/models/toy/versions/x"),
        ("/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
    ],
)
def test_get_errors(served, path, code, words):
    status, body = served.http("GET", path)
    assert status == code
    assert list(body) == ["error"]
    assert words in body["error"]


def test_metadata_tells_the_signatures(served):
    status, body = served.http("GET", "/v1/models/toy/metadata")
    assert status == 200
    assert body["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signatures = body["metadata"]["signature_def"]["signature_def"]
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["text"]["dtype"] == "DT_STRING"
    assert default["inputs"]["text"]["tensor_shape"]["unknown_rank"] is False
    assert [d["size"] for d in default["inputs"]["text"]["tensor_shape"]["dim"]] == ["-1"]
    assert set(default["outputs"]) == {"label", "probabilities", "logits"}
    ids = signatures["token_ids"]["inputs"]
    assert {name: entry["dtype"] for name, entry in ids.items()} == {
        "token_ids": "DT_INT32",
        "segment_ids": "DT_INT32",
        "padding_mask": "DT_INT32",
    }


@pytest.mark.parametrize(
    "instances",
    [["a", "abcd"], [{"text": "a"}, {"text": "abcd"}], [{"b64": "YQ=="}, {"b64": "YWJjZA=="}]],
    ids=["values", "objects", "base64"],
)
def test_row_form(served, instances):
    status, body = served.predict({"instances": instances})
    assert status == 200
    assert list(body) == ["predictions"]
    short, long = body["predictions"]
    assert short["label"] == "short" and long["label"] == "long"
    assert short["logits"] == [1.0, 2.0] and long["logits"] == [4.0, 2.0]
    assert short["probabilities"] == pytest.approx(softmax(1, 2), abs=1e-6)


@pytest.mark.parametrize("inputs", [["a", "abcd"], {"text": ["a", "abcd"]}], ids=["bare", "named"])
def test_column_form(served, inputs):
    status, body = served.predict({"inputs": inputs})
    assert status == 200
    assert list(body) == ["outputs"]
    assert body["outputs"]["label"] == ["short", "long"]
    assert body["outputs"]["logits"] == [[1.0, 2.0], [4.0, 2.0]]


IDS = {"token_ids": [1, 2, 9], "segment_ids": [0, 1, 1], "padding_mask": [1, 1, 0]}


def test_a_named_signature_with_one_output_comes_without_its_name(served):
    rows = {"signature_name": "token_ids", "instances": [IDS, IDS]}
    assert served.predict(rows) == (200, {"predictions": [[4.0, -4.0], [4.0, -4.0]]})
    columns = {"signature_name": "token_ids", "inputs": {k: [v] for k, v in IDS.items()}}
    assert served.predict(columns) == (200, {"outputs": [[4.0, -4.0]]})


def test_a_version_may_be_named_and_letters_of_the_path_are_free(served):
    body = {"instances": ["a"]}
    assert served.predict(body, "/v1/models/toy/versions/1:predict")[0] == 200
    assert served.predict(body, "/V1/Models/toy:PREDICT")[0] == 200
    status, answer = served.predict(body, "/v1/models/toy/versions/2:predict")
    assert (status, answer) == (404, {"error": "Servable not found for request: Specific(toy, 2)"})
    status, answer = served.predict(body, "/v1/models/other:predict")
    assert (status, answer) == (404, {"error": "Servable not found for request: Latest(other)"})


@pytest.mark.parametrize(
    "body, words",
    [
        ("", "The document is empty"),
        ("{", "JSON Parse error"),
        ('{"instances": ["a"]', "JSON Parse error"),
        ('{"instances": ["a",]}', "JSON Parse error"),
        ('{"instances": ["a"]} x', "JSON Parse error"),
        ("[1, 2]", "Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": ["a"], "inputs": ["a"]}', "expecting only"),
        ('{"instances": "a"}', "list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": [1, 2]}', "is not of expected type: string"),
        ('{"instances": [true]}', "is not of expected type: string"),
        ('{"instances": [null]}', "is not of expected type: string"),
        ('{"instances": ["a", ["b"]]}', ""),
        ('{"instances": [["a"], ["b", "c"]]}', ""),
        ('{"instances": ["a", {"text": "b"}]}', "item 1"),
        ('{"instances": [{"text": "a"}, "b"]}', "item 1"),
        ('{"instances": [{"words": "a"}]}', "words"),
        ('{"instances": [{"text": "a", "words": "b"}]}', "words"),
        ('{"instances": [{}]}', "keys must be equal to: text"),
        ('{"instances": [{"b64": "***"}]}', "base64"),
        ('{"inputs": {"words": ["a"]}}', "Missing named input: text"),
        ('{"inputs": {"text": [1]}}', "is not of expected type: string"),
        ('{"inputs": {"text": "a"}}', ""),
        ('{"inputs": {"text": [["a"], ["b"]]}}', ""),
        ('{"signature_name": 7, "instances": ["a"]}', "'signature_name' key must be a string"),
        ('{"signature_name": "x", "instances": ["a"]}', 'signature name: "x" not found'),
        ('{"signature_name": "token_ids", "instances": [[1]]}', "list of objects"),
        ('{"signature_name": "token_ids", "inputs": [[1]]}', "expecting an object"),
        ('{"signature_name": "labels", "instances": [0.5]}', "expected type: int32"),
        ('{"signature_name": "labels", "instances": [1e40]}', "expected type: int32"),
        ('{"signature_name": "labels", "instances": [5000000000]}', "expected type: int32"),
        ('{"signature_name": "labels", "instances": ["0"]}', "expected type: int32"),
        ('{"signature_name": "labels", "instances": [7]}', "7"),
        ('{"instances": ["\\ud800"]}', "JSON Parse error"),
        ("[" * 100_000 + "]" * 100_000, ""),
        ('{"instances": ' + "[" * 100_000 + "]" * 100_000 + "}", ""),
        ('{"instances": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}", ""),
        ('{"instances": [' + "9" * 5000 + "]}", ""),
    ],
)
def test_a_bad_body_is_answered_with_400_and_one_line(served, body, words):
    status, answer = served.predict(body)
    assert status == 400
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"] and len(answer["error"]) < 1000
    if served.kind == "embedded":  # TensorFlow Serving's own words change between releases
        assert words in answer["error"]
    assert served.predict({"instances": ["a"]})[0] == 200


def test_rows_of_different_lengths_are_refused_by_number(served):
    other = {**IDS, "token_ids": [1, 2]}
    status, body = served.predict({"signature_name": "token_ids", "instances": [IDS, other]})
    assert status == 400
    assert "element: 1" in body["error"] and "token_ids" in body["error"]


def test_nul_broken_utf8_and_a_megabyte_are_texts(served):
    status, body = served.predict({"instances": ["a\u0000b"]})
    assert status == 200 and body["predictions"][0]["logits"] == [3.0, 2.0]
    status, body = served.predict(b'{"instances": ["a\xff\xfe\xc3"]}')
    assert status == 200 and body["predictions"][0]["logits"] == [4.0, 2.0]
    broken = base64.b64encode(b"\xff\xfe\x00").decode()
    status, body = served.predict({"instances": [{"b64": broken}]})
    assert status == 200 and body["predictions"][0]["logits"] == [3.0, 2.0]
    status, body = served.predict({"instances": ["x" * 1_000_000]})
    assert status == 200 and body["predictions"][0]["logits"] == [1e6, 2.0]


def test_an_empty_batch_in_columns(served):
    assert served.predict({"inputs": {"text": []}})[1]["outputs"]["logits"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_malformed(served, method):
    status, body = served.http(method, PREDICT)
    assert status == 400
    assert body == {"error": f"Malformed request: {method} {PREDICT}"}


@pytest.fixture(scope="module")
def embedded(toy_dir):
    from bert_keras.serving.server.server import ModelServer
    from tests.serving.conftest import Served

    with ModelServer("toy", toy_dir, poll_seconds=0, max_request_bytes=100_000) as server:
        yield Served("embedded", server.grpc_address, server.rest_api_port)


def test_a_body_over_the_limit_is_413_and_not_read(embedded):
    connection = http.client.HTTPConnection("127.0.0.1", embedded.rest_port, timeout=20)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read()) == {"error": "Request body is longer than 100000 bytes"}
    connection.close()


def test_a_body_without_a_length_is_counted(embedded):
    connection = http.client.HTTPConnection("127.0.0.1", embedded.rest_port, timeout=20)
    piece = b'{"instances": ["' + b"x" * 60_000
    connection.request("POST", PREDICT, iter([piece, piece]), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert embedded.predict({"instances": ["a"]})[0] == 200


def test_a_batch_over_the_limit_is_refused(embedded):
    assert embedded.predict({"instances": ["a"] * 1024})[0] == 200
    status, body = embedded.predict({"instances": ["a"] * 1025})
    assert (status, body["error"]) == (
        400,
        "the request has 1025 rows; at most 1024 are taken at a time",
    )


def test_classify_and_regress_say_what_to_use(embedded):
    for verb in ("classify", "regress"):
        status, body = embedded.predict({"examples": [{}]}, f"/v1/models/toy:{verb}")
        assert status == 501 and ":predict" in body["error"]


def test_paths_outside_of_the_api_are_not_found(embedded):
    assert embedded.http("GET", "/v1")[0] == 404
    assert embedded.http("GET", "/v2/models/toy")[0] == 404


def test_a_slow_or_broken_client_disturbs_nobody(embedded):
    import socket

    with socket.create_connection(("127.0.0.1", embedded.rest_port)) as raw:
        raw.sendall(
            b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
        )
    with socket.create_connection(("127.0.0.1", embedded.rest_port)) as raw:
        raw.sendall(b"\x00\xff\x00 nonsense\r\n\r\n")
    assert embedded.predict({"instances": ["a"]})[0] == 200


def test_these_tests_ran_against_the_real_server_too():
    from tests.serving.conftest import REAL_SERVER

    if not REAL_SERVER:
        pytest.skip("tensorflow_model_server is not on the PATH: tested the embedded server alone")
