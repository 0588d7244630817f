"""A SavedModel made by hand, with the signatures of an export but no network inside.

It "classifies" a text by its length, so that every answer can be worked out on paper:
logits [len, 2], label `long` from three bytes on.
"""

import pathlib

import tensorflow as tf

LABELS = ["long", "short"]


class ToyModel(tf.Module):
    """`scale` multiplies the logits, so that two versions can be told apart.

    A text that starts with "slow" takes a second or so, for the tests of draining.
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = tf.Variable(scale)
        self.names = tf.constant(LABELS)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def classify(self, text):
        slow = tf.reduce_any(tf.strings.substr(text, 0, 4) == "slow")
        noise = tf.eye(600)
        rounds = tf.where(slow, 60, 0)
        _, noise = tf.while_loop(
            lambda i, _: i < rounds, lambda i, m: (i + 1, tf.linalg.matmul(m, m)), (0, noise)
        )
        length = tf.cast(tf.strings.length(text), tf.float32)
        logits = tf.stack([length, tf.fill(tf.shape(length), 2.0)], axis=1) * self.scale
        logits += 0.0 * noise[0, 1]
        return {
            "label": tf.gather(self.names, tf.argmax(logits, axis=1)),
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name="token_ids"),
            tf.TensorSpec([None, None], tf.int32, name="segment_ids"),
            tf.TensorSpec([None, None], tf.int32, name="padding_mask"),
        ]
    )
    def token_ids(self, token_ids, segment_ids, padding_mask):
        total = tf.cast(tf.reduce_sum((token_ids + segment_ids) * padding_mask, 1), tf.float32)
        return {"logits": tf.stack([total, -total], axis=1) * self.scale}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def label_names(self, index):
        return {"label": tf.gather(self.names, index)}


def save_toy_model(directory: pathlib.Path, scale: float = 1.0) -> pathlib.Path:
    """Writes the model under a hidden name and renames it, as a well-behaved exporter does."""
    module = ToyModel(scale)
    temporary = directory.parent / f".{directory.name}.writing"
    tf.saved_model.save(
        module,
        str(temporary),
        signatures={
            "serving_default": module.classify,
            "token_ids": module.token_ids,
            "labels": module.label_names,
        },
    )
    temporary.rename(directory)
    return directory
