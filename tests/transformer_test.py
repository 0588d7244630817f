import numpy as np
import pytest
from keras import ops

from bert_keras.transformer import TransformerBlock
from tests import reference
from tests.layer_exam import sit

B, T, D, N, F = 3, 7, 15, 5, 22
LENGTHS = np.array([7, 4, 2])


def rows():
    return np.random.default_rng(0).normal(size=(B * T, D)).astype("float32")


def mask():
    return (np.arange(T) < LENGTHS[:, None])[:, None, :]


def test_sits_the_exam():
    sit("TransformerBlock", lambda **kw: TransformerBlock(N, F, **kw), [rows(), mask()])


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_equals_the_float64_reference_on_every_real_token(activation):
    layer = TransformerBlock(N, F, activation=activation, initializer_range=0.3)
    got = ops.convert_to_numpy(layer(rows(), mask())["output"]).reshape(B, T, D)
    for b, length in enumerate(LENGTHS):
        x = rows().reshape(B, T, D)[b, :length].astype("float64")
        want, _ = reference.block(reference.weights_of(layer), x, N, activation)
        np.testing.assert_allclose(got[b, :length], want, atol=1e-5)


def test_the_two_forms_of_gelu_differ_by_what_is_known():
    erf, tanh = (TransformerBlock(N, F, activation=name) for name in ("gelu", "gelu_new"))
    x = np.linspace(-5, 5, 1001).astype("float32")
    one, two = (reference.gelu(x), reference.gelu_tanh(x))
    assert 1e-4 < np.abs(one - two).max() < 1e-3  # 4.7e-4 at most, near |x| = 2.3
    erf(rows(), mask())
    tanh(rows(), mask())
    tanh.set_weights(erf.get_weights())
    a, b = (ops.convert_to_numpy(layer(rows(), mask())["output"]) for layer in (erf, tanh))
    assert 0 < np.abs(a - b).max() < 1e-2


def test_a_feed_forward_gate_of_zero_leaves_the_bias():
    layer = TransformerBlock(N, F)
    layer(rows(), mask())
    gated = layer(rows(), mask(), ffn_gate=np.zeros((F,), "float32"))["output"]
    layer.intermediate.kernel.assign(ops.zeros_like(layer.intermediate.kernel))
    layer.intermediate.bias.assign(ops.zeros_like(layer.intermediate.bias))
    same = layer(rows(), mask())["output"]  # GELU(0) = 0
    np.testing.assert_allclose(ops.convert_to_numpy(gated), ops.convert_to_numpy(same), atol=1e-6)


def test_an_unknown_activation_names_the_known_ones():
    with pytest.raises(ValueError, match="must be one of gelu, gelu_new.*'gelo'"):
        TransformerBlock(N, F, activation="gelo")
