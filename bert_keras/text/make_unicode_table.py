"""Writes unicode_14.json: what BERT's tokenizer has to know about Unicode, with the version stated.

google-research/bert asks the interpreter for categories, lower case and decompositions, so its
token ids depend on the Python that runs it. Here they are read once, from Python 3.11 (Unicode
14.0.0, the supported interpreter), and packaged: ids then stay the same under any Python, any
ICU and any RE2. Run under Python 3.11:

    python bert_keras/text/make_unicode_table.py bert_keras/text/unicode_14.json

Sets of code points are written as hexadecimal ranges ("41-5a 61-7a"), one property a line.
"""

import json
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

VERSION = "14.0.0"
ALL = range(0x110000)
HANGUL = range(0xAC00, 0xAC00 + 11172)  # decomposed by rule, not listed


def ranges(member: Callable[[int], bool]) -> str:
    """The code points for which `member` holds, as hexadecimal ranges."""
    found, start = [], None
    for code in range(0x110001):
        inside = code < 0x110000 and member(code)
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            last = code - 1
            found.append(f"{start:x}-{last:x}" if last > start else f"{start:x}")
            start = None
    return " ".join(found)


def mapping(function: Callable[[str], str]) -> dict[str, str]:
    """Characters that `function` changes, and what they become, in hexadecimal."""
    changed = {}
    for code in ALL:
        if 0xD800 <= code <= 0xDFFF or code in HANGUL:
            continue
        result = function(chr(code))
        if result != chr(code):
            changed[f"{code:x}"] = " ".join(f"{ord(c):x}" for c in result)
    return changed


def cased(code: int) -> bool:
    """Cased and not case-ignorable, told by what it does to a capital sigma that follows."""
    return (chr(code) + "\u03a3").lower().endswith("\u03c2")


def case_ignorable(code: int) -> bool:
    """Skipped over when a capital sigma looks for a cased letter."""
    return not cased(code) and ("A" + chr(code) + "\u03a3").lower().endswith("\u03c2")


def properties(database: Any, code: int) -> tuple:
    """What decides how the tokenizer treats a character, lower case excepted."""
    char = chr(code)
    category = database.category(char)
    category = category if category in ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn") else category[0] == "P"
    return category, database.combining(char), database.normalize("NFD", char)


def unsettled(code: int) -> bool:
    """Not alike in every Unicode library: unassigned, or not what it was in Unicode 3.2.

    Whether it is cased does not count: that matters to capital sigmas alone, whose own rule
    (`graph_tables.settled_pattern`) asks nothing of other characters.
    """
    old, char = unicodedata.ucd_3_2_0, chr(code)
    if unicodedata.category(char) == "Cn":
        return True
    if properties(old, code) != properties(unicodedata, code):
        return True
    return old.category(char) == "Cn" and char.lower() != char


def table() -> dict:
    """The whole table, ready to be written."""
    if unicodedata.unidata_version != VERSION:
        raise SystemExit(f"this Python's Unicode is not {VERSION}: use Python 3.11")

    def category(*names: str) -> str:
        return ranges(lambda code: unicodedata.category(chr(code)) in names)

    classes: dict[int, set[int]] = {}
    for code in ALL:
        classes.setdefault(unicodedata.combining(chr(code)), set()).add(code)
    del classes[0]
    return {
        "unicode_version": VERSION,
        "control": category("Cc", "Cf"),
        "separator": category("Zs", "Zl", "Zp"),
        "punctuation": category("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"),
        "nonspacing_mark": category("Mn"),
        "cased": ranges(cased),
        "case_ignorable": ranges(case_ignorable),
        "unsettled": ranges(unsettled),
        "combining_class": {
            str(value): ranges(members.__contains__) for value, members in sorted(classes.items())
        },
        "lower": mapping(str.lower),
        "decomposition": mapping(lambda char: unicodedata.normalize("NFD", char)),
    }


def text() -> str:
    """The file's content: JSON, one property a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in table().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_unicode_table.py OUTPUT_FILE")
    with open(sys.argv[1], "w", encoding="ascii", newline="\n") as file:
        file.write(text())
