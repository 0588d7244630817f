"""Checkpoints of the Model Garden: its own objects with random weights, saved by TensorFlow."""

import json
import os
import shutil

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
from tests.checkpoint import garden as makers
from tests.checkpoint.garden import CONFIG, YAML

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A folder for each model: checkpoint, outputs.npz, bert_config.json."""
    return makers.checkpoints(tmp_path_factory)


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
    "tagger": ("token_classification", {"logits"}),
    "first_tagger": ("token_classification", {"logits"}),
    "span": ("question_answering", {"start_logits", "end_logits"}),
    "first_span": ("question_answering", {"start_logits", "end_logits"}),
    "first_pretrainer": ("pretraining", {"mlm_logits", "next_sentence"}),
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


def test_every_variable_of_the_first_pretrainer_is_read(garden):
    report = model_garden.load_network(garden / "first_pretrainer").report
    assert report.unused == () and report.optimizer > 40
    assert {row[1] for row in report.places if "next_sentence" in row[0]} == {
        f"model/layer_with_weights-1/layer_with_weights-0/{name}" for name in ("kernel", "bias")
    }


def test_a_head_of_ones_own_is_named(garden):
    """BertClassifier(cls_head=...): what it computes is not known from its variables."""
    found = line(model_garden.load_network, garden / "own_head")
    assert "unexpected, the file holds 2 tensors: model/layer_with_weights-1/bias, model/" in found
    ignored = "model/layer_with_weights-1"
    loaded = model_garden.load_network(garden / "own_head", ignore_unexpected=ignored)
    assert loaded.head == "encoder"


def test_a_head_becomes_no_other_kind_of_head(garden):
    for name, head in (("span", "token_classification"), ("tagger", "sequence_classification")):
        with pytest.raises(CheckpointMismatch) as error:
            model_garden.load_network(garden / name, head=head)
        assert error.value.missing == ["classifier/out_proj/kernel", "classifier/out_proj/bias"]
        assert len(error.value.unexpected) == 2


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
