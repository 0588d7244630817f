"""The real main of run_finetuning, on a tiny BERT and on this project's samples."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from bert_keras import checkpoint
from bert_keras.errors import InputError
from tests.small_networks import write_pretrained
from tools import command, run_finetuning

ROOT = pathlib.Path(command.__file__).resolve().parents[1]
REVIEWS = ROOT / "samples" / "reviews"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A BERT of 2 layers with random weights, whose vocabulary is the letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"##{letter}" for letter in letters), ".", ",", "'"]
    return write_pretrained(tmp_path_factory.mktemp("pretrained"), words)


def flags(pretrained, output_dir, *more):
    return [
        "--task_name=text_classification",
        f"--data_dir={REVIEWS}",
        f"--init_checkpoint={pretrained}",
        f"--output_dir={output_dir}",
        "--max_seq_length=32",
        *more,
    ]


def test_train_evaluate_predict(pretrained, tmp_path, capsys):
    more = ["--do_train", "--do_eval", "--do_predict", "--num_train_epochs=0.5"]
    command.call("run_finetuning", flags(pretrained, tmp_path / "out", *more))
    said = capsys.readouterr().out
    assert "2 labels: negative 125, positive 125" in said
    # 250 rows by 32 are 8 batches, half an epoch 4. With letters for words most rows are too long.
    assert "training on 250 rows, 4 steps of 32; " in said
    assert "of the rows are truncated" in said
    results = json.loads((tmp_path / "out/eval_results.json").read_text())
    assert results["examples"] == 50
    assert results["training"]["truncated"] > 200
    rows = (tmp_path / "out/test_results.tsv").read_text().splitlines()
    assert rows[0] == "id\tlabel\tnegative\tpositive"
    assert [row.split("\t")[0] for row in rows[1:]] == [str(k) for k in range(20)]
    checkpoint.load(tmp_path / "out").predict(["It works."])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--task_name=rte", "--do_train"], "no column 'sentence1'; the file has: sentence"),
        (["--do_train", "--metrics=f2"], "--metrics: unknown metric 'f2'"),
        (["--do_train", "--label_column=mood"], "no column 'mood' (asked for by --label_column)"),
        (["--do_train", "--labels=good,bad"], "unknown label 'positive', expected one of: good"),
        (["--do_train", "--train_file=none.tsv"], "none.tsv: no such file"),
        (["--task_name=squat", "--do_train"], "--task_name=squat: no such task"),
        (["--task_name=rte", "--labels=a,b"], "--labels is for text_classification"),
        (["--do_predict", "--init_checkpoint=nowhere"], "nowhere"),
        ([], "nothing to do"),
    ],
)
def test_faults(pretrained, tmp_path, more, says):
    with pytest.raises(InputError) as caught:
        command.call("run_finetuning", flags(pretrained, tmp_path / "out", *more))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tools.run_finetuning", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_to_the_end(arguments):
    process = start(arguments)
    process.communicate()
    return process.returncode


def test_a_fault_is_one_line_and_status_1(pretrained, tmp_path):
    data = tmp_path / "train.tsv"
    data.write_bytes(b"text\tlabel\ngood\t1\nb\xffd\t0\n")
    process = start(flags(pretrained, tmp_path / "out", "--do_train", f"--train_file={data}"))
    _, complaint = process.communicate()
    assert process.returncode == 1
    expected = f"run_finetuning: error: {data}:3: not UTF-8 (byte 0xff); convert the file to UTF-8"
    assert complaint.splitlines() == [expected]
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_points_ends_with_the_same_bits(pretrained, tmp_path, seed):
    more = ["--do_train", "--do_eval", "--do_predict", "--save_checkpoints_steps=7"]
    more += ["--train_batch_size=8", "--num_train_epochs=14", f"--random_seed={seed}"]  # 448 steps
    whole = flags(pretrained, tmp_path / "whole", *more)
    assert run_to_the_end(whole) == 0

    chance = random.Random(seed)
    cut = flags(pretrained, tmp_path / "cut", *more)
    kills = 0
    for step in sorted(chance.sample(range(1, 420), 10)):
        process = start(cut)
        while process.poll() is None and reached(tmp_path / "cut") < step:
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.1))
        if process.poll() is None:
            kills += 1
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert kills >= 8  # the last points may lie beyond the end
    assert run_to_the_end(cut) == 0
    names = ("model.safetensors", "config.json", "test_results.tsv", "task.json", "vocab.txt")
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "cut").glob(".*"))  # nothing half-written is left


def reached(output_dir):
    """The last step in metrics.jsonl."""
    try:
        lines = (output_dir / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


PRETRAINING = {"bert-tiny"}  # recipes_test.py runs it.
RECIPES = sorted(p for p in (ROOT / "recipes").glob("*.flags") if p.stem not in PRETRAINING)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_flags_that_there_are(path):
    from tasks import task_class

    values = command.parse(run_finetuning.define_flags, ["run", f"--flagfile={path}"])
    task = path.stem.removesuffix("-features")
    assert task_class(values.task_name).name == values.task_name == task
    assert values.do_train
    assert values.do_eval
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("python -m tools.run_finetuning --flagfile=recipes/", "# price", "# result"):
        assert any(word in line for line in comments)


def test_help_names_every_task():
    from tasks import TASKS

    values = command.parse(run_finetuning.define_flags, ["run", "--task_name=a", "--output_dir=b"])
    for name in TASKS:
        assert name in values["task_name"].help


def test_defaults_are_googles():
    values = command.parse(run_finetuning.define_flags, ["run", "--task_name=a", "--output_dir=b"])
    expected = {
        "max_seq_length": None,  # 128, or 384 for questions: the task says
        "train_batch_size": 32,
        "eval_batch_size": 8,
        "predict_batch_size": 8,
        "learning_rate": 5e-5,
        "num_train_epochs": 3.0,
        "warmup_proportion": 0.1,
        "save_checkpoints_steps": 1000,
        "do_train": False,
        "do_eval": False,
        "do_predict": False,
    }
    assert {name: values[name].value for name in expected} == expected
    assert values.dtype_policy == values.dtype == "float32"
