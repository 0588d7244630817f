"""Dropout whose random numbers are cheap."""

from typing import Any

import keras
from keras import ops

# Draws are 16 bits wide: one 32-bit random integer decides for two elements.
DRAW_VALUES = 1 << 16


class _GivenSeed(keras.random.SeedGenerator):
    """Keras' random functions take an integer or a generator; this one yields a seed once drawn."""

    def __init__(self, seed: Any):
        self.given = seed

    def next(self, ordered: bool = True) -> Any:
        return self.given


class Dropout(keras.layers.Layer):
    """Sets a share of the elements to zero in training and scales up the rest.

    Srivastava et al., 2014: https://jmlr.org/papers/v15/srivastava14a.html

    On two CPU cores the usual float draw for every element takes a fifth of BERT's training
    step. Here an element is dropped if its 16 random bits are below a threshold, which needs
    half an integer an element and no float at all: four times cheaper. The rate is met to
    1/65536, and the scale is the inverse of the share that is kept in truth, so in float32
    the expectation is exact. In bfloat16 each product with the scale is rounded.

    Args:
        rate: share of elements to drop, in [0, 1).
        seed: int or None. The draws are a pure function of it and of how often the layer
            was called in training; the count is a weight-like state that checkpoints keep.
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received rate={rate}.")
        self.rate = rate
        self.seed = seed
        self.dropped = round(rate * DRAW_VALUES)  # of DRAW_VALUES
        self.given_seed: Any = None  # In place of the generator's next one; see `remat.py`.
        if self.dropped:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.dropped:
            return x
        keep = self._draws(x) >= self.dropped - DRAW_VALUES // 2
        scale = DRAW_VALUES / (DRAW_VALUES - self.dropped)
        # A product, not a selection: the backward pass is one more product, while TensorFlow's
        # selection costs two and is slow in bfloat16.
        return x * (ops.cast(keep, x.dtype) * ops.cast(scale, x.dtype))

    def _draws(self, x: Any) -> Any:
        """Returns int16 of x's shape, uniform over all 65536 values."""
        shape = ops.shape(x)
        count = 1
        for size in shape:
            count = count * size
        given = self.given_seed
        seed = self.seed_generator if given is None else _GivenSeed(given)
        pairs = keras.random.randint(
            ((count + 1) // 2, 1), -(2**31), 2**31 - 1, dtype="int32", seed=seed
        )
        draws = ops.reshape(ops.view(pairs, "int16"), (-1,))
        return ops.reshape(draws[:count], shape)

    def compute_output_shape(self, x_shape: Any) -> Any:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
