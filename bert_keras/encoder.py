"""BERT's body: embeddings, L transformer blocks, and the pooled [CLS]."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert_keras.config import BertConfig
from bert_keras.embeddings import BertEmbeddings
from bert_keras.remat import rematerialized
from bert_keras.taps import NO_TAPS, Taps
from bert_keras.transformer import TransformerBlock


class BertEncoder(keras.layers.Layer):
    """The encoder of BERT.

    Devlin et al., 2019, section 3: https://arxiv.org/abs/1810.04805

    Shapes: B batch, T tokens, D hidden size, N heads, H head size, F intermediate size,
    L layers. Inside, tokens are rows of one [R, D] matrix; R is B * T, or with `unpad` the
    number of real tokens (and of first tokens, which the pooler reads, be they real or not), so
    that cost follows the real tokens and not the padding.

    Args:
        config: the numbers, a BertConfig or its dict.
        unpad: carry real tokens alone. Exact for them; rows of padding come out as zeros.
            Needs shapes that depend on data: TensorFlow only.
        left_to_right: let a token see itself and those before it, the LTR model of Devlin
            et al., section 5.1; the pooler then reads the last real token instead of [CLS].
        lora_rank: rank of the low-rank updates of all kernels in the blocks; 0 for none.
        pool: whether there is a pooler; heads on single tokens have no use for one.

    Call arguments:
        inputs: dict of int [B, T]: `token_ids`, `segment_ids` (all 0 if absent),
            `padding_mask` (nonzero where a token is real; all real if absent). Rows that hold
            several documents also have `document_ids`: a token sees its own document alone, as
            if that were the row, and positions count from its first token on; `position_ids`
            give them otherwise.
        taps: None, or a Taps: gates that go in, and inner tensors that come out.
        read_positions: int [B, Q] or None. The tokens that are read, besides the one that the
            pooler reads, Q of each sequence and possibly none; None for all. The last block is
            computed for these alone, which is exact: where the pooler alone is read, ten twelfths
            of its products fall away. (Where taps look inside, all of it is computed.)

    Returns:
        A dict: `sequence_output` [B, T, D], or [B, Q, D] of the positions read,
        `pooled_output` [B, D] if there is a pooler, and what the taps ask for.

    Raises:
        ValueError: T is known and above the config's `max_position_embeddings`.
    """

    def __init__(
        self,
        config: BertConfig | Mapping[str, Any],
        *,
        unpad: bool = False,
        left_to_right: bool = False,
        lora_rank: int = 0,
        pool: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(config, BertConfig):
            config = BertConfig.from_dict(config)
        if unpad and keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`unpad=True` needs the TensorFlow backend, whose shapes may depend on data. "
                f"Received backend={keras.backend.backend()!r}; build with unpad=False."
            )
        self.config = config
        self.unpad = unpad
        self.left_to_right = left_to_right
        self.lora_rank = lora_rank
        self.pool = pool
        self.remat = False  # Set to save memory in training at the price of time; see `remat.py`.

        self.embeddings = BertEmbeddings(
            config.vocab_size,
            config.hidden_size,
            max_position_embeddings=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            embedding_size=config.embedding_size,
            layer_norm_eps=config.layer_norm_eps,
            dropout=config.hidden_dropout_prob,
            initializer_range=config.initializer_range,
            dtype=self.dtype_policy,
            name="embeddings",
        )
        self.blocks = [
            TransformerBlock(
                config.num_attention_heads,
                config.intermediate_size,
                activation=config.hidden_act,
                dropout=config.hidden_dropout_prob,
                attention_dropout=config.attention_probs_dropout_prob,
                layer_norm_eps=config.layer_norm_eps,
                initializer_range=config.initializer_range,
                lora_rank=lora_rank,
                dtype=self.dtype_policy,
                name=f"block_{index}",
            )
            for index in range(config.num_hidden_layers)
        ]
        self.pooler = None
        if pool:
            self.pooler = keras.layers.Dense(
                config.hidden_size,
                activation="tanh",
                kernel_initializer=keras.initializers.TruncatedNormal(
                    stddev=config.initializer_range
                ),
                dtype=self.dtype_policy,
                name="pooler",
            )

    def build(self, inputs_shape: Any = None) -> None:
        self.embeddings.build()
        for block in self.blocks:
            block.build((None, self.config.hidden_size))
        if self.pooler is not None:
            self.pooler.build((None, self.config.hidden_size))
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Any],
        taps: Taps | None = None,
        read_positions: Any = None,
        training: bool | None = None,
    ) -> dict[str, Any]:
        taps = taps or NO_TAPS
        token_ids = inputs["token_ids"]
        grid = ops.shape(token_ids)  # B, T
        longest = self.config.max_position_embeddings
        if isinstance(grid[1], int) and grid[1] > longest:
            raise ValueError(
                "`token_ids` must be no longer than `max_position_embeddings`. Received "
                f"token_ids of {grid[1]} tokens, max_position_embeddings={longest}."
            )
        padding_mask = inputs.get("padding_mask")
        real = ops.ones(grid, "bool") if padding_mask is None else ops.cast(padding_mask, "bool")
        document_ids = inputs.get("document_ids")
        same = None  # [B, T, T]
        if document_ids is not None:
            same = ops.equal(document_ids[:, :, None], document_ids[:, None, :])
        attention_mask = self._attention_mask(real, same, grid)  # [B, 1 or T, T]
        grid_to_row, row_to_grid = self._unpadded(real) if self.unpad else (None, None)

        def rows(x: Any) -> Any:
            x = ops.reshape(x, (-1,))  # [B * T]
            return x if row_to_grid is None else ops.take(x, row_to_grid, axis=0)  # [R]

        cells = self._read_cells(read_positions, real, same)  # [B, 1 + Q]
        read_rows = ops.reshape(cells, (-1,))
        if grid_to_row is not None:
            read_rows = ops.take(grid_to_row, read_rows, axis=0)

        def on_grid(x: Any) -> Any:
            if row_to_grid is not None:
                x = ops.take(x, grid_to_row, axis=0) * ops.cast(ops.reshape(real, (-1, 1)), x.dtype)
            return ops.reshape(x, (*grid, self.config.hidden_size))  # [B, T, D]

        # Gates may be in frozen layers, and want their gradient.
        cuts = training and taps.head_gates is None and taps.ffn_gates is None
        frozen = self.frozen_layers if cuts else None

        def passed(x: Any, layer: int) -> Any:
            """The output of a layer (0: the embeddings); no gradient enters the frozen ones."""
            return ops.stop_gradient(x) if layer == frozen else x

        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        position_ids = inputs.get("position_ids")
        if position_ids is None:
            position_ids = ops.broadcast_to(ops.arange(grid[1], dtype="int32")[None], grid)
            if same is not None:  # Less the cell in which the token's document begins.
                begins = ops.argmax(ops.cast(same, "int32"), axis=-1)
                position_ids = position_ids - ops.cast(begins, "int32")
        x = self.embeddings(
            rows(token_ids), rows(segment_ids), rows(position_ids), training=training
        )
        x = passed(x, 0)  # [R, D]

        seen: dict[str, list[Any]] = {name: [] for name in taps.outputs}
        if "hidden_states" in seen:
            seen["hidden_states"].append(on_grid(x))
        early = read_positions is not None and not seen  # The last block knows what is read.
        for index, block in enumerate(self.blocks):
            last = early and block is self.blocks[-1]
            given = (
                _of_queries(attention_mask, cells) if last else attention_mask,
                *(grid_to_row, row_to_grid),
                *(taps.head_gate(index), taps.ffn_gate(index)),
                read_rows if last else None,
            )
            if self.remat and training and taps is NO_TAPS:
                x = passed(rematerialized(block, x, *given), index + 1)
                continue
            inside = block(x, *given, training=training)
            x = passed(inside["output"], index + 1)
            for name in seen:
                seen[name].append(on_grid(x) if name == "hidden_states" else inside[name])

        read = x if early else ops.take(x, read_rows, axis=0)
        read = ops.reshape(read, (grid[0], -1, self.config.hidden_size))  # [B, 1 + Q, D]
        result = {"sequence_output": on_grid(x) if read_positions is None else read[:, 1:]}
        if self.pooler is not None:
            result["pooled_output"] = self.pooler(read[:, 0])  # [B, D]
        return {**result, **{name: tuple(tensors) for name, tensors in seen.items()}}

    @property
    def frozen_layers(self) -> int | None:
        """How many of the first blocks are not trained, nor the embeddings; None if these are."""
        if self.embeddings.trainable:
            return None
        trained = (index for index, block in enumerate(self.blocks) if block.trainable)
        return next(trained, len(self.blocks))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": self.config.to_dict(),
            "unpad": self.unpad,
            "left_to_right": self.left_to_right,
            "lora_rank": self.lora_rank,
            "pool": self.pool,
        }

    def _attention_mask(self, real: Any, same: Any, grid: Any) -> Any:
        """Returns what each query may see: bool [B, 1, T], or [B, T, T] where they differ."""
        mask = real[:, None, :]
        if same is not None:
            mask = ops.logical_and(mask, same)
        if self.left_to_right:
            positions = ops.arange(grid[1])
            mask = ops.logical_and(mask, positions[:, None] >= positions[None, :])
        return mask

    def _read_cells(self, positions: Any, real: Any, same: Any) -> Any:
        """Returns the cells of the tokens that are read, int [B, 1 + Q]: the pooler's first."""
        batch, tokens = ops.shape(real)
        pooled = ops.zeros((batch,), "int32")  # [CLS]
        if self.left_to_right:  # It sees nothing there; the last token of its text sees all.
            text = real if same is None else ops.logical_and(real, same[:, 0])
            pooled = ops.maximum(ops.sum(ops.cast(text, "int32"), axis=1) - 1, 0)
        read = pooled[:, None]
        if positions is not None:
            read = ops.concatenate([read, ops.cast(positions, "int32")], axis=1)
        return read + ops.arange(batch, dtype="int32")[:, None] * tokens

    def _unpadded(self, real: Any) -> tuple[Any, Any]:
        """Returns the row of each grid cell, int [B * T], and the cell of each row, int [R]."""
        first = ops.arange(ops.shape(real)[1]) == 0  # [T]
        carried = ops.reshape(ops.logical_or(real, first), (-1,))  # [B * T]
        # Padding borrows the row carried before it, one of its own sequence; no query may see
        # it as a key.
        grid_to_row = ops.cumsum(ops.cast(carried, "int32")) - 1
        (row_to_grid,) = ops.nonzero(carried)
        return grid_to_row, ops.cast(row_to_grid, "int32")


def _of_queries(attention_mask: Any, cells: Any) -> Any:
    """The mask [B, 1 or T, T] of the queries in these cells [B, Q]: [B, 1 or Q, T]."""
    if attention_mask.shape[1] == 1:
        return attention_mask
    return ops.take(ops.reshape(attention_mask, (-1, ops.shape(attention_mask)[-1])), cells, axis=0)
