"""Models of the Model Garden with random weights, their checkpoints and what they compute.

It runs on Keras 2 (tf_keras), and so in a process of its own.
"""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.checkpoint import foreign

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
CONFIG = {**foreign.SIZES, "hidden_act": "gelu"}

# What a run of the Model Garden's trainer leaves beside its checkpoints.
YAML = """
task:
  model:
    cls_heads:
    - {activation: tanh, cls_token_idx: 0, inner_dim: 33, name: next_sentence, num_classes: 2}
    encoder:
      type: bert
      bert:
        attention_dropout_rate: 0.1
        dropout_rate: 0.1
        embedding_size: null
        hidden_activation: gelu
        hidden_size: 33
        initializer_range: 0.02
        intermediate_size: 47
        max_position_embeddings: 61
        norm_first: false
        num_attention_heads: 3
        num_layers: 2
        output_range: null
        return_all_encoder_outputs: false
        type_vocab_size: 2
        vocab_size: 101
    mlm_activation: gelu
runtime: {}
"""

# Gives `encoder` and `save`; `folder` is the program's first argument.
START = f"""
import os, sys
import numpy as np
import tensorflow as tf, tf_keras
from official.nlp.modeling import layers, models, networks

SIZES = {foreign.SIZES!r}
folder = sys.argv[1]
with np.load(os.path.join(folder, "inputs.npz")) as file:
    batch = {{
        "input_word_ids": file["token_ids"],
        "input_type_ids": file["segment_ids"],
        "input_mask": file["padding_mask"],
    }}
tanh = lambda x: tf.nn.gelu(x, approximate=True)
erf = lambda x: tf.nn.gelu(x, approximate=False)
rng = np.random.default_rng(5)


def encoder(kind=networks.BertEncoderV2, activation=tanh, **options):
    made = kind(
        vocab_size=SIZES["vocab_size"],
        hidden_size=SIZES["hidden_size"],
        num_layers=SIZES["num_hidden_layers"],
        num_attention_heads=SIZES["num_attention_heads"],
        inner_dim=SIZES["intermediate_size"],
        max_sequence_length=SIZES["max_position_embeddings"],
        type_vocab_size=SIZES["type_vocab_size"],
        inner_activation=activation,
        **{{"dict_outputs": True, **options}},
    )
    made(made.inputs)
    return made


def fill(network):
    for weight in network.weights:
        weight.assign(0.2 * rng.standard_normal(weight.shape) + (weight.shape.rank == 1))
"""

PROGRAM = """
rows, tokens = batch["input_word_ids"].shape
masked = {**batch, "masked_lm_positions": np.tile(np.arange(tokens, dtype="int32"), (rows, 1))}


def save(name, network, outputs, with_trainer=False, **items):
    fill(network)
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


def first_names(outputs):
    return {"mlm_logits": outputs["masked_lm"], "next_sentence": outputs["classification"]}


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


def pretrainer(heads, **options):
    made = models.BertPretrainerV2(
        encoder(**options), mlm_activation=tanh, classification_heads=heads
    )
    made(masked)
    return made


def head(classes):
    return layers.ClassificationHead(
        inner_dim=33, num_classes=classes, dropout_rate=0.1, name="next_sentence"
    )


def pretraining(made, classifier=None):
    def outputs():
        found = dict(made(masked))
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
made = pretrainer([], activation=tf.nn.relu)
save("two_activations", made, pretraining(made), model=made)
made = pretrainer([], kind=networks.BertEncoder)
save("first_masked_lm", made, pretraining(made), model=made)
for name, pooled in (("classifier", True), ("classifier_with_pooler", False)):
    made = models.BertClassifier(encoder(), num_classes=4, use_encoder_pooler=pooled)
    save(name, made, lambda: {"logits": made(batch)}, model=made)
for name, kind in (("tagger", networks.BertEncoderV2), ("first_tagger", networks.BertEncoder)):
    made = models.BertTokenClassifier(encoder(kind), num_classes=5)
    save(name, made, lambda: made(batch), model=made)
for name, kind in (("span", networks.BertEncoderV2), ("first_span", networks.BertEncoder)):
    made = models.BertSpanLabeler(encoder(kind))
    save(name, made, lambda: dict(zip(("start_logits", "end_logits"), made(batch))), model=made)
made = models.BertPretrainer(
    encoder(networks.BertEncoder, dict_outputs=False), num_classes=2, num_token_predictions=tokens,
    activation=tanh,
)
save("first_pretrainer", made, lambda: first_names(made(masked)), with_trainer=True, model=made)
made = models.BertClassifier(
    encoder(), num_classes=4, cls_head=tf_keras.layers.Dense(4, name="own")
)
save("own_head", made, lambda: {"logits": made(batch)}, model=made)
"""


def run(code, *arguments):
    """Runs a program; the test is skipped where the Model Garden is not installed."""
    pytest.importorskip("tf_keras")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "No module named 'official'" in done.stderr:
        pytest.skip("the Model Garden (tf-models-official) is not installed")
    assert done.returncode == 0, done.stderr[-3000:]


def checkpoints(tmp_path_factory):
    """A folder for each model: checkpoint, outputs.npz, bert_config.json."""
    return _made(tmp_path_factory.getbasetemp() / "model_garden")


@functools.cache  # the test files of one process share it
def _made(folder):
    folder.mkdir(exist_ok=True)
    np.savez(folder / "inputs.npz", **foreign.inputs("pretraining"))
    run(START + PROGRAM, folder)
    for directory in folder.iterdir():
        if directory.is_dir():
            write_config(directory)
    write_config(folder / "erf", model_type="bert")  # Hugging Face's "gelu" is that form
    write_config(folder / "factorised", embedding_size=17)
    (folder / "two_activations" / "bert_config.json").unlink()
    (folder / "two_activations" / "params.yaml").write_text(
        YAML.replace("hidden_activation: gelu", "hidden_activation: relu")
    )
    return folder


def write_config(directory, **changes):
    (directory / "bert_config.json").write_text(json.dumps({**CONFIG, **changes}))


def read(prefix):
    reader = tf.train.load_checkpoint(os.fspath(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
