"""Multi-head self-attention, the only place in BERT where tokens meet."""

import math
from typing import Any

import keras
from keras import ops

from bert_keras.dense import built_dense
from bert_keras.dropout import Dropout

# Added in float32 to the score of a key that may not be seen: its softmax is exactly 0, and
# a row in which nothing may be seen becomes uniform instead of NaN.
UNSEEN = -1e9


class SelfAttention(keras.layers.Layer):
    """Lets every token read every real token of its own sequence.

        Attention(Q, K, V) = softmax(Q Kᵀ / √H) V,  N times side by side, then merged

    Vaswani et al., 2017, section 3.2: https://arxiv.org/abs/1706.03762

    Shapes: B batch, T tokens, D hidden size, N heads, H = D // N, R rows carried (B * T, or
    the real tokens alone), Q queries of each sequence: T, or those of the rows that ask. The four
    products work on rows of one [R, D] matrix, because TensorFlow fuses a product with its bias
    (and GELU) in two dimensions only; the tokens meet on the [B, T] grid.

    Args:
        num_heads: N; must divide D.
        dropout: rate on the attention probabilities.
        initializer_range: standard deviation of the four kernels at the start.
        lora_rank: rank of the low-rank update of the four kernels (Hu et al., 2021,
            section 4.1: https://arxiv.org/abs/2106.09685); 0 for none.

    Call arguments:
        x: float [R, D].
        attention_mask: bool [B, 1 or Q, T]; True where the query may see the key.
        grid_to_row: int [B * T] or None. Where x carries real tokens alone: the row of each
            grid cell (any row for padding, which no query sees).
        row_to_grid: int [R] or None. The grid cell of each row.
        head_gate: float [N] or [B, N] or None; multiplies each head's output.
        asking: float [B * Q, D] or None. The rows of `x` whose output is asked for, Q of each
            sequence: only these ask, all answer. None for all rows.

    Returns:
        A dict: `output` float [R, D], or [B * Q, D] of those that ask, `attention_scores` float32
        [B, N, Q, T] (the probabilities, before dropout), `queries` [B, N, Q, H], and `keys`,
        `values` [B, N, T, H]. Rows of padded tokens are computed but mean nothing.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        lora_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.initializer_range = initializer_range
        self.lora_rank = lora_rank
        self._joined: Any = None

    def build(self, x_shape: Any, *others: Any, **named: Any) -> None:
        hidden_size = x_shape[-1]
        if hidden_size % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the last axis of `x`. Received "
                f"num_heads={self.num_heads}, x of shape {tuple(x_shape)}."
            )
        self.head_size = hidden_size // self.num_heads
        self.query = self._dense(hidden_size, "query")
        self.key = self._dense(hidden_size, "key")
        self.value = self._dense(hidden_size, "value")
        self.merge = self._dense(hidden_size, "merge")
        self.drop = Dropout(self.dropout, dtype=self.dtype_policy, name="drop")
        self.built = True

    def freeze(self) -> None:
        """Computes queries, keys and values, as their weights are now, as one product.

        For graphs that only answer, and after LoRA is merged. One product [D, 3 D] takes a
        twentieth less time on a CPU than three of [D, D].
        """
        denses = self.query, self.key, self.value
        joined = keras.layers.Dense(
            3 * self.num_heads * self.head_size, dtype=self.dtype_policy, name="joined"
        )
        joined.build((None, self.num_heads * self.head_size))
        joined.kernel.assign(ops.concatenate([dense.kernel for dense in denses], axis=1))
        joined.bias.assign(ops.concatenate([dense.bias for dense in denses]))
        # Its method and not the layer: Keras lets no layer gain another once it is built.
        self._joined = joined.__call__

    def call(
        self,
        x: Any,
        attention_mask: Any,
        grid_to_row: Any = None,
        row_to_grid: Any = None,
        head_gate: Any = None,
        asking: Any = None,
        training: bool | None = None,
    ) -> dict[str, Any]:
        grid = ops.shape(attention_mask)[0], ops.shape(attention_mask)[-1]  # B, T
        scale = 1 / math.sqrt(self.head_size)
        queries = grid, grid_to_row
        if asking is not None:
            queries, row_to_grid = ((grid[0], -1), None), None
        if self._joined is not None and asking is None:
            q, k, v = self._joined_heads(x, grid, grid_to_row)  # [B, N, T, H]
        else:
            q = self.query(x if asking is None else asking)  # [R, D] or [B * Q, D]
            if training:
                q = q * ops.cast(scale, q.dtype)  # a smaller tensor than the scores
            q = self._heads(q, *queries)  # [B, N, Q, H]
            k = self._heads(self.key(x), grid, grid_to_row)  # [B, N, T, H]
            v = self._heads(self.value(x), grid, grid_to_row)

        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))  # [B, N, Q, T]
        scores = ops.cast(scores, "float32")
        if not training:
            # Where the mask follows at once, TensorFlow fuses both into the product.
            scores = scores * scale
        unseen = ops.where(attention_mask[:, None], 0.0, UNSEEN)  # [B, 1, 1 or Q, T]
        probs = ops.softmax(scores + ops.cast(unseen, "float32"))
        kept = self.drop(ops.cast(probs, self.compute_dtype), training=training)

        mixed = ops.matmul(kept, v)  # [B, N, Q, H]
        if head_gate is not None:
            gate = ops.reshape(ops.cast(head_gate, mixed.dtype), (-1, self.num_heads, 1, 1))
            mixed = mixed * gate
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, x.shape[-1]))  # [B * Q, D]
        if row_to_grid is not None:
            mixed = ops.take(mixed, row_to_grid, axis=0)  # [R, D]
        return {
            "output": self.merge(mixed),
            "attention_scores": probs,
            "queries": q / scale if training else q,
            "keys": k,
            "values": v,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "initializer_range": self.initializer_range,
            "lora_rank": self.lora_rank,
        }

    def _heads(self, x: Any, grid: tuple[Any, Any], grid_to_row: Any) -> Any:
        """Lays rows [R, D] out as heads [B, N, T, H], with `grid` B, T."""
        if grid_to_row is not None:
            x = ops.take(x, grid_to_row, axis=0)  # [B * T, D]
        x = ops.reshape(x, (*grid, self.num_heads, self.head_size))
        return ops.transpose(x, (0, 2, 1, 3))

    def _joined_heads(self, x: Any, grid: tuple[Any, Any], grid_to_row: Any) -> tuple[Any, ...]:
        """The same of all three products at once."""
        x = self._joined(x)  # [R, 3 D]
        if grid_to_row is not None:
            x = ops.take(x, grid_to_row, axis=0)  # [B * T, 3 D]
        x = ops.reshape(x, (*grid, 3, self.num_heads, self.head_size))
        x = ops.transpose(x, (2, 0, 3, 1, 4))  # [3, B, N, T, H]
        return x[0], x[1], x[2]

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        return built_dense(
            units,
            units,
            initializer_range=self.initializer_range,
            lora_rank=self.lora_rank,
            dtype=self.dtype_policy,
            name=name,
        )
