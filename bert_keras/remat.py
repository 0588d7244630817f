"""Rematerialisation: what a block computes inside is computed again in the backward pass, not kept.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": https://arxiv.org/abs/1604.06174

Of each block only its input stays in memory, one [R, D] matrix in place of some thirty; the price
is a second forward pass of the blocks, a third of the step's arithmetic more.

Dropout must drop the same elements again. Its draws follow a count that every call moves on, so
the seeds are drawn before the block and handed in.
"""

from typing import Any

import keras
from keras import ops

from bert_keras.dropout import Dropout


def rematerialized(block: keras.layers.Layer, x: Any, *others: Any) -> Any:
    """The `output` of a block in training, its inside computed again for the gradient.

    Args:
        block: a TransformerBlock.
        x: float [R, D], what the gradient flows to.
        others: the block's other arguments; no gradient flows to them.
    """
    drops = [each for each in block._flatten_layers() if isinstance(each, Dropout) and each.dropped]
    seeds = [drop.seed_generator.next() for drop in drops]

    def run(x: Any) -> Any:
        for drop, seed in zip(drops, seeds, strict=True):
            drop.given_seed = seed
        try:
            return block(x, *others, training=True)["output"]
        finally:
            for drop in drops:
                drop.given_seed = None

    output = keras.remat(run)(x)
    # TensorFlow recomputes for dense gradients alone, and a gather after the last block sends a
    # sparse one; a reshape to the same shape is free, and makes it dense.
    return ops.reshape(output, ops.shape(output))
