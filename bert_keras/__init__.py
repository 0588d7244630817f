"""BERT on Keras 3, from raw text to a served answer.

    model = bert_keras.load("DIRECTORY")    # or "hf://owner/name"
    model.predict(["a warm and funny film"])
    bert_keras.save(model, "NEW_DIRECTORY")

The same from its parts, with a network that has learnt nothing yet:

    >>> import bert_keras, tempfile
    >>> from bert_keras.models import Classifier
    >>> from bert_keras.text.vocabulary import Vocabulary
    >>> words = "[PAD] [UNK] [CLS] [SEP] [MASK] a warm and funny dull film".split()
    >>> config = bert_keras.BertConfig.from_size("tiny", vocab_size=len(words))
    >>> model = bert_keras.TextModel(
    ...     network=Classifier(config, num_labels=2),
    ...     tokenizer=bert_keras.Tokenizer(Vocabulary(words)),
    ...     labels=["negative", "positive"],
    ...     problem_type="single_label_classification",
    ... )
    >>> answers = model.predict(["a warm and funny film", "a dull film"])
    >>> answers[0]["label"] in model.labels
    True
    >>> list(answers[0]["probabilities"])
    ['negative', 'positive']

A directory keeps all of it:

    >>> directory = tempfile.mkdtemp()
    >>> bert_keras.save(model, directory)
    >>> again = bert_keras.load(directory)
    >>> again.predict(["a warm and funny film", "a dull film"]) == answers
    True
    >>> bert_keras.predict(directory, ["a warm and funny film", "a dull film"]) == answers
    True

Everything else is imported from its own module, e.g. `bert_keras.models.Classifier`. The names
here are looked up on first use, so that importing the package loads no framework.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "BertConfig": "bert_keras.config",
    "InputError": "bert_keras.errors",
    "TextModel": "bert_keras.text_model",
    "Tokenizer": "bert_keras.text.tokenizer",
    "load": "bert_keras.checkpoint",
    "predict": "bert_keras.text_model",
    "save": "bert_keras.checkpoint",
}

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
