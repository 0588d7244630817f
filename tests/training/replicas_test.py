"""JAX: two devices train on one batch as one device does, in one process and in two.

This file is also the program: `python replicas_test.py DEVICES ACCUMULATION [PROCESS PORT]`.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def main(devices, accumulation, process=None, port=None):
    """Prints losses of six steps, and the sum of squares of the weights after them."""
    import jax

    if process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", 2, int(process))
    import keras

    from bert_keras.config import BertConfig
    from bert_keras.models import Pretrainer
    from bert_keras.training import pretraining_losses
    from bert_keras.training import step as training_step
    from bert_keras.training.optimization import AdamW
    from tests.toy import CONFIG

    assert len(jax.devices()) == int(devices), jax.devices()
    if int(devices) > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(
                devices=keras.distribution.list_devices(), auto_shard_dataset=False
            )
        )
    keras.utils.set_random_seed(3)
    config = BertConfig(**CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    network, optimizer = Pretrainer(config), AdamW(1e-3, epsilon=1e-3)
    step, told = None, []
    for number in range(6):
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
        step = step or training_step.make_step(network, optimizer, loss, batch, int(accumulation))
        told.append(step(batch).loss)
    squares = sum(float((np.asarray(v.value) ** 2).sum()) for v in network.trainable_variables)
    print(json.dumps([*told, squares]))


def start(devices, accumulation, *process, local_devices=1):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={local_devices}",
    }
    arguments = [sys.executable, __file__, str(devices), str(accumulation), *map(str, process)]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def numbers(process):
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def one_device():
    pytest.importorskip("jax")
    return numbers(start(1, 1))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_devices_of_one_process(one_device, accumulation):
    found = numbers(start(2, accumulation, local_devices=2))
    np.testing.assert_allclose(found, one_device, rtol=2e-6)


def test_two_processes(one_device):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(2, 1, number, port) for number in range(2)]
    found = [numbers(process) for process in processes]
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], one_device, rtol=2e-6)


if __name__ == "__main__":
    main(*sys.argv[1:])
