"""The comparison of servers, with servers that are formulas: what is searched and what is told."""

import argparse
import math

import pytest

from benchmarks import served_models, text_servers, token_share
from benchmarks.text_server_processes import cores

CAPACITY = {"fastapi/rest/float32": 60.0, "bert_keras/grpc/float32": 180.0}
FLAGS = argparse.Namespace(window_seconds=4.0, confirm_seconds=10.0)


class Formulas:
    """Stands for `text_servers.Windows`: p99 is that of a queue of a certain capacity."""

    def __init__(self):
        self.calls, self.history = [], {name: [] for name in CAPACITY}

    def __call__(self, name, rate, seconds, number):
        self.calls.append((name, seconds))
        left = CAPACITY[name] - rate
        milliseconds = 1e3 * math.log(100) / left if left > 0 else 1e4
        latency = dict.fromkeys(("p50", "p95", "p99", "max"), milliseconds)
        figures = {"rate": rate, "requests": 10, "answered": 10, "latency_ms": latency}
        self.history[name].append(figures | {"doubt": "", "server_cpu_ms": 5.0})
        return self.history[name][-1]


def test_each_server_gets_its_highest_rate_and_ours_its_ratio():
    measure = Formulas()
    found = text_servers.highest_rates(measure, list(CAPACITY), [100.0, 250.0], FLAGS)
    for (name, target), (rate, _) in found.items():
        expected = CAPACITY[name] - 1e3 * math.log(100) / target
        assert expected / 1.06 <= rate <= expected
    lines = text_servers.results(found, measure.history)
    assert [(line["server"], line["p99_target_ms"]) for line in lines] == [
        ("fastapi", 100.0), ("fastapi", 250.0), ("bert_keras", 100.0), ("bert_keras", 250.0),
    ]  # fmt: skip
    assert "ratio" not in lines[0]
    expected = (180 - 1e3 * math.log(100) / 100) / (60 - 1e3 * math.log(100) / 100)
    assert lines[2]["ratio"] == pytest.approx(expected, rel=0.13)
    assert lines[2]["met"] is True
    assert lines[2]["latency_ms"]["p99"] <= 100.0


def test_the_servers_take_turns():
    measure = Formulas()
    text_servers.highest_rates(measure, list(CAPACITY), [100.0], FLAGS)
    short = [name for name, seconds in measure.calls if seconds == 4.0]
    assert short[:6] == list(CAPACITY) * 3
    assert measure.calls[-1][1] == 10.0  # what is reported comes from a long window


def test_a_request_without_an_answer_fails_a_window():
    figures = {"answered": 9, "requests": 10, "latency_ms": {"p99": 1.0}}
    assert text_servers.p99(figures) == math.inf
    assert text_servers.p99(figures | {"answered": 10}) == 1.0


def test_a_server_that_bears_nothing_is_told_so():
    found = {
        ("fastapi/rest/float32", 1.0): (0.0, None),
        ("bert_keras/rest/float32", 1.0): (0, None),
    }
    lines = text_servers.results(found, {name: [] for name, _ in found})
    assert [line["requests_per_second"] for line in lines] == [0, 0]
    assert all("ratio" not in line for line in lines)


def test_the_share_of_tokenizing_is_of_a_request_of_one_text():
    shares = [{"texts": 1, "tokenize_ms": 0.2, "answer_ms": 3.0, "share": 0.0667}]
    latency = {
        "bert_keras/rest/float32": 5.0, "bert_keras/grpc/float32": 4.0,
        "fastapi/rest/float32": 9.0, "bert_keras/rest/bfloat16": 1.0,
    }  # fmt: skip
    line = token_share.summary("float32", shares, latency)
    assert line["share_of_request"] == {
        "bert_keras/rest/float32": 0.04, "bert_keras/grpc/float32": 0.05,
    }  # fmt: skip
    assert line["met"] is True
    assert token_share.summary("bfloat16", shares, latency)["met"] is False


def test_cores_are_written_as_taskset_takes_them():
    assert cores("0") == {0}
    assert cores("0,2-4") == {0, 2, 3, 4}


def test_what_it_needs_and_is_not_there_is_named(tmp_path):
    assert served_models.missing(("no_such_server",), str(tmp_path)) == ["no_such_server"]
