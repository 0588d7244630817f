"""Requests that share a batch: each gets the answer or the error that it would get alone."""

import collections
import contextlib
import gc
import random
import re
import threading
import time
import weakref
from concurrent import futures

import numpy as np
import pytest

from bert_keras.serving import status
from bert_keras.serving.server.batching import Batcher, BatchingParameters
from bert_keras.serving.server.metrics import Metrics
from tests.serving.conftest import wait_until
from tests.serving.plain_servable import ID_NAMES, PlainServable, texts


def waiting(metrics):
    """Requests in the line."""
    found = re.search(r"queue_length\{.*\} (\d+)", metrics.text())
    return int(found[1]) if found else 0


class Busy:
    """A batcher whose only place is taken until `free` is called."""

    def __init__(self, *, servable=None, most_rows=None, **parameters):
        self.servable, self.metrics = servable or PlainServable(most_rows), Metrics()
        self.batcher = Batcher(
            self.servable,
            BatchingParameters(**{"num_batch_threads": 1, **parameters}),
            self.metrics,
            model="m",
        )
        self.pool = futures.ThreadPoolExecutor(300)
        self.free = self.servable.go.set
        self._first = self.pool.submit(self.batcher.run, "", texts("hold"))
        assert self.servable.held.wait(30)

    def send(self, inputs, name="", **more):
        """Sends a request; returns once it waits in the line."""
        before = waiting(self.metrics)
        sent = self.pool.submit(self.batcher.run, name, inputs, **more)
        wait_until(lambda: waiting(self.metrics) > before or sent.done())
        return sent

    def calls(self):
        """What ran after the request that held the place."""
        return self.servable.calls[1:]


@pytest.fixture
def busy():
    with contextlib.ExitStack() as stack:

        def make(**parameters):
            made = Busy(**parameters)
            stack.callback(made.pool.shutdown)
            stack.callback(made.free)
            return made

        yield make


def fault_of(sent):
    with pytest.raises(status.ServingError) as caught:
        sent.result(30)
    return caught.value


def same(a, b):
    return sorted(a) == sorted(b) and all(
        a[name].shape == b[name].shape
        and a[name].dtype == b[name].dtype
        and a[name].tolist() == b[name].tolist()
        for name in a
    )


def test_an_idle_server_runs_a_request_in_its_own_thread():
    threads = []

    class Here(PlainServable):
        def run(self, *args):
            threads.append(threading.get_ident())
            return super().run(*args)

    answer = Batcher(Here(), BatchingParameters()).run("", texts("a film"))
    assert answer["label"].tolist() == [b"<a film>"]
    assert threads == [threading.get_ident()]


def test_what_came_meanwhile_is_one_batch_in_the_order_of_arrival(busy):
    server = busy()
    sent = [server.send(texts(*words)) for words in (["a"], ["bb", "ccc"], ["d"])]
    server.free()
    assert [each.result(30)["logits"][:, 0].tolist() for each in sent] == [[1], [2, 3], [1]]
    assert server.calls() == [("serving_default", [b"a", b"bb", b"ccc", b"d"])]


def test_only_what_agrees_is_joined_and_the_oldest_goes_first(busy):
    server = busy()
    ids = {name: np.ones((1, 4), np.int32) for name in ID_NAMES}
    wider = {name: np.ones((1, 5), np.int32) for name in ID_NAMES}
    server.send(texts("x"), "tokenize")
    server.send(ids, "token_ids")
    server.send(texts("a"))
    server.send(wider, "token_ids")
    server.send(texts("y"), "tokenize")
    server.send(ids, "token_ids")
    server.send(texts("b"))
    server.send(texts("c"), output_filter=["label"])
    server.free()
    server.batcher.close()
    assert server.calls() == [
        ("tokenize", [b"x"]),
        ("token_ids", [[1, 1, 1, 1]] * 2),
        ("serving_default", [b"a", b"b"]),
        ("token_ids", [[1, 1, 1, 1, 1]]),
        ("tokenize", [b"y"]),
        ("serving_default", [b"c"]),
    ]


@pytest.mark.parametrize(
    "limits, sizes",
    [
        ({"max_batch_size": 2}, [2, 2, 1]),
        ({"max_batch_tokens": 9}, [3, 2]),  # "four" is one token, and two about it
        ({"max_batch_tokens": 1}, [1] * 5),
        ({"most_rows": 3}, [3, 2]),
    ],
    ids=["rows", "tokens", "at-least-one", "servable"],
)
def test_a_batch_is_limited_by_rows_and_by_tokens(busy, limits, sizes):
    server = busy(**limits)
    sent = [server.send(texts("four")) for _ in range(5)]
    server.free()
    assert all(each.result(30)["logits"].tolist() == [[4, -4]] for each in sent)
    assert [len(rows) for _, rows in server.calls()] == sizes


def test_a_request_larger_than_a_batch_runs_by_itself(busy):
    server = busy(max_batch_size=2)
    sent = [server.send(texts(*words)) for words in ("ab", "cdefg", "h")]
    server.free()
    assert [len(each.result(30)["label"]) for each in sent] == [2, 5, 1]
    assert [len(rows) for _, rows in server.calls()] == [2, 5, 1]


def test_a_full_line_refuses_at_once(busy):
    server = busy(max_batch_size=2, max_enqueued_batches=2)
    sent = [server.send(texts(word)) for word in "abcd"]
    begin = time.monotonic()
    error = fault_of(server.send(texts("e")))
    assert time.monotonic() - begin < 5
    assert (error.code, error.http_status) == (status.RESOURCE_EXHAUSTED, 429)
    server.free()
    assert [each.result(30)["label"][0] for each in sent] == [b"<a>", b"<b>", b"<c>", b"<d>"]
    assert server.batcher.run("", texts("e"))["label"][0] == b"<e>"


def test_a_request_of_too_many_rows_is_refused_before_it_waits(busy):
    """In the line it would count against the others, and be refused at its turn all the same."""
    server = busy(most_rows=3)
    sent = server.send(texts(*"abcd"))
    assert sent.done() and fault_of(sent).code == status.INVALID_ARGUMENT
    taken = server.send(texts(*"abc"))
    server.free()
    assert len(taken.result(30)["label"]) == 3


def test_a_request_whose_deadline_passes_in_the_line_is_not_run(busy):
    server = busy()
    error = fault_of(server.send(texts("late"), deadline=time.monotonic() + 0.1))
    assert (error.code, error.http_status) == (status.DEADLINE_EXCEEDED, 504)
    assert waiting(server.metrics) == 0
    sent = server.send(texts("in time"), deadline=time.monotonic() + 100)
    server.free()
    assert sent.result(30)["label"].tolist() == [b"<in time>"]
    error = fault_of(server.pool.submit(server.batcher.run, "", texts("late"), (), 0.0))
    assert error.code == status.DEADLINE_EXCEEDED
    assert b"late" not in server.servable.texts_run()


@pytest.mark.parametrize("at", [0, 7, 15])
def test_a_bad_request_fails_alone(busy, at):
    server = busy()
    words = [f"w{number}" for number in range(16)]
    words[at] = "bad one"
    sent = [server.send(texts(word)) for word in words]
    server.free()
    error = fault_of(sent[at])
    assert (error.code, error.message) == (status.INVALID_ARGUMENT, "refused: bad one")
    for word, each in zip(words, sent):
        if word != "bad one":
            assert each.result(30)["label"].tolist() == [f"<{word}>".encode()]
    assert len(server.calls()) == 1 + 2 * 4  # all, and two halves of each of log2(16)


def test_every_bad_request_gets_its_own_error(busy):
    server = busy()
    sent = [server.send(texts(word)) for word in ("bad 0", "fine", "bug", "bad 1")]
    server.free()
    assert [fault_of(sent[place]).message for place in (0, 3)] == [
        "refused: bad 0",
        "refused: bad 1",
    ]
    assert sent[1].result(30)["label"].tolist() == [b"<fine>"]
    with pytest.raises(ZeroDivisionError):
        sent[2].result(30)


@pytest.mark.parametrize(
    "name, inputs, code",
    [
        ("nothing", texts("a"), status.FAILED_PRECONDITION),
        ("", {}, status.INVALID_ARGUMENT),
        ("", {"other": np.array([1])}, status.INVALID_ARGUMENT),
        ("pairs", {"text_a": np.array([b"a", b"b"]), "text_b": np.array([b"a"])}, 3),
    ],
    ids=["signature", "no-input", "other-input", "rows-differ"],
)
def test_faults_of_a_request_are_those_of_the_servable(name, inputs, code):
    with pytest.raises(status.ServingError) as caught:
        Batcher(PlainServable(), BatchingParameters()).run(name, inputs)
    assert caught.value.code == code


def test_rows_that_differ_between_inputs_are_not_made_to_fit_by_a_neighbour(busy):
    server = busy()
    one, two = np.array([b"a"], object), np.array([b"a", b"b"], object)
    sent = [server.send({"text_a": a, "text_b": b}, "pairs") for a, b in ((one, two), (two, one))]
    server.free()
    assert [fault_of(each).message for each in sent] == ["as many of each"] * 2


def test_an_answer_is_no_wider_for_its_neighbours(busy):
    server = busy()
    sent = {
        text: server.send(texts(text), "entities", output_filter=wanted)
        for text, wanted in [("", ()), ("Ada Lund in Lima", ()), ("Ada", ())]
    }
    only = [server.send(texts(text), "entities", output_filter=["entity"]) for text in ("a b", "c")]
    server.free()
    for text, each in sent.items():
        assert same(each.result(30), PlainServable().run("entities", texts(text)))
    assert [each.result(30)["entity"].tolist() for each in only] == [[[b"a", b"b"]], [[b"c"]]]
    assert all(set(each.result()) == {"entity"} for each in only)
    assert [len(rows) for _, rows in server.calls()] == [3, 2]


def test_a_model_that_does_not_keep_the_rows_it_promises_is_asked_one_by_one(busy):
    server = busy()
    sent = [server.send(texts(word), "total") for word in ("a", "bb", "ccc")]
    server.free()
    assert [each.result(30)["total"].tolist() for each in sent] == [[1], [2], [3]]
    assert [len(rows) for _, rows in server.calls()] == [3, 1, 1, 1]
    assert server.batcher.run("total", texts("dddd"))["total"].tolist() == [4]


def test_batches_are_filled_up_to_an_allowed_size(busy):
    server = busy(max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    sent = [server.send(texts(*words)) for words in ("ab", "c", "de")]
    server.free()
    assert [each.result(30)["label"].tolist() for each in sent] == [
        [b"<a>", b"<b>"],
        [b"<c>"],
        [b"<d>", b"<e>"],
    ]
    server.batcher.run("", texts("a", "b", "c"))
    server.batcher.run("", texts("a", "b", "c", "d"))
    assert server.batcher.run("total", texts("a", "b", "c"))["total"].tolist() == [3]
    sizes = [len(rows) for _, rows in server.calls()]
    assert sizes == [8, 4, 4, 4, 3]  # the last twice: filled up, it is not told in rows


def test_a_timeout_waits_for_company_but_not_once_a_batch_is_full():
    servable, metrics = PlainServable(), Metrics()
    parameters = BatchingParameters(max_batch_size=2, batch_timeout_micros=60_000_000)
    batcher = Batcher(servable, parameters, metrics)
    with futures.ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(batcher.run, "", texts(word)) for word in "abcd"]
        got = sorted(each.result(30)["label"][0] for each in sent)
        assert got == [b"<a>", b"<b>", b"<c>", b"<d>"]
        assert [len(rows) for _, rows in servable.calls] == [2, 2]
        left = pool.submit(batcher.run, "", texts("e"))
        wait_until(lambda: waiting(metrics) == 1)
        assert batcher.run("tokenize", texts("x y"))["token"].shape == (1, 2)  # none can join it
        assert not left.done()
        assert batcher.close(timeout=30)
        assert left.result(30)["label"].tolist() == [b"<e>"]


def test_a_timeout_ends():
    batcher = Batcher(PlainServable(), BatchingParameters(batch_timeout_micros=200_000))
    begin = time.monotonic()
    assert batcher.run("", texts("a"))["label"].tolist() == [b"<a>"]
    assert 0.2 <= time.monotonic() - begin < 10


def test_close_lets_those_who_wait_finish_and_takes_no_others(busy):
    server = busy()
    sent = [server.send(texts(word)) for word in "abc"]
    closing = server.pool.submit(server.batcher.close)
    wait_until(lambda: server.batcher._closed)
    assert fault_of(server.send(texts("too late"))).code == status.UNAVAILABLE
    assert not closing.done() and not server.batcher.close(timeout=0.01)
    server.free()
    assert closing.result(30)
    assert [each.result(1)["label"][0] for each in sent] == [b"<a>", b"<b>", b"<c>"]


def random_request(dice):
    """A signature, inputs and a filter, drawn at random; some do not fit."""
    name = dice.choice(
        ["", "serving_default", "entities", "pairs", "token_ids", "tokenize", "total"]
    )
    rows = dice.choice([0, 1, 1, 1, 2, 5])

    def words():
        return np.array(
            [b" ".join([b"w%d" % dice.randrange(99)] * dice.randrange(5)) for _ in range(rows)],
            object,
        )

    if name == "token_ids":
        shape = (rows, dice.choice([1, 3, 4]))
        ids = np.array([dice.randrange(-1, 99) for _ in range(shape[0] * shape[1])], np.int32)
        inputs = {"token_ids": ids.reshape(shape), "padding_mask": np.ones(shape, np.int32)}
        return name, inputs, ()
    if name == "pairs":
        return name, {"text_a": words(), "text_b": words()[dice.randrange(2) :]}, ()
    text = words()
    if rows and name in ("", "serving_default") and dice.random() < 0.05:
        text[-1] = b"bad %d" % dice.randrange(9**9)
    filters = {"": [(), ["label"]], "entities": [(), ["entity"], ["count", "start"]]}
    return name, {"text": text}, dice.choice(filters.get(name, [()]))


def answered(run, request):
    """The answer, or the error's code and line."""
    try:
        return run(*request)
    except status.ServingError as error:
        return {"error": np.array([error.code, error.message], object)}


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_batch_threads": 1},
        {"num_batch_threads": 3, "max_batch_size": 4, "batch_timeout_micros": 300},
        {"num_batch_threads": 2, "max_batch_size": 8, "allowed_batch_sizes": (2, 8)},
        {"num_batch_threads": 2, "max_batch_tokens": 20},
    ],
    ids=["one", "timeout", "sizes", "tokens"],
)
def test_answers_are_those_of_the_request_alone(parameters):
    servable = PlainServable(seconds=0.0005)
    batcher = Batcher(servable, BatchingParameters(**parameters))
    dice = random.Random(20)
    requests = [random_request(dice) for _ in range(800)]
    with futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda request: answered(batcher.run, request), requests))
    alone = PlainServable()
    for request, answer in zip(requests, got):
        assert same(answer, answered(alone.run, request)), request
    assert servable.most_at_once <= parameters["num_batch_threads"]
    assert len(servable.calls) < len(requests)


def test_nothing_is_lost_or_swapped_among_thousands():
    servable, metrics = PlainServable(seconds=0.0002), Metrics()
    batcher = Batcher(servable, BatchingParameters(num_batch_threads=2), metrics, model="m")

    def client(number):
        for place in range(250):
            text = f"{number}/{place}"
            deadline = time.monotonic() + 100 if place % 3 else None
            answer = batcher.run("", texts(text), (), deadline)
            assert answer["label"].tolist() == [f"<{text}>".encode()]
        return True

    with futures.ThreadPoolExecutor(20) as pool:
        assert all(pool.map(client, range(20)))
    expected = collections.Counter(f"{n}/{p}".encode() for n in range(20) for p in range(250))
    assert collections.Counter(servable.texts_run()) == expected
    assert servable.most_at_once <= 2
    batcher.close()
    text = metrics.text()
    assert 'queue_length{model_name="m"} 0' in text or "queue_length{" not in text
    assert 'in_flight{model_name="m"} 0' in text
    assert re.search(r"queuing_latency_count\{.*\} 5000\n", text)
    assert re.search(r"input_batch_size_sum\{.*\} 5000\n", text)


def test_a_request_is_let_go_with_its_answer(busy):
    """Not when Python next looks for circles: a request may hold megabytes."""
    server = busy()
    gc.disable()
    try:
        held = []
        for name, word in [("", "a"), ("", "b"), ("", "bad"), ("tokenize", "c")]:
            inputs = texts(word)
            held.append(weakref.ref(inputs["text"]))
            server.send(inputs, name)
            del inputs
        server.free()
        server.batcher.close()
        server.pool.shutdown()
        server.servable.calls.clear()
        assert [each() for each in held] == [None] * 4
    finally:
        gc.enable()


def test_two_clients_of_the_toy_model_share_a_batch(toy_dir):
    from bert_keras.serving.servable import Servable

    servable = Servable(toy_dir / "1")
    batches = []

    class Watched:
        max_batch_size, signature = None, servable.signature

        def __init__(self):
            self.held, self.go = threading.Event(), threading.Event()

        def run(self, name, inputs, wanted):
            if inputs.get("text", [None])[0] == b"hold":
                self.held.set()
                assert self.go.wait(60)
            batches.append(len(next(iter(inputs.values()))))
            return servable.run(name, inputs, wanted)

    server = Busy(servable=Watched())
    try:
        words = ["a", "long one", ""]
        sent = [server.send(texts(word)) for word in words]
        index = [server.send({"index": np.array([each], np.int32)}, "labels") for each in (0, 7, 1)]
        server.free()
        for word, each in zip(words, sent):
            assert same(each.result(60), servable.run("", texts(word)))
        assert [index[place].result(60)["label"].tolist() for place in (0, 2)] == [
            [b"long"],
            [b"short"],
        ]
        assert fault_of(index[1]).code == status.INVALID_ARGUMENT
        assert batches == [1, 3, 3, 1, 2, 1, 1]
    finally:
        server.free()
        server.pool.shutdown()
