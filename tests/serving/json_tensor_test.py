"""TensorFlow Serving's JSON: arrays as it writes them, and requests that cost too much to read."""

import concurrent.futures
import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bert_keras.serving import json_tensor
from bert_keras.serving.status import ServingError


def test_floats_are_the_shortest_decimals_that_read_back():
    values = np.array([0.1, 1e-8, 16777216.0, 1 / 3], np.float32)
    text = json_tensor.format_predict_response({"x": values}, row_form=False)
    assert text == '{"outputs": [0.1, 1e-08, 16777216.0, 0.33333334]}'


def test_numbers_that_json_has_no_word_for():
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    text = json_tensor.format_predict_response({"x": values}, row_form=True)
    assert text == '{"predictions": [NaN, Infinity, -Infinity]}'


def test_names_that_end_in_bytes_are_base64():
    outputs = {
        "x_bytes": np.array([b"\xff\x00"], dtype=object),
        "y": np.array(["東京".encode()], dtype=object),
    }
    text = json_tensor.format_predict_response(outputs, row_form=True)
    assert json.loads(text) == {"predictions": [{"x_bytes": {"b64": "/wA="}, "y": "東京"}]}


def test_rows_need_one_batch_size():
    outputs = {"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)}
    assert "outputs" in json_tensor.format_predict_response(outputs, row_form=False)
    for outputs["y"] in (np.zeros(3, np.float32), np.float32(1)):
        with pytest.raises(ServingError, match="inputs"):
            json_tensor.format_predict_response(outputs, row_form=True)


def read(body, *names, dtype=tf.string, max_rows=None):
    signature = meta_graph_pb2.SignatureDef()
    for name in names:
        signature.inputs[name].dtype = dtype.as_datatype_enum
    return json_tensor.parse_predict_request(body, lambda _: signature.inputs, max_rows=max_rows)


def refusal(body, *names, **more):
    with pytest.raises(ServingError) as caught:
        read(body, *names, **more)
    assert caught.value.http_status == 400
    return caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        rb'{"instances": ["\ud800"]}',
        rb'{"instances": ["\udc80"]}',
        rb'{"instances": ["\uDE00\ud83d"]}',
        rb'{"\ud800": 1, "instances": ["a"]}',
        rb'{"instances": ["a"], "signature_name": "\udfff"}',
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_is(body):
    assert "surrogate" in refusal(body, "text")


def test_whole_pairs_and_broken_utf8_are_texts():
    emoji, broken = rb'"\ud83d\ude00"', b'"\xf0\x9f\x98 \xed\xa0\x80"'
    for text, expected in ((emoji, "\U0001f600".encode()), (broken, broken[1:-1])):
        _, inputs, _ = read(b'{"instances": [' + text + b"]}", "text")
        assert inputs["text"].tolist() == [expected]


def test_a_name_of_broken_utf8_is_a_name_that_is_not_there():
    assert "does not have named input" in refusal(b'{"instances": [{"\xf6": "a"}]}', "text")
    assert "Missing named input" in refusal(b'{"inputs": {"\xf6": ["a"]}}', "text")


def test_nesting_below_the_limit_of_the_parser_with_a_pair_in_it():
    for depth in range(900, 1000, 10):
        body = b'{"x": ' + b"[" * depth + rb'"\ud83d\ude00"' + b"]" * depth + b"}"
        assert refusal(body, "text")


def test_a_signature_without_inputs_takes_none():
    for body in (b'{"instances": ["a"]}', b'{"inputs": ["a"]}'):
        assert refusal(body)
    assert read(b'{"inputs": {}}') == ("", {}, False)


def test_too_many_rows_are_refused_before_they_are_arrays():
    for body in (
        b'{"instances": ["a", 7, "c"]}',
        b'{"inputs": ["a", 7, "c"]}',
        b'{"inputs": {"text": ["a", 7, "c"]}}',
    ):
        message = refusal(body, "text", max_rows=2)
        assert message == "the request has 3 rows; at most 2 are taken at a time"
        assert "not of expected type" in refusal(body, "text", max_rows=3)


@pytest.mark.parametrize("value", [b"[],", b"{},", b"1,", b"[[[]]],"])
def test_too_many_values_are_refused_before_they_are_parsed(value, monkeypatch):
    monkeypatch.setattr(json_tensor, "MOST_VALUES", 10_000)
    body = b'{"instances": [' + value * 10_001 + b"1]}"
    tracemalloc.start()
    message = refusal(body, "text")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "10000 commas and opening brackets" in message
    assert peak < 100_000
    few = b'{"instances": ["' + b"," * 9_000 + b'"]}'
    assert len(read(few, "text")[1]["text"][0]) == 9_000


def test_large_bodies_are_read_one_at_a_time(monkeypatch):
    monkeypatch.setattr(json_tensor, "_LARGE_BODY", 100)
    inside, most = [], []
    real = json_tensor._from_rows

    def watch(*args):
        inside.append(1)
        most.append(len(inside))
        result = real(*args)
        inside.pop()
        return result

    monkeypatch.setattr(json_tensor, "_from_rows", watch)
    large = b'{"instances": [' + b'"a", ' * 3000 + b'"a"]}'
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _, inputs, _ in pool.map(lambda _: read(large, "text"), range(24)):
            assert len(inputs["text"]) == 3001
    assert len(most) == 24 and max(most) == 1


@pytest.mark.parametrize(
    "sent, told",
    [
        ("a\rb\x1b[31m\u2028\x85c", r"a\rb\x1b[31m\u2028\x85c"),
        ("\ud800", r"\ud800"),
        ("東京 \U0001f600", "東京 \U0001f600"),
        ("first\nsecond", "first"),
        ("\x00" * 10_000, r"\x00" * 128 + " ..."),
    ],
    ids=["control", "surrogate", "printable", "lines", "long"],
)
def test_an_error_is_one_line_whatever_it_quotes(sent, told):
    assert ServingError(3, sent).message == told
