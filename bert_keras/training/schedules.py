"""Learning rates over the steps of a run: a warm-up on a line, then one of four ways down.

Steps count from 0; n steps in all, w of them warm-up. While s < w the rate is `peak * s / w`, so
the first update of a run with a warm-up has a rate of 0, and the rate that users name is reached at
step w. From there to n the schedules differ; from n on the rate stays where it ended.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_PACKAGE = "bert_keras"


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """The warm-up, the same for all; a subclass tells how the rate falls.

    Args:
        peak: the learning rate that users name, for example 5e-5.
        num_steps: n, optimizer steps in the whole run.
        num_warmup_steps: w; 0 for no warm-up.
    """

    def __init__(self, peak: float, num_steps: int, num_warmup_steps: int = 0):
        if num_steps < 1 or not 0 <= num_warmup_steps <= num_steps:
            raise ValueError(
                f"num_steps={num_steps}, num_warmup_steps={num_warmup_steps}: expected at least "
                "one step and a warm-up that is not longer than the run."
            )
        self.peak = float(peak)
        self.num_steps = int(num_steps)
        self.num_warmup_steps = int(num_warmup_steps)

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step (an integer tensor), float32 []."""
        step = ops.cast(step, "float32")
        rising = step / max(self.num_warmup_steps, 1)
        left = ops.maximum(self.num_steps - step, 0.0)
        falling = self.falling(left / max(self.num_steps - self.num_warmup_steps, 1))
        return self.peak * ops.where(step < self.num_warmup_steps, rising, falling)

    def falling(self, left: Any) -> Any:
        """The share of the peak where a share `left` (1 to 0) of the steps after warm-up is left.

        `left` exceeds 1 during the warm-up, where the answer is not used.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments, for Keras to write down."""
        return {
            "peak": self.peak,
            "num_steps": self.num_steps,
            "num_warmup_steps": self.num_warmup_steps,
        }


@keras.saving.register_keras_serializable(_PACKAGE)
class WarmupLinear(_Warmup):
    """Falls on a line to 0: `peak * (n - s) / (n - w)`. Devlin et al. 2019, appendix A.2.

    In google-research/bert the falling line starts at step 0, and the rate drops by the warm-up's
    share where the two lines meet.
    """

    def falling(self, left: Any) -> Any:
        return left


@keras.saving.register_keras_serializable(_PACKAGE)
class WarmupPolynomial(_Warmup):
    """Falls as a power of what is left: `end + (peak - end) * left ** power`.

    You et al. 2020 train BERT with LAMB so (power 1, and 0.5 in NVIDIA's recipe).

    Args:
        power: 1 is the line.
        end: the rate at the last step, not above the peak.
    """

    def __init__(
        self,
        peak: float,
        num_steps: int,
        num_warmup_steps: int = 0,
        power: float = 1.0,
        end: float = 0.0,
    ):
        super().__init__(peak, num_steps, num_warmup_steps)
        if not (0 < power < math.inf and 0 <= end <= peak):
            raise ValueError(
                f"power={power}, end={end}: expected a power above 0, 0 <= end <= peak."
            )
        self.power, self.end = float(power), float(end)

    def falling(self, left: Any) -> Any:
        share = self.end / self.peak if self.peak else 0.0
        return share + (1.0 - share) * ops.power(left, self.power)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"power": self.power, "end": self.end}


@keras.saving.register_keras_serializable(_PACKAGE)
class WarmupCosine(_Warmup):
    """Falls as half a cosine to 0: `peak * (1 + cos(pi * (1 - left))) / 2`.

    Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.
    """

    def falling(self, left: Any) -> Any:
        return 0.5 * (1.0 - ops.cos(math.pi * ops.minimum(left, 1.0)))


@keras.saving.register_keras_serializable(_PACKAGE)
class WarmupStableDecay(_Warmup):
    """Stays at the peak, and falls on a line to 0 over the last `num_decay_steps`.

    Hu et al. 2024, "MiniCPM", section 4.3. The plateau does not depend on the length of the run: it
    can be prolonged, and every checkpoint on it can be decayed to a finished model.

    Args:
        num_decay_steps: of the n steps; a tenth of them by default.
    """

    def __init__(
        self,
        peak: float,
        num_steps: int,
        num_warmup_steps: int = 0,
        num_decay_steps: int | None = None,
    ):
        super().__init__(peak, num_steps, num_warmup_steps)
        after = self.num_steps - self.num_warmup_steps
        decay = min(max(num_steps // 10, 1), max(after, 1))
        self.num_decay_steps = decay if num_decay_steps is None else int(num_decay_steps)
        if not 1 <= self.num_decay_steps <= max(after, 1):
            raise ValueError(
                f"num_decay_steps={num_decay_steps}: expected 1 to {max(after, 1)}, the steps "
                "after the warm-up."
            )

    def falling(self, left: Any) -> Any:
        after = max(self.num_steps - self.num_warmup_steps, 1)
        return ops.minimum(left * (after / self.num_decay_steps), 1.0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_decay_steps": self.num_decay_steps}


@keras.saving.register_keras_serializable(_PACKAGE)
class Consecutive(keras.optimizers.schedules.LearningRateSchedule):
    """One schedule after the other, each counted from its own first step.

    Args:
        schedules: learning-rate schedules; at least one.
        num_steps: optimizer steps of each.
    """

    def __init__(self, schedules: Sequence[Any], num_steps: Sequence[int]):
        read = keras.saving.deserialize_keras_object
        self.schedules = [read(s) if isinstance(s, dict) else s for s in schedules]
        self.num_steps = [int(count) for count in num_steps]
        if not self.schedules or len(self.schedules) != len(self.num_steps):
            raise ValueError("`schedules` and `num_steps` must be of one length, at least 1.")

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step (an integer tensor), float32 []."""
        rate = self.schedules[0](step)
        start = 0
        for schedule, before in zip(self.schedules[1:], self.num_steps, strict=False):
            start += before
            rate = ops.where(step < start, rate, schedule(ops.maximum(step - start, 0)))
        return rate

    def get_config(self) -> dict[str, Any]:
        """The arguments, for Keras to write down."""
        write = keras.saving.serialize_keras_object
        return {"schedules": [write(s) for s in self.schedules], "num_steps": self.num_steps}


def warmup_linear(peak: float, num_steps: int, num_warmup_steps: int = 0) -> WarmupLinear:
    """The learning-rate schedule of BERT; see `WarmupLinear`."""
    return WarmupLinear(peak, num_steps, num_warmup_steps)


# By the names that the commands' flag --lr_schedule takes.
SCHEDULES = {
    "linear": WarmupLinear,
    "polynomial": WarmupPolynomial,
    "cosine": WarmupCosine,
    "warmup_stable_decay": WarmupStableDecay,
}
