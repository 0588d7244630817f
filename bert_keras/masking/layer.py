"""Masking as a layer: batches come unmasked, and every epoch masks them anew on the device."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bert_keras.masking.rule import Masking, mask_rows


class DynamicMasking(keras.layers.Layer):
    """Chooses the tokens that a masked language model predicts, and replaces them.

    Liu et al., 2019, section 4.1, "dynamic masking": https://arxiv.org/abs/1907.11692. The bits
    are those that NumPy makes on the host (`data.masking.mask_rows`): of a hash of seed, epoch and
    row instead of a `keras.random` generator, so there is no state to save and a draw can be
    replayed anywhere.

    Shapes: B batch, T tokens, P predicted positions; T must be known when a graph is built.

    Args:
        masking: a Masking, or its dict.
        vocab_size: V; random tokens are drawn from all of it.
        mask_id: id of [MASK].
        special_ids: ids that are never chosen: [CLS], [SEP], ...
        seed: of the run.

    Call arguments:
        inputs: dict of `token_ids`, `padding_mask` int32 [B, T]; `word_starts` int32 [B, T] unless
            the unit is "token"; `rows` int [B], their numbers in the data set; and `epoch` int32
            [] or [B], 0 if absent. Others pass through.

    Returns:
        The inputs without `word_starts` and `epoch`, with `token_ids` masked, and with
        `masked_positions`, `masked_ids` int32 [B, P] and `masked_weights` float32 [B, P].
    """

    def __init__(
        self,
        masking: Masking | Mapping[str, Any],
        *,
        vocab_size: int,
        mask_id: int,
        special_ids: Sequence[int],
        seed: int = 12345,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.masking = masking if isinstance(masking, Masking) else Masking(**masking)
        self.vocab_size = vocab_size
        self.mask_id = mask_id
        self.special_ids = tuple(special_ids)
        self.seed = seed
        self.built = True

    def call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        others = {n: x for n, x in inputs.items() if n not in ("word_starts", "epoch")}
        masked = mask_rows(
            self.masking,
            inputs["token_ids"],
            inputs.get("word_starts"),
            inputs["padding_mask"],
            seed=self.seed,
            epoch=inputs.get("epoch", 0),
            rows=inputs["rows"],
            vocab_size=self.vocab_size,
            mask_id=self.mask_id,
            special_ids=self.special_ids,
            xp=ops,
        )
        return others | masked

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "masking": dataclasses.asdict(self.masking),
            "vocab_size": self.vocab_size,
            "mask_id": self.mask_id,
            "special_ids": list(self.special_ids),
            "seed": self.seed,
        }
