"""BERT on Keras 3, from raw text to a served answer.

    >>> import bert_keras
    >>> model = bert_keras.load(directory)
    >>> answer = model.predict(["a warm and funny film", "dull"])[0]
    >>> answer["label"] in model.labels
    True
    >>> list(answer["probabilities"])
    ['negative', 'positive']
    >>> bert_keras.save(model, new_directory)
    >>> bert_keras.predict(new_directory, ["a warm and funny film"])[0] == answer
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
