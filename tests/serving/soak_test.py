"""A server under load for minutes, and under hostile requests: it answers, and does not grow."""

import concurrent.futures
import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_keras.serving.client import connect, load
from bert_keras.serving.client.load import Load
from bert_keras.serving.export.export import export_saved_model
from tests.serving.conftest import Served, free_port
from tests.serving.fuzz_player import ToyProcess, play_unhurt
from tests.serving.tiny_model import TEXTS, WORDS, tiny_text_model

ROOT = Path(__file__).parents[2]
REQUESTS = int(os.environ.get("BERT_KERAS_SOAK_REQUESTS", 20_000))
HOSTILE_REQUESTS = int(os.environ.get("BERT_KERAS_SOAK_HOSTILE_REQUESTS", 100_000))
SECONDS = float(os.environ.get("BERT_KERAS_SOAK_SECONDS", 600))
PATH = "/v1/models/tiny:predict"

HOSTILE = [
    (400, b"{"),
    (400, b"[" * 100_000),
    (400, b'{"instances": [7]}'),
    (400, b'{"signature_name": "x", "instances": ["a"]}'),
    (400, b'{"signature_name": "token_ids", "inputs": {"token_ids": [[1, 999]], '
     b'"segment_ids": [[0, 0]], "padding_mask": [[1, 1]]}}'),
    (200, b'{"instances": ["\xff\xfe\x80"]}'),
    (200, b'{"instances": ["' + b"word " * 10_000 + b'"]}'),
    (200, b'{"inputs": {"text": []}}'),
]  # fmt: skip


@dataclasses.dataclass
class Tiny:
    """A server of the tiny classifier, in a process of its own."""

    process: subprocess.Popen
    served: Served
    expected: list[str]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.served.rest_port}/v1/models/tiny"

    def megabytes(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    directory = tmp_path_factory.mktemp("soak")
    model = tiny_text_model(directory / "v")
    export_saved_model(model, directory / "e")
    rest, grpc = free_port(), free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tools.serve",
            "--model_name=tiny",
            f"--model_base_path={directory / 'e'}",
            f"--port={grpc}",
            f"--rest_api_port={rest}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("Serving tiny")
        expected = [answer["label"] for answer in model.predict(TEXTS)]
        yield Tiny(process, Served("embedded", f"127.0.0.1:{grpc}", rest), expected)
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_it_answers_a_few_hundred(tiny):
    ask(tiny, 200)


@pytest.mark.soak
def test_it_answers_and_does_not_grow(tiny):
    before, after = ask(tiny, REQUESTS)
    slope = (after - before) * 100_000 / REQUESTS
    print(json.dumps({"requests": REQUESTS, "megabytes": [before, after], "slope": slope}))
    assert after - before < 20, f"grew from {before:.0f} to {after:.0f} MB"


def ask(tiny, requests):
    """Asks so often, and returns the server's size in MB before and after."""
    by_grpc = connect(f"grpc://{tiny.served.grpc_address}/tiny")

    def one(seed):
        choice = random.Random(seed)
        if choice.random() < 0.2:
            status, body = choice.choice(HOSTILE)
            assert tiny.served.http("POST", PATH, body)[0] == status
        elif choice.random() < 0.3:
            found = by_grpc.predict(TEXTS)
            assert [answer["label"] for answer in found] == tiny.expected
        else:
            rows = choice.sample(range(len(TEXTS)), choice.randint(1, len(TEXTS)))
            status, body = tiny.served.predict({"instances": [TEXTS[row] for row in rows]}, PATH)
            assert status == 200
            labels = [answer["label"] for answer in body["predictions"]]
            assert labels == [tiny.expected[row] for row in rows]

    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(requests // 4)))  # buffers and caches find their size
            before = tiny.megabytes()
            list(pool.map(one, range(requests)))
            return before, tiny.megabytes()
    finally:
        by_grpc.close()


@pytest.mark.soak
@pytest.mark.parametrize("flags", [[], ["--enable_batching"]], ids=["alone", "batched"])
def test_a_hundred_thousand_hostile_requests(tmp_path, flags):
    server = ToyProcess(tmp_path, *flags)
    try:
        found = play_unhurt(server, 1 + len(flags), HOSTILE_REQUESTS // 2, huge=0.001)
        seen = found.pop("seen")
        print(json.dumps(found, default=dataclasses.asdict), len(seen), "kinds of answers")
        grown = found["after"].megabytes - found["before"].megabytes
        assert grown < 100, found  # requests of 30 MB leave holes in the heap: 50 MB were seen
    finally:
        assert server.close() == 0


# A few seconds beside other tests tell whether it can be done at all: the load is lower, as what
# else runs takes from the capacity that was measured; of 100 requests in a third the p99 is the
# slowest one; and the 1 MB that an allocator takes now and then is 30 MB in 10,000 requests.
def test_a_few_seconds_of_load(tiny):
    found = under_load(tiny, seconds=3.0, share=0.4, step_seconds=1.0)
    assert found["errors"] == found["dropped"] == 0, found
    assert found["p99_ms"][2] < 20 * found["p99_ms"][0] + 500, found
    assert found["megabytes"][1] - found["megabytes"][0] < 50, found


@pytest.mark.soak
def test_ten_minutes_at_80_percent_of_capacity(tiny):
    found = under_load(tiny, seconds=SECONDS, share=0.8, step_seconds=5.0)
    assert found["errors"] == found["dropped"] == 0, found
    # Of some 10^5 requests the p99 itself is known to 5 %; the machine is not that steady.
    assert found["p99_ms"][2] < 2 * found["p99_ms"][0] + 5, found
    assert found["slope_mb_per_10000"] < 1, found


def under_load(tiny, *, seconds, share, step_seconds):
    """Puts a share of its capacity on the server, half by REST and half by gRPC.

    Returns:
        The figures; `p99_ms` of each third of the time, `megabytes` before and after, and the
        least-squares slope of the server's size after the first fifth.
    """
    models = [connect(tiny.url), connect(f"grpc://{tiny.served.grpc_address}/tiny")]
    try:
        bodies = [prepare(model, seed) for seed, model in enumerate(models)]
        most = capacity(models, bodies, step_seconds)
        rate = share * most
        sizes = []
        before = tiny.megabytes()

        def note(passed):
            sizes.append((sizes[-1][0] + passed if sizes else passed, tiny.megabytes()))

        runs = send(models, bodies, rate, seconds, step_seconds, note)
        after = tiny.megabytes()
    finally:
        for model in models:
            model.close()
    due, took = (np.concatenate(each) for each in zip(*((r.due, r.answered - r.due) for r in runs)))
    thirds = [took[(due * 3 // seconds) == third] for third in range(3)]
    time, size = np.array([each for each in sizes if each[0] > 0.2 * seconds]).T
    slope = np.polyfit(time, size, 1)[0] * 10_000 / rate if len(time) > 2 else None
    found = {
        "capacity": most,
        "rate": rate,
        "requests": len(due),
        "errors": sum(len(run.failures) for run in runs),
        "dropped": sum(run.dropped for run in runs),
        "p50_ms": float(np.nanmedian(took)) * 1000,
        "p99_ms": [float(np.nanpercentile(third, 99)) * 1000 for third in thirds],
        "megabytes": [before, after],
        "slope_mb_per_10000": slope,
        "machine_load": runs[0].machine_load,
    }
    print(json.dumps(found))
    return found


def prepare(model, seed):
    """Requests of one to eight texts of one word to forty."""
    choice = random.Random(seed)

    def text():
        return " ".join(choice.choices([*WORDS, "unbelievably", "東京"], k=choice.randint(1, 40)))

    return [
        model.serialize("serving_default", {"text": [text() for _ in range(choice.randint(1, 8))]})
        for _ in range(500)
    ]


def capacity(models, bodies, seconds):
    """Answers a second, at the highest rate of a ramp that is kept up with."""
    rate, best = 40.0, 0.0
    while True:
        runs = send(models, bodies, rate, seconds, seconds / 2)
        answered = sum(np.isfinite(run.answered).sum() for run in runs)
        last = max([seconds, *(np.nanmax(run.answered) for run in runs)])
        best = max(best, float(answered / last))
        if answered < sum(len(run.due) for run in runs) or last > 1.1 * seconds:
            return best
        rate *= 1.4


def send(models, bodies, rate, seconds, warm_up_seconds, tick=lambda passed: None):
    """Half of the load by each of the two, side by side; the first tells the time."""
    loads = [
        Load(rate / 2, seconds, warm_up_seconds, max_in_flight=120, random_seed=seed)
        for seed in (1, 2)
    ]
    ticks = [tick, lambda passed: None]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(load.measure, models, bodies, loads, ticks))
