"""Two devices train on one batch as one device does: TensorFlow; JAX in one process and in two.

This file is also the program: `python replicas_test.py CASES [PROCESS PORT]` trains in each of the
cases, a JSON list of [several devices, optimizer, accumulation steps, dropout].
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.training import replicas

ROOT = Path(__file__).resolve().parents[2]
CASES = [("adamw", 1), ("adamw", 2), ("lamb", 1), ("lamb", 2)]


def train(several, optimizer, accumulation, dropout):
    """Losses of four steps, the sum of squares of the weights after them, and what dropout drew."""
    import keras

    from bert_keras.config import BertConfig
    from bert_keras.models import Pretrainer
    from bert_keras.training import lamb, optimization, pretraining_losses
    from bert_keras.training import step as training_step
    from tests.toy import CONFIG

    keras.utils.set_random_seed(3)
    shape = CONFIG | {"num_hidden_layers": 1}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    make = {"adamw": optimization.AdamW, "lamb": lamb.Lamb}[optimizer]
    step, told = None, []
    with replicas.on_all_devices() if several else contextlib.nullcontext():
        assert replicas.device_count() == (2 if several else 1)
        network, optimizer = Pretrainer(BertConfig(**shape, **rates)), make(1e-3, epsilon=1e-3)
        for number in range(4):
            random = np.random.default_rng(number)
            ids = random.integers(1, 50, (8, 12)).astype("int32")
            counts = np.array([6, 1, 0, 2, 1, 1, 5, 3])
            batch = {
                "token_ids": ids,
                "padding_mask": np.ones_like(ids),
                "masked_positions": random.integers(1, 12, (8, 6)).astype("int32"),
                "masked_ids": random.integers(1, 50, (8, 6)).astype("int32"),
                "masked_weights": (np.arange(6) < counts[:, None]).astype("float32"),
                "next_sentence_labels": random.integers(0, 2, 8).astype("int32"),
            }
            batch = pretraining_losses.share_weights(batch)
            loss = pretraining_losses.pretraining_losses
            step = step or training_step.make_step(network, optimizer, loss, batch, accumulation)
            told.append(step(batch).loss)
        if several:
            with pytest.raises(InputError, match="7 rows.* cannot be spread over 2 devices"):
                step({name: array[:7] for name, array in batch.items()})
        seeds = [v for v in network.variables if v.name == "seed_generator_state"]
        copies = [getattr(v.value, "values", [v.value]) for v in seeds]
        trained = network.trainable_variables
        for variable in trained if keras.backend.backend() == "tensorflow" and several else ():
            one, two = (copy.numpy() for copy in variable.value.values)
            np.testing.assert_array_equal(one, two)
    assert replicas.device_count() == 1  # Nothing stays behind.
    squares = sum(float((np.asarray(v.value) ** 2).sum()) for v in trained)
    return [*told, squares], [[np.asarray(x).tolist() for x in pair] for pair in copies]


def main(cases, process=None, port=None):
    """Prints what `train` returns for each case."""
    if process is not None:
        replicas.start_processes(f"localhost:{port}", 2, int(process))
        assert replicas.processes() == 2 and replicas.is_first() == (process == "0")
        assert replicas.gather(int(process) + 5) == [5, 6]
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    print(json.dumps([train(*case) for case in json.loads(cases)]))


def start(backend, cases, *process, local_devices=1):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={local_devices}",
    }
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(cases), *map(str, process)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def both(request):
    """What one device told, and what two did, by (optimizer, accumulation, dropout)."""
    pytest.importorskip(request.param)
    cases = [(False, "adamw", 1, 0.0), (False, "lamb", 1, 0.0), (True, "adamw", 1, 0.1)]
    cases += [(True, *case, 0.0) for case in CASES]
    if request.param == "jax":
        cases.append((False, "adamw", 1, 0.1))
    found = finish(start(request.param, cases, local_devices=2))
    told = dict(zip(cases, found, strict=True))
    return request.param, *({c[1:]: told[c] for c in cases if c[0] is n} for n in (False, True))


@pytest.mark.parametrize("optimizer, accumulation", CASES)
def test_two_devices_of_one_process(both, optimizer, accumulation):
    _, one_device, two_devices = both
    expected, _ = one_device[optimizer, 1, 0.0]
    found, _ = two_devices[optimizer, accumulation, 0.0]
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_dropout_draws_other_bits_on_each_device(both):
    backend, one_device, two_devices = both
    found, states = two_devices["adamw", 1, 0.1]
    if backend == "jax":  # Random bits are split with the rows: those of one device.
        expected, _ = one_device["adamw", 1, 0.1]
        np.testing.assert_allclose(found, expected, rtol=2e-6)
        return
    seeds = [seed for copies in states for seed, _ in copies]
    assert len(set(seeds)) == 2 * len(states) > 0
    assert {count for copies in states for _, count in copies} == {4}  # They draw as often.
    np.testing.assert_allclose(found, two_devices["adamw", 1, 0.0][0], rtol=0.1)


def test_two_processes(both):
    backend, one_device, _ = both
    if backend != "jax":
        pytest.skip("TensorFlow trains on the devices of one host")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [start("jax", [(True, "adamw", 1, 0.0)], n, port) for n in range(2)]
    (found, _), (other, _) = (finish(process)[0] for process in started)
    assert found == other
    np.testing.assert_allclose(found, one_device["adamw", 1, 0.0][0], rtol=2e-6)


if __name__ == "__main__":
    main(*sys.argv[1:])
