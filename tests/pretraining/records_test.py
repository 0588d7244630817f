"""Rows to bytes, beside protobuf's own serialization and TensorFlow's parser."""

import numpy as np
import pytest
import tensorflow as tf

from bert_keras.corpus.token_blocks import SEGMENT, SENTENCE, WORD
from bert_keras.pretraining import records as pretraining_records
from bert_keras.pretraining.records import dynamic_schema, static_schema
from bert_keras.pretraining.rows import Rows

CLS, SEP = 7, 300


def example(features):
    """tf.train.Example by protobuf's own classes."""
    message = tf.train.Example()
    for name, values in features.items():
        values = np.asarray(values)
        if values.dtype.kind == "f":
            message.features.feature[name].float_list.value.extend(values.tolist())
        else:
            message.features.feature[name].int64_list.value.extend(values.tolist())
    return message.SerializeToString(deterministic=True)


def test_static_records_are_the_bytes_of_protobuf():
    rng = np.random.default_rng(3)
    arrays = {
        # One to four bytes a number, with the borders.
        "wide": rng.choice([0, 1, 127, 128, 16383, 16384, 2097151, 2097152, 2**28 - 1], (11, 300)),
        "narrow": rng.integers(0, 2, (11, 128)),
        "weights": rng.random((11, 20)).astype(np.float32),
        "label": rng.integers(0, 2, (11, 1)),
    }
    found = pretraining_records.static_records(arrays)
    assert found == [example({name: a[i] for name, a in arrays.items()}) for i in range(11)]


@pytest.mark.parametrize("packed", [False, True])
def test_dynamic_records_are_the_bytes_of_protobuf(packed):
    cells = [
        [CLS, 20000 | WORD | SENTENCE, 9, SEP, 130 | WORD | SENTENCE | SEGMENT, SEP | SEGMENT],
        [CLS, 8 | WORD | SENTENCE, SEP] + [CLS, 8 | WORD, SEP] * packed,
    ]
    lengths = list(map(len, cells))
    rows = Rows(
        np.array(sum(cells, []), np.uint32),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([1, 0], np.uint8),
    )
    found = pretraining_records.dynamic_records(rows, dynamic_schema(not packed, packed), CLS)
    tail = 3 * packed
    expected = [
        {
            "input_ids": [CLS, 20000, 9, SEP, 130, SEP],
            "segment_ids": [0, 0, 0, 0, 1, 1],
            "word_starts": [0, 1, 0, 0, 1, 0],
            "sentence_starts": [0, 1, 0, 0, 1, 0],
        },
        {
            "input_ids": [CLS, 8, SEP] + [CLS, 8, SEP] * packed,
            "segment_ids": [0] * (3 + tail),
            "word_starts": [0, 1, 0] * (1 + packed),
            "sentence_starts": [0, 1, 0] + [0] * tail,
        },
    ]
    if packed:
        expected[0]["document_ids"] = [1] * 6
        expected[1]["document_ids"] = [1, 1, 1, 2, 2, 2]
    else:
        expected[0]["next_sentence_labels"], expected[1]["next_sentence_labels"] = [1], [0]
    assert found == list(map(example, expected))


def test_the_schema_is_that_of_google_research_bert():
    """Written down from `input_fn_builder` of its run_pretraining.py."""
    tokens, predictions = ("int64", (128,)), ("int64", (20,))
    assert static_schema(128, 20, pairs=True, packed=False) == {
        "input_ids": tokens,
        "input_mask": tokens,
        "segment_ids": tokens,
        "masked_lm_positions": predictions,
        "masked_lm_ids": predictions,
        "masked_lm_weights": ("float32", (20,)),
        "next_sentence_labels": ("int64", (1,)),
    }
    names = set(static_schema(128, 20, True, False, v2_names=True))
    assert {"input_word_ids", "input_type_ids", "input_mask"} < names and len(names) == 7
    assert "next_sentence_labels" not in static_schema(128, 20, False, True)
    assert static_schema(128, 20, False, True)["document_ids"] == tokens
