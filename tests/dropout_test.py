import keras
import numpy as np
import pytest
from keras import ops

from bert_keras.dropout import Dropout
from tests.layer_exam import sit


def dropped(layer, x):
    return ops.convert_to_numpy(ops.cast(layer(x, training=True), "float32"))


def test_sits_the_exam():
    x = np.random.default_rng(0).normal(size=(5, 7)).astype("float32")
    sit("Dropout", lambda **kw: Dropout(0.1, seed=3, **kw), [x], trains=False)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_the_share_asked_for_and_keeps_the_expectation(rate):
    y = dropped(Dropout(rate, seed=1), np.ones((1000, 999), "float32"))
    count = y.size
    # Five standard deviations of a binomial share.
    assert abs((y == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / count)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-3)
    assert abs(y.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / count)


def test_neighbours_and_calls_are_independent():
    layer = Dropout(0.5, seed=1)
    x = np.ones((100, 1001), "float32")
    first, second = dropped(layer, x) > 0, dropped(layer, x) > 0
    limit = 5 / np.sqrt(first.size)
    pairs = [
        (first[:, :-1], first[:, 1:]),  # the two halves of one random integer among them
        (first[:-1], first[1:]),
        (first, second),
    ]
    for one, other in pairs:
        assert abs(np.mean((one - 0.5) * (other - 0.5)) * 4) < limit


def test_the_same_seed_draws_the_same_and_its_state_can_be_restored():
    x = np.ones((13, 17), "float32")
    layer = Dropout(0.3, seed=5)
    first = dropped(layer, x)
    state = ops.convert_to_numpy(layer.seed_generator.state)
    second = dropped(layer, x)
    np.testing.assert_array_equal(first, dropped(Dropout(0.3, seed=5), x))
    assert np.any(first != second)
    layer.seed_generator.state.assign(state)
    np.testing.assert_array_equal(second, dropped(layer, x))


def test_nothing_happens_outside_training_or_at_rate_zero():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(Dropout(0.5)(x, training=False)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(Dropout(0.0)(x, training=True)), x)


def test_the_gradient_passes_where_the_value_passed():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("written with a tape")
    import tensorflow as tf

    x = tf.Variable(np.random.default_rng(0).normal(size=(11, 13)).astype("float32"))
    with tf.GradientTape() as tape:
        y = Dropout(0.4, seed=2)(x, training=True)
    slope = tape.gradient(y, x).numpy()
    np.testing.assert_allclose(slope, y.numpy() / x.numpy(), rtol=1e-5)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_must_be_a_share(rate):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        Dropout(rate)
