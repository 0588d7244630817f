"""The losses of pretraining against float64 by hand, and through the training step."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras.config import BertConfig
from bert_keras.models import Pretrainer
from bert_keras.training import pretraining_losses
from bert_keras.training import step as training_step
from bert_keras.training.optimization import AdamW
from tests.toy import CONFIG

ROOT = Path(__file__).resolve().parents[2]
B, P, V = 4, 5, 7
# Rows of very different numbers of predicted positions.
WEIGHTS = (np.arange(P) < np.array([5, 1, 0, 2])[:, None]).astype("float32")


def arrays():
    random = np.random.default_rng(4)
    logits = (3 * random.normal(size=(B, P, V))).astype("float32")
    ids = random.integers(0, V, (B, P)).astype("int32")
    ids[0, :3] = logits[0, :3].argmax(-1)
    batch = {"masked_ids": ids, "masked_weights": WEIGHTS, "rows": np.arange(B)}
    batch["next_sentence_labels"] = np.array([0, 1, 1, 0], "int32")
    outputs = {"masked_lm_logits": logits}
    outputs["next_sentence_logits"] = random.normal(size=(B, 2)).astype("float32")
    return batch, outputs


def log_softmax(x):
    x = x.astype("float64")
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def expected():
    """google-research/bert's numbers: sums over the batch divided by the sum of the weights."""
    batch, outputs = arrays()
    log_probs, ids = log_softmax(outputs["masked_lm_logits"]), batch["masked_ids"]
    entropies = -np.take_along_axis(log_probs, ids[..., None], -1)[..., 0]
    right = log_probs.argmax(-1) == ids
    nsp, labels = log_softmax(outputs["next_sentence_logits"]), batch["next_sentence_labels"]
    found = {
        "masked_lm_loss": (entropies * WEIGHTS).sum() / WEIGHTS.sum(),
        "masked_lm_accuracy": (right * WEIGHTS).sum() / WEIGHTS.sum(),
        "next_sentence_loss": -nsp[np.arange(B), labels].mean(),
        "next_sentence_accuracy": (nsp.argmax(-1) == labels).mean(),
    }
    return {"loss": found["masked_lm_loss"] + found["next_sentence_loss"], **found}


def found():
    batch, outputs = arrays()
    told = pretraining_losses.pretraining_losses(pretraining_losses.share_weights(batch), outputs)
    for value in told.values():
        assert tuple(value.shape) == (B,)
    return {name: float(keras.ops.mean(value)) for name, value in told.items()}


def check():
    told, right = found(), expected()
    assert told.keys() == right.keys()
    for name, value in right.items():
        np.testing.assert_allclose(told[name], value, rtol=1e-6, err_msg=name)


def test_means_over_the_batch_are_googles():
    check()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_means_over_the_batch_are_googles_on_other_backends(backend):
    pytest.importorskip(backend)
    code = (
        "import sys; from tests.training import pretraining_losses_test as test; test.check()\n"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_nothing_to_predict_is_a_loss_of_zero():
    batch, outputs = arrays()
    batch["masked_weights"] = np.zeros((B, P), "float32")
    shared = pretraining_losses.share_weights(batch)
    assert shared["masked_weights"].dtype == np.float32
    told = pretraining_losses.pretraining_losses(shared, outputs)
    assert float(keras.ops.sum(told["masked_lm_loss"])) == 0.0


def test_without_labels_there_is_no_next_sentence_loss():
    batch, outputs = arrays()
    del batch["next_sentence_labels"]
    told = pretraining_losses.pretraining_losses(batch, outputs)
    assert set(told) == {"loss", "masked_lm_loss", "masked_lm_accuracy"}


def step_in_pieces(count):
    """Losses, and the weights after one step of plain Adam with an epsilon that keeps gradients."""
    random = np.random.default_rng(6)
    rows, tokens, predicted = 8, 12, 6
    real = np.array([6, 1, 0, 2, 1, 1, 5, 3])
    ids = random.integers(1, 50, (rows, tokens)).astype("int32")
    batch = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
        "masked_positions": random.integers(1, tokens, (rows, predicted)).astype("int32"),
        "masked_ids": random.integers(1, 50, (rows, predicted)).astype("int32"),
        "masked_weights": (np.arange(predicted) < real[:, None]).astype("float32"),
        "next_sentence_labels": random.integers(0, 2, rows).astype("int32"),
    }
    keras.utils.set_random_seed(3)
    config = BertConfig(**CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    network = Pretrainer(config)
    loss = pretraining_losses.pretraining_losses
    optimizer = AdamW(1e-2, epsilon=1e-2, weight_decay=0.0)
    batch = pretraining_losses.share_weights(batch)
    result = training_step.make_step(network, optimizer, loss, batch, count)(batch)
    return result, [keras.ops.convert_to_numpy(v) for v in network.trainable_variables]


@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulated_pieces_give_the_gradient_of_the_whole_batch(pieces):
    (one, whole), (two, cut) = step_in_pieces(1), step_in_pieces(pieces)
    assert one.losses.keys() == two.losses.keys()
    for name, value in one.losses.items():
        assert value == pytest.approx(two.losses[name], abs=1e-6), name
    assert one.gradient_norm == pytest.approx(two.gradient_norm, rel=1e-5)
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-7)
