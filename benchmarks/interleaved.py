"""Peers side by side: a process each, one piece of work after the other, in the same order.

A machine drifts: other jobs come and go, clocks change. So each peer is built and warmed up in
a process of its own, and then every repetition asks each of them once, in turn. What disturbs
the machine meets all of them alike, and the ratio of the medians stands.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Task = tuple[str, str]  # a peer and the name of one of its pieces of work
Seconds = tuple[float, float]  # wall clock and CPU


def measure(
    module: str, tasks: Sequence[Task], repetitions: int, arguments: Sequence[str] = ()
) -> dict[Task, list[Seconds]]:
    """Runs every task `repetitions` times, interleaved.

    Args:
        module: the benchmark's own module, started once a peer with `--worker=PEER`.
        tasks: in the order of every repetition.
        repetitions: how often.
        arguments: passed on to the workers.

    Returns:
        The seconds of each run, by task.
    """
    workers = {peer: _start(module, peer, arguments) for peer in dict.fromkeys(p for p, _ in tasks)}
    times: dict[Task, list[Seconds]] = {task: [] for task in tasks}
    for _ in range(repetitions):
        for peer, work in tasks:
            workers[peer].stdin.write(work + "\n")
            workers[peer].stdin.flush()
            times[peer, work].append(tuple(json.loads(workers[peer].stdout.readline())))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return times


def serve(work: Mapping[str, Callable[[], Any]], warm_up: int = 2) -> None:
    """A worker: does the piece of work that each line of standard input names, and times it.

    A piece that returns a number of seconds is taken at its word: Keras' `fit` times its own
    step, without what surrounds it.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is not an answer
    for piece in work.values():
        for _ in range(warm_up):
            piece()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        own = work[line.strip()]()
        whole = time.perf_counter() - wall
        seconds = (own if isinstance(own, float) else whole, time.process_time() - cpu)
        print(json.dumps(seconds), file=answers, flush=True)


def summary(times: Mapping[Task, Sequence[Seconds]]) -> dict[str, Any]:
    """Medians in milliseconds, and the machine they were taken on.

    CPU time is that of the whole piece of work, also where the piece has timed itself.
    """
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "milliseconds": {"/".join(task): round(_median(times[task], 0), 1) for task in times},
        "cpu_milliseconds": {"/".join(task): round(_median(times[task], 1), 1) for task in times},
    }


def ratio(times: Mapping[Task, Sequence[Seconds]], one: Task, other: Task) -> float | None:
    """The median time of `one` over that of `other`, or None where either was not run."""
    if one not in times or other not in times:
        return None
    return round(_median(times[one], 0) / _median(times[other], 0), 3)


def _median(seconds: Sequence[Seconds], column: int) -> float:
    return 1e3 * statistics.median(pair[column] for pair in seconds)


def _start(module: str, peer: str, arguments: Sequence[str]) -> subprocess.Popen:
    worker = subprocess.Popen(
        [sys.executable, "-m", module, f"--worker={peer}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", **os.environ},
        cwd=pathlib.Path(__file__).parents[1],
    )
    if worker.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{peer} did not start; its error is above.")
    return worker
