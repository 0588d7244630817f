"""Training a network on batches, resumable to the bit; and running it on batches.

    for epoch, for batch: step; now and then a line of metrics, a checkpoint

The state of a run is the variables of network and optimizer (dropout's random generators are
among them) and the position in the data, whose order is a function of seed and epoch. A
checkpoint holds all of it, so a run that was killed and started again computes the same numbers
as one that was not.
"""

import contextlib
import dataclasses
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tqdm
from keras import ops

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.run_directory import RunDirectory
from bert_keras.training_step import Batch, Loss, StepResult, make_step, network_inputs

_logger = logging.getLogger(__name__)


class Batches(Protocol):
    """What `fit` trains on; `bert_keras.data.pipeline.TrainBatches` is one."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an epoch from number `start` on; the same ones on every call."""


def fit(
    network: keras.Model,
    batches: Batches,
    *,
    loss: Loss,
    optimizer: keras.Optimizer,
    num_epochs: float,
    work_dir: files.PathLike | None = None,
    save_checkpoints_steps: int = 1000,
    accumulation_steps: int = 1,
    evaluate: Callable[[], Mapping[str, Any]] | None = None,
    run_info: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool = True,
    log_steps: int = 10,
) -> dict[str, Any]:
    """Trains `network` in place, from the latest checkpoint in `work_dir` if there is one.

    On TensorFlow (CPU) a run that was interrupted anywhere, even by kill -9, and called again
    with the same arguments ends with the same weights, bit for bit. A SIGTERM or Ctrl-C writes a
    checkpoint and exits; a loss or gradient that is not a number stops the run.

    Args:
        network: a network of `bert_keras.models`, or any model from a dict of features to a dict
            of outputs. Its random generators are set from `seed`.
        batches: one optimizer step is taken on each.
        loss: `loss(batch, outputs)`, a loss for each example, float32 [B].
        optimizer: normally `bert_keras.optimization.AdamW`.
        num_epochs: may be a fraction: 0.5 stops in the middle of the first.
        work_dir: where checkpoints/, metrics.jsonl and events/ go; None to write nothing.
        save_checkpoints_steps: steps between checkpoints; one more is written at the end.
        accumulation_steps: pieces that each batch is cut into to save memory. The gradient is
            that of the whole batch.
        evaluate: called after each epoch (before its checkpoint); what it returns is logged.
        run_info: what else makes this run what it is (flags, fingerprint of the data ...), JSON
            by name; going on from a checkpoint of other values is refused.
        seed: of dropout.
        progress: whether to show a bar with the time left.
        log_steps: steps between lines of metrics; losses are means over them.

    Returns:
        `steps`, `resumed_from` (a step, 0 for a fresh run), `loss` (mean since the last logged
        line), `seconds`, `steps_per_second` and `tokens_per_second` (real tokens, of this call;
        the first step, which traces the network, is not counted), `evaluations`.

    Raises:
        InputError: `work_dir` holds a run of other settings, or training diverged.
        SystemExit: the process was told to stop; status 128 + signal.
    """
    num_steps = math.ceil(batches.steps_per_epoch * num_epochs)
    if not optimizer.built:
        optimizer.build(network.trainable_variables)
    _seed_generators(network, seed)
    settings = {
        **(run_info or {}),
        "num_steps": num_steps,
        "steps_per_epoch": batches.steps_per_epoch,
        "accumulation_steps": accumulation_steps,
        "seed": seed,
        "optimizer": optimizer.get_config(),
        "precision": network.dtype_policy.name,
        "backend": keras.backend.backend(),
    }
    directory = RunDirectory(work_dir, settings) if work_dir is not None else None
    run = _Run(network, optimizer, directory)
    resumed_from = run.step
    if resumed_from:
        _logger.warning("Going on from step %d of %d in %s.", resumed_from, num_steps, work_dir)

    step = None
    bar = _bar(run.step, num_steps, progress)
    with contextlib.closing(run), _StopSignals() as stop, bar:
        while run.step < num_steps:
            for batch in batches.epoch(run.epoch, start=run.position):
                if step is None:
                    step = make_step(network, optimizer, loss, batch, accumulation_steps)
                run.take(step, batch)
                bar.update()
                done = run.step == num_steps
                epoch_ends = run.position == batches.steps_per_epoch
                if run.step % log_steps == 0 or done or stop.received:
                    bar.set_postfix_str(run.log())
                if epoch_ends:
                    run.next_epoch()
                if evaluate is not None and (epoch_ends or done):
                    run.log_evaluation(evaluate())
                if run.step % save_checkpoints_steps == 0 or done or stop.received:
                    run.save()
                if stop.received:  # Also at the end: what follows a run was told to stop as well.
                    bar.close()  # Before the last line, so that it is the last.
                    stop.leave(run.step, num_steps, work_dir)
                if epoch_ends or done:
                    break
    return {"steps": num_steps, "resumed_from": resumed_from, **run.summary()}


def predict(
    network: keras.Model, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Runs `network` on each batch without dropout; yields (batch, outputs by name).

    On TensorFlow and JAX the network is compiled once and kept: TensorFlow's trace holds for all
    sizes and lengths of batches, JAX compiles for each.
    """
    for batch in batches:
        outputs = _forward(network, batch)(network_inputs(batch))
        yield batch, {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def predict_logits(network: keras.Model, batches: Iterable[Batch]) -> np.ndarray:
    """The output "logits" of all examples, float32 [examples, ...].

    Where batches have `rows` [B], example i is the one whose row number is i; else they come in
    the order of the batches.
    """
    logits: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    count = 0
    for batch, outputs in predict(network, batches):
        logits.append(outputs["logits"])
        rows.append(batch.get("rows", np.arange(count, count + len(logits[-1]))))
        count += len(logits[-1])
    if not logits:
        raise ValueError("`batches` must have a batch or more. Received none.")
    return np.concatenate(logits)[np.argsort(np.concatenate(rows), kind="stable")]


def evaluate(network: keras.Model, batches: Iterable[Batch], *, loss: Loss) -> dict[str, float]:
    """Mean of `loss(batch, outputs)` over all examples, their number, and the seconds it took."""
    total, count, started = 0.0, 0, time.perf_counter()
    for batch, outputs in predict(network, batches):
        on_device = {n: ops.convert_to_tensor(v) for n, v in batch.items() if n != "rows"}
        losses = loss(on_device, {n: ops.convert_to_tensor(v) for n, v in outputs.items()})
        total, count = total + float(ops.sum(losses)), count + len(losses)
    seconds = time.perf_counter() - started
    return {"loss": total / max(count, 1), "examples": count, "seconds": seconds}


class _Run:
    """Where a run stands, and what it writes on its way."""

    def __init__(self, network: Any, optimizer: Any, directory: RunDirectory | None):
        self.network, self.optimizer, self.directory = network, optimizer, directory
        self.step = self.epoch = self.position = 0
        self.window = _Window()
        self.last: dict[str, float] = {}
        self.evaluations: list[dict[str, Any]] = []
        self.steady = _Window()  # This process's steps but the first.
        if directory is None:
            return
        state = directory.restore(network, optimizer)
        if state is not None:
            self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
            self.window = _Window(**state["window"])
            self.last, self.evaluations = state["last"], state["evaluations"]
        directory.metrics.resume(self.step)

    def take(self, step: Callable[[Batch], StepResult], batch: Batch) -> None:
        """Takes one step; stops the run where its numbers are no numbers any more."""
        started = time.perf_counter()
        result = step(batch)
        seconds = time.perf_counter() - started
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            raise InputError(
                f"training diverged at step {self.step + 1} (epoch {self.epoch}): loss "
                f"{result.loss}, gradient norm {result.gradient_norm}, learning rate "
                f"{result.learning_rate:.3g}; try a lower learning rate or a longer warm-up, in "
                "another directory."
            )
        tokens = int(batch["padding_mask"].sum()) if "padding_mask" in batch else 0
        self.step, self.position = self.step + 1, self.position + 1
        for window in (self.window, self.steady):
            window.add(result, tokens, seconds)
        if self.steady.first is None:  # It traced the network.
            self.steady = _Window(first=seconds)

    def next_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0

    def log(self) -> str:
        """Writes the means since the last line; returns a short form for the progress bar."""
        self.last = self.window.means()
        self.window = _Window()
        if self.directory is not None:
            self.directory.metrics.write({"step": self.step, "epoch": self.epoch, **self.last})
        return f"loss {self.last['loss']:.4f}, {self.last['tokens_per_second']:,.0f} tokens/s"

    def log_evaluation(self, values: Mapping[str, Any]) -> None:
        record = {"step": self.step, "epoch": self.epoch, "evaluation": dict(values)}
        self.evaluations.append(record)
        if self.directory is not None:
            self.directory.metrics.write(record)

    def save(self) -> None:
        if self.directory is None:
            return
        names = ("step", "epoch", "position", "last", "evaluations")
        state = {name: getattr(self, name) for name in names}
        state["window"] = dataclasses.asdict(self.window)
        self.directory.save(self.network, self.optimizer, state)

    def close(self) -> None:
        if self.directory is not None:
            self.directory.metrics.close()

    def summary(self) -> dict[str, Any]:
        seconds = max(self.steady.seconds, 1e-9)
        return {
            "loss": self.last.get("loss"),
            "seconds": self.steady.seconds + (self.steady.first or 0.0),
            "steps_per_second": self.steady.steps / seconds,
            "tokens_per_second": self.steady.tokens / seconds,
            "evaluations": self.evaluations,
        }


@dataclasses.dataclass
class _Window:
    """Sums over some steps."""

    steps: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0  # Of the last one.
    tokens: int = 0
    seconds: float = 0.0
    first: float | None = None

    def add(self, result: StepResult, tokens: int, seconds: float) -> None:
        self.steps += 1
        self.loss += result.loss
        self.gradient_norm += result.gradient_norm
        self.learning_rate = result.learning_rate
        self.tokens += tokens
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        return {
            "loss": self.loss / self.steps,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm / self.steps,
            "tokens_per_second": self.tokens / max(self.seconds, 1e-9),
        }


class _StopSignals:
    """Notes SIGTERM and Ctrl-C, so that a step and a checkpoint end before the process does.

    A second Ctrl-C ends it at once. In a thread other than the main one signals stay as they are.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def leave(self, step: int, num_steps: int, work_dir: Any) -> None:
        """Says how to go on, and exits with the shell's status for the signal."""
        kept = f"; the same command goes on from there ({work_dir})" if work_dir else ""
        _logger.warning("Stopped after step %d of %d%s.", step, num_steps, kept)
        raise SystemExit(128 + self.received)


def _bar(step: int, num_steps: int, progress: bool) -> tqdm.tqdm:
    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm.tqdm(
        total=num_steps, initial=step, unit="step", mininterval=every, disable=not progress
    )


def _seed_generators(network: keras.Model, seed: int) -> None:
    """Gives each random generator of the network its own seed, a function of `seed`."""
    states = [v for v in network.variables if v.name == "seed_generator_state"]
    seeds = np.random.SeedSequence(seed).generate_state(len(states)) >> 1  # Fits an int32.
    for state, number in zip(states, seeds, strict=True):
        state.assign(np.array([number, 0], dtype=state.dtype))


def _forward(network: keras.Model, batch: Batch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The network's inference as a function, compiled once and kept with the network."""
    inputs = network_inputs(batch)
    key = ("_bert_keras_forward", *((name, array.ndim) for name, array in inputs.items()))
    if key not in network.__dict__:  # Past Keras' tracking: it is no part of the model.
        network.__dict__[key] = _make_forward(network, inputs)
    return network.__dict__[key]


def _make_forward(network: keras.Model, inputs: Mapping[str, np.ndarray]) -> Callable:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spec = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in inputs.items()}

        @tf.function(input_signature=[spec], autograph=False)
        def graph(x: Any) -> Any:
            return network(x, training=False)

        return graph
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def pure(trainable: Any, others: Any, x: Any) -> Any:
            return network.stateless_call(trainable, others, x, training=False)[0]

        groups = network.trainable_variables, network.non_trainable_variables
        return lambda x: pure(*([v.value for v in group] for group in groups), x)

    import torch

    def forward(x: Any) -> Any:
        with torch.no_grad():
            x = {name: ops.convert_to_tensor(array) for name, array in x.items()}
            return network(x, training=False)

    return forward
