"""How many requests a server takes, and the end of taking any."""

import contextlib
import threading
import time
from collections.abc import Iterator

from bert_keras.serving import status

_FAR_OFF = 1e6  # seconds; locks cannot wait for the deadlines of clients that set none


class Admission:
    """Counts the requests that a server has taken and not yet answered.

    Args:
        most: requests under way and waiting; what comes then is refused at once, so that a crowd
            finds a busy server and not one that answers nobody in time.
        at_once: of those, how many the graph runs at the same time; memory grows with it.
    """

    def __init__(self, most: int, at_once: int):
        self.most = most
        self.refuses = False
        self._taken = 0
        self._changed = threading.Condition()
        self._turns = threading.Semaphore(at_once)

    def check(self) -> None:
        """Raises what `enter` would, so that a request need not be read first.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, there are too many; UNAVAILABLE, the server ends.
        """
        if self.refuses:
            raise status.ServingError(
                status.UNAVAILABLE, "the server is shutting down; ask again, or another one"
            )
        if self._taken >= self.most:
            raise status.ServingError(
                status.RESOURCE_EXHAUSTED,
                f"the server is busy: {self.most} requests are under way or waiting",
            )

    def enter(self) -> None:
        """Takes a request, which has to `leave` however it ends.

        Raises:
            ServingError: as `check`.
        """
        with self._changed:
            self.check()
            self._taken += 1

    def leave(self) -> None:
        """The request is answered."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def turn(self, deadline: float | None) -> Iterator[None]:
        """Waits for its turn at the graph.

        Args:
            deadline: a time of `time.monotonic()`, or None.

        Raises:
            ServingError: DEADLINE_EXCEEDED, it did not come in time.
        """
        if not self._turns.acquire(timeout=left(deadline)):
            raise status.late()
        try:
            yield
        finally:
            self._turns.release()

    def refuse(self) -> None:
        """From now on, no request is taken."""
        with self._changed:
            self.refuses = True

    def wait(self, seconds: float) -> bool:
        """Waits until all are answered, for so long at most; returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._taken, seconds)


def left(deadline: float | None) -> float | None:
    """Seconds to the deadline, from 0; None where there is none.

    Args:
        deadline: a time of `time.monotonic()`, or None.
    """
    seconds = _FAR_OFF if deadline is None else deadline - time.monotonic()
    return None if seconds >= _FAR_OFF else max(seconds, 0.0)
