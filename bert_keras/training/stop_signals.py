"""Being told to stop: a step and a checkpoint end before the process does."""

import logging
import signal
import threading
from typing import Any

from bert_keras.training import replicas

_logger = logging.getLogger(__name__)


class StopSignals:
    """Notes SIGTERM and Ctrl-C, so that a step and a checkpoint end before the process does.

    A second Ctrl-C ends it at once. In a thread other than the main one signals stay as they are.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def asked(self, together: bool) -> int:
        """The signal to stop for, 0 for none.

        Several processes must stop after the same step, and a signal reaches each at another time:
        they ask each other after some steps, for which `together` is true in all of them.
        """
        if replicas.processes() > 1:
            return max(replicas.gather(self.received)) if together else 0
        return self.received

    def leave(self, signal_number: int, step: int, num_steps: int, work_dir: Any) -> None:
        """Says how to go on, and exits with the shell's status for the signal."""
        kept = f"; the same command goes on from there ({work_dir})" if work_dir else ""
        _logger.warning("Stopped after step %d of %d%s.", step, num_steps, kept)
        raise SystemExit(128 + signal_number)
