"""The official metrics, each computed by scikit-learn or SciPy.

A metric takes `labels` and `predictions` of equal length and returns a float:

| problem                     | labels and predictions          |
|-----------------------------|---------------------------------|
| single_label_classification | class numbers, int [n]          |
| multi_label_classification  | 0 or 1, int [n, labels]         |
| regression                  | scores, float [n]               |
"""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bert_keras.errors import InputError

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"

# Metrics of which the lowest value is the best.
LOWEST_IS_BEST = ("mean_squared_error",)


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of examples that are right; for several labels a row, of rows that are all right."""
    return float(sklearn_metrics.accuracy_score(labels, predictions))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation (CoLA): 1 perfect, 0 chance; 0 where only one class is predicted."""
    return float(sklearn_metrics.matthews_corrcoef(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1, of two classes (MRPC, QQP)."""
    return float(sklearn_metrics.f1_score(labels, predictions, pos_label=1, zero_division=0))


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean over the classes of each one's F1."""
    return float(sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0))


def micro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of all decisions counted together."""
    return float(sklearn_metrics.f1_score(labels, predictions, average="micro", zero_division=0))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Linear correlation; NaN where either side is constant."""
    return _correlation(stats.pearsonr, labels, predictions)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Correlation of ranks, ties at their mean rank; NaN where either side is constant."""
    return _correlation(stats.spearmanr, labels, predictions)


def pearson_spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of the two correlations, the number of GLUE's table for STS-B."""
    return (pearson(labels, predictions) + spearman(labels, predictions)) / 2


def mean_squared_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of the squared differences."""
    return float(sklearn_metrics.mean_squared_error(labels, predictions))


def _correlation(function, labels, predictions):
    if len(labels) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant input gives NaN, which says it all
        return float(function(np.asarray(labels, "float64"), np.asarray(predictions, "float64"))[0])


Metric = Callable[[np.ndarray, np.ndarray], float]

_SINGLE: dict[str, Metric] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "f1": f1,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
}
METRICS: dict[str, dict[str, Metric]] = {
    SINGLE_LABEL: _SINGLE,
    MULTI_LABEL: {
        "micro_f1": micro_f1,
        "macro_f1": macro_f1,
        "subset_accuracy": accuracy,
    },
    REGRESSION: {
        "pearson": pearson,
        "spearman": spearman,
        "pearson_spearman": pearson_spearman,
        "mean_squared_error": mean_squared_error,
    },
}


def check(names: Sequence[str], problem_type: str, num_labels: int) -> tuple[str, ...]:
    """Raises InputError for a name that the problem has not; returns the names."""
    known = METRICS[problem_type]
    for name in names:
        if name not in known:
            raise InputError(
                f"--metrics: unknown metric {name!r} for {problem_type}; expected some of: "
                + ", ".join(known)
            )
        if name == "f1" and num_labels != 2:
            raise InputError(
                f"--metrics: f1 is for two labels, here are {num_labels}; take macro_f1 or micro_f1"
            )
    return tuple(names)


def compute(
    names: Sequence[str], problem_type: str, labels: np.ndarray, predictions: np.ndarray
) -> dict[str, float | None]:
    """The named metrics; None where one is undefined, as JSON has no NaN."""
    values = {name: METRICS[problem_type][name](labels, predictions) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
