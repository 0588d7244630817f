"""Rows of a TSV, CSV or JSONL file, each with the line it came from.

| suffix       | header          | quoting                                            |
|--------------|-----------------|----------------------------------------------------|
| .tsv .txt    | first line      | none: a quotation mark is a character, as in GLUE   |
| .csv         | first record    | RFC 4180: "a, b" and doubled quotation marks        |
| .jsonl .json | keys of objects | JSON, one object a line                             |

Files are UTF-8, with or without a byte order mark; lines end in LF or CR LF.
Every complaint names the file and the line.
"""

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bert_keras.errors import InputError

# How JSON may write half of a surrogate pair, which is no character and has no UTF-8.
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".txt")

# The cell of a JSON object that lacks the key.
MISSING = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A file read whole: `rows[i]` has one cell a column and began on line `lines[i]`.

    `header` is None where the file has none. Cells are strings, except in JSONL, where they
    are whatever JSON says.
    """

    path: pathlib.Path
    header: tuple[str, ...] | None
    rows: list[tuple[Any, ...]]
    lines: list[int]

    def where(self, row: int) -> str:
        """What errors call a row: "file:line"."""
        return f"{self.path}:{self.lines[row]}"

    def column(self, name: str, flag: str = "") -> int:
        """The position of the column `name`; InputError lists those that there are."""
        if self.header is not None and name in self.header:
            return self.header.index(name)
        there = ", ".join(self.header) if self.header is not None else "no header"
        asked = f" (asked for by {flag})" if flag else ""
        raise InputError(f"{self.path}:1: no column {name!r}{asked}; the file has: {there}")


def read_text(path: pathlib.Path) -> str:
    """The file as text. Raises InputError for a missing or empty file, NUL, or broken UTF-8."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{path}: the file is empty; expected one example a line")
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise InputError(f"{path}:{line}: a NUL character; expected UTF-8 text, remove it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from after the byte order mark.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[start]:02x}); convert the file to UTF-8"
        ) from None


def read_table(
    path: str | pathlib.Path, *, header: bool = True, columns: int | None = None
) -> Table:
    """Reads one file; the suffix decides the format.

    Args:
        path: the file.
        header: whether the first record names the columns (JSONL always has names).
        columns: the number of columns to insist on; by default that of the first record.
    """
    path = pathlib.Path(path)
    readers = {
        ".tsv": _read_tsv,
        ".txt": _read_tsv,
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".json": _read_jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        expected = " ".join(SUFFIXES)
        raise InputError(
            f"{path}: unknown kind of file {path.suffix!r}; expected one of {expected}"
        )
    text = read_text(path)
    if reader is _read_jsonl:
        return _read_jsonl(path, text)

    records, lines = reader(path, text)
    columns = columns or len(records[0])
    for record, line in zip(records, lines, strict=True):
        if len(record) != columns:
            raise InputError(
                f"{path}:{line}: {len(record)} columns, expected {columns}"
                + (f" ({', '.join(records[0])})" if header else "")
            )
    names = None
    if header:
        names = tuple(name.strip() for name in records[0])
        records, lines = records[1:], lines[1:]
        if not records:
            raise InputError(f"{path}: nothing but a header; expected one example a line")
    return Table(path, names, records, lines)


def text_cell(table: Table, row: int, column: int) -> str:
    """A text of the row; InputError where it is not a string (JSONL) or is empty."""
    value = table.rows[row][column]
    if not isinstance(value, str):
        name = table.header[column] if table.header else str(column)
        found = "nothing" if value is MISSING else type(value).__name__
        raise InputError(f"{table.where(row)}: {name!r} holds {found}, expected a text")
    if not value.strip():
        name = table.header[column] if table.header else f"column {column}"
        raise InputError(f"{table.where(row)}: {name!r} is empty, expected a text")
    return value


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV (RFC 4180), each line ended by LF."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _read_tsv(path, text):
    del path
    lines = text.split("\n")  # not splitlines(): that also breaks at U+2028 and others
    while lines and not lines[-1].strip("\r"):
        lines.pop()
    records = [tuple(line.removesuffix("\r").split("\t")) for line in lines]
    return records, list(range(1, len(records) + 1))


def _read_csv(path, text):
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records, lines = [], []
    start = 1
    try:
        for record in reader:
            if record:
                records.append(tuple(record))
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{start}: not CSV: {error}") from None
    return records, lines


def _read_jsonl(path, text):
    objects, lines = [], []
    names: dict[str, None] = {}
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            reason = "nested too deeply" if deep else getattr(error, "msg", "too long a number")
            raise InputError(f"{path}:{line}: not JSON: {reason}") from None
        if not isinstance(value, dict):
            raise InputError(f"{path}:{line}: expected one JSON object a line")
        if _HALF_PAIR.search(content):
            _refuse_half_pairs(value, f"{path}:{line}")
        objects.append(value)
        lines.append(line)
        names.update(dict.fromkeys(value))
    rows = [tuple(value.get(name, MISSING) for name in names) for value in objects]
    return Table(path, tuple(names), rows, lines)


def _refuse_half_pairs(value, where):
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise InputError(f"{where}: {half} alone is half a character; remove it") from None
