"""The files of one checkpoint: arrays by group, and a state that holds their checksums."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.training.weight_average import WeightAverage

WEIGHTS, OPTIMIZER, AVERAGE = (
    f"{group}.safetensors" for group in ("weights", "optimizer", "average")
)
_STATE = "state.json"


class DamagedError(Exception):
    """A checkpoint cannot be used."""


def place_of(checkpoints: pathlib.Path, step: int) -> pathlib.Path:
    """Where the checkpoint of a step lies."""
    return checkpoints / f"step-{step:08d}"


def step_of(place: pathlib.Path) -> int:
    """The step of the checkpoint that lies there."""
    return int(place.name.removeprefix("step-"))


def places(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """Where checkpoints lie, damaged ones too, the oldest first."""
    return sorted(checkpoints.glob("step-" + "[0-9]" * 8 + "*"))


def saved_variables(
    network: keras.Model,
    optimizer: keras.Optimizer | None = None,
    average: WeightAverage | None = None,
) -> dict[str, list[keras.Variable]]:
    """What a checkpoint keeps, by the name of the file."""
    # `variables`, unlike `weights`, has the states of the random generators (dropout).
    metrics = {id(variable) for variable in network.metrics_variables}
    saved = {WEIGHTS: [v for v in network.variables if id(v) not in metrics]}
    if optimizer is not None:
        saved[OPTIMIZER] = list(optimizer.variables)
    if average is not None:
        saved[AVERAGE] = average.variables
    return saved


def write(
    place: pathlib.Path,
    groups: Mapping[str, Sequence[keras.Variable]],
    progress: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Makes the directory `place`, whole or not at all; progress and settings are JSON."""
    with files.new_directory(place) as directory:
        state: dict[str, Any] = {"progress": progress, "settings": settings, "sha256": {}}
        for name, variables in groups.items():
            data = safetensors.numpy.save(_to_arrays(variables))
            (directory / name).write_bytes(data)
            state["sha256"][name] = hashlib.sha256(data).hexdigest()
        state["sha256"][_STATE] = _digest(state)
        (directory / _STATE).write_text(json.dumps(state, indent=1))


def read_state(place: pathlib.Path) -> dict[str, Any]:
    """`progress`, `settings` and `sha256` by file; raises DamagedError."""
    try:
        state = files.read_json(place / _STATE)
        if state["sha256"].pop(_STATE) != _digest(state):
            raise DamagedError(f"{_STATE} does not have its checksum")
    except (InputError, OSError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{_STATE}: {error}") from None
    return state


def read_arrays(
    place: pathlib.Path, digests: Mapping[str, str], names: Iterable[str]
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of these files, checked against `read_state`'s `sha256`; raises DamagedError."""
    arrays = {}
    for name in names:
        try:
            data = (place / name).read_bytes()
        except OSError as error:
            raise DamagedError(str(error)) from None
        if hashlib.sha256(data).hexdigest() != digests.get(name):
            raise DamagedError(f"{name} does not have its checksum")
        try:
            arrays[name] = safetensors.numpy.load(data)
        except SafetensorError as error:
            raise DamagedError(f"{name}: {error}") from None
    return arrays


def assign(
    variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], where: pathlib.Path
) -> None:
    """Puts the arrays of the file `where` into the variables, in their order.

    Raises:
        InputError: they are of other numbers or shapes.
    """
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


def _to_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    arrays = {}
    for index, variable in enumerate(variables):
        array = np.array(keras.ops.convert_to_numpy(variable), order="C")
        # The NumPy side of safetensors writes bfloat16 and cannot read it: kept as its bits.
        bits = array.view("uint16") if array.dtype.name == "bfloat16" else array
        # Paths are for people: they depend on how many layers were named before in the process.
        arrays[f"{index:05d}:{variable.path}"] = bits
    return arrays


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
