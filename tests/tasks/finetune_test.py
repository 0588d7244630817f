"""The whole way on a tiny BERT with random weights."""

import gc
import json
import shutil

import keras
import numpy as np
import pytest

import tasks
from bert_keras import checkpoint, training
from bert_keras.data import features
from bert_keras.errors import InputError
from tests import runs
from tests.small_networks import write_pretrained

GOOD = ["the film was good", "i saw a good film", "very good", "good and very good"]
BAD = ["the film was bad", "i saw a dull film", "very bad", "bad and very dull"]
ROWS = [(text, label) for pair in zip(GOOD, BAD) for text, label in zip(pair, ("good", "bad"))]


def write_rows(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")
    return path


OPTIONS = {
    "do_train": True,
    "do_eval": True,
    "max_seq_length": 16,
    "train_batch_size": 5,
    "learning_rate": 1e-3,
    "num_train_epochs": 1.5,
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A BERT of 2 layers with random weights, and a vocabulary of the words above."""
    words = sorted({word for text in GOOD + BAD for word in text.split()})
    return write_pretrained(tmp_path_factory.mktemp("pretrained"), words)


def write_data(folder):
    folder.mkdir()
    write_rows(folder / "train.tsv", ROWS * 3)
    write_rows(folder / "dev.tsv", ROWS)
    (folder / "test.tsv").write_text("index\ttext\n3\tgood film\n1\tdull\n", "utf-8")
    return folder


@pytest.fixture
def data_dir(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture
def run(tmp_path, pretrained, data_dir):
    """Runs on `data_dir` with small defaults, into a folder of `tmp_path`."""

    def call(output_dir="out", *, task="text_classification", **options):
        defaults = OPTIONS | {"init_checkpoint": str(pretrained)}
        return runs.run(
            tasks.make_task(task, data_dir), tmp_path / output_dir, **(defaults | options)
        )

    return call


class Finished:
    """A run that the tests share and do not touch: where, its results, and what it said."""

    def __init__(self, folder, init_checkpoint):
        self.data_dir, self.path, self.said = write_data(folder / "data"), folder / "out", []
        self.init_checkpoint = str(init_checkpoint)
        self.results = self.again(
            do_predict=True, command=["run_finetuning", "--x"], say=self.said.append
        )

    def again(self, output_dir=None, **options):
        task = tasks.make_task("text_classification", self.data_dir)
        defaults = OPTIONS | {"init_checkpoint": self.init_checkpoint}
        return runs.run(task, output_dir or self.path, **(defaults | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pretrained):
    return Finished(tmp_path_factory.mktemp("finished"), pretrained)


def weights(directory):
    return (directory / "model.safetensors").read_bytes()


def complaint(function, *arguments, **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_run_leaves(finished):
    out, results = finished.path, finished.results
    assert {path.name for path in out.iterdir()} == {
        *("config.json", "model.safetensors", "vocab.txt", "tokenizer.json"),
        *("tokenizer_config.json", "task.json", "run.json", "eval_results.json"),
        *("test_results.tsv", "confusion_matrix.png", "metrics.jsonl", "checkpoints", "events"),
        *("data_report.json", "mistakes.json", "eval_report.json", "eval_report.html"),
    }
    assert json.loads((out / "eval_results.json").read_text()) == results
    assert results["examples"] == 8
    assert 0.0 <= results["accuracy"] <= 1.0
    assert results["training"]["steps"] == 8  # 24 rows by 5 are 5 batches; 1.5 epochs
    assert (out / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((out / "eval_report.json").read_text())
    assert report["mistakes"] == round((1 - results["accuracy"]) * 8)
    assert np.trace(report["confusion_matrix"]["counts"]) == round(results["accuracy"] * 8)
    dev = json.loads((out / "data_report.json").read_text())["splits"]["dev"]
    assert dev["in_train"]["count"] == 8

    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["problem_type"] == "single_label_classification"
    task = json.loads((out / "task.json").read_text())
    assert task["task_name"] == "text_classification"
    assert (task["max_seq_length"], task["text_columns"]) == (16, 1)

    record = json.loads((out / "run.json").read_text())
    assert record["command"] == ["run_finetuning", "--x"]
    assert record["random_seed"] == 12345
    assert len(record["data"]["train"]["sha256"]) == 64
    assert record["versions"]["keras"] == keras.__version__

    said = "\n".join(finished.said)
    assert "2 labels: bad 12, good 12" in said
    assert "0 (0.0%) of the rows are truncated" in said
    assert "of the tokens are padding" in said
    assert "dev: 8 of its examples (100.0%) are in train, 0 of them with another label" in said


def test_predictions_are_those_of_the_saved_model(finished):
    lines = (finished.path / "test_results.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert rows[0] == ["id", "label", "bad", "good"]
    assert [row[0] for row in rows[1:]] == ["3", "1"]
    answers = checkpoint.load(finished.path).predict(["good film", "dull"])
    for row, answer in zip(rows[1:], answers, strict=True):
        assert row[1] == answer["label"]
        expected = [answer["probabilities"][name] for name in ("bad", "good")]
        np.testing.assert_allclose([float(p) for p in row[2:]], expected, atol=2e-6)


def test_training_learns(run):
    results = run(num_train_epochs=12.0, learning_rate=3e-3)
    assert results["accuracy"] >= 0.9
    assert results["training"]["loss"] < 0.6


def test_the_same_command_again_ends_with_the_same_bits(finished, tmp_path):
    before = weights(finished.path)
    again = finished.again()
    assert again["training"]["resumed_from"] == 8
    assert weights(finished.path) == before
    finished.again(tmp_path / "seed", random_seed=7, num_train_epochs=0.2)
    finished.again(tmp_path / "other", num_train_epochs=0.2)
    assert weights(tmp_path / "seed") != weights(tmp_path / "other")


def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    batch, taken = features.Examples.batch, []

    def breaks(*arguments):
        taken.append(1)
        if len(taken) == 6:
            raise RuntimeError("power cut")
        return batch(*arguments)

    monkeypatch.setattr(features.Examples, "batch", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        finished.again(tmp_path / "cut", save_checkpoints_steps=2)
    gc.collect()
    (tmp_path / "cut/.saving-x").mkdir()
    (tmp_path / "cut/.run.json.y").write_text("{")
    (tmp_path / "cut/.mine").write_text("")
    assert not (tmp_path / "cut/config.json").exists()  # no model before its training has ended
    monkeypatch.undo()
    results = finished.again(tmp_path / "cut", save_checkpoints_steps=2)
    assert results["training"]["resumed_from"] == 4
    assert weights(tmp_path / "cut") == weights(finished.path)
    assert [path.name for path in (tmp_path / "cut").glob(".*")] == [".mine"]


def test_a_folder_holds_one_run(finished, run, tmp_path, data_dir):
    assert complaint(finished.again, learning_rate=2e-3) == (
        f"--output_dir={finished.path}: holds a run with learning_rate=0.001, this one has "
        "learning_rate=0.002; give the same flags and data to go on with it, or another folder"
    )
    write_rows(data_dir / "train.tsv", ROWS * 4)
    assert "holds a run with train_file=" in complaint(run, finished.path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    assert complaint(run, "mine").endswith(
        "mine: holds something else (thesis.tex); name a new or empty folder"
    )
    (tmp_path / "file").write_text("")
    assert complaint(run, "file").endswith("is a file, expected a folder")


def test_evaluating_a_finished_model(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "out")
    (tmp_path / "out/eval_results.json").unlink()
    record = (tmp_path / "out/run.json").read_bytes()
    options = {"do_train": False, "do_predict": True}
    alone = finished.again(tmp_path / "out", init_checkpoint=None, **options)
    for name in ("accuracy", "macro_f1", "micro_f1"):
        assert alone[name] == finished.results[name]
    assert alone["loss"] == pytest.approx(finished.results["loss"], abs=1e-6)
    assert json.loads((tmp_path / "out/eval_results.json").read_text()) == alone
    assert (tmp_path / "out/run.json").read_bytes() == record
    finished.again(tmp_path / "elsewhere", init_checkpoint=str(tmp_path / "out"), **options)
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {
        *("eval_results.json", "test_results.tsv", "confusion_matrix.png", "run.json"),
        *("mistakes.json", "eval_report.json", "eval_report.html"),
    }


def test_a_pair_and_a_score(run, tmp_path, data_dir):
    header = "index\tsentence1\tsentence2\tscore\n"
    rows = [f"{k}\t{a}\t{b}\t{k / 2:.1f}\n" for k, (a, b) in enumerate(zip(GOOD * 2, BAD * 2))]
    for split in ("train", "dev"):
        (data_dir / f"{split}.tsv").write_text(header + "".join(rows), "utf-8")
    (data_dir / "test.tsv").write_text("index\tsentence1\tsentence2\n9\tgood\tbad\n", "utf-8")
    results = run(task="sts-b", do_predict=True, num_train_epochs=0.4)
    assert {"pearson", "spearman", "pearson_spearman", "loss"} <= results.keys()
    assert (tmp_path / "out/scatter.png").is_file()
    header, row = (tmp_path / "out/test_results.tsv").read_text().splitlines()
    assert (header, row.split("\t")[0]) == ("id\tscore", "9")
    model = checkpoint.load(tmp_path / "out")
    answer = model.predict([("good", "bad")])[0]
    assert float(row.split("\t")[1]) == pytest.approx(answer["score"], abs=1e-5)
    # A step or two at this rate leave the bias of the head where it began: at the mean score.
    mean = np.mean([k / 2 for k in range(len(rows))])
    assert float(model.network.head.dense.bias[0]) == pytest.approx(mean, abs=0.05)


def test_several_labels_with_weights(run, tmp_path, data_dir):
    rows = [
        (text, json.dumps([label, "film"] if "film" in text else [label])) for text, label in ROWS
    ]
    for split in ("train", "dev"):
        write_rows(data_dir / f"{split}.tsv", rows)
    results = run(class_weights="balanced", do_predict=True, num_train_epochs=0.4)
    assert {"micro_f1", "macro_f1", "subset_accuracy"} <= results.keys()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    first = (tmp_path / "out/test_results.tsv").read_text().splitlines()[0]
    assert first.split("\t") == ["id", "labels", "bad", "film", "good"]


def test_class_weights_pull_the_predictions(run):
    results = {
        spec: run(spec.replace(":", "-"), class_weights=spec, num_train_epochs=3.0)
        for spec in ("good:50", "bad:50")
    }
    # All on one side: half of the examples are right.
    assert {result["accuracy"] for result in results.values()} == {0.5}


def test_low_rank_updates_and_bfloat16(run, tmp_path):
    run(lora_rank=2, dtype="mixed_bfloat16", gradient_accumulation_steps=2, num_train_epochs=0.4)
    model = checkpoint.load(tmp_path / "out")
    assert np.isfinite(model.predict(["good"])[0]["logits"]).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"do_train": False, "do_eval": False}, "nothing to do: give --do_train"),
        ({"init_checkpoint": None}, "--do_train needs --init_checkpoint"),
        ({"init_checkpoint": "nowhere"}, "--init_checkpoint=nowhere: no such folder"),
        ({"max_seq_length": 62}, "--max_seq_length=62: the model has max_position_embeddings=61"),
        ({"num_train_epochs": 0.0}, "--num_train_epochs=0.0 must be above 0"),
        ({"class_weights": "fine:2"}, "--class_weights: unknown label 'fine'"),
        ({"do_train": False}, "needs a fine-tuned Classifier; give --do_train to make one"),
        ({"vocab_file": "missing.txt"}, "missing.txt"),
    ],
)
def test_faults_of_flags_leave_nothing(run, tmp_path, options, says):
    assert says in complaint(run, **options)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_the_wrong_size(run, tmp_path, pretrained):
    longer = tmp_path / "longer.txt"
    entries = (pretrained / "vocab.txt").read_text().splitlines()
    longer.write_text("\n".join([*entries, "surplus"]) + "\n", "utf-8")
    message = complaint(run, vocab_file=str(longer))
    assert str(longer) in message
    assert f"has {len(entries) + 1} tokens" in message
    assert f"vocab_size={len(entries)}" in message
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_not_the_checkpoints(run, tmp_path, pretrained):
    values = json.loads((pretrained / "config.json").read_text())
    other = tmp_path / "bert_config.json"
    other.write_text(json.dumps(values | {"num_attention_heads": 11}))
    assert "num_attention_heads" in complaint(run, bert_config_file=str(other))
    other.write_text(json.dumps(values | {"vocab_size": 120}))
    assert "120" in complaint(run, bert_config_file=str(other))
    assert not (tmp_path / "out").exists()


def test_a_config_from_elsewhere_and_an_encoder_from_left_to_right(run, tmp_path, pretrained):
    values = json.loads((pretrained / "config.json").read_text())
    start = tmp_path / "start"
    shutil.copytree(pretrained, start)
    elsewhere = tmp_path / "elsewhere.json"
    (start / "config.json").rename(elsewhere)
    elsewhere.write_text(json.dumps(values | {"model_type": "bert_keras", "left_to_right": True}))
    run(init_checkpoint=str(start), bert_config_file=str(elsewhere), num_train_epochs=0.4)
    assert checkpoint.load(tmp_path / "out").network.encoder.left_to_right


def test_faults_of_data_leave_nothing(run, tmp_path, data_dir):
    (data_dir / "dev.tsv").write_text("text\tlabel\nfine\tgood\nodd\tmiddling\n")
    assert complaint(run).endswith(
        "dev.tsv:3: unknown label 'middling', expected one of: bad, good"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("metric", "best"), [("mean_squared_error", "mean_squared_error"), ("pearson", "+pearson")]
)
def test_early_stopping_knows_which_metrics_are_best_when_low(
    tmp_path, pretrained, monkeypatch, metric, best
):
    class Seen(Exception):
        pass

    def fit(*arguments, best_metric, patience, **options):
        raise Seen(best_metric, patience)

    monkeypatch.setattr(training, "fit", fit)
    for split in ("train", "dev"):
        write_rows(tmp_path / f"{split}.tsv", [(text, k / 2) for k, text in enumerate(GOOD + BAD)])
    options = {"problem_type": "regression", "metrics": [metric]}
    task = tasks.make_task("text_classification", tmp_path, **options)
    settings = OPTIONS | {"init_checkpoint": str(pretrained), "early_stopping_patience": 2}
    with pytest.raises(Seen) as seen:
        runs.run(task, tmp_path / "out", **settings)
    assert seen.value.args == (best, 2)
