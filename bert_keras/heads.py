"""What stands on the encoder: the two pretraining heads, and one head for each kind of task.

All logits are float32. Where the weights are float32 too, the last product of a head is computed
in it, under mixed_bfloat16 as well; but the masked LM's product with the vocabulary, which is
large, is computed in the policy's precision.
"""

from typing import Any

import keras
from keras import ops

from bert_keras.dense import built_dense
from bert_keras.dropout import Dropout
from bert_keras.normalization import LayerNorm
from bert_keras.transformer import ACTIVATIONS


class MaskedLMHead(keras.layers.Layer):
    """Guesses the masked tokens.

        logits = LayerNorm(GELU(W h)) Eᵀ + b,  E the token embedding

    Devlin et al., 2019, section 3.1, task 1. The P positions are gathered before the product
    with the vocabulary, which is P / T of the work.

    Args:
        vocab_size: V.
        width: E, the width of the token embedding; the transform projects D to it.
        activation: a key of `ACTIVATIONS`.
        layer_norm_eps: added to the variance.
        initializer_range: standard deviation of the kernel at the start.

    Call arguments:
        sequence_output: float [B, T, D].
        masked_positions: int [B, P]; positions that are padding give logits to be ignored. None
            where `sequence_output` is of the masked positions alone, P = T.
        token_embedding: float [V, E], tied.

    Returns:
        float32 [B, P, V].
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.width = width
        self.activation = activation
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range

    def build(self, sequence_shape: Any, *others: Any, **named: Any) -> None:
        self.dense = built_dense(
            sequence_shape[-1],
            self.width,
            initializer_range=self.initializer_range,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.norm = LayerNorm(epsilon=self.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.norm.build((None, self.width))
        self.output_bias = self.add_weight((self.vocab_size,), "zeros", name="output_bias")
        self.built = True

    def call(self, sequence_output: Any, masked_positions: Any, token_embedding: Any) -> Any:
        batch, tokens, hidden = ops.shape(sequence_output)
        x, predictions = ops.reshape(sequence_output, (-1, hidden)), tokens
        if masked_positions is not None:
            predictions = ops.shape(masked_positions)[1]  # P
            row_starts = ops.arange(batch, dtype="int32")[:, None] * tokens
            cells = ops.reshape(ops.cast(masked_positions, "int32") + row_starts, (-1,))  # [B * P]
            x = ops.take(x, cells, axis=0)  # [B * P, D]

        x = self.norm(ACTIVATIONS[self.activation](self.dense(x)))  # [B * P, E]
        decoder = ops.transpose(ops.cast(token_embedding, x.dtype))  # [E, V]
        logits = ops.matmul(x, decoder) + self.output_bias  # [B * P, V]
        return ops.reshape(ops.cast(logits, "float32"), (batch, predictions, self.vocab_size))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "width": self.width,
            "activation": self.activation,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
        }


class NextSentenceHead(keras.layers.Layer):
    """Tells whether B follows A (0) or is a random sentence (1), from the pooled [CLS].

    Devlin et al., 2019, section 3.1, task 2; the labels are google-research/bert's.

    Call arguments:
        pooled_output: float [B, D].

    Returns:
        float32 [B, 2].
    """

    def __init__(self, *, initializer_range: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initializer_range = initializer_range

    def build(self, pooled_shape: Any) -> None:
        self.dense = built_dense(
            pooled_shape[-1],
            2,
            initializer_range=self.initializer_range,
            dtype=self.variable_dtype,
            name="dense",
        )
        self.built = True

    def call(self, pooled_output: Any) -> Any:
        return ops.cast(self.dense(pooled_output), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initializer_range": self.initializer_range}


class LinearHead(keras.layers.Layer):
    """Dropout and one linear map: the head of every fine-tuned task.

    Devlin et al., 2019, section 4 and figure 4. On `pooled_output` [B, D] it classifies a
    sequence (one class, several at once, or a number) or scores a choice; on
    `sequence_output` [B, T, D] it tags tokens or marks where a span starts and ends.

    Args:
        num_outputs: classes, tags, 1 for a number or a choice's score, 2 for a span.
        dropout: rate.
        initializer_range: standard deviation of the kernel at the start.

    Call arguments:
        x: float [..., D].

    Returns:
        float32 [..., num_outputs].
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_outputs = num_outputs
        self.dropout = dropout
        self.initializer_range = initializer_range

    def build(self, x_shape: Any) -> None:
        self.drop = Dropout(self.dropout, dtype=self.dtype_policy, name="drop")
        self.dense = built_dense(
            x_shape[-1],
            self.num_outputs,
            initializer_range=self.initializer_range,
            dtype=self.variable_dtype,
            name="dense",
        )
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        shape = ops.shape(x)
        rows = self.drop(ops.reshape(x, (-1, shape[-1])), training=training)
        logits = ops.cast(self.dense(rows), "float32")
        return ops.reshape(logits, (*shape[:-1], self.num_outputs))

    def compute_output_shape(self, x_shape: Any) -> Any:
        return (*x_shape[:-1], self.num_outputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_outputs": self.num_outputs,
            "dropout": self.dropout,
            "initializer_range": self.initializer_range,
        }
