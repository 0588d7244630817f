"""What an evaluation shows beside its metrics: mistakes, a confusion matrix, what length does."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Mistakes that are written down, at most.
MOST_MISTAKES = 100

Mistake = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Counts of pairs of a true and a given answer.

    Attributes:
        rows: names of the true answers.
        columns: names of the given ones.
        counts: int [rows, columns].
    """

    rows: Sequence[str]
    columns: Sequence[str]
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Review:
    """What an evaluation of n examples shows beside its metrics.

    Attributes:
        mistakes: the first `MOST_MISTAKES`, as JSON has them.
        wrong: how many there are.
        quality: float [n], how good each example's answer is, in `quality_name`.
        lengths: int [n], in `length_unit`.
        matrix: None where there is nothing to count.
    """

    mistakes: list[Mistake]
    wrong: int
    quality: np.ndarray
    quality_name: str
    lengths: np.ndarray
    length_unit: str
    matrix: Matrix | None


def review(
    mistake: Callable[[int], Mistake],
    wrong: np.ndarray,
    sure: np.ndarray,
    quality: np.ndarray,
    quality_name: str,
    lengths: np.ndarray,
    matrix: Matrix | None,
    length_unit: str = "tokens",
) -> Review:
    """The wrong ones in falling order of `sure`, equals in the file's order, NaN last."""
    order = np.flatnonzero(wrong)
    order = order[np.argsort(-sure[order], kind="stable")]
    first = [mistake(k) for k in order[:MOST_MISTAKES].tolist()]
    quality = quality.astype("float64")
    return Review(first, len(order), quality, quality_name, lengths, length_unit, matrix)


def number(value: Any) -> float | None:
    """Six digits after the point; None for what JSON does not have, such as NaN."""
    return round(float(value), 6) if math.isfinite(value) else None


def count(truth: np.ndarray, chosen: np.ndarray, size: int) -> np.ndarray:
    """How often each of `size` numbers was given for each, int [size, size], rows true."""
    return np.bincount(truth * size + chosen, minlength=size * size).reshape(size, size)
