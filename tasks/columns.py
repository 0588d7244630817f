"""Finds out which columns of a table hold the texts and the label."""

from typing import Any, NamedTuple

from bert_keras.errors import InputError
from tasks import tables

# Header names, case aside, in the order in which they are tried. A pair is tried before one text.
PAIRS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "answer"),
    ("query", "document"),
    ("text", "text_b"),
)
TEXTS = (
    *("text", "sentence", "sentence1", "text_a", "text1", "review", "content", "comment"),
    *("body", "message", "tweet", "document", "question", "query", "title"),
)
LABELS = (
    *("label", "labels", "class", "category", "categories", "sentiment", "target"),
    *("intent", "topic", "tags", "gold_label", "score", "rating", "stars", "quality"),
)


class Columns(NamedTuple):
    """Header names, or positions as digits for a file without a header; None where none."""

    text: str | None = None
    text_b: str | None = None
    label: str | None = None


def find_columns(
    table: tables.Table, asked: Columns, *, labelled: bool
) -> tuple[tables.Table, Columns, str]:
    """Fills in the columns that were not asked for.

    By the names in the header; where none is known, by content: the label column is the one with
    the fewest different values, the text column the one with the longest cells. Then the first
    line is data rather than a header if its label occurs further down.

    Args:
        table: a file read with its first record as header.
        asked: what the caller named.
        labelled: whether a label column is needed.

    Returns:
        the table (with its first line moved to the rows if that was no header), the columns, and
        one line on what was found.

    Raises:
        InputError: nothing fits; lists the columns that there are.
    """
    if table.header is None:
        raise InputError(
            f"{table.path}: columns by position; give --text_column and --label_column"
        )
    by_name = {name.lower(): name for name in reversed(table.header)}
    text, text_b, label = asked
    if label is None:
        label = next((by_name[name] for name in LABELS if name in by_name), None)
        if label == text:
            label = None
    if text is None:
        pair = next((p for p in PAIRS if p[0] in by_name and p[1] in by_name), None)
        if pair and label not in (by_name[pair[0]], by_name[pair[1]]):
            text, text_b = by_name[pair[0]], text_b or by_name[pair[1]]
        else:
            names = [by_name[name] for name in TEXTS if name in by_name]
            text = next((name for name in names if name not in (label, text_b)), None)

    how = "by the header's names"
    if text is None or (labelled and label is None):
        table, text, label = _by_content(table, text, label, labelled)
        how = "by their content" if table.header else "by their content, and no header"
    found = Columns(text, text_b, label)
    roles = [
        f"{role} {name!r}"
        for role, name in zip(("text", "second text", "label"), found, strict=True)
        if name is not None
    ]
    return table, found, f"{' and '.join(roles)} found {how}"


def _by_content(table, text, label, labelled):
    """Columns told apart by what their cells look like."""
    named = text is not None or label is not None
    columns = list(zip(*table.rows, strict=True))
    distinct = [len({str(cell) for cell in column}) for column in columns]
    length = [sum(len(str(cell)) for cell in column) / len(column) for column in columns]
    free = [k for k in range(len(columns)) if table.header[k] not in (text, label)]

    label_at = table.column(label, "--label_column") if label is not None else None
    if label is None and labelled:
        # A column that says the same everywhere is no label; one that never repeats is none either.
        few = [k for k in free if 2 <= distinct[k] <= max(2, len(table.rows) // 2)]
        few = [k for k in few if len(columns) > 1 and length[k] < max(length)]
        if not few:
            raise InputError(_nothing(table, "label", "--label_column"))
        label_at = min(few, key=lambda k: (distinct[k], k))
    text_at = table.column(text, "--text_column") if text is not None else None
    if text is None:
        left = [k for k in free if k != label_at and any(isinstance(c, str) for c in columns[k])]
        if not left:
            raise InputError(_nothing(table, "text", "--text_column"))
        text_at = max(left, key=lambda k: (length[k], -k))

    first_is_data = (
        not named
        and label_at is not None
        and table.path.suffix.lower() not in (".jsonl", ".json")
        and table.header[label_at] in columns[label_at]
    )
    if first_is_data:
        rows: list[tuple[Any, ...]] = [table.header, *table.rows]
        table = tables.Table(table.path, None, rows, [1, *table.lines])
        return table, str(text_at), str(label_at)
    names = table.header
    return table, names[text_at], None if label_at is None else names[label_at]


def _nothing(table: tables.Table, role: str, flag: str) -> str:
    there = ", ".join(repr(name) for name in table.header or ())
    return f"{table.path}:1: found no {role} column among {there}; name it with {flag}"
