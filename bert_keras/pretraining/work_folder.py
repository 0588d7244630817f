"""A hidden folder in which a long job leaves what it has done, so that it can go on after a stop.

`job.json` says all that the result depends on. The same job finds its files again; another one is
refused by the name of the first thing that differs. Every file in the folder is whole.
"""

import contextlib
import fcntl
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from bert_keras import files
from bert_keras.errors import InputError

_JOB = "job.json"


class WorkFolder:
    """The folder of one job.

    Args:
        path: where it is, or will be.
        job: JSON values under the names of the command's flags.
    """

    def __init__(self, path: pathlib.Path, job: dict[str, Any]):
        self.path = path
        self._job = json.loads(json.dumps(job))

    @contextlib.contextmanager
    def opened(self, refuse: Callable[[], None]) -> Iterator[None]:
        """Makes the folder, or finds it as this job has left it; one process at a time.

        Args:
            refuse: called if the job is new; raises InputError where its result has no place.
        """
        path = self.path / _JOB
        if path.exists():
            self._compare(files.read_json(path))
        else:
            refuse()
            self.path.mkdir(parents=True, exist_ok=True)
            files.write_json(path, self._job)
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.path}: another process is at this job.") from None
            yield

    def file(self, kind: str, number: int) -> pathlib.Path:
        """The file of a unit of work."""
        return self.path / f"{kind}-{number:06d}"

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The JSON values that `make` returns, now or when the job was here before."""
        path = self.path / f"{name}.json"
        if not path.exists():
            files.write_json(path, make())
        return files.read_json(path)

    def remove(self) -> None:
        """The job is over. Its name goes last: until then a stop is no harm."""
        for path in self.path.iterdir():
            if path.name != _JOB:
                path.unlink()
        shutil.rmtree(self.path)
        with contextlib.suppress(OSError):  # not empty: its result is there
            self.path.parent.rmdir()

    def _compare(self, begun: Any) -> None:
        for name, value in self._job.items():
            if not isinstance(begun, dict) or name not in begun or begun[name] != value:
                raise InputError(
                    f"--{name} differs from that of the unfinished job in {self.path}; give the "
                    "same flags and files to go on, or remove that folder to begin anew."
                )
