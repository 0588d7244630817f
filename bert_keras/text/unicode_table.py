"""Unicode as BERT's tokenizer sees it: what google-research/bert does to each character.

Read from the packaged table (`unicode_14.json`, Unicode 14.0.0) and never from the interpreter,
so that the plain and the in-graph tokenizer, and every machine, agree. A character is
    deleted     NUL, U+FFFD, controls and format characters (soft hyphen ...), broken UTF-8;
    a space     tab, line ends and every separator;
    alone       punctuation, all ASCII symbols, CJK ideographs: a word of one character;
    of a word   anything else.
When lower-casing, a character first becomes the canonical decomposition of its lower case, of
which nonspacing marks (accents) are dropped.
"""

import functools
import json
import pathlib
from typing import NamedTuple

WORD, ALONE, SPACE, CONTROL, ACCENT = range(5)

CAPITAL_SIGMA, SMALL_SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
HANGUL = range(0xAC00, 0xAC00 + 11172)
SURROGATES = range(0xD800, 0xE000)

# The blocks that google-research/bert calls Chinese characters.
CJK = (
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
)
# ASCII symbols count as punctuation, whatever Unicode calls them.
ASCII_SYMBOLS = (range(33, 48), range(58, 65), range(91, 97), range(123, 127))


class Part(NamedTuple):
    """One code point of a character's normal form, and how it is treated."""

    code: int
    kind: int


class UnicodeTable:
    """The packaged table, as sets of code points and as normal forms.

    Attributes:
        version: of Unicode, "14.0.0".
        control, spaces, alone, ideographs: the code points deleted, splitting words, and
            standing alone (`alone` is punctuation and ASCII symbols).
        accents: nonspacing marks, dropped when lower-casing.
        cased, case_ignorable: what a capital sigma looks for to be final.
        combining_class: canonical combining class by code point, where it is not 0.
        reordering: marks that are not dropped as accents and have a combining class.
        unsettled: ranges of code points that other Unicode versions may treat in another way.
    """

    def __init__(self, path: pathlib.Path):
        data = json.loads(path.read_text(encoding="ascii"))
        self.version: str = data["unicode_version"]
        self.spaces = _codes(data["separator"]) | {0x09, 0x0A, 0x0D}
        self.control = (_codes(data["control"]) | {0xFFFD} | set(SURROGATES)) - self.spaces
        self.alone = _codes(data["punctuation"]).union(*ASCII_SYMBOLS)
        self.ideographs = frozenset().union(*CJK)
        self.accents = _codes(data["nonspacing_mark"])
        self.cased = _codes(data["cased"])
        self.case_ignorable = _codes(data["case_ignorable"])
        self.unsettled = _spans(data["unsettled"])
        self.combining_class = {
            code: int(value)
            for value, text in data["combining_class"].items()
            for code in _codes(text)
        }
        self.lower = _mapping(data["lower"])
        self.decomposition = _mapping(data["decomposition"])
        # Order among combining marks is visible only where a mark survives the dropping of accents.
        self.reordering = frozenset(self.combining_class) - self.accents

    def normal_form(self, code: int, lower_case: bool) -> tuple[Part, ...]:
        """What becomes of one character, accents included; a capital sigma as if not final."""
        if code in self.control:
            return (Part(code, CONTROL),)
        if code in self.spaces:
            return (Part(0x20, SPACE),)
        parts = self._lower_and_decompose(code) if lower_case else (code,)
        alone = code in self.ideographs
        return tuple(Part(part, self._kind(part, alone, lower_case)) for part in parts)

    def _lower_and_decompose(self, code: int) -> tuple[int, ...]:
        parts: list[int] = []
        for lower in self.lower.get(code, (code,)):
            decomposed = self.decomposition.get(lower, (lower,))
            parts.extend(_jamo(lower) if lower in HANGUL else decomposed)
        return tuple(parts)

    def _kind(self, code: int, ideograph: bool, lower_case: bool) -> int:
        if lower_case and code in self.accents:
            return ACCENT
        return ALONE if ideograph or code in self.alone else WORD


@functools.cache
def load() -> UnicodeTable:
    """The packaged table, read once per process."""
    return UnicodeTable(pathlib.Path(__file__).with_name("unicode_14.json"))


def _jamo(code: int) -> tuple[int, ...]:
    """A Hangul syllable in its letters (The Unicode Standard, section 3.12)."""
    index = code - HANGUL.start
    letters = (0x1100 + index // 588, 0x1161 + index % 588 // 28, 0x11A7 + index % 28)
    return letters if index % 28 else letters[:2]


def _codes(text: str) -> frozenset[int]:
    return frozenset(code for span in _spans(text) for code in span)


def _spans(text: str) -> list[range]:
    pairs = (span.partition("-") for span in text.split())
    return [range(int(first, 16), int(last or first, 16) + 1) for first, _, last in pairs]


def _mapping(data: dict[str, str]) -> dict[int, tuple[int, ...]]:
    return {int(code, 16): tuple(int(c, 16) for c in parts.split()) for code, parts in data.items()}
