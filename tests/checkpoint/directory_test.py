"""Whole model directories: written at once, over another, and interrupted."""

import json
import os

import pytest
import transformers

import bert_keras
from bert_keras import checkpoint, files, models
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from bert_keras.text_model import TextModel
from tests.checkpoint import foreign

NAMES = {
    "config.json",
    "model.safetensors",
    "task.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}
TEXTS = ["the film is good", "bad"]


@pytest.fixture
def model():
    network = foreign.randomise(models.Classifier(bert_keras.BertConfig(**foreign.SIZES), 2))
    return TextModel(
        network,
        Tokenizer(Vocabulary(foreign.VOCABULARY)),
        ["bad", "good"],
        "single_label_classification",
        {"task_name": "sst-2", "max_seq_length": 32, "text_columns": 1, "metrics": {"accuracy": 1}},
    )


def test_a_round_trip_keeps_all(model, tmp_path):
    bert_keras.save(model, tmp_path / "model")
    loaded = bert_keras.load(tmp_path / "model")

    assert set(os.listdir(tmp_path / "model")) == NAMES
    assert os.listdir(tmp_path) == ["model"]
    assert loaded.labels == model.labels
    assert loaded.problem_type == model.problem_type
    assert {**model.task, "head": "sequence_classification"} == loaded.task
    assert loaded.max_seq_length == 32
    assert loaded.predict(TEXTS) == model.predict(TEXTS)

    bert_keras.save(loaded, tmp_path / "again")
    for name in NAMES:
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_transformers_pipeline_answers_alike(model, tmp_path):
    bert_keras.save(model, tmp_path / "model")
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path / "model"))
    for found, expected in zip(model.predict(TEXTS), pipeline(TEXTS), strict=True):
        assert found["label"] == expected["label"]
        assert found["probabilities"][found["label"]] == pytest.approx(expected["score"], abs=1e-5)


def test_a_directory_without_our_own_file_has_defaults(model, tmp_path):
    bert_keras.save(model, tmp_path / "model")
    (tmp_path / "model/task.json").unlink()
    loaded = bert_keras.load(tmp_path / "model")
    assert loaded.max_seq_length == foreign.SIZES["max_position_embeddings"]
    assert loaded.setting("threshold") == 0.5
    assert loaded.predict(TEXTS) == model.predict(TEXTS)


def test_writing_into_a_directory_keeps_the_files_of_others(model, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "model.safetensors").write_text("old")
    bert_keras.save(model, tmp_path)
    assert set(os.listdir(tmp_path)) == NAMES | {"metrics.jsonl"}
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"
    assert bert_keras.predict(tmp_path, TEXTS) == model.predict(TEXTS)


@pytest.mark.parametrize("step", range(7))
def test_an_interruption_leaves_the_old_model_or_none(model, tmp_path, monkeypatch, step):
    """Killed before any of the renames: never a mixture of two models."""
    bert_keras.save(model, tmp_path)
    old = {name: (tmp_path / name).read_bytes() for name in NAMES}
    foreign.randomise(model.network, seed=8)
    real, done = os.replace, []

    def replace(source, target):
        if os.path.dirname(target) == str(tmp_path):
            if len(done) == step:
                raise KeyboardInterrupt
            done.append(os.path.basename(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    if step < 6:
        with pytest.raises(KeyboardInterrupt):
            bert_keras.save(model, tmp_path)
        with pytest.raises(InputError, match="holds no config.json"):
            bert_keras.load(tmp_path)
    else:
        bert_keras.save(model, tmp_path)
        assert done[-1] == "config.json"
        assert (tmp_path / "model.safetensors").read_bytes() != old["model.safetensors"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_failed_write_leaves_the_old_model_whole(model, tmp_path, monkeypatch):
    bert_keras.save(model, tmp_path)
    old = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def fail(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", fail)
    with pytest.raises(OSError):
        bert_keras.save(model, tmp_path)
    with pytest.raises(OSError):
        bert_keras.save(model, tmp_path / "new")
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == old
    assert set(os.listdir(tmp_path)) == NAMES


def test_a_file_in_the_way(model, tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(InputError) as error:
        bert_keras.save(model, tmp_path / "model")
    assert str(error.value) == (f"{tmp_path}/model is a file; expected a directory to write into.")


def test_labels_that_do_not_fit_are_refused(model, tmp_path):
    model.labels = ["bad", "fair", "good"]
    with pytest.raises(InputError) as error:
        bert_keras.save(model, tmp_path / "model")
    assert str(error.value) == "3 labels for a network with num_labels=2."
    assert os.listdir(tmp_path) == []


def test_the_vocabulary_of_another_model(model, tmp_path):
    bert_keras.save(model, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).unlink()
    words = foreign.VOCABULARY + ["one", "more"]
    (tmp_path / "model/vocab.txt").write_text("\n".join(words) + "\n")
    with pytest.raises(InputError) as error:
        bert_keras.load(tmp_path / "model")
    assert str(error.value) == (
        f"{tmp_path}/model: the vocabulary has 103 tokens, but the model's token embedding has "
        "vocab_size=101 rows; give the vocabulary that the model was trained with."
    )


def test_a_broken_task_file(model, tmp_path):
    bert_keras.save(model, tmp_path / "model")
    (tmp_path / "model/task.json").write_text(json.dumps({"max_seq_length": 1000}))
    with pytest.raises(InputError) as error:
        bert_keras.load(tmp_path / "model")
    assert str(error.value) == (
        f"{tmp_path}/model/task.json: max_seq_length=1000; expected 3 to 61 tokens."
    )


def test_minilm_opens_as_an_encoder_and_as_a_new_classifier(minilm_dir):
    loaded = bert_keras.load(minilm_dir)
    assert isinstance(loaded.network, models.EncoderModel)
    assert (loaded.labels, loaded.problem_type) == (None, None)

    with pytest.raises(checkpoint.CheckpointMismatch) as error:
        bert_keras.load(minilm_dir, head="sequence_classification", num_labels=2)
    assert str(error.value) == (
        f"{minilm_dir}/model.safetensors does not fit BertForSequenceClassification of "
        f"{minilm_dir}/config.json: missing, the model needs 2 tensors: classifier.weight, "
        "classifier.bias. If that is meant, name them in allow_missing."
    )

    network = models.Classifier(loaded.network.config, 2)
    report = bert_keras.checkpoint.load_encoder_weights(network, minilm_dir)
    assert report.fresh == ("classifier.weight", "classifier.bias")
    assert len(report.loaded) == 103 and report.unused == ()
