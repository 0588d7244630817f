"""LSTMs over an encoder's tokens, from both sides."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("bert_keras")
class _Orthogonal(keras.initializers.Orthogonal):
    """Keras' own in any precision: it has no bfloat16."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.cast(super().__call__(shape, "float32"), dtype or keras.config.floatx())


class BiLSTM(keras.layers.Layer):
    """Two layers of LSTMs, each reading a row from its start and from its end.

    Devlin et al., 2019, puts one on an encoder that stays as it is (section 5.3, table 7: "a
    two-layer 768-dimensional BiLSTM") and on the left-to-right model, whose tokens see nothing of
    what follows them (section 5.1). https://arxiv.org/abs/1810.04805

    Args:
        units: U, of each direction.
        num_layers: one on the other.

    Call arguments:
        x: float [B, T, W].
        padding_mask: [B, T], nonzero where a token is real; real ones come first.

    Returns:
        A pair: of each token what both directions know there, [B, T, 2 U]; of each row what they
        know at their ends, [B, 2 U].
    """

    def __init__(self, units: int, *, num_layers: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.num_layers = num_layers
        self.layers = [
            keras.layers.Bidirectional(
                keras.layers.LSTM(
                    units,
                    return_sequences=True,
                    recurrent_initializer=_Orthogonal(),
                    dtype=self.dtype_policy,
                    name="lstm",
                ),
                dtype=self.dtype_policy,
                name=f"layer_{index}",
            )
            for index in range(num_layers)
        ]

    def build(self, x_shape: Any, *others: Any, **named: Any) -> None:
        width = x_shape[-1]
        for layer in self.layers:
            layer.build((None, None, width))
            width = 2 * self.units
        self.built = True

    def call(self, x: Any, padding_mask: Any, training: bool | None = None) -> tuple[Any, Any]:
        real = ops.cast(padding_mask, "bool")
        for layer in self.layers:
            x = layer(x, mask=real, training=training)
        last = ops.maximum(ops.sum(ops.cast(real, "int32"), axis=1) - 1, 0)  # [B]
        forward = ops.take_along_axis(x[:, :, : self.units], last[:, None, None], axis=1)[:, 0]
        ends = ops.concatenate([forward, x[:, 0, self.units :]], axis=-1)
        return x * ops.cast(real[:, :, None], x.dtype), ends

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "num_layers": self.num_layers}
