"""`manifest.json` of a record directory: what lies in it, checked field by field.

It is written last, so a directory that has one is complete. A reader can trust nothing that it
says before it is checked here: file names could point elsewhere, numbers could ask for any memory.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from bert_keras.errors import InputError

FORMAT = "bert_keras records"
VERSION = 1

# Far above what a BERT has, far below what hurts: readers allocate by these.
MAX_SEQ_LENGTH = 100_000
MAX_VOCAB_SIZE = 10_000_000
MAX_SHARDS = 100_000

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")  # a name beside the manifest, not a path
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: its name in the directory.
        count: its records.
        bytes: its length on the disk.
        sha256: of these bytes, in hexadecimal.
    """

    file: str
    count: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a record directory holds.

    Attributes:
        kind: "static" (masked and padded) or "dynamic" (neither; masks are drawn in training).
        shards: the files, in order.
        schema: feature -> (dtype, shape); an axis of None is as long as the row.
        count: records of all shards.
        max_seq_length: T, tokens of the longest row, [CLS] and [SEP] included.
        max_predictions_per_seq: P of static records; None in dynamic ones.
        objective: "nsp", "sop" or "none".
        packed: whether a row can hold several documents.
        vocabulary: its "sha256" and "size", and how the tokenizer reads text.
        special_token_ids: "[MASK]" and so on -> id.
        random_seed: of everything random in the making.
        flags: the command's flags.
        tokens: real tokens of all rows, [CLS] and [SEP] included.
        corpus: statistics of the text.
    """

    kind: str
    shards: tuple[Shard, ...]
    schema: dict[str, tuple[str, tuple[int | None, ...]]]
    count: int
    max_seq_length: int
    max_predictions_per_seq: int | None
    objective: str
    packed: bool
    vocabulary: dict[str, Any]
    special_token_ids: dict[str, int]
    random_seed: int
    flags: dict[str, Any]
    tokens: int
    corpus: dict[str, Any]

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Manifest":
        """Returns the manifest that JSON values describe.

        Args:
            value: what `json.load` gave.
            where: the file, for messages.

        Raises:
            InputError: naming the field that is missing, unknown or wrong.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise InputError(
                f"{where}: this is not the manifest of a record directory: `format` must be "
                f'"{FORMAT}". Give a directory that create_pretraining_data wrote.'
            )
        if value.get("version") != VERSION or isinstance(value["version"], bool):
            raise InputError(
                f"{where}: `version` must be {VERSION}. Received {_short(value.get('version'))}; "
                "it was written by another release: make the records again, or use that release."
            )
        fields = {name: item for name, item in value.items() if name not in ("format", "version")}
        _check_fields(fields, _CHECKS, where, "")
        for number, shard in enumerate(fields["shards"]):
            _check_fields(shard, _SHARD_CHECKS, where, f"shards[{number}].")
        shards = tuple(Shard(**shard) for shard in fields["shards"])
        if len({shard.file for shard in shards}) != len(shards):
            raise InputError(f"{where}: `shards` name a file twice; make the records again.")
        total = sum(shard.count for shard in shards)
        if total != fields["count"]:
            raise InputError(
                f"{where}: `count` is {fields['count']}, but its shards hold {total} records; "
                "make the records again."
            )
        size = fields["vocabulary"]["size"]
        for name, token_id in fields["special_token_ids"].items():
            if token_id >= size:
                raise InputError(
                    f"{where}: `special_token_ids` {name!r} is {token_id}, outside of a vocabulary "
                    f"of {size}; make the records again."
                )
        schema = {name: (dtype, tuple(shape)) for name, (dtype, shape) in fields["schema"].items()}
        return cls(**{**fields, "shards": shards, "schema": schema})

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, the shards last: people read the top of a file."""
        fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        fields["schema"] = {
            name: [dtype, list(shape)] for name, (dtype, shape) in self.schema.items()
        }
        fields["shards"] = list(fields.pop("shards"))
        return fields


def _is_int(value: Any, low: int, high: int = 2**63 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_schema(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and 0 < len(value) <= 100
        and all(isinstance(item, list) and len(item) == 2 for item in value.values())
        and all(dtype in ("int64", "float32") for dtype, _ in value.values())
        and all(isinstance(shape, list) and len(shape) <= 2 for _, shape in value.values())
        and all(
            axis is None or _is_int(axis, 0, MAX_SEQ_LENGTH)
            for _, shape in value.values()
            for axis in shape
        )
    )


def _is_vocabulary(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_int(value.get("size"), 1, MAX_VOCAB_SIZE)
        and isinstance(value.get("sha256"), str)
        and bool(_SHA256.fullmatch(value["sha256"]))
    )


def _is_ids(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_int(item, 0) for item in value.values())


# field: (what is expected, whether a value is that)
_Checks = dict[str, tuple[str, Callable[[Any], bool]]]

_CHECKS: _Checks = {
    "kind": ('"static" or "dynamic"', lambda value: value in ("static", "dynamic")),
    "shards": (
        f"a list of 1 to {MAX_SHARDS} objects",
        lambda value: isinstance(value, list) and 0 < len(value) <= MAX_SHARDS,
    ),
    "schema": ('feature -> ["int64" or "float32", shape]', _is_schema),
    "count": ("a number of records", lambda value: _is_int(value, 0)),
    "max_seq_length": (
        f"an integer from 2 to {MAX_SEQ_LENGTH}",
        lambda value: _is_int(value, 2, MAX_SEQ_LENGTH),
    ),
    "max_predictions_per_seq": (
        f"null or an integer from 1 to {MAX_SEQ_LENGTH}",
        lambda value: value is None or _is_int(value, 1, MAX_SEQ_LENGTH),
    ),
    "objective": ('"nsp", "sop" or "none"', lambda value: value in ("nsp", "sop", "none")),
    "packed": ("true or false", lambda value: isinstance(value, bool)),
    "vocabulary": (f"an object with sha256 and a size up to {MAX_VOCAB_SIZE}", _is_vocabulary),
    "special_token_ids": ("token -> id", _is_ids),
    "random_seed": ("an integer of 0 or more", lambda value: _is_int(value, 0)),
    "flags": ("an object", lambda value: isinstance(value, dict)),
    "tokens": ("a number of tokens", lambda value: _is_int(value, 0)),
    "corpus": ("an object", lambda value: isinstance(value, dict)),
}

_SHARD_CHECKS: _Checks = {
    "file": (
        "the name of a file beside the manifest",
        lambda value: isinstance(value, str) and bool(_FILE.fullmatch(value)),
    ),
    "count": ("a number of records", lambda value: _is_int(value, 0)),
    "bytes": ("a number of bytes", lambda value: _is_int(value, 0)),
    "sha256": (
        "64 hexadecimal digits",
        lambda value: isinstance(value, str) and bool(_SHA256.fullmatch(value)),
    ),
}


def _check_fields(fields: Any, checks: _Checks, where: str, prefix: str) -> None:
    if not isinstance(fields, dict):
        raise InputError(
            f"{where}: `{prefix.rstrip('.')}` must be an object. Received {_short(fields)}."
        )
    for name in fields.keys() - checks.keys():
        raise InputError(
            f"{where}: unknown field `{prefix}{_short(name)}`; is it of a later release?"
        )
    for name, (expected, holds) in checks.items():
        if name not in fields:
            raise InputError(f"{where}: `{prefix}{name}` is missing; make the records again.")
        if not holds(fields[name]):
            raise InputError(
                f"{where}: `{prefix}{name}` must be {expected}. Received {_short(fields[name])}; "
                "mend it, or make the records again."
            )


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
