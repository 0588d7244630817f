"""What a loaded model refuses before TensorFlow sees it."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bert_keras.serving import servable
from bert_keras.serving.servable import Servable
from bert_keras.serving.status import ServingError


@pytest.fixture(scope="module")
def toy(toy_dir):
    return Servable(toy_dir / "1", max_batch_size=1000)


def refusal(toy, inputs, signature=""):
    with pytest.raises(ServingError) as caught:
        toy.run(signature, inputs)
    assert caught.value.http_status == 400
    return caught.value.message


def repeated(text, count):
    """What a TensorProto with one string for so many becomes: one object, so often."""
    array = np.empty(count, dtype=object)
    array[:] = text
    return array


def test_a_text_that_is_repeated_counts_as_often_as_it_is_there(toy, monkeypatch):
    monkeypatch.setattr(servable, "MOST_INPUT_BYTES", 1_000_000)
    assert len(toy.run("", {"text": repeated(b"x" * 9_000, 100)})["label"]) == 100
    message = refusal(toy, {"text": repeated(b"x" * 10_000, 100)})
    assert message == "input text takes more than 1000000 bytes"


def test_gigabytes_are_refused_at_no_cost(toy):
    text = repeated(b"x" * (30 * 2**20), 1000)  # 30 GB, if they were copied
    assert "bytes" in refusal(toy, {"text": text})
    ids = np.broadcast_to(np.int32(1), (1000, 2**20))  # 4 GB
    inputs = {"token_ids": ids, "segment_ids": ids, "padding_mask": ids}
    assert "bytes" in refusal(toy, inputs, "token_ids")


def test_rows_types_and_shapes_are_refused_first(toy):
    assert "1001 rows" in refusal(toy, {"text": repeated(b"x" * (30 * 2**20), 1001)})
    assert "expects to be string" in refusal(toy, {"text": np.zeros(2**28, np.int8)})
    assert "expects shape" in refusal(toy, {"text": repeated(b"x", (2, 2))})


def test_a_warm_up_leaves_out_what_is_refused(toy_dir, tmp_path):
    place = tmp_path / "1"
    shutil.copytree(toy_dir / "1", place)
    (place / servable.WARM_UP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(place / servable.WARM_UP_FILE)) as writer:
        for rows in (1, 3):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.inputs["text"].CopyFrom(tf.make_tensor_proto(["x"] * rows))
            writer.write(log.SerializeToString())
    assert Servable(place).warm_up() == 2
    assert Servable(place, max_batch_size=2).warm_up() == 1
