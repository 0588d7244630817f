"""Each metric against numbers worked out by hand in the comments."""

import math

import numpy as np
import pytest

from bert_keras.errors import InputError
from tasks import metrics

# 8 examples: 3 true positives, 1 false positive, 1 false negative, 3 true negatives.
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
PREDICTED = np.array([1, 1, 1, 0, 1, 0, 0, 0])


def test_accuracy_and_f1_of_class_1():
    labels, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    assert metrics.accuracy(labels, predicted) == pytest.approx(3 / 5)
    # precision 2/3, recall 2/3; class 0: 1/2 and 1/2.
    assert metrics.f1(labels, predicted) == pytest.approx(2 / 3)
    assert metrics.macro_f1(labels, predicted) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.micro_f1(labels, predicted) == pytest.approx(3 / 5)


def test_matthews():
    # (3*3 - 1*1) / sqrt(4 * 4 * 4 * 4) = 8 / 16
    assert metrics.matthews(LABELS, PREDICTED) == pytest.approx(0.5)
    assert metrics.matthews(LABELS, np.ones(8, int)) == 0.0


def test_pearson():
    # x - 2 = -1 0 1, y - 3 = -2 1 1: 3 / sqrt(2 * 6)
    x, y = np.array([1.0, 2, 3]), np.array([1.0, 4, 4])
    assert metrics.pearson(x, y) == pytest.approx(3 / math.sqrt(12))


def test_spearman_shares_the_ranks_of_ties():
    # ranks 1 2 3 against 1 2.5 2.5: deviations -1 0 1 and -1 .5 .5: 1.5 / sqrt(2 * 1.5)
    x, y = np.array([10.0, 20, 500]), np.array([1.0, 4, 4])
    spearman = 1.5 / math.sqrt(3)
    assert metrics.spearman(x, y) == pytest.approx(spearman)
    mean = (metrics.pearson(x, y) + spearman) / 2
    assert metrics.pearson_spearman(x, y) == pytest.approx(mean)


def test_a_constant_has_no_correlation():
    values = metrics.compute(
        ["pearson", "spearman"], "regression", np.array([1.0, 2, 3]), np.zeros(3)
    )
    assert values == {"pearson": None, "spearman": None}
    assert math.isnan(metrics.pearson(np.array([1.0]), np.array([1.0])))


def test_several_labels_a_row():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]])
    predicted = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    # true positives 3, false positives 1, false negatives 1
    assert metrics.micro_f1(labels, predicted) == pytest.approx(6 / 8)
    # by label: 1, 2/3 (one wrong of two), 0
    assert metrics.macro_f1(labels, predicted) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics.accuracy(labels, predicted) == pytest.approx(1 / 3)


def test_squared_error():
    assert metrics.mean_squared_error(np.array([1.0, 2]), np.array([2.0, 4])) == 2.5


def test_unknown_and_unfit_names():
    check = metrics.check
    assert check(["accuracy"], "single_label_classification", 3) == ("accuracy",)
    with pytest.raises(InputError, match="unknown metric 'f2' for single_label_classification"):
        check(["f2"], "single_label_classification", 2)
    with pytest.raises(InputError, match="f1 is for two labels, here are 3"):
        check(["f1"], "single_label_classification", 3)
