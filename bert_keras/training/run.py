"""Where a training run stands: what it counts, keeps and writes on its way."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from bert_keras.batch import Batch
from bert_keras.errors import InputError
from bert_keras.training.best import better, waited
from bert_keras.training.log import Window, Work
from bert_keras.training.loss_guard import LossGuard
from bert_keras.training.run_directory import RunDirectory
from bert_keras.training.step import StepResult
from bert_keras.training.weight_average import WeightAverage

# What a checkpoint keeps of a run beside the variables and the sums since the last line.
_KEPT = (
    *("step", "epoch", "position", "last", "evaluations"),
    *("recent", "planned", "rollbacks", "best"),
)

_logger = logging.getLogger(__name__)


class Run:
    """The state of a run, its checkpoints and its lines of metrics.

    Attributes:
        step: batches that are done with, in the whole run.
        epoch, position: where in the data the next one is.
        evaluations: what was logged of them.
        recent: the losses of the last good steps, which tell a spike; none where none is looked
            for.
        planned: the step of the last checkpoint that every such run writes, interrupted or not: the
            one to go back to.
        rollbacks: what was left out, and why.
        best: the step and the value of the best evaluation.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.Optimizer,
        directory: RunDirectory | None,
        *,
        average: WeightAverage | None,
        guard: LossGuard,
        best_metric: str | None,
        patience: int | None,
        work: Work | None,
    ):
        self.network, self.optimizer, self.directory = network, optimizer, directory
        self.average, self.guard, self.work = average, guard, work
        self.best_metric, self.patience = best_metric, patience
        self.step = self.epoch = self.position = self.planned = 0
        self.window = Window()
        self.last: dict[str, float] = {}
        self.evaluations: list[dict[str, Any]] = []
        self.recent: list[float] = []
        self.rollbacks: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.steady = Window()  # This process's steps but the first.
        self._place: dict[str, int] = {}  # Where the last batch is from, as far as it says.
        if directory is None:
            if guard.action == "rollback":
                raise ValueError("going back to a checkpoint needs `work_dir`.")
            return
        state = directory.restore(network, optimizer, average)
        if state is not None:
            self._take_over(state)
        directory.metrics.resume(self.step)
        if state is None and guard.action == "rollback":
            self.save()

    def take(self, step: Callable[[Batch], StepResult], batch: Batch) -> bool:
        """Takes one step; False where it was bad and the run went back to a checkpoint.

        Raises:
            InputError: the step was bad and the run is to be stopped.
        """
        self._place = {name: int(batch[name]) for name in ("phase", "epoch") if name in batch}
        started = time.perf_counter()
        result = step(batch)
        seconds = time.perf_counter() - started
        fault = self.guard.fault(result, self.recent)
        if fault is not None:
            self._go_back(fault, result, batch)
            return False
        if self.guard.spike_factor is not None:
            self.recent = [*self.recent, result.loss][-self.guard.window :]
        self.step, self.position = self.step + 1, self.position + 1
        if self.average is not None:
            self.average.update(self.step)
        for window in (self.window, self.steady):
            window.add(result, batch, seconds, self.work)
        if self.steady.first is None:  # It traced the network.
            self.steady = Window(first=seconds)
        return True

    def next_epoch(self) -> None:
        """Goes to the first batch of the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0

    def log(self) -> str:
        """Writes the means since the last line; returns a short form for the progress bar."""
        if not self.window.steps:  # All of them were left out.
            return "batches left out"
        self.last = self.window.means(self.work)
        self.window = Window()
        self._write(self.last)
        return f"loss {self.last['loss']:.4f}, {self.last['tokens_per_second']:,.0f} tokens/s"

    def log_evaluation(self, values: Mapping[str, Any]) -> bool:
        """Writes and keeps an evaluation; tells whether it is the best so far."""
        record = {"evaluation": dict(values)}
        self.evaluations.append({"step": self.step, "epoch": self.epoch, **self._place, **record})
        self._write(record)
        found = better(self.best_metric, values, self.best) if self.best_metric else None
        if found is not None:
            self.best = {"step": self.step, **found}
        return found is not None

    @property
    def stopped_early(self) -> int | None:
        """The step of the evaluation that ended the patience, None while it lasts."""
        if self.patience is None or waited(self.evaluations, self.best) < self.patience:
            return None
        return self.evaluations[-1]["step"]

    def save(self, *, planned: bool = True) -> None:
        """Writes a checkpoint; `planned` is one that every such run writes at this step."""
        if self.directory is None:
            return
        if planned:
            self.planned = self.step
        state = {name: getattr(self, name) for name in _KEPT}
        state["window"] = dataclasses.asdict(self.window)
        keep = {self.best["step"]} if self.best else set()
        if self.guard.action == "rollback":
            keep.add(self.planned)
        self.directory.save(self.network, self.optimizer, state, self.average, keep=keep)

    def close(self) -> None:
        """Closes the metrics file."""
        if self.directory is not None:
            self.directory.metrics.close()

    def summary(self) -> dict[str, Any]:
        """What `fit` returns."""
        seconds = max(self.steady.seconds, 1e-9)
        loss_names = [name for name in self.last if name.endswith(("loss", "accuracy"))]
        return {
            "loss": None,
            **{name: self.last[name] for name in loss_names},
            "seconds": self.steady.seconds + (self.steady.first or 0.0),
            "steps_per_second": self.steady.steps / seconds,
            **self.steady.speed(self.work),
            "evaluations": self.evaluations,
            "best": self.best,
            "rollbacks": self.rollbacks,
        }

    def _write(self, values: Mapping[str, Any]) -> None:
        if self.directory is not None:
            place = {"step": self.step, "epoch": self.epoch, **self._place}
            self.directory.metrics.write({**place, **values})

    def _take_over(self, state: Mapping[str, Any]) -> None:
        self.window = Window(**state["window"])
        for name in _KEPT:
            setattr(self, name, state[name])

    def _go_back(self, fault: str, result: StepResult, batch: Batch) -> None:
        """Restores the last planned checkpoint, and leaves out all up to this batch with it."""
        bad = self.step + 1
        rows = [int(row) for row in np.ravel(batch.get("rows", ()))]
        place = {name: int(batch[name]) for name in ("phase", "epoch", "position") if name in batch}
        place = place or {"epoch": self.epoch, "position": self.position}
        where = ", ".join(f"{name} {value}" for name, value in place.items())
        shown = f", rows {', '.join(map(str, rows[:5]))}" if rows else ""
        shown += f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        said = (
            f"step {bad} ({where}{shown}): {fault}; loss {result.loss:.6g}, gradient norm "
            f"{result.gradient_norm:.6g}, learning rate {result.learning_rate:.3g}"
        )
        if self.guard.action == "stop" or self.directory is None:
            raise InputError(
                f"training diverged at {said}; try a lower learning rate or a longer warm-up, in "
                "another directory."
            )
        if len(self.rollbacks) == self.guard.max_rollbacks:
            raise InputError(
                f"training diverged at {said}; the run went back {len(self.rollbacks)} times "
                "before, which is the limit: try a lower learning rate, in another directory."
            )
        position, evaluations, best = self.position + 1, self.evaluations, self.best
        epoch, planned, rollbacks = self.epoch, self.planned, self.rollbacks
        state = self.directory.restore(self.network, self.optimizer, self.average, step=planned)
        if state is None:
            raise InputError(f"{self.directory.path}: the checkpoint of step {planned} is gone.")
        self._take_over(state)
        self.step, self.epoch, self.position = bad, epoch, position
        self.evaluations, self.best = evaluations, best
        self.optimizer.iterations.assign(bad)  # The learning rate follows the steps.
        record = {"from_step": planned, "to_step": bad, "fault": fault, **place, "rows": rows}
        self.rollbacks = [*rollbacks, record]
        self._write({"rollback": record})
        _logger.warning(
            "Bad %s. Back to the weights of step %d; going on after the bad batch.", said, planned
        )
