"""Units of work in several processes, their results in order.

What a unit gives is a function of the unit alone, so the number of processes changes nothing but
the time.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bert_keras.corpus import lean_tensorflow
from bert_keras.errors import InputError


class WorkerLost(InputError):
    """A process was killed, by the machine or the user; the work itself has no fault."""


class Workers:
    """Processes that live as long as the `with` block; 1 works in this process.

    with Workers(2) as workers:
        results = list(workers.map(function, units))
    """

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.num_workers > 1:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.num_workers,
                # A copy of this process would copy the threads of a framework it has loaded.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
            )
        return self

    def __exit__(self, *error: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable, units: Iterable[tuple]) -> Iterator[Any]:
        """Yields `function(*unit)` of each unit, in order; a few units are taken in advance."""
        if self._pool is None:
            for unit in units:
                yield function(*unit)
            return
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        with self._explained():
            for unit in units:
                waiting.append(self._pool.submit(function, *unit))
                if len(waiting) >= 2 * self.num_workers:  # bounds what is in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool:
            raise WorkerLost(
                f"one of {self.num_workers} processes was killed, perhaps for its memory; give the "
                "same command again with a smaller --num_workers: it goes on where it stopped."
            ) from None


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the parent
    lean_tensorflow.import_alone()
