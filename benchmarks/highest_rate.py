"""The highest rate of requests that a server bears, by bisection over short open-loop windows."""

import math


class Search:
    """Looks for the highest rate within a limit on latency.

    It grows from `start` until a window fails, then takes the geometric mean of the highest rate
    that held and the lowest that did not, until they are close.

    Args:
        limit: of p99, in milliseconds.
        start: the first rate, in requests a second.
        precision: how close, of the rate.
        least: a server that does not bear this rate bears none.
        most: windows of its own.
    """

    growth = 1.6

    def __init__(
        self,
        limit: float,
        start: float,
        *,
        precision: float = 0.05,
        least: float = 1.0,
        most: int = 20,
    ) -> None:
        self.limit, self._start, self._precision, self._least = limit, start, precision, least
        self.good, self._bad, self._left = 0.0, math.inf, most

    @property
    def done(self) -> bool:
        """Whether the highest rate is known to the precision, or the windows are used up."""
        return not self._left or self._bad <= max(self._least, self.good * (1 + self._precision))

    def take_rate(self) -> float:
        """The rate to try next; uses up a window."""
        self._left -= 1
        if not self.good:
            return min(self._start, self._bad / self.growth**2)
        if self._bad == math.inf:
            return self.good * self.growth
        return math.sqrt(self.good * self._bad)

    def tell(self, rate: float, p99: float) -> None:
        """Takes the outcome of a window, of another search's too; infinite if it had errors."""
        if self.good < rate < self._bad:
            if p99 <= self.limit:
                self.good = rate
            else:
                self._bad = rate


class Confirmation:
    """Takes a rate from short windows to a long one, and down until it holds.

    Args:
        limit: of p99, in milliseconds.
        rate: what a search has found.
        most: windows; then the rate counts as 0.
    """

    step = 0.94

    def __init__(self, limit: float, rate: float, *, most: int = 6) -> None:
        self.limit, self._rate, self._left = limit, rate, most
        self.held = False

    @property
    def done(self) -> bool:
        """Whether there is nothing more to try."""
        return self.held or not self._left or not self._rate

    @property
    def rate(self) -> float:
        """The rate to try, or the one that held; 0 if none did."""
        return 0.0 if self.done and not self.held else self._rate

    def tell(self, p99: float) -> None:
        """Takes the outcome of a window at `rate`."""
        self._left -= 1
        self.held = p99 <= self.limit
        if not self.held:
            self._rate *= self.step
