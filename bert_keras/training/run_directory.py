"""What a training run leaves on the disk, such that a killed run can go on where it was.

    WORK_DIR/checkpoints/step-00001000/   weights.safetensors optimizer.safetensors state.json
    WORK_DIR/metrics.jsonl                one line per logged step
    WORK_DIR/events/                      the same lines for TensorBoard

A checkpoint is written to a temporary directory, synced and renamed, and its `state.json` holds
the SHA-256 of everything in it. The last two or more are kept: if the latest proves to be damaged,
the one before is used, and a line says so.
"""

import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.training import replicas
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
        place = self.checkpoints / f"step-{progress['step']:08d}"
        if place.exists():  # Damaged, or it would have been resumed from.
            shutil.rmtree(place)
        with files.new_directory(place) as directory:
            state = {"progress": progress, "settings": self.settings, "sha256": {}}
            for name, variables in _saved_variables(network, optimizer, average).items():
                data = safetensors.numpy.save(_to_arrays(variables))
                (directory / name).write_bytes(data)
                state["sha256"][name] = hashlib.sha256(data).hexdigest()
            state["sha256"]["state.json"] = _digest(state)
            (directory / "state.json").write_text(json.dumps(state, indent=1))
        for old in self._steps()[: -self.keep]:
            if int(old.name.removeprefix("step-")) not in keep:
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
        places = self._steps()
        if step is not None:
            places = [place for place in places if place.name == f"step-{step:08d}"]
        for place in reversed(places):
            try:
                progress, arrays = self._read(place)
            except _DamagedError as error:
                _logger.warning("%s is damaged (%s); going back to the one before.", place, error)
                continue
            for name, variables in _saved_variables(network, optimizer, average).items():
                _assign(variables, arrays[name], place / name)
            return progress
        if places:
            raise InputError(
                f"{self.checkpoints}: all {len(places)} checkpoints are damaged; remove the "
                "directory to start the run again."
            )
        return None

    def _steps(self) -> list[pathlib.Path]:
        return sorted(self.checkpoints.glob("step-" + "[0-9]" * 8 + "*"))

    def _read(self, place: pathlib.Path) -> tuple[dict, dict[str, dict[str, np.ndarray]]]:
        try:
            state = files.read_json(place / "state.json")
            digests = state["sha256"]
            if digests.pop("state.json") != _digest(state):
                raise _DamagedError("state.json does not have its checksum")
        except (InputError, OSError, KeyError, TypeError, AttributeError) as error:
            raise _DamagedError(f"state.json: {error}") from None
        self._check_settings(place, state["settings"])
        arrays = {}
        for name, digest in digests.items():
            try:
                data = (place / name).read_bytes()
            except OSError as error:
                raise _DamagedError(str(error)) from None
            if hashlib.sha256(data).hexdigest() != digest:
                raise _DamagedError(f"{name} does not have its checksum")
            try:
                arrays[name] = safetensors.numpy.load(data)
            except SafetensorError as error:
                raise _DamagedError(f"{name}: {error}") from None
        return state["progress"], arrays

    def _check_settings(self, place: pathlib.Path, settings: dict[str, Any]) -> None:
        for name in sorted(settings.keys() | self.settings.keys()):
            before, now = settings.get(name), self.settings.get(name)
            if before != now:
                raise InputError(
                    f"{self.path} holds a run with {name}={_short(before)} ({place.name}), this "
                    f"one {name}={_short(now)}; give the same value to go on with it, or "
                    "another directory to start anew."
                )


class _DamagedError(Exception):
    """A checkpoint cannot be used."""


def _saved_variables(
    network: keras.Model, optimizer: keras.Optimizer, average: WeightAverage | None
) -> dict[str, list[keras.Variable]]:
    # `variables`, unlike `weights`, has the states of the random generators (dropout).
    metrics = {id(variable) for variable in network.metrics_variables}
    saved = {
        "weights.safetensors": [v for v in network.variables if id(v) not in metrics],
        "optimizer.safetensors": list(optimizer.variables),
    }
    return saved | ({"average.safetensors": average.variables} if average else {})


def _to_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    arrays = {}
    for index, variable in enumerate(variables):
        array = np.array(keras.ops.convert_to_numpy(variable), order="C")
        # The NumPy side of safetensors writes bfloat16 and cannot read it: kept as its bits.
        bits = array.view("uint16") if array.dtype.name == "bfloat16" else array
        # Paths are for people: they depend on how many layers were named before in the process.
        arrays[f"{index:05d}:{variable.path}"] = bits
    return arrays


def _assign(
    variables: Sequence[keras.Variable], arrays: dict[str, np.ndarray], where: pathlib.Path
) -> None:
    if len(variables) != len(arrays):
        raise InputError(
            f"{where} has {len(arrays)} variables and this network {len(variables)}; it is of "
            "another network: choose another directory."
        )
    for variable, name in zip(variables, sorted(arrays), strict=True):
        array = arrays[name]
        if variable.dtype == "bfloat16":
            array = array.view(keras.ops.convert_to_numpy(variable).dtype)
        if tuple(array.shape) != tuple(variable.shape):
            raise InputError(
                f"{where}: {name} has shape {tuple(array.shape)} and {variable.path} "
                f"{tuple(variable.shape)}; it is of another network: choose another directory."
            )
        variable.assign(array)


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
