"""What a task is: where its rows lie, how they are encoded, what is learned, and what comes of it.

    files --read--> examples --encode--> rows --the network--> outputs --score, predictions-->

A task knows no flags and no optimizer. One abstract class, and a subclass for each kind of head:
`classification`, `ner`, `squad`, `swag`.
"""

import abc
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bert_keras.batch import Loss
from bert_keras.config import BertConfig
from bert_keras.data.features import Rows
from bert_keras.errors import InputError
from bert_keras.models import EncoderModel
from bert_keras.text.tokenizer import Tokenizer

# A split, and the flag that names its file.
SPLITS = {"train": "--train_file", "dev": "--eval_file", "test": "--predict_file"}

# Of each output of the network by name, an array an example, as `prediction.predict_outputs` gives.
Outputs = Mapping[str, Sequence[np.ndarray]]
# Contents by file name.
Files = dict[str, bytes | str]


class Task(abc.ABC):
    """A data set for fine-tuning.

    Args:
        data_dir: the folder of its files, or None where `files` names those that are needed.
        files: file by split, {"train": path, "dev": path, "test": path}; wins over `data_dir`.

    Attributes:
        name: as in `--task_name`.
        network_class: of `bert_keras.models`.
        text_columns: texts an example: 1, or 2 for pairs.
        problem_type: Hugging Face's name for the kind of a sequence classifier's loss, else None.
        labels: label names by number; empty where there are none.
        metrics: names of the official ones; the first one tells which model is the best.
        points: how many points a metric of 1 is: 100, and 1 where metrics are percentages.
        found: a line on each thing that was found out while reading.
        file_names: by split, the names looked for in `data_dir`, first found first taken.
        max_seq_length: by default; longest row in tokens.
        tokenizer: the model's, for files whose words only it can tell; set before they are read.
        dev_splits, test_splits: what is evaluated and what is predicted; the first comes first
            in the results.
    """

    name: ClassVar[str]
    network_class: ClassVar[type[EncoderModel]]
    file_names: ClassVar[Mapping[str, Sequence[str]]] = {
        "train": ("train.tsv",),
        "dev": ("dev.tsv",),
        "test": ("test.tsv",),
    }
    max_seq_length: ClassVar[int] = 128
    points: ClassVar[float] = 100.0
    tokenizer: Tokenizer | None = None
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    text_columns: int = 1
    problem_type: str | None = None
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...]

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

    def path(self, split: str) -> pathlib.Path:
        """The file of a split; InputError where none is given or found."""
        if split in self.files:
            return self.files[split]
        names = self.file_names[split]
        flag = SPLITS.get(split, "another folder")
        if self.data_dir is None:
            raise InputError(f"{self.name}: no {split} file; give --data_dir or {flag}")
        for name in names:
            if (self.data_dir / name).is_file():
                return self.data_dir / name
        raise InputError(
            f"--data_dir={self.data_dir}: no {' or '.join(names)}; give {flag} or another folder"
        )

    @abc.abstractmethod
    def read(self, split: str) -> Sequence[Any]:
        """The examples of a split, in the file's order.

        Raises:
            InputError: naming file and line of whatever is wrong.
        """

    @abc.abstractmethod
    def has_labels(self, examples: Sequence[Any]) -> bool:
        """Whether they can be trained and evaluated on."""

    def network(self, config: BertConfig, **options: Any) -> EncoderModel:
        """A network with a new head for the task; `options` of `models.EncoderModel`."""
        return self.network_class(config, **options)

    @abc.abstractmethod
    def encode(self, tokenizer: Tokenizer, examples: Sequence[Any], max_seq_length: int) -> Rows:
        """Examples as ids and labels; one example may give several rows, or share one."""

    @abc.abstractmethod
    def make_loss(self, rows: Rows, class_weights: str | None = None) -> Loss:
        """The loss of a batch of `rows`, the training set; `class_weights` as in `tasks.weights`.

        Raises:
            InputError: the task knows no class weights.
        """

    @abc.abstractmethod
    def score(self, examples: Sequence[Any], rows: Rows, outputs: Outputs) -> dict[str, Any]:
        """The metrics of outputs for each of `rows`, and `loss`; None where one is undefined."""

    def report(
        self, examples: Sequence[Any], rows: Rows, outputs: Outputs, scores: Mapping[str, Any]
    ) -> Files:
        """What shows an evaluation beside `scores`, its metrics: pictures, tables, by name."""
        return {}

    @abc.abstractmethod
    def predictions(self, examples: Sequence[Any], rows: Rows, outputs: Outputs) -> Files:
        """The prediction files of the task, contents by name."""

    def to_dict(self) -> dict[str, Any]:
        """What `task.json` keeps, so that a model directory can be evaluated and served alone."""
        return {"task_name": self.name, "metrics": list(self.metrics)}

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
        self.labels = tuple(labels or ())


def no_class_weights(name: str, class_weights: str | None) -> None:
    """Raises InputError where weights are given to a task that knows none."""
    if class_weights:
        raise InputError(f"--class_weights: {name} knows none; leave it out")
