"""What a task is: where its rows lie, what a label means, which metric is official.

A task knows no flags, no model and no optimizer. `read("dev")` gives `Example`s, `label_array`
turns their labels into what the loss takes, `score` gives the official metrics, and
`prediction_table` the rows of the prediction file.
"""

import abc
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bert_keras.errors import InputError
from tasks import metrics as task_metrics
from tasks import tables

# A split, and the flag that names its file.
SPLITS = {"train": "--train_file", "dev": "--eval_file", "test": "--predict_file"}

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"

# A label of several is given when its probability is at least this.
THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One row.

    Attributes:
        id: what the prediction file calls it: its `index` or `id` column, else the row's number
            from 0. Repeated ids are fine.
        text: the text, as in the file.
        text_b: the second text of a pair.
        label: a class number; a tuple of class numbers (several labels); a score; None where the
            file has no labels.
        where: "file:line".
    """

    id: str
    text: str
    text_b: str | None = None
    label: int | float | tuple[int, ...] | None = None
    where: str = ""


class Task(abc.ABC):
    """A data set for fine-tuning.

    Args:
        data_dir: the folder of its files, or None where `files` names those that are needed.
        files: file by split, {"train": path, "dev": path, "test": path}; wins over `data_dir`.

    Attributes:
        name: as in `--task_name`.
        text_columns: 1, or 2 for pairs.
        problem_type: Hugging Face's name for the kind of loss.
        labels: label names by class number; empty for regression.
        metrics: names in `tasks.metrics`, the official ones of this task.
        found: a line on each thing that was found out while reading.
        file_names: by split, the names looked for in `data_dir`, first found first taken.
    """

    name: ClassVar[str]
    file_names: ClassVar[Mapping[str, Sequence[str]]] = {
        "train": ("train.tsv",),
        "dev": ("dev.tsv",),
        "test": ("test.tsv",),
    }
    text_columns: int = 1
    problem_type: str = SINGLE_LABEL
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
    ):
        self.found: list[str] = []
        self.data_dir = pathlib.Path(data_dir) if data_dir else None
        self.files = {split: pathlib.Path(path) for split, path in (files or {}).items() if path}
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise InputError(f"--data_dir={data_dir}: no such folder")

    @abc.abstractmethod
    def read(self, split: str) -> list[Example]:
        """The examples of "train", "dev" or "test", in the file's order.

        Raises:
            InputError: naming file and line of whatever is wrong.
        """

    def path(self, split: str) -> pathlib.Path:
        """The file of a split; InputError where none is given or found."""
        if split in self.files:
            return self.files[split]
        names = self.file_names[split]
        if self.data_dir is None:
            raise InputError(f"{self.name}: no {split} file; give --data_dir or {SPLITS[split]}")
        for name in names:
            if (self.data_dir / name).is_file():
                return self.data_dir / name
        raise InputError(
            f"--data_dir={self.data_dir}: no {' or '.join(names)}; give {SPLITS[split]} or another "
            "folder"
        )

    @property
    def num_outputs(self) -> int:
        """Width of the logits: one a label, 1 for regression."""
        return 1 if self.problem_type == REGRESSION else len(self.labels)

    def score(self, labels: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
        """The official metrics of float logits [n, outputs] against `label_array`'s labels."""
        predictions = decide(logits, self.problem_type)
        if self.problem_type == MULTI_LABEL:
            labels = np.asarray(labels, "int32")
        return task_metrics.compute(self.metrics, self.problem_type, labels, predictions)

    def to_dict(self) -> dict[str, Any]:
        """What `task.json` keeps, so that a model directory can be evaluated and served alone."""
        return {
            "task_name": self.name,
            "text_columns": self.text_columns,
            "metrics": list(self.metrics),
        }

    def adopt(self, labels: Sequence[str] | None, task: Mapping[str, Any], where: str) -> None:
        """Takes over what a fine-tuned model says of itself, before a file is read.

        A model whose config.json has no label names ("LABEL_0") gets those of the task.

        Args:
            labels: the model's, by output.
            task: its task.json, with `problem_type`.
            where: what errors call the model.

        Raises:
            InputError: the model was made for another kind of problem, or for other labels.
        """
        if task["problem_type"] != self.problem_type:
            raise InputError(
                f"{where}: the model does {task['problem_type']}, {self.name} is "
                f"{self.problem_type}; give the model of this task"
            )
        theirs = [label.lower() for label in labels or ()]
        unnamed = [f"label_{k}" for k in range(len(self.labels))]
        ours = [label.lower() for label in self.labels]
        if self.problem_type != REGRESSION and theirs not in (ours, unnamed):
            raise InputError(
                f"{where}: the model's labels are {', '.join(labels or ())}, those of "
                f"{self.name} {', '.join(self.labels)}; give the model of this task"
            )


def label_array(examples: Sequence[Example], task: Task) -> np.ndarray | None:
    """Labels as the loss takes them; None where the examples have none.

    Returns:
        int32 [n] class numbers, float32 [n] scores, or float32 [n, labels] of 0 and 1.
    """
    if not examples or examples[0].label is None:
        return None
    if task.problem_type == SINGLE_LABEL:
        return np.array([example.label for example in examples], "int32")
    if task.problem_type == REGRESSION:
        return np.array([example.label for example in examples], "float32")
    array = np.zeros((len(examples), len(task.labels)), "float32")
    for row, example in enumerate(examples):
        assert isinstance(example.label, tuple)
        array[row, list(example.label)] = 1.0
    return array


def probabilities(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Softmax over the labels, or a sigmoid for each of several; float64 [n, labels]."""
    logits = np.asarray(logits, "float64")
    if problem_type == MULTI_LABEL:
        return np.exp(-np.logaddexp(0.0, -logits))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def decide(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Class numbers int [n], 0 or 1 int32 [n, labels], or scores float [n]."""
    if problem_type == REGRESSION:
        return np.asarray(logits)[:, 0]
    if problem_type == MULTI_LABEL:
        return (probabilities(logits, problem_type) >= THRESHOLD).astype("int32")
    return np.argmax(logits, axis=-1)


def prediction_table(task: Task, examples: Sequence[Example], logits: np.ndarray) -> str:
    """The prediction file: a header, then a line an example.

    Before `["7", ...]` and logits `[[0.0, 1.1], ...]`, after, tab-separated:

        id  label     negative  positive
        7   positive  0.249740  0.750260

    For several labels the second column, `labels`, is a JSON list; for regression it is `score`
    and the last.
    """
    decided = decide(logits, task.problem_type)
    if task.problem_type == REGRESSION:
        lines = ["id\tscore"]
        lines += [f"{e.id}\t{score:.6f}" for e, score in zip(examples, decided, strict=True)]
        return "\n".join(lines) + "\n"

    multi = task.problem_type == MULTI_LABEL
    lines = ["\t".join(["id", "labels" if multi else "label", *task.labels])]
    shares = probabilities(logits, task.problem_type)
    for example, choice, row in zip(examples, decided, shares, strict=True):
        if multi:
            name = json.dumps([task.labels[k] for k in np.flatnonzero(choice)], ensure_ascii=False)
        else:
            name = task.labels[choice]
        lines.append("\t".join([example.id, name, *(f"{p:.6f}" for p in row)]))
    return "\n".join(lines) + "\n"


def text_cell(table: tables.Table, row: int, column: int) -> str:
    """A text of the row; InputError where it is not a string (JSONL) or is empty."""
    value = table.rows[row][column]
    if not isinstance(value, str):
        name = table.header[column] if table.header else str(column)
        found = "nothing" if value is tables.MISSING else type(value).__name__
        raise InputError(f"{table.where(row)}: {name!r} holds {found}, expected a text")
    if not value.strip():
        name = table.header[column] if table.header else f"column {column}"
        raise InputError(f"{table.where(row)}: {name!r} is empty, expected a text")
    return value
