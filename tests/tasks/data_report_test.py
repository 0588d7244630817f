"""Lengths, classes, repeats and leaks, counted by hand."""

import json

import numpy as np
import pytest

from bert_keras import entities, spans
from bert_keras.data import features
from tasks import data_report
from tasks.classification import Classification, Example
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tasks.ner import NER, TaggedRows
from tasks.ner_files import Sentence
from tasks.squad import Squad, WindowRows
from tasks.squad_files import Gold, Question
from tasks.swag import Choice, Swag


class Labels(Classification):
    name = "labels"

    def __init__(self, problem_type=SINGLE_LABEL, labels=("bad", "good")):
        super().__init__()
        self.problem_type, self.labels = problem_type, labels

    def read(self, split):
        raise NotImplementedError


def examples_of(split, *pairs):
    return [
        Example(str(k), text, label=label, where=f"{split}.tsv:{k + 2}")
        for k, (text, label) in enumerate(pairs)
    ]


def rows_of(*lengths, truncated=0):
    ids = [np.zeros(length, "int32") for length in lengths]
    return features.Examples(ids, ids, None, truncated)


def test_lengths_classes_repeats_and_leaks():
    train = examples_of("train", ("fine", 1), ("poor", 0), ("fine", 1), ("fine", 0), ("Fine", 1))
    dev = examples_of("dev", ("poor", 0), ("fine", 0), ("dull", 0), ("dull", 0))
    test = examples_of("test", ("fine", None), ("new", None))
    report = data_report.describe(
        Labels(),
        {
            "train": (train, rows_of(3, 9, 4, 5, 64, truncated=1)),
            "dev": (dev, rows_of(3, 3, 4, 4)),
            "test": (test, rows_of(3, 3)),
        },
    )
    assert json.loads(json.dumps(report)) == report
    found = report["splits"]
    assert {k: v for k, v in found["train"]["lengths"].items() if k != "histogram"} == {
        "min": 3,
        "median": 5,
        "percentile_95": 64,
        "max": 64,
    }
    histogram = found["train"]["lengths"]["histogram"]
    assert histogram["width"] == 3  # 64 lies in the 22nd bar of three lengths
    assert histogram["counts"] == [0, 3, 0, 1, *[0] * 17, 1]
    assert (found["train"]["truncated"], found["train"]["truncated_share"]) == (1, 0.2)
    assert found["train"]["classes"] == {"labels": {"bad": 2, "good": 3}}
    assert found["train"]["repeated"] == {
        "count": 2,
        "share": 0.4,
        "other_label": 1,
        "examples": [
            {"where": "train.tsv:4", "first": "train.tsv:2"},
            {"where": "train.tsv:5", "first": "train.tsv:2"},
        ],
    }
    assert "in_train" not in found["train"]
    assert found["dev"]["repeated"]["count"] == 1
    assert found["dev"]["in_train"] == {
        "count": 2,
        "share": 0.5,
        "other_label": 1,  # "fine" is good in train first
        "examples": [
            {"where": "dev.tsv:2", "first": "train.tsv:3"},
            {"where": "dev.tsv:3", "first": "train.tsv:2"},
        ],
    }
    assert found["test"]["classes"] is None
    assert (found["test"]["in_train"]["count"], found["test"]["in_train"]["other_label"]) == (1, 0)
    assert data_report.in_short(report) == [
        "train: 5 examples in 5 rows of 3 to 64 tokens, median 5, 95 % have at most 64; "
        "1 (20.0%) truncated",
        "train: 2 of its examples (40.0%) repeat an earlier one, 1 of them with another label; "
        "see data_report.json",
        "dev: 4 examples in 4 rows of 3 to 4 tokens, median 3, 95 % have at most 4",
        "dev: 1 of its examples (25.0%) repeat an earlier one, 0 of them with another label; "
        "see data_report.json",
        "dev: 2 of its examples (50.0%) are in train, 1 of them with another label; "
        "see data_report.json",
        "test: 2 examples in 2 rows of 3 to 3 tokens, median 3, 95 % have at most 3",
        "test: 1 of its examples (50.0%) are in train, 0 of them with another label; "
        "see data_report.json",
    ]


def test_a_pair_is_the_same_if_both_texts_are():
    pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("a", "b")]
    train = [Example(str(k), a, b, 0, f"t:{k}") for k, (a, b) in enumerate(pairs)]
    found = data_report.describe(Labels(), {"train": (train, rows_of(3, 3, 3, 3))})
    assert found["splits"]["train"]["repeated"]["examples"] == [{"where": "t:3", "first": "t:0"}]


@pytest.mark.parametrize(
    ("problem_type", "values", "expected"),
    [
        (
            MULTI_LABEL,
            [(0, 1), (), (1,)],
            {"labels": {"bad": 1, "good": 2}, "without_label": 1},
        ),
        (REGRESSION, [1.0, 2.0, 6.0], {"min": 1.0, "mean": 3.0, "max": 6.0, "std": 2.160247}),
    ],
)
def test_other_labels(problem_type, values, expected):
    examples = examples_of("train", *zip("abc", values))
    assert data_report.classes(examples, Labels(problem_type)) == expected


def tagged(*lines):
    sentences = []
    for k, line in enumerate(lines):
        words, tags = zip(*(pair.split("/") for pair in line.split())) if line else ((), ())
        sentences.append(Sentence(words, tags, -1 - k, f"f:{k}"))
    return sentences


def test_entities():
    task = NER()
    task.labels = ("O", "B-LOC", "B-PER", "I-PER")
    train = tagged("Ada/B-PER Bo/I-PER left/O", "", "in/O Rome/B-LOC", "so/O it/O", "in/O Rome/O")
    # The first sentence is decided by two rows.
    deciding = [[0, 1], [2], [3, 4], [5, 6], [7, 8]]
    ids = np.zeros(5, "int32")
    rows = [entities.Row(ids, None, np.arange(len(w)), np.array(w)) for w in deciding]
    encoded = TaggedRows([ids] * 5, [ids] * 5, None, rows=rows)
    found = data_report.describe(task, {"train": (train, encoded)})["splits"]["train"]
    assert found["classes"] == {
        "words": 9,
        "share_of_words_in_entities": round(3 / 9, 6),
        "sentences_without_entity": 3,
        "entities": {"LOC": 1, "PER": 1},
    }
    assert (found["cut"], found["cut_share"]) == (1, 0.2)
    assert (found["repeated"]["count"], found["repeated"]["other_label"]) == (1, 1)
    task.labels = ("NOUN", "VERB")
    assert data_report.classes(tagged("a/NOUN b/VERB", "c/NOUN"), task) == {
        "words": 3,
        "tags": {"NOUN": 2, "VERB": 1},
    }


def test_questions():
    questions = [
        Question("q0", "who?", "ada", (Gold("ada", 0),), False, "", "f:0"),
        Question("q1", "who?", "bo", (), True, "", "f:1"),
        Question("q2", "who?", "ada", (), True, "", "f:2"),
    ]
    empty = np.zeros(0, "int32")
    windows = [spans.Window(k, empty, empty, empty, empty, empty) for k in (0, 1, 1, 1, 2)]
    ids = [np.zeros(9, "int32")] * 5
    rows = WindowRows(ids, ids, None, windows=windows)
    unknown = Question("q9", "who?", "ada", (), False, "", "g:0")
    report = data_report.describe(
        Squad(), {"train": (questions, rows), "test": ([unknown], rows_of(9))}
    )
    found = report["splits"]["train"]
    assert (found["examples"], found["rows"], found["cut"]) == (3, 5, 1)
    assert found["classes"] == {"answerable": 1, "impossible": 2, "answerable_share": 0.333333}
    assert (found["repeated"]["count"], found["repeated"]["other_label"]) == (1, 1)
    leak = report["splits"]["test"]["in_train"]
    assert (leak["count"], leak["other_label"]) == (1, 0)
    assert "1 (33.3%) cut into several rows" in data_report.in_short(report)[0]


def test_choices():
    rows = features.Choices(rows_of(3, 4, 5, 6, truncated=2), np.array([0, 2, 4]), None, 2)
    train = [Choice("0", "she", ("a", "b"), 1, "f:0"), Choice("1", "she", ("b", "a"), 1, "f:1")]
    found = data_report.describe(Swag(), {"train": (train, rows)})["splits"]["train"]
    assert found["classes"] == {"right_ending": {"1": 2}}
    assert found["truncated_share"] == 0.5  # of four sequences
    assert found["lengths"]["max"] == 6
    assert found["repeated"]["count"] == 0


def test_what_is_no_example():
    with pytest.raises(TypeError, match="Received <class 'str'>"):
        data_report.content("text")
