"""plot_metrics: numbers of hand-written runs, a picture, and one line for what is wrong."""

import json
import struct

import pytest

from bert_keras.errors import InputError
from tools import command


def write_run(folder, *records):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def runs(tmp_path):
    plain = write_run(
        tmp_path / "plain",
        {"step": 1, "loss": 9.0},
        {"step": 2, "loss": 8.0, "evaluation": {"loss": 7.5, "entropy": 6.25}},
        {"step": 4, "evaluation": {"loss": 7.125, "entropy": 6.25}},
    )
    trained = write_run(tmp_path / "trained", {"step": 3, "loss": 5.5}, {"step": 6, "loss": 5.25})
    return plain, trained


def call(runs, output_file, **flags):
    values = {"run_dir": ",".join(map(str, runs)), "metric": "loss", "output_file": output_file}
    return command.call("plot_metrics", [f"--{n}={v}" for n, v in {**values, **flags}.items()])


def test_held_out_values_come_before_those_of_training(runs, tmp_path, capsys):
    call(runs, tmp_path / "a.png", mark="entropy")
    assert capsys.readouterr().out.splitlines() == [
        "plain    loss 7.1250 at step 4",
        "trained  loss 5.2500 at step 6",
        "entropy  6.2500",
        f"wrote {tmp_path / 'a.png'}",
    ]
    picture = (tmp_path / "a.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">2I", picture[16:24]) == (840, 540)
    call(runs, tmp_path / "b.png", mark="entropy")
    assert (tmp_path / "b.png").read_bytes() == picture
    call(runs[:1], tmp_path / "c.png", mark="entropy")
    assert (tmp_path / "c.png").read_bytes() != picture


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"metric": "f1"}, "plain/metrics.jsonl: has no f1; it has entropy, loss, step"),
        ({"mark": "f1"}, "plain/metrics.jsonl: has no f1"),
        ({"run_dir": "nowhere"}, "nowhere/metrics.jsonl: cannot be read"),
        ({"run_dir": "a/x,b/x"}, "--run_dir=a/x,b/x: two folders of one name"),
    ],
)
def test_faults_are_one_line_and_nothing_is_written(runs, tmp_path, flags, said):
    with pytest.raises(InputError) as caught:
        call(runs, tmp_path / "a.png", **flags)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    "line", ['{"loss": 3.0}', '{"loss": 3', "[1]", '{"step": 1, "evaluation": 3}']
)
def test_a_broken_line_is_named(runs, tmp_path, line):
    with (runs[1] / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="trained/metrics.jsonl, line 3: expected a JSON object"):
        call(runs, tmp_path / "a.png")
