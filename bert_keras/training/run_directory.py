"""What a training run leaves on the disk, such that a killed run can go on where it was.

    WORK_DIR/checkpoints/step-00001000/   weights.safetensors optimizer.safetensors state.json
    WORK_DIR/metrics.jsonl                one line per logged step
    WORK_DIR/events/                      the same lines for TensorBoard

A checkpoint is written to a temporary directory, synced and renamed, and its `state.json` holds
the SHA-256 of everything in it. The last two or more are kept: if the latest proves to be damaged,
the one before is used, and a line says so.
"""

import json
import logging
import pathlib
import shutil
from collections.abc import Collection
from typing import Any

import keras

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.training import checkpoint_files, replicas
from bert_keras.training.metrics_file import MetricsFile
from bert_keras.training.weight_average import WeightAverage

_logger = logging.getLogger(__name__)


class RunDirectory:
    """The checkpoints and the metrics of one run.

    Args:
        path: the directory; made if it is not there.
        settings: what the run is made of (flags, data fingerprint, seed ...), JSON values by
            name. A checkpoint of other settings is refused, since going on from it would be
            neither run.
        keep: how many of the latest checkpoints stay.

    Where several processes train together, all restore from it, and the first alone writes to it.
    """

    def __init__(self, path: files.PathLike, settings: dict[str, Any], keep: int = 2):
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received {keep}.")
        self.path = pathlib.Path(path)
        self.keep = keep
        self.checkpoints = self.path / "checkpoints"
        self.writes = replicas.is_first()
        if self.writes:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(json.dumps(settings))
        self.metrics = MetricsFile(self.path / "metrics.jsonl", self.path / "events", self.writes)

    def save(
        self,
        network: keras.Model,
        optimizer: keras.Optimizer,
        progress: dict,
        average: WeightAverage | None = None,
        *,
        keep: Collection[int] = (),
    ) -> None:
        """Writes a checkpoint of this state and drops older ones but for the last and `keep`.

        Args:
            network, optimizer, average: what is saved.
            progress: is JSON, has a "step", and comes back from `restore` as it is.
            keep: steps whose checkpoints stay, too.
        """
        if not self.writes:
            return
        place = checkpoint_files.place_of(self.checkpoints, progress["step"])
        if place.exists():  # Damaged, or it would have been resumed from.
            shutil.rmtree(place)
        saved = checkpoint_files.saved_variables(network, optimizer, average)
        checkpoint_files.write(place, saved, progress, self.settings)
        for old in checkpoint_files.places(self.checkpoints)[: -self.keep]:
            if checkpoint_files.step_of(old) not in keep:
                shutil.rmtree(old)

    def restore(
        self,
        network: keras.Model,
        optimizer: keras.Optimizer,
        average: WeightAverage | None = None,
        *,
        step: int | None = None,
    ) -> dict | None:
        """Puts the latest undamaged checkpoint, or that of `step`, into network and optimizer.

        Returns:
            its `progress`, or None where there is no checkpoint.

        Raises:
            InputError: the checkpoint is of other settings, or of a network of other shapes, or
                there are checkpoints and every one of them is damaged; or another process found
                another one.
        """
        progress = self._restore(network, optimizer, average, step)
        # No process goes on, to write or to remove one, before all have read.
        steps = replicas.gather(progress["step"] if progress else 0)
        if len(set(steps)) > 1:
            raise InputError(
                f"{self.path}: the processes would go on from different steps, {steps}; all need "
                "the same folder, on a file system that they share."
            )
        return progress

    def _restore(
        self,
        network: keras.Model,
        optimizer: keras.Optimizer,
        average: WeightAverage | None,
        step: int | None,
    ) -> dict | None:
        if self.writes:
            for leftover in self.checkpoints.glob(".step-*"):  # The writer was killed.
                shutil.rmtree(leftover)
        places = checkpoint_files.places(self.checkpoints)
        if step is not None:
            wanted = checkpoint_files.place_of(self.checkpoints, step)
            places = [place for place in places if place == wanted]
        saved = checkpoint_files.saved_variables(network, optimizer, average)
        for place in reversed(places):
            try:
                state = checkpoint_files.read_state(place)
                self._check_settings(place, state["settings"])
                arrays = checkpoint_files.read_arrays(place, state["sha256"], saved)
            except checkpoint_files.DamagedError as error:
                _logger.warning("%s is damaged (%s); going back to the one before.", place, error)
                continue
            for name, variables in saved.items():
                checkpoint_files.assign(variables, arrays[name], place / name)
            return state["progress"]
        if places:
            raise InputError(
                f"{self.checkpoints}: all {len(places)} checkpoints are damaged; remove the "
                "directory to start the run again."
            )
        return None

    def _check_settings(self, place: pathlib.Path, settings: dict[str, Any]) -> None:
        difference = _difference(settings, self.settings)
        if difference is not None:
            name, before, now = difference
            raise InputError(
                f"{self.path} holds a run with {name}={_short(before)} ({place.name}), this "
                f"one {name}={_short(now)}; give the same value to go on with it, or "
                "another directory to start anew."
            )


def _difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, inside of dictionaries too: its name, and both values."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else (name, before, now)
    for key in sorted(before.keys() | now.keys()):
        inner = f"{name}.{key}" if name else key
        difference = _difference(before.get(key), now.get(key), inner)
        if difference is not None:
            return difference
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
