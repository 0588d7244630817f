"""The masking layer: NumPy's bits on every backend, compiled, and back from its config."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from bert_keras.masking.layer import DynamicMasking
from bert_keras.masking.rule import Masking, mask_rows
from tests import layer_exam
from tests.masking.rule_test import IDS, random_rows

B, T = 20, 24
MASKING = Masking(rate=0.3, max_predictions=9, unit="span", replace_by="word")


def inputs(epoch=None):
    token_ids, word_starts, padding_mask = random_rows(B, T)
    found = {
        "token_ids": token_ids,
        "segment_ids": word_starts * 0 + 1,
        "word_starts": word_starts,
        "padding_mask": padding_mask,
        "rows": np.arange(B, dtype="int32") + 1000,
    }
    return found if epoch is None else {**found, "epoch": np.array(epoch, "int32")}


def want(epoch=0, masking=MASKING):
    x = inputs()
    arrays = x["token_ids"], x["word_starts"], x["padding_mask"]
    masked = mask_rows(masking, *arrays, seed=7, epoch=epoch, rows=x["rows"], **IDS)
    return {n: x[n] for n in ("segment_ids", "padding_mask", "rows")} | masked


def make(masking=MASKING, **kwargs):
    return DynamicMasking(masking, seed=7, **IDS, **kwargs)


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ops.convert_to_numpy(found[name]), value, err_msg=name)


def test_sits_the_exam_of_what_has_no_weights():
    layer = make()
    outputs = layer_exam.leaves(layer(inputs()))
    call = lambda layer, *args, **kwargs: layer(*args, **kwargs)  # noqa: E731
    layer_exam.check_config(layer, outputs, [inputs()], call)
    layer_exam.check_symbolic(lambda dtype: make(dtype=dtype), outputs, [inputs()], call)
    assert json.loads(json.dumps(layer.get_config())) == layer.get_config()
    # Half precision, in which token ids above 256 are not whole, touches nothing here.
    for dtype in ("mixed_bfloat16", "bfloat16"):
        half = {n: ops.cast(x, "float32") for n, x in make(dtype=dtype)(inputs()).items()}
        check(half, {n: x.astype("float32") for n, x in want().items()})


@pytest.mark.parametrize("unit", ["token", "word", "ngram", "span"])
def test_makes_the_bits_of_numpy(unit):
    masking = Masking(rate=0.3, unit=unit)
    check(make(masking)(inputs()), want(masking=masking))


@pytest.mark.parametrize("epoch", [3, np.full(B, 3)])
def test_the_epoch_is_an_input(epoch):
    check(make()(inputs(epoch)), want(3))


def test_compiled_it_makes_the_same_bits():
    layer = make()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for jit in (False, True):
            spec = {
                n: tf.TensorSpec([None] * min(1, x.ndim) + list(x.shape[1:]), x.dtype)
                for n, x in inputs(5).items()
            }
            run = tf.function(layer, input_signature=[spec], jit_compile=jit)
            check(run(inputs(5)), want(5))
    elif keras.backend.backend() == "jax":
        import jax

        check(jax.jit(layer)(inputs(5)), want(5))


def test_in_a_keras_model():
    symbols = {
        name: keras.Input(x.shape[1:], dtype=str(x.dtype), name=name)
        for name, x in inputs().items()
    }
    model = keras.Model(symbols, make()(symbols))
    found = model.predict(inputs(), batch_size=8, verbose=0)
    check(found, {n: x.astype(found[n].dtype) for n, x in want().items()})
