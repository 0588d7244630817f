"""Requests of several clients in one run of the graph, as many as fit into a batch.

There are no threads here. A request that finds a place free is run by the thread that brought it,
at once. While all places are taken, requests wait in the order of their arrival. A thread that
gives up its place hands it to the request that has waited longest: that one's thread runs it
together with those behind it that may be joined to it (`joining`), and gives them their answers.
"""

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bert_keras.serving import status
from bert_keras.serving.server.batch_runner import BatchRunner
from bert_keras.serving.server.batching_parameters import BatchingParameters
from bert_keras.serving.server.joining import as_arrays
from bert_keras.serving.server.metrics import Metrics
from bert_keras.serving.server.waiting import Group, Request, WaitingLine

__all__ = ["Batcher", "BatchingParameters"]

_DEFAULT_SIGNATURE = "serving_default"


class Batcher:
    """Runs the requests to one servable, several in one batch where that changes no answer.

    Args:
        servable: as `servable.Servable`: its `signature`, `run` and `max_batch_size` are used.
        parameters: what a batch may hold, how many are under way and how many wait.
        metrics: takes batches, waits and the length of the queue, if there is one.
        model: the model's name in the metrics.
        longest_row: tokens at which the model cuts a text, for the estimate; BERT's most positions.
    """

    def __init__(
        self,
        servable: Any,
        parameters: BatchingParameters,
        metrics: Metrics | None = None,
        *,
        model: str = "",
        longest_row: int = 512,
    ):
        self._parameters, self._metrics, self._model = parameters, metrics, model
        self._runner = BatchRunner(
            servable, parameters.allowed_batch_sizes, metrics, model, longest_row
        )
        self._most_in_request = servable.max_batch_size or sys.maxsize
        self._most_rows = min(parameters.max_batch_size, self._most_in_request)
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._line = WaitingLine()
        self._told = 0
        self._places = parameters.num_batch_threads
        self._closed = False

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Iterable[str] = (),
        deadline: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Answers one request; returns when it is answered. For many threads at once.

        Args:
            signature_name: "" for `serving_default`.
            inputs: an array for each input of the signature.
            output_filter: the outputs wanted; all if empty.
            deadline: a time of `time.monotonic()`. A request that still waits then is given up; one
                that is being run is finished.

        Raises:
            ServingError: what `Servable.run` raises; RESOURCE_EXHAUSTED, too many wait;
                DEADLINE_EXCEEDED; UNAVAILABLE, closed.
        """
        name = signature_name or _DEFAULT_SIGNATURE
        rule = self._runner.rule(name)
        request = Request(name, as_arrays(inputs), tuple(output_filter), deadline, rule)
        if request.rows > self._most_in_request:  # before it takes the places of others in the line
            raise status.too_many_rows(request.rows, self._most_in_request)
        request.ripe = request.alone or not self._timeout
        self._count_in_flight(1)
        try:
            with self._lock:
                self._admit(request)
                self._hand_out()
                if not (request.batch or request.settled):
                    request.wake = threading.Event()
            if request.wake:
                self._wait(request, request.wake)
            if request.batch:
                batch, request.batch = request.batch, None  # it holds the request
                self._lead(batch)
        finally:
            self._count_in_flight(-1)
        error, request.error = request.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame, which must not hold it
        assert request.outputs is not None
        return request.outputs

    def close(self, timeout: float | None = None) -> bool:
        """Takes no new requests; returns when those that are here have their answers.

        Args:
            timeout: how long to wait for that, in seconds; None for as long as it takes.

        Returns:
            Whether they have them.
        """
        with self._lock:
            self._closed = True
            self._hand_out()
            return self._idle.wait_for(
                lambda: not self._line and self._places == self._parameters.num_batch_threads,
                timeout,
            )

    def _admit(self, request: Request) -> None:
        if self._closed:
            raise status.ServingError(status.UNAVAILABLE, "the model is being unloaded")
        most = self._parameters.max_enqueued_batches * self._parameters.max_batch_size
        if self._line and self._line.rows + request.rows > most:
            raise status.ServingError(
                status.RESOURCE_EXHAUSTED, f"{self._line.rows} rows wait, at most {most} may; retry"
            )
        self._line.push(request)

    def _wait(self, request: Request, wake: threading.Event) -> None:
        """Waits for an answer or for a place."""
        deadline = float("inf") if request.deadline is None else request.deadline
        if not request.ripe and not wake.wait(
            _until(min(request.arrived + self._timeout, deadline))
        ):
            with self._lock:
                request.ripe = True
                self._hand_out()
        if request.deadline is not None and not wake.wait(_until(deadline)):
            with self._lock:
                if request in self._line:
                    self._line.remove(request)
                    self._tell_length()
                    request.settle(error=status.late())
        wake.wait()

    def _hand_out(self) -> None:
        """Gives free places to those whose turn it is. The lock is held."""
        now = time.monotonic()
        while self._places and (group := self._next()):
            batch = self._take(group, now)
            if batch:
                self._places -= 1
                batch[0].lead(batch)
        self._tell_length()

    def _next(self) -> Group | None:
        """Those who wait longest; or a full batch, while the others may still wait for company."""
        oldest = self._line.oldest()
        if oldest is None:
            return None
        if oldest.ripe or self._closed:
            return self._line.groups[oldest.key]
        for group in self._line.groups.values():
            full = (
                group.rows >= self._most_rows or group.tokens >= self._parameters.max_batch_tokens
            )
            if full or group.oldest.ripe:
                return group
        return None

    def _take(self, group: Group, now: float) -> list[Request]:
        """The batch of a group, out of the line; empty if the time of all of them is over."""
        batch: list[Request] = []
        rows = tokens = 0
        while group.requests:
            request = group.oldest
            late = request.deadline is not None and request.deadline <= now
            if batch and not late and self._exceeded(rows + request.rows, tokens + request.tokens):
                break
            self._line.remove(request)
            if late:
                request.settle(error=status.late())
            else:
                rows, tokens = rows + request.rows, tokens + request.tokens
                request.waited = now - request.arrived
                batch.append(request)
        return batch

    def _exceeded(self, rows: int, tokens: int) -> bool:
        return rows > self._most_rows or tokens > self._parameters.max_batch_tokens

    def _lead(self, batch: list[Request]) -> None:
        """Runs a batch, then gives up the place."""
        try:
            self._runner.answer(batch)
        finally:
            for request in batch:
                if not request.settled:  # this thread is being ended; nobody may wait for ever
                    request.settle(error=status.ServingError(status.INTERNAL, "interrupted"))
            with self._lock:
                self._places += 1
                self._hand_out()
                if self._closed:
                    self._idle.notify_all()

    def _count_in_flight(self, by: int) -> None:
        if self._metrics:
            self._metrics.add_in_flight(self._model, by)

    def _tell_length(self) -> None:
        if self._metrics and len(self._line) != self._told:
            self._metrics.add_waiting(self._model, len(self._line) - self._told)
            self._told = len(self._line)


def _until(moment: float) -> float:
    """Seconds to wait, at most as long as a lock can be waited for."""
    return min(max(0.0, moment - time.monotonic()), threading.TIMEOUT_MAX)
