"""An open-loop load test: requests come when they come, however slowly they are answered.

N clients that each wait for an answer before they ask again slow down with the server, and so never
send the requests that would have had to wait (Schroeder, Wierman and Harchol-Balter, "Open versus
closed: a cautionary tale", NSDI 2006). Here the times of arrival are drawn beforehand from a
Poisson process, and latency counts from the time at which a request was due: neither a slow server
nor a late generator hides any of it.
"""

import asyncio
import contextlib
import dataclasses
import gc
import math
import os
import random
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bert_keras.errors import InputError
from bert_keras.serving import received
from bert_keras.serving.client import bulk, client
from bert_keras.serving.client.load_senders import Failure, open_sender

if TYPE_CHECKING:
    from bert_keras.serving.client.grpc_client import GrpcClient
    from bert_keras.serving.client.rest_client import RestClient

# What is kept ready to be sent; a long test sends it again and again.
MOST_TEXTS = 50_000
MOST_BODIES = 10_000
MOST_BODY_BYTES = 64 * 2**20

# select() wakes within 0.1 ms of the time asked for; epoll counts in milliseconds and wakes within
# 1 ms. But select() takes no descriptor above 1023.
MOST_FOR_SELECT = 400


@dataclasses.dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        rate: requests a second, on average.
        duration_seconds: how long the measured part is.
        warm_up_seconds: how long the part before it, at the same rate, whose requests do not count.
        max_in_flight: requests under way at once; what is due beyond that is dropped.
        random_seed: of the times of arrival.
    """

    rate: float
    duration_seconds: float = 10.0
    warm_up_seconds: float = 2.0
    max_in_flight: int = 256
    random_seed: int = 12345


@dataclasses.dataclass
class Measured:
    """What came of it, for the N requests that were due in the measured part.

    Attributes:
        load: what was sent.
        due: [N] seconds from the start of the measured part; in order.
        sent: [N] when they were sent; NaN if dropped.
        answered: [N] when the answers were there; NaN without one.
        failures: by the number of the request; one that was dropped has none.
        cpu_seconds: that this process took, in the warm-up and after.
        wall_seconds: the same on the clock.
        machine_load: of the last minute, before and after; all processes, this one included.
    """

    load: Load
    due: np.ndarray
    sent: np.ndarray
    answered: np.ndarray
    failures: dict[int, Failure]
    cpu_seconds: float
    wall_seconds: float
    machine_load: tuple[float, float]

    @property
    def latencies(self) -> np.ndarray:
        """Seconds from when an answered request was due to its answer, in order of size."""
        latencies = self.answered - self.due
        return np.sort(latencies[np.isfinite(latencies)])

    @property
    def dropped(self) -> int:
        """Requests that were never sent."""
        return int(np.isnan(self.sent).sum())


def arrivals(rate: float, seconds: float, random: np.random.Generator) -> np.ndarray:
    """The times of a Poisson process in [0, seconds), in order.

    Their number is Poisson; given the number they are independent and uniform.
    """
    return np.sort(random.uniform(0.0, seconds, random.poisson(rate * seconds)))


def prepare(
    model: "RestClient | GrpcClient",
    input_file: str,
    *,
    count: int,
    batch_size: int,
    random_seed: int,
) -> list[bytes]:
    """Serialized requests with texts drawn from a file, so that their lengths are real ones.

    Args:
        model: what they are for; it is asked what it takes.
        input_file: texts, one a line; columns with a tab between them for models of two texts.
        count: how many; no more than `MOST_BODIES`, as they can be sent again.
        batch_size: texts in one request.
        random_seed: of the draw.

    Raises:
        InputError: the file is empty, a line has other columns, or there is no server.
    """
    names = model.input_names("serving_default")
    order = names if len(names) == 1 else received.input_names(names)
    texts = sample(input_file, order, random_seed)
    draw = np.random.default_rng([random_seed, 1])
    bodies: list[bytes] = []
    size = 0
    while len(bodies) < min(count, MOST_BODIES) and size < MOST_BODY_BYTES:
        batch = [texts[place].value for place in draw.integers(len(texts), size=batch_size)]
        bodies.append(model.serialize("serving_default", client.columns(order, batch)))
        size += len(bodies[-1])
    return bodies


def sample(input_file: str, names: Sequence[str], random_seed: int) -> list[bulk.Example]:
    """Up to `MOST_TEXTS` lines of a file of any length, each as likely as the others."""
    kept: list[bulk.Example] = []
    draw = random.Random(random_seed)
    with open(input_file, "rb") as file:
        for number, each in enumerate(bulk.read_lines(file, input_file, names)):
            if each.fault:
                raise InputError(f"{each.where}: {each.fault}")
            if number < MOST_TEXTS:
                kept.append(each)
            elif (place := draw.randrange(number + 1)) < MOST_TEXTS:
                kept[place] = each
    if not kept:
        raise InputError(f"--input_file={input_file} is empty; expected a text on each line.")
    return kept


def measure(
    model: "RestClient | GrpcClient",
    bodies: Sequence[bytes],
    load: Load,
    tick: Callable[[float], object] = lambda seconds: None,
) -> Measured:
    """Sends a load to a server and waits for the last answer.

    Args:
        model: where to; its timeout is that of a request.
        bodies: what `prepare` gave.
        load: how much.
        tick: is told now and then how many seconds have passed since the last time.

    Raises:
        InputError: not one request is due in so short a time.
    """
    draw = np.random.default_rng([load.random_seed, 2])
    due = arrivals(load.rate, load.warm_up_seconds + load.duration_seconds, draw)
    due -= load.warm_up_seconds
    if not (due >= 0).any():
        raise InputError(
            f"--rate={load.rate:g}: no request falls into {load.duration_seconds:g} seconds; "
            "expected a higher rate or a longer --duration_seconds."
        )
    few = load.max_in_flight <= MOST_FOR_SELECT
    selector = selectors.SelectSelector if few else selectors.DefaultSelector
    loop = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector()))
    with loop as runner, _no_pauses():
        before, cpu, wall = os.getloadavg()[0], time.process_time(), time.monotonic()
        sent, answered, failures = runner.run(_drive(model, bodies, due, load, tick))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    first = int((due < 0).sum())
    return Measured(
        load=load,
        due=due[first:],
        sent=sent[first:],
        answered=answered[first:],
        failures={number - first: each for number, each in failures.items() if number >= first},
        cpu_seconds=cpu,
        wall_seconds=wall,
        machine_load=(before, os.getloadavg()[0]),
    )


async def _drive(
    model: "RestClient | GrpcClient",
    bodies: Sequence[bytes],
    due: np.ndarray,
    load: Load,
    tick: Callable[[float], object],
) -> tuple[np.ndarray, np.ndarray, dict[int, Failure]]:
    sent, answered = np.full(due.shape, math.nan), np.full(due.shape, math.nan)
    failures: dict[int, Failure] = {}
    under_way: set[asyncio.Task[None]] = set()
    sender = open_sender(model)
    zero = time.monotonic() + load.warm_up_seconds
    ticked = time.monotonic()

    async def ask(number: int) -> None:
        sent[number] = time.monotonic() - zero
        failure = await sender.send(bodies[number % len(bodies)])
        if failure:
            failures[number] = failure
        else:
            answered[number] = time.monotonic() - zero

    try:
        for number, at in enumerate(due.tolist()):
            # Also where it is late already: what has arrived is read, whatever is to be sent.
            await asyncio.sleep(max(0.0, zero + at - time.monotonic()))
            if len(under_way) < load.max_in_flight:
                task = asyncio.create_task(ask(number))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if time.monotonic() - ticked > 1.0:
                tick(time.monotonic() - ticked)
                ticked = time.monotonic()
        await asyncio.gather(*under_way)
    finally:
        await sender.close()
    return sent, answered, failures


@contextlib.contextmanager
def _no_pauses() -> Iterator[None]:
    """Leaves what is there out of garbage collection: with TensorFlow imported, a pass of 0.1 s."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
