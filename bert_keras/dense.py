"""Dense layers as BERT starts them: kernels from a truncated normal, biases from 0."""

from typing import Any

import keras


def built_dense(
    inputs: int, units: int, *, initializer_range: float, dtype: Any, name: str, lora_rank: int = 0
) -> keras.layers.Dense:
    """A dense layer whose weights exist.

    Args:
        inputs: size of the last axis that comes in.
        units: size of the last axis that goes out.
        initializer_range: standard deviation of the kernel at the start.
        dtype: a dtype policy or its name.
        name: of the layer.
        lora_rank: rank of a low-rank update beside the kernel; 0 for none.
    """
    layer = keras.layers.Dense(
        units,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=initializer_range),
        lora_rank=lora_rank or None,
        dtype=dtype,
        name=name,
    )
    layer.build((None, inputs))
    return layer
