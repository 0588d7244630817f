"""What an export answers: TensorFlow functions around a network, from text to label.

`serving_default`: `text`, or `text_a` and `text_b`, string [B] -> `label`, `probabilities` [B, C],
`logits` [B, C]; for regression -> `score` [B].
`token_ids`: `token_ids segment_ids padding_mask`, int32 [B, T] -> `logits` [B, C].
`labels`: `index`, int32 [n] -> `label` [n], the names of these classes; none for regression.

`label` is string [B]. Where several labels may hold at once it is string [B, C]: the class's
name where its probability reaches the threshold, and "" where it does not, in the order of
`probabilities`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from bert_keras.text.graph_tokenizer import GraphTokenizer

TEXT_SIGNATURE = "serving_default"
IDS_SIGNATURE = "token_ids"
LABELS_SIGNATURE = "labels"


class ServingModule(tf.Module):
    """A network and its tokenizer as plain TensorFlow: nothing of Keras is in what it saves.

    Args:
        network: a `Classifier`.
        tokenizer: the same one that the network was trained with, in-graph.
        problem_type: Hugging Face's name of what the logits mean.
        labels: the classes' names; ignored for regression.
        text_columns: 1 or 2 texts an example.
        max_seq_length: in tokens, [CLS] and [SEP] included.
        threshold: the least probability of a label where several may hold.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: GraphTokenizer,
        *,
        problem_type: str,
        labels: Sequence[str],
        text_columns: int,
        max_seq_length: int,
        threshold: float = 0.5,
    ):
        super().__init__(name="bert_keras")
        self._problem_type = problem_type
        self._names = tf.constant(list(labels), tf.string)
        self._max_seq_length = max_seq_length
        self._threshold = threshold
        self.tokenizer = tokenizer
        self.weights: list[tf.Variable] = []
        self._call_network = _untracked(network)
        self._text_columns = text_columns
        config = network.config
        self._sizes = (config.vocab_size, config.type_vocab_size, config.max_position_embeddings)

    def signatures(self) -> dict[str, Any]:
        """The concrete functions to save, by the name of their signature."""
        ids = tf.TensorSpec([None, None], tf.int32)
        found = {
            TEXT_SIGNATURE: self._text_function(),
            IDS_SIGNATURE: _graph(self._answer_ids).get_concrete_function(
                token_ids=ids, segment_ids=ids, padding_mask=ids
            ),
        }
        if self._problem_type != "regression":
            found[LABELS_SIGNATURE] = _graph(self._name_labels).get_concrete_function(
                index=tf.TensorSpec([None], tf.int32)
            )
        # What the checkpoint will hold: the variables that a graph reads, each once.
        read = {v.ref() for function in found.values() for v in function.graph.variables}
        self.weights = sorted((ref.deref() for ref in read), key=lambda v: v.name)
        return found

    def _text_function(self) -> Any:
        spec = tf.TensorSpec([None], tf.string)
        if self._text_columns == 1:
            return _graph(self._answer_text).get_concrete_function(text=spec)
        return _graph(self._answer_pair).get_concrete_function(text_a=spec, text_b=spec)

    def _answer_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self.tokenizer(text, max_seq_length=self._max_seq_length))

    def _answer_pair(self, text_a: tf.Tensor, text_b: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self.tokenizer(text_a, text_b, max_seq_length=self._max_seq_length))

    def _answer_ids(
        self, token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        inputs = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
        }
        return {"logits": self._logits(self._checked(inputs))}

    def _checked(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Refuses ids from outside that the network has no rows for, with a clear message."""
        ids, segments, mask = inputs["token_ids"], inputs["segment_ids"], inputs["padding_mask"]
        rows, types, most = self._sizes
        shape = tf.shape(ids)
        same = tf.reduce_all(shape == tf.shape(segments)) & tf.reduce_all(shape == tf.shape(mask))
        with tf.control_dependencies(
            [tf.debugging.Assert(same, ["the three inputs must have one shape"])]
        ):
            checks = [
                (shape[1] <= most, f"token_ids must have at most {most} columns"),
                (_all_between(ids, rows), f"token_ids must be in [0, {rows})"),
                (_all_between(segments, types), f"segment_ids must be in [0, {types})"),
                (
                    tf.reduce_all(tf.reduce_any(mask[:, :1] != 0, axis=1)),
                    "padding_mask must be 1 at the first token of every row",
                ),
            ]
        with tf.control_dependencies([tf.debugging.Assert(ok, [text]) for ok, text in checks]):
            return {name: tf.identity(value) for name, value in inputs.items()}

    def _name_labels(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"label": tf.gather(self._names, index)}

    def _answer(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self._logits(inputs)
        if self._problem_type == "regression":
            return {"score": logits[:, 0]}
        if self._problem_type == "multi_label_classification":
            probabilities = tf.sigmoid(logits)
            label = tf.where(probabilities >= self._threshold, self._names, "")
        else:
            probabilities = tf.nn.softmax(logits)
            label = tf.gather(self._names, tf.argmax(logits, axis=-1))
        return {"label": label, "probabilities": probabilities, "logits": logits}

    def _logits(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        # Named, so that a reader of the graph, and of the server's profile, finds it.
        return tf.identity(self._call_network(inputs), name="logits")


def _graph(function: Callable[..., Any]) -> Any:
    # No branch here is Python's own, so there is nothing to rewrite; that takes half of the time.
    return tf.function(function, autograph=False)


def _all_between(ids: tf.Tensor, end: int) -> tf.Tensor:
    return tf.reduce_all((ids >= 0) & (ids < end))


def _untracked(network: Any) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """A closure hides the Keras model from SavedModel's tracking; only its variables go in."""

    def call(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return network(inputs, training=False)["logits"]

    return call
