"""KerasHub presets: what keras_hub saves is read, and what is written keras_hub opens."""

import dataclasses
import json
import shutil

import h5py
import keras
import numpy as np
import pytest

import bert_keras
from bert_keras import models
from bert_keras.checkpoint import keras_hub, keras_hub_files, keras_hub_map
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.taps import Taps
from tests.checkpoint import foreign, keras_hub_models
from tests.checkpoint.keras_hub_models import HEADS, hub, theirs

TOLERANCE = 1e-5


def batch_of(head):
    batch = foreign.inputs(head)
    if head == "masked_lm":
        rows, tokens = batch["token_ids"].shape
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (rows, 1))
    return batch


def their_outputs(made, head):
    batch = batch_of(head)
    positions = batch.pop("masked_positions", None)
    backbone = made if head == "encoder" else made.backbone
    layers = [backbone.embeddings_layer_norm, *backbone.transformer_layers]
    tapped = keras.Model(backbone.inputs, [layer.output for layer in layers])
    states = tapped([batch[each.name] for each in backbone.inputs], training=False)
    outputs = {f"hidden_states/{i}": state for i, state in enumerate(states)}
    outputs |= backbone(batch, training=False)
    if head == "sequence_classification":
        outputs["logits"] = made(batch, training=False)
    if head == "masked_lm":
        outputs["masked_lm_logits"] = made({**batch, "mask_positions": positions}, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def our_outputs(network, head):
    outputs = network(batch_of(head), taps=Taps(outputs=("hidden_states",)), training=False)
    outputs |= {f"hidden_states/{i}": s for i, s in enumerate(outputs.pop("hidden_states"))}
    outputs |= {"sequence_output": outputs["hidden_states/2"]}
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda key, item: found.update({key: item[...]}) if hasattr(item, "shape") else None
        )
    return {key: value for key, value in found.items() if not key.startswith("optimizer/")}


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Each head's model and the directory it was saved to."""
    return keras_hub_models.presets(tmp_path_factory)


@pytest.fixture
def copy(presets, tmp_path):
    return lambda head: shutil.copytree(presets.folder / head, tmp_path / head)


@pytest.mark.parametrize("head", HEADS)
def test_a_preset_is_read_and_computes_what_keras_hub_computes(presets, head):
    loaded = keras_hub.load_network(presets.folder / head)
    assert loaded.head == head
    assert (loaded.report.fresh, loaded.report.unused) == ((), ())
    expected = their_outputs(presets.models[head], head)
    found = our_outputs(loaded.network, head)
    real = foreign.inputs(head)["padding_mask"].astype(bool)
    compared = set()
    for name in expected.keys() & found.keys():
        ours, other = found[name], expected[name]
        if ours.shape[:2] == real.shape:
            ours, other = ours[real], other[real]
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(ours, other, rtol=0, atol=TOLERANCE * scale, err_msg=name)
        compared.add(name)
    last = {"encoder": "pooled_output", "masked_lm": "masked_lm_logits"}.get(head, "logits")
    assert compared >= {"hidden_states/0", "hidden_states/1", "hidden_states/2", last}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_written_back_keras_hub_opens_with_equal_bits(presets, tmp_path, head):
    loaded = keras_hub.load_network(presets.folder / head)
    said = {"head": head, "labels": loaded.labels, "problem_type": loaded.problem_type}
    keras_hub.save_network(loaded.network, tmp_path, **said)
    again = getattr(hub, HEADS[head]).from_preset(
        str(tmp_path), **({} if head == "encoder" else {"preprocessor": None})
    )
    before = presets.models[head].weights
    assert len(again.weights) == len(before) > 30
    for old, new in zip(before, again.weights, strict=True):
        assert np.array_equal(old, new), old.path
    for name in ("model.weights.h5", "task.weights.h5"):
        if (tmp_path / name).exists() or (presets.folder / head / name).exists():
            old, new = datasets(presets.folder / head / name), datasets(tmp_path / name)
            assert old.keys() == new.keys()
            assert all(old[key].tobytes() == new[key].tobytes() for key in old)


def test_the_numbers_of_a_preset_are_kept(presets, tmp_path):
    loaded = keras_hub.load_network(presets.folder / "sequence_classification")
    config = loaded.network.config
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu_new", 1e-12)
    assert (config.type_vocab_size, config.max_position_embeddings) == (3, 61)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.2, 0.2)
    assert config.classifier_dropout == 0.3
    keras_hub.save_network(loaded.network, tmp_path, problem_type=loaded.problem_type)
    assert keras_hub.load_network(tmp_path).network.config == config
    masked = keras_hub.load_network(presets.folder / "masked_lm").network.config
    assert (masked.masked_lm_act, masked.masked_lm_layer_norm_eps) == ("gelu", 1e-5)


def test_the_last_activation_of_a_classifier_says_what_the_logits_mean(copy, tmp_path):
    directory = copy("sequence_classification")
    task = directory / "task.json"
    values = json.loads(task.read_text())
    for activation, expected in (
        ("linear", "single_label_classification"),
        ("softmax", "single_label_classification"),
        ("sigmoid", "multi_label_classification"),
    ):
        values["config"]["activation"] = activation
        task.write_text(json.dumps(values))
        assert keras_hub.load_network(directory).problem_type == expected
    loaded = keras_hub.load_network(directory)
    (tmp_path / "new").mkdir()
    keras_hub.save_network(loaded.network, tmp_path / "new", problem_type=loaded.problem_type)
    assert keras_hub.load_network(tmp_path / "new").problem_type == loaded.problem_type
    values["config"]["activation"] = "relu"
    task.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"task\.json: activation='relu'; expected one of linear"):
        keras_hub.load_network(directory)


@pytest.mark.parametrize(
    ("num_labels", "problem_type", "activation"),
    [
        (1, "regression", "linear"),
        (1, "single_label_classification", "softmax"),
        (1, "multi_label_classification", "sigmoid"),
        (3, "single_label_classification", "linear"),
    ],
)
def test_every_kind_of_problem_survives(tmp_path, num_labels, problem_type, activation):
    config = BertConfig(**foreign.SIZES, hidden_act="gelu_new")
    network = models.Classifier(config, num_labels)
    keras_hub.save_network(network, tmp_path, problem_type=problem_type)
    made = hub.BertTextClassifier.from_preset(str(tmp_path), preprocessor=None)
    assert keras.activations.serialize(made.activation) == activation
    loaded = keras_hub.load_network(tmp_path)
    assert (len(loaded.labels), loaded.problem_type) == (num_labels, problem_type)


def test_bfloat16_weights_keep_their_bits(tmp_path):
    made = theirs("encoder", dtype="bfloat16")
    made.save_to_preset(str(tmp_path / "theirs"))
    loaded = keras_hub.load_network(tmp_path / "theirs", dtype="bfloat16")
    (tmp_path / "ours").mkdir()
    keras_hub.save_network(loaded.network, tmp_path / "ours")
    old, new = (datasets(tmp_path / each / "model.weights.h5") for each in ("theirs", "ours"))
    assert {value.dtype.itemsize for value in old.values()} == {2}
    assert all(old[key].tobytes() == new[key].tobytes() for key in old)


# --- a model with its vocabulary -----------------------------------------------------------------


def test_the_library_reads_and_writes_presets_whole(presets, tmp_path):
    model = bert_keras.load(presets.folder / "sequence_classification")
    answers = model.predict(["the film is good", ["the film", "is bad"]])
    assert model.labels == [f"LABEL_{i}" for i in range(5)]
    bert_keras.save(model, tmp_path / "preset", format="keras_hub")
    again = bert_keras.load(tmp_path / "preset")
    assert again.tokenizer.vocabulary.tokens == tuple(foreign.VOCABULARY)
    assert again.tokenizer.lower_case
    assert again.predict(["the film is good", ["the film", "is bad"]]) == answers
    theirs_again = hub.BertTextClassifier.from_preset(str(tmp_path / "preset"))
    ids = theirs_again.preprocessor(["The film is Good"])["token_ids"]
    expected = model.tokenizer.encode("The film is Good").token_ids
    assert np.array(ids)[0, : len(expected)].tolist() == expected
    found = theirs_again.predict(["the film is good"], verbose=0)
    np.testing.assert_allclose(found[0], answers[0]["logits"], atol=1e-4)
    bert_keras.save(model, tmp_path / "preset", format="keras_hub")  # over itself
    again = bert_keras.load(tmp_path / "preset")
    assert again.predict(["the film is good", ["the film", "is bad"]]) == answers


def test_an_encoder_is_filled_from_a_preset_with_another_head(presets):
    config, left_to_right = bert_keras.checkpoint.read_encoder_config(presets.folder / "masked_lm")
    assert not left_to_right
    network = models.Classifier(config, 2)
    report = bert_keras.checkpoint.load_encoder_weights(network, presets.folder / "masked_lm")
    assert report.fresh == ("task/layers/dense/vars/0", "task/layers/dense/vars/1")
    assert len(report.unused) == 5
    table = presets.models["masked_lm"].backbone.token_embedding.embeddings
    assert np.array_equal(network.encoder.embeddings.token_embedding, table)
    with pytest.raises(InputError, match=r"hidden_act='gelu_new', but the network was built"):
        wrong = models.TokenTagger(dataclasses.replace(config, hidden_act="gelu"), 2)
        bert_keras.checkpoint.load_encoder_weights(wrong, presets.folder / "masked_lm")


def test_a_tokenizer_of_another_kind_is_refused(copy):
    directory = copy("masked_lm")
    path = directory / "tokenizer.json"
    values = json.loads(path.read_text())
    for name, value in (("split", False), ("suffix_indicator", "@@")):
        changed = {**values, "config": {**values["config"], name: value}}
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=rf"tokenizer\.json: {name}="):
            keras_hub.load_tokenizer(directory)
    (directory / "assets/tokenizer/vocabulary.txt").unlink()
    with pytest.raises(InputError, match="no such file; a vocabulary"):
        keras_hub.load_tokenizer(directory)


def test_a_handle_is_fetched_by_keras_hubs_own_downloader(presets, monkeypatch):
    from keras_hub.src.utils import preset_utils

    asked = []

    def get_file(handle, name):
        asked.append(name)
        path = presets.folder / "sequence_classification" / name
        if not path.exists():
            raise FileNotFoundError(name)
        return str(path)

    monkeypatch.setattr(preset_utils, "get_file", get_file)
    handle = "kaggle://owner/bert/keras/tiny"
    assert bert_keras.checkpoint.resolve(handle) == presets.folder / "sequence_classification"
    assert {"model.weights.h5", "task.weights.h5", "assets/tokenizer/vocabulary.txt"} <= {*asked}

    def fails(handle, name):
        raise ValueError("no\nnetwork")

    monkeypatch.setattr(preset_utils, "get_file", fails)
    with pytest.raises(InputError, match=r"^kaggle://.*: the download failed \(no network\)"):
        keras_hub_files.download(handle)


def test_every_dataset_has_one_place(presets):
    for head in HEADS:
        network = keras_hub.load_network(presets.folder / head).network
        slots = keras_hub_map.network_slots(network, head)
        assert len({slot.name for slot in slots.values()}) == len(slots)
