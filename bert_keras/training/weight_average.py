"""A running mean of the weights, which generalises a little better than the last ones.

    a <- m a + (1 - m) w        m the momentum, at step t at most (1 + t) / (10 + t)

The bound, TensorFlow's for its `ExponentialMovingAverage`, lets the first weights be forgotten.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops


class WeightAverage:
    """The running mean of a network's trainable weights, float32.

    Attributes:
        variables: the means, in the order of `network.trainable_variables`.
    """

    def __init__(self, network: keras.Model, momentum: float):
        if not 0 < momentum < 1:
            raise ValueError(f"`momentum` must be between 0 and 1. Received {momentum}.")
        self.momentum = momentum
        self._weights = network.trainable_variables
        self.variables = [
            keras.Variable(
                ops.convert_to_numpy(ops.cast(v, "float32")), trainable=False, name="average"
            )
            for v in self._weights
        ]
        self._update: Callable[[Any], None] | None = None

    def update(self, step: int) -> None:
        """Takes the weights of a step (1 is the first) in."""
        if self._update is None:
            self._update = _make_update(self.variables, self._weights)
        self._update(np.float32(1.0 - min(self.momentum, (1 + step) / (10 + step))))

    def reset(self) -> None:
        """Starts anew from the weights as they are."""
        for mean, weight in zip(self.variables, self._weights, strict=True):
            mean.assign(ops.cast(weight, "float32"))

    def use(self) -> None:
        """Puts the means into the network for good."""
        for mean, weight in zip(self.variables, self._weights, strict=True):
            weight.assign(ops.cast(mean, weight.dtype))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the means inside the block, and its own weights after it."""
        own = [ops.convert_to_numpy(weight) for weight in self._weights]
        self.use()
        try:
            yield
        finally:
            for weight, array in zip(self._weights, own, strict=True):
                weight.assign(array)


def _make_update(
    means: list[keras.Variable], weights: list[keras.Variable]
) -> Callable[[Any], None]:
    """A function that moves each mean by a share towards its weight, compiled where that pays."""

    def moved(mean: Any, weight: Any, share: Any) -> Any:
        return mean + share * (ops.cast(weight, "float32") - mean)

    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def pure(old: Any, new: Any, share: Any) -> Any:
            return [moved(a, b, share) for a, b in zip(old, new, strict=True)]

        def update(share: Any) -> None:
            values = pure([m.value for m in means], [w.value for w in weights], share)
            for mean, value in zip(means, values, strict=True):
                mean.assign(value)

        return update

    def assign(share: Any) -> None:
        for mean, weight in zip(means, weights, strict=True):
            mean.assign(moved(mean, weight, share))

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(assign, input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)

    import torch

    return torch.no_grad()(assign)
