"""From texts to answers, and the three names that a user of the library starts with."""

import doctest
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
import transformers

import bert_keras
from bert_keras import models, prediction
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from bert_keras.text_model import TextModel, check_task, check_vocabulary
from tests.checkpoint import foreign

ROOT = pathlib.Path(__file__).parents[1]

# Lengths from 2 to 20 tokens, in no order; the last two are no text at all.
TEXTS = [
    "the film is good",
    "bad",
    "the film is bad the film is bad the film is bad the film is bad the film",
    "good good good good",
    "zebra film",
    "The FILM, is good!",
    "",
    " \t\n",
]
PAIRS = [("the film", "is good"), ("bad film is bad", "the"), ("good", "the film is the film")]


def classifier(num_labels=3, **settings):
    network = foreign.randomise(
        models.Classifier(bert_keras.BertConfig(**foreign.SIZES), num_labels)
    )
    labels = ["bad", "fair", "good"] if num_labels == 3 else None
    kind = "regression" if num_labels == 1 else "single_label_classification"
    tokenizer = Tokenizer(Vocabulary(foreign.VOCABULARY))
    return TextModel(network, tokenizer, labels, kind, settings)


def expected_logits(model, texts, tmp_path):
    """Of transformers' tokenizer and model, one text at a time: no padding, no batch."""
    bert_keras.save(model, tmp_path / "model")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = []
    for text in texts:
        pair = (text,) if isinstance(text, str) else text
        tokens = tokenizer(*pair, return_tensors="pt", truncation=True, max_length=61)
        with torch.no_grad():
            rows.append(network.eval()(**tokens).logits[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_answers_are_transformers_answers_in_the_order_given(texts, batch_size, tmp_path):
    model = classifier()

    answers = model.predict(texts, batch_size=batch_size)

    expected = expected_logits(model, texts, tmp_path)
    np.testing.assert_allclose([each["logits"] for each in answers], expected, atol=1e-5)
    probabilities = torch.softmax(torch.tensor(expected), -1).numpy()
    for answer, logits, p in zip(answers, expected, probabilities, strict=True):
        assert answer["label"] == ["bad", "fair", "good"][logits.argmax()]
        assert list(answer["probabilities"]) == ["bad", "fair", "good"]
        np.testing.assert_allclose(list(answer["probabilities"].values()), p, atol=1e-6)
        assert list(answer) == ["label", "probabilities", "logits"]
    assert json.loads(json.dumps(answers)) == answers


def test_several_labels_at_once():
    model = classifier(threshold=0.25)
    model.problem_type = "multi_label_classification"
    for answer in model.predict(TEXTS):
        p = 1 / (1 + np.exp(-np.array(answer["logits"])))
        np.testing.assert_allclose(list(answer["probabilities"].values()), p, rtol=1e-12)
        assert answer["labels"] == [
            name for name, each in zip(["bad", "fair", "good"], p, strict=True) if each >= 0.25
        ]


def test_a_number():
    model = classifier(num_labels=1)
    batch = {name: value[:1] for name, value in foreign.inputs("sequence_classification").items()}
    assert model.network(batch)["logits"].shape == (1, 1)
    answers = model.predict(["the film", "good"])
    assert [list(answer) for answer in answers] == [["score"], ["score"]]
    assert answers[0]["score"] != answers[1]["score"]


def test_padding_is_to_the_longest_of_a_batch_of_like_lengths(monkeypatch):
    model, shapes = classifier(), []
    run = prediction.predict_logits

    def spy(network, batches):
        batches = list(batches)
        shapes.extend(batch["token_ids"].shape for batch in batches)
        return run(network, batches)

    monkeypatch.setattr(prediction, "predict_logits", spy)
    model.predict(["good " * n for n in (9, 1, 5, 2, 8, 1)], batch_size=2)

    assert sorted(shapes) == [(2, 3), (2, 7), (2, 11)]


def test_what_is_too_long_is_cut_at_the_end(tmp_path):
    model = classifier(max_seq_length=10)
    long, cut = model.predict(["good " * 8 + "bad " * 100, "good " * 8])
    np.testing.assert_allclose(long["logits"], cut["logits"], atol=1e-6)
    assert classifier().max_seq_length == 61
    (answer,) = classifier().predict(["good " * 10_000])
    assert np.isfinite(answer["logits"]).all()


def test_nothing_in_nothing_out():
    assert classifier().predict([]) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800 film", "\uffff", "film\n\nfilm", "x" * 1_000_000])
def test_no_text_breaks_it(text):
    (answer,) = classifier().predict([text])
    assert np.isfinite(answer["logits"]).all()


@pytest.mark.parametrize(
    ("texts", "settings", "expected"),
    [
        ("film", {}, "predict takes a list of texts, and got one string; write [text]."),
        (["film", 7], {}, "text 1 must be a string or a pair of strings, got 7."),
        (
            [("a", "b", "c")],
            {},
            "text 0 must be a string or a pair of strings, got ('a', 'b', 'c').",
        ),
        ([None], {}, "text 0 must be a string or a pair of strings, got None."),
        (["film"], {"text_columns": 2}, "text 0: this model takes two texts, a pair, got 1."),
        ([("a", "b")], {"text_columns": 1}, "text 0: this model takes one text, got 2."),
    ],
)
def test_what_is_no_text_is_one_line(texts, settings, expected):
    with pytest.raises(InputError) as error:
        classifier(**settings).predict(texts)
    assert str(error.value) == expected


def test_an_encoder_has_no_answer():
    model = classifier()
    model.network, model.problem_type = models.EncoderModel(model.network.config), None
    with pytest.raises(InputError) as error:
        model.predict(["film"])
    assert str(error.value) == (
        "EncoderModel has no answer to a text; predict needs a fine-tuned head. Fine-tune one, or "
        "load with head='sequence_classification' or another."
    )


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ([], "expected a JSON object, got list."),
        ({"max_seq_length": 62}, "max_seq_length=62; expected 3 to 61 tokens."),
        ({"max_seq_length": "9"}, "max_seq_length='9'; expected 3 to 61 tokens."),
        ({"text_columns": 3}, "text_columns=3; expected 1 or 2."),
        ({"threshold": 2}, "threshold=2; expected a number in [0, 1]."),
    ],
)
def test_a_task_file_that_cannot_be_followed(task, expected):
    with pytest.raises(InputError) as error:
        check_task(task, bert_keras.BertConfig(**foreign.SIZES), "task.json")
    assert str(error.value) == f"task.json: {expected}"


@pytest.mark.parametrize(("rows", "fits"), [(100, False), (101, True), (128, True), (229, False)])
def test_a_vocabulary_of_the_wrong_size(rows, fits):
    config = bert_keras.BertConfig(**{**foreign.SIZES, "vocab_size": rows})
    tokenizer = Tokenizer(Vocabulary(foreign.VOCABULARY))
    if fits:
        check_vocabulary(tokenizer, config, "model")
        return
    with pytest.raises(InputError) as error:
        check_vocabulary(tokenizer, config, "model")
    assert str(error.value) == (
        "model: the vocabulary has 101 tokens, but the model's token embedding has vocab_size="
        f"{rows} rows; give the vocabulary that the model was trained with."
    )


def test_the_examples_in_the_docstrings():
    found = doctest.testmod(bert_keras)
    assert found.attempted > 5
    assert not found.failed


def test_names_are_there_and_no_others():
    for name in bert_keras.__all__:
        assert getattr(bert_keras, name) is not None
        assert name in dir(bert_keras)
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        _ = bert_keras.loda


def test_importing_the_package_loads_no_framework():
    heavy = "{'keras', 'tensorflow', 'torch', 'jax', 'transformers', 'numpy'}"
    code = f"import sys, bert_keras; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_load_and_predict_alike_without_tensorflow(backend, tmp_path):
    if backend == keras.backend.backend():
        pytest.skip("this is the backend of the test itself")
    model = classifier()
    bert_keras.save(model, tmp_path / "model")
    code = (
        "import json, sys\n"
        "sys.modules['tensorflow'] = None  # an import of it fails\n"
        "import bert_keras, keras\n"
        "directory, texts = sys.argv[1], json.loads(sys.argv[2])\n"
        "answers = bert_keras.predict(directory, texts)\n"
        "bert_keras.save(bert_keras.load(directory), directory + '-again')\n"
        "print(keras.backend.backend(), json.dumps(answers), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model"), json.dumps(TEXTS)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    used, answers = done.stdout.splitlines()
    assert used == backend
    for found, expected in zip(json.loads(answers), model.predict(TEXTS), strict=True):
        assert found["label"] == expected["label"]
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
    for path in (tmp_path / "model").iterdir():
        assert (tmp_path / "model-again" / path.name).read_bytes() == path.read_bytes()
