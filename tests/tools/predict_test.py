"""The predict command: three ways to ask, one shape of answers; faults in one line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bert_keras
from bert_keras.errors import InputError
from bert_keras.serving.export import export_saved_model
from bert_keras.serving.server import ModelServer
from tests.serving.tiny_model import tiny_text_model
from tools import command, predict

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


def test_lines_are_lines_whatever_they_hold():
    """Only a line feed ends a line: not U+2028, not a form feed, not NUL."""
    file = io.BytesIO("a\u2028b\x0cc\x00\r\n\n\u0085".encode())
    assert list(predict.read_lines(file, "x", ("text",))) == ["a\u2028b\x0cc\x00", "", "\u0085"]


def test_a_tab_asks_how_many_texts_a_model_takes():
    with pytest.raises(InputError, match="line 2: a tab.*--text_columns=2"):
        list(predict.read_lines(io.BytesIO(b"a\nb\tc\n"), "x", None))
    assert list(predict.read_lines(io.BytesIO(b"b\tc\n"), "x", ("text",))) == ["b\tc"]
    pair = list(predict.read_lines(io.BytesIO(b"b\tc\n"), "x", ("text_a", "text_b")))
    assert pair == [("b", "c")]
    choice = list(predict.read_lines(io.BytesIO(b"a\tb\tc\n"), "x", ("context", "endings")))
    assert choice == [("a", ["b", "c"])]
