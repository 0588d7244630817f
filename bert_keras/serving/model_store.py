"""The versions of one model: found on disk, loaded, handed to requests, drained and let go."""

import contextlib
import dataclasses
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Iterator

from bert_keras.errors import InputError
from bert_keras.serving import status
from bert_keras.serving.servable import Servable

LARGEST_VERSION = 2**63 - 1  # an int64, as TensorFlow Serving keeps it

# States and their names as in TensorFlow Serving's ModelVersionStatus.
LOADING, AVAILABLE, UNLOADING, END = "LOADING", "AVAILABLE", "UNLOADING", "END"


@dataclasses.dataclass
class Version:
    """One version and where it is in its life."""

    number: int
    path: pathlib.Path
    fingerprint: tuple
    state: str = LOADING
    error: str = ""
    servable: Servable | None = None
    in_flight: int = 0


class ModelStore:
    """Serves the highest version under a base path that loads, and follows changes there.

    A new version is loaded while the old one answers. When it stands, new requests go to it,
    requests under way finish on the old one, and then that is unloaded. A version that does not
    load is reported, the one before it keeps serving, and it is tried again once its files
    change. Deleting the highest version rolls back to the one below; while no version is
    left on disk, the loaded one stays.

    Args:
        name: the model's name in requests.
        base_path: a directory with one sub-directory for each version, named by its number.
        poll_seconds: how often to look for versions, in seconds; 0 looks once, at the start.
        max_batch_size: the most rows that a request may have; None for any number.
        log: takes one line for each change; by default they go to standard error.
    """

    def __init__(
        self,
        name: str,
        base_path: str | pathlib.Path,
        *,
        poll_seconds: float = 1.0,
        max_batch_size: int | None = None,
        log: Callable[[str], object] | None = None,
    ):
        self.name = name
        self.base_path = pathlib.Path(base_path)
        self._poll_seconds = poll_seconds
        self._max_batch_size = max_batch_size
        self._log = log or (lambda line: sys.stderr.write(line + "\n"))
        self._lock = threading.Lock()
        self._versions: dict[int, Version] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Loads the first version, then watches for others in the background.

        Raises:
            InputError: no directory, no numbered version in it, or none that loads.
        """
        if not self.base_path.is_dir():
            raise InputError(f"--model_base_path {self.base_path}: no such directory.")
        if not find_versions(self.base_path):
            raise InputError(
                f"--model_base_path {self.base_path}: no version here; expected a sub-directory "
                "named by a number, as in export_savedmodel's output."
            )
        self.poll()
        if not any(version.state == AVAILABLE for version in self._versions.values()):
            newest = max(self._versions.values(), key=lambda version: version.number)
            raise InputError(f"version {newest.number} does not load: {newest.error}")
        if self._poll_seconds > 0:
            self._thread = threading.Thread(target=self._watch, name="model-store", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stops watching. Loaded versions stay until their requests are done."""
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def poll(self) -> None:
        """Looks at the disk once: loads what is new, lets go of what it replaces."""
        found = find_versions(self.base_path)
        for number in sorted(found, reverse=True):
            if self._stopped.is_set():
                return
            if self._ensure_loaded(number, found[number]):
                self._retire_all_but(number)
                return

    def check_name(self, name: str, version: int | None) -> None:
        """Raises ServingError NOT_FOUND if a request is for a model of another name."""
        if name != self.name:
            raise _not_found(name, version)

    @contextlib.contextmanager
    def acquire(self, version: int | None = None) -> Iterator[tuple[int, Servable]]:
        """Lends a loaded version (the highest, or the one asked for) for one request.

        Raises:
            ServingError: NOT_FOUND, no such version is loaded.
        """
        with self._lock:
            loaded = [v for v in self._versions.values() if v.state == AVAILABLE]
            if version is not None:
                loaded = [v for v in loaded if v.number == version]
            if not loaded:
                raise _not_found(self.name, version)
            chosen = max(loaded, key=lambda v: v.number)
            chosen.in_flight += 1
            servable = chosen.servable
        assert servable is not None
        try:
            yield chosen.number, servable
        finally:
            del servable
            with self._lock:
                chosen.in_flight -= 1
                self._let_go_if_idle(chosen)

    def versions(self, number: int | None = None) -> list[Version]:
        """The versions seen since the start, highest first; or the one with this number.

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._lock:
            chosen = [
                dataclasses.replace(version, servable=None)
                for version in self._versions.values()
                if number is None or version.number == number
            ]
        if not chosen:
            raise status.ServingError(
                status.NOT_FOUND,
                f"Could not find any versions of model {self.name}"
                if number is None
                else f"Could not find version {number} of model {self.name}",
            )
        return sorted(chosen, key=lambda version: -version.number)

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            try:
                self.poll()
            except OSError as error:  # the disk may be away for a while; the model is in memory
                self._log(f"cannot look for versions of {self.name}: {error}")

    def _ensure_loaded(self, number: int, path: pathlib.Path) -> bool:
        fingerprint = _fingerprint(path)
        known = self._versions.get(number)
        if known and known.state == AVAILABLE:
            return True
        if known and known.state == UNLOADING:
            return False  # still draining; the next poll loads it anew
        if known and known.state == END and known.error and known.fingerprint == fingerprint:
            return False  # broken, and nobody has mended it
        version = Version(number, path, fingerprint)
        with self._lock:
            self._versions[number] = version
        try:
            servable = Servable(path, max_batch_size=self._max_batch_size)
            warmed = servable.warm_up()
        except Exception as error:  # a broken version must not take the server down
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            with self._lock:
                version.state, version.error = END, line
            self._log(f"{self.name} version {number} does not load: {line}")
            return False
        with self._lock:
            version.servable, version.state = servable, AVAILABLE
        self._log(f"{self.name} version {number} is available ({warmed} warm-up requests)")
        return True

    def _retire_all_but(self, number: int) -> None:
        with self._lock:
            for version in self._versions.values():
                if version.number != number and version.state == AVAILABLE:
                    version.state = UNLOADING
                    self._let_go_if_idle(version)

    def _let_go_if_idle(self, version: Version) -> None:
        if version.state == UNLOADING and version.in_flight == 0:
            version.servable, version.state = None, END
            self._log(f"{self.name} version {version.number} is drained and unloaded")


def _not_found(name: str, version: int | None) -> status.ServingError:
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return status.ServingError(status.NOT_FOUND, f"Servable not found for request: {wanted}")


def find_versions(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """The sub-directories whose name is a number, as TensorFlow Serving finds them."""
    try:
        children = sorted(base_path.iterdir())
    except FileNotFoundError:
        return {}
    return {
        int(child.name): child
        for child in children
        if re.fullmatch("[0-9]{1,19}", child.name)
        and int(child.name) <= LARGEST_VERSION
        and child.is_dir()
    }


def _fingerprint(path: pathlib.Path) -> tuple:
    """Tells whether the files of a version have changed, without reading them."""
    entries = []
    for file in sorted(path.rglob("*")):
        try:
            info = file.stat()
        except FileNotFoundError:
            continue
        entries.append((str(file.relative_to(path)), info.st_size, info.st_mtime_ns))
    return tuple(entries)
