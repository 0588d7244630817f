"""Masking as a step of a `tf.data` pipeline.

dataset = dataset.batch(32).map(masking_map(Masking(unit="word"), epoch=0, seed=12345, ...))
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from bert_keras.masking.rule import Masking, mask_rows

Features = dict[str, Any]


def masking_map(
    masking: Masking,
    *,
    seed: int,
    epoch: int,
    vocab_size: int,
    mask_id: int,
    special_ids: Sequence[int],
) -> Callable[[Mapping[str, Any]], Features]:
    """A function for `dataset.map`; to the bit what `mask_rows` makes in NumPy.

    Where Keras runs on TensorFlow the masks are made by operations of the graph; elsewhere, as
    `keras.ops` is another library's then, by NumPy in a `tf.numpy_function`.

    Args:
        masking, seed, epoch, vocab_size, mask_id, special_ids: see `mask_rows`.

    Returns:
        A function from batches with `token_ids`, `padding_mask`, `rows` (and `word_starts` unless
        the unit is "token") to batches without `word_starts`, with `token_ids` masked, and with
        `masked_positions`, `masked_ids` and `masked_weights`. T must be known: pad every batch
        to the same length.
    """
    ids = {"vocab_size": vocab_size, "mask_id": mask_id, "special_ids": tuple(special_ids)}
    on_tensorflow = keras.backend.backend() == "tensorflow"
    mask = _mask_in_graph if on_tensorflow else _mask_in_numpy

    def apply(features: Mapping[str, Any]) -> Features:
        names = ["token_ids", "padding_mask", "rows"]
        if masking.unit != "token":
            names.append("word_starts")
        arrays = {name: features[name] for name in names}
        others = {name: value for name, value in features.items() if name != "word_starts"}
        return others | mask(masking, arrays, seed=seed, epoch=epoch, **ids)

    return apply


def _mask_in_graph(
    masking: Masking, arrays: Features, xp: Any = keras.ops, **more: Any
) -> Features:
    return mask_rows(
        masking,
        arrays["token_ids"],
        arrays.get("word_starts"),
        arrays["padding_mask"],
        rows=arrays["rows"],
        xp=xp,
        **more,
    )


def _mask_in_numpy(masking: Masking, arrays: Features, **more: Any) -> Features:
    import numpy as np
    import tensorflow as tf

    names = ("token_ids", "masked_positions", "masked_ids", "masked_weights")

    def mask(*values: Any) -> list[Any]:
        masked = _mask_in_graph(masking, dict(zip(arrays, values, strict=True)), xp=np, **more)
        return [masked[name] for name in names]

    types = [tf.float32 if name == "masked_weights" else tf.int32 for name in names]
    values = tf.numpy_function(mask, list(arrays.values()), types, stateful=False)
    rows, width = arrays["token_ids"].shape
    for name, value in zip(names, values, strict=True):
        shape = width if name == "token_ids" else masking.num_predictions(width)
        value.set_shape((rows, shape))
    return dict(zip(names, values, strict=True))
