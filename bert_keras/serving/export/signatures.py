"""What an export answers: TensorFlow functions around a network, from text to answer.

`serving_default` takes text; `classification_signature`, `entity_signature`, `question_signature`
and `choice_signature` say what goes in and what comes out.
`token_ids`: `token_ids segment_ids padding_mask`, int32 [B, T] (choices: [B, C, T]) -> what the
network gives: `logits`, or `start_logits` and `end_logits`.
`labels`: `index`, int32 [n] -> `label` [n], the names of these classes; where there are any.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from bert_keras.serving.export.buckets import bucketed
from bert_keras.text.graph_tokenizer import GraphTokenizer
from bert_keras.text_model import TextModel

TEXT_SIGNATURE = "serving_default"
IDS_SIGNATURE = "token_ids"
LABELS_SIGNATURE = "labels"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may ask for; what is more is refused by the graph, with one line.

    Attributes:
        batch_size: examples; None for any number.
        text_bytes: of each text; None for any, of which the first MB is read.
        tokens: cells of the network's input, padding counted. Memory goes with them: BERT-base
            takes 2.5 GB for these many in rows of 384.
    """

    batch_size: int | None = None
    text_bytes: int | None = None
    tokens: int = 1 << 17

    def refused(self, message: str) -> bool:
        """Whether a request failed for one of these."""
        return any(each in message for each in (_MANY, _LONG, _LARGE))


# Of the messages, what tells them apart.
_MANY, _LONG, _LARGE = "examples in a request", "a text may have", "a request may come to"


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
        limits: of a request; set before the functions are made.
    """

    ids_rank = 2
    limits = Limits()

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

    def ids_function(self) -> Any:
        """The concrete function from ids to what the network gives."""
        ids = tf.TensorSpec([None] * self.ids_rank, tf.int32)
        return graph(self._answer_ids).get_concrete_function(
            token_ids=ids, segment_ids=ids, padding_mask=ids
        )

    def signatures(self, **more: Callable[[Any], Any]) -> dict[str, Any]:
        """The concrete functions to save, by the name of their signature, `more` among them.

        Each of `more` is given the function from text to answer.
        """
        found = {TEXT_SIGNATURE: self.text_function(), IDS_SIGNATURE: self.ids_function()}
        if self.names is not None:
            found[LABELS_SIGNATURE] = graph(self._name_labels).get_concrete_function(
                index=tf.TensorSpec([None], tf.int32)
            )
        found |= {name: make(found[TEXT_SIGNATURE]) for name, make in more.items()}
        # What the checkpoint will hold: the variables that a graph reads, each once, in the order
        # in which they are read; a set of objects has another one in every process.
        handles = [id(x) for function in found.values() for x in function.captured_inputs]
        read = {v.ref() for function in found.values() for v in function.graph.variables}
        weights = (ref.deref() for ref in read)
        self.weights = sorted(weights, key=lambda each: handles.index(id(each.handle)))
        return found

    def use_buckets(self, lengths: Sequence[int]) -> None:
        """Runs the network in few shapes, by XLA; called before the functions are made."""
        self._call_network = bucketed(self._call_network, lengths)

    def run(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The network's outputs, named, so that a reader of the graph finds them."""
        outputs = self._call_network(self.affordable(inputs))
        return {name: tf.identity(value, name=name) for name, value in outputs.items()}

    def bounded(self, text: tf.Tensor) -> tf.Tensor:
        """The texts [B, ...] of a request, after a look at their number and their bytes."""
        examples, size = self.limits.batch_size, self.limits.text_bytes
        checks = []
        if examples is not None:
            fits = tf.shape(text)[0] <= examples
            checks.append(tf.debugging.Assert(fits, [f"at most {examples} {_MANY}"]))
        if size is not None:
            fits = tf.reduce_all(tf.strings.length(text) <= size)
            checks.append(tf.debugging.Assert(fits, [f"{_LONG} at most {size} bytes"]))
        with tf.control_dependencies(checks):
            return tf.identity(text)

    def affordable(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The network's inputs, after a look at their size."""
        most, cells = self.limits.tokens, tf.size(inputs["token_ids"])
        fits = tf.debugging.Assert(
            cells <= most,
            [f"{_LARGE} {most} tokens, send fewer or shorter texts; it has", cells],
        )
        with tf.control_dependencies([fits]):
            return {name: tf.identity(value) for name, value in inputs.items()}

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
