"""Labels in config.json: as people and transformers write them, and as nobody may."""

import pytest

from bert_keras.checkpoint import labels
from bert_keras.errors import InputError

TWO = {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"id2label": None, "label2id": None}, None),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        (TWO, ["bad", "good"]),
        ({**TWO, "num_labels": 2}, ["bad", "good"]),
        ({"id2label": {"1": "good", "0": "bad"}}, ["bad", "good"]),
        ({"id2label": {"0": 0, "1": 1}, "label2id": {"0": "0", "1": "1"}}, ["0", "1"]),
        ({"id2label": {str(i): chr(97 + i) for i in range(12)}}, list("abcdefghijkl")),
    ],
)
def test_labels_are_read_by_number(values, expected):
    assert labels.read_labels(values, "config.json") == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"id2label": {"0": "bad", "2": "good"}},
            "id2label must count 0 to 1; 1 is not there, but '0', '2' are.",
        ),
        (
            {"id2label": {"0": "bad", "1": "\ud800"}},
            "id2label 1 is '\\ud800', half of a surrogate pair; "
            "expected text that UTF-8 can write.",
        ),
        (
            {"id2label": {"0": "bad", "1": "bad"}},
            "id2label names 'bad' twice; labels must differ.",
        ),
        (
            {**TWO, "label2id": {"bad": 1, "good": 0}},
            "id2label says that 0 is 'bad', but label2id gives 'bad' the number 1.",
        ),
        (
            {**TWO, "label2id": {"bad": 0}},
            "id2label says that 1 is 'good', but label2id gives 'good' the number None.",
        ),
        (
            {**TWO, "label2id": {"bad": 0, "good": 1, "fair": 2}},
            "label2id has 3 labels and id2label 2; each must be the other turned round.",
        ),
        ({**TWO, "label2id": [1]}, "label2id must be an object of label: number."),
        ({**TWO, "num_labels": 3}, "num_labels=3, but id2label names 2 labels."),
        ({"num_labels": 0}, "num_labels=0; expected 1 to 1000000."),
        ({"num_labels": 10**9}, "num_labels=1000000000; expected 1 to 1000000."),
        ({"num_labels": "2"}, "num_labels='2'; expected 1 to 1000000."),
        ({"id2label": ["bad", "good"]}, "id2label must be an object of number: label."),
        ({"id2label": {}}, "id2label must be an object of number: label."),
    ],
)
def test_labels_that_do_not_agree(values, expected):
    with pytest.raises(InputError) as error:
        labels.read_labels(values, "config.json")
    assert str(error.value) == f"config.json: {expected}"


@pytest.mark.parametrize(
    ("values", "num_labels", "expected"),
    [
        ({}, 1, "regression"),
        ({"problem_type": None}, 2, "single_label_classification"),
        ({"problem_type": "single_label_classification"}, 1, "single_label_classification"),
        ({"problem_type": "multi_label_classification"}, 3, "multi_label_classification"),
    ],
)
def test_problem_type_defaults_as_in_transformers(values, num_labels, expected):
    assert labels.read_problem_type(values, num_labels, "config.json") == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"problem_type": "ranking"},
            "problem_type='ranking'; expected one of single_label_classification, "
            "multi_label_classification, regression.",
        ),
        (
            {"problem_type": "regression"},
            "problem_type is regression, which has 1 label, not 2.",
        ),
    ],
)
def test_problem_types_that_cannot_be(values, expected):
    with pytest.raises(InputError) as error:
        labels.read_problem_type(values, 2, "config.json")
    assert str(error.value) == f"config.json: {expected}"


def test_entries_are_each_others_inverse():
    assert labels.label_entries(["bad", "good"]) == TWO
