"""Equal weights have equal digests, and any difference shows."""

import keras
import numpy as np
import pytest

from bert_keras import digests


def _variables(*values):
    return [keras.Variable(np.asarray(value), dtype=np.asarray(value).dtype) for value in values]


def test_equal_values_in_other_variables_are_equal():
    first, second = _variables([1.5, 2.0], 3), _variables([1.5, 2.0], 3)
    assert digests.of_variables(first) == digests.of_variables(second)


@pytest.mark.parametrize(
    "other",
    [
        _variables([1.5, 2.0], 4),
        _variables([[1.5, 2.0]], 3),
        _variables(np.array([1.5, 2.0], "float64").astype("float16"), 3),
        _variables(3, [1.5, 2.0]),
    ],
    ids=["value", "shape", "type", "order"],
)
def test_a_difference_shows(other):
    assert digests.of_variables(other) != digests.of_variables(_variables([1.5, 2.0], 3))


def test_what_else_decides_counts():
    variables = _variables([1.5, 2.0])
    assert digests.of_variables(variables, ("last",)) != digests.of_variables(variables, ("sum",))
