"""What a server counts and times, in the text format of Prometheus, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats. Metrics that TensorFlow Serving has too
bear its names and units (microseconds), so that its dashboards show this server. The registry is
our own for these names: `prometheus_client` ends the name of every counter in `_total`.
"""

import bisect
import math
import threading
from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Names that clients send must not fill the memory: what comes beyond so many is counted as one.
MOST_SERIES = 1000
_OTHER = "(other)"

_Labels = tuple[str, ...]


def _exponential(first: float, factor: float, count: int) -> tuple[float, ...]:
    return tuple(first * factor**power for power in range(count))


# As TensorFlow Serving cuts them: 10 us to 25 minutes, 0.1 ms to 1 s, 1 to 16384.
_LATENCY = _exponential(10, 1.8, 33)
_QUEUING = _exponential(100, 1.2, 52)
_SIZES = _exponential(1, 2, 15)


class _Family:
    """One metric and its series, by the values of its labels."""

    kind = ""

    def __init__(self, name: str, text: str, labels: Iterable[str]):
        self.name, self._text, self._labels = name, text, tuple(labels)
        self._series: dict[_Labels, list[float]] = {}

    def cells(self, values: _Labels, size: int = 1) -> list[float]:
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= MOST_SERIES:
                values = (_OTHER,) * len(values)
            found = self._series.setdefault(values, [0] * size)
        return found

    def lines(self) -> Iterable[str]:
        yield f"# HELP {self.name} {self._text}"
        yield f"# TYPE {self.name} {self.kind}"
        for values, cells in sorted(self._series.items()):
            pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(self._labels, values)]
            yield from self.samples(pairs, cells)

    def samples(self, pairs: list[str], cells: list[float]) -> Iterable[str]:
        yield _sample(self.name, pairs, cells[0])


class _Counter(_Family):
    kind = "counter"

    def add(self, *values: str, by: float = 1) -> None:
        self.cells(values)[0] += by


class _Gauge(_Counter):
    kind = "gauge"


class _Histogram(_Family):
    """Cells: the values in each bucket, those beyond the last, and the sum of all."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Iterable[str], limits: Sequence[float]):
        super().__init__(name, text, labels)
        self._limits = limits

    def observe(self, *values: str, value: float) -> None:
        cells = self.cells(values, len(self._limits) + 2)
        cells[bisect.bisect_left(self._limits, value)] += 1
        cells[-1] += value

    def samples(self, pairs: list[str], cells: list[float]) -> Iterable[str]:
        count = 0.0
        for limit, here in zip((*self._limits, math.inf), cells):
            count += here
            yield _sample(f"{self.name}_bucket", [*pairs, f'le="{_number(limit)}"'], count)
        yield _sample(f"{self.name}_sum", pairs, cells[-1])
        yield _sample(f"{self.name}_count", pairs, count)


class Metrics:
    """The metrics of one server. Calls may come from many threads at once.

    Labels: `model_name`; `signature`, or the method of a call that is not for a signature;
    `status`, as gRPC names it (`OK`, `INVALID_ARGUMENT`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        served = ":tensorflow:serving:"
        batching = served + "batching_session:"
        request = ("model_name", "signature", "status")
        batch = ("model_name", "signature")
        self._requests = _Counter(served + "request_count", "Requests answered.", request)
        self._latency = _Histogram(
            served + "request_latency",
            "Microseconds from a request's arrival to its answer.",
            request,
            _LATENCY,
        )
        self._runtime = _Histogram(
            served + "runtime_latency", "Microseconds of a run of the graph.", batch, _LATENCY
        )
        self._runs = _Counter(batching + "wrapped_run_count", "Runs of the graph.", batch)
        self._queuing = _Histogram(
            batching + "queuing_latency",
            "Microseconds that a request waited for its batch.",
            batch,
            _QUEUING,
        )
        self._rows = _Histogram(
            batching + "input_batch_size", "Rows of a batch, as sent.", batch, _SIZES
        )
        self._tokens = _Histogram(
            "bert_keras:serving:batch_tokens", "Tokens of a batch, estimated.", batch, _SIZES
        )
        self._waiting = _Gauge(
            "bert_keras:serving:queue_length", "Requests that wait for a batch.", ("model_name",)
        )
        self._in_flight = _Gauge(
            "bert_keras:serving:in_flight", "Requests that wait or are run.", ("model_name",)
        )
        self._families: tuple[_Family, ...] = (
            *(self._requests, self._latency, self._runtime, self._runs, self._queuing),
            *(self._rows, self._tokens, self._waiting, self._in_flight),
        )

    def observe_request(
        self, model: str, signature_or_method: str, status_name: str, seconds: float
    ) -> None:
        """Counts one answered request, refused ones too.

        Args:
            model: its name; "" where the request names none that is served.
            signature_or_method: `serving_default`; or `GetModelStatus`, `metadata`.
            status_name: `OK`, or the name of the error code.
            seconds: from its arrival to its answer.
        """
        labels = (model, signature_or_method, status_name)
        with self._lock:
            self._requests.add(*labels)
            self._latency.observe(*labels, value=seconds * 1e6)

    def observe_batch(
        self,
        model: str,
        signature: str,
        *,
        waits: Iterable[float],
        rows: int,
        tokens: int,
        seconds: float,
    ) -> None:
        """Counts one run of the graph that gave answers.

        Args:
            waits: for each of its requests, how long it waited, in seconds.
            rows: as sent, without those that fill it up to an allowed size.
            tokens: as estimated.
            seconds: of the run.
        """
        labels = (model, signature)
        with self._lock:
            self._runs.add(*labels)
            self._rows.observe(*labels, value=rows)
            self._tokens.observe(*labels, value=tokens)
            self._runtime.observe(*labels, value=seconds * 1e6)
            for wait in waits:
                self._queuing.observe(*labels, value=wait * 1e6)

    def add_waiting(self, model: str, by: int) -> None:
        """So many requests more, or less, wait for a batch."""
        with self._lock:
            self._waiting.add(model, by=by)

    def add_in_flight(self, model: str, by: int) -> None:
        """So many requests more, or less, are under way."""
        with self._lock:
            self._in_flight.add(model, by=by)

    def text(self) -> str:
        """All metrics, to be sent with `CONTENT_TYPE`."""
        with self._lock:
            return "".join(f"{line}\n" for family in self._families for line in family.lines())


def _sample(name: str, pairs: list[str], value: float) -> str:
    return f"{name}{{{','.join(pairs)}}} {_number(value)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
