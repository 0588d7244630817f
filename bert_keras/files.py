"""Files that are either whole or absent.

Everything is written to a temporary name beside its place, synced to the disk, and renamed:
a reader, or a process that starts after a crash, never meets half a file.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from bert_keras.errors import InputError

PathLike = str | os.PathLike[str]

# The largest JSON of a BERT, a tokenizer.json of 250,000 pieces, has 10 MB; what is parsed can
# take 20 times as much memory.
MAX_JSON_BYTES = 50_000_000


@contextlib.contextmanager
def new_file(path: PathLike) -> Iterator[BinaryIO]:
    """Yields a file for bytes that becomes `path` once the block has succeeded.

    Any number of bytes can be written one after the other; on failure nothing is left. An OSError
    of the writing (a full disk) names `path`.
    """
    path = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        pathlib.Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    sync_directory(path.parent)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Writes `data` to `path` in one step that a crash cannot split."""
    with new_file(path) as file:
        file.write(data)


def write_text(path: PathLike, text: str) -> None:
    """Writes `text` as UTF-8 with its line ends as they are; whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
    """Writes `value` as indented JSON that people can read and `diff` can compare."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is missing, too large, not UTF-8 or not JSON; names the file and line.
    """
    path = pathlib.Path(path)
    try:
        return json.loads(read_bytes(path, MAX_JSON_BYTES, "a JSON file").decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; expected a JSON text in UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); mend or replace the file."
        ) from None
    except ValueError as error:  # An integer too long for Python to read.
        raise InputError(f"{path}: {error}; mend or replace the file.") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply to be a configuration file.") from None


def read_bytes(path: PathLike, most: int, what: str) -> bytes:
    """Reads a whole file of at most `most` bytes; `what` was expected there.

    Raises:
        InputError: the file is missing, a directory, or larger.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {what} was expected here.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; {what} was expected here.") from None
    if len(data) > most:
        size = path.stat().st_size
        raise InputError(f"{path}: {size} bytes are more than the {most} that {what} may have.")
    return data


def sha256(path: PathLike) -> str:
    """The SHA-256 of a file in hexadecimal, in little memory; about 1 GB a second."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can write it: JSON's "\\ud800" is a string, but half a character."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


@contextlib.contextmanager
def new_directory(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary directory that becomes `path` once the block has succeeded.

    The temporary one lies beside `path`, under a name that starts with a dot, so that the
    rename stays on one file system and no server takes it for a model version. On failure it
    is removed.

    Raises:
        InputError: `path` exists already.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; remove it or choose another place.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    os.chmod(temporary, 0o777 & ~_umask())
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(os.path.join(folder, name), os.O_RDONLY)
            sync_directory(folder)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: PathLike) -> None:
    """Makes the names in a directory durable (a rename is only safe after this)."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: PathLike, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The mask can only be read by setting it; mkstemp and mkdtemp ignore it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
