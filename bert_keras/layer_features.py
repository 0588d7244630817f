"""What a reader of an encoder that stays as it is takes from its layers.

Devlin et al., 2019, section 5.3, table 7: https://arxiv.org/abs/1810.04805

| name               | of the L blocks' outputs and the embeddings            | width |
|--------------------|--------------------------------------------------------|-------|
| embeddings         | the embeddings                                         | D     |
| second_to_last     | block L - 1                                            | D     |
| last               | block L                                                | D     |
| sum_all            | the sum of all L blocks                                | D     |
| weighted_sum_last4 | the last four, summed with weights that are learned    | D     |
| concat_last4       | the last four, side by side                            | 4 D   |
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

FEATURE_LAYERS = (
    *("embeddings", "second_to_last", "last", "sum_all"),
    *("weighted_sum_last4", "concat_last4"),
)
WEIGHTED = "weighted_sum_last4"
SUMMED = "sum_all"


def states(name: str, num_layers: int) -> tuple[int, ...]:
    """Which of an encoder's `hidden_states`: 0 is the embeddings, k the output of block k.

    Raises:
        ValueError: there is no such name, or there are not so many layers.
    """
    if name not in FEATURE_LAYERS:
        raise ValueError(f"`feature_layers` may be {', '.join(FEATURE_LAYERS)}. Received {name!r}.")
    if name.endswith("last4") and num_layers < 4:
        raise ValueError(f"`feature_layers={name}` needs 4 layers. Received {num_layers}.")
    top = tuple(range(1, num_layers + 1))
    return {
        "embeddings": (0,),
        "second_to_last": (num_layers - 1,),
        "last": top[-1:],
        SUMMED: top,
    }.get(name, top[-4:])


def gather(hidden_states: Sequence[Any], name: str) -> Any:
    """What is taken of all hidden states, float32 [B, T, W]; four layers are side by side."""
    chosen = [ops.cast(hidden_states[k], "float32") for k in states(name, len(hidden_states) - 1)]
    return sum(chosen[1:], chosen[0]) if name == SUMMED else ops.concatenate(chosen, axis=-1)


class LayerSum(keras.layers.Layer):
    """The sum of layers that stand side by side, with weights that are learned.

        γ Σ softmax(s)ₖ hₖ

    Peters et al., 2018, section 3.2, equation 1: https://arxiv.org/abs/1802.05365

    Args:
        num_layers: how many.

    Call arguments:
        x: float [B, T, num_layers * D].

    Returns:
        float [B, T, D].
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_layers = num_layers

    def build(self, x_shape: Any) -> None:
        self.scores = self.add_weight((self.num_layers,), "zeros", name="scores")
        self.scale = self.add_weight((1,), "ones", name="scale")
        self.built = True

    def call(self, x: Any) -> Any:
        *grid, width = ops.shape(x)
        layers = ops.reshape(x, (*grid, self.num_layers, width // self.num_layers))
        weights = ops.cast(self.scale * ops.softmax(self.scores), x.dtype)
        return ops.sum(layers * weights[:, None], axis=-2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers}
