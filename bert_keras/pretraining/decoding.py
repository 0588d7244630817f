"""Pretraining records back to arrays: the bytes of many tf.train.Examples at a time.

    records -> where each feature's values lie -> one array of bytes a feature -> numbers

The walk over a record is Python, a few microseconds; the numbers of all records are decoded at
once by NumPy, so no TensorFlow is needed where the network runs on another backend. Only what
TensorFlow writes is read: lists of numbers in their packed form. Everything is checked against the
manifest before an array is made of it: a record cannot ask for more memory than its own length.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError
from bert_keras.pretraining.records import (
    DOCUMENT_IDS,
    INPUT_IDS,
    INPUT_MASK,
    MASKED_LM_IDS,
    MASKED_LM_POSITIONS,
    MASKED_LM_WEIGHTS,
    NEXT_SENTENCE_LABELS,
    SEGMENT_IDS,
    SENTENCE_STARTS,
    V2_NAMES,
    WORD_STARTS,
)

# Bytes of an Example besides its numbers: names, tags and lengths of a hundred features at most.
FRAME_BYTES = 10_000
MAX_VARINT_BYTES = 5  # 35 bits; every feature is far below
ORIGINAL_NAMES = {version_2: name for name, version_2 in V2_NAMES.items()}


class Feature(NamedTuple):
    """One feature of many rows: int32 or float32 values, and where each row's begin and end."""

    values: np.ndarray
    splits: np.ndarray  # int64 [R + 1]


class _Head(NamedTuple):
    """What stands before the values of a feature; it depends on nothing but name and size."""

    data: bytes
    name: str
    kind: int
    size: int


# Heads are kept by their first bytes, which tell size and the start of the name.
_KEY_BYTES = 12
_MAX_HEADS = 10_000


def max_record_bytes(manifest: Manifest) -> int:
    """The longest a record can be that follows the manifest's schema."""
    widths = (shape[0] if shape else 1 for _, shape in manifest.schema.values())
    numbers = sum(manifest.max_seq_length if width is None else width for width in widths)
    return FRAME_BYTES + 10 * numbers


def decode(
    records: Sequence[bytes], manifest: Manifest, path: Any, first: int = 0
) -> dict[str, Feature]:
    """The features of records, under google-research/bert's names.

    Args:
        records: of one shard, one after the other.
        manifest: whose schema, lengths and vocabulary they must follow.
        path: of the shard, for messages.
        first: the number in the shard of the first one, for messages.

    Raises:
        InputError: naming file, record and feature, where a record is no Example, lacks a feature
            or has others, has values of another number or kind, or values out of range.
    """
    names = sorted(manifest.schema)
    data: dict[str, list[bytes]] = {name: [] for name in names}
    kinds = {name: 2 if manifest.schema[name][0] == "float32" else 3 for name in names}
    heads: dict[bytes, _Head] = {}
    for number, record in enumerate(records, start=first):
        try:
            found = _features(record, heads)
        except (ValueError, IndexError, UnicodeDecodeError):
            raise InputError(
                f"{path}: record {number} is not a tf.train.Example of packed numbers; make the "
                "records again."
            ) from None
        if found.keys() != data.keys():
            raise InputError(
                f"{path}: record {number} has the features {listed(found)}; expected "
                f"{', '.join(names)}; make the records again."
            )
        for name, (kind, start, end) in found.items():
            if kind != kinds[name]:
                raise InputError(
                    f"{path}: record {number}: {name} holds another type than "
                    f"{manifest.schema[name][0]}; make the records again."
                )
            data[name].append(record[start:end])

    result: dict[str, Feature] = {}
    for name in names:
        decoded = _floats(data[name]) if kinds[name] == 2 else _integers(data[name])
        if isinstance(decoded, int):
            raise InputError(
                f"{path}: record {first + decoded}: {name} holds a broken number; make the records "
                "again."
            )
        result[ORIGINAL_NAMES.get(name, name)] = decoded
    _check(result, manifest, path, first)
    return result


def read_example(record: bytes) -> dict[str, np.ndarray]:
    """The features of one record, whatever they are: int32 or float32 arrays [n].

    Raises:
        ValueError: it is no tf.train.Example of packed numbers.
    """
    try:
        found = _features(record, {})
    except (IndexError, UnicodeDecodeError):
        raise ValueError from None
    features = {}
    for name, (kind, start, end) in found.items():
        if kind not in (2, 3):
            raise ValueError
        decoded = (_floats if kind == 2 else _integers)([record[start:end]])
        if isinstance(decoded, int):
            raise ValueError
        features[name] = decoded.values
    return features


def listed(found: Iterable[str]) -> str:
    """Names out of a file, in a form that fits a line whatever they are."""
    text = ", ".join(name if name.isidentifier() else repr(name) for name in sorted(found))
    return "none" if not text else text if len(text) <= 300 else text[:300] + "..."


def _features(record: bytes, heads: dict[bytes, "_Head"]) -> dict[str, tuple[int, int, int]]:
    """Where the values of each feature lie: name -> (2 floats or 3 integers, start, end)."""
    found: dict[str, tuple[int, int, int]] = {}
    position, end = _enter(record, 0, len(record), 0x0A)  # Example.features
    if end != len(record):
        raise ValueError
    while position < end:
        key = record[position : position + _KEY_BYTES]
        head = heads.get(key)
        if head is None or not record.startswith(head.data, position):
            head = _head(record, position, end)
            if len(heads) < _MAX_HEADS:
                heads[key] = head
        position += len(head.data)
        if head.name in found or position + head.size > end:
            raise ValueError
        found[head.name] = head.kind, position, position + head.size
        position += head.size
    return found


def _head(record: bytes, start: int, end: int) -> "_Head":
    """Reads what stands before the values of a feature."""
    position, entry_end = _enter(record, start, end, 0x0A)  # an entry of the map
    position, key_end = _enter(record, position, entry_end, 0x0A)
    name = record[position:key_end].decode("ascii")
    position, feature_end = _enter(record, key_end, entry_end, 0x12)
    kind = record[position] >> 3
    position, list_end = _enter(record, position, feature_end, kind << 3 | 2)
    values_end = position
    if position < list_end:  # an empty list has no values
        position, values_end = _enter(record, position, list_end, 0x0A)
    if not entry_end == feature_end == list_end == values_end:
        raise ValueError
    return _Head(record[start:position], name, kind, values_end - position)


def _enter(record: bytes, position: int, limit: int, tag: int) -> tuple[int, int]:
    """Reads a tag and a length; returns where the field's contents begin and end."""
    if record[position] != tag:
        raise ValueError
    length = record[position + 1]
    position += 2
    if length > 127:
        length &= 127
        shift = 7
        while True:
            byte = record[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 28:
                raise ValueError
    if position + length > limit:
        raise ValueError
    return position, position + length


def _floats(rows: list[bytes]) -> Feature | int:
    """Little-endian float32; or the number of the row whose bytes are none."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    if (sizes % 4).any():
        return int(np.argmax(sizes % 4 > 0))
    return Feature(np.frombuffer(b"".join(rows), "<f4"), _splits(sizes // 4))


def _integers(rows: list[bytes]) -> Feature | int:
    """Varints, seven bits a byte; or the number of the row whose bytes are none."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    data = np.frombuffer(b"".join(rows), np.uint8)
    splits = _splits(sizes)
    last = data < 128
    if last.all():
        return Feature(data.astype(np.int32), splits)
    broken = (sizes > 0) & ~last[splits[1:] - 1]
    if broken.any():
        return int(np.argmax(broken))
    ends = np.flatnonzero(last)
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    widths = ends - begins + 1
    if widths.max() > MAX_VARINT_BYTES:
        byte = begins[np.argmax(widths)]
        return int(np.searchsorted(splits, byte, side="right")) - 1
    values = (data[begins] & 127).astype(np.int64)
    for place in range(1, int(widths.max())):
        longer = np.flatnonzero(widths > place)
        values[longer] |= (data[begins[longer] + place] & 127).astype(np.int64) << 7 * place
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(last)])
    # What does not fit an int32 is out of every range that is checked next.
    return Feature(np.minimum(values, 2**31 - 1).astype(np.int32), before[splits])


def _splits(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _check(features: dict[str, Feature], manifest: Manifest, path: Any, first: int) -> None:
    """Refuses rows of wrong lengths, and values out of range."""
    longest = manifest.max_seq_length
    shapes = {ORIGINAL_NAMES.get(name, name): shape for name, (_, shape) in manifest.schema.items()}
    lengths = {name: np.diff(feature.splits) for name, feature in features.items()}

    def refuse(bad: np.ndarray, what: str) -> None:
        if bad.any():
            raise InputError(
                f"{path}: record {first + int(np.argmax(bad))}: {what}; make the records again."
            )

    refuse(lengths[INPUT_IDS] == 0, f"{INPUT_IDS} is empty")
    for name, length in lengths.items():
        width = shapes[name][0] if shapes[name] else 1
        if width is None:
            refuse(length > longest, f"{name} is longer than {longest}")
            refuse(length != lengths[INPUT_IDS], f"{name} and {INPUT_IDS} are of two lengths")
        else:
            refuse(length != width, f"{name} does not have {width} values")
    limits = {
        INPUT_IDS: manifest.vocabulary["size"],
        MASKED_LM_IDS: manifest.vocabulary["size"],
        MASKED_LM_POSITIONS: longest,
        DOCUMENT_IDS: longest + 1,
        **dict.fromkeys((INPUT_MASK, SEGMENT_IDS, WORD_STARTS, SENTENCE_STARTS), 2),
        NEXT_SENTENCE_LABELS: 2,
    }
    for name, (values, splits) in features.items():
        if name == MASKED_LM_WEIGHTS:
            bad = (values != 0) & (values != 1)
            what = f"{name} must be 0 or 1"
        else:
            bad = values >= limits.get(name, 2**31 - 1)
            what = f"{name} must be from 0 to {limits.get(name, 2**31 - 1) - 1}"
        if bad.any():
            rows = np.zeros(len(splits) - 1, bool)
            rows[np.searchsorted(splits, np.argmax(bad), side="right") - 1] = True
            refuse(rows, what)
