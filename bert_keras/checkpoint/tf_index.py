"""The index of a TensorFlow checkpoint, parsed and checked before TensorFlow's reader opens it.

The reader checks sums and then trusts what they protect: an index that was made to be wrong ends
the process, or asks for any amount of memory. Here every name, shape and place is compared with
the files first. The format is that of `tensorflow/core/util/tensor_bundle` (a sorted table of
protocol messages, as in LevelDB's `doc/table_format.md`; never compressed).
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from bert_keras.errors import InputError

INDEX_SUFFIX = ".index"

# BERT-large's index with the optimizer's slots has 60 kB and 1200 names. As a name may repeat the
# last one in three bytes, a file's length does not bound what it unfolds to.
MAX_INDEX_BYTES = 10_000_000
MAX_NAMES = 100_000
MAX_NAME_BYTES = 1000

AGAIN = "Copy or download it again."

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # after each block: how it is compressed, and its checksum
_UNCOMPRESSED = 0


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        dtype: TensorFlow's name for the type.
        shape: its axes.
        path: the data file.
        offset, size: its bytes there.
    """

    dtype: str
    shape: tuple[int, ...]
    path: pathlib.Path
    offset: int
    size: int


def read_index(prefix: pathlib.Path) -> dict[str, Entry]:
    """Returns every tensor of a checkpoint by its key.

    Raises:
        InputError: the index is damaged, or does not describe the data files beside it.
    """
    from tensorflow.core.protobuf import tensor_bundle_pb2

    path = pathlib.Path(f"{prefix}{INDEX_SUFFIX}")
    size = path.stat().st_size
    if size > MAX_INDEX_BYTES:
        raise InputError(
            f"{path}: {size} bytes, more than the {MAX_INDEX_BYTES} allowed; this is not the index "
            "of a BERT."
        )
    try:
        messages = dict(_table(path.read_bytes()))
        header = tensor_bundle_pb2.BundleHeaderProto.FromString(messages.pop(b""))
        parsed = {
            key.decode("utf-8"): tensor_bundle_pb2.BundleEntryProto.FromString(value)
            for key, value in messages.items()
        }
    except Exception as error:  # of the slices and numbers above, and protobuf's DecodeError
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, IndexError):
            reason = "it ends too early: truncated"
        elif isinstance(error, KeyError):
            reason = "it has no header"
        raise InputError(
            f"{path}: damaged index of a TensorFlow checkpoint ({reason}). {AGAIN}"
        ) from None
    sizes: dict[pathlib.Path, int] = {}
    return {
        name: _checked(name, entry, header.num_shards, prefix, sizes)
        for name, entry in parsed.items()
    }


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a sorted table, which must ascend."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("its last bytes are not those of an index: truncated?")
    place = 0
    for _ in range(2):  # the first pair is of a block that TensorFlow leaves empty
        offset, place = _varint(footer, place)
        length, place = _varint(footer, place)
    count, last = 0, None
    for _, handle in _block(data, offset, length):
        offset, place = _varint(handle, 0)
        length, _ = _varint(handle, place)
        for key, value in _block(data, offset, length):
            if last is not None and key <= last:
                raise ValueError("its names are not in order")
            yield key, value
            count, last = count + 1, key
            if count > MAX_NAMES:
                raise ValueError(f"more than {MAX_NAMES} names")


def _block(data: bytes, offset: int, length: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of one block: each key says how much it shares with the last."""
    if offset + length + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise ValueError("a block lies outside of it")
    if data[offset + length] != _UNCOMPRESSED:
        raise ValueError("a block is compressed, which TensorFlow never does")
    block = data[offset : offset + length]
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        value_length, place = _varint(block, place)
        stop = place + added + value_length
        if shared > len(key) or stop > end:
            raise ValueError("an entry lies outside of its block")
        key = key[:shared] + block[place : place + added]
        if len(key) > MAX_NAME_BYTES:
            raise ValueError(f"a name of {len(key)} bytes")
        yield key, block[place + added : stop]
        place = stop
    if place != end:
        raise ValueError("a block does not end where it says")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Returns a number of seven bits a byte, the lowest first, and the place after it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError("a number is too long")


def _checked(
    name: str, entry: Any, num_shards: int, prefix: pathlib.Path, sizes: dict[pathlib.Path, int]
) -> Entry:
    """Returns an entry after comparing it with its data file, whose size goes into `sizes`."""
    import tensorflow as tf

    where = f"{prefix}: its index says of {name!r} "
    if entry.slices:
        raise InputError(f"{where}that it is saved in slices; save the variable whole.")
    shape = tuple(axis.size for axis in entry.shape.dim)
    if entry.shape.unknown_rank or any(axis < 0 for axis in shape):
        raise InputError(f"{where}that its shape is {list(shape)}. {AGAIN}")
    try:
        dtype = tf.dtypes.as_dtype(entry.dtype)
    except TypeError:
        raise InputError(f"{where}that its type is {entry.dtype}, which is none. {AGAIN}") from None
    if not 0 <= entry.shard_id < num_shards <= 99_999:
        raise InputError(f"{where}that it is in file {entry.shard_id} of {num_shards}. {AGAIN}")
    path = pathlib.Path(f"{prefix}.data-{entry.shard_id:05d}-of-{num_shards:05d}")
    if path not in sizes:
        if not path.is_file():
            raise InputError(f"{prefix}: its file {path.name} is not there. {AGAIN}")
        sizes[path] = os.path.getsize(path)
    if not 0 <= entry.offset <= entry.offset + entry.size <= sizes[path]:
        raise InputError(
            f"{where}that it ends at byte {entry.offset + entry.size} of {path.name}, which has "
            f"{sizes[path]}: truncated? {AGAIN}"
        )
    # A string is as long as it is; all others are as long as their shape says.
    if dtype != tf.string and math.prod(shape) * dtype.size != entry.size:
        raise InputError(
            f"{where}that {list(shape)} of {dtype.name} are {entry.size} bytes. {AGAIN}"
        )
    return Entry(dtype.name, shape, path, entry.offset, entry.size)


def read_string(prefix: pathlib.Path, name: str, entry: Entry) -> bytes:
    """Returns a single string, without asking for more memory than its file has bytes.

    Raises:
        InputError: the entry is something else, or its length is not that of its bytes.
    """
    with open(entry.path, "rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    try:
        length, place = _varint(data, 0)
        contents = data[place + 4 :]  # after the checksum of the length
        if entry.dtype != "string" or entry.shape or len(contents) != length:
            raise ValueError
    except (IndexError, ValueError):
        raise InputError(f"{prefix}: {name} is not one string. {AGAIN}") from None
    return contents
