import numpy as np
import pytest

from bert_keras.errors import InputError
from tasks.weights import label_weights

LABELS = ("neg", "pos")
ROWS = np.array([0, 0, 0, 1], "int32")


def weights(spec, rows=ROWS, problem_type="single_label_classification"):
    return label_weights(spec, LABELS, rows, problem_type)


def test_balanced():
    # 4 / (2 * 3) and 4 / (2 * 1): each class weighs 2 in total
    assert weights("balanced") == [pytest.approx(2 / 3), 2.0]
    assert weights("balanced", np.array([0, 0], "int32")) == [0.5, 1.0]
    rows = np.array([[1, 1], [1, 0], [1, 0]], "float32")
    assert weights("balanced", rows, "multi_label_classification") == [pytest.approx(2 / 3), 2.0]


def test_by_name():
    assert weights(None) is None
    assert weights("") is None
    assert weights("pos:3") == [1.0, 3.0]
    assert weights("neg:0.5,pos:2") == [0.5, 2.0]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("pos", "'pos', expected balanced or label:weight"),
        ("pos:much", "'pos:much', expected balanced"),
        ("pos:-1", "'pos:-1', expected balanced"),
        ("pos:inf", "'pos:inf', expected balanced"),
        ("no:1", "unknown label 'no', expected some of: neg, pos"),
    ],
)
def test_malformed(spec, says):
    with pytest.raises(InputError) as caught:
        weights(spec)
    assert says in str(caught.value)


def test_regression_has_none():
    with pytest.raises(InputError, match="a regression has no classes"):
        weights("balanced", ROWS, "regression")
