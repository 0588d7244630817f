"""How BERT is optimised: Adam with decoupled weight decay, and a clip.

Devlin et al. 2019, appendix A.2: Adam with a learning rate of 1e-4, beta_1 = 0.9, beta_2 =
0.999, L2 weight decay of 0.01, learning rate warm-up over the first 10,000 steps, and linear
decay. The released code adds what the paper leaves out: epsilon 1e-6, no decay on biases and
LayerNorm, gradients clipped to a global norm of 1.0, and no correction of Adam's bias.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bert_keras.errors import InputError
from bert_keras.training.schedules import WarmupLinear, warmup_linear

__all__ = ["AdamW", "WarmupLinear", "decayed", "global_norm", "layer_rates", "warmup_linear"]


def decayed(variable: Any) -> bool:
    """Whether weight decay applies to a Keras variable: not to biases, nor to LayerNorm."""
    return re.search(r"(bias|gamma|beta)$", variable.name) is None


def global_norm(gradients: Sequence[Any]) -> Any:
    """The Euclidean norm of all gradients taken as one vector, float32 []."""
    squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients]
    return ops.sqrt(ops.sum(ops.stack(squares)))


def layer_rates(network: keras.Model, decay: float) -> dict[str, float]:
    """Lower learning rates for lower layers, as `rate_multipliers` of an optimizer.

    Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.3: each layer has
    `decay` times the rate of the layer above it, since lower layers hold more general knowledge.
    With the blocks l = 0 .. L-1:

        head and pooler 1        block l: decay^(L - l)        embeddings: decay^(L + 1)

    The head counts as the layer above the top block. (The paper gives the top block the full rate
    as well, so its layers stand a step higher; ELECTRA's code gives it decay^2, a step lower.)

    Args:
        network: of `bert_keras.models`.
        decay: above 0, at most 1; 1 is one rate for all. Best in the paper: 0.95.

    Returns:
        the multiplier of every weight, frozen ones too, by the path of its variable.

    Raises:
        InputError: `decay` is out of these bounds.
    """
    if not 0 < decay <= 1:
        raise InputError(f"layer-wise decay {decay}: give a number above 0 and at most 1")
    rates = {weight.path: 1.0 for weight in network.weights}
    layers = [network.encoder.embeddings, *network.encoder.blocks]
    for below, layer in enumerate(reversed(layers), start=1):
        rates.update((weight.path, decay**below) for weight in layer.weights)
    return rates


@keras.saving.register_keras_serializable("bert_keras")
class AdamW(keras.optimizers.Optimizer):
    """Adam with decoupled weight decay, as BERT was trained.

    With gradient g (clipped), momentum m, velocity v, weight p and learning rate a:

        m <- beta_1 m + (1 - beta_1) g          v <- beta_2 v + (1 - beta_2) g^2
        p <- p - a (m / (sqrt(v) + epsilon) + weight_decay p)

    With `bias_correction`, the default, m and v are divided by 1 - beta^t first: Kingma and Ba's
    Adam, and what `torch.optim.AdamW` computes. Without it, that is google-research/bert's
    optimizer, whose first steps are larger by up to a factor of 3; on a few thousand examples
    that is a known cause of failed runs (Mosbach et al. 2021, "On the stability of fine-tuning
    BERT").

    Momentum and velocity are float32 whatever the dtype of the weights. Runs in `model.fit`
    too; `bert_keras.training.fit` knows a faster way to the same update.

    Args:
        learning_rate: a number or a schedule such as `warmup_linear(...)`.
        weight_decay: the factor above; applied where `decayed(variable)` holds. Default 0.01.
        beta_1: default 0.9.
        beta_2: default 0.999.
        epsilon: default 1e-6, outside of the square root.
        global_clipnorm: the norm of all gradients together is cut to this; None for no clip.
        bias_correction: see above.
        rate_multipliers: what the learning rate of each variable is multiplied by, by the
            variable's path, as `layer_rates` gives it; the decay, a part of the update, is too. It
            must name every variable that is trained. None for one rate.
        name: name of the optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 5e-5,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        bias_correction: bool = True,
        rate_multipliers: Mapping[str, float] | None = None,
        name: str = "adamw",
    ):
        super().__init__(learning_rate=learning_rate, global_clipnorm=global_clipnorm, name=name)
        # Not handed to the base class, which would decay in passes of its own.
        self.decay_rate = float(weight_decay)
        self.beta_1 = float(beta_1)
        self.beta_2 = float(beta_2)
        self.epsilon = float(epsilon)
        self.bias_correction = bool(bias_correction)
        self.rate_multipliers = None if rate_multipliers is None else dict(rate_multipliers)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates a momentum and a velocity for each variable."""
        if self.built:
            return
        known = self.rate_multipliers
        for variable in variables:
            if known is not None and variable.path not in known:
                raise ValueError(f"`rate_multipliers` must name {variable.path}.")
        super().build(variables)
        self.momenta: list[keras.Variable] = []
        self.velocities: list[keras.Variable] = []
        for variable in variables:
            for slots, name in ((self.momenta, "momentum"), (self.velocities, "velocity")):
                slots.append(
                    self.add_variable(
                        variable.shape,
                        dtype="float32",
                        name=f"{variable.path.replace('/', '_')}_{name}",
                    )
                )
        self._decayed = [decayed(variable) for variable in variables]
        self._multipliers = [1.0 if known is None else known[each.path] for each in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One update of one variable, as in the formula above."""
        momentum, velocity, decay = self.slots(variable)
        rate = self.rate_of(variable, ops.cast(learning_rate, "float32"))
        gradient = ops.cast(gradient, "float32")
        old = ops.cast(variable, "float32")

        m = momentum + (1.0 - self.beta_1) * (gradient - momentum)
        v = velocity + (1.0 - self.beta_2) * (ops.square(gradient) - velocity)
        first, second = self.corrections(self.iterations)
        direction = (m / first) / (ops.sqrt(v / second) + self.epsilon)

        self.assign(momentum, m)
        self.assign(velocity, v)
        self.update_weight(variable, old, direction, rate, decay)

    def update_weight(self, variable: Any, old: Any, direction: Any, rate: Any, decay: Any) -> None:
        """Takes the step from `old` (the weight in float32) against `direction`, and the decay.

        `decay` is the factor, or None for a variable that is excepted.
        """
        update = direction if decay is None else direction + decay * old
        self.assign(variable, ops.cast(old - rate * update, variable.dtype))

    def corrections(self, iterations: Any) -> tuple[Any, Any]:
        """What m and v are divided by in the update that follows `iterations` others."""
        if not self.bias_correction:
            return 1.0, 1.0
        step = ops.cast(iterations, "float32") + 1.0
        return 1.0 - ops.power(self.beta_1, step), 1.0 - ops.power(self.beta_2, step)

    def slots(self, variable: keras.Variable) -> tuple[Any, Any, float | None]:
        """Momentum, velocity, and weight decay (None where `decayed` excepts it) of a variable."""
        index = self._get_variable_index(variable)
        decay = self.decay_rate if self._decayed[index] else None
        return self.momenta[index], self.velocities[index], decay

    def rate_of(self, variable: keras.Variable, rate: Any) -> Any:
        """The learning rate of a variable where that of the head is `rate`."""
        multiplier = self._multipliers[self._get_variable_index(variable)]
        return rate if multiplier == 1.0 else rate * multiplier

    def _clip_gradients(self, gradients: Sequence[Any]) -> list[Any]:
        # The base class would take the norm of an embedding's sparse gradient over the rows of
        # the batch instead of the rows of the table: wrong where a token occurs twice. A reshape
        # to the same shape is free, and makes a sparse gradient dense.
        gradients = [ops.reshape(gradient, gradient.shape) for gradient in gradients]
        if not self.global_clipnorm:
            return gradients
        scale = self.clip_scale(global_norm(gradients))
        return [gradient * ops.cast(scale, gradient.dtype) for gradient in gradients]

    def clip_scale(self, norm: Any) -> Any:
        """The factor that brings gradients of this global norm within the limit; NaN stays NaN."""
        if not self.global_clipnorm:
            return ops.ones_like(norm)
        return self.global_clipnorm / ops.maximum(norm, self.global_clipnorm)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for Keras to write down."""
        config = super().get_config()
        multipliers = self.rate_multipliers
        return {
            "learning_rate": config["learning_rate"],
            "weight_decay": self.decay_rate,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "global_clipnorm": self.global_clipnorm,
            "bias_correction": self.bias_correction,
            **({"rate_multipliers": dict(multipliers)} if multipliers is not None else {}),
            "name": self.name,
        }
