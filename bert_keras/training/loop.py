"""Training a network on batches, resumable to the bit.

    for epoch, for batch: step; now and then a line of metrics, a checkpoint

The state of a run is the variables of network and optimizer (dropout's random generators are
among them) and the position in the data, whose order is a function of seed and epoch. A
checkpoint holds all of it, so a run that was killed and started again computes the same numbers
as one that was not.
"""

import contextlib
import logging
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tqdm

from bert_keras import files
from bert_keras.batch import Loss
from bert_keras.training import replicas
from bert_keras.training.log import Work
from bert_keras.training.loss_guard import LossGuard
from bert_keras.training.phases import Batches
from bert_keras.training.run import Run
from bert_keras.training.run_directory import RunDirectory
from bert_keras.training.step import make_step
from bert_keras.training.stop_signals import StopSignals
from bert_keras.training.weight_average import WeightAverage

__all__ = ["fit"]

_logger = logging.getLogger(__name__)


def fit(
    network: keras.Model,
    batches: Batches,
    *,
    loss: Loss,
    optimizer: keras.Optimizer,
    num_epochs: float,
    work_dir: files.PathLike | None = None,
    save_checkpoints_steps: int = 1000,
    keep_checkpoints: int = 2,
    best_metric: str | None = None,
    patience: int | None = None,
    accumulation_steps: int = 1,
    jit_compile: bool = False,
    evaluate: Callable[[], Mapping[str, Any]] | None = None,
    evaluate_steps: int | None = None,
    guard: LossGuard | None = None,
    average: WeightAverage | None = None,
    work: Work | None = None,
    run_info: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool = True,
    log_steps: int = 10,
) -> dict[str, Any]:
    """Trains `network` in place, from the latest checkpoint in `work_dir` if there is one.

    On TensorFlow (CPU) a run that was interrupted anywhere, even by kill -9, and called again
    with the same arguments ends with the same weights, bit for bit. A SIGTERM or Ctrl-C writes a
    checkpoint and exits; a loss or gradient that is not a number stops the run, or what `guard`
    says happens.

    Inside of `replicas.on_all_devices`, and in several processes after `replicas.start_processes`,
    each step is spread over all devices. All processes call this with the same arguments and
    batches, and return the same; the first writes `work_dir`, which the others must see too. They
    stop for a signal at the next line of metrics, together.

    Args:
        network: a network of `bert_keras.models`, or any model from a dict of features to a dict
            of outputs. Its random generators are set from `seed`.
        batches: one optimizer step is taken on each.
        loss: `loss(batch, outputs)`, a loss for each example, float32 [B]; or a dict of such
            arrays, of which "loss" is minimised and the others are logged.
        optimizer: normally `bert_keras.training.optimization.AdamW`.
        num_epochs: may be a fraction: 0.5 stops in the middle of the first.
        work_dir: where checkpoints/, metrics.jsonl and events/ go; None to write nothing.
        save_checkpoints_steps: steps between checkpoints; one more is written at the end.
        keep_checkpoints: how many of the latest stay.
        best_metric: of what `evaluate` returns, the one that tells the best checkpoint, which stays
            too. The lowest value is best, or the highest with a "+" before the name.
        patience: the run ends after so many evaluations in a row that were not the best; None for
            never. `restore_best` puts the best weights into the network afterwards.
        accumulation_steps: pieces that each batch is cut into to save memory. The gradient is
            that of the whole batch.
        jit_compile: let XLA compile the step on TensorFlow, once for every shape of a batch.
        evaluate: what it returns is logged.
        evaluate_steps: steps between its calls; by default it is called after each epoch.
        guard: what to do about a loss that is no number, or a spike; by default the first stops
            the run.
        average: follows the weights; the caller puts it into the network afterwards, if wished.
        work: counts operations, for lines of metrics that tell how busy the machine is.
        run_info: what else makes this run what it is (flags, fingerprint of the data ...), JSON
            by name; going on from a checkpoint of other values is refused.
        seed: of dropout.
        progress: whether to show a bar with the time left.
        log_steps: steps between lines of metrics; losses are means over them.

    Returns:
        `steps` that the run took, `resumed_from` (a step, 0 for a fresh run), `stopped_early` (a
        step, None for a run that was not ended by `patience`), `loss` and the other losses (means
        since the last logged line), `seconds`, `steps_per_second` and `tokens_per_second` (real
        tokens, of this call; the first step, which traces the network, is not counted),
        `evaluations`, `best` (step and value, None without `best_metric`), `rollbacks`.

    Raises:
        InputError: `work_dir` holds a run of other settings, or training diverged.
        SystemExit: the process was told to stop; status 128 + signal.
    """
    if patience is not None and (patience < 1 or best_metric is None or evaluate is None):
        raise ValueError(
            "`patience` must be at least 1, and needs `best_metric` and `evaluate`. Received "
            f"patience={patience}, best_metric={best_metric!r}, evaluate={evaluate!r}."
        )
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
        # None where they are not used, as in runs that know nothing of them.
        "jit_compile": jit_compile or None,
        "average": average.momentum if average else None,
        "frozen_layers": getattr(getattr(network, "encoder", None), "frozen_layers", None),
        "patience": [patience, best_metric, evaluate_steps] if patience else None,
    }
    directory = None
    if work_dir is not None:
        directory = RunDirectory(work_dir, settings, keep=keep_checkpoints)
    run = Run(
        network,
        optimizer,
        directory,
        average=average,
        guard=guard or LossGuard(),
        best_metric=best_metric,
        patience=patience,
        work=work,
    )
    resumed_from = run.step
    if resumed_from and not run.stopped_early:
        _logger.warning("Going on from step %d of %d in %s.", resumed_from, num_steps, work_dir)

    step = None
    bar = _bar(run.step, num_steps, progress and replicas.is_first())
    with contextlib.closing(run), StopSignals() as stop, bar:
        while run.step < num_steps and not run.stopped_early:
            for batch in batches.epoch(run.epoch, start=run.position):
                if step is None:
                    step = make_step(
                        network, optimizer, loss, batch, accumulation_steps, jit_compile=jit_compile
                    )
                went_back = not run.take(step, batch)
                bar.update()
                done = run.step == num_steps
                epoch_ends = run.position == batches.steps_per_epoch
                logs = run.step % log_steps == 0 or done
                if logs or stop.asked(together=False):
                    bar.set_postfix_str(run.log())
                if epoch_ends:
                    run.next_epoch()
                due = run.step % evaluate_steps == 0 if evaluate_steps else epoch_ends
                best = False
                if evaluate is not None and (due or done):
                    best = run.log_evaluation(evaluate())
                ends = done or run.stopped_early is not None
                if ends and not logs:
                    run.log()
                saves = run.step % save_checkpoints_steps == 0 or ends or went_back or best
                if saves:
                    run.save()
                signal = stop.asked(together=logs or ends)
                if signal:  # Also at the end: what follows a run was told to stop as well.
                    if not saves:
                        run.save(planned=False)
                    bar.close()  # Before the last line, so that it is the last.
                    stop.leave(signal, run.step, num_steps, work_dir)
                if epoch_ends or ends or went_back:
                    break
    stopped = run.stopped_early if run.step < num_steps else None
    if stopped:
        _logger.warning(
            "Stopped early at step %d of %d: no better %s in %d evaluations.",
            *(stopped, num_steps, best_metric, patience),
        )
    told = {"steps": run.step, "resumed_from": resumed_from, "stopped_early": stopped}
    return {**told, **run.summary()}


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
