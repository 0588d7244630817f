"""The text that Prometheus reads, by the parser of Prometheus's own client for Python."""

import math
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bert_keras.serving.server import metrics as metrics_lib
from bert_keras.serving.server.metrics import Metrics

SERVED = ":tensorflow:serving:"


def families(metrics):
    """By the name of a family: its type, and its samples by name and labels."""

    def samples(family):  # the parser ends the names of counters in _total, whatever it read
        return {
            (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
            for sample in family.samples
        }

    text = metrics.text()
    return {each.name: (each.type, samples(each)) for each in text_string_to_metric_families(text)}


def request_labels(status, model="m", signature="serving_default"):
    return (("model_name", model), ("signature", signature), ("status", status))


def test_the_text_by_hand():
    metrics = Metrics()
    metrics.observe_request("m", "serving_default", "OK", 12e-6)
    metrics.add_in_flight("m", 2)
    lines = metrics.text().splitlines()
    labels = 'model_name="m",signature="serving_default",status="OK"'
    count = SERVED + "request_count"
    assert lines[:3] == [
        f"# HELP {count} Requests answered.",
        f"# TYPE {count} counter",
        f"{count}{{{labels}}} 1",
    ]
    latency = SERVED + "request_latency"
    assert f"# TYPE {latency} histogram" in lines
    # TensorFlow Serving's buckets: 10 microseconds, and each 1.8 times the one before it.
    assert f'{latency}_bucket{{{labels},le="10"}} 0' in lines
    assert f'{latency}_bucket{{{labels},le="18"}} 1' in lines
    assert f'{latency}_bucket{{{labels},le="+Inf"}} 1' in lines
    assert f"{latency}_count{{{labels}}} 1" in lines
    assert 'bert_keras:serving:in_flight{model_name="m"} 2' in lines
    assert metrics.text().endswith("\n")


def test_requests_are_counted_by_model_signature_and_status():
    metrics = Metrics()
    for status, seconds in [("OK", 0.001), ("OK", 0.002), ("INVALID_ARGUMENT", 0.004)]:
        metrics.observe_request("m", "serving_default", status, seconds)
    metrics.observe_request("n", "embed", "OK", 1.0)
    found = families(metrics)
    name = SERVED + "request_count"
    assert found[name] == (
        "counter",
        {
            (name, request_labels("OK")): 2,
            (name, request_labels("INVALID_ARGUMENT")): 1,
            (name, request_labels("OK", "n", "embed")): 1,
        },
    )
    kind, samples = found[SERVED + "request_latency"]
    assert kind == "histogram"
    assert samples[SERVED + "request_latency_sum", request_labels("OK")] == pytest.approx(3000)


def test_histograms_are_cumulative_and_hold_every_value():
    metrics = Metrics()
    rows = [1, 1, 2, 3, 64, 65, 20000]
    for size in rows:
        metrics.observe_batch("m", "s", waits=[0.0] * 3, rows=size, tokens=size, seconds=0.01)
    found = families(metrics)
    name = SERVED + "batching_session:input_batch_size"
    kind, samples = found[name]
    assert kind == "histogram"
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (sample, labels), count in samples.items()
        if sample == name + "_bucket"
    )
    assert [limit for limit, _ in buckets] == [*(2.0**power for power in range(15)), math.inf]
    assert all(count == sum(row <= limit for row in rows) for limit, count in buckets)
    labels = (("model_name", "m"), ("signature", "s"))
    assert samples[name + "_sum", labels] == sum(rows)
    assert samples[name + "_count", labels] == len(rows)
    waits = SERVED + "batching_session:queuing_latency"
    assert found[waits][1][waits + "_count", labels] == 3 * len(rows)
    runs = SERVED + "batching_session:wrapped_run_count"
    assert found[runs] == ("counter", {(runs, labels): len(rows)})


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", 'é\\"\n\\n', "", "a{b}=,# TYPE x"])
def test_any_name_comes_back_as_it_was(name):
    metrics = Metrics()
    metrics.observe_request(name, name, "OK", 0.5)
    samples = families(metrics)[SERVED + "request_count"][1]
    assert samples == {(SERVED + "request_count", request_labels("OK", name, name)): 1}


def test_gauges_go_up_and_down():
    metrics = Metrics()
    for by in (3, -1, -2, 5):
        metrics.add_waiting("m", by)
    name = "bert_keras:serving:queue_length"
    assert families(metrics)[name] == ("gauge", {(name, (("model_name", "m"),)): 5})


def test_names_from_outside_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(metrics_lib, "MOST_SERIES", 10)
    metrics = Metrics()
    for number in range(100):
        metrics.observe_request(f"m{number}", "s", "OK", 0.1)
    samples = families(metrics)[SERVED + "request_count"][1]
    assert len(samples) == 11
    assert sum(samples.values()) == 100


def test_nothing_is_lost_between_threads():
    metrics = Metrics()

    def work():
        for _ in range(500):
            metrics.observe_request("m", "s", "OK", 0.001)
            metrics.add_in_flight("m", 1)
            metrics.add_in_flight("m", -1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        metrics.text()
        thread.join()
    found = families(metrics)
    name = SERVED + "request_count"
    assert found[name][1][name, request_labels("OK", signature="s")] == 4000
    assert list(found["bert_keras:serving:in_flight"][1].values()) == [0]
