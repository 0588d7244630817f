"""Labels as the cells of a table hold them: names, numbers, lists."""

import json
import math
from collections.abc import Iterable
from typing import Any

from bert_keras.errors import InputError
from tasks import tables


def label_name(cell: Any, where: str) -> str:
    """The name in a cell; a number or truth value of JSON as its text."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, (int, float)):
        return str(cell)
    if not isinstance(cell, str) or not cell.strip():
        raise InputError(f"{where}: no label; expected a name")
    return cell.strip()


def number(table: tables.Table, row: int, column: int) -> float:
    """The finite number in a cell."""
    cell = table.rows[row][column]
    try:
        score = float(cell)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{table.where(row)}: label {cell!r}, expected a number")
    return score


def checked(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names, none of them twice and none that would break a line of the prediction file."""
    names = tuple(names)
    for name in names:
        if not name or any(character in name for character in "\t\r\n"):
            raise InputError(f"{where}: a label may hold no tab or line break, here is {name!r}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: the label {twice!r} is named twice")
    return names


def in_order(names: Iterable[str]) -> list[str]:
    """Numbers by value, everything else by alphabet."""
    alphabet = sorted(names)
    return sorted(alphabet, key=float) if all_floats(alphabet) else alphabet


def all_floats(names: Iterable[str]) -> bool:
    """Whether all are finite numbers."""
    try:
        return all(math.isfinite(float(name)) for name in names)
    except ValueError:
        return False


def is_list(cell: Any) -> bool:
    """Whether a cell holds a list, JSON's own or one written in JSON."""
    if isinstance(cell, str) and cell.strip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return False
    return isinstance(cell, list)
