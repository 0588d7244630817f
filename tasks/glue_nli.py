"""The tasks of GLUE on inference: does the second text follow from the first?

Wang et al., 2018: https://arxiv.org/abs/1804.07461. MNLI: Williams et al., 2018,
https://arxiv.org/abs/1704.05426. The classes of three are in google-research/bert's order.
"""

import pathlib
from collections.abc import Mapping

from bert_keras.errors import InputError
from tasks import tables
from tasks.glue import GlueTask, kept

NLI_LABELS = ("contradiction", "entailment", "neutral")

# In place of a label where the annotators did not agree.
_NO_MAJORITY = "-"


class MNLI(GlueTask):
    """Multi-Genre Natural Language Inference: entailed, contradicted, or neither?

    "index | ... | sentence1 | sentence2 | label1 | gold_label": 12 columns in train, 16 in dev,
    10 in test, found by name. Dev and test come twice, of the genres in train ("matched") and of
    five others ("mismatched"). Rows without a majority label are left out of train and dev. A dev
    or test file that is named by hand is evaluated alone.
    """

    name = "mnli"
    labels = NLI_LABELS
    file_labels = NLI_LABELS
    text_names = ("sentence1", "sentence2")
    label_name = "gold_label"
    empty_texts = True
    file_names = {
        "train": ("train.tsv",),
        "dev": ("dev_matched.tsv",),
        "dev_mismatched": ("dev_mismatched.tsv",),
        "test": ("test_matched.tsv",),
        "test_mismatched": ("test_mismatched.tsv",),
    }
    dev_splits: tuple[str, ...] = ("dev", "dev_mismatched")
    test_splits: tuple[str, ...] = ("test", "test_mismatched")

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
    ):
        super().__init__(data_dir, files=files)
        if "dev" in self.files:
            self.dev_splits = tuple(split for split in self.dev_splits if split in self.files)
        if "test" in self.files:
            self.test_splits = tuple(split for split in self.test_splits if split in self.files)

    def path(self, split: str) -> pathlib.Path:
        if not split.endswith("_mismatched") or split in self.files:
            return super().path(split)
        (name,) = self.file_names[split]
        if self.data_dir is None:
            raise InputError(f"{self.name}: no {split} file; give --data_dir")
        if not (self.data_dir / name).is_file():
            raise InputError(f"--data_dir={self.data_dir}: no {name}; give another folder")
        return self.data_dir / name

    def table(self, split: str) -> tables.Table:
        table = super().table(split)
        if split.startswith("test"):
            return table
        label = table.column(self.label_name)
        rows = [row for row, cells in enumerate(table.rows) if cells[label] != _NO_MAJORITY]
        if not rows:
            expected = ", ".join(NLI_LABELS)
            raise InputError(f"{table.path}: no row has a label; expected one of {expected}")
        if len(rows) < len(table.rows):
            missing = len(table.rows) - len(rows)
            self.note(f"{table.path}: {missing} rows without a majority label left out")
        return kept(table, rows)


class AX(GlueTask):
    """GLUE's diagnostic set: one phenomenon of language a pair, for a model of MNLI.

    "index | sentence1 | sentence2" in diagnostic.tsv; with labels, "Lexical Semantics | ... |
    Premise | Hypothesis | Label" in diagnostic-full.tsv. There is nothing to train on. The metric
    is Matthews' correlation of three classes (Gorodkin's R3).
    """

    name = "ax"
    labels = NLI_LABELS
    file_labels = NLI_LABELS
    metrics = ("matthews",)
    text_names = ("sentence1", "sentence2")
    other_names = {"Premise": "sentence1", "Hypothesis": "sentence2", "Label": "label"}
    file_names = {
        "train": (),
        "dev": ("diagnostic-full.tsv",),
        "test": ("diagnostic.tsv", "diagnostic-full.tsv"),
    }

    def path(self, split: str) -> pathlib.Path:
        if split == "train":
            raise InputError(
                "--task_name=ax: has no training rows; train on mnli, and evaluate that model here"
            )
        return super().path(split)


class QNLI(GlueTask):
    """Question-answering NLI: does the sentence of Wikipedia answer the question?

    "index | question | sentence | label", made from SQuAD 1.1. The label is "entailment" or
    "not_entailment".
    """

    name = "qnli"
    labels = ("entailment", "not_entailment")
    file_labels = labels
    text_names = ("question", "sentence")


class RTE(GlueTask):
    """Recognizing Textual Entailment: does the second sentence follow from the first?

    "index | sentence1 | sentence2 | label", the label "entailment" or "not_entailment".
    """

    name = "rte"
    labels = ("entailment", "not_entailment")
    file_labels = labels
    text_names = ("sentence1", "sentence2")


class WNLI(GlueTask):
    """Winograd Schema Challenge as entailment: is the pronoun filled in rightly?

    "I stuck a pin through a carrot. When I pulled the pin out, it had a hole. | The carrot had a
    hole. | 1". Dev contradicts train by design: the majority class is the score to know.
    """

    name = "wnli"
    labels = ("not_entailment", "entailment")
    text_names = ("sentence1", "sentence2")
