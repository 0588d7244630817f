"""AdamW against its formula in float64, and against PyTorch's; the schedule against a hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras.models import Classifier
from bert_keras.training.optimization import AdamW, decayed, warmup_linear

ROOT = Path(__file__).resolve().parents[2]
STEPS = 5
RATE = 0.01
SHAPES = {"kernel": (4, 3), "bias": (3,), "gamma": (3,), "beta": (3,), "token_embedding": (5, 3)}


def start():
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


def gradients():
    """Gradients of STEPS steps; the norm of the first is below 1, that of the others above."""
    random = np.random.default_rng(1)
    return [
        {name: (scale * random.normal(size=shape)).astype("f") for name, shape in SHAPES.items()}
        for scale in (0.05, 1.0, 3.0, 0.3, 10.0)
    ]


def reference(bias_correction, clip=1.0, rate=RATE, decay=0.01, b1=0.9, b2=0.999, epsilon=1e-6):
    """The weights after STEPS steps, in float64."""
    weights = {name: array.astype("float64") for name, array in start().items()}
    momentum = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    velocity = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, step in enumerate(gradients(), 1):
        norm = np.sqrt(sum((g.astype("float64") ** 2).sum() for g in step.values()))
        for name, g in step.items():
            g = g.astype("float64") * (min(1.0, clip / norm) if clip else 1.0)
            momentum[name] = b1 * momentum[name] + (1 - b1) * g
            velocity[name] = b2 * velocity[name] + (1 - b2) * g * g
            m, v = momentum[name], velocity[name]
            if bias_correction:
                m, v = m / (1 - b1**t), v / (1 - b2**t)
            update = m / (np.sqrt(v) + epsilon)
            if name in ("kernel", "token_embedding"):
                update = update + decay * weights[name]
            weights[name] = weights[name] - rate * update
    return weights


def updated(optimizer, dtype="float32"):
    variables = [keras.Variable(array, dtype=dtype, name=name) for name, array in start().items()]
    for step in gradients():
        tensors = [keras.ops.convert_to_tensor(g, dtype) for g in step.values()]
        optimizer.apply(tensors, variables)
    return {v.name: keras.ops.convert_to_numpy(v) for v in variables}


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("clip", [1.0, None])
def test_the_update_is_the_formula(bias_correction, clip):
    found = updated(AdamW(RATE, bias_correction=bias_correction, global_clipnorm=clip))
    for name, expected in reference(bias_correction, clip).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)


def test_the_two_forms_differ():
    a, b = reference(False), reference(True)
    assert np.abs(a["kernel"] - b["kernel"]).max() > 0.01


def test_with_bias_correction_it_is_pytorchs():
    torch = pytest.importorskip("torch")
    weights = {name: torch.tensor(array) for name, array in start().items()}
    plain = ("bias", "gamma", "beta")
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for n, w in weights.items() if n not in plain], "weight_decay": 0.01},
            {"params": [weights[n] for n in plain], "weight_decay": 0.0},
        ],
        lr=RATE,
        eps=1e-6,
    )
    for step in gradients():
        for name, gradient in step.items():
            weights[name].grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
    found = updated(AdamW(RATE, bias_correction=True))
    for name, expected in weights.items():
        # PyTorch adds 1e-6 to the norm it divides by.
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=0, atol=3e-6, err_msg=name)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_update_is_the_formula_on_other_backends(backend):
    pytest.importorskip(backend)
    code = (
        "import json, sys; from tests.training.optimization_test import *\n"
        f"found = updated(AdamW({RATE}, bias_correction=False))\n"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'\n"
        "print(json.dumps({name: array.tolist() for name, array in found.items()}))"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    for name, expected in reference(False).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)


def test_a_repeated_token_counts_as_one_row_in_the_clip():
    import tensorflow as tf

    rows = tf.constant([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    sparse = tf.IndexedSlices(rows, tf.constant([1, 1, 0]), tf.constant([3, 2]))
    found = []
    for gradient in (sparse, tf.convert_to_tensor(sparse)):
        table = keras.Variable(np.ones((3, 2), "float32"), name="token_embedding")
        # An epsilon this large keeps the size of the gradient in the update.
        AdamW(RATE, epsilon=1.0, bias_correction=False).apply([gradient], [table])
        found.append(keras.ops.convert_to_numpy(table))
    np.testing.assert_array_equal(*found)
    clipped = 6 / np.sqrt(6**2 + 1)
    expected = 1 - RATE * (0.1 * clipped / (np.sqrt(0.001) * clipped + 1) + 0.01)
    np.testing.assert_allclose(found[0][1, 0], expected, rtol=1e-6)


def test_slots_are_float32_under_bfloat16_weights():
    optimizer = AdamW(RATE)
    updated(optimizer, "bfloat16")
    assert {v.dtype for v in optimizer.momenta + optimizer.velocities} == {"float32"}


def test_decay_is_for_matrices_alone(tiny_config):
    network = Classifier(tiny_config, 3)
    assert len(network.trainable_variables) == 5 + 2 * 16 + 4
    for variable in network.trainable_variables:
        assert decayed(variable) == (len(variable.shape) == 2), variable.path


def test_the_learning_rate_rises_and_falls():
    # By hand: s / 4 up to step 4, then (10 - s) / 6.
    schedule = warmup_linear(2.0, num_steps=10, num_warmup_steps=4)
    found = [float(schedule(step)) for step in range(12)]
    expected = [0, 0.5, 1, 1.5, 2, 10 / 6, 8 / 6, 1, 4 / 6, 2 / 6, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float(warmup_linear(2.0, 10)(0)) == 2.0


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="num_warmup_steps=11"):
        warmup_linear(1.0, 10, 11)


def test_it_is_written_down_and_read_back():
    optimizer = AdamW(warmup_linear(1e-3, 10, 2), weight_decay=0.1, bias_correction=False)
    written = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    read = keras.optimizers.deserialize(written)
    assert isinstance(read, AdamW)
    assert read.get_config() == optimizer.get_config()
    assert read.decay_rate == 0.1 and not read.bias_correction


def test_it_works_in_compile_and_fit():
    random = np.random.default_rng(2)
    x = random.normal(size=(256, 8)).astype("float32")
    y = (x @ random.normal(size=(8, 1))).astype("float32")
    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)])
    model.compile(AdamW(warmup_linear(0.1, 160, 8)), "mse")
    losses = model.fit(x, y, batch_size=32, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.05 * losses[0]
