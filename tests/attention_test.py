import numpy as np
import pytest
from keras import ops

from bert_keras.attention import SelfAttention
from tests import reference
from tests.layer_exam import sit

B, T, D, N = 3, 7, 15, 5
LENGTHS = np.array([7, 4, 2])


def rows(seed=0):
    return np.random.default_rng(seed).normal(size=(B * T, D)).astype("float32")


def mask():
    return (np.arange(T) < LENGTHS[:, None])[:, None, :]  # [B, 1, T]


def test_sits_the_exam():
    sit("SelfAttention", lambda **kw: SelfAttention(N, **kw), [rows(), mask()])


@pytest.mark.parametrize("left_to_right", [False, True])
def test_equals_the_float64_reference_on_every_real_token(left_to_right):
    layer = SelfAttention(N, initializer_range=0.3)
    x, seen = rows(), mask()
    if left_to_right:
        seen = seen & np.tri(T, dtype=bool)
    result = layer(x, seen)
    weights = reference.weights_of(layer)
    for b, length in enumerate(LENGTHS):
        want, maps = reference.attention(
            weights, x.reshape(B, T, D)[b, :length].astype("float64"), N, left_to_right
        )
        got = ops.convert_to_numpy(result["output"]).reshape(B, T, D)[b, :length]
        np.testing.assert_allclose(got, want, atol=1e-5)
        scores = ops.convert_to_numpy(result["attention_scores"])[b, :, :length]
        np.testing.assert_allclose(scores[:, :, :length], maps, atol=1e-6)
        assert np.all(scores[:, :, length:] == 0), "a padded key has weight"


def test_frozen_it_answers_alike_and_no_longer_follows_its_weights():
    layer = SelfAttention(N, initializer_range=0.3)
    want = layer(rows(), mask())
    layer.freeze()
    layer.query.kernel.assign(np.zeros((D, D)))
    got = layer(rows(), mask())
    for name in ("output", "attention_scores", "queries", "keys", "values"):
        np.testing.assert_allclose(
            ops.convert_to_numpy(got[name]), ops.convert_to_numpy(want[name]), atol=1e-5
        )


def test_a_head_gate_multiplies_that_head_in_every_row_or_in_one():
    layer = SelfAttention(N, initializer_range=0.3)
    full = np.ones((B, 1, T), bool)
    gates = np.random.default_rng(1).uniform(size=(B, N)).astype("float32")
    got = ops.convert_to_numpy(layer(rows(), full, head_gate=gates)["output"]).reshape(B, T, D)
    same = ops.convert_to_numpy(layer(rows(), full, head_gate=gates[1])["output"])
    np.testing.assert_allclose(same.reshape(B, T, D)[1], got[1], atol=1e-6)
    for b in range(B):
        x = rows().reshape(B, T, D)[b].astype("float64")
        want, _ = reference.attention(reference.weights_of(layer), x, N, gates=gates[b])
        np.testing.assert_allclose(got[b], want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_row_of_padding_alone_gives_no_nan(dtype):
    layer = SelfAttention(N, dtype=dtype)
    result = layer(rows(), np.zeros((B, 1, T), bool))
    assert np.all(np.isfinite(ops.convert_to_numpy(ops.cast(result["output"], "float32"))))


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ValueError, match=r"must divide the last axis.*num_heads=4.*\(21, 15\)"):
        SelfAttention(4)(rows(), mask())


def test_lora_starts_as_nothing_and_trains_alone():
    layer = SelfAttention(N, lora_rank=2)
    x = rows()
    with_lora = ops.convert_to_numpy(layer(x, mask())["output"])
    plain = SelfAttention(N)
    plain(x, mask())
    for name in ("query", "key", "value", "merge"):
        getattr(plain, name).kernel.assign(getattr(layer, name)._kernel)
        getattr(plain, name).bias.assign(getattr(layer, name).bias)
    np.testing.assert_array_equal(with_lora, ops.convert_to_numpy(plain(x, mask())["output"]))
