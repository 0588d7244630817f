"""What training takes batches from; several lengths and batch sizes one after the other.

Devlin et al. 2019, appendix A.2: "To speed up pretraing in our experiments, we pre-train the model
with sequence length of 128 for 90% of the steps. Then, we train the rest 10% of the steps of
sequence of 512".
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Batches(Protocol):
    """What `training.fit` trains on; `bert_keras.data.pipeline.TrainBatches` is one."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of an epoch from number `start` on; the same ones on every call."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """So many steps on these batches, epoch after epoch."""

    batches: Batches
    num_steps: int

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.batches.steps_per_epoch < 1:
            raise ValueError("a phase needs at least one step, and a batch in an epoch.")


class PhasedBatches:
    """The steps of all phases as one epoch, so that a position in it is all that resuming needs.

    Every batch says where it is from: `phase` (1 is the first), and `epoch` and `position` in the
    phase's own batches, which tell which rows it holds.
    """

    def __init__(self, phases: Sequence[Phase]):
        if not phases:
            raise ValueError("`phases` must have a phase or more. Received none.")
        self.phases = tuple(phases)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of all phases together."""
        return sum(phase.num_steps for phase in self.phases)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of all phases from step `start` on; there is one epoch, number 0."""
        if epoch:
            raise ValueError(f"`epoch` must be 0: all phases are one. Received {epoch}.")
        for number, phase in enumerate(self.phases, start=1):
            if start < phase.num_steps:
                yield from _steps(phase, number, start)
            start = max(start - phase.num_steps, 0)


def _steps(phase: Phase, number: int, step: int) -> Iterator[dict[str, Any]]:
    size = phase.batches.steps_per_epoch
    while step < phase.num_steps:
        epoch, position = divmod(step, size)
        for batch in phase.batches.epoch(epoch, start=position):
            yield {**batch, "phase": number, "epoch": epoch, "position": step % size}
            step += 1
            if step == phase.num_steps:
                return
