"""Layer-wise learning rates: by hand, and against PyTorch's groups of parameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras import models, training
from bert_keras.batch import network_inputs
from bert_keras.errors import InputError
from bert_keras.training import step as training_step
from bert_keras.training.lamb import Lamb
from bert_keras.training.optimization import AdamW, decayed, layer_rates
from tests.small_networks import CONFIG
from tests.toy import ToyBatches, toy_loss, toy_network

ROOT = Path(__file__).resolve().parents[2]
STEPS, RATE, WEIGHT_DECAY, LAYER_DECAY = 5, 0.01, 0.1, 0.8


def random_arrays(seed, shapes):
    random = np.random.default_rng(seed)
    return {path: random.normal(size=shape).astype("float32") for path, shape in shapes.items()}


def shapes_of(network):
    return {variable.path: tuple(variable.shape) for variable in network.trainable_variables}


def updated(optimizer=AdamW, decay=LAYER_DECAY, steps=STEPS, **options):
    """The weights by path after some steps from random ones, with random gradients."""
    network = models.Classifier(CONFIG, 3)
    shapes, variables = shapes_of(network), network.trainable_variables
    for variable, array in zip(variables, random_arrays(0, shapes).values(), strict=True):
        variable.assign(array)
    rates = None if decay is None else layer_rates(network, decay)
    options |= {"weight_decay": WEIGHT_DECAY, "rate_multipliers": rates}
    optimizer = optimizer(RATE, **options)
    for step in range(steps):
        gradients = random_arrays(1 + step, shapes).values()
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in variables}


def multiplier_by_hand(path, decay=LAYER_DECAY):
    """Of CONFIG's three blocks; four layers below the head."""
    below = {"embeddings": 4, "block_0": 3, "block_1": 2, "block_2": 1}
    room = path.split("/")[1]
    return decay ** (below.get(room, 0))


@pytest.fixture(scope="module")
def pytorchs():
    """What `torch.optim.AdamW` makes of the same, a group for each rate and decay."""
    torch = pytest.importorskip("torch")
    network = models.Classifier(CONFIG, 3)
    shapes = shapes_of(network)
    weights = {path: torch.tensor(array) for path, array in random_arrays(0, shapes).items()}
    groups = [
        {
            "params": [weights[variable.path]],
            "lr": RATE * multiplier_by_hand(variable.path),
            "weight_decay": WEIGHT_DECAY if decayed(variable) else 0.0,
        }
        for variable in network.trainable_variables
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-6)
    for step in range(STEPS):
        for path, gradient in random_arrays(1 + step, shapes).items():
            weights[path].grad = torch.tensor(gradient)
        optimizer.step()
    return {path: weight.numpy() for path, weight in weights.items()}


def check(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=0, atol=1e-6, err_msg=path)


def test_the_rates_by_hand():
    rates = layer_rates(models.Classifier(CONFIG, 3), 0.5)
    expected = {
        "encoder/embeddings/token_embedding": 0.0625,
        "encoder/embeddings/norm/beta": 0.0625,
        "encoder/block_0/attention/query/kernel": 0.125,
        "encoder/block_1/output_norm/gamma": 0.25,
        "encoder/block_2/output_dense/bias": 0.5,
        "encoder/pooler/kernel": 1.0,
        "classifier/dense/bias": 1.0,
    }
    assert {path: rates[path] for path in expected} == expected
    assert all(rate == multiplier_by_hand(path, 0.5) for path, rate in rates.items())


def test_every_weight_has_a_rate_frozen_and_low_rank_ones_too():
    network = models.Pretrainer({**CONFIG.to_dict(), "embedding_size": 6}, lora_rank=2)
    rates = layer_rates(network, 0.5)
    assert rates.keys() == {weight.path for weight in network.weights}
    assert rates["encoder/embeddings/projection/kernel"] == 0.0625
    assert rates["encoder/block_2/attention/query/lora_kernel_a"] == 0.5
    assert rates["masked_lm/dense/kernel"] == 1.0


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        layer_rates(models.Classifier(CONFIG, 3), decay)


def test_it_is_pytorchs_groups(pytorchs):
    check(updated(global_clipnorm=None), pytorchs)
    with pytest.raises(AssertionError):
        check(updated(global_clipnorm=None, decay=None), pytorchs)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_it_is_pytorchs_groups_on_other_backends(tmp_path, backend, pytorchs):
    pytest.importorskip(backend)
    code = (
        "from tests.training.layer_rates_test import *\n"
        f"np.savez(r'{tmp_path / 'found.npz'}', **updated(global_clipnorm=None))\n"
        "for one, two in zip(updated(decay=1.0).values(), updated(decay=None).values()):\n"
        "    np.testing.assert_array_equal(one, two)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    environment["OMP_NUM_THREADS"] = "1"  # Spinning threads take minutes on a busy machine.
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    check(dict(np.load(tmp_path / "found.npz")), pytorchs)


@pytest.mark.parametrize("optimizer", [AdamW, Lamb])
def test_the_whole_update_is_multiplied_the_decay_too(optimizer):
    before, plain, scaled = (
        updated(optimizer, decay, steps) for decay, steps in ((None, 0), (None, 1), (0.8, 1))
    )
    for path, start in before.items():
        expected = start + multiplier_by_hand(path) * (plain[path] - start)
        np.testing.assert_allclose(scaled[path], expected, rtol=0, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("optimizer", [AdamW, Lamb])
def test_the_training_step_makes_the_same_update(optimizer):
    """`make_step` has a faster way on TensorFlow; the formula is `optimizer.apply`'s."""
    import tensorflow as tf

    networks = [toy_network(dropout=0.0) for _ in range(2)]
    for one, two in zip(networks[0].variables, networks[1].variables, strict=True):
        two.assign(one)
    # The epsilon keeps rounding errors of gradients that are zero from growing into updates.
    rates = layer_rates(networks[0], 0.3)
    options = {"weight_decay": 0.1, "epsilon": 1e-3, "rate_multipliers": rates}
    fast, plain = (optimizer(1e-2, **options) for _ in range(2))
    batches = list(ToyBatches(3).epoch(0))
    step = training_step.make_step(networks[0], fast, toy_loss, batches[0])
    variables = networks[1].trainable_variables
    for batch in batches:
        assert step(batch).learning_rate == pytest.approx(1e-2)  # The head's.
        with tf.GradientTape() as tape:
            outputs = networks[1](network_inputs(batch), training=True)
            loss = tf.reduce_mean(toy_loss(batch, outputs))
        plain.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    for one, two in zip(networks[0].variables, networks[1].variables, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=0, atol=1e-6)


def trained(work_dir=None, decay=None, num_epochs=1):
    """The weights of a short run, and the step it went on from."""
    keras.utils.set_random_seed(5)
    network = toy_network()
    rates = None if decay is None else layer_rates(network, decay)
    told = training.fit(
        network,
        ToyBatches(4),
        loss=toy_loss,
        optimizer=AdamW(1e-2, rate_multipliers=rates),
        num_epochs=num_epochs,
        work_dir=work_dir,
        progress=False,
    )
    return [keras.ops.convert_to_numpy(v) for v in network.variables], told["resumed_from"]


def test_one_is_plain_adamw_to_the_bit_and_another_value_is_not():
    plain, one, other = (trained(decay=decay)[0] for decay in (None, 1.0, 0.9))
    for a, b in zip(plain, one, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(plain, other, strict=True))


def test_a_run_of_another_decay_is_not_gone_on_with(tmp_path):
    trained(tmp_path, 0.9)
    assert trained(tmp_path, 0.9)[1] == 4
    named = r"optimizer\.rate_multipliers\.encoder/block_0/\S+=0\.81.* this one .*=0\.64"
    with pytest.raises(InputError, match=named):
        trained(tmp_path, 0.8)
    with pytest.raises(InputError, match=r"optimizer\.rate_multipliers=.* this one .*=null"):
        trained(tmp_path, None)


def test_it_is_written_down_and_read_back_and_not_named_where_it_is_not_used():
    assert "rate_multipliers" not in AdamW(RATE).get_config()
    optimizer = Lamb(RATE, rate_multipliers=layer_rates(toy_network(), 0.9))
    written = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    read = keras.optimizers.deserialize(written)
    assert read.get_config() == optimizer.get_config()
    assert read.get_config()["rate_multipliers"]["encoder/block_1/output_dense/kernel"] == 0.9


def test_a_variable_without_a_rate_is_refused():
    network = toy_network()
    rates = layer_rates(network, 0.9)
    del rates["encoder/pooler/bias"]
    with pytest.raises(ValueError, match="must name encoder/pooler/bias"):
        AdamW(RATE, rate_multipliers=rates).build(network.trainable_variables)
