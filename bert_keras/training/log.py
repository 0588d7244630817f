"""What a training run tells of itself: means over some steps, and speed."""

import dataclasses
from collections.abc import Callable
from typing import Any

from bert_keras.batch import Batch
from bert_keras.training.step import StepResult


@dataclasses.dataclass(frozen=True)
class Work:
    """How much arithmetic a batch asks for, and how much the machine could do.

    Attributes:
        flops: floating-point operations of a step on a batch.
        peak: the machine's floating-point operations a second in the run's precision; None where
            it is not known.
    """

    flops: Callable[[Batch], float]
    peak: float | None = None


@dataclasses.dataclass
class Window:
    """Sums over some steps."""

    steps: int = 0
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    gradient_norm: float = 0.0
    learning_rate: float = 0.0  # Of the last one.
    tokens: int = 0  # Real ones.
    cells: int = 0  # Real tokens and padding.
    flops: float = 0.0
    seconds: float = 0.0
    first: float | None = None  # Seconds of a process's first step, which is not among these.

    def add(self, result: StepResult, batch: Batch, seconds: float, work: Work | None) -> None:
        """Adds a step."""
        self.steps += 1
        for name, value in result.losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value
        self.gradient_norm += result.gradient_norm
        self.learning_rate = result.learning_rate
        if "padding_mask" in batch:
            self.tokens += int(batch["padding_mask"].sum())
            self.cells += batch["padding_mask"].size
        self.flops += work.flops(batch) if work else 0.0
        self.seconds += seconds

    def means(self, work: Work | None) -> dict[str, float]:
        """What a line of metrics holds; at least one step was added."""
        return {
            **{name: total / self.steps for name, total in self.losses.items()},
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm / self.steps,
            **self.speed(work),
        }

    def speed(self, work: Work | None) -> dict[str, float]:
        """Real tokens a second and the share of padding.

        With `work` also 1e12 operations a second, and the share of the peak that this is: MFU,
        model FLOPs utilisation.
        """
        seconds = max(self.seconds, 1e-9)
        told: dict[str, Any] = {"tokens_per_second": self.tokens / seconds}
        if self.cells:
            told["padding_share"] = 1.0 - self.tokens / self.cells
        if work:
            told["teraflops"] = self.flops / seconds / 1e12
            if work.peak:
                told["mfu"] = self.flops / seconds / work.peak
        return told
