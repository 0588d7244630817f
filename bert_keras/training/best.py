"""The best evaluation of a run: which it is, how long ago it was, and its weights once more."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.training import checkpoint_files, replicas
from bert_keras.training.weight_average import WeightAverage


def better(
    best_metric: str, values: Mapping[str, Any], best: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The `metric` and the `value` of an evaluation that is the best so far; None for another.

    Args:
        best_metric: name of the metric; the lowest value is best, or the highest with a "+"
            before the name.
        values: of the evaluation. A value that is None or no finite number is not better.
        best: what this returned for the best one before, if there is one.

    Raises:
        InputError: the evaluation has no such metric.
    """
    name = best_metric.removeprefix("+")
    if name not in values:
        raise InputError(
            f"best_metric={best_metric}: the evaluation has {', '.join(values)}; name one of them"
        )
    sign = -1.0 if best_metric.startswith("+") else 1.0
    value = values[name]
    if value is None or not math.isfinite(value):
        return None
    if best is not None and sign * value >= sign * best["value"]:
        return None
    return {"metric": name, "value": float(value)}


def waited(evaluations: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> int:
    """How many evaluations there were since the best one, or at all where none was good."""
    since = best["step"] if best else 0
    return sum(evaluation["step"] > since for evaluation in evaluations)


def restore_best(
    network: keras.Model, work_dir: files.PathLike, average: WeightAverage | None = None
) -> dict[str, Any]:
    """Puts the weights of a run's best checkpoint into the network, after the run.

    Args:
        network: as it was trained. Nothing of it is changed where this raises.
        work_dir: of `training.fit`, which was given `best_metric`.
        average: of the run, where there was one; gets the means of that step. What was evaluated
            in place of the weights is put into the network by `average.use()`.

    Returns:
        `step`, `metric` and `value` of the best evaluation.

    Raises:
        InputError: there is no best checkpoint, or it is damaged or of another network.
    """
    replicas.gather(0)  # The first process has written the last checkpoint.
    checkpoints = pathlib.Path(work_dir) / "checkpoints"
    best = _latest_progress(checkpoints)["best"]
    if best is None:
        raise InputError(
            f"{work_dir}: the run has no best checkpoint; train with best_metric and evaluations"
        )
    place = checkpoint_files.place_of(checkpoints, best["step"])
    saved = checkpoint_files.saved_variables(network, average=average)
    try:
        digests = checkpoint_files.read_state(place)["sha256"]
        arrays = checkpoint_files.read_arrays(place, digests, saved)
    except checkpoint_files.DamagedError as error:
        raise InputError(
            f"{place}: the best checkpoint is damaged ({error}); train again in another directory, "
            "or use the weights of the last step"
        ) from None
    for name, variables in saved.items():
        checkpoint_files.assign(variables, arrays[name], place / name)
    return best


def _latest_progress(checkpoints: pathlib.Path) -> dict[str, Any]:
    for place in reversed(checkpoint_files.places(checkpoints)):
        try:
            return checkpoint_files.read_state(place)["progress"]
        except checkpoint_files.DamagedError:
            continue
    raise InputError(f"{checkpoints}: no checkpoint that can be read; name the folder of a run")
