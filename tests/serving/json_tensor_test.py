"""Arrays as TensorFlow Serving writes them in JSON."""

import json

import numpy as np
import pytest

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
