"""A stand-in for a SavedModel: it counts the bytes of texts, and waits where it is told to."""

import threading

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bert_keras.serving import status
from bert_keras.serving.server.batching import Batcher
from bert_keras.serving.server.runner import Runner


class FakeServable:
    """`length` of each `text` times the version; a text that starts with "wait" waits for `go`."""

    def __init__(self, version=1):
        self.version, self.max_batch_size = version, 1024
        self.go, self.seen, self.waiting = threading.Event(), [], threading.Semaphore(0)
        signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        for side, name, kind in (
            (signature.inputs, "text", tf.string),
            (signature.outputs, "length", tf.int32),
        ):
            side[name].name, side[name].dtype = name, kind.as_datatype_enum
            side[name].tensor_shape.dim.add(size=-1)
        self.signature_defs = {"serving_default": signature}

    def signature(self, name):
        if (name or "serving_default") not in self.signature_defs:
            raise status.ServingError(status.FAILED_PRECONDITION, f'key "{name}" not found.')
        return self.signature_defs[name or "serving_default"]

    def run(self, signature_name, inputs, output_filter=()):
        texts = [text if isinstance(text, bytes) else text.encode() for text in inputs["text"]]
        self.seen += texts
        if any(text.startswith(b"wait") for text in texts):
            self.waiting.release()
            assert self.go.wait(30)
        return {"length": np.array([len(text) * self.version for text in texts], np.int32)}


class Loader:
    """Takes the place of `runner.load`: a version is a directory, broken if "broken" lies in it."""

    def __init__(self):
        self.loaded = {}

    def __call__(self, path, *, admission=None, batching=None, metrics=None, model="", **_):
        if (path / "broken").exists():
            raise ValueError("this one is broken")
        servable = FakeServable(int(path.name))
        self.loaded[path.parent.name, int(path.name)] = servable
        batcher = Batcher(servable, batching, metrics, model=model) if batching else None
        return Runner(servable, admission, batcher)


def versions(base, *numbers):
    """Makes the directories of these versions."""
    for number in numbers:
        (base / str(number)).mkdir(parents=True)
    return base
