"""Words for [MASK], against transformers' pipeline on the same weights."""

import json

import keras
import numpy as np
import pytest

from bert_keras import checkpoint
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.models import Classifier, Pretrainer
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel
from tools import command

TEXTS = ["the [MASK] was good", "[MASK] saw a [MASK] of the bank .", "very [MASK]"]


@pytest.fixture
def model(tmp_path, tiny_vocab_file):
    """A model directory with both heads, and random weights that differ enough to rank words."""
    config = BertConfig(
        vocab_size=101,
        hidden_size=36,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=47,
        max_position_embeddings=61,
        initializer_range=0.5,
    )
    keras.utils.set_random_seed(4)
    directory = tmp_path / "model"
    checkpoint.save(TextModel(Pretrainer(config), Tokenizer.load(tiny_vocab_file)), directory)
    return directory


def test_it_is_what_transformers_says(model):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("fill-mask", model=str(model), top_k=7)
    found = checkpoint.load(model).fill_mask(TEXTS, top_k=7)
    for text, answer in zip(TEXTS, found, strict=True):
        expected = pipeline(text)
        expected = [expected] if text.count("[MASK]") == 1 else expected
        assert len(answer["masks"]) == text.count("[MASK]")
        for ours, theirs in zip(answer["masks"], expected, strict=True):
            assert [word["token_id"] for word in ours] == [word["token"] for word in theirs]
            np.testing.assert_allclose(
                [word["probability"] for word in ours],
                [word["score"] for word in theirs],
                atol=1e-5,
            )


def test_the_command_prints_a_line_for_each_text(model, capsys):
    arguments = [f"--text={text}" for text in TEXTS]
    command.call(
        "predict", ["--task_name=fill_mask", f"--model_dir={model}", "--top_k=2", *arguments]
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert lines == [
        {"text": text, **answer}
        for text, answer in zip(TEXTS, checkpoint.load(model).fill_mask(TEXTS, top_k=2))
    ]
    assert [[len(words) for words in line["masks"]] for line in lines] == [[2], [2, 2], [2]]


def test_faults(model):
    loaded = checkpoint.load(model)
    for texts, options, says in (
        (["no mask"], {}, r"text 0 has no \[MASK\]"),
        (["a [MASK]", 7], {}, "text 1 must be a string"),
        (["a " * 80 + "[MASK]"], {}, "beyond its first 59 tokens"),
        (["[MASK]"], {"top_k": 102}, "top_k=102"),
    ):
        with pytest.raises(InputError, match=says):
            loaded.fill_mask(texts, **options)
    network = Classifier(loaded.network.config, 2)
    with pytest.raises(InputError, match="no masked-LM head"):
        TextModel(network, loaded.tokenizer).fill_mask(TEXTS)
    with pytest.raises(InputError, match="needs --model_dir"):
        command.call("predict", ["--task_name=fill_mask", "--savedmodel_dir=x", "--text=[MASK]"])
