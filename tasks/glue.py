"""Tasks of GLUE on one sentence, and STS-B, read from its own files.

Wang et al., 2018: https://arxiv.org/abs/1804.07461. Files are tab-separated (`|`
below) without quoting: a quotation mark is a character. `test.tsv` has an `index` column and no
labels. The other pairs are in `tasks.glue_paraphrase` and `tasks.glue_nli`.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
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
        index_name: header name of the column that numbers the test rows.
        other_names: what else files call these columns, {theirs: ours}.
        file_labels: the labels as the files and the leaderboard write them, in the order of
            `labels`.
        empty_texts: whether an empty text is read as one, as every published number of the task
            does; elsewhere it is an error.
    """

    text_names: ClassVar[tuple[str, ...]] = ("sentence",)
    label_name: ClassVar[str] = "label"
    index_name: ClassVar[str] = "index"
    other_names: ClassVar[Mapping[str, str]] = {}
    file_labels: ClassVar[tuple[str, ...]] = ("0", "1")
    empty_texts: ClassVar[bool] = False

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
                    f"{path}: --task_name={self.name} reads the official .tsv files; for this one "
                    "say --task_name=text_classification"
                )

    def read(self, split: str) -> list[Example]:
        return self.examples(self.table(split), labelled=not split.startswith("test"))

    def table(self, split: str) -> tables.Table:
        table = tables.read_table(self.path(split))
        names = tuple(self.other_names.get(name, name) for name in table.header or ())
        return dataclasses.replace(table, header=names)

    def examples(self, table: tables.Table, labelled: bool) -> list[Example]:
        texts = [table.column(name) for name in self.text_names]
        label = table.column(self.label_name) if labelled else None
        numbered = self.index_name in (table.header or ())
        index = table.column(self.index_name) if numbered else None
        examples = []
        for row, cells in enumerate(table.rows):
            where = table.where(row)
            pair = [cells[c] if self.empty_texts else text_cell(table, row, c) for c in texts]
            examples.append(
                Example(
                    id=str(row) if index is None else cells[index],
                    text=pair[0],
                    text_b=pair[1] if len(pair) == 2 else None,
                    label=None if label is None else self.parse_label(cells[label], where),
                    where=where,
                )
            )
        empty = sum(not all(cells[c].strip() for c in texts) for cells in table.rows)
        if empty:
            self.note(f"{table.path}: {empty} rows with an empty text, kept as they are")
        return examples

    def parse_label(self, cell: str, where: str) -> int | float:
        """The class number of a label as the file writes it."""
        try:
            return self.file_labels.index(cell)
        except ValueError:
            expected = " or ".join(self.file_labels)
            raise InputError(f"{where}: unknown label {cell!r}, expected {expected}") from None

    def note(self, line: str) -> None:
        """Adds a line to `found`, once however often the file is read."""
        if line not in self.found:
            self.found.append(line)


class SST2(GlueTask):
    """Stanford Sentiment Treebank: is a phrase of a film review positive?

    "it 's a charming and often affecting journey . | 1"
    """

    name = "sst-2"
    labels = ("negative", "positive")


class CoLA(GlueTask):
    """Corpus of Linguistic Acceptability: is the sentence English?

    Source, label, the author's mark, sentence: "gj04 | 0 | * | They drank the pub.". GLUE's train
    and dev have no header; copies that name their columns are read by these names.
    """

    name = "cola"
    labels = ("unacceptable", "acceptable")
    metrics = ("matthews", "accuracy")
    columns: ClassVar[tuple[str, ...]] = ("source", "label", "mark", "sentence")

    def table(self, split: str) -> tables.Table:
        path = self.path(split)
        if split == "test" or "sentence" in read_rows(path)[0]:
            return super().table(split)
        bare = tables.read_table(path, header=False, columns=len(self.columns))
        return dataclasses.replace(bare, header=self.columns)


class STSB(GlueTask):
    """Semantic Textual Similarity Benchmark: how alike are two sentences, 0 to 5?

    "... A plane is taking off. | An air plane is taking off. | 5.000". The files of the benchmark
    itself, in GLUE's folder `original`, have no header, labels for test too, and rows of 7 columns
    or more.
    """

    name = "sts-b"
    problem_type = REGRESSION
    metrics = ("pearson", "spearman", "pearson_spearman")
    text_names = ("sentence1", "sentence2")
    label_name = "score"
    highest: ClassVar[float] = 5.0
    original: ClassVar[tuple[str, ...]] = (
        *("genre", "filename", "year", "old_index"),
        *("score", "sentence1", "sentence2"),
    )

    def table(self, split: str) -> tables.Table:
        path = self.path(split)
        rows = read_rows(path)
        width = len(self.original)
        if len(rows[0]) < width or not rows[0][4].replace(".", "", 1).isdecimal():
            return super().table(split)
        for line, cells in enumerate(rows, start=1):
            if len(cells) < width:
                raise InputError(f"{path}:{line}: {len(cells)} columns, expected {width} or more")
        cut = [cells[:width] for cells in rows]
        return tables.Table(path, self.original, cut, list(range(1, len(cut) + 1)))

    def parse_label(self, cell: str, where: str) -> float:
        try:
            score = float(cell)
        except ValueError:
            score = math.nan
        if not 0.0 <= score <= self.highest:
            raise InputError(f"{where}: score {cell!r}, expected a number from 0 to 5")
        return score


def read_rows(path: pathlib.Path) -> list[tuple[str, ...]]:
    """The cells of every line, the header among them, however many a line has."""
    lines = tables.read_text(path).rstrip("\r\n").split("\n")
    return [tuple(line.removesuffix("\r").split("\t")) for line in lines]


def kept(table: tables.Table, rows: Sequence[int]) -> tables.Table:
    """The table with these rows alone."""
    return dataclasses.replace(
        table, rows=[table.rows[row] for row in rows], lines=[table.lines[row] for row in rows]
    )
