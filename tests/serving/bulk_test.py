"""Many lines: in order, in little memory, named where refused, and the same bytes after a kill."""

import io
import json
import os
import pathlib
import random
import threading
import time
import traceback

import pytest

from bert_keras.errors import InputError
from bert_keras.serving.client import bulk, resumable
from bert_keras.serving.client.resumable import ResumableFile
from bert_keras.serving.client.retries import RequestError


def lengths(values):
    """A model that answers with the length of a text, and refuses what is bad."""
    if any("bad" in value for value in values):
        raise RequestError("http://x answers 400: no", said="400: no", refused=True)
    return [{"score": float(len(value))} for value in values]


def examples(texts):
    return (bulk.example(text, ("text",), f"f, line {i}") for i, text in enumerate(texts, 1))


def rows_of(answered):
    return [row for _, rows in answered for row in rows]


# --- order and memory ---


@pytest.mark.parametrize("concurrency", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 4, 401])
def test_answers_come_in_order_however_long_each_takes(count, concurrency):
    waits = random.Random(5)
    threads = set()

    def slow(values):
        threads.add(threading.get_ident())
        time.sleep(waits.uniform(0.0, 0.01))
        return lengths(values)

    texts = [f"text {'x' * (i % 9)}" for i in range(count)]
    answered = bulk.answers(slow, examples(texts), size=4, concurrency=concurrency)
    expected = [{"text": text, "score": float(len(text))} for text in texts]
    assert rows_of(answered) == expected
    assert len(threads) <= concurrency and (len(threads) > 1) == (count > 4 and concurrency > 1)


def test_a_slow_answer_holds_up_no_more_than_a_few_blocks():
    read, done = [], threading.Event()

    def endless():
        for number in range(10**6):
            read.append(number)
            yield bulk.example("slow" if number == 0 else "x", ("text",), "")

    def predict(values):
        if "slow" in values:
            done.wait(5)
        return lengths(values)

    answered = bulk.answers(predict, endless(), size=10, concurrency=3)
    threading.Timer(0.3, done.set).start()
    for _ in range(20):
        next(answered)
        assert len(read) <= 10 * (20 + bulk.AHEAD * 3)
    answered.close()
    most = len(read)
    time.sleep(0.05)
    assert len(read) == most < 10 * 60


def test_the_first_fault_in_order_is_raised_after_what_comes_before():
    def predict(values):
        time.sleep(0.1 if "late" in values[0] else 0.0)
        return lengths(values)

    answered = bulk.answers(predict, examples(["a", "late bad", "bad"]), size=1, concurrency=3)
    assert next(answered)[1] == [{"text": "a", "score": 1.0}]
    with pytest.raises(InputError, match="f, line 2: http://x answers 400: no"):
        next(answered)


# --- what is refused ---


def test_a_refused_line_is_found_and_named():
    asked = []

    def predict(values):
        asked.append(len(values))
        return lengths(values)

    texts = ["good"] * 100
    texts[77] = "bad"
    with pytest.raises(InputError, match=r"^f, line 78: http://x answers 400: no \(--skip_errors"):
        rows_of(bulk.answers(predict, examples(texts), size=64))
    assert len(asked) < 2 + 2 * 6  # halves, not one by one


def test_refused_lines_are_skipped_when_told_so():
    texts = ["bad", "good", "bad", "bad", "fine"]
    answered = bulk.answers(lengths, examples(texts), size=4, skip_errors=True)
    assert rows_of(answered) == [
        {"text": text, "error": "400: no"}
        if text == "bad"
        else {"text": text, "score": float(len(text))}
        for text in texts
    ]


def test_a_server_that_is_away_is_no_fault_of_a_line():
    def away(values):
        raise RequestError("http://x answers 503: busy (asked 7 times)", passing=True)

    with pytest.raises(InputError, match="f, line 1 and the 3 after it: http://x answers 503"):
        rows_of(bulk.answers(away, examples("abcdef"), size=4, skip_errors=True))


# --- lines ---


def values(data, names, before=0):
    return [each.value for each in bulk.read_lines(io.BytesIO(data), "x", names, before)]


def test_lines_are_lines_whatever_they_hold():
    """Only a line feed ends a line: not U+2028, not a form feed, not NUL."""
    data = "a\u2028b\x0cc\x00\r\n\n\u0085".encode()
    assert values(data, ("text",)) == ["a\u2028b\x0cc\x00", "", "\u0085"]
    assert [each.size for each in bulk.read_lines(io.BytesIO(data), "x", None)] == [10, 1, 2]


def test_columns():
    assert values(b"b\tc\n", ("text",)) == ["b\tc"]
    assert values(b"b\tc\n", ("text_a", "text_b")) == [("b", "c")]
    assert values(b"a\tb\tc\n", ("context", "endings")) == [("a", ["b", "c"])]
    (choice,) = bulk.read_lines(io.BytesIO(b"a\tb\tc\n"), "x", ("context", "endings"))
    assert choice.cells == {"context": "a", "endings": ["b", "c"]}


@pytest.mark.parametrize(
    "names, words",
    [
        (None, "a tab, and the model does not say .* --text_columns=2"),
        (("text_a", "text_b"), r"3 column\(s\); this model takes text_a and text_b, with a tab"),
    ],
)
def test_a_line_of_another_form(names, words):
    data = b"ok\n" if names is None else b"o\tk\n"
    lines = list(bulk.read_lines(io.BytesIO(data + b"a\tb\tc\n"), "x", names, before=10))
    assert not lines[0].fault and lines[1].where == "x, line 12"

    def ones(values):
        return [{"score": 1.0}] * len(values)

    with pytest.raises(InputError, match="x, line 12: " + words):
        rows_of(bulk.answers(ones, iter(lines), size=8))
    rows = rows_of(bulk.answers(ones, iter(lines), size=8, skip_errors=True))
    assert rows[0]["score"] == 1.0
    assert rows[1] == {"text": "a\tb\tc", "error": lines[1].fault}


# --- a file that goes on ---


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    draw = random.Random(3)
    file.write_text("".join(f"{'é' * draw.randrange(40)} {i}\n" for i in range(500)))
    return file


def answer_file(texts, out, predict=lengths, about=None, **options):
    some = {"size": 8, "concurrency": 2, "progress": False} | options
    return bulk.answer_file(predict, str(texts), str(out), ("text",), about or {}, **some)


def test_the_whole_file(texts, tmp_path):
    out = tmp_path / "new" / "out.jsonl"
    counts = answer_file(texts, out)
    assert (counts["lines"], counts["errors"]) == (500, 0)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == texts.read_text().splitlines()
    assert [row["score"] for row in rows] == [len(row["text"]) for row in rows]
    assert os.listdir(out.parent) == ["out.jsonl"]


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert answer_file(tmp_path / "empty", tmp_path / "out")["lines"] == 0
    assert (tmp_path / "out").read_bytes() == b""


def survives(texts, out, steps, commit_seconds=1e9):
    """Whether a process that dies at the n-th thing it does to the disk comes to the end.

    It dies as of kill -9: what it has not handed over to the system is lost.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = [steps]

    def step(function):
        def dying(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*args, **kwargs)

        return dying

    try:
        resumable.COMMIT_SECONDS = commit_seconds
        for owner, name in (
            *((os, "fsync"), (os, "replace"), (pathlib.Path, "unlink")),
            *((ResumableFile, "write"), (ResumableFile, "commit")),
        ):
            setattr(owner, name, step(getattr(owner, name)))
        answer_file(texts, out)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_it_ends_with_the_same_bytes(texts, tmp_path, seed):
    answer_file(texts, tmp_path / "whole.jsonl")
    out = tmp_path / "out.jsonl"
    draw = random.Random(seed)
    kills = 0
    while not survives(texts, out, draw.randrange(60), commit_seconds=0.0):
        kills += 1
        assert kills < 100
    assert kills > 4  # 63 blocks, and an entry of the journal after each takes 4 steps
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "texts.txt", "whole.jsonl"]


@pytest.mark.parametrize("step", range(7))
def test_killed_at_each_step_of_the_end(texts, tmp_path, step):
    answer_file(texts, tmp_path / "whole.jsonl")
    out = tmp_path / "out.jsonl"
    assert not survives(texts, out, 63 + step)  # 63 blocks are written before
    finished = step == 6  # all but the end of the journal, which may then be of another model
    answer_file(texts, out, about={"model": 1} if finished else None)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "texts.txt", "whole.jsonl"]


def begin(texts, out, lines=100):
    """What an interrupted run leaves."""
    left = [lines // 8]

    def predict(values):
        left[0] -= 1
        if left[0] < 0:
            raise InputError("the model is gone")
        return lengths(values)

    with pytest.raises(InputError, match=f"is gone The same command goes on after line {lines}"):
        answer_file(texts, out, predict, concurrency=1)
    assert not out.exists()


def test_what_is_kept_is_not_asked_again(texts, tmp_path):
    begin(texts, tmp_path / "out", 160)
    asked = []

    def predict(values):
        asked.extend(values)
        return lengths(values)

    answer_file(texts, tmp_path / "out", predict, concurrency=1)
    lines = texts.read_text().splitlines()
    assert asked == lines[:8] + lines[160:]  # the first block tells whether it is the same model


def test_nothing_done_is_nothing_left(texts, tmp_path):
    def gone(values):
        raise InputError("the model is gone")

    with pytest.raises(InputError, match="is gone$"):
        answer_file(texts, tmp_path / "out", gone)
    assert os.listdir(tmp_path) == ["texts.txt"]


def test_a_changed_input_is_refused(texts, tmp_path):
    begin(texts, tmp_path / "out", 160)
    with open(texts, "a") as file:
        file.write("one more\n")
    with pytest.raises(InputError, match=r"out was begun with another input: .*500.*501.*delete"):
        answer_file(texts, tmp_path / "out")


def test_another_model_is_refused(texts, tmp_path):
    begin(texts, tmp_path / "out", 160)
    with pytest.raises(InputError, match=r"begun with another model: null, and now it is \{\"v\""):
        answer_file(texts, tmp_path / "out", about={"model": {"v": 2}})

    def other(values):
        return [{"score": row["score"] + 0.5} for row in lengths(values)]

    with pytest.raises(InputError, match=r"texts.txt, line 1: the model answers otherwise"):
        answer_file(texts, tmp_path / "out", other)

    def nearly(values):  # another order of additions
        return [{"score": row["score"] * (1 + 1e-6)} for row in lengths(values)]

    answer_file(texts, tmp_path / "out", nearly)


def test_two_at_once_are_refused(texts, tmp_path):
    with ResumableFile(tmp_path / "out", {}):
        with pytest.raises(InputError, match="another process is writing it"):
            answer_file(texts, tmp_path / "out")


@pytest.mark.parametrize(
    "journal, words",
    [
        ("", "not JSON"),
        ("[]", "not the journal of a file; delete it and out.partial"),
        ('{"about": {}, "bytes": "x", "counts": {}, "finished": false}', "not the journal"),
        ('{"about": {}, "bytes": 1, "counts": [], "finished": false}', "not the journal"),
        ('{"about": {}, "bytes": 99, "counts": {}, "finished": false}', "not as long as it"),
    ],
    ids=["empty", "list", "words", "counts", "short"],
)
def test_a_journal_that_is_none(tmp_path, journal, words):
    (tmp_path / "out.journal").write_text(journal)
    with pytest.raises(InputError, match=words):
        ResumableFile(tmp_path / "out", {}).__enter__()
    assert os.listdir(tmp_path) == ["out.journal"]


def test_places_where_no_answers_can_go(texts, tmp_path):
    with pytest.raises(InputError, match="is the --input_file; choose another"):
        answer_file(texts, texts)
    with pytest.raises(InputError, match="is no plain file; choose another"):
        answer_file(texts, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    holder = os.open(tmp_path / "pipe", os.O_RDWR)
    with pytest.raises(InputError, match="pipe: --output_file needs a plain file"):
        answer_file(tmp_path / "pipe", tmp_path / "out")
    os.close(holder)
