"""Rows of several documents: each comes out as if it were alone."""

import keras
import numpy as np
import pytest
from keras import ops

from bert_keras import models
from bert_keras.batch import network_inputs
from bert_keras.encoder import BertEncoder
from bert_keras.taps import Taps
from tests import reference
from tests.small_networks import CONFIG

T = 11
# Lengths of the documents of each row; the rest is padding.
ROWS = [[3, 4, 2], [11], [2, 3, 6], [5, 3]]
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def packed():
    rng = np.random.default_rng(3)
    shape = len(ROWS), T
    x = {
        "token_ids": rng.integers(0, 97, shape),
        "segment_ids": rng.integers(0, 2, shape),
        "padding_mask": np.zeros(shape),
        "document_ids": np.zeros(shape),
        "position_ids": np.zeros(shape),
    }
    for row, lengths in enumerate(ROWS):
        for document, cells in documents(lengths):
            x["padding_mask"][row, cells] = 1
            x["document_ids"][row, cells] = document
            x["position_ids"][row, cells] = np.arange(cells.stop - cells.start)
    return {name: value.astype("int32") for name, value in x.items()}


def documents(lengths):
    """(1, its cells), (2, ...) of a row."""
    ends = np.cumsum(lengths)
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True), start=1):
        yield number, slice(int(end - length), int(end))


@pytest.mark.parametrize("given", ["positions given", "positions counted"])
@pytest.mark.parametrize("unpad", [False] + [True] * ON_TENSORFLOW)
@pytest.mark.parametrize("left_to_right", [False, True])
def test_a_document_in_a_packed_row_equals_the_document_alone(left_to_right, unpad, given):
    encoder = BertEncoder(CONFIG, unpad=unpad, left_to_right=left_to_right)
    x = packed()
    if given == "positions counted":
        del x["position_ids"]
    result = encoder(x, taps=Taps(outputs=("hidden_states", "attention_scores")))
    sequence = ops.convert_to_numpy(result["sequence_output"])
    maps = [ops.convert_to_numpy(scores) for scores in result["attention_scores"]]
    weights = reference.weights_of(encoder)
    for row, lengths in enumerate(ROWS):
        for document, cells in documents(lengths):
            ids, segments = x["token_ids"][row, cells], x["segment_ids"][row, cells]
            alone = encoder({"token_ids": ids[None], "segment_ids": segments[None]})
            alone = ops.convert_to_numpy(alone["sequence_output"])[0]
            np.testing.assert_allclose(sequence[row, cells], alone, atol=1e-5)
            states, pooled, want_maps = reference.encoder(
                weights, CONFIG, ids, segments, left_to_right
            )
            np.testing.assert_allclose(sequence[row, cells], states[-1], atol=1e-5)
            for got, want in zip(maps, want_maps, strict=True):
                np.testing.assert_allclose(got[row, :, cells, cells], want, atol=1e-5)
                others = np.delete(got[row, :, cells], np.arange(T)[cells], axis=-1)
                assert not others.any()
            if document == 1:
                found = ops.convert_to_numpy(result["pooled_output"])[row]
                np.testing.assert_allclose(found, pooled, atol=1e-5)


def test_one_document_a_row_changes_nothing():
    encoder = BertEncoder(CONFIG)
    x = packed()
    x["document_ids"] = x["padding_mask"]
    del x["position_ids"]
    plain = {name: x[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    one = ops.convert_to_numpy(encoder(x)["sequence_output"])
    other = ops.convert_to_numpy(encoder(plain)["sequence_output"])
    real = x["padding_mask"] == 1
    np.testing.assert_allclose(one[real], other[real], atol=1e-6)


@pytest.mark.parametrize("unpad", [False] + [True] * ON_TENSORFLOW)
def test_a_pretrainer_predicts_in_a_packed_row_as_alone(unpad):
    network = models.Pretrainer(CONFIG, unpad=unpad)
    x = packed()
    positions = np.array([[2, 5], [0, 10], [0, 3], [5, 6]], "int32")
    batch = {**x, "masked_positions": positions, "rows": np.arange(4)}
    inputs = network_inputs(batch)
    assert set(inputs) == set(batch) - {"rows"}
    logits = ops.convert_to_numpy(network(inputs)["masked_lm_logits"])
    names = "token_ids", "segment_ids", "padding_mask"
    # Row 0: cell 2 is the last of document 1, cell 5 the third of document 2.
    for column, cells in ((0, slice(0, 3)), (1, slice(3, 7))):
        alone = {name: x[name][:1, cells] for name in names}
        alone["masked_positions"] = positions[:1, column : column + 1] - cells.start
        want = ops.convert_to_numpy(network(alone)["masked_lm_logits"])[0, 0]
        np.testing.assert_allclose(logits[0, column], want, atol=1e-5)
