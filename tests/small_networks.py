"""Small networks of every kind, and a batch for each; sizes are distinct, so that no axis passes
for another."""

import keras
import numpy as np

from bert_keras import checkpoint, models
from bert_keras.config import BertConfig
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel

B, T = 4, 7
LENGTHS = np.array([7, 3, 1, 5])
CONFIG = BertConfig(
    vocab_size=97,
    hidden_size=15,
    num_hidden_layers=3,
    num_attention_heads=5,
    intermediate_size=22,
    max_position_embeddings=11,
    initializer_range=0.2,
)


def inputs(seed=0, tokens=T):
    rng = np.random.default_rng(seed)
    return {
        "token_ids": rng.integers(0, 97, (B, tokens)).astype("int32"),
        "segment_ids": rng.integers(0, 2, (B, tokens)).astype("int32"),
        "padding_mask": (np.arange(tokens) < LENGTHS[:, None]).astype("int32"),
    }


POSITIONS = np.array([[0, 6], [2, 0], [0, 0], [4, 1]], "int32")


def choices():
    one, two, three = (inputs(seed) for seed in range(3))
    return {name: np.stack([one[name], two[name], three[name]], 1) for name in one}


CASES = {
    "EncoderModel": (lambda **kw: models.EncoderModel(CONFIG, **kw), inputs),
    "Classifier": (lambda **kw: models.Classifier(CONFIG, 3, **kw), inputs),
    "TokenTagger": (lambda **kw: models.TokenTagger(CONFIG, 5, **kw), inputs),
    "SpanPredictor": (lambda **kw: models.SpanPredictor(CONFIG, **kw), inputs),
    "TokenTagger of features": (
        lambda **kw: models.TokenTagger(CONFIG, 5, lstm_size=4, feature_layers="sum_all", **kw),
        inputs,
    ),
    "Classifier with BiLSTM": (
        lambda **kw: models.Classifier(CONFIG, 3, lstm_size=4, left_to_right=True, **kw),
        inputs,
    ),
    "MultipleChoice": (lambda **kw: models.MultipleChoice(CONFIG, **kw), choices),
    "Pretrainer": (
        lambda **kw: models.Pretrainer(CONFIG, **kw),
        lambda: {**inputs(), "masked_positions": POSITIONS},
    ),
}


def write_pretrained(folder, words, *, seed=1, **sizes):
    """A model directory of an encoder with random weights that knows these words."""
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", "utf-8")
    small = {
        "hidden_size": 33,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 47,
        "max_position_embeddings": 61,
    }
    config = BertConfig(vocab_size=len(entries), **{**small, **sizes})
    keras.utils.set_random_seed(seed)
    model = TextModel(models.EncoderModel(config), Tokenizer.load(folder / "vocab.txt"))
    checkpoint.save(model, folder)
    return folder
