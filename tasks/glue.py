"""Tasks of GLUE, read from its own files.

Wang et al., 2018: https://arxiv.org/abs/1804.07461. Files are tab-separated (`|`
below) without quoting: a quotation mark is a character. `test.tsv` has an `index` column and no
labels.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from bert_keras.errors import InputError
from tasks import tables
from tasks.classification import Classification, Example
from tasks.metrics import REGRESSION
from tasks.tables import text_cell


class GlueTask(Classification):
    """One or two named text columns and one label column.

    Attributes:
        text_names: header names of the text columns.
        label_name: header name of the label column.
        file_labels: the labels as the files write them, in the order of `labels`.
    """

    text_names: ClassVar[tuple[str, ...]] = ("sentence",)
    label_name: ClassVar[str] = "label"
    file_labels: ClassVar[tuple[str, ...]] = ("0", "1")

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
    ):
        super().__init__(data_dir, files=files)
        self.text_columns = len(self.text_names)
        for path in self.files.values():
            if path.suffix.lower() in (".jsonl", ".json", ".csv"):
                raise InputError(
                    f"{path}: --task_name={self.name} reads GLUE's own .tsv files; for this one "
                    "say --task_name=text_classification"
                )

    def read(self, split: str) -> list[Example]:
        return self.examples(self.table(split), labelled=split != "test")

    def table(self, split: str) -> tables.Table:
        return tables.read_table(self.path(split))

    def examples(self, table: tables.Table, labelled: bool) -> list[Example]:
        texts = [table.column(name) for name in self.text_names]
        label = table.column(self.label_name) if labelled else None
        index = table.column("index") if "index" in (table.header or ()) else None
        examples = []
        for row, cells in enumerate(table.rows):
            where = table.where(row)
            examples.append(
                Example(
                    id=str(row) if index is None else cells[index],
                    text=text_cell(table, row, texts[0]),
                    text_b=text_cell(table, row, texts[1]) if len(texts) == 2 else None,
                    label=None if label is None else self.parse_label(cells[label], where),
                    where=where,
                )
            )
        return examples

    def parse_label(self, cell: str, where: str) -> int | float:
        """The class number of a label as the file writes it."""
        try:
            return self.file_labels.index(cell)
        except ValueError:
            expected = " or ".join(self.file_labels)
            raise InputError(f"{where}: unknown label {cell!r}, expected {expected}") from None


class SST2(GlueTask):
    """Stanford Sentiment Treebank: is a phrase of a film review positive?

    "it 's a charming and often affecting journey . | 1"
    """

    name = "sst-2"
    labels = ("negative", "positive")


class CoLA(GlueTask):
    """Corpus of Linguistic Acceptability: is the sentence English?

    No header: source, label, the author's mark, sentence.
    "gj04 | 0 | * | They drank the pub."
    """

    name = "cola"
    labels = ("unacceptable", "acceptable")
    metrics = ("matthews", "accuracy")
    columns: ClassVar[tuple[str, ...]] = ("source", "label", "mark", "sentence")

    def table(self, split: str) -> tables.Table:
        if split == "test":
            return tables.read_table(self.path(split))
        bare = tables.read_table(self.path(split), header=False, columns=len(self.columns))
        return tables.Table(bare.path, self.columns, bare.rows, bare.lines)


class STSB(GlueTask):
    """Semantic Textual Similarity Benchmark: how alike are two sentences, 0 to 5?

    "... A plane is taking off. | An air plane is taking off. | 5.000"
    """

    name = "sts-b"
    problem_type = REGRESSION
    metrics = ("pearson", "spearman", "pearson_spearman")
    text_names = ("sentence1", "sentence2")
    label_name = "score"
    highest: ClassVar[float] = 5.0

    def parse_label(self, cell: str, where: str) -> float:
        try:
            score = float(cell)
        except ValueError:
            score = math.nan
        if not 0.0 <= score <= self.highest:
            raise InputError(f"{where}: score {cell!r}, expected a number from 0 to 5")
        return score


class MRPC(GlueTask):
    """Microsoft Research Paraphrase Corpus: do two sentences of news say the same?

    "Quality | #1 ID | #2 ID | #1 String | #2 String". Read from GLUE's train.tsv and dev.tsv,
    or from Microsoft's msr_paraphrase_train.txt and msr_paraphrase_test.txt: with GLUE's
    dev_ids.tsv beside them the pairs that it names are taken out of train as dev, without it the
    (labelled) test file is dev.
    """

    name = "mrpc"
    labels = ("not_equivalent", "equivalent")
    metrics = ("accuracy", "f1")
    text_names = ("#1 String", "#2 String")
    label_name = "Quality"
    file_names = {
        "train": ("train.tsv", "msr_paraphrase_train.txt"),
        "dev": ("dev.tsv", "msr_paraphrase_train.txt"),
        "test": ("test.tsv", "msr_paraphrase_test.txt"),
    }

    def path(self, split: str) -> pathlib.Path:
        path = super().path(split)
        if split == "dev" and split not in self.files and path.name == "msr_paraphrase_train.txt":
            test = path.with_name("msr_paraphrase_test.txt")
            return path if path.with_name("dev_ids.tsv").is_file() else test
        return path

    def table(self, split: str) -> tables.Table:
        path = self.path(split)
        if split == "test" or path.name != "msr_paraphrase_train.txt" or split in self.files:
            return tables.read_table(path)
        dev_ids = path.with_name("dev_ids.tsv")
        if not dev_ids.is_file():
            return tables.read_table(path)
        return _part(tables.read_table(path), dev_ids, inside=split == "dev")


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


def _part(table: tables.Table, dev_ids: pathlib.Path, inside: bool) -> tables.Table:
    """The rows whose two ids are in `dev_ids`, or those whose are not."""
    named = {row[:2] for row in tables.read_table(dev_ids, header=False, columns=2).rows}
    first, second = table.column("#1 ID"), table.column("#2 ID")
    kept = [
        row
        for row, cells in enumerate(table.rows)
        if ((cells[first], cells[second]) in named) == inside
    ]
    if not kept:
        which = "none" if inside else "all"
        raise InputError(f"{dev_ids}: names {which} of the pairs in {table.path}; wrong file?")
    return tables.Table(
        table.path, table.header, [table.rows[r] for r in kept], [table.lines[r] for r in kept]
    )
