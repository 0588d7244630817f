"""One transformer block: attention, then a feed-forward, each with residual and norm."""

import math
from typing import Any

import keras
from keras import ops

from bert_keras.attention import SelfAttention
from bert_keras.dense import built_dense
from bert_keras.dropout import Dropout
from bert_keras.normalization import LayerNorm


def gelu_erf(x: Any) -> Any:
    """x Φ(x), by the error function (Hendrycks & Gimpel, 2016, arXiv 1606.08415)."""
    return ops.gelu(x, approximate=False)


def gelu_tanh(x: Any) -> Any:
    """The tanh approximation of GELU, which google-research/bert calls "gelu"."""
    # The cube is spelt out: TensorFlow fuses this form into the product before it, and not
    # the power that `ops.gelu` writes.
    cube = x * x * x
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * cube)))


ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": ops.relu,
}


class TransformerBlock(keras.layers.Layer):
    """Post-norm transformer block, as in BERT.

        x = LayerNorm(x + Dropout(Attention(x)))
        x = LayerNorm(x + Dropout(W₂ GELU(W₁ x)))

    Vaswani et al., 2017, section 3.1; Devlin et al., 2019, section 3.

    Shapes: R rows carried, D hidden size, F intermediate size, and those of SelfAttention.

    Args:
        num_heads: N; must divide D.
        intermediate_size: F.
        activation: a key of `ACTIVATIONS`.
        dropout: rate on both sub-layers' outputs.
        attention_dropout: rate on the attention probabilities.
        layer_norm_eps: added to the variance.
        initializer_range: standard deviation of the kernels at the start.
        lora_rank: rank of the low-rank update of all six kernels; 0 for none.

    Call arguments:
        x, attention_mask, grid_to_row, row_to_grid, head_gate: see SelfAttention.
        ffn_gate: float [F] or None; multiplies the activations before W₂.
        read_rows: int [B * Q] or None. The rows whose output is asked for, Q of each sequence;
            queries and feed-forward are of these alone. None for all rows.

    Returns:
        The dict of SelfAttention, with `output` [R, D] or [B * Q, D] after the whole block.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_size: int,
        *,
        activation: str = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        lora_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {', '.join(ACTIVATIONS)}. Received {activation!r}."
            )
        self.num_heads = num_heads
        self.intermediate_size = intermediate_size
        self.activation = activation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.lora_rank = lora_rank

    def build(self, x_shape: Any, *others: Any, **named: Any) -> None:
        hidden_size = x_shape[-1]
        self.attention = SelfAttention(
            self.num_heads,
            dropout=self.attention_dropout,
            initializer_range=self.initializer_range,
            lora_rank=self.lora_rank,
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build((None, hidden_size))
        self.attention_drop = Dropout(self.dropout, dtype=self.dtype_policy, name="attention_drop")
        self.attention_norm = self._norm(hidden_size, "attention_norm")
        self.intermediate = self._dense(hidden_size, self.intermediate_size, "intermediate")
        self.output_dense = self._dense(self.intermediate_size, hidden_size, "output_dense")
        self.output_drop = Dropout(self.dropout, dtype=self.dtype_policy, name="output_drop")
        self.output_norm = self._norm(hidden_size, "output_norm")
        self.built = True

    def call(
        self,
        x: Any,
        attention_mask: Any,
        grid_to_row: Any = None,
        row_to_grid: Any = None,
        head_gate: Any = None,
        ffn_gate: Any = None,
        read_rows: Any = None,
        training: bool | None = None,
    ) -> dict[str, Any]:
        asking = None if read_rows is None else ops.take(x, read_rows, axis=0)  # [B * Q, D]
        seen = self.attention(
            x, attention_mask, grid_to_row, row_to_grid, head_gate, asking, training=training
        )
        x = x if asking is None else asking
        x = self.attention_norm(x + self.attention_drop(seen["output"], training=training))

        inner = self.intermediate(x)  # [R, F]
        if training:
            # In bfloat16 the error function alone would take a fifth of the step. At inference
            # the activation is fused into the product before it, in which a cast would be.
            inner = ops.cast(inner, "float32")
        inner = ops.cast(ACTIVATIONS[self.activation](inner), self.compute_dtype)
        if ffn_gate is not None:
            inner = inner * ops.cast(ffn_gate, inner.dtype)
        x = self.output_norm(x + self.output_drop(self.output_dense(inner), training=training))
        return {**seen, "output": x}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
            "lora_rank": self.lora_rank,
        }

    def _dense(self, inputs: int, units: int, name: str) -> keras.layers.Dense:
        return built_dense(
            inputs,
            units,
            initializer_range=self.initializer_range,
            lora_rank=self.lora_rank,
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm(self, width: int, name: str) -> LayerNorm:
        layer = LayerNorm(epsilon=self.layer_norm_eps, dtype=self.dtype_policy, name=name)
        layer.build((None, width))
        return layer
