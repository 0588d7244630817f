"""Tensors of a file into variables of a network, with every difference named."""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from bert_keras.checkpoint.tensor_files import Tensors
from bert_keras.checkpoint.weight_map import (
    BUFFERS,
    ENCODER_PREFIX,
    TIED,
    Slot,
    file_name,
    plain_name,
)
from bert_keras.errors import InputError

_log = logging.getLogger("bert_keras")

# How many names one message lists; `CheckpointMismatch` carries them all.
MAX_LISTED = 8


class CheckpointMismatch(InputError):
    """The tensors of a file are not those of the model.

    Attributes:
        missing: what the model needs and the file lacks.
        unexpected: what the file holds and the model has no place for.
        misshaped: name: (shape in the file, shape that the model needs).
    """

    def __init__(
        self,
        message: str,
        missing: list[str],
        unexpected: list[str],
        misshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.unexpected = unexpected
        self.misshaped = misshaped


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did with every name on both sides.

    Attributes:
        loaded: tensors now in the network.
        fresh: named exceptions that keep their random start, since the file lacks them.
        unused: named exceptions that lie in the file and were not read.
        optimizer: how many tensors of the file are the optimizer's, and were not read.
        places: (weight of ours, tensor of theirs, its shape in the file) of what was loaded.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    optimizer: int = 0
    places: tuple[tuple[str, str, tuple[int, ...]], ...] = ()


def assign(
    slots: Mapping[str, Slot],
    tensors: Tensors,
    *,
    what: str,
    allow_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    optimizer: int = 0,
) -> LoadReport:
    """Fills the slots; nothing is changed unless every name and shape fits.

    Args:
        slots: their name without prefix: place in the network.
        tensors: the opened file.
        what: the model in messages, e.g. "BertForSequenceClassification".
        allow_missing: names, or prefixes up to a dot or slash, that the file may lack.
        ignore_unexpected: names, or prefixes up to a dot or slash, that it may hold in vain.
        optimizer: how many tensors of the file were hidden as the optimizer's, for the report.

    Raises:
        CheckpointMismatch: a tensor is missing, unexpected or of another shape, and not named.
        InputError: a file is damaged, or holds one tensor twice with different values.
    """
    places = _places(tensors, slots)
    allow_missing, ignore_unexpected = _plain(allow_missing), _plain(ignore_unexpected)
    missing = [name for name in slots if name not in places]
    unexpected = [places[name] for name in places if name not in slots]
    misshaped = {
        places[name]: (tensors[places[name]].shape, slot.shape)
        for name, slot in slots.items()
        if name in places and tensors[places[name]].shape != slot.shape
    }
    fresh = [name for name in missing if _is_named(name, allow_missing)]
    unused = [name for name in unexpected if _is_named(name, ignore_unexpected)]
    missing = [name for name in missing if name not in fresh]
    unexpected = [name for name in unexpected if name not in unused]
    if missing or unexpected or misshaped:
        message = _describe(tensors, what, missing, unexpected, misshaped)
        raise CheckpointMismatch(message, missing, unexpected, misshaped)

    wanted = {places[name]: slot for name, slot in slots.items() if name in places}
    for name, tensor in tensors.read(wanted):
        wanted[name].assign(tensor)
    where = tuple((slot.name, name, slot.shape) for name, slot in wanted.items())
    return LoadReport(tuple(wanted), tuple(fresh), tuple(unused), optimizer, where)


def _places(tensors: Tensors, slots: Collection[str]) -> dict[str, str]:
    """Returns plain name: name in the file, without buffers and second names."""
    places: dict[str, str] = {}
    for name in tensors:
        plain = plain_name(name)
        if plain in BUFFERS:
            continue
        if plain in places:
            raise InputError(
                f"{tensors.source}: {name} and {places[plain]} are two names of one tensor; "
                "keep one of them."
            )
        places[plain] = name
    for copy, original in TIED.items():
        if copy in places and "cls.predictions.bias" in slots:
            copy_name = places.pop(copy)
            if original in places:
                _check_equal(tensors, places[original], copy_name)
            places.setdefault(original, copy_name)
    return places


def _check_equal(tensors: Tensors, original: str, copy: str) -> None:
    values = dict(tensors.read([original, copy]))
    if not np.array_equal(values[original], values[copy]):
        raise InputError(
            f"{tensors.source}: {copy} differs from {original}; a decoder of its own cannot be "
            "represented, since the masked-LM head uses the token embedding and one bias."
        )


def names_of(names: Iterable[str]) -> tuple[str, ...]:
    """Returns several names as they are, and a single string as one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def _plain(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(plain_name(name).rstrip("./") for name in names_of(names))


def _is_named(name: str, names: tuple[str, ...]) -> bool:
    plain = plain_name(name)
    return any(plain == each or plain.startswith((each + ".", each + "/")) for each in names)


def _describe(
    tensors: Tensors,
    what: str,
    missing: list[str],
    unexpected: list[str],
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    # The file's own spelling: `bert.` before the encoder's names, or not.
    prefixed = any(name.startswith(ENCODER_PREFIX) for name in tensors)
    parts = []
    if missing:
        spelled = [file_name(name, ENCODER_PREFIX if prefixed else "") for name in missing]
        parts.append(f"missing, the model needs {listed(spelled)}")
    if unexpected:
        parts.append(f"unexpected, the file holds {listed(unexpected)}")
    if misshaped:
        shapes = [
            f"{name} {list(there)} where the model needs {list(here)}"
            for name, (there, here) in misshaped.items()
        ]
        parts.append(f"of another shape, the file holds {listed(shapes)}")
    advice = []
    if missing:
        advice.append("allow_missing")
    if unexpected:
        advice.append("ignore_unexpected")
    hint = f" If that is meant, name them in {' and '.join(advice)}." if advice else ""
    return f"{tensors.source} does not fit {what}: {'; '.join(parts)}.{hint}"


def listed(items: list[str]) -> str:
    """Returns how many there are and the first few, for a message."""
    more = len(items) - MAX_LISTED
    shown = ", ".join(items[:MAX_LISTED])
    count = f"{len(items)} tensor{'s' if len(items) > 1 else ''}: {shown}"
    return f"{count} and {more} more" if more > 0 else count


def log_exceptions(report: LoadReport, tensors: Tensors) -> None:
    """Says in one line each what starts at random and what was not read."""
    if report.fresh:
        _log.warning(
            "%s lacks %s: they start at random.",
            tensors.source,
            ", ".join(report.fresh),
        )
    if report.unused:
        _log.warning(
            "%s also holds %s: they were not read.",
            tensors.source,
            ", ".join(report.unused),
        )
    if report.optimizer:
        _log.info(
            "%s also holds %d tensors of the optimizer: they were not read.",
            tensors.source,
            report.optimizer,
        )
