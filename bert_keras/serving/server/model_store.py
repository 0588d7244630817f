"""The versions of one model: found on disk, loaded, handed to requests, drained and let go."""

import contextlib
import dataclasses
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from bert_keras.errors import InputError
from bert_keras.serving import status
from bert_keras.serving.server import runner
from bert_keras.serving.server.models_config import LATEST, ModelConfig, VersionPolicy
from bert_keras.serving.server.runner import Runner
from bert_keras.serving.version_folders import find_versions, fingerprint

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
    servable: Runner | None = None
    in_flight: int = 0


class ModelStore:
    """Serves the versions under a base path that its policy chooses, and follows changes there.

    By the default policy that is the highest version which loads. A new one is loaded while the
    old one answers. When it stands, new requests go to it, requests under way finish on the old
    one, and then that is unloaded. A version that does not load is reported, the one before it
    keeps serving, and it is tried again once its files change. Deleting the highest version rolls
    back to the one below; while no version is left on disk, the loaded ones stay.

    Args:
        name: the model's name in requests.
        base_path: a directory with one sub-directory for each version, named by its number.
        policy: which of them to serve.
        labels: names for versions.
        allow_unavailable_labels: a label that is not in use may name a version that is yet to
            come; otherwise every label's version has to be loaded.
        poll_seconds: how often to look for versions, in seconds; 0 looks once, at the start.
        load: makes a version's directory a `Runner`.
        log: takes one line for each change; by default they go to standard error.
    """

    def __init__(
        self,
        name: str,
        base_path: str | pathlib.Path,
        *,
        policy: VersionPolicy = LATEST,
        labels: Mapping[str, int] | None = None,
        allow_unavailable_labels: bool = False,
        poll_seconds: float = 1.0,
        load: Callable[[pathlib.Path], Runner] = runner.load,
        log: Callable[[str], object] | None = None,
    ):
        self.config = ModelConfig(name, pathlib.Path(base_path), policy, labels or {})
        self._allow_unavailable_labels = allow_unavailable_labels
        self._poll_seconds = poll_seconds
        self._load = load
        self._log = log or (lambda line: sys.stderr.write(line + "\n"))
        self._lock = threading.Lock()  # of the versions, for moments
        self._polling = threading.RLock()  # held by who loads versions
        self._versions: dict[int, Version] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.config.name

    @property
    def base_path(self) -> pathlib.Path:
        """The directory with the versions."""
        return self.config.base_path

    def start(self) -> None:
        """Loads the first versions, then watches for others in the background.

        Raises:
            InputError: no directory, no version in it that the policy wants, none that loads, or
                a label of a version that is not there.
        """
        if not self.base_path.is_dir():
            raise InputError(
                f"{self.base_path}: no such directory; the versions of {self.name} were expected."
            )
        with self.changing(self.config):
            if not self._versions:
                raise InputError(
                    f"{self.base_path}: no version of {self.name} here; expected a sub-directory "
                    "named by a number, as in export_savedmodel's output."
                )
            if not self.is_available():
                newest = max(self._versions.values(), key=lambda version: version.number)
                raise InputError(f"version {newest.number} does not load: {newest.error}")
        if self._poll_seconds > 0:
            self._thread = threading.Thread(target=self._watch, name="model-store", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stops watching. Loaded versions go on answering."""
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def retire(self) -> None:
        """Stops watching, and unloads all versions when their requests are done."""
        self.stop()
        self._retire_all_but(set())

    def poll(self) -> None:
        """Looks at the disk once: loads what is new, lets go of what it replaces."""
        with self._polling:
            self._replace(self._load_wanted(self.config))

    @contextlib.contextmanager
    def changing(self, config: ModelConfig) -> Iterator[None]:
        """Changes policy and labels at the end of the block; an exception leaves all as it was.

        What `config` wants is loaded before; what it does not want is unloaded after, so that
        requests by a label meet the old version or the new one and never none.

        Raises:
            InputError: a label of a version that is not there.
        """
        with self._polling:
            kept = self._load_wanted(config)
            self._check_labels(config)
            yield
            with self._lock:
                self.config = config
            self._replace(kept)

    @contextlib.contextmanager
    def acquire(
        self, version: int | None = None, label: str | None = None
    ) -> Iterator[tuple[int, Runner]]:
        """Lends a loaded version for one request: the highest, or the one asked for.

        Raises:
            ServingError: NOT_FOUND, no such version is loaded; INVALID_ARGUMENT, no such label.
        """
        with self._lock:
            version = self._labelled(label, version)
            loaded = [v for v in self._versions.values() if v.state == AVAILABLE]
            if version is not None:
                loaded = [v for v in loaded if v.number == version]
            if not loaded:
                raise status.not_found(self.name, version)
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
            if chosen.state == UNLOADING:
                self._let_go_if_idle(chosen)

    def versions(self, number: int | None = None, label: str | None = None) -> list[Version]:
        """The versions seen since the start, highest first; or the one with this number or label.

        Raises:
            ServingError: NOT_FOUND; INVALID_ARGUMENT, no such label.
        """
        with self._lock:
            number = self._labelled(label, number)
            chosen = [
                dataclasses.replace(version, servable=None)
                for version in self._versions.values()
                if number is None or version.number == number
            ]
        if not chosen:
            raise status.no_versions(self.name, number)
        return sorted(chosen, key=lambda version: -version.number)

    def is_available(self, number: int | None = None) -> bool:
        """Whether a version answers requests: any, or this one."""
        with self._lock:
            return any(
                version.state == AVAILABLE and number in (None, version.number)
                for version in self._versions.values()
            )

    def _labelled(self, label: str | None, number: int | None) -> int | None:
        if not label:
            return number
        if label not in self.config.labels:
            raise status.invalid(f"Unrecognized servable version label: {label}")
        return self.config.labels[label]

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            try:
                self.poll()
            except OSError as error:  # the disk may be away for a while; the model is in memory
                self._log(f"cannot look for versions of {self.name}: {error}")

    def _load_wanted(self, config: ModelConfig) -> set[int]:
        found, kept = find_versions(config.base_path), set[int]()
        for number in config.policy.candidates(found):
            if len(kept) == config.policy.latest:
                break
            if self._stopped.is_set():
                return set()
            if self._ensure_loaded(number, found[number]):
                kept.add(number)
        return kept

    def _check_labels(self, config: ModelConfig) -> None:
        for label, number in sorted(config.labels.items()):
            unused = self.config.labels.get(label, number) == number
            if not self.is_available(number) and not (self._allow_unavailable_labels and unused):
                raise InputError(
                    f"{self.name} gives the label {label!r} to version {number}, which is not "
                    "available."
                )

    def _ensure_loaded(self, number: int, path: pathlib.Path) -> bool:
        files = fingerprint(path)
        known = self._versions.get(number)
        with self._lock:
            if known and known.state == UNLOADING and known.fingerprint == files:
                known.state = AVAILABLE  # wanted again before its last request was done
        if known and known.state == AVAILABLE:
            return True
        if known and known.state == UNLOADING:
            return False  # its files have changed; once it is drained, a poll loads them
        if known and known.state == END and known.error and known.fingerprint == files:
            return False  # broken, and nobody has mended it
        version = Version(number, path, files)
        with self._lock:
            self._versions[number] = version
        try:
            servable = self._load(path)
        except Exception as error:  # a broken version must not take the server down
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            with self._lock:
                version.state, version.error = END, line
            self._log(f"{self.name} version {number} does not load: {line}")
            return False
        with self._lock:
            version.servable, version.state = servable, AVAILABLE
        self._log(
            f"{self.name} version {number} is available ({servable.warm_ups} warm-up requests)"
        )
        return True

    def _replace(self, kept: set[int]) -> None:
        if kept:  # while nothing on disk can take over, what is loaded stays
            self._retire_all_but(kept)

    def _retire_all_but(self, kept: set[int]) -> None:
        with self._lock:
            retired = [
                version
                for version in self._versions.values()
                if version.number not in kept and version.state == AVAILABLE
            ]
            for version in retired:
                version.state = UNLOADING
        for version in retired:
            self._let_go_if_idle(version)

    def _let_go_if_idle(self, version: Version) -> None:
        with self._lock:
            if version.state != UNLOADING or version.in_flight:
                return
            servable, version.servable, version.state = version.servable, None, END
        if servable:
            servable.close()
        self._log(f"{self.name} version {version.number} is drained and unloaded")
