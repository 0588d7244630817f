"""A model without TensorFlow, whose answers anyone can work out."""

import threading
import time
import types

import numpy as np

from bert_keras.serving import status

FREE = -1


def info(*sizes):
    """A TensorInfo's shape; None for one of unknown rank."""
    shape = types.SimpleNamespace(
        unknown_rank=sizes == (None,),
        dim=[types.SimpleNamespace(size=size) for size in sizes if size is not None],
    )
    return types.SimpleNamespace(tensor_shape=shape)


def signature(inputs, outputs):
    return types.SimpleNamespace(
        inputs={name: info(*sizes) for name, sizes in inputs.items()},
        outputs={name: info(*sizes) for name, sizes in outputs.items()},
    )


ID_NAMES = ("token_ids", "padding_mask")

SIGNATURES = {
    "serving_default": signature({"text": [FREE]}, {"label": [FREE], "logits": [FREE, 2]}),
    "pairs": signature({"text_a": [FREE], "text_b": [FREE]}, {"score": [FREE]}),
    "entities": signature(
        {"text": [FREE]}, {"count": [FREE], "entity": [FREE, FREE], "start": [FREE, FREE]}
    ),
    "token_ids": signature(dict.fromkeys(ID_NAMES, [FREE, FREE]), {"logits": [FREE, FREE]}),
    "tokenize": signature({"text": [FREE]}, {"token": [FREE, FREE]}),
    # It says what it does not keep: one sum for all the rows.
    "total": signature({"text": [FREE]}, {"total": [FREE]}),
}


class PlainServable:
    """Answers after `seconds`; the text `hold` waits until `go` is set.

    A text that begins with "bad" is refused, by its name; "bug" is a fault of the model's own.

    Attributes:
        calls: for each run the signature, and the first input's rows.
        most_at_once: runs under way at a time.
    """

    def __init__(self, max_batch_size=None, seconds=0.0):
        self.max_batch_size, self._seconds = max_batch_size, seconds
        self.calls = []
        self.most_at_once = self._at_once = 0
        self.held, self.go = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def signature(self, name):
        if name not in SIGNATURES:
            raise status.ServingError(status.FAILED_PRECONDITION, f"no {name}")
        return SIGNATURES[name]

    def run(self, signature_name, inputs, output_filter=()):
        name = signature_name or "serving_default"
        if set(inputs) != set(SIGNATURES[name].inputs):
            raise status.invalid("input size does not match signature")
        first = inputs[min(inputs)]
        with self._lock:
            self.calls.append((name, first.tolist()))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self._seconds)
            outputs = getattr(self, "_" + name)(**inputs)
        finally:
            with self._lock:
                self._at_once -= 1
        return {key: outputs[key] for key in output_filter or outputs}

    def texts_run(self):
        return [text for _, texts in self.calls for text in texts]

    def _serving_default(self, text):
        for each in text:
            if each == b"hold":
                self.held.set()
                assert self.go.wait(60)
            if each.startswith(b"bad"):
                raise status.invalid(f"refused: {each.decode()}")
            if each == b"bug":
                raise ZeroDivisionError
        length = np.array([len(each) for each in text], np.float32)
        logits = np.stack([length, -length], axis=1)
        return {"label": np.array([b"<" + each + b">" for each in text], object), "logits": logits}

    def _pairs(self, text_a, text_b):
        if len(text_a) != len(text_b):
            raise status.invalid("as many of each")
        return {"score": np.array([len(a) - len(b) for a, b in zip(text_a, text_b)], np.float32)}

    def _entities(self, text):
        found = [each.split() for each in text]
        most = max(map(len, found), default=0)
        entity = np.full((len(text), most), b"", object)
        start = np.zeros((len(text), most), np.int32)
        for row, words in enumerate(found):
            entity[row, : len(words)] = words
            start[row, : len(words)] = range(1, len(words) + 1)
        count = np.array([len(words) for words in found], np.int32)
        return {"count": count, "entity": entity, "start": start}

    def _token_ids(self, token_ids, padding_mask):
        if (token_ids < 0).any():
            raise status.invalid("token_ids must not be negative")
        return {"logits": (token_ids * padding_mask).astype(np.float32)}

    def _tokenize(self, text):
        return {"token": self._entities(text)["entity"]}

    def _total(self, text):
        return {"total": np.array([sum(map(len, text))])}


def texts(*values):
    return {"text": np.array([value.encode() for value in values], object)}
