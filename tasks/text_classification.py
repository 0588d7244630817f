"""Any labelled texts: TSV, CSV or JSONL, one or two text columns, one label, several, or a score.

    sentiment  text
    positive   I would watch it again tomorrow.

Columns and labels are named by the caller or found out from the training file, and what was
found is said in `Task.found`. A model directory keeps both, so that it can be evaluated and asked
without the training file.
"""

import collections
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras.errors import InputError
from tasks import metrics as task_metrics
from tasks import tables
from tasks.classification import Classification, Example
from tasks.columns import Columns, find_columns
from tasks.labels import all_floats, checked, in_order, is_list, label_name, number
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tasks.tables import text_cell

_NAMES = ("tsv", "csv", "jsonl")

METRICS_BY_PROBLEM = {
    SINGLE_LABEL: ("accuracy", "macro_f1", "micro_f1"),
    MULTI_LABEL: ("micro_f1", "macro_f1", "subset_accuracy"),
    REGRESSION: ("pearson", "spearman", "pearson_spearman", "mean_squared_error"),
}

# More distinct labels than this is a column of something else.
MOST_LABELS = 1000


class TextClassification(Classification):
    """Texts and labels of the user's own.

    Args:
        data_dir: holds train, dev and test as .tsv, .csv or .jsonl.
        files: file by split, instead.
        text_column, text_b_column, label_column: header names, or positions from 0 for a file
            without a header. Found out where not given.
        labels: label names in the order of the logits; by default those of the training file,
            sorted.
        label_separator: splits the label cell into several labels, e.g. "," (multi-label). A JSON
            list in the cell needs none.
        problem_type: "single_label_classification", "multi_label_classification" or
            "regression"; found out where not given, but never regression.
        metrics: names in `tasks.metrics`; by default all that fit the problem.
    """

    name = "text_classification"
    file_names = {
        "train": tuple(f"train.{suffix}" for suffix in _NAMES),
        "dev": tuple(f"dev.{suffix}" for suffix in _NAMES),
        "test": tuple(f"test.{suffix}" for suffix in _NAMES),
    }

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
        text_column: str | None = None,
        text_b_column: str | None = None,
        label_column: str | None = None,
        labels: Sequence[str] = (),
        label_separator: str | None = None,
        problem_type: str | None = None,
        metrics: Sequence[str] = (),
    ):
        super().__init__(data_dir, files=files)
        self._columns = Columns(text_column, text_b_column, label_column)
        self._separator = label_separator or None
        self._asked_metrics = tuple(metrics)
        if problem_type not in (None, *METRICS_BY_PROBLEM):
            raise InputError(
                f"--problem_type={problem_type}: expected one of {', '.join(METRICS_BY_PROBLEM)}"
            )
        if problem_type is None and label_separator:
            problem_type = MULTI_LABEL
        self._known = problem_type is not None
        self.problem_type = problem_type or SINGLE_LABEL
        self.labels = checked(labels, "--labels")
        if self.labels and self.problem_type == REGRESSION:
            raise InputError("--labels: a regression has none; leave out one of the two")

    def read(self, split: str) -> list[Example]:
        table, columns = self._open(split)
        if split == "train" or (split == "dev" and not self.labels):
            self._learn(table, columns)
        text = _position(table, columns.text, "--text_column")
        text_b = label = None
        if columns.text_b is not None:
            text_b = _position(table, columns.text_b, "--text_b_column")
        if columns.label is not None and (split != "test" or _has(table, columns.label)):
            label = _position(table, columns.label, "--label_column")
        index = _id_column(table, (text, text_b, label))
        # The labels of a test file, if it has any, are often blank or -1.
        unlabelled = split == "test"
        return [
            Example(
                id=str(row) if index is None else _id(table, row, index),
                text=text_cell(table, row, text),
                text_b=None if text_b is None else text_cell(table, row, text_b),
                label=None if label is None or unlabelled else self._parse(table, row, label),
                where=table.where(row),
            )
            for row in range(len(table.rows))
        ]

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "text_column": self._columns.text,
            "text_b_column": self._columns.text_b,
            "label_column": self._columns.label,
            "label_separator": self._separator,
        }

    def adopt(self, labels: Sequence[str] | None, task: Mapping[str, Any], where: str) -> None:
        asked = self._columns
        self._columns = Columns(
            asked.text or task.get("text_column"),
            asked.text_b or task.get("text_b_column"),
            asked.label or task.get("label_column"),
        )
        self._separator = self._separator or task.get("label_separator")
        problem_type = task["problem_type"]
        if self._known and problem_type != self.problem_type:
            raise InputError(
                f"--problem_type={self.problem_type}: the model does {problem_type} ({where})"
            )
        if self.labels and tuple(labels or ()) != self.labels:
            raise InputError(
                f"--labels={','.join(self.labels)}: {where} has {','.join(labels or ())}"
            )
        self.problem_type, self._known = problem_type, True
        if problem_type != REGRESSION:
            self.labels = tuple(labels or ())
        self._set_metrics(tuple(task.get("metrics", ())))

    def _open(self, split: str) -> tuple[tables.Table, Columns]:
        """Reads the file and finds out its columns, the first time for all later files."""
        path = self.path(split)
        positions = [c for c in self._columns if c is not None and c.isdigit()]
        table = tables.read_table(path, header=not positions)
        if self._columns.text is not None and (self._columns.label is not None or split == "test"):
            columns = self._columns
        else:
            table, columns, found = find_columns(table, self._columns, labelled=split != "test")
            self._columns = columns
            self.found.append(f"{path}: {found}")
        self.text_columns = 1 if columns.text_b is None else 2
        return table, columns

    def _learn(self, table: tables.Table, columns: Columns) -> None:
        """Finds out the kind of problem and the labels, from the training file."""
        label = _position(table, columns.label, "--label_column")
        cells = [row[label] for row in table.rows]
        if not self._known:
            if all(is_list(cell) for cell in cells):
                self.problem_type = MULTI_LABEL
                self.found.append(f"{table.path}: every label is a list, so a row has several")
            self._known = True
        self._set_metrics(())
        if self.problem_type == REGRESSION or self.labels:
            return
        names: dict[str, None] = {}
        for row in range(len(cells)):
            names.update(dict.fromkeys(self._names(table, row, label)))
        if self.problem_type == SINGLE_LABEL and len(names) > 20 and all_floats(names):
            raise InputError(
                f"{table.path}: column {columns.label!r} holds {len(names)} different numbers; say "
                "--problem_type=regression for scores, or --labels for classes"
            )
        if len(names) > MOST_LABELS:
            raise InputError(
                f"{table.path}: column {columns.label!r} holds {len(names)} different labels, "
                f"expected at most {MOST_LABELS}; is it the label column? Say --label_column"
            )
        if not names:
            raise InputError(
                f"{table.path}: column {columns.label!r} names no label in any row; expected one "
                "or more, or name them all with --labels"
            )
        if len(names) < 2 and self.problem_type == SINGLE_LABEL:
            raise InputError(
                f"{table.path}: column {columns.label!r} holds one label alone, "
                f"{next(iter(names))!r}; expected two or more"
            )
        self.labels = checked(in_order(names), str(table.path))
        counts = collections.Counter(
            name for row in range(len(cells)) for name in self._names(table, row, label)
        )
        self.found.append(
            f"{table.path}: {len(names)} labels: "
            + ", ".join(f"{name} {counts[name]}" for name in self.labels[:20])
            + (", ..." if len(names) > 20 else "")
        )
        self._set_metrics(())

    def _set_metrics(self, names: tuple[str, ...]) -> None:
        names = self._asked_metrics or names or METRICS_BY_PROBLEM[self.problem_type]
        self.metrics = task_metrics.check(names, self.problem_type, len(self.labels) or 2)

    def _parse(self, table: tables.Table, row: int, column: int) -> int | float | tuple[int, ...]:
        if self.problem_type == REGRESSION:
            return number(table, row, column)
        numbers = []
        for name in self._names(table, row, column):
            if name not in self.labels:
                expected = ", ".join(self.labels[:20]) + (", ..." if len(self.labels) > 20 else "")
                raise InputError(
                    f"{table.where(row)}: unknown label {name!r}, expected one of: {expected}"
                )
            numbers.append(self.labels.index(name))
        return numbers[0] if self.problem_type == SINGLE_LABEL else tuple(sorted(set(numbers)))

    def _names(self, table: tables.Table, row: int, column: int) -> list[str]:
        """The label names in a cell: one, or those of a list."""
        cell = table.rows[row][column]
        where = table.where(row)
        if self.problem_type == SINGLE_LABEL:
            return [label_name(cell, where)]
        if isinstance(cell, str) and self._separator:
            return [part.strip() for part in cell.split(self._separator) if part.strip()]
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)
            except (ValueError, RecursionError):
                cell = None
        if not isinstance(cell, list):
            raise InputError(
                f'{where}: expected a list of labels such as ["a", "b"], or say --label_separator'
            )
        return [label_name(part, where) for part in cell]


def _has(table: tables.Table, name: str) -> bool:
    if table.header is None:
        return int(name) < len(table.rows[0])
    return name in table.header


def _position(table: tables.Table, name: str | None, flag: str) -> int:
    assert name is not None, "found out or asked for"
    if table.header is None:
        if not name.isdigit():
            raise InputError(f"{flag}={name}: give positions for all columns, or names for all")
        if int(name) >= len(table.rows[0]):
            raise InputError(
                f"{table.path}:1: {len(table.rows[0])} columns, {flag}={name} asks for one more"
            )
        return int(name)
    return table.column(name, flag)


def _id_column(table: tables.Table, taken: tuple[int | None, ...]) -> int | None:
    header = table.header or ()
    places = (header.index(name) for name in ("id", "index") if name in header)
    return next((place for place in places if place not in taken), None)


def _id(table: tables.Table, row: int, column: int) -> str:
    return " ".join(str(table.rows[row][column]).split())
