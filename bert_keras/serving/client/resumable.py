"""A file that is written for hours, and goes on where a killed process left it.

FILE.partial grows; FILE.journal says what it is made of and how far it is whole. Once everything is
there, the one becomes FILE and the other goes. What a process wrote after its last entry in the
journal is cut off by the next one, so that the bytes are those of a process that was never killed.
"""

import collections
import fcntl
import itertools
import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from bert_keras import files
from bert_keras.errors import InputError

COMMIT_SECONDS = 1.0  # at most this much work is done twice; an entry costs a few milliseconds


class ResumableFile:
    """A context in which lines are added to what was kept of `path`.

    Args:
        path: the file to be.
        about: what its lines are made of, as JSON. Who goes on has to say the same.

    Attributes:
        counts: what `write` was told, summed since the file was begun.
        finished: whether `path` is whole.

    Raises:
        InputError: it was begun with something else, is broken, or another process writes it.
    """

    def __init__(self, path: files.PathLike, about: Mapping[str, Any]):
        self.path = pathlib.Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.journal = self.path.with_name(f"{self.path.name}.journal")
        self.counts: collections.Counter[str] = collections.Counter()
        self.finished = False
        self._about = json.loads(json.dumps(about))
        self._bytes = 0
        self._committed = time.monotonic()

    def __enter__(self) -> "ResumableFile":
        if self.journal.exists():
            self._go_on()
        if not self.finished:
            self._file = self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.finished:
            return
        if self._bytes:
            self.commit()
        else:
            self.partial.unlink(missing_ok=True)
        self._file.close()

    def write(self, data: bytes, /, **counts: int) -> None:
        """Adds whole lines, and adds to the counts."""
        self._file.write(data)
        summed = self.counts + collections.Counter(counts)
        # Both in one line without a call: no signal finds the one without the other.
        self._bytes, self.counts = self._bytes + len(data), summed
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self, finished: bool = False) -> None:
        """Makes what was written so far last, whatever happens to the process or the machine."""
        self._file.flush()
        os.fsync(self._file.fileno())
        entry = {"bytes": self._bytes, "counts": dict(self.counts), "finished": finished}
        new = self.journal.with_name(f"{self.journal.name}.new")  # one name: a kill litters nothing
        with open(new, "w", encoding="utf-8") as file:
            json.dump({"about": self._about, **entry}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.journal)
        self._committed = time.monotonic()

    def finish(self) -> None:
        """Gives the file its name."""
        self.commit(finished=True)
        os.replace(self.partial, self.path)
        files.sync_directory(self.path.parent)
        self._file.close()
        self.journal.unlink()
        self.finished = True

    def first(self, count: int) -> list[bytes]:
        """The first lines of what was kept."""
        with open(self.partial, "rb") as file:
            return list(itertools.islice(file, count))

    def _go_on(self) -> None:
        anew = f"delete it and {self.partial.name} to begin anew"
        entry = files.read_json(self.journal)
        try:
            about, size, finished = dict(entry["about"]), int(entry["bytes"]), entry["finished"]
            counts = {str(key): int(value) for key, value in entry["counts"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{self.journal}: not the journal of a file; {anew}.") from None
        if finished and not self.partial.exists() and self.path.exists():
            self.journal.unlink()  # the process was killed just before it would have done this
            self.finished = about == self._about
            self.counts.update(counts if self.finished else {})
            return
        for key in {**about, **self._about}:
            old, new = (json.dumps(each.get(key)) for each in (about, self._about))
            if old != new:
                raise InputError(
                    f"{self.journal}: {self.path.name} was begun with another {key}: {old}, and "
                    f"now it is {new}; {anew}."
                )
        if not self.partial.exists() or not 0 <= size <= self.partial.stat().st_size:
            raise InputError(f"{self.journal}: {self.partial.name} is not as long as it; {anew}.")
        self._bytes = size
        self.counts.update(counts)

    def _open(self) -> BinaryIO:
        file = os.fdopen(os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(self.partial)):
                raise FileNotFoundError  # the other one has finished between the last two lines
        except (BlockingIOError, FileNotFoundError):
            file.close()
            raise InputError(f"{self.partial}: another process is writing it.") from None
        file.truncate(self._bytes)
        file.seek(self._bytes)
        return file
