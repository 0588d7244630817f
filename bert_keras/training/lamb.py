"""LAMB: Adam whose update of each weight matrix is scaled to the size of that matrix.

You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
algorithm 2: https://arxiv.org/abs/1904.00962
"""

from typing import Any

import keras
from keras import ops

from bert_keras.training.optimization import AdamW


@keras.saving.register_keras_serializable("bert_keras")
class Lamb(AdamW):
    """LAMB as its paper writes it.

    With the momentum m and velocity v of Adam, weight p and learning rate a:

        u <- (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay p
        p <- p - a (|p| / |u|) u

    The norms are those of one variable; where one of them is 0 the ratio is 1 (phi is the
    identity). Biases and LayerNorm have neither decay nor a ratio, as in the paper's experiments
    and the Model Garden's optimizer. Keras' own `Lamb` decays outside of the ratio and has no such
    exceptions: another optimizer.

    The arguments are AdamW's, by name. The paper does not clip gradients; its authors' and NVIDIA's
    programs do, to a global norm of 1, which is the default here too.
    """

    def __init__(self, learning_rate: Any = 1e-3, *, name: str = "lamb", **kwargs: Any):
        super().__init__(learning_rate, name=name, **kwargs)

    def update_weight(self, variable: Any, old: Any, direction: Any, rate: Any, decay: Any) -> None:
        """Adds the decay, and scales the update to the weight where the variable is adapted."""
        if decay is None:
            update = direction
        else:
            update = direction + decay * old
            update = self.trust_ratio(old, update) * update
        self.assign(variable, ops.cast(old - rate * update, variable.dtype))

    def trust_ratio(self, weight: Any, update: Any) -> Any:
        """|weight| / |update|, and 1 where either is 0; float32 []."""
        weight_norm, update_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (weight, update))
        usual = ops.logical_and(weight_norm > 0, update_norm > 0)
        return ops.where(usual, weight_norm / ops.where(usual, update_norm, 1.0), 1.0)
