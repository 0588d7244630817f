"""Checkpoints of the Model Garden: its own objects with random weights, saved by TensorFlow."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from bert_keras.checkpoint import google, model_garden
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.errors import InputError
from bert_keras.taps import Taps
from tests.checkpoint import foreign

TOLERANCE = 1e-5
CONFIG = {
    "vocab_size": 101,
    "hidden_size": 33,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 47,
    "max_position_embeddings": 61,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}

# The Model Garden runs on Keras 2 (tf_keras): in a process of its own, which makes every model,
# gives each weight a value, and leaves a checkpoint and the outputs in a folder for each.
MODEL_GARDEN = """
import os, sys
import numpy as np
import tensorflow as tf, tf_keras
from official.nlp.modeling import layers, models, networks

folder, inputs_file = sys.argv[1:]
with np.load(inputs_file) as batch:
    batch = {
        "input_word_ids": batch["token_ids"],
        "input_type_ids": batch["segment_ids"],
        "input_mask": batch["padding_mask"],
    }
rows, tokens = batch["input_word_ids"].shape
positions = np.tile(np.arange(tokens, dtype="int32"), (rows, 1))
tanh = lambda x: tf.nn.gelu(x, approximate=True)
erf = lambda x: tf.nn.gelu(x, approximate=False)


def encoder(kind=networks.BertEncoderV2, activation=tanh, **options):
    made = kind(
        vocab_size=101, hidden_size=33, num_layers=2, num_attention_heads=3, inner_dim=47,
        max_sequence_length=61, type_vocab_size=2, inner_activation=activation,
        dict_outputs=True, **options
    )
    made(made.inputs)
    return made


def pretrainer(heads, **options):
    made = models.BertPretrainerV2(
        encoder(**options), mlm_activation=tanh, classification_heads=heads
    )
    made({**batch, "masked_lm_positions": positions})
    return made


def head(classes):
    return layers.ClassificationHead(
        inner_dim=33, num_classes=classes, dropout_rate=0.1, name="next_sentence"
    )


def save(name, network, outputs, with_trainer=False, **items):
    rng = np.random.default_rng(5)
    for weight in network.weights:
        weight.assign(0.2 * rng.standard_normal(weight.shape) + (weight.shape.rank == 1))
    os.makedirs(os.path.join(folder, name))
    checkpoint = tf.train.Checkpoint(**items)
    if with_trainer:
        optimizer = tf_keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        step = tf.Variable(7, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(optimizer=optimizer, global_step=step, **items)
        tf.train.CheckpointManager(checkpoint, os.path.join(folder, name), 2).save()
    else:
        checkpoint.write(os.path.join(folder, name, "ckpt"))
    values = {}
    for key, value in outputs().items():
        if key == "encoder_outputs":
            value = tf.stack(value, axis=1)
        values[key] = value.numpy()
    np.savez(os.path.join(folder, name, "outputs.npz"), **values)


made = encoder(return_word_embeddings=True)
save("encoder", made, lambda: made(batch), encoder=made)
made = encoder(return_word_embeddings=True)
save("model", made, lambda: made(batch), model=made)
made = encoder(networks.BertEncoder)
save("first_encoder", made, lambda: made(batch), encoder=made)
made = encoder(activation=erf)
save("erf", made, lambda: made(batch), encoder=made)
made = encoder(embedding_width=17)
save("factorised", made, lambda: made(batch), encoder=made)


def pretraining(made, classifier=None):
    def outputs():
        found = dict(made({**batch, "masked_lm_positions": positions}))
        if classifier is not None:
            sequence = found["sequence_output"]
            found["pooled_output"] = classifier(sequence, only_project=True)
        return found
    return outputs


classifier = head(2)
made = pretrainer([classifier])
save("pretrainer", made, pretraining(made, classifier), with_trainer=True, model=made)
classifier = head(2)
made = pretrainer([classifier])
save("items", made, pretraining(made, classifier), **made.checkpoint_items)
made = pretrainer([])
save("masked_lm", made, pretraining(made), model=made)
made = pretrainer([], kind=networks.BertEncoder)
save("first_masked_lm", made, pretraining(made), model=made)
for name, pooled in (("classifier", True), ("classifier_with_pooler", False)):
    made = models.BertClassifier(encoder(), num_classes=4, use_encoder_pooler=pooled)
    save(name, made, lambda: {"logits": made(batch)}, model=made)
"""


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A folder for each model: checkpoint, outputs.npz, bert_config.json."""
    pytest.importorskip("tf_keras")
    folder = tmp_path_factory.mktemp("garden")
    np.savez(folder / "inputs.npz", **foreign.inputs("pretraining"))
    done = subprocess.run(
        [sys.executable, "-c", MODEL_GARDEN, str(folder), str(folder / "inputs.npz")],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "No module named 'official'" in done.stderr:
        pytest.skip("the Model Garden (tf-models-official) is not installed")
    assert done.returncode == 0, done.stderr[-2000:]
    for directory in folder.iterdir():
        if directory.is_dir():
            (directory / "bert_config.json").write_text(json.dumps(CONFIG))
    values = {**CONFIG, "model_type": "bert", "hidden_act": "gelu"}
    (folder / "erf" / "bert_config.json").write_text(json.dumps(values))
    values = {**CONFIG, "embedding_size": 17}
    (folder / "factorised" / "bert_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def copy(garden, tmp_path):
    """Copies one folder, for a test that changes it."""
    return lambda name: shutil.copytree(garden / name, tmp_path / name)


def outputs(network, head):
    """Ours under the Model Garden's names."""
    batch = foreign.inputs("pretraining")
    if head in ("pretraining", "masked_lm"):
        rows, tokens = batch["token_ids"].shape
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (rows, 1))
    found = network(batch, taps=Taps(outputs=("hidden_states",)), training=False)
    embeddings, *layers = found.pop("hidden_states")
    found |= {"word_embeddings": embeddings, "encoder_outputs": keras.ops.stack(layers, axis=1)}
    names = {"masked_lm_logits": "mlm_logits", "next_sentence_logits": "next_sentence"}
    return {names.get(n, n): keras.ops.convert_to_numpy(value) for n, value in found.items()}


def largest_difference(found, directory):
    real = foreign.inputs("pretraining")["padding_mask"].astype(bool)
    worst, compared = 0.0, set()
    with np.load(directory / "outputs.npz") as expected:
        for name in expected.files:
            theirs = expected[name]
            if name not in found:
                continue
            ours = found[name]
            assert ours.shape == theirs.shape, name
            if name == "encoder_outputs":
                ours, theirs = np.swapaxes(ours, 1, 2)[real], np.swapaxes(theirs, 1, 2)[real]
            elif theirs.shape[:2] == real.shape:
                ours, theirs = ours[real], theirs[real]
            compared.add(name)
            worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst, compared


CASES = {
    "encoder": ("encoder", {"word_embeddings", "encoder_outputs", "pooled_output"}),
    "model": ("encoder", {"word_embeddings", "encoder_outputs", "pooled_output"}),
    "first_encoder": ("encoder", {"encoder_outputs", "pooled_output"}),
    "erf": ("encoder", {"encoder_outputs", "pooled_output"}),
    "factorised": ("encoder", {"encoder_outputs", "pooled_output"}),
    "pretrainer": ("pretraining", {"encoder_outputs", "mlm_logits", "next_sentence"}),
    "items": ("masked_lm", {"encoder_outputs", "mlm_logits"}),
    "masked_lm": ("masked_lm", {"encoder_outputs", "mlm_logits"}),
    "first_masked_lm": ("masked_lm", {"encoder_outputs", "mlm_logits"}),
    "classifier": ("sequence_classification", {"logits"}),
    "classifier_with_pooler": ("sequence_classification", {"logits"}),
}


@pytest.mark.parametrize("name", CASES)
def test_reads_every_model(garden, name, record_property):
    head, needed = CASES[name]
    assert model_garden.is_checkpoint(garden / name)
    assert not google.is_checkpoint(garden / name)

    loaded = model_garden.load_network(garden / name)

    assert loaded.head == head
    assert loaded.report.fresh == ()
    found = outputs(loaded.network, head)
    if head == "masked_lm":
        found.pop("next_sentence")  # starts at random
    difference, compared = largest_difference(found, garden / name)
    record_property("largest difference", difference)
    assert compared >= needed
    assert difference < TOLERANCE
