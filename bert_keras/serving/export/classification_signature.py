"""Texts, or pairs of texts, to labels or scores.

`serving_default`: `text`, or `text_a` and `text_b`, string [B] -> `label`, `probabilities` [B, C],
`logits` [B, C]; for regression -> `score` [B].

`label` is string [B]. Where several labels may hold at once it is string [B, C]: the class's
name where its probability reaches the threshold, and "" where it does not, in the order of
`probabilities`.
"""

from typing import Any

import tensorflow as tf

from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.text_model import TextModel


class TextClassifier(ServingModule):
    """A `models.Classifier`."""

    def __init__(self, model: TextModel, network: Any) -> None:
        super().__init__(model, network)
        self._problem_type = model.problem_type
        self._columns = model.setting("text_columns")
        self._threshold = model.setting("threshold")

    def text_function(self) -> Any:
        spec = tf.TensorSpec([None], tf.string)
        if self._columns == 1:
            return graph(self._answer_text).get_concrete_function(text=spec)
        return graph(self._answer_pair).get_concrete_function(text_a=spec, text_b=spec)

    def _answer_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self.tokenizer(self.bounded(text), max_seq_length=self.max_seq_length))

    def _answer_pair(self, text_a: tf.Tensor, text_b: tf.Tensor) -> dict[str, tf.Tensor]:
        pair = self.bounded(text_a), self.bounded(text_b)
        return self._answer(self.tokenizer(*pair, max_seq_length=self.max_seq_length))

    def _answer(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self.run(inputs)["logits"]
        if self._problem_type == "regression":
            return {"score": logits[:, 0]}
        if self._problem_type == "multi_label_classification":
            probabilities = tf.sigmoid(logits)
            label = tf.where(probabilities >= self._threshold, self.names, "")
        else:
            probabilities = tf.nn.softmax(logits)
            label = tf.gather(self.names, tf.argmax(logits, axis=-1))
        return {"label": label, "probabilities": probabilities, "logits": logits}
