import numpy as np
from keras import ops

from bert_keras.normalization import LayerNorm
from tests import reference
from tests.layer_exam import sit

X = np.random.default_rng(0).normal(3, 2, size=(5, 17)).astype("float32")


def test_sits_the_exam():
    sit("LayerNorm", lambda **kw: LayerNorm(**kw), [X])


def test_equals_the_float64_reference():
    layer = LayerNorm(epsilon=1e-3)
    layer(X)
    layer.gamma.assign(np.linspace(0.5, 2, 17))
    layer.beta.assign(np.linspace(-1, 1, 17))
    want = reference.layer_norm(reference.weights_of(layer), X.astype("float64"), 1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), want, atol=1e-5)


def test_a_constant_row_gives_the_shift_and_a_shifted_row_the_same():
    layer = LayerNorm()
    row = np.full((1, 17), 7.0, "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(row)), np.zeros((1, 17)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(X + 100)), ops.convert_to_numpy(layer(X)), atol=1e-4
    )


def test_frozen_it_answers_alike_and_no_longer_follows_its_weights():
    layer = LayerNorm()
    layer(X)
    layer.gamma.assign(np.linspace(0.5, 2, 17))
    layer.beta.assign(np.linspace(-1, 1, 17))
    want = ops.convert_to_numpy(layer(X))
    layer.freeze()
    layer.gamma.assign(np.zeros(17))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), want, atol=1e-5)
