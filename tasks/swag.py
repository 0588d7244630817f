"""SWAG and its like: which of several endings goes with a context.

Zellers et al., 2018: https://arxiv.org/abs/1808.05326. Devlin et al., 2019, section 4.4: a sequence
for each ending, one vector that scores their [CLS], a softmax over the scores.

| file            | context       | endings                              | right one   |
|-----------------|---------------|--------------------------------------|-------------|
| SWAG's .csv     | sent1         | sent2 with ending0, with ending1 ... | label       |
| CODAH's .tsv    | second column | the columns between                  | last column |
| other .csv .tsv | context       | ending0, ending1 ...                 | label       |
| .jsonl          | context       | the same, or a list `endings`        | label       |

Blank endings at the end of a row are none, so that rows may have more and fewer.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import models
from bert_keras.answers import choices
from bert_keras.batch import Loss
from bert_keras.data import features
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.training import losses
from tasks import mistakes, report_page, tables
from tasks.task import Files, Outputs, Task, no_class_weights

_NAMES = ("csv", "tsv", "jsonl")
_ENDING = re.compile(r"ending_?(\d+)", re.IGNORECASE)
_ID = ("id", "index", "video-id", "annot_id")


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A row.

    Attributes:
        id: what the prediction file calls it.
        context: what comes before.
        endings: complete texts that might follow, two or more.
        label: the right one, from 0; None where the file does not say.
        where: "file:line".
    """

    id: str
    context: str
    endings: tuple[str, ...]
    label: int | None = None
    where: str = ""


class Swag(Task):
    """Situations With Adversarial Generations, and tables of the same kind.

    "On stage, a woman takes a seat at the piano. She | sits on a bench as her sister plays with
    the doll. | smiles with someone as the music plays. | ... | 3"

    Args:
        data_dir, files: see `Task`.
        text_column, ending_columns, label_column: header names, where they are none of the above.
    """

    name = "swag"
    network_class = models.MultipleChoice
    metrics = ("accuracy",)
    file_names = {
        "train": tuple(f"train.{suffix}" for suffix in _NAMES),
        "dev": tuple(f"{name}.{suffix}" for name in ("val", "dev") for suffix in _NAMES),
        "test": tuple(f"test.{suffix}" for suffix in _NAMES),
    }

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
        text_column: str | None = None,
        ending_columns: Sequence[str] = (),
        label_column: str | None = None,
    ):
        super().__init__(data_dir, files=files)
        self._asked = (text_column, tuple(ending_columns), label_column)

    def read(self, split: str) -> list[Choice]:
        path = self.path(split)
        table = tables.read_table(path, header=not _is_codah(path))
        if table.header is None:
            places = range(len(table.rows[0]))
            names = ["categories", "context", *(f"ending{k}" for k in places[:-3]), "label"]
            table = dataclasses.replace(table, header=tuple(names))
        return self._examples(table, labelled=split != "test")

    def has_labels(self, examples: Sequence[Choice]) -> bool:
        return bool(examples) and examples[0].label is not None

    def encode(
        self, tokenizer: Tokenizer, examples: Sequence[Choice], max_seq_length: int
    ) -> features.Choices:
        labels = None
        if self.has_labels(examples):
            labels = np.array([example.label for example in examples], "int32")
        return choices.encode(
            tokenizer,
            [(example.context, example.endings) for example in examples],
            labels=labels,
            max_seq_length=max_seq_length,
        )

    def make_loss(self, rows: features.Rows, class_weights: str | None = None) -> Loss:
        no_class_weights(self.name, class_weights)
        return lambda batch, outputs: losses.choice_loss(
            batch["labels"], outputs["logits"], batch["padding_mask"]
        )

    def score(
        self, examples: Sequence[Choice], rows: features.Rows, outputs: Outputs
    ) -> dict[str, Any]:
        right, total = 0, 0.0
        for example, logits in zip(examples, _logits(examples, outputs), strict=True):
            assert example.label is not None
            right += int(logits.argmax()) == example.label
            total -= float(_log_softmax(logits)[example.label])
        return {"accuracy": right / len(examples), "loss": total / len(examples)}

    def report(
        self,
        examples: Sequence[Choice],
        rows: features.Rows,
        outputs: Outputs,
        scores: Mapping[str, Any],
    ) -> Files:
        """The mistakes, and the page of `report_page`."""
        shares = [np.exp(_log_softmax(logits)) for logits in _logits(examples, outputs)]
        review = mistakes.of_choices(examples, shares, rows.lengths)
        return report_page.write(self.name, scores, review)

    def predictions(
        self, examples: Sequence[Choice], rows: features.Rows, outputs: Outputs
    ) -> Files:
        """`test_results.csv`: id, the choice from 0, and the probability of each ending."""
        most = max(len(example.endings) for example in examples)
        lines = [["id", "label", *(f"probability{k}" for k in range(most))]]
        for example, logits in zip(examples, _logits(examples, outputs), strict=True):
            shares = [f"{p:.6f}" for p in np.exp(_log_softmax(logits))]
            lines.append([example.id, str(logits.argmax()), *shares, *[""] * (most - len(shares))])
        return {"test_results.csv": tables.csv_text(lines)}

    def _examples(self, table: tables.Table, labelled: bool) -> list[Choice]:
        context, starts, endings, label = self._columns(table, labelled)
        place = next((k for k, name in enumerate(table.header or ()) if name in _ID), None)
        return [
            self._example(table, row, context, starts, endings, label, place)
            for row in range(len(table.rows))
        ]

    def _columns(
        self, table: tables.Table, labelled: bool
    ) -> tuple[int, int | None, list[int], int | None]:
        """Where the context, what begins each ending, the endings and the label stand."""
        header = table.header or ()
        text, asked, label = self._asked
        swag = text is None and "sent1" in header
        context = table.column("sent1" if swag else text or "context", "--text_column")
        starts = table.column("sent2") if swag else None
        if asked:
            endings = [table.column(name, "--ending_columns") for name in asked]
        elif "endings" in header:
            endings = [header.index("endings")]
        else:
            found = {int(m[1]): k for k, n in enumerate(header) if (m := _ENDING.fullmatch(n))}
            endings = [found[number] for number in sorted(found)]
            if len(endings) < 2:
                raise InputError(
                    f"{table.path}:1: no columns ending0, ending1, ...; the file has: "
                    f"{', '.join(header)}; name them with --ending_columns"
                )
        place = table.column(label or "label", "--label_column") if labelled else None
        return context, starts, endings, place

    def _example(
        self,
        table: tables.Table,
        row: int,
        context: int,
        starts: int | None,
        columns: list[int],
        label: int | None,
        place: int | None,
    ) -> Choice:
        cells, where = table.rows[row], table.where(row)
        endings = [cells[column] for column in columns]
        if len(columns) == 1 and isinstance(endings[0], list):
            endings = endings[0]
        while endings and (endings[-1] is tables.MISSING or endings[-1] == ""):
            endings.pop()
        if len(endings) < 2 or not all(isinstance(e, str) and e.strip() for e in endings):
            raise InputError(
                f"{where}: {len(endings)} ending(s); expected two texts or more, none of them "
                "empty but at the end"
            )
        start = str(cells[starts] or "") if starts is not None else ""
        return Choice(
            id=str(row) if place is None else str(cells[place]),
            context=tables.text_cell(table, row, context),
            endings=tuple(f"{start} {ending}".strip() for ending in endings),
            label=None if label is None else _label(cells[label], len(endings), where),
            where=where,
        )


class CODAH(Swag):
    """COmmonsense Dataset Adversarially-authored by Humans: SWAG's task in 2,776 rows.

    Chen et al., 2019: https://arxiv.org/abs/1904.04365. Where the folder has its one file,
    full_data.tsv, alone, rows 0, 5, 10, ... are dev and test, the others train.
    """

    name = "codah"
    file_names = {split: (*names, "full_data.tsv") for split, names in Swag.file_names.items()}

    def read(self, split: str) -> list[Choice]:
        examples = super().read(split)
        if self.path(split).name != "full_data.tsv" or split in self.files:
            return examples
        line = f"{self.path(split)}: every fifth row, from the first, is dev and test"
        if line not in self.found:
            self.found.append(line)
        return [e for k, e in enumerate(examples) if (k % 5 == 0) == (split != "train")]


def _is_codah(path: pathlib.Path) -> bool:
    """Whether the first line is a row of texts with a number at its end, and so no header."""
    if path.suffix.lower() != ".tsv":
        return False
    first = tables.read_text(path).split("\n", 1)[0].rstrip("\r").split("\t")
    return len(first) >= 5 and first[-1].isdigit()


def _label(cell: Any, count: int, where: str) -> int:
    text = str(cell).strip()
    if not text.isascii() or not text.isdigit() or int(text) >= count:
        raise InputError(
            f"{where}: label {cell!r}; expected the number of the right ending, 0 to {count - 1}"
        )
    return int(text)


def _logits(examples: Sequence[Choice], outputs: Outputs) -> list[np.ndarray]:
    """Of each row those of its own endings, float64."""
    pairs = zip(examples, outputs["logits"], strict=True)
    return [row[: len(example.endings)].astype("float64") for example, row in pairs]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits)
