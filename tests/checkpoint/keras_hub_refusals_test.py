"""What is not read of a KerasHub preset, and what one cannot say: by name, in one line."""

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from bert_keras import models
from bert_keras.checkpoint import keras_hub
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from tests.checkpoint import keras_hub_models

QUERY = "layers/transformer_encoder/_self_attention_layer/query_dense/vars/0"


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Each head's model and the directory it was saved to."""
    return keras_hub_models.presets(tmp_path_factory)


@pytest.fixture
def copy(presets, tmp_path):
    return lambda head: shutil.copytree(presets.folder / head, tmp_path / head)


def edit(directory, change, name="model.weights.h5"):
    with h5py.File(directory / name, "r+") as file:
        change(file)


def replaced(file, key, value):
    del file[key]
    file[key] = value


def test_a_missing_an_extra_and_a_misshaped_dataset_are_named(copy):
    directory = copy("encoder")
    edit(directory, lambda file: file.__delitem__(QUERY))
    with pytest.raises(CheckpointMismatch) as error:
        keras_hub.load_network(directory)
    assert error.value.missing == [QUERY]
    assert f"missing, the model needs 1 tensor: {QUERY}" in str(error.value)
    assert "\n" not in str(error.value)
    loaded = keras_hub.load_network(directory, allow_missing=[QUERY])
    assert loaded.report.fresh == (QUERY,)

    edit(directory, lambda file: file.create_dataset(QUERY, data=np.zeros((33, 33), "float32")))
    with pytest.raises(CheckpointMismatch) as error:
        keras_hub.load_network(directory)
    assert error.value.misshaped == {QUERY: ((33, 33), (33, 3, 11))}
    assert f"{QUERY} [33, 33] where the model needs [33, 3, 11]" in str(error.value)

    edit(directory, lambda file: replaced(file, QUERY, np.zeros((33, 3, 11), "float32")))
    edit(directory, lambda file: file.create_dataset("layers/dense_1/vars/0", data=[1.0]))
    with pytest.raises(CheckpointMismatch, match=r"unexpected.*layers/dense_1/vars/0.*ignore_unex"):
        keras_hub.load_network(directory)
    loaded = keras_hub.load_network(directory, ignore_unexpected=["layers/dense_1"])
    assert loaded.report.unused == ("layers/dense_1/vars/0",)


def test_a_head_that_is_wanted_and_not_there_is_named(presets):
    with pytest.raises(CheckpointMismatch) as error:
        keras_hub.load_network(presets.folder / "encoder", head="sequence_classification")
    assert error.value.missing == ["task/layers/dense/vars/0", "task/layers/dense/vars/1"]
    loaded = keras_hub.load_network(
        presets.folder / "encoder",
        head="sequence_classification",
        num_labels=4,
        allow_missing=["task"],
    )
    assert loaded.network.num_labels == 4
    with pytest.raises(CheckpointMismatch, match=r"unexpected, the file holds 5 tensors: task/"):
        keras_hub.load_network(presets.folder / "masked_lm", head="encoder")
    with pytest.raises(InputError, match="KerasHub's BERT has no head='question_answering'"):
        keras_hub.load_network(presets.folder / "masked_lm", head="question_answering")


def test_nan_is_refused_by_name(copy):
    directory = copy("sequence_classification")
    bad = np.full((33, 5), np.nan, "float32")
    edit(directory, lambda file: replaced(file, "layers/dense/vars/0", bad), "task.weights.h5")
    with pytest.raises(InputError, match=r"task\.weights\.h5: task/layers/dense/vars/0 holds NaN"):
        keras_hub.load_network(directory)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("config.json", '"BertBackbone"', '"RobertaBackbone"', "describes a RobertaBackbone; only"),
        ("config.json", '"num_heads": 3', '"num_heads": 5', "`num_attention_heads` must divide"),
        ("config.json", '"num_heads": 3', '"heads": 3', "unknown key 'heads'"),
        ("config.json", '"dropout": 0.2', '"dropout": "x"', "must be a rate"),
        ("config.json", '"vocabulary_size": 101', '"vocabulary_size": 9000000', "not of one model"),
        ("task.json", '"BertMaskedLM"', '"GemmaCausalLM"', "describes a GemmaCausalLM; expected"),
        ("task.json", "{", "[", "not JSON"),
    ],
)
def test_a_config_of_something_else_is_refused(copy, name, old, new, message):
    directory = copy("masked_lm")
    path = directory / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        keras_hub.load_network(directory)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_hostile_weight_files_are_refused(copy, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((33, 3, 11), "float32")
    big = np.zeros((33, 3, 11), "float32")

    def external(file):
        del file[QUERY]
        file[QUERY] = h5py.ExternalLink(str(other), "/x")

    def soft(file):
        del file[QUERY]
        file[QUERY] = h5py.SoftLink("/layers")

    def raw_outside(file):
        del file[QUERY]
        size = big.nbytes
        file.create_dataset(QUERY, big.shape, "float32", external=[(str(other), 0, size)])

    def bomb(file):
        file.create_dataset("x", (1 << 20, 1 << 12), "float32", chunks=True, compression="gzip")

    def hollow(file):
        file.create_dataset("x", (1 << 30, 1 << 12), "float32")

    def text(file):
        replaced(file, QUERY, np.full((33, 3, 11), b"x"))

    for change, message in (
        (external, "is a link to another place"),
        (soft, "is a link to another place"),
        (raw_outside, "lies in another file"),
        (bomb, "is compressed or not whole"),
        (hollow, "is compressed or not whole"),
        (text, "weights are read from float32"),
    ):
        directory = copy("encoder")
        edit(directory, change)
        with pytest.raises(InputError, match=message):
            keras_hub.load_network(directory)
        shutil.rmtree(directory)
    directory = copy("encoder")
    weights = directory / "model.weights.h5"
    whole = weights.read_bytes()
    for data in (whole[:1000], whole[: len(whole) // 2], b"", b"PK\x03\x04" + whole):
        weights.write_bytes(data)
        with pytest.raises(InputError, match=r"damaged HDF5 file"):
            keras_hub.load_network(directory)
    weights.unlink()
    with pytest.raises(InputError, match="no such file; expected the weights of a KerasHub preset"):
        keras_hub.load_network(directory)


# --- what KerasHub cannot express ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-5),
        ("embedding_size", 17),
        ("pad_token_id", 1),
        ("attention_probs_dropout_prob", 0.3),
    ],
)
def test_a_number_that_the_backbone_cannot_say_is_refused_by_name(tmp_path, field, value):
    config = BertConfig.from_size("tiny", vocab_size=101, hidden_act="gelu_new")
    network = models.EncoderModel(dataclasses.replace(config, **{field: value}))
    with pytest.raises(InputError, match=f"KerasHub's BertBackbone has no way to say {field}="):
        keras_hub.save_network(network, tmp_path)
    assert not list(tmp_path.iterdir())


def test_heads_that_keras_hub_has_not_are_refused_by_name(tmp_path):
    config = BertConfig.from_size("tiny", vocab_size=101, hidden_act="gelu_new")
    for network, head in (
        (models.TokenTagger(config, 3), "token_classification"),
        (models.SpanPredictor(config), "question_answering"),
        (models.MultipleChoice(config), "multiple_choice"),
        (models.Pretrainer(config), "pretraining"),
    ):
        with pytest.raises(InputError, match=f"KerasHub has no BERT with head='{head}'"):
            keras_hub.save_network(network, tmp_path)
    with pytest.raises(InputError, match=r"left_to_right=True"):
        keras_hub.save_network(models.EncoderModel(config, left_to_right=True), tmp_path)
    message = "head of BertMaskedLM has no way to say masked_lm_act='gelu_new'"
    with pytest.raises(InputError, match=message):
        keras_hub.save_network(models.Pretrainer(config), tmp_path, head="masked_lm")
    assert not list(tmp_path.iterdir())
