"""TensorFlow, JAX and PyTorch compute the same numbers, each in a process of its own.

The others run without TensorFlow in the process: the networks need keras alone.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

PROGRAM = """
import os
import sys
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # an import of it fails, as where it is not installed
import numpy as np
from tests.small_networks import CASES
from bert_keras.taps import Taps
from bert_keras.training import losses
import keras

keras.utils.set_random_seed(1)
out = {}
for name, (make, data) in CASES.items():
    network = make()
    for index, weight in enumerate(sorted(network.weights, key=lambda w: w.path)):
        if "seed_generator" in weight.path:
            continue
        rng = np.random.default_rng(index)
        weight.assign((rng.normal(size=tuple(weight.shape)) * 0.2).astype("float32"))
    gates = np.linspace(0.5, 1.5, 15, dtype="float32").reshape(3, 5)
    result = network(data(), taps=Taps(outputs=("hidden_states",), head_gates=gates))
    for index, x in enumerate(keras.tree.flatten(result)):
        out[f"{name}.{index}"] = keras.ops.convert_to_numpy(x)
    network(data(), training=True)
# Scores are taken of NumPy arrays.
labels = {"single_label_classification": np.array([1, 0]), "multi_label_classification": np.eye(2)}
labels["regression"] = np.array([1.5, 2.0])
for name, loss in losses.PROBLEM_LOSSES.items():
    each = loss(labels[name], np.array([[3.0, 2.0], [0.5, -1.0]], "float32"))
    out[name] = keras.ops.convert_to_numpy(each)
np.savez(sys.argv[1], **out)
"""


def run(backend, path):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(np.load(path))


@pytest.fixture(scope="module")
def tensorflow_outputs(tmp_path_factory):
    return run("tensorflow", tmp_path_factory.mktemp("tensorflow") / "out.npz")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_network_agrees_with_tensorflow(backend, tensorflow_outputs, tmp_path):
    pytest.importorskip(backend)
    outputs = run(backend, tmp_path / "out.npz")
    assert outputs.keys() == tensorflow_outputs.keys()
    for name, want in tensorflow_outputs.items():
        np.testing.assert_allclose(outputs[name], want, atol=1e-5, err_msg=name)


def test_unpad_is_refused_where_shapes_cannot_depend_on_data():
    pytest.importorskip("jax")
    program = (
        "from tests.small_networks import CONFIG; from bert_keras.encoder import BertEncoder\n"
        "BertEncoder(CONFIG, unpad=True)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "needs the TensorFlow backend" in result.stderr
