"""The models of a server by their names; they come, go and change while it serves."""

import contextlib
import pathlib
import threading
from collections.abc import Callable, Sequence

from bert_keras.errors import InputError
from bert_keras.serving import status
from bert_keras.serving.server.model_store import ModelStore, Version
from bert_keras.serving.server.models_config import ModelConfig, read_models_config
from bert_keras.serving.version_folders import fingerprint


class Models:
    """A `ModelStore` for each model.

    Args:
        configs: the models at the start.
        make_store: makes a store of a `ModelConfig`, to be started.
        log: takes one line for each change.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        make_store: Callable[[ModelConfig], ModelStore],
        log: Callable[[str], object],
    ):
        self._stores = {config.name: make_store(config) for config in configs}
        self._make_store, self._log = make_store, log
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused: object = None

    @property
    def names(self) -> list[str]:
        """In the order of the configuration."""
        return list(self._stores)

    def get(self, name: str, version: int | None = None) -> ModelStore:
        """The model of this name.

        Raises:
            ServingError: NOT_FOUND, in which `version` is named.
        """
        store = self._stores.get(name)
        if store is None:
            raise status.not_found(name, version)
        return store

    def versions(self, name: str, number: int | None, label: str | None) -> list[Version]:
        """As `ModelStore.versions`, of the model of this name."""
        store = self._stores.get(name)
        if store is None:
            raise status.no_versions(name, number)
        return store.versions(number, label)

    def first(self) -> ModelStore:
        """The model that the page asks."""
        return next(iter(self._stores.values()))

    def are_available(self) -> bool:
        """Whether every model has a version that answers."""
        return all(store.is_available() for store in self._stores.values())

    def start(self) -> None:
        """Loads every model.

        Raises:
            InputError: one of them has nothing to serve.
        """
        for store in self._stores.values():
            store.start()

    def stop(self) -> None:
        """Stops watching files, and unloads every version when its requests are done."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
        with self._changing:
            for store in self._stores.values():
                store.retire()

    def watch(self, path: str | pathlib.Path, poll_seconds: float) -> None:
        """Reads the configuration again and again; a fault in it is reported, and changes nothing.

        Args:
            path: a `--model_config_file`.
            poll_seconds: how often, in seconds.
        """

        def poll() -> None:
            while not self._stopped.wait(poll_seconds):
                self.reread(path)

        self._thread = threading.Thread(target=poll, name="models-config", daemon=True)
        self._thread.start()

    def reread(self, path: str | pathlib.Path) -> None:
        """Reads the configuration once, and makes the server what it says."""
        tried: object = None
        try:
            configs = read_models_config(path)
            if configs == [store.config for store in self._stores.values()]:
                self._refused = None
                return
            # What was refused is tried again once the file changes, or what it names.
            tried = (configs, [fingerprint(config.base_path) for config in configs])
            if tried == self._refused:
                return
            self.configure(configs)
            self._log(f"{path}: serving {', '.join(self.names)}")
        except (InputError, OSError) as error:
            tried = tried or str(error)
            if tried != self._refused:
                self._log(f"{error} The models stay as they were.")
        else:
            tried = None
        self._refused = tried

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models and no others: all of it or, on an exception, nothing.

        New models and versions are loaded before any request goes to them; those that are let go
        finish their requests first.

        Raises:
            InputError: one of them has nothing to serve, or a label of a version not there.
        """
        with self._changing:
            stores: dict[str, ModelStore] = {}
            with contextlib.ExitStack() as new, contextlib.ExitStack() as changes:
                for config in configs:
                    store = self._stores.get(config.name)
                    if store and store.base_path == config.base_path:
                        changes.enter_context(store.changing(config))
                    else:
                        store = self._make_store(config)
                        new.callback(store.retire)
                        store.start()
                    stores[config.name] = store
                new.pop_all()
            gone = [store for name, store in self._stores.items() if stores.get(name) is not store]
            self._stores = stores
            for store in gone:
                store.retire()
                self._log(f"{store.name} is no longer served from {store.base_path}")
