"""Requests that wait for their turn: in the order of their arrival, and by what may be joined."""

import collections
import threading
import time
from collections.abc import Hashable

import numpy as np

from bert_keras.serving.server.joining import JoinRule


class Request:
    """One request, from its arrival to its answer.

    Attributes:
        signature: its name.
        inputs, wanted: as `Servable.run` takes them.
        deadline: on the clock of `time.monotonic()`; None for none.
        rule: how requests to the signature are joined.
        key: those of one key may be joined; `alone` if it may be to no other.
        rows, tokens: what it adds to a batch; no row counts as one.
        arrived, waited: when it came, and how long it waited for its batch, in seconds.
        ripe: whether it waits for nothing but a place.
        wake: set when there is an answer, or a batch; None as long as nobody waits for it.
        batch: the requests that its thread is to run, itself first; None if another's does.
        settled: whether there is an answer: `outputs` or `error`.
    """

    __slots__ = (
        *("signature", "inputs", "wanted", "deadline", "rule", "key", "alone", "rows", "tokens"),
        *("arrived", "waited", "ripe", "wake", "batch", "settled", "outputs", "error"),
    )

    def __init__(
        self,
        signature: str,
        inputs: dict[str, np.ndarray],
        wanted: tuple[str, ...],
        deadline: float | None,
        rule: JoinRule,
    ):
        self.signature, self.inputs, self.wanted = signature, inputs, wanted
        self.deadline, self.rule = deadline, rule
        shared = rule.key(inputs)
        self.alone = shared is None
        self.key: Hashable = object() if self.alone else (signature, wanted, shared)
        self.rows = max((len(value) for value in inputs.values() if value.ndim), default=0) or 1
        self.tokens = rule.tokens(inputs)
        self.arrived, self.waited = time.monotonic(), 0.0
        self.ripe = True
        self.wake: threading.Event | None = None
        self.batch: list[Request] | None = None
        self.settled = False
        self.outputs: dict[str, np.ndarray] | None = None
        self.error: Exception | None = None

    def settle(
        self, outputs: dict[str, np.ndarray] | None = None, error: Exception | None = None
    ) -> None:
        """Gives the answer to the thread that waits for it."""
        self.outputs, self.error, self.settled = outputs, error, True
        if self.wake:
            self.wake.set()

    def lead(self, batch: "list[Request]") -> None:
        """Has the thread that waits for this request run a batch."""
        self.batch = batch
        if self.wake:
            self.wake.set()


class Group:
    """Waiting requests of one key, oldest first."""

    def __init__(self) -> None:
        self.requests: collections.OrderedDict[Request, None] = collections.OrderedDict()
        self.rows = self.tokens = 0

    @property
    def oldest(self) -> Request:
        """The one that came first."""
        return next(iter(self.requests))


class WaitingLine:
    """All waiting requests. Not for several threads at once.

    Attributes:
        groups: those that may be joined, by their key; none is empty.
        rows: of all requests.
    """

    def __init__(self) -> None:
        self._requests: collections.OrderedDict[Request, None] = collections.OrderedDict()
        self.groups: dict[Hashable, Group] = {}
        self.rows = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: Request) -> bool:
        return request in self._requests

    def oldest(self) -> Request | None:
        """The one that came first; None if nobody waits."""
        return next(iter(self._requests), None)

    def push(self, request: Request) -> None:
        """Adds a request at the end."""
        group = self.groups.setdefault(request.key, Group())
        self._requests[request] = group.requests[request] = None
        self._count(group, request, 1)

    def remove(self, request: Request) -> None:
        """Takes a request out, wherever it stands, in constant time."""
        group = self.groups[request.key]
        del self._requests[request], group.requests[request]
        self._count(group, request, -1)
        if not group.requests:
            del self.groups[request.key]

    def _count(self, group: Group, request: Request, sign: int) -> None:
        self.rows += sign * request.rows
        group.rows += sign * request.rows
        group.tokens += sign * request.tokens
