"""LAMB against its paper's algorithm 2 in float64, and against the Model Garden's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras.batch import network_inputs
from bert_keras.training import step as training_step
from bert_keras.training.lamb import Lamb
from bert_keras.training.optimization import AdamW, warmup_linear
from tests.toy import ToyBatches, toy_loss, toy_network
from tests.training.optimization_test import RATE, SHAPES, gradients, start, updated

ROOT = Path(__file__).resolve().parents[2]
MATRICES = ("kernel", "token_embedding")


def reference(clip=1.0, rate=RATE, decay=0.01, b1=0.9, b2=0.999, epsilon=1e-6):
    """The weights after all steps, in float64; algorithm 2 with phi the identity."""
    weights = {name: array.astype("float64") for name, array in start().items()}
    momentum = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    velocity = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, step in enumerate(gradients(), 1):
        norm = np.sqrt(sum((g.astype("float64") ** 2).sum() for g in step.values()))
        for name, g in step.items():
            g = g.astype("float64") * (min(1.0, clip / norm) if clip else 1.0)
            momentum[name] = b1 * momentum[name] + (1 - b1) * g
            velocity[name] = b2 * velocity[name] + (1 - b2) * g * g
            m, v = momentum[name] / (1 - b1**t), velocity[name] / (1 - b2**t)
            r = m / (np.sqrt(v) + epsilon)
            ratio = 1.0
            if name in MATRICES:
                r = r + decay * weights[name]
                ratio = np.linalg.norm(weights[name]) / np.linalg.norm(r)
            weights[name] = weights[name] - rate * ratio * r
    return weights


@pytest.mark.parametrize("clip", [1.0, None])
def test_the_update_is_the_papers(clip):
    found = updated(Lamb(RATE, global_clipnorm=clip))
    for name, expected in reference(clip).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_update_is_the_papers_on_other_backends(backend):
    pytest.importorskip(backend)
    code = (
        "import json, sys; from tests.training.optimization_test import updated, RATE\n"
        "from bert_keras.training.lamb import Lamb\n"
        "found = updated(Lamb(RATE))\n"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'\n"
        "print(json.dumps({name: array.tolist() for name, array in found.items()}))"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    for name, expected in reference().items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)


def test_it_is_the_model_gardens():
    """Theirs excepts the same variables, by patterns; it has no clip."""
    lamb = pytest.importorskip("official.modeling.optimization.lamb")
    import tensorflow as tf

    variables = [tf.Variable(array, name=name) for name, array in start().items()]
    theirs = lamb.LAMB(
        RATE,
        weight_decay_rate=0.01,
        exclude_from_weight_decay=["bias", "gamma", "beta"],
        epsilon=1e-6,
    )
    for step in gradients():
        theirs.apply_gradients(zip([tf.constant(g) for g in step.values()], variables))
    found = updated(Lamb(RATE, global_clipnorm=None))
    for name, variable in zip(SHAPES, variables, strict=True):
        np.testing.assert_allclose(found[name], variable.numpy(), rtol=0, atol=1e-6, err_msg=name)


def test_where_a_norm_is_zero_the_ratio_is_one():
    optimizer = Lamb(RATE)
    zeros, ones = np.zeros((2, 2), "float32"), np.ones((2, 2), "float32")
    assert float(optimizer.trust_ratio(zeros, ones)) == 1.0
    assert float(optimizer.trust_ratio(ones, zeros)) == 1.0
    assert float(optimizer.trust_ratio(ones, 4 * ones)) == 0.25


def test_it_is_not_adamw():
    assert np.abs(updated(Lamb(RATE))["kernel"] - updated(AdamW(RATE))["kernel"]).max() > 1e-3


def test_the_training_step_makes_the_same_update():
    """`make_step` has a faster way on TensorFlow; the formula is `optimizer.apply`'s."""
    import tensorflow as tf

    networks = [toy_network(dropout=0.0), toy_network(dropout=0.0)]
    for one, two in zip(networks[0].variables, networks[1].variables, strict=True):
        two.assign(one)
    # The epsilon keeps rounding errors of gradients that are zero from growing into updates.
    fast, plain = (Lamb(1e-2, epsilon=1e-3) for _ in range(2))
    batches = list(ToyBatches(4).epoch(0))
    step = training_step.make_step(networks[0], fast, toy_loss, batches[0])
    for batch in batches:
        step(batch)
        with tf.GradientTape() as tape:
            inputs = network_inputs(batch)
            loss = tf.reduce_mean(toy_loss(batch, networks[1](inputs, training=True)))
        variables = networks[1].trainable_variables
        plain.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    for one, two in zip(networks[0].variables, networks[1].variables, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=0, atol=1e-6)
    assert int(fast.iterations) == int(plain.iterations) == 4


def test_it_is_written_down_and_read_back():
    optimizer = Lamb(warmup_linear(1e-3, 10, 2), weight_decay=0.1)
    written = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    read = keras.optimizers.deserialize(written)
    assert type(read) is Lamb
    assert read.get_config() == optimizer.get_config()
