"""Model Garden checkpoints and params that are damaged, or of something that is not computed."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from bert_keras import models
from bert_keras.checkpoint import google, model_garden
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
from tests.checkpoint import garden as makers
from tests.checkpoint.foreign import line
from tests.checkpoint.garden import CONFIG, VALUE, YAML, read

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A folder for each model: checkpoint, outputs.npz, bert_config.json."""
    return makers.checkpoints(tmp_path_factory)


@pytest.fixture
def copy(garden, tmp_path):
    """Copies one folder, for a test that changes it."""
    return lambda name: shutil.copytree(garden / name, tmp_path / name)


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
