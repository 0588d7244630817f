"""The predict command: three ways to ask, one shape of answers; faults in one line."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bert_keras
from bert_keras.errors import InputError
from bert_keras.serving.client import retries
from bert_keras.serving.export.export import export_saved_model
from bert_keras.serving.server.server import ModelServer
from tests.serving.conftest import wait_until
from tests.serving.fake_server import FakeServer
from tests.serving.tiny_model import tiny_text_model
from tools import command

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The flag for each way to ask the same model."""
    folder = tmp_path_factory.mktemp("model")
    model = tiny_text_model(folder / "vocabulary", max_seq_length=32)
    bert_keras.save(model, folder / "model")
    exported = export_saved_model(model, folder / "export")
    with ModelServer("tiny", exported.parent, poll_seconds=0) as server:
        yield {
            "directory": f"--model_dir={folder / 'model'}",
            "savedmodel": f"--savedmodel_dir={exported.parent}",
            "rest": f"--server={server.rest_url}",
            "grpc": f"--server=grpc://{server.grpc_address}/tiny",
        }


def ask(capsys, *arguments):
    command.call("predict", arguments)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_way_prints_the_same(places, capsys, tmp_path):
    file = tmp_path / "texts.txt"
    texts = ["the film was good", "", "très\tdull", "a\u0000b", "bad " * 100]
    file.write_bytes("\n".join(texts).encode() + b"\r\nbroken \xff\xfe good\n")
    one = "--text_columns=1"  # one of the texts has a tab
    answers = {way: ask(capsys, flag, f"--input_file={file}", one) for way, flag in places.items()}
    expected = answers["directory"]
    assert [answer["text"] for answer in expected] == [*texts, "broken \ufffd\ufffd good"]
    assert list(expected[0]) == ["text", "label", "probabilities", "logits"]
    assert len({answer["label"] for answer in expected}) > 1
    for found in answers.values():
        assert [list(answer) for answer in found] == [list(answer) for answer in expected]
        for one, other in zip(found, expected):
            assert (one["text"], one["label"]) == (other["text"], other["label"])
            assert list(one["probabilities"]) == list(other["probabilities"])
            np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-4, rtol=0)


def test_texts_by_flag(places, capsys):
    answers = ask(capsys, places["savedmodel"], "--text=good, and bad", "--text=dull")
    assert [answer["text"] for answer in answers] == ["good, and bad", "dull"]


def test_texts_from_standard_input(places, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\ndull\n")))
    assert [answer["text"] for answer in ask(capsys, places["rest"])] == ["good", "dull"]


def test_pairs(tmp_path, capsys):
    model = tiny_text_model(tmp_path / "v", "regression", text_columns=2)
    bert_keras.save(model, tmp_path / "model")
    exported = export_saved_model(model, tmp_path / "export")
    file = tmp_path / "pairs.tsv"
    file.write_text("good film\tdull film\nthe river\tthe bank\n")
    for flag in (f"--model_dir={tmp_path / 'model'}", f"--savedmodel_dir={exported}"):
        by_file = ask(capsys, flag, f"--input_file={file}")
        by_flag = ask(
            capsys, flag, "--text=good film", "--text_b=dull film", "--text=the river",
            "--text_b=the bank",
        )  # fmt: skip
        assert list(by_file[0]) == ["text_a", "text_b", "score"]
        assert [a["text_b"] for a in by_file] == ["dull film", "the bank"]
        assert [a["score"] for a in by_flag] == pytest.approx([a["score"] for a in by_file])
    file.write_text("a\tb\nalone\n")
    with pytest.raises(
        InputError, match=r"pairs.tsv, line 2: 1 column\(s\).* takes text_a and text_b"
    ):
        ask(capsys, flag, f"--input_file={file}")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--text=a"], "give one of --model_dir, --savedmodel_dir, --server; got none"),
        (["--text=a", "--model_dir=x", "--server=y"], "got --model_dir, --server"),
        (["--text=a", "--input_file=b", "--server=y"], "not both"),
        (["--text=a", "--text=b", "--text_b=c", "--server=y"], "1 times and --text 2 times"),
        (["--text=a", "--server=y"], "expected http://host:port/v1/models/NAME"),
        (["--text=a", "--savedmodel_dir=/nowhere"], "/nowhere"),
        (["--text=a", "--model_dir=/nowhere"], "/nowhere"),
    ],
)
def test_faults(arguments, words, capsys):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        ask(capsys, *arguments)
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_one_line(places):
    done = subprocess.run(
        [sys.executable, "-m", "tools.predict", places["rest"], "--input_file=absent.txt"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "predict: error: absent.txt: No such file or directory\n"


def test_arguments_that_are_not_utf8_and_another_locale(places):
    done = subprocess.run(
        [sys.executable, "-m", "tools.predict", places["rest"], b"--text=tr\xc3\xa8s \xff good"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("utf-8"))["text"] == "très \ufffd good"


# --- files of many lines -------------------------------------------------------------------------


def fake_answers(texts):
    return "".join(
        json.dumps({"text": text, "score": float(len(text))}, ensure_ascii=False) + "\n"
        for text in texts
    )


def test_a_file_by_every_way_is_what_standard_output_gets(places, capsys, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{'good' if i % 3 else 'dull'} film {i}\n" for i in range(70)))
    some = [f"--input_file={file}", "--predict_batch_size=4"]
    for way, flag in places.items():
        more = ["--concurrency=3"] if flag.startswith("--server") else []
        command.call("predict", [flag, *some])
        expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        command.call("predict", [flag, *some, *more, f"--output_file={tmp_path / way}"])
        told = capsys.readouterr()
        assert told.out == f"Wrote {tmp_path / way}: 70 rows.\n" and "70/70" in told.err
        found = [json.loads(line) for line in (tmp_path / way).read_text().splitlines()]
        assert [(row["text"], row["label"]) for row in found] == [
            (row["text"], row["label"]) for row in expected
        ]
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5, rtol=0)


def test_killed_it_goes_on_and_ends_with_the_same_bytes(tmp_path):
    texts = [f"{'é' * (i % 7)} {i}" for i in range(240)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    with FakeServer(lambda texts, number: time.sleep(0.08)) as server:
        words = [sys.executable, "-m", "tools.predict", f"--server={server.url}"]
        words += ["--input_file=texts.txt", "--output_file=out.jsonl", "--predict_batch_size=4"]
        options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
        journal = tmp_path / "out.jsonl.journal"
        for _ in range(2):
            before = journal.read_bytes() if journal.exists() else b""
            process = subprocess.Popen([*words, "--concurrency=2"], **options)
            wait_until(lambda: journal.exists() and journal.read_bytes() != before)  # noqa: B023
            process.kill()
            assert process.wait() == -9
            assert not (tmp_path / "out.jsonl").exists()
        asked = len(server.asked)
        subprocess.run([*words, "--concurrency=2"], **options, check=True, capture_output=True)
        assert len(server.asked) - asked < 55  # of 60; what was there was not asked again
        assert set(server.paths) == {"/v1/models/fake/versions/1:predict"}
    assert (tmp_path / "out.jsonl").read_text() == fake_answers(texts)
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "texts.txt"]


def test_a_busy_server_is_asked_again(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    texts = [f"text {i}" for i in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    busy = (503, {"error": "busy"})
    with FakeServer(lambda texts, number: busy if number % 3 == 0 else None) as server:
        some = [f"--server={server.url}", f"--input_file={tmp_path / 'texts.txt'}"]
        some += ["--predict_batch_size=4", "--concurrency=2"]
        command.call("predict", some)
        assert capsys.readouterr().out == fake_answers(texts)
        with pytest.raises(
            InputError, match=r"texts.txt, line \d+ and the 3 after it: .*503: busy"
        ):
            command.call("predict", [*some, "--num_retries=0"])


def test_a_refused_line_is_named_or_skipped(capsys, tmp_path):
    texts = [f"text {i}" for i in range(40)]
    texts[29] = "bad"
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))
    refused = (400, {"error": "too bad"})
    with FakeServer(lambda texts, number: refused if "bad" in texts else None) as server:
        some = [f"--server={server.url}", f"--input_file={file}", "--predict_batch_size=4"]
        with pytest.raises(InputError, match="texts.txt, line 30: .* answers 400: too bad"):
            command.call("predict", [*some, "--concurrency=2"])
        assert capsys.readouterr().out == fake_answers(texts[:28])
        command.call("predict", [*some, "--skip_errors", f"--output_file={tmp_path / 'out'}"])
    assert capsys.readouterr().out == f"Wrote {tmp_path / 'out'}: 40 rows, 1 with an error.\n"
    lines = (tmp_path / "out").read_text().splitlines()
    assert json.loads(lines[29]) == {"text": "bad", "error": "400: too bad"}
    assert json.loads(lines[30]) == {"text": "text 30", "score": 7.0}
    assert len(lines) == 40


def test_another_version_is_refused(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(f"text {i}" for i in range(40)))
    gone = (404, {"error": "gone"})
    with FakeServer(lambda texts, number: gone if number > 8 else None) as server:
        some = [f"--server={server.url}", f"--input_file={file}", "--predict_batch_size=4"]
        some.append(f"--output_file={tmp_path / 'out'}")
        with pytest.raises(InputError, match="404: gone The same command goes on after line 32"):
            command.call("predict", some)
        server.version = 2
        with pytest.raises(InputError, match='another model: .*"version": 1.*"version": 2.*delete'):
            command.call("predict", some)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--concurrency=2", "--model_dir=x"], "--concurrency=2 needs --server"),
        (["--output_file=x", "--model_dir=x"], "--output_file needs --input_file"),
        (["--num_retries=-1", "--server=x"], "num_retries"),
        (["--timeout_seconds=0", "--server=x"], "timeout_seconds"),
    ],
)
def test_faults_of_many_lines(arguments, words):
    with pytest.raises(command.UsageError, match=words):
        command.call("predict", arguments)
