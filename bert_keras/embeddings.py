"""The input of BERT: what the token is, where it stands, and which sentence it is in."""

from typing import Any

import keras
from keras import ops

from bert_keras.dropout import Dropout
from bert_keras.normalization import LayerNorm


class BertEmbeddings(keras.layers.Layer):
    """Adds token, segment and position vectors, normalises, and drops out.

        x = Dropout(LayerNorm(token[ids] + segment[segments] + position[0..T-1]))

    Devlin et al., 2019, section 3 and figure 2: https://arxiv.org/abs/1810.04805
    With `embedding_size` E below D, x is projected from E to D afterwards (Lan et al., 2020,
    section 3.1: https://arxiv.org/abs/1909.11942).

    Shapes: B batch, T tokens, E embedding size, D hidden size, V vocabulary. R is the number
    of rows carried: B * T, or the number of real tokens.

    Args:
        vocab_size: V.
        hidden_size: D.
        max_position_embeddings: the largest T.
        type_vocab_size: the number of segments.
        embedding_size: E; D when None.
        layer_norm_eps: added to the variance.
        dropout: rate.
        initializer_range: standard deviation of the tables at the start.

    Call arguments:
        token_ids: int [R].
        segment_ids: int [R].
        position_ids: int [R].

    Returns:
        float [R, D].
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        *,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        embedding_size: int | None = None,
        layer_norm_eps: float = 1e-12,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.embedding_size = embedding_size
        self.layer_norm_eps = layer_norm_eps
        self.dropout = dropout
        self.initializer_range = initializer_range

        self.width = embedding_size or hidden_size  # E
        self.norm = LayerNorm(epsilon=layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.projection = None
        if self.width != hidden_size:
            self.projection = keras.layers.Dense(
                hidden_size,
                kernel_initializer=self._initializer(),
                dtype=self.dtype_policy,
                name="projection",
            )

    def build(self, *shapes: Any, **named_shapes: Any) -> None:
        def table(rows: int, name: str) -> Any:
            # Kept out of autocast: only the rows that are read are cast, not the whole table.
            return self.add_weight(
                (rows, self.width), self._initializer(), name=name, autocast=False
            )

        self.token_embedding = table(self.vocab_size, "token_embedding")
        self.segment_embedding = table(self.type_vocab_size, "segment_embedding")
        self.position_embedding = table(self.max_position_embeddings, "position_embedding")
        self.norm.build((None, self.width))
        if self.projection is not None:
            self.projection.build((None, self.width))
        self.built = True

    def call(
        self, token_ids: Any, segment_ids: Any, position_ids: Any, training: bool | None = None
    ) -> Any:
        x = self._rows(self.token_embedding, token_ids)  # [R, E]
        x = x + self._rows(self.segment_embedding, segment_ids)
        x = x + self._rows(self.position_embedding, position_ids)
        x = self.drop(self.norm(x), training=training)
        return x if self.projection is None else self.projection(x)  # [R, D]

    def compute_output_shape(self, token_ids_shape: Any, *others: Any, **named: Any) -> Any:
        return (*token_ids_shape, self.hidden_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "embedding_size": self.embedding_size,
            "layer_norm_eps": self.layer_norm_eps,
            "dropout": self.dropout,
            "initializer_range": self.initializer_range,
        }

    def _initializer(self) -> keras.initializers.Initializer:
        return keras.initializers.TruncatedNormal(stddev=self.initializer_range)

    def _rows(self, table: Any, ids: Any) -> Any:
        return ops.cast(ops.take(table, ids, axis=0), self.compute_dtype)
