"""The Unicode table as arrays that a TensorFlow graph can gather from, and as RE2 classes.

A code point's record is found through its block of 128, as most blocks are alike:
`records[blocks[code >> 7] << 7 | code & 127]`. The record's bits, from the lowest:
    20  the code point it becomes, minus itself, plus 2**19; or the row of its several parts
    3   kind (WORD, ALONE, SPACE, CONTROL, ACCENT)
    2   1: cased, 2: skipped when a capital sigma looks for a cased letter
    1   has several parts
    1   a mark that canonical ordering may move, and that stays in the text
    1   capital sigma
The last three are special: where no character of a batch has one, its normal form is one sum.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bert_keras.text import unicode_table
from bert_keras.text.unicode_table import ACCENT, ALONE, HANGUL, WORD, Part, UnicodeTable

DELTA_MASK, DELTA_ZERO = (1 << 20) - 1, 1 << 19
KIND_SHIFT, CASE_SHIFT = 20, 23
CASED, CASE_IGNORABLE = 1, 2
SEVERAL, REORDERING, SIGMA = 1 << 25, 1 << 26, 1 << 27
SPECIAL = SEVERAL  # and above
BLOCK_BITS = 7


class NormalForms(NamedTuple):
    """Every code point's normal form.

    `part_starts` and `part_lengths` [rows] delimit the parts of a code point with several, in
    `part_codes` and `part_kinds`.
    """

    blocks: np.ndarray
    records: np.ndarray
    part_starts: np.ndarray
    part_lengths: np.ndarray
    part_codes: np.ndarray
    part_kinds: np.ndarray


def normal_forms(table: UnicodeTable, lower_case: bool, keep_accents: bool) -> NormalForms:
    """The arrays, with accents as parts of their own (`keep_accents`) or left out.

    A character that is nothing but accents keeps one in any case, to be dropped later.
    """
    records = np.full(0x110000, DELTA_ZERO | WORD << KIND_SHIFT, np.int64)
    records[_index(table.ideographs)] = DELTA_ZERO | ALONE << KIND_SHIFT
    several: list[list[Part]] = []
    for code in _mapped(table, lower_case):
        form = table.normal_form(code, lower_case)
        kept = [part for part in form if part.kind != ACCENT]
        kind = kept[0].kind if kept else ACCENT
        if not keep_accents:
            form = tuple(kept) or form[:1]
        if len(form) == 1:
            records[code] = (form[0].code - code + DELTA_ZERO) | kind << KIND_SHIFT
        else:
            records[code] = len(several) | kind << KIND_SHIFT | SEVERAL
            several.append(list(form))
    if lower_case:
        # Deleted characters are skipped too; some of them are surrogates or unassigned.
        skipped = table.case_ignorable | table.control
        records[_index(skipped)] |= CASE_IGNORABLE << CASE_SHIFT
        records[_index(table.cased - skipped)] |= CASED << CASE_SHIFT
        reordering = [
            code
            for code in {*table.reordering, *table.lower, *table.decomposition}
            if any(p.code in table.reordering for p in table.normal_form(code, True))
        ]
        records[_index(reordering)] |= REORDERING
        records[unicode_table.CAPITAL_SIGMA] |= SIGMA
    unique, blocks = np.unique(records.reshape(-1, 1 << BLOCK_BITS), axis=0, return_inverse=True)
    lengths = np.array([len(form) for form in several], np.int32)
    return NormalForms(
        blocks=blocks.reshape(-1).astype(np.int32),
        records=unique.reshape(-1).astype(np.int32),
        part_starts=(np.cumsum(lengths) - lengths).astype(np.int32),
        part_lengths=lengths,
        part_codes=np.array([part.code for form in several for part in form], np.int32),
        part_kinds=np.array([part.kind for form in several for part in form], np.int32),
    )


def combining_classes(table: UnicodeTable) -> tuple[np.ndarray, np.ndarray]:
    """Sorted code points that have a canonical combining class, and their classes."""
    codes = sorted(table.combining_class)
    classes = [table.combining_class[code] for code in codes]
    return np.array(codes, np.int32), np.array(classes, np.int32)


def regex_class(codes: Iterable[int]) -> str:
    """A set of code points as an RE2 character class, free of RE2's own Unicode version."""
    spans: list[list[int]] = []
    for code in sorted(codes):
        if 0xD800 <= code <= 0xDFFF:
            continue  # UTF-8 has none
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in spans) + "]"


def plain_pattern(table: UnicodeTable, lower_case: bool) -> str:
    """Matches settled texts whose normal form is their ASCII lower case, or when cased themselves.

    WordPiece's own splitting at spaces and punctuation is all that they need.
    """
    plain = set(range(0x110000)).difference(*table.unsettled) - table.reordering
    plain -= table.control | table.spaces
    if lower_case:
        plain -= table.accents.union(table.lower, table.decomposition, HANGUL)
    return f"{regex_class(plain.union(range(0x20, 0x7F)))}*"


def unsettled_alone(table: UnicodeTable) -> frozenset[int]:
    """Punctuation that is none in some versions, and would have to be parted from its word."""
    unsettled = frozenset().union(*table.unsettled)
    return (table.alone & unsettled).difference(table.lower, table.decomposition)


def settled_pattern(table: UnicodeTable, lower_case: bool) -> str:
    """Matches texts that ICU, RE2 and tensorflow-text of any version treat as the table does.

    Deleted characters, spaces, accents without a decomposition and unsettled punctuation are
    matched by explicit classes, so their properties in other versions do not matter. A capital
    sigma directly before a Greek letter is never final; elsewhere, what is final depends on
    properties that have moved.
    """
    settled = set(range(0x110000)).difference(*table.unsettled) - table.reordering
    settled |= table.control | table.spaces
    settled |= table.accents.difference(table.decomposition, table.lower)
    settled |= unsettled_alone(table)
    settled -= {0xFFFD}  # what RE2 reads broken UTF-8 as
    if not lower_case:
        return f"{regex_class(settled)}*"
    settled.discard(unicode_table.CAPITAL_SIGMA)
    greek = regex_class([*range(0x3B1, 0x3CA), *range(0x3AC, 0x3B0), 0x3CC, 0x3CD, 0x3CE])
    return rf"(?:{regex_class(settled)}|\x{{3a3}}{greek})*"


def _mapped(table: UnicodeTable, lower_case: bool) -> set[int]:
    """The code points that are not simply a letter of a word, or a unified ideograph."""
    codes = {*table.control, *table.spaces, *table.alone}
    if lower_case:
        codes.update(table.accents, table.lower, table.decomposition, HANGUL)
    return codes


def _index(codes: Iterable[int]) -> np.ndarray:
    return np.array(sorted(codes), np.int64)
