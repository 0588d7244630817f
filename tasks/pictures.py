"""A picture of an evaluation: a confusion matrix, or predicted against true scores."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn import metrics

from tasks.metrics import MULTI_LABEL, REGRESSION

# More labels than this are drawn without their names and counts.
MOST_NAMES = 30


def picture(
    problem_type: str, labels: Sequence[str], truth: np.ndarray, predicted: np.ndarray, title: str
) -> bytes:
    """The picture of an evaluation as PNG.

    Args:
        problem_type: decides which: a confusion matrix, rows true and columns predicted; for
            several labels a row, each label's true and false decisions; for scores a scatter.
        labels: names by class number.
        truth, predicted: as in `tasks.metrics`.
        title: what stands above it.
    """
    if problem_type == REGRESSION:
        return _scatter(truth, predicted, title)
    if problem_type == MULTI_LABEL:
        counts = metrics.multilabel_confusion_matrix(truth.astype(int), predicted.astype(int))
        table = counts[:, [1, 0, 1, 0], [1, 1, 0, 0]]  # [labels, 4]
        columns = ["rightly given", "wrongly given", "missed", "rightly not given"]
        return _matrix(table, list(labels), columns, title, "", "label")
    table = metrics.confusion_matrix(truth, predicted, labels=range(len(labels)))
    return _matrix(table, list(labels), list(labels), title, "predicted", "true")


def _matrix(table, row_names, column_names, title, below, beside):
    small = len(row_names) <= MOST_NAMES
    side = 2.0 + 0.6 * min(len(row_names), MOST_NAMES)
    width = 2.5 + 0.6 * min(len(column_names), MOST_NAMES)
    figure = Figure(figsize=(max(width, 4.5), max(side, 3.5)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_title(title)
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    if small:
        # A dollar sign in a label would start a formula.
        plain = [
            [name.replace("$", r"\$")[:30] for name in names] for names in (column_names, row_names)
        ]
        axes.set_xticks(range(len(column_names)), plain[0], rotation=45, ha="right")
        axes.set_yticks(range(len(row_names)), plain[1])
        for (row, column), count in np.ndenumerate(table):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
    return _png(figure)


def _scatter(truth, predicted, title):
    figure = Figure(figsize=(4.5, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(truth, predicted, s=8, alpha=0.4, linewidths=0)
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    axes.plot(ends, ends, color="gray", linewidth=0.8)
    axes.set_title(title)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Without the version of matplotlib in it: equal evaluations give equal files.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
