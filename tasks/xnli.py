"""XNLI: one model of inference, asked in fifteen languages.

Conneau et al., 2018: https://arxiv.org/abs/1809.05053. A network is trained on MNLI, in English or
machine-translated, and evaluated on pairs that people translated.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras.errors import InputError
from tasks import tables
from tasks.classification import Example
from tasks.glue import GlueTask, kept
from tasks.glue_nli import NLI_LABELS

_LANGUAGE = "language"


class XNLI(GlueTask):
    """Cross-lingual NLI: entailed, contradicted, or neither, in each language?

    "premise | hypo | label" in multinli.train.LANGUAGE.tsv, where a contradiction is called
    "contradictory"; "language | gold_label | ... | sentence1 | sentence2 | ..." in xnli.dev.tsv and
    xnli.test.tsv. Each evaluated language is a split, "dev:de"; "dev" is all of them together. The
    test file has labels: give it as `--eval_file` to measure on it.

    Args:
        data_dir: holds xnli.dev.tsv and xnli.test.tsv, and the training file, which may lie in
            `multinli` as in the archives.
        files: file by split, instead.
        train_language: of the training file, as in its name.
        eval_languages: to be evaluated, in this order; by default all, in the file's.

    Attributes:
        languages: those that are evaluated; empty where neither dev nor test is there.
        dev_splits, test_splits: one a language.

    Raises:
        InputError: a language is not in the file, or the file is wrong.
    """

    name = "xnli"
    labels = NLI_LABELS
    file_labels = NLI_LABELS
    text_names = ("sentence1", "sentence2")
    label_name = "gold_label"
    other_names = {"premise": "sentence1", "hypo": "sentence2", "label": "gold_label"}
    empty_texts = True
    file_names = {
        "train": (
            "multinli.train.{language}.tsv",
            "multinli/multinli.train.{language}.tsv",
            "XNLI-MT-1.0/multinli/multinli.train.{language}.tsv",
        ),
        "dev": ("xnli.dev.tsv", "XNLI-1.0/xnli.dev.tsv"),
        "test": ("xnli.test.tsv", "XNLI-1.0/xnli.test.tsv"),
    }
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
        train_language: str = "en",
        eval_languages: Sequence[str] = (),
    ):
        super().__init__(data_dir, files=files)
        self.train_language = train_language
        self.languages = tuple(eval_languages)
        self._read: dict[str, tables.Table] = {}
        evaluated = next((split for split in ("dev", "test") if self._is_there(split)), None)
        if evaluated:
            self.languages = self._languages(evaluated)
        if self.languages:
            self.dev_splits = tuple(f"dev:{language}" for language in self.languages)
            self.test_splits = tuple(f"test:{language}" for language in self.languages)

    def path(self, split: str) -> pathlib.Path:
        kind = split.partition(":")[0]
        if kind != "train" or kind in self.files or self.data_dir is None:
            return super().path(kind)
        names = [name.format(language=self.train_language) for name in self.file_names[kind]]
        for name in names:
            if (self.data_dir / name).is_file():
                return self.data_dir / name
        raise InputError(
            f"--data_dir={self.data_dir}: no {names[0]} for --train_language="
            f"{self.train_language}; give --train_file or another folder"
        )

    def read(self, split: str) -> list[Example]:
        kind, _, language = split.partition(":")
        if kind == "train":
            return super().read(split)
        table = self.table(kind)
        column = table.column(_LANGUAGE)
        asked = (language,) if language else self._languages(kind)
        rows = [row for row, cells in enumerate(table.rows) if cells[column] in asked]
        if not rows:
            raise InputError(f"{table.path}: no row in {' or '.join(asked)}")
        return self.examples(kept(table, rows), labelled=kind == "dev")

    def table(self, split: str) -> tables.Table:
        """The file of "train", "dev" or "test"; the last two are read once for all languages."""
        if split == "train":
            return super().table(split)
        if split not in self._read:
            whole = super().table(split)
            names = (_LANGUAGE, *self.text_names, *([self.label_name] if split == "dev" else []))
            columns = [whole.column(name) for name in names]
            # The parses and tokens beside them are most of the file.
            rows = [tuple(cells[column] for column in columns) for cells in whole.rows]
            self._read[split] = dataclasses.replace(whole, header=names, rows=rows)
        return self._read[split]

    def parse_label(self, cell: str, where: str) -> int | float:
        return super().parse_label("contradiction" if cell == "contradictory" else cell, where)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"train_language": self.train_language}

    def _is_there(self, split: str) -> bool:
        folder = self.data_dir
        names = () if folder is None else self.file_names[split]
        return split in self.files or any((folder / name).is_file() for name in names if folder)

    def _languages(self, split: str) -> tuple[str, ...]:
        """Those asked for, or else all of the file."""
        table = self.table(split)
        column = table.column(_LANGUAGE)
        there = tuple(dict.fromkeys(cells[column] for cells in table.rows))
        for language in self.languages:
            if language not in there:
                raise InputError(
                    f"--eval_languages: {language!r} is not in {table.path}; it has "
                    f"{', '.join(there)}"
                )
        return self.languages or there
