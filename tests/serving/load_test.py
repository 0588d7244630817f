"""The load generator: it keeps its times whatever the server does, and counts everything."""

import asyncio
import math
import time
import types

import grpc
import numpy as np
import pytest
from scipy import stats

from bert_keras.errors import InputError
from bert_keras.serving.client import connect, load, load_report, load_senders
from bert_keras.serving.client.load import Load, Measured
from bert_keras.serving.client.load_senders import Failure, RestSender
from tests.serving.conftest import free_port
from tests.serving.fake_server import FakeServer, fake_grpc_server

BODIES = [b'{"inputs": {"text": ["a"]}}', b'{"inputs": {"text": ["abc"]}}']


def test_arrivals_are_a_poisson_process():
    times = load.arrivals(50.0, 200.0, np.random.default_rng(3))
    assert (np.diff(times) >= 0).all() and 0 <= times[0] and times[-1] < 200
    assert stats.kstest(np.diff(times), stats.expon(scale=1 / 50).cdf).pvalue > 0.01
    counts = np.histogram(times, 200, (0, 200))[0]  # of a Poisson process: variance = mean
    assert abs(len(times) - 10_000) < 3 * 100
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=3 * math.sqrt(2 / 200))
    again = load.arrivals(50.0, 200.0, np.random.default_rng(3))
    np.testing.assert_array_equal(times, again)


def test_a_server_that_stands_still_is_seen_by_every_request_that_was_due_meanwhile():
    """By hand: it stands still until `end`; whoever is due at t before that waits end - t."""
    begin = []

    def stand_still(texts, number):
        begin.append(time.monotonic())
        time.sleep(max(0.0, begin[0] + 0.6 - time.monotonic()))

    with FakeServer(stand_still) as server:
        settings = Load(100.0, duration_seconds=1.0, warm_up_seconds=0.0)
        found = load.measure(connect(server.url), BODIES, settings)
    assert len(found.due) == len(server.asked) > 70 and not found.failures
    end = found.due[0] + 0.6  # it begins with the first request
    expected = np.maximum(end - found.due, 0.0)
    waited = found.answered - found.due
    assert np.median(np.abs(waited - expected)) < 0.05
    assert (found.due < end - 0.3).sum() > 15  # a closed loop would have sent one of these
    assert np.percentile(found.sent - found.due, 90) < 0.05  # nor did the arrivals wait


def test_what_is_due_beyond_the_bound_is_dropped_and_told():
    with FakeServer(lambda texts, number: time.sleep(0.5)) as server:
        settings = Load(60.0, duration_seconds=1.0, warm_up_seconds=0.0, max_in_flight=3)
        found = load.measure(connect(server.url), BODIES, settings)
    assert found.dropped > 20
    assert found.dropped + len(server.asked) == len(found.due)
    assert np.isfinite(found.answered).sum() == len(server.asked) <= 9
    assert np.percentile((found.sent - found.due)[np.isfinite(found.sent)], 90) < 0.05


def test_the_warm_up_is_sent_and_not_counted():
    with FakeServer() as server:
        settings = Load(40.0, duration_seconds=0.5, warm_up_seconds=0.5)
        found = load.measure(connect(server.url), BODIES, settings)
    assert 10 < len(found.due) < len(server.asked)
    assert found.due[0] >= 0 and found.due[-1] < 0.5
    assert server.connections < len(server.asked) / 2  # they are kept


def test_a_late_generator_is_in_the_latency_and_is_told():
    """Something holds the generator for 0.3 s; that must look like no fast server."""
    with FakeServer() as server:
        settings = Load(100.0, duration_seconds=1.3, warm_up_seconds=0.0)
        held = []

        def hold(seconds):
            held.append(seconds)
            time.sleep(0.3)

        found = load.measure(connect(server.url), BODIES, settings, hold)
    assert held
    figures = load_report.summary(found, batch_size=1, latency_target_ms=50)
    assert figures["generator"]["lag_ms"]["p99"] > 150
    assert figures["latency_ms"]["p99"] > 150
    assert "load generator itself was late (" in load_report.doubt(figures)


def test_no_request_in_so_short_a_time():
    with pytest.raises(InputError, match="--rate=0.001: no request falls into 0.1 seconds"):
        load.measure(connect("http://x:1/v1/models/m"), BODIES, Load(0.001, 0.1, 0.0))


def measured(load=None, failures=None, **arrays):
    load = load or Load(2.0, duration_seconds=5.0)
    arrays = {name: np.array(values) for name, values in arrays.items()}
    return Measured(load, **arrays, failures=failures or {}, cpu_seconds=0.5, wall_seconds=10.0,
                    machine_load=(0.5, 1.5))  # fmt: skip


def test_the_figures_by_hand():
    """Ten requests in 5 s: seven answers, one 503, one timeout, one dropped."""
    nan = math.nan
    due = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    latency = [0.010, 0.020, 0.030, 0.040, 0.050, 0.060, 2.0, nan, nan, nan]
    found = measured(
        due=due,
        sent=[*(np.array(due[:9]) + 0.001), nan],
        answered=[a + b for a, b in zip(due, latency)],
        failures={7: Failure("503", "busy"), 8: Failure("timeout", "")},
    )
    figures = load_report.summary(found, batch_size=4, latency_target_ms=50)
    assert figures["requests"] == 10 and figures["answered"] == 7
    assert figures["offered_rate"] == 2.0
    assert figures["achieved_rate"] == pytest.approx(7 / 5)
    assert figures["texts_per_second"] == pytest.approx(4 * 7 / 5)
    assert figures["errors"] == {"503": 1, "timeout": 1} and figures["dropped"] == 1
    # The nearest rank of seven: 50 % is the 4th, 90 % and more the 7th.
    assert figures["latency_ms"] == pytest.approx(
        {"p50": 40.0, "p90": 2000.0, "p95": 2000.0, "p99": 2000.0, "max": 2000.0}
    )
    assert figures["goodput"] == pytest.approx(
        {"latency_target_ms": 50, "requests_per_second": 1.0, "share": 0.5}
    )
    assert figures["generator"]["lag_ms"] == pytest.approx({"p50": 1.0, "p99": 1.0})
    assert figures["generator"]["cpu_share"] == 0.05
    assert figures["machine_load"] == [0.5, 1.5]
    head, row = load_report.table([figures]).splitlines()
    assert row.split()[:3] == ["2", "1.4", "5.6"] and "503:1 timeout:1" in row
    assert len(head) == len(row)


def test_answers_after_the_end_lower_the_achieved_rate():
    found = measured(due=[0.0, 1.0], sent=[0.0, 1.0], answered=[5.0, 10.0])
    figures = load_report.summary(found, batch_size=1, latency_target_ms=50)
    assert figures["achieved_rate"] == pytest.approx(2 / 10)
    assert figures["offered_rate"] == pytest.approx(2 / 5)


def test_nothing_answered_has_figures_too(tmp_path):
    nan = math.nan
    found = measured(due=[0.0, 1.0], sent=[0.0, nan], answered=[nan, nan],
                     failures={0: Failure("503", "busy")})  # fmt: skip
    figures = load_report.summary(found, batch_size=1, latency_target_ms=50)
    assert figures["achieved_rate"] == 0 and figures["latency_ms"]["p99"] is None
    assert " - " in load_report.table([figures])
    assert load_report.nothing_answered("x", [found]) == (
        "x: none of 2 requests was answered: 503 x 1 (busy)."
    )
    load_report.draw([found, found], [figures, figures], tmp_path / "a.png", "$5")
    load_report.draw([found, found], [figures, figures], tmp_path / "b.png", "$5")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "lag, latency, told",
    [(0.9, 1.0, False), (1.1, 5.0, True), (4.9, 50.0, False), (5.1, 50.0, True), (2.0, None, True)],
)
def test_what_is_too_late(lag, latency, told):
    """By its own share of a tenth, at either of two percentiles."""
    for late in ("p50", "p99"):
        figures = {
            "rate": 5.0,
            "generator": {"lag_ms": {"p50": 0.0, "p99": 0.0, late: lag}},
            "latency_ms": {"p50": 1.0, "p99": 1.0, late: latency},
        }
        assert bool(load_report.doubt(figures)) == told


# --- texts ------------------------------------------------------------------------------------


def test_texts_are_drawn_by_the_seed_and_a_long_file_is_sampled(tmp_path, monkeypatch):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"text {i}\n" for i in range(2000)))
    monkeypatch.setattr(load, "MOST_TEXTS", 500)
    kept = [each.value for each in load.sample(str(file), ("text",), 1)]
    assert kept == [each.value for each in load.sample(str(file), ("text",), 1)]
    assert kept != [each.value for each in load.sample(str(file), ("text",), 2)]
    numbers = sorted(int(text.split()[1]) for text in kept)
    assert len(set(numbers)) == 500
    assert stats.kstest(numbers, stats.uniform(0, 2000).cdf).pvalue > 0.01


def test_bodies_are_the_clients_own(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\nthree\n")
    with FakeServer() as server:
        model = connect(server.url)
        some = {"count": 20, "batch_size": 4}
        bodies = load.prepare(model, str(file), **some, random_seed=1)
        assert bodies == load.prepare(model, str(file), **some, random_seed=1)
        assert bodies != load.prepare(model, str(file), **some, random_seed=2)
        load.measure(model, bodies, Load(50.0, 0.5, 0.0))
    assert len(bodies) == 20 and {len(texts) for texts in server.asked} == {4}
    assert {text for texts in server.asked for text in texts} == {"one", "two", "three"}


@pytest.mark.parametrize(
    "names, text, words",
    [
        (("text",), "", "empty; expected a text"),
        (("text_a", "text_b"), "a\tb\nalone\n", r"texts.txt, line 2: 1 column\(s\)"),
    ],
)
def test_files_that_are_no_texts(tmp_path, names, text, words):
    file = tmp_path / "texts.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        load.sample(str(file), names, 1)


# --- connections ------------------------------------------------------------------------------


def send(url, count=1, timeout=5.0):
    """Sends so many requests one after the other, and returns what became of them."""

    async def run():
        sender = RestSender(connect(url, timeout=timeout))
        try:
            return [await sender.send(BODIES[0]) for _ in range(count)]
        finally:
            await sender.close()

    return asyncio.run(run())


def kinds(failures):
    return [failure and failure.kind for failure in failures]


def test_one_after_the_other_takes_one_connection():
    with FakeServer() as server:
        assert send(server.url, 5) == [None] * 5
        assert server.connections == 1 and server.paths[0] == "/v1/models/fake:predict"


def test_a_connection_that_the_server_closed_between_requests_is_no_error():
    with FakeServer(hang_up=True) as server:
        assert send(server.url, 4) == [None] * 4
        assert server.connections == len(server.asked) == 4


def test_each_failure_has_its_kind():
    answers = {2: (503, {"error": "busy"}), 3: (400, {"error": "no"}), 4: (None, None)}
    with FakeServer(lambda texts, number: answers.get(number)) as server:
        found = send(server.url, 5)
    assert kinds(found) == [None, "503", "400", None, None]  # the fourth was sent once more
    assert len(server.asked) == 6 and "busy" in found[1].message
    assert kinds(send(f"http://127.0.0.1:{free_port()}/v1/models/fake")) == ["connection"]


def test_after_a_timeout_its_answer_is_not_taken_for_the_next_ones():
    def slow(texts, number):
        if number == 1:
            time.sleep(0.4)
            return 500, {"error": "late"}

    with FakeServer(slow) as server:
        assert kinds(send(server.url, 3, timeout=0.2)) == ["timeout", None, None]


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP", (200, b"abc", True)),
        (b"HTTP/1.1 503 Busy\r\ncontent-length:0\r\nConnection: close\r\n\r\n", (503, b"", False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", (200, b"a", False)),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", (200, b"to the end", False)),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
            (200, b"abc0123456789", True),
        ),
    ],
    ids=["length", "close", "old", "end", "chunked"],
)
def test_responses(data, expected):
    assert asyncio.run(read(data)) == expected


@pytest.mark.parametrize(
    "data, error",
    [
        (b"", asyncio.IncompleteReadError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", asyncio.IncompleteReadError),
        (b"SSH-2.0-x\r\n\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ValueError),
        (b"x" * 100_000, asyncio.LimitOverrunError),
    ],
    ids=["nothing", "cut", "ssh", "words", "negative", "chunk", "endless"],
)
def test_responses_that_are_none(data, error):
    with pytest.raises(error):
        asyncio.run(read(data))


async def read(data):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await load_senders.read_response(reader)


def test_grpc():
    asked = []

    def predict(request, context):
        asked.append(request)
        if len(asked) % 4 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if len(asked) == 5:
            time.sleep(1.5)
        return b"any"

    with fake_grpc_server(predict) as address:
        model = types.SimpleNamespace(address=address, timeout=1.2)
        found = load.measure(model, [b"one", b"two"], Load(40.0, 1.0, 0.0))
    counts = load_report.summary(found, batch_size=1, latency_target_ms=300)
    assert set(asked) == {b"one", b"two"} and len(asked) == len(found.due) > 20
    assert counts["errors"] == {"RESOURCE_EXHAUSTED": len(asked) // 4, "timeout": 1}
    assert counts["answered"] == len(asked) - len(asked) // 4 - 1
