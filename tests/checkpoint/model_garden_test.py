"""Checkpoints of the Model Garden: its own objects with random weights, saved by TensorFlow."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from bert_keras import models
from bert_keras.checkpoint import google, model_garden
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
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
made = pretrainer([], activation=tf.nn.relu)
save("two_activations", made, pretraining(made), model=made)
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
    (folder / "two_activations" / "bert_config.json").unlink()
    (folder / "two_activations" / "params.yaml").write_text(
        YAML.replace("hidden_activation: gelu", "hidden_activation: relu")
    )
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
    "two_activations": ("masked_lm", {"encoder_outputs", "mlm_logits"}),
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


def test_the_pooler_is_the_one_that_was_trained(garden):
    """A pretrainer's encoder has a pooler too, which its loss never reaches."""
    loaded = model_garden.load_network(garden / "pretrainer")
    values = read(garden / "pretrainer/ckpt-1")
    kernel = values["model/classification_heads/0/dense/kernel" + VALUE]
    idle = "model/encoder_network/_pooler_layer/kernel"

    np.testing.assert_array_equal(loaded.network.encoder.pooler.kernel, kernel)
    assert np.abs(kernel - values[idle + VALUE]).max() > 0.1
    assert set(loaded.report.unused) == {idle, idle.replace("kernel", "bias")}


def test_a_trainers_slots_are_counted_and_not_read(garden):
    report = model_garden.load_network(garden / "pretrainer").report
    values = read(garden / "pretrainer/ckpt-1")
    assert set(report.loaded) | set(report.unused) == {
        name.removesuffix(VALUE) for name in values if name.startswith("model/")
    }
    assert report.optimizer == len(values) - 1 - len(report.loaded) - len(report.unused) > 40


def test_the_encoder_of_a_pretrainer(garden):
    loaded = model_garden.load_network(
        garden / "pretrainer",
        head="encoder",
        ignore_unexpected=["model/masked_lm", "model/classification_heads"],
    )
    found = outputs(loaded.network, "encoder")
    difference, compared = largest_difference(found, garden / "pretrainer")
    assert {"encoder_outputs", "pooled_output"} <= compared
    assert difference < TOLERANCE


def test_lora_and_unpadding_on_folded_kernels(garden):
    loaded = model_garden.load_network(garden / "pretrainer", lora_rank=2, unpad=True)
    assert loaded.network.encoder.unpad
    found = outputs(loaded.network, "pretraining")
    assert largest_difference(found, garden / "pretrainer")[0] < TOLERANCE


# --- configs ------------------------------------------------------------------------------------


def test_the_params_of_a_run_are_a_config(copy):
    directory = copy("pretrainer")
    (directory / "bert_config.json").unlink()
    (directory / "params.yaml").write_text(YAML)
    loaded = model_garden.load_network(directory)
    assert loaded.network.config.hidden_act == "gelu_new"
    assert largest_difference(outputs(loaded.network, "pretraining"), directory)[0] < TOLERANCE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("norm_first: false", "norm_first: true", "norm_first=True changes what the encoder"),
        ("mlm_activation: gelu", "mlm_activation: null", "mlm_activation=None, a head without"),
        ("mlm_activation: gelu", "mlm_activation: swish", "`masked_lm_act` must be one of"),
        ("hidden_activation: gelu", "hidden_activation: swish", "`hidden_act` must be one of"),
        ("activation: tanh", "activation: relu", "a classification head's activation='relu'"),
        ("      type: bert\n      bert:", "      type: albert\n      albert:", "is 'albert'; exp"),
        ("num_layers", "num_layer", "unknown key 'num_layer'"),
        ("num_layers: 2", "num_layers: two", "`num_hidden_layers` must be an integer"),
        ("cls_heads:", "cls_heads: [", "not YAML (while parsing"),
        ("runtime: {}", "runtime: !!python/object/apply:os.system [true]", "not YAML (could not"),
        ("task:", "tasks:", "it says no encoder"),
    ],
)
def test_params_of_what_is_not_computed(garden, tmp_path, old, new, said):
    path = tmp_path / "params.yaml"
    path.write_text(YAML.replace(old, new))
    found = line(model_garden.load_network, garden / "pretrainer", config_file=path)
    assert found.startswith(f"{path}: ") and said in found


def test_no_config(copy):
    directory = copy("encoder")
    (directory / "bert_config.json").unlink()
    assert line(model_garden.load_network, directory) == (
        f"{directory}/ckpt: neither bert_config.json nor params.yaml is beside it, and the "
        "variables do not say which GELU is computed; put one there or name it as config_file."
    )


# --- faults -------------------------------------------------------------------------------------

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def line(call, *arguments, **named):
    """The one line of an InputError."""
    with pytest.raises(InputError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def read(prefix):
    reader = tf.train.load_checkpoint(os.fspath(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def rewrite(prefix, change):
    """The same checkpoint with other values, its graph of objects included."""
    values = read(prefix)
    change(values)
    names = sorted(values)
    tf.raw_ops.SaveV2(
        prefix=os.fspath(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
    )


def test_a_variable_missing_one_more_and_one_of_another_shape(copy):
    directory = copy("pretrainer")
    block = "model/encoder_network/_transformer_layers/1/"
    attention = f"{block}_attention_layer/"

    def change(values):
        values.pop(f"{block}_output_dense/bias{VALUE}")
        values[f"model/adapter/kernel{VALUE}"] = np.ones((2, 2), "float32")
        values[f"{attention}_query_dense/kernel{VALUE}"] = np.ones((33, 11, 3), "float32")

    rewrite(directory / "ckpt-1", change)
    with pytest.raises(CheckpointMismatch) as error:
        model_garden.load_network(directory)

    assert error.value.missing == [f"{block}_output_dense/bias"]
    assert error.value.unexpected == ["model/adapter/kernel"]
    assert error.value.misshaped == {f"{attention}_query_dense/kernel": ((33, 11, 3), (33, 3, 11))}


def test_a_variable_that_is_not_finite(copy):
    directory = copy("encoder")
    name = "encoder/_transformer_layers/0/_attention_layer/_value_dense/bias"
    rewrite(directory / "ckpt", lambda values: values[name + VALUE].fill(np.nan))
    assert line(model_garden.load_network, directory) == (
        f"{directory}/ckpt: {name} holds NaN or infinity; the training that wrote it failed. Take "
        "an earlier checkpoint."
    )


def test_heads_that_are_wanted_but_absent(garden):
    with pytest.raises(CheckpointMismatch) as error:
        model_garden.load_network(garden / "encoder", head="pretraining")
    assert error.value.missing == [
        "masked_lm/dense/kernel",
        "masked_lm/dense/bias",
        "masked_lm/layer_norm/gamma",
        "masked_lm/layer_norm/beta",
        "masked_lm/bias",
        "classifier/out_proj/kernel",
        "classifier/out_proj/bias",
    ]
    loaded = model_garden.load_network(
        garden / "encoder", head="token_classification", num_labels=3, allow_missing="classifier"
    )
    assert loaded.report.fresh == ("classifier/out_proj/kernel", "classifier/out_proj/bias")


@pytest.mark.parametrize("graph", [b"", b"\xff\xff\xff", b"\x0a\x06\x0a\x04\x08\x63\x12\x00"])
def test_a_damaged_graph_of_objects(copy, graph):
    directory = copy("encoder")

    def change(values):
        values[GRAPH] = np.array(graph, object)

    rewrite(directory / "ckpt", change)
    found = line(model_garden.load_network, directory)
    assert found.startswith(f"{directory}/ckpt: ")
    assert "object graph is damaged" in found or "expected the objects of one BertEnc" in found


def test_damaged_files(copy):
    directory = copy("encoder")
    data = next(directory.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    assert "truncated? Copy or download it again." in line(model_garden.load_network, directory)
    index = directory / "ckpt.index"
    index.write_bytes(index.read_bytes()[:300])
    call = model_garden if model_garden.is_checkpoint(directory) else google
    assert "damaged index of a TensorFlow checkpoint" in line(call.load_network, directory)


def test_a_checkpoint_of_the_other_kind(garden, tmp_path):
    assert "read it as one of the Model Garden." in line(google.load_network, garden / "encoder")
    google.save_network(models.EncoderModel(BertConfig.from_google_dict(CONFIG)), tmp_path)
    assert not model_garden.is_checkpoint(tmp_path)
    assert "read it as one of google-research/bert." in line(model_garden.load_network, tmp_path)


def test_a_checkpoint_of_something_else(tmp_path):
    tf.train.Checkpoint(step=tf.Variable(3.0)).write(str(tmp_path / "ckpt"))
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG))
    assert line(model_garden.load_network, tmp_path) == (
        f"{tmp_path}/ckpt: expected the objects of one BertEncoderV2 or BertEncoder of the Model "
        "Garden; it holds 1 tensor: step."
    )


# --- the encoder alone --------------------------------------------------------------------------


def test_the_encoder_alone_for_a_new_head(garden):
    network = models.TokenTagger(BertConfig.from_google_dict(CONFIG), 3)
    report = model_garden.load_encoder(network, garden / "pretrainer")
    assert report.fresh == ("classifier/out_proj/kernel", "classifier/out_proj/bias")
    assert "model/masked_lm/embedding_table" in report.loaded
    assert "model/masked_lm/dense/kernel" in report.unused
    assert report.optimizer > 40

    network = models.EncoderModel(BertConfig.from_google_dict(CONFIG))
    report = model_garden.load_encoder(network, garden / "pretrainer")
    assert "model/classification_heads/0/dense/kernel" in report.loaded
    difference, compared = largest_difference(outputs(network, "encoder"), garden / "pretrainer")
    assert {"encoder_outputs", "pooled_output"} <= compared and difference < TOLERANCE
