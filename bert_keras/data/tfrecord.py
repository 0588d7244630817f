"""TFRecord files, written and read with every checksum.

A TFRecord file is a row of records, each framed by checksums (TensorFlow's
`core/lib/io/record_writer.h`)::

    length of the data, 8 bytes | masked CRC-32C of them, 4 | data | masked CRC-32C of it, 4

all little-endian. A file that was cut between two records is still such a file: only the counts of
a manifest tell (`record_directory.py`). Everything here is read as if somebody had made it to do
harm: a length whose checksum is right is not believed beyond what the file can hold.
"""

import contextlib
import gzip
import hashlib
import os
import pathlib
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import google_crc32c

from bert_keras import files
from bert_keras.data.record_manifest import Shard
from bert_keras.errors import InputError

# A row of 512 tokens takes 2 to 5 kB. Packed files do not tell how much they hold.
MAX_RECORD_BYTES = 64 * 2**20

# zlib's fastest: packing is the slowest step of writing.
GZIP_LEVEL = 1

_FRAME_BYTES = 12  # before the data: its length and the checksum of that
_CUT_OFF = "the file ends inside of it; it was cut off."
_MEND = "Copy the file again, or make the records again."
_UNREADABLE = OSError, EOFError, zlib.error


class ShardWriter:
    """Writes one shard; it is there, whole, once the `with` block has succeeded.

        with ShardWriter(directory / shard_file(0, 1)) as writer:
            writer.write_all(records)
        writer.shard  # Shard(file="part-00000-of-00001.tfrecord", count=...)

    The same records give the same bytes every time, packed (a name that ends in .gz) or not.

    Args:
        path: the file; replaced if it is there.
    """

    def __init__(self, path: files.PathLike):
        self.path = pathlib.Path(path)
        self._frames: dict[int, bytes] = {}  # by length: few of them, and half of the time
        self._count = 0
        self._shard: Shard | None = None

    def __enter__(self) -> "ShardWriter":
        with contextlib.ExitStack() as stack:
            self._hashed = _HashedFile(stack.enter_context(files.new_file(self.path)))
            self._out: Any = self._hashed
            if self.path.name.endswith(".gz"):
                self._out = stack.enter_context(
                    gzip.GzipFile("", "wb", GZIP_LEVEL, self._hashed, mtime=0)
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        done = self._stack.__exit__(*error)
        if error[0] is None:
            size, digest = self._hashed.size, self._hashed.digest.hexdigest()
            self._shard = Shard(self.path.name, self._count, size, digest)
        return done

    def write(self, record: bytes) -> None:
        """Writes one record."""
        self.write_all([record])

    def write_all(self, records: Sequence[bytes]) -> None:
        """Writes many records; faster than one by one."""
        pieces: list[bytes] = []
        for record in records:
            frame = self._frames.get(len(record))
            if frame is None:
                length = struct.pack("<Q", len(record))
                frame = self._frames[len(record)] = length + _checksum(length)
            pieces += (frame, record, _checksum(record))
        self._out.write(b"".join(pieces))
        self._count += len(records)

    @property
    def shard(self) -> Shard:
        """What was written; known after the block."""
        if self._shard is None:
            raise ValueError("`shard` is known once the `with` block has succeeded.")
        return self._shard


def read_shard(path: files.PathLike, count: int | None = None) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, plain or packed with gzip.

    Both checksums of each record are compared. Memory: one record and a buffer.

    Args:
        path: the file.
        count: the records that have to be there.

    Raises:
        InputError: the file cannot be read, is damaged, or has another count; names the record and
            its byte (in a packed file: the byte of what it unpacks to).
    """

    def refuse(fault: str) -> None:
        raise InputError(f"{fault} {_MEND}")

    found = 0
    for record in scan(pathlib.Path(path), refuse):
        yield record
        found += 1
    if count is not None and found != count:
        refuse(miscount(path, found, count))


def survey(path: files.PathLike) -> Shard:
    """Describes a TFRecord file that no manifest describes, such as another program's.

    Its records are stepped over; a packed file has to be unpacked for that.

    Returns:
        a Shard with the whole path as its `file`. Its `sha256` is that of the frames alone: as
        these have a checksum of each record, other records give another one.

    Raises:
        InputError: the file cannot be read, or a record's length is damaged or more than there is.
    """
    path = pathlib.Path(path).absolute()
    digest = hashlib.sha256()
    count = offset = 0
    fault: str | None = None
    try:
        with _open(path) as (file, size):
            header = file.read(_FRAME_BYTES)
            while header and not (fault := _frame_fault(header, offset, size)):
                length = int.from_bytes(header[:8], "little")
                file.seek(length, os.SEEK_CUR)
                between = file.read(4 + _FRAME_BYTES)
                if len(between) < 4:
                    fault = _CUT_OFF
                    break
                digest.update(header + between[:4])
                header = between[4:]
                count, offset = count + 1, offset + _FRAME_BYTES + length + 4
    except _UNREADABLE as error:
        fault = f"cannot be read ({_reason(error)})."
    if fault:
        raise InputError(f"{path}: record {count} at byte {offset}: {fault} {_MEND}")
    return Shard(str(path), count, path.stat().st_size, digest.hexdigest())


def miscount(path: files.PathLike, found: int, count: int) -> str:
    """Says that a shard has too few records, or too many."""
    return f"{path}: it ends after {found} records; {count} were expected."


def scan(path: pathlib.Path, on_fault: Callable[[str], None]) -> Iterator[bytes]:
    """Yields the sound records of a file, and calls `on_fault` with a line about each fault.

    After data with a wrong checksum it goes on with the next record; after a wrong length nobody
    knows where that is.
    """
    number = offset = 0
    try:
        with _open(path) as (file, size):
            while header := file.read(_FRAME_BYTES):
                where = f"{path}: record {number} at byte {offset}:"
                if fault := _frame_fault(header, offset, size):
                    return on_fault(f"{where} {fault}")
                length = int.from_bytes(header[:8], "little")
                record = file.read(length)
                checksum = file.read(4)
                if len(checksum) < 4:
                    return on_fault(f"{where} {_CUT_OFF}")
                if checksum == _checksum(record):
                    yield record
                else:
                    on_fault(f"{where} the checksum of its data is wrong; damaged.")
                number, offset = number + 1, offset + _FRAME_BYTES + length + 4
    except _UNREADABLE as error:
        on_fault(f"{path}: record {number} at byte {offset} cannot be read ({_reason(error)}).")


def _frame_fault(header: bytes, offset: int, size: int | None) -> str | None:
    """What is wrong with what stands before the data of a record at byte `offset`."""
    if len(header) < _FRAME_BYTES:
        return _CUT_OFF
    if header[8:] != _checksum(header[:8]):
        return "the checksum of its length is wrong; damaged."
    length = int.from_bytes(header[:8], "little")
    end = offset + _FRAME_BYTES + length + 4
    if size is not None and end > size:
        return f"it would end at byte {end} of a file of {size}; it was cut off."
    if length > MAX_RECORD_BYTES:
        return f"{length} bytes, more than the {MAX_RECORD_BYTES} allowed."
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Yields a file of frames and its length; None if it is packed, which does not tell."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
        raise OSError(0, "not a plain file")
    with open(path, "rb", buffering=2**18) as file:
        head = file.read(_FRAME_BYTES)
        file.seek(0)
        if path.name.endswith(".gz") or _is_packed(head):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked, None  # type: ignore[misc]
        else:
            yield file, os.fstat(file.fileno()).st_size


def _is_packed(head: bytes) -> bool:
    """Whether a file begins as gzip's do (RFC 1952), and not with the frame of a record."""
    return head.startswith(b"\x1f\x8b\x08") and head[8:] != _checksum(head[:8])


class _HashedFile:
    """A file that knows what was written to it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and shifted: sums over data that holds sums stay apart."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
