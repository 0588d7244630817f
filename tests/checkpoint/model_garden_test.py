"""Checkpoints of the Model Garden: its own objects with random weights, saved by TensorFlow."""

import shutil

import keras
import numpy as np
import pytest

from bert_keras import models
from bert_keras.checkpoint import google, model_garden
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
from bert_keras.taps import Taps
from tests.checkpoint import foreign
from tests.checkpoint import garden as makers
from tests.checkpoint.foreign import line
from tests.checkpoint.garden import CONFIG, VALUE, YAML, read

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


def test_the_params_of_a_run_are_a_config(copy):
    directory = copy("pretrainer")
    (directory / "bert_config.json").unlink()
    (directory / "params.yaml").write_text(YAML)
    loaded = model_garden.load_network(directory)
    assert loaded.network.config.hidden_act == "gelu_new"
    assert largest_difference(outputs(loaded.network, "pretraining"), directory)[0] < TOLERANCE


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
