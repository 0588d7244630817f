"""Asking again where a server is busy or away: ever later, and never where it has answered."""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from bert_keras.errors import InputError

Answer = TypeVar("Answer")

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0


class RequestError(InputError):
    """A request without an answer.

    Args:
        message: one line, with the server's address.
        said: what the server said alone, such as "400: the text is too long".
        refused: the request is at fault: whoever asks it again is refused again.
        passing: the server is busy or away: whoever asks later may be answered.
        retry_after: the seconds that the server wants to be left alone, if it says so.
    """

    def __init__(
        self,
        message: str,
        *,
        said: str = "",
        refused: bool = False,
        passing: bool = False,
        retry_after: float = 0.0,
    ):
        super().__init__(message)
        self.said = said or message
        self.refused, self.passing, self.retry_after = refused, passing, retry_after


class Retries:
    """Asks again after failures that pass, with waits that double, from half a second to 30.

    A wait is drawn between the half and the whole of that, so that clients which were turned away
    together do not come back together.

    Args:
        num_retries: how often a request is asked again.
        random_seed: of the waits.
    """

    def __init__(self, num_retries: int = 0, random_seed: int = 0):
        self._num_retries = num_retries
        self._random = random.Random(random_seed)
        self._stopped = threading.Event()

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """The answer of `ask`.

        Raises:
            RequestError: the first that does not pass, or the last one.
        """
        attempt = 0
        while True:
            try:
                return ask()
            except RequestError as error:
                last = attempt >= self._num_retries
                if last and error.passing and attempt:
                    error.args = (f"{error} (asked {attempt + 1} times)",)
                if last or not error.passing or self._stopped.wait(self._wait(attempt, error)):
                    raise
            attempt += 1

    def stop(self) -> None:
        """Ends every wait, in any thread; from now on nothing is asked again."""
        self._stopped.set()

    def _wait(self, attempt: int, error: RequestError) -> float:
        doubled = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**attempt)
        wanted = min(LONGEST_WAIT_SECONDS, error.retry_after)
        return max(doubled * self._random.uniform(0.5, 1.0), wanted)
