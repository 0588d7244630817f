"""What an export answers: TensorFlow functions around a network, from text to answer.

`serving_default` takes text; `classification_signature`, `entity_signature`, `question_signature`
and `choice_signature` say what goes in and what comes out.
`token_ids`: `token_ids segment_ids padding_mask`, int32 [B, T] (choices: [B, C, T]) -> what the
network gives: `logits`, or `start_logits` and `end_logits`.
`labels`: `index`, int32 [n] -> `label` [n], the names of these classes; where there are any.
"""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bert_keras.text.graph_tokenizer import GraphTokenizer
from bert_keras.text_model import TextModel

TEXT_SIGNATURE = "serving_default"
IDS_SIGNATURE = "token_ids"
LABELS_SIGNATURE = "labels"


class ServingModule(tf.Module, abc.ABC):
    """A network and its tokenizer as plain TensorFlow: nothing of Keras is in what it saves.

    Args:
        model: with every setting that its answers depend on.
        network: the one to be traced, as a rule `inference_network` of the model's.

    Attributes:
        tokenizer: the model's, in-graph.
        names: string [C], the labels; None where there are none.
        max_seq_length: in tokens.
        ids_rank: of the inputs of the ids signature.
    """

    ids_rank = 2

    def __init__(self, model: TextModel, network: Any):
        super().__init__(name="bert_keras")
        self.tokenizer = GraphTokenizer(model.tokenizer)
        self.names = None
        if model.labels and model.problem_type != "regression":
            self.names = tf.constant(model.labels, tf.string)
        self.max_seq_length = model.max_seq_length
        self.weights: list[tf.Variable] = []
        self._call_network = _untracked(network)
        config = network.config
        self._sizes = (config.vocab_size, config.type_vocab_size, config.max_position_embeddings)

    @abc.abstractmethod
    def text_function(self) -> Any:
        """The concrete function from text to answer."""

    def signatures(self) -> dict[str, Any]:
        """The concrete functions to save, by the name of their signature."""
        ids = tf.TensorSpec([None] * self.ids_rank, tf.int32)
        found = {
            TEXT_SIGNATURE: self.text_function(),
            IDS_SIGNATURE: graph(self._answer_ids).get_concrete_function(
                token_ids=ids, segment_ids=ids, padding_mask=ids
            ),
        }
        if self.names is not None:
            found[LABELS_SIGNATURE] = graph(self._name_labels).get_concrete_function(
                index=tf.TensorSpec([None], tf.int32)
            )
        # What the checkpoint will hold: the variables that a graph reads, each once.
        read = {v.ref() for function in found.values() for v in function.graph.variables}
        self.weights = sorted((ref.deref() for ref in read), key=lambda v: v.name)
        return found

    def run(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The network's outputs, named, so that a reader of the graph finds them."""
        outputs = self._call_network(inputs)
        return {name: tf.identity(value, name=name) for name, value in outputs.items()}

    def _answer_ids(
        self, token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        inputs = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
        }
        return self.run(self._checked(inputs))

    def _checked(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Refuses ids from outside that the network has no rows for, with a clear message."""
        ids, segments, mask = inputs["token_ids"], inputs["segment_ids"], inputs["padding_mask"]
        rows, types, most = self._sizes
        shape = tf.shape(ids)
        same = tf.reduce_all(shape == tf.shape(segments)) & tf.reduce_all(shape == tf.shape(mask))
        with tf.control_dependencies(
            [tf.debugging.Assert(same, ["the three inputs must have one shape"])]
        ):
            first = tf.reduce_any(mask[..., :1] != 0, axis=-1)
            if self.ids_rank == 3:  # A choice that is all padding is none.
                first |= tf.reduce_all(mask == 0, axis=-1)
            checks = [
                (shape[-1] <= most, f"token_ids must have at most {most} columns"),
                (_all_between(ids, rows), f"token_ids must be in [0, {rows})"),
                (_all_between(segments, types), f"segment_ids must be in [0, {types})"),
                (tf.reduce_all(first), "padding_mask must be 1 at the first token of every row"),
            ]
        with tf.control_dependencies([tf.debugging.Assert(ok, [text]) for ok, text in checks]):
            return {name: tf.identity(value) for name, value in inputs.items()}

    def _name_labels(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"label": tf.gather(self.names, index)}


def graph(function: Callable[..., Any]) -> Any:
    """`tf.function` for functions that have no branch of Python's own: half of the time."""
    return tf.function(function, autograph=False)


def _all_between(ids: tf.Tensor, end: int) -> tf.Tensor:
    return tf.reduce_all((ids >= 0) & (ids < end))


def _untracked(network: Any) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """A closure hides the Keras model from SavedModel's tracking; only its variables go in."""

    def call(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return network(inputs, training=False)

    return call
