"""What a batch is: arrays by name, of which the network takes some and the loss the others."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Batch = Mapping[str, np.ndarray]
# loss(batch, outputs of the network) -> float32 [B], a loss for each example; or a dict of such
# arrays, of which "loss" is minimised and the others are told.
Loss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

# What goes into the network; the rest (labels, ...) is for the loss.
INPUTS = (
    *("token_ids", "segment_ids", "padding_mask", "document_ids", "position_ids"),
    *("masked_positions", "features"),
)
# What is for neither: row numbers in the data set, and where the batch comes from.
NOT_ON_DEVICE = ("rows", "phase", "epoch", "position")


def network_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a batch that the network takes."""
    return {name: batch[name] for name in INPUTS if name in batch}


def on_device(batch: Batch) -> dict[str, np.ndarray]:
    """The features of a batch that the network or the loss takes, in the order of their names."""
    return {name: batch[name] for name in sorted(batch) if name not in NOT_ON_DEVICE}
