"""Suites by the real command on a tiny BERT with random weights; their tables on given results."""

import json
import os
import shutil
import zipfile

import keras
import pytest

from bert_keras.errors import InputError
from tasks import suite
from tasks.finetune_settings import FinetuneSettings
from tests.small_networks import write_pretrained
from tools import command

GOOD = ["the film was good", "i saw a good film", "very good", "good and very good"]
BAD = ["the film was bad", "i saw a dull film", "very bad", "bad and very dull"]
ROWS = [(text, label) for pair in zip(GOOD, BAD) for text, label in zip(pair, (1, 0))]
SMALL = ["--max_seq_length=12", "--train_batch_size=4", "--num_train_epochs=1"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    words = sorted({word for text in GOOD + BAD for word in text.split()})
    sizes = {"num_hidden_layers": 1, "max_position_embeddings": 16}
    return write_pretrained(tmp_path_factory.mktemp("pretrained"), words, **sizes)


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), "utf-8")


def write_glue(folder):
    """SST-2, CoLA, MNLI and AX of a few rows, in GLUE's layout."""
    for split in ("train", "dev"):
        write(folder / f"SST-2/{split}.tsv", ("sentence", "label"), *ROWS)
        write(folder / f"CoLA/{split}.tsv", *(("x", label, "", text) for text, label in ROWS))
    for name in ("SST-2", "CoLA"):
        write(folder / name / "test.tsv", ("index", "sentence"), (0, "good film"), (1, "dull"))
    pairs = [
        (a, b, ("entailment", "neutral", "contradiction")[k % 3])
        for k, (a, b) in enumerate(zip(GOOD, BAD))
    ]
    for split in ("train", "dev_matched", "dev_mismatched"):
        write(folder / f"MNLI/{split}.tsv", ("sentence1", "sentence2", "gold_label"), *pairs)
    unlabelled = [("index", "sentence1", "sentence2"), (0, "very good", "very bad")]
    for name in ("MNLI/test_matched", "MNLI/test_mismatched", "AX/diagnostic"):
        write(folder / f"{name}.tsv", *unlabelled)
    write(folder / "MNLI/test_mismatched.tsv", *unlabelled, (1, "good", "dull"))
    return folder


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_glue(tmp_path_factory.mktemp("data") / "glue")


def call(pretrained, data_dir, output_dir, *more):
    flags = [f"--data_dir={data_dir}", f"--output_dir={output_dir}", *SMALL, *more]
    flags += [f"--init_checkpoint={pretrained}", "--do_train", "--do_eval"]
    command.call("run_finetuning", flags)
    return output_dir


TWO = ("--task_name=sst-2,CoLA", "--num_seeds=2", "--random_seed=7", "--do_predict")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pretrained, glue):
    """Two tasks of two seeds, and the leaderboard's zip; tests do not touch it."""
    folder = tmp_path_factory.mktemp("finished")
    return call(pretrained, glue, folder / "out", *TWO, f"--submission_file={folder / 'glue.zip'}")


@pytest.fixture
def again(monkeypatch, finished, pretrained, glue, tmp_path):
    """A copy of `finished`, and the same command on it that tells which runs were done."""
    done, finetune = [], suite.finetune

    def counted(task, folder, *arguments, **options):
        done.append(str(folder.relative_to(tmp_path / "out")))
        return finetune(task, folder, *arguments, **options)

    monkeypatch.setattr(suite, "finetune", counted)
    out = shutil.copytree(finished, tmp_path / "out")

    def run(*more):
        done.clear()
        call(pretrained, glue, out, *TWO, *more)
        return list(done)

    return run


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_each_run_is_that_of_finetune_alone(finished, pretrained, glue, tmp_path):
    alone = ["--task_name=cola", "--random_seed=8", "--do_predict"]
    lone = call(pretrained, glue / "CoLA", tmp_path / "lone", *alone)
    last = finished / "cola/seed-8"
    names = {path.name for path in lone.iterdir()}
    assert names == {path.name for path in last.iterdir()}
    assert "summary.json" not in names
    for name in ("model.safetensors", "config.json", "test_results.tsv", "task.json"):
        assert (last / name).read_bytes() == (lone / name).read_bytes()
    weights = "model.safetensors"
    assert (last / weights).read_bytes() != (finished / "cola/seed-7" / weights).read_bytes()


def test_the_summary_is_of_the_runs(finished):
    summary = read(finished / "summary.json")
    assert list(summary["tasks"]) == ["sst-2", "cola"]
    assert summary["glue_score"] is None
    for name, metric in (("sst-2", "accuracy"), ("cola", "matthews")):
        row = summary["tasks"][name]
        results = [read(finished / f"{name}/seed-{s}/eval_results.json") for s in (7, 8)]
        values = [each[metric] for each in results]
        found = row["metrics"][metric]
        assert found["mean"] == pytest.approx(sum(values) / 2)
        assert found["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert found["best"] == max(values)
        assert row["best"]["seed"] == found["best_seed"] == 7 + values.index(max(values))
        assert row["best"]["model"] == str(finished / f"{name}/seed-{found['best_seed']}")
        seconds = sum(each["seconds"] + each["training"]["seconds"] for each in results)
        assert row["seconds"] == pytest.approx(seconds, abs=0.01)


def test_the_zip_has_the_best_seeds_predictions(finished):
    summary = read(finished / "summary.json")
    with zipfile.ZipFile(finished.parent / "glue.zip") as archive:
        assert sorted(archive.namelist()) == ["CoLA.tsv", "SST-2.tsv"]
        for name in ("CoLA", "SST-2"):
            seed = summary["tasks"][name.lower()]["best"]["seed"]
            lines = (finished / f"{name.lower()}/seed-{seed}/test_results.tsv").read_text()
            positive = ("positive", "acceptable")
            decided = [int(line.split("\t")[1] in positive) for line in lines.splitlines()[1:]]
            expected = "".join(f"{k}\t{label}\n" for k, label in enumerate(decided))
            assert archive.read(f"{name}.tsv").decode() == f"index\tprediction\n{expected}"


def test_what_is_finished_is_read_and_what_is_not_is_done(again, tmp_path, capsys):
    out = tmp_path / "out"
    before, weights = read(out / "summary.json"), (out / "sst-2/seed-8/model.safetensors")
    bits = weights.read_bytes()
    assert again() == []
    after = read(out / "summary.json")
    assert [row["metrics"] for row in after["tasks"].values()] == [
        row["metrics"] for row in before["tasks"].values()
    ]
    assert "is finished" in capsys.readouterr().out

    shutil.rmtree(out / "cola/seed-8")  # killed before its last run, and in the one before
    (out / "sst-2/seed-8/eval_results.json").unlink()
    assert again() == ["sst-2/seed-8", "cola/seed-8"]
    assert weights.read_bytes() == bits
    assert read(out / "sst-2/seed-8/eval_results.json")["training"]["resumed_from"] == 2


def test_what_another_command_left_is_done_again(again, glue, tmp_path):
    out = tmp_path / "out"
    predictions = out / "sst-2/seed-7/test_results.tsv"
    os.utime(predictions, ns=(0, 0))  # older than its model's evaluation
    assert again() == ["sst-2/seed-7"]
    test, dev = glue / "SST-2/test.tsv", glue / "CoLA/dev.tsv"
    kept = {path: path.read_bytes() for path in (test, dev)}
    before = read(out / "cola/seed-7/eval_results.json")["accuracy"]
    try:
        write(test, ("index", "sentence"), (0, "very dull"))
        write(dev, *(("x", 1 - label, "", text) for text, label in ROWS))
        assert again() == [f"{name}/seed-{seed}" for name in ("sst-2", "cola") for seed in (7, 8)]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert len(predictions.read_text().splitlines()) == 2
    assert read(out / "cola/seed-7/eval_results.json")["accuracy"] == pytest.approx(1 - before)
    with pytest.raises(InputError, match="holds a run with learning_rate="):
        again("--learning_rate=0.1")


def test_glue_is_what_is_there_and_ax_is_mnlis(pretrained, glue, tmp_path, capsys):
    data = tmp_path / "glue"
    shutil.copytree(glue / "MNLI", data / "mnli")
    shutil.copytree(glue / "AX", data / "AX")
    zipped = tmp_path / "glue.zip"
    more = ("--task_name=glue", "--do_predict", f"--submission_file={zipped}")
    out = call(pretrained, data, tmp_path / "out", *more)
    said = capsys.readouterr().out
    assert said.count("is left out: no such folder") == 8
    assert (out / "mnli/model.safetensors").is_file()
    assert not (out / "ax/model.safetensors").exists()
    mnli, ax = (read(out / "summary.json")["tasks"][name] for name in ("mnli", "ax"))
    assert list(mnli["metrics"]) == ["accuracy", "dev_mismatched/accuracy"]
    assert (ax["metrics"], ax["best"]["model"]) == ({}, str(out / "mnli"))
    assert read(out / "ax/run.json")["init_checkpoint"] == str(out / "mnli")
    with zipfile.ZipFile(zipped) as archive:
        rows = {name: archive.read(name).count(b"\n") - 1 for name in archive.namelist()}
    assert rows == {"MNLI-m.tsv": 1, "MNLI-mm.tsv": 2, "AX.tsv": 1}


@pytest.fixture
def given(monkeypatch, tmp_path):
    """`run_suite` over all of GLUE without training: each run has the accuracy of its seed."""
    scores, of_ax = {1: 0.5, 2: 0.75, 3: 0.25}, {1: 0.5, 2: 0.25, 3: 0.75}

    def finetune(task, folder, settings, *, do_train, **options):
        folder.mkdir(parents=True)
        label, score = ("entailment", 2.34567) if settings.random_seed == 2 else ("neutral", 1.0)
        decided = score if task.name == "sts-b" else label
        write(folder / "test_results.tsv", ("id", "label", "p"), (7, decided, 0.5))
        score = (of_ax if task.name == "ax" else scores)[settings.random_seed]
        measured = dict.fromkeys(task.metrics, score) | {"seconds": 1.0}
        splits = dict.fromkeys(task.dev_splits[1:], measured)
        return measured | {"splits": splits, "training": {"seconds": 2.0}}

    monkeypatch.setattr(suite, "finetune", finetune)
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # nothing to clear, for seconds
    for name in (*suite.GLUE, "text_classification"):
        for split in ("train", "dev", "dev_matched", "dev_mismatched", "diagnostic-full"):
            write(tmp_path / "data" / name.upper().replace("-", "") / f"{split}.tsv")

    def run(names, **options):
        settings = FinetuneSettings(init_checkpoint="x", random_seed=1)
        flags = {"do_train": True, "do_eval": True, "num_seeds": 3} | options
        return suite.run_suite(names, tmp_path / "data", tmp_path / "out", settings, **flags)

    return run


def test_the_numbers_of_three_seeds(given, tmp_path):
    said = []
    summary = given(["glue"], say=said.append)
    assert list(summary["tasks"]) == list(suite.GLUE)
    for name, row in summary["tasks"].items():
        for found in row["metrics"].values():
            # By hand: the squares of 0, 0.25 and -0.25 by 2.
            best_seed = 3 if name == "ax" else 2
            assert found == {"mean": 0.5, "std": 0.25, "best": 0.75, "best_seed": best_seed}
        assert row["best"]["seed"] == 2  # AX goes with its MNLI
    assert summary["tasks"]["ax"]["best"]["model"] == str(tmp_path / "out/mnli/seed-2")
    assert summary["tasks"]["mnli"]["seconds"] == 12.0  # two dev sets
    assert summary["glue_score"] == {"mean": 0.5, "best": 0.75}
    assert read(tmp_path / "out/summary.json") == summary

    head, *rows = (
        line.split("\t") for line in (tmp_path / "out/summary.tsv").read_text().splitlines()
    )
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(table) == list(suite.GLUE)
    assert table["cola"]["matthews_mean"] == "0.500000"
    assert table["sst-2"]["matthews_mean"] == ""
    assert (table["rte"]["seeds"], table["rte"]["best_seed"]) == ("3", "2")
    assert "rte: accuracy 0.5000 +- 0.2500 (best 0.7500, seed 2); 3 runs" in "\n".join(said)
    assert "GLUE: mean 0.5000, best 0.7500" in said


def test_the_zip_is_of_the_best_run(given, tmp_path):
    zipped = tmp_path / "glue.zip"
    for name in ("RTE", "STSB"):
        write(tmp_path / f"data/{name}/test.tsv")
    given(["rte", "sts-b"], do_predict=True, submission_file=zipped, say=(said := []).append)
    with zipfile.ZipFile(zipped) as archive:
        assert archive.read("RTE.tsv") == b"index\tprediction\n0\tentailment\n"
        assert archive.read("STS-B.tsv") == b"index\tprediction\n0\t2.346\n"
    assert f"{zipped}: RTE: 1 rows, the official test file has 3000" in said


def test_ax_without_labels_is_for_prediction_alone(given, tmp_path):
    (tmp_path / "data/AX/diagnostic-full.tsv").unlink()
    said = []
    assert "ax" not in given(["mnli", "ax"], say=said.append)["tasks"]
    assert f"{tmp_path / 'data/AX'}: has no labels; ax is left out without --do_predict" in said


def test_the_lowest_error_is_the_best(given, tmp_path):
    options = {"metrics": ("mean_squared_error", "pearson")}
    shutil.copytree(tmp_path / "data/STSB", tmp_path / "data", dirs_exist_ok=True)
    row = given(["sts-b"], make_task_options=options)["tasks"]["sts-b"]
    assert row["best"]["seed"] == row["metrics"]["mean_squared_error"]["best_seed"] == 3
    assert row["metrics"]["pearson"]["best_seed"] == 2
    assert (tmp_path / "out/seed-1").is_dir()  # one task has no folder of its own


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        ("rte,cola", {"make_task_options": {"files": {"train": "x"}}}, "--train_file: for one"),
        ("rte,cola", {"make_task_options": {"metrics": ["f1"]}}, "--metrics: for one task alone"),
        ("rte,cola", {"do_eval": False}, "give --do_eval"),
        ("rte,cola", {"do_train": False}, "--init_checkpoint: one model for many runs"),
        ("rte,cola", {"num_seeds": 0}, "--num_seeds=0"),
        ("rte,cola", {"submission_file": "x.zip"}, "--submission_file needs --do_predict"),
        ("rte,RTE", {}, "--task_name=rte,RTE: names a task twice"),
        ("rte,xnli", {}, "xnli: no such folder"),
        ("rte,ax", {}, "ax: no mnli, whose model it is for"),
        ("rte,squat", {}, "no such task"),
        ("rte,cola", {"do_predict": True}, "no test.tsv"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_faults_before_the_first_run(given, tmp_path, names, options, says):
    with pytest.raises(InputError) as caught:
        given(names.split(","), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_lone_run_is_not_written_into(given, tmp_path):
    write(tmp_path / "out/rte/run.json")
    with pytest.raises(InputError, match="rte holds a lone run"):
        given(["rte", "cola"])
    with pytest.raises(InputError, match="rte: holds a lone run"):
        suite.run_suite(
            ["rte"], tmp_path, tmp_path / "out/rte", FinetuneSettings(), num_seeds=1, do_eval=True
        )
