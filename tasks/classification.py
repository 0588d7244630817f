"""Tasks of one or two texts and a label, several labels or a score: what the pooled [CLS] tells.

Devlin et al., 2019, section 4.1. A subclass reads its files into `Example`s.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_keras import models
from bert_keras.batch import Loss
from bert_keras.config import BertConfig
from bert_keras.data import features
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.training import losses
from tasks import metrics as task_metrics
from tasks import mistakes, pictures, report_page
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tasks.task import Files, Outputs, Task
from tasks.weights import label_weights

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


class Classification(Task):
    """Texts with labels; see `Task`."""

    network_class = models.Classifier
    problem_type: str = SINGLE_LABEL
    metrics: tuple[str, ...] = ("accuracy",)

    @property
    def num_outputs(self) -> int:
        """Width of the logits: one a label, 1 for regression."""
        return 1 if self.problem_type == REGRESSION else len(self.labels)

    def has_labels(self, examples: Sequence[Example]) -> bool:
        return bool(examples) and examples[0].label is not None

    def network(self, config: BertConfig, **options: Any) -> models.Classifier:
        return models.Classifier(config, self.num_outputs, **options)

    def encode(
        self, tokenizer: Tokenizer, examples: Sequence[Example], max_seq_length: int
    ) -> features.Examples:
        pairs = self.text_columns == 2
        return features.encode(
            tokenizer,
            [example.text for example in examples],
            [example.text_b or "" for example in examples] if pairs else None,
            labels=label_array(examples, self),
            max_seq_length=max_seq_length,
        )

    def make_loss(self, rows: features.Rows, class_weights: str | None = None) -> Loss:
        assert isinstance(rows, features.Examples)
        loss = losses.PROBLEM_LOSSES[self.problem_type]
        weights = label_weights(
            class_weights, self.labels, np.asarray(rows.labels), self.problem_type
        )
        return lambda batch, outputs: loss(batch["labels"], outputs["logits"], weights)

    def score(
        self, examples: Sequence[Example], rows: features.Rows, outputs: Outputs
    ) -> dict[str, Any]:
        labels, logits, decided = self._told(rows, outputs)
        each = losses.PROBLEM_LOSSES[self.problem_type](labels, logits)
        loss = float(np.mean(keras.ops.convert_to_numpy(each), dtype="float64"))
        if self.problem_type == MULTI_LABEL:
            labels = labels.astype("int32")
        found = task_metrics.compute(self.metrics, self.problem_type, labels, decided)
        return found | {"loss": loss}

    def report(
        self,
        examples: Sequence[Example],
        rows: features.Rows,
        outputs: Outputs,
        scores: Mapping[str, Any],
    ) -> Files:
        """A picture, the mistakes, and the page of `report_page`."""
        labels, logits, decided = self._told(rows, outputs)
        name = "scatter.png" if self.problem_type == REGRESSION else "confusion_matrix.png"
        drawn = pictures.picture(self.problem_type, self.labels, labels, decided, self.name)
        if self.problem_type == REGRESSION:
            review = mistakes.of_scores(examples, decided, rows.lengths)
        else:
            several = self.problem_type == MULTI_LABEL
            found = mistakes.of_labels if several else mistakes.of_classes
            shares = probabilities(logits, self.problem_type)
            review = found(examples, self.labels, shares, rows.lengths)
        return {name: drawn} | report_page.write(self.name, scores, review, picture=drawn)

    def predictions(
        self, examples: Sequence[Example], rows: features.Rows, outputs: Outputs
    ) -> Files:
        logits = np.stack(outputs["logits"])
        return {"test_results.tsv": prediction_table(self, examples, logits)}

    def _told(self, rows: features.Rows, outputs: Outputs) -> tuple[np.ndarray, ...]:
        """Labels, logits and what they decide, an array of n rows each."""
        assert isinstance(rows, features.Examples) and isinstance(rows.labels, np.ndarray)
        logits = np.stack(outputs["logits"])
        return rows.labels, logits, decide(logits, self.problem_type)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"text_columns": self.text_columns}

    def adopt(self, labels: Sequence[str] | None, task: Mapping[str, Any], where: str) -> None:
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


def label_array(examples: Sequence[Example], task: Classification) -> np.ndarray | None:
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


def prediction_table(task: Classification, examples: Sequence[Example], logits: np.ndarray) -> str:
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
