import numpy as np
import pytest

import tasks
from tasks import classification
from tasks.classification import Example
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL


class Plain(classification.Classification):
    name = "plain"

    def __init__(self, problem_type, labels=()):
        super().__init__()
        self.problem_type = problem_type
        self.labels = labels

    def read(self, split):
        return []


EXAMPLES = [Example("7", "a"), Example("7", "b")]


def table(task, logits):
    text = classification.prediction_table(task, EXAMPLES, np.array(logits))
    assert text.endswith("\n")
    return [line.split("\t") for line in text.splitlines()]


def test_predictions_of_one_label():
    # softmax of (0, ln 3) is (1/4, 3/4)
    rows = table(Plain(SINGLE_LABEL, ("neg", "pos")), [[0.0, np.log(3)], [800.0, 0.0]])
    assert rows == [
        ["id", "label", "neg", "pos"],
        ["7", "pos", "0.250000", "0.750000"],
        ["7", "neg", "1.000000", "0.000000"],
    ]


def test_predictions_of_several_labels():
    rows = table(Plain(MULTI_LABEL, ("x", "ö")), [[np.log(3), 0.0], [-800.0, -1.0]])
    assert rows == [
        ["id", "labels", "x", "ö"],
        ["7", '["x", "ö"]', "0.750000", "0.500000"],
        ["7", "[]", "0.000000", "0.268941"],
    ]


def test_predictions_of_a_score():
    assert table(Plain(REGRESSION), [[1.5], [-2.0]]) == [
        ["id", "score"],
        ["7", "1.500000"],
        ["7", "-2.000000"],
    ]


def test_label_arrays():
    def array(problem_type, *labels):
        examples = [Example("0", "a", None, label) for label in labels]
        return classification.label_array(examples, Plain(problem_type, ("x", "y", "z")))

    assert array(SINGLE_LABEL, 2, 0).tolist() == [2, 0]
    assert array(SINGLE_LABEL, 2, 0).dtype == np.int32
    assert array(REGRESSION, 2.5, 0.0).tolist() == [2.5, 0.0]
    assert array(MULTI_LABEL, (0, 2), ()).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert array(SINGLE_LABEL, None, None) is None


@pytest.mark.parametrize("name", tasks.TASKS)
def test_every_task_says_what_it_is(name):
    task = tasks.make_task(name)
    assert task.name == name
    assert task.__doc__
    assert task.text_columns in (1, 2)
    assert set(task.file_names) >= {"train", "dev", "test"}
    assert {*task.dev_splits, *task.test_splits} <= set(task.file_names)
    assert task.to_dict()["task_name"] == name
