"""A context and endings to the likeliest ending.

`serving_default`: `context` string [B], `endings` string [B, C] -> `choice` int32 [B], the ending's
place from 0, `probabilities` [B, C], `logits` [B, C]. An ending "" is none, so that rows of one
request may have more and fewer: its probability is 0.
"""

from typing import Any

import tensorflow as tf

from bert_keras.answers.choices import NO_ENDING
from bert_keras.serving.export.signatures import ServingModule, graph


class ChoiceMaker(ServingModule):
    """A `models.MultipleChoice`."""

    ids_rank = 3

    def text_function(self) -> Any:
        return graph(self._answer).get_concrete_function(
            context=tf.TensorSpec([None], tf.string), endings=tf.TensorSpec([None, None], tf.string)
        )

    def _answer(self, context: tf.Tensor, endings: tf.Tensor) -> dict[str, tf.Tensor]:
        context, endings = self.bounded(context), self.bounded(endings)
        shape = tf.shape(endings)
        same = tf.debugging.Assert(
            tf.equal(shape[0], tf.size(context)), ["endings must have a row for each context"]
        )
        with tf.control_dependencies([same]):
            contexts = tf.repeat(context, shape[1])
        flat = self.tokenizer(
            contexts, tf.reshape(endings, [-1]), max_seq_length=self.max_seq_length
        )
        inputs = {
            name: tf.reshape(x, [shape[0], shape[1], tf.shape(x)[1]]) for name, x in flat.items()
        }
        logits = tf.where(tf.equal(endings, ""), NO_ENDING, self.run(inputs)["logits"])
        return {
            "choice": tf.argmax(logits, axis=-1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
        }
