import numpy as np
import pytest
from keras import ops

from bert_keras.heads import LinearHead, MaskedLMHead, NextSentenceHead
from tests import reference
from tests.layer_exam import sit

B, T, D, E, V, P = 3, 7, 14, 6, 31, 2


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


POSITIONS = np.array([[0, 6], [3, 3], [5, 1]], "int32")


@pytest.mark.parametrize("width", [D, E])
def test_masked_lm_sits_the_exam(width):
    name = "MaskedLMHead" if width == D else "MaskedLMHead factorised"
    inputs = [numbers(B, T, D), POSITIONS, numbers(V, width) * 0.1]
    sit(name, lambda **kw: MaskedLMHead(V, width, **kw), inputs)


@pytest.mark.parametrize("width", [D, E])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_masked_lm_equals_the_float64_reference(width, activation):
    head = MaskedLMHead(V, width, activation=activation, initializer_range=0.3)
    x, table = numbers(B, T, D), numbers(V, width, seed=1)
    head(x, POSITIONS, table)
    head.output_bias.assign(numbers(V, seed=2))
    got = ops.convert_to_numpy(head(x, POSITIONS, table))
    assert got.shape == (B, P, V)
    for b in range(B):
        want = reference.masked_lm(
            reference.weights_of(head),
            x[b].astype("float64"),
            POSITIONS[b],
            table.astype("float64"),
            activation,
        )
        np.testing.assert_allclose(got[b], want, atol=1e-5)


def test_next_sentence_sits_the_exam():
    sit("NextSentenceHead", lambda **kw: NextSentenceHead(**kw), [numbers(B, D)])


@pytest.mark.parametrize("shape", [(B, D), (B, T, D)], ids=["pooled", "sequence"])
def test_linear_head_sits_the_exam_and_is_one_product(shape):
    sit("LinearHead", lambda **kw: LinearHead(5, **kw), [numbers(*shape)])
    head = LinearHead(5)
    got = ops.convert_to_numpy(head(numbers(*shape)))
    want = reference.dense(
        {name.split("/")[-1]: w for name, w in reference.weights_of(head).items()},
        numbers(*shape).astype("float64"),
    )
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16"])
def test_logits_are_float32_in_every_precision(dtype):
    for head, args in (
        (LinearHead(3, dtype=dtype), [numbers(B, D)]),
        (NextSentenceHead(dtype=dtype), [numbers(B, D)]),
        (MaskedLMHead(V, D, dtype=dtype), [numbers(B, T, D), POSITIONS, numbers(V, D)]),
    ):
        assert ops.convert_to_numpy(head(*args)).dtype == np.float32


@pytest.mark.parametrize("head", [LinearHead, NextSentenceHead])
def test_logits_over_float32_weights_are_not_rounded(head):
    layer = head(**({"num_outputs": 2} if head is LinearHead else {}), dtype="mixed_bfloat16")
    x = ops.cast(numbers(B, D), "bfloat16")
    got = ops.convert_to_numpy(layer(x))
    weights = {name.split("/")[-1]: w for name, w in reference.weights_of(layer).items()}
    want = reference.dense(weights, ops.convert_to_numpy(ops.cast(x, "float32")).astype("float64"))
    np.testing.assert_allclose(got, want, atol=1e-6)
