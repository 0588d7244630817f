"""NER, SQuAD and SWAG from their file formats to the answer over REST, on a tiny BERT."""

import json
import random

import numpy as np
import pytest

import bert_keras
import tasks
from bert_keras.serving.export.agreement import differs
from tests import runs
from tests.small_networks import write_pretrained
from tools import command

NAMES = ["ada", "bo", "cy", "di", "ed"]
SURNAMES = ["lund", "rao", "diaz"]
TOWNS = ["oslo", "rome", "lima", "bonn", "kyiv"]
VERBS = "went saw left lived was met liked".split()
REST = "the code is what in and . ? of who it good bad very then a man to from".split()
NUMBERS = [str(k) for k in range(10)]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    words = [*NAMES, *SURNAMES, *TOWNS, *VERBS, *REST, *NUMBERS, "##s"]
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    folder = tmp_path_factory.mktemp("pretrained")
    return write_pretrained(folder, words, seed=3, initializer_range=0.2, **sizes)


def filler(chance, most):
    return [chance.choice(VERBS + REST[-6:]) for _ in range(chance.randrange(1, most))]


def write_ner(folder, chance):
    """A name is a person, with a surname or without; a town is a place."""
    for split, count in (("train", 200), ("dev", 40), ("test", 20)):
        lines = ["-DOCSTART- -X- O O", ""]
        for _ in range(count):
            words = [(word, "O") for word in filler(chance, 5)]
            person = [chance.choice(NAMES), *chance.sample(SURNAMES, chance.randrange(2))]
            words += [(person[0], "B-PER"), *((name, "I-PER") for name in person[1:])]
            words += [(word, "O") for word in [*filler(chance, 4), "in"]]
            words += [(chance.choice(TOWNS), "B-LOC"), (".", "O")]
            lines += [f"{word} NN B-NP {tag}" for word, tag in words] + [""]
        (folder / f"{split}.txt").write_text("\n".join(lines), "utf-8")


def write_squad(folder, chance):
    """The answer is what stands after "code is", and there is none where that is not there."""
    for split, count in (("train", 300), ("dev", 60), ("test", 20)):
        paragraphs = []
        for number in range(count):
            before, after = " ".join(filler(chance, 30)), " ".join(filler(chance, 30))
            answer, impossible = chance.choice(TOWNS), number % 4 == 0
            middle = f"code is {answer}" if not impossible else f"code was {answer}"
            context = f"{before} {middle} {after}"
            gold = [{"text": answer, "answer_start": context.index(middle) + len("code is ")}]
            paragraphs.append(
                {
                    "context": context,
                    "qas": [
                        {
                            "id": f"q{number}",
                            "question": "what is the code ?",
                            "is_impossible": impossible,
                            "answers": [] if impossible else gold,
                        }
                    ],
                }
            )
        data = {"version": "v2.0", "data": [{"title": "codes", "paragraphs": paragraphs}]}
        (folder / f"{split}-v2.0.json").write_text(json.dumps(data), "utf-8")


def write_swag(folder, chance):
    """The right ending is the one that is good."""
    header = "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3"
    for split, count in (("train", 300), ("val", 60), ("test", 20)):
        lines = [f",{header}" + (",label" if split != "test" else "")]
        for number in range(count):
            label = chance.randrange(4)
            first, second = " ".join(filler(chance, 6)), chance.choice(NAMES)
            endings = [
                " ".join([*filler(chance, 4), "good" if k == label else "bad"]) for k in range(4)
            ]
            cells = [number, f"v{number}", 1, f"{first} {second}", first, second, "gold", *endings]
            lines.append(",".join(map(str, cells + ([label] if split != "test" else []))))
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")


SETTINGS = {
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
    "learning_rate": 2e-3,
    "train_batch_size": 16,
    "eval_batch_size": 16,
    "max_seq_length": 40,
}
CASES = {
    "ner": (write_ner, {}, {"num_train_epochs": 10.0}),
    "squad": (write_squad, {"doc_stride": 12, "max_query_length": 10}, {"num_train_epochs": 10.0}),
    "swag": (write_swag, {}, {"num_train_epochs": 5.0}),
    "ner+features": (
        write_ner,
        {},
        {
            "num_train_epochs": 12.0,
            "learning_rate": 1e-2,
            "feature_layers": "embeddings",
            "lstm_size": 24,
        },
    ),
}


class Run:
    """A finished run."""

    def __init__(self, name, folder, init_checkpoint):
        self.name, self.data_dir, self.path = name.split("+")[0], folder / "data", folder / "out"
        self.data_dir.mkdir()
        write, self.options, self.settings = CASES[name]
        write(self.data_dir, random.Random(name))
        self.settings = SETTINGS | self.settings | {"init_checkpoint": str(init_checkpoint)}
        self.results = self.again(self.path)

    def again(self, output_dir, **settings):
        task = tasks.make_task(self.name, self.data_dir, **self.options)
        return runs.run(task, output_dir, **(self.settings | settings))

    @property
    def model(self):
        return bert_keras.load(self.path)

    @property
    def examples(self):
        """What is asked in the end."""
        chance = random.Random(9)
        if self.name == "ner":
            return [
                "Ada Lund went in Oslo.",
                "",
                "very good",
                "ed's man was in rome and in lima " * 6,
            ]
        if self.name == "swag":
            return [
                (" ".join(filler(chance, 6)), ["bo bad", "bo good", "very bad"][: 2 + k % 2])
                for k in range(5)
            ]
        long = " ".join(filler(chance, 9)) + " code is bonn " + "then a man " * 20
        return [("what is the code?", long), ("what is the code?", "a man went to kyiv"), ("", "")]


@pytest.fixture(scope="module", params=list(CASES))
def run(request, tmp_path_factory, pretrained):
    return Run(request.param, tmp_path_factory.mktemp(request.param), pretrained)


def test_it_learns(run):
    results = run.results
    assert results["loss"] < 0.3
    expected = {"ner": ("f1", 0.95), "squad": ("f1", 90.0), "swag": ("accuracy", 0.95)}
    metric, least = expected[run.name]
    assert results[metric] > least
    again = json.loads((run.path / "eval_results.json").read_text())
    assert again[metric] == results[metric]


def test_a_model_directory_is_evaluated_alone(run, tmp_path):
    results = run.again(
        tmp_path / "eval", do_train=False, do_predict=False, init_checkpoint=str(run.path)
    )
    metrics = tasks.make_task(run.name, run.data_dir, **run.options).metrics
    for metric in (*metrics, "loss"):
        if metric in results:
            assert results[metric] == pytest.approx(run.results[metric], rel=1e-5), metric


def test_its_prediction_files_are_the_official_ones(run, capsys):
    written = {path.name for path in run.path.iterdir()}
    if run.name == "swag":
        rows = (run.path / "test_results.csv").read_text().splitlines()
        assert rows[0] == "id,label,probability0,probability1,probability2,probability3"
        assert len(rows) == 21 and rows[1].startswith("v0,")
    elif run.name == "ner":
        lines = (run.path / "test_predictions.conll").read_text().split("\n")
        cells = [line.split() for line in lines if line and not line.startswith("-DOCSTART-")]
        assert all(len(cell) == 3 for cell in cells)
        assert np.mean([gold == guess for _, gold, guess in cells]) > 0.95
        table = (run.path / "entity_types.tsv").read_text().splitlines()
        assert [line.split("\t")[0] for line in table] == ["type", "LOC", "PER"]
    else:
        assert {"predictions.json", "nbest_predictions.json", "null_odds.json"} <= written
        command.call(
            "run_finetuning",
            [
                "--task_name=squad",
                "--do_eval",
                f"--predictions_file={run.path / 'dev_predictions.json'}",
                f"--predict_file={run.data_dir / 'dev-v2.0.json'}",
            ],
        )
        scores = json.loads(capsys.readouterr().out)
        assert scores["f1"] == run.results["f1"] and scores["exact"] == run.results["exact"]
        task = json.loads((run.path / "task.json").read_text())
        assert task["null_score_diff_threshold"] == run.results["null_score_diff_threshold"]


def test_answers_are_right_and_the_same_over_rest(run, tmp_path):
    from bert_keras.serving.client import connect
    from bert_keras.serving.export.export import export_saved_model
    from bert_keras.serving.server.server import ModelServer

    examples = run.examples
    expected = run.model.predict(examples)
    export_saved_model(run.model, tmp_path / "export")
    with ModelServer("m", tmp_path / "export", poll_seconds=0) as server:
        for address in (
            f"http://127.0.0.1:{server.rest_api_port}/v1/models/m",
            f"grpc://{server.grpc_address}/m",
        ):
            found = connect(address).predict(examples)
            for wanted, given in zip(expected, found, strict=True):
                assert differs(wanted, given, 1e-4, 0.5) == ""
                assert {k: v for k, v in wanted.items() if isinstance(v, str)} == {
                    k: v for k, v in given.items() if isinstance(v, str)
                }
    if run.name == "ner":
        first, nothing, nobody, long = (answer["entities"] for answer in expected)
        assert [(e["text"], e["type"]) for e in first] == [("Ada Lund", "PER"), ("Oslo", "LOC")]
        assert nothing == nobody == []
        if "feature_layers" not in run.settings:  # whose BiLSTM has read short sentences alone
            assert [e["text"] for e in long].count("rome") == 6  # of all windows
    elif run.name == "swag":
        assert [answer["choice"] for answer in expected] == [1] * 5
    else:
        answered, unanswered, empty = expected
        assert answered["answer"] == "bonn"
        assert unanswered["answer"] == empty["answer"] == "" and unanswered["start"] == -1


def test_an_interrupted_training_ends_with_the_same_bits(run, tmp_path, monkeypatch):
    from bert_keras.data import features, kept_features

    kind: type = features.Choices if run.name == "swag" else features.Examples
    if "feature_layers" in run.settings:
        kind = kept_features.KeptFeatures
    batch, taken = kind.batch, []

    def breaks(*arguments):
        taken.append(1)
        if len(taken) == 6:
            raise RuntimeError("power cut")
        return batch(*arguments)

    short = {"num_train_epochs": 0.5, "do_eval": False, "do_predict": False}
    run.again(tmp_path / "whole", **short)
    monkeypatch.setattr(kind, "batch", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        run.again(tmp_path / "cut", **short, save_checkpoints_steps=2)
    monkeypatch.undo()
    assert run.again(tmp_path / "cut", **short)["training"]["resumed_from"] == 4
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
