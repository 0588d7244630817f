"""What to do about a batch after which the loss is no number, or far above what it was.

Chowdhery et al. 2022, "PaLM", section 5.1: spikes came from a batch meeting a state of the weights;
going back to a checkpoint and leaving the batches around the spike out mended them. Here the run
goes back to its last checkpoint, and every batch from there up to and including the bad one is left
out: those steps count as taken, without an update.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from bert_keras.training.step import StepResult

ACTIONS = ("stop", "rollback")


@dataclasses.dataclass(frozen=True)
class LossGuard:
    """When a loss is bad, and what follows.

    Attributes:
        action: "stop" ends the run; "rollback" goes back and leaves batches out.
        spike_factor: a loss above this many times the median of the last good ones is bad; None
            for only what is no number.
        window: how many good losses the median is of. None is judged before half as many are known.
        max_rollbacks: the run is stopped at the next one.
    """

    action: str = "stop"
    spike_factor: float | None = None
    window: int = 100
    max_rollbacks: int = 3

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"`action` must be one of {ACTIONS}. Received {self.action!r}.")
        if self.spike_factor is not None and not 1 < self.spike_factor < math.inf:
            raise ValueError(f"`spike_factor` must exceed 1. Received {self.spike_factor}.")
        if self.window < 2 or self.max_rollbacks < 0:
            raise ValueError(
                f"window={self.window}, max_rollbacks={self.max_rollbacks}: expected at least 2, 0."
            )

    def fault(self, result: StepResult, recent: Sequence[float]) -> str | None:
        """What is wrong with a step, or None.

        Args:
            result: of the step.
            recent: the losses of the last good steps, at most `window`.
        """
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            return "the loss or the gradient is not a number"
        if self.spike_factor is None or len(recent) < self.window // 2:
            return None
        median = statistics.median(recent)
        if result.loss > self.spike_factor * median:
            return f"the loss is above {self.spike_factor:g} times its median of {median:.4g}"
        return None
