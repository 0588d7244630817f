"""Models of KerasHub with random weights, and the presets that it saves of them."""

import functools
import types

import numpy as np
import pytest

from tests.checkpoint import foreign

hub = pytest.importorskip("keras_hub").models

SIZES = {
    "vocabulary_size": 101,
    "num_layers": 2,
    "num_heads": 3,
    "hidden_dim": 33,
    "intermediate_dim": 47,
    "max_sequence_length": 61,
    "num_segments": 3,
    "dropout": 0.2,
}
HEADS = {
    "encoder": "BertBackbone",
    "sequence_classification": "BertTextClassifier",
    "masked_lm": "BertMaskedLM",
}


def theirs(head, **backbone):
    """A model of keras_hub's whose every weight is random, biases and norms included."""
    made = hub.BertBackbone(**SIZES, **backbone)
    tokenizer = hub.BertTokenizer(foreign.VOCABULARY, lowercase=True)
    if head == "sequence_classification":
        made = hub.BertTextClassifier(
            made,
            num_classes=5,
            dropout=0.3,
            preprocessor=hub.BertTextClassifierPreprocessor(tokenizer, sequence_length=24),
        )
    elif head == "masked_lm":
        made = hub.BertMaskedLM(
            made, preprocessor=hub.BertMaskedLMPreprocessor(tokenizer, sequence_length=24)
        )
    rng = np.random.default_rng(5)
    for weight in made.weights:
        if weight.dtype != "uint32":  # a dropout's random state
            weight.assign(0.2 * rng.standard_normal(weight.shape) + (len(weight.shape) == 1))
    return made


def presets(tmp_path_factory):
    """Each head's model and the directory it was saved to."""
    return _saved(tmp_path_factory.getbasetemp() / "keras_hub_presets")


@functools.cache  # the test files of one process share them
def _saved(folder):
    made = {head: theirs(head) for head in HEADS}
    for head, model in made.items():
        model.save_to_preset(str(folder / head))
    return types.SimpleNamespace(models=made, folder=folder)
