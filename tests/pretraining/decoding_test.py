"""Decoding against records that TensorFlow serialized, and what is refused."""

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.pretraining.decoding import FRAME_BYTES, decode, max_record_bytes
from tests.pretraining.made_records import V, example, manifest, pairs

tf = pytest.importorskip("tensorflow")

STATIC = {
    "input_ids": ("int64", (8,)),
    "masked_lm_weights": ("float32", (3,)),
    "masked_lm_positions": ("int64", (3,)),
}


def test_what_tensorflow_wrote_comes_back():
    rows = pairs(300)
    for number, row in enumerate(rows):  # ids of one and of two bytes
        row["input_ids"] = [(token * (number + 1)) % V for token in row["input_ids"]]
    found = decode([example(row) for row in rows], manifest(), "x")
    assert found.keys() == rows[0].keys()
    for name, (values, splits) in found.items():
        assert values.dtype == np.int32
        for k, row in enumerate(rows):
            assert values[splits[k] : splits[k + 1]].tolist() == row[name], (name, k)


def test_ids_of_every_width():
    size = 10_000_000
    vocabulary = {"sha256": "0" * 64, "size": size}
    tokens = [0, 1, 127, 128, 16383, 16384, 2097151, 2097152, size - 1]
    schema = {"input_ids": ("int64", (None,))}
    described = manifest(schema=schema, vocabulary=vocabulary)
    values, splits = decode([example({"input_ids": tokens})] * 3, described, "x")["input_ids"]
    assert values.tolist() == tokens * 3
    assert splits.tolist() == [0, 9, 18, 27]


def test_static_rows_floats_and_the_names_of_version_2():
    schema = {**STATIC, "input_word_ids": STATIC["input_ids"]}
    del schema["input_ids"]
    row = {
        "input_word_ids": [2, 400, 9, 8, 3, 0, 0, 0],
        "masked_lm_weights": [1.0, 1.0, 0.0],
        "masked_lm_positions": [1, 3, 0],
    }
    found = decode([example(row)], manifest("static", schema=schema), "x")
    assert found["input_ids"].values.tolist() == row["input_word_ids"]
    assert found["masked_lm_weights"].values.tolist() == [1.0, 1.0, 0.0]
    assert found["masked_lm_weights"].values.dtype == np.float32


ROW = pairs(1)[0]
LENGTH = len(ROW["input_ids"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": [V] * LENGTH}, f"input_ids must be from 0 to {V - 1}"),
        ({"input_ids": [-1] * LENGTH}, "input_ids holds a broken number"),
        ({"input_ids": [2**31] * LENGTH}, "input_ids must be from 0"),
        ({"input_ids": [2**40] * LENGTH}, "input_ids holds a broken number"),
        ({"input_ids": [5] * (LENGTH - 1)}, "are of two lengths"),
        (
            {n: [0] * 33 for n in ROW if n != "next_sentence_labels"},
            "longer than 32",
        ),
        ({n: [] for n in ROW if n != "next_sentence_labels"}, "input_ids is empty"),
        ({"segment_ids": [2] * LENGTH}, "segment_ids must be from 0 to 1"),
        ({"next_sentence_labels": [2]}, "next_sentence_labels must be from 0 to 1"),
        ({"next_sentence_labels": [0, 0]}, "does not have 1 values"),
        ({"next_sentence_labels": [0.5]}, "next_sentence_labels holds another type"),
        ({"more": [1]}, "has the features input_ids, more, next_"),
        ({"word_starts": None}, "has the features"),
        ({"two\nlines": [1]}, r"'two\\nlines', word_starts; expected"),
        ({"a" * 5000: [1]}, "has the features a{300}[.]{3}; expected"),
    ],
)
def test_wrong_records_are_named(change, message):
    row = {name: value for name, value in {**ROW, **change}.items() if value is not None}
    records = [example(ROW)] * 5 + [example(row)]
    with pytest.raises(InputError, match=rf"^shard.tfrecord: record 105[ :].*{message}"):
        decode(records, manifest(), "shard.tfrecord", first=100)


def test_weights_are_0_or_1():
    row = {"input_ids": [1] * 8, "masked_lm_weights": [0.5] * 3, "masked_lm_positions": [0] * 3}
    with pytest.raises(InputError, match="masked_lm_weights must be 0 or 1"):
        decode([example(row)], manifest("static", schema=STATIC), "x")
    row["masked_lm_weights"] = [float("nan")] * 3
    with pytest.raises(InputError, match="masked_lm_weights must be 0 or 1"):
        decode([example(row)], manifest("static", schema=STATIC), "x")


def test_bytes_that_are_no_example_are_refused_and_nothing_else_happens():
    good = example(ROW)
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(3000):
        data = bytearray(good)
        if trial % 3 == 0:
            data = data[: rng.integers(0, len(data))]
        else:
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
        try:
            found = decode([good, bytes(data), good], manifest(), "x")
        except InputError as error:
            assert "\n" not in str(error) and str(error).startswith("x: record 1")
            refused += 1
        else:  # A flipped bit can be another valid number.
            assert found["input_ids"].values.max() < V
    assert refused > 1000


def test_a_record_has_a_longest_length():
    limit = max_record_bytes(manifest())
    assert limit == FRAME_BYTES + 10 * (4 * 32 + 1)
    assert all(len(example(row)) < limit for row in pairs(50))
