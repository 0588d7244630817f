"""Rematerialised blocks: the same step, dropout included, in less memory."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras.config import BertConfig
from bert_keras.models import Classifier
from bert_keras.training import step as training_step
from bert_keras.training.optimization import AdamW
from tests.toy import CONFIG, ToyBatches, toy_loss

ROOT = Path(__file__).resolve().parents[1]


def two_steps(remat, unpad=False, dtype="float32", jit_compile=False):
    """Losses of two steps with dropout, and the weights after them."""
    config = BertConfig(**CONFIG, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    keras.utils.set_random_seed(3)
    network = Classifier(config, 2, unpad=unpad, dtype=dtype)
    network.encoder.remat = remat
    batches = list(ToyBatches(2, lengths=(9, 10)).epoch(0))
    # A large epsilon keeps the update proportional to the gradient.
    optimizer = AdamW(1e-2, epsilon=1e-2)
    step = training_step.make_step(
        network, optimizer, toy_loss, batches[0], jit_compile=jit_compile
    )
    losses = [step(batch).loss for batch in batches]
    return losses, [keras.ops.convert_to_numpy(v).astype("f") for v in network.variables]


def check(atol=1e-6, **options):
    plain, remat = two_steps(False, **options), two_steps(True, **options)
    np.testing.assert_allclose(plain[0], remat[0], atol=atol)
    for one, two in zip(plain[1], remat[1], strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "options", [{}, {"unpad": True}, {"dtype": "mixed_bfloat16", "atol": 1e-4}]
)
def test_the_step_is_the_same(options):
    check(**options)


def test_the_step_is_the_same_under_xla():
    check(jit_compile=True)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_step_is_the_same_on_other_backends(backend):
    pytest.importorskip(backend)
    code = "from tests import remat_test as test; test.check()"
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def kept_bytes():
    """Bytes that PyTorch keeps for the backward pass, plain and rematerialised."""
    import torch

    sizes = []
    for remat in (False, True):
        config = BertConfig(
            vocab_size=50,
            hidden_size=64,
            num_hidden_layers=8,
            num_attention_heads=2,
            intermediate_size=256,
        )
        network = Classifier(config, 2)
        network.encoder.remat = remat
        ids = np.ones((16, 128), "int32")
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network({"token_ids": ids, "segment_ids": ids * 0}, training=True)["logits"].sum()
        sizes.append(sum(kept.values()))
    return sizes


def test_it_takes_a_fraction_of_the_memory():
    # XLA on a CPU undoes it (it merges equal computations), so JAX cannot show it here.
    pytest.importorskip("torch")
    code = (
        "from tests import remat_test as test; plain, remat = test.kept_bytes()\n"
        "print(plain, remat); assert remat < 0.25 * plain, (plain, remat)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    print(done.stdout.decode())
