"""Text into words, as google-research/bert's BasicTokenizer: cleaned, lower-cased, split.

A chunk of text between white space, or one CJK ideograph, decides its words alone. So words are
made chunk by chunk, and the tokenizer remembers the chunks that it has seen.
"""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from bert_keras.text import unicode_table
from bert_keras.text.unicode_table import ACCENT, ALONE, CONTROL, WORD, Part

_ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")
_ASCII_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Word(NamedTuple):
    """A word in normal form, and where each of its characters lies in the chunk."""

    text: str
    starts: list[int] | range
    ends: list[int] | range


class WordSplitter:
    """Finds the chunks of a text, and the words of a chunk.

    Attributes:
        chunks: a compiled pattern; what it finds in a text is not white space, and is all of it.
    """

    def __init__(self, lower_case: bool):
        """`lower_case` also strips accents, as google-research/bert does."""
        table = unicode_table.load()
        self._table = table
        self._lower_case = lower_case
        self._forms: dict[str, tuple[Part, ...]] = {}
        spaces = "".join(f"\\U{code:08x}" for code in sorted(table.spaces))
        ideographs = "".join(f"\\U{r[0]:08x}-\\U{r[-1]:08x}" for r in unicode_table.CJK)
        accents = "".join(f"\\U{code:08x}" for code in sorted(table.accents))
        # Accents that will be dropped go with their ideograph, so that its offsets have them.
        dropped = f"[{accents}]*" if lower_case else ""
        self.chunks = re.compile(f"[^{spaces}{ideographs}]+|[{ideographs}]{dropped}")

    def words(self, chunk: str) -> Iterator[Word]:
        """The words of a chunk in order; none where all of it is deleted."""
        if chunk.isascii() and not _ASCII_CONTROL.search(chunk):
            return self._ascii_words(chunk)
        return self._all_words(chunk)

    def _ascii_words(self, chunk: str) -> Iterator[Word]:
        text = chunk.lower() if self._lower_case else chunk
        for match in _ASCII_WORD.finditer(text):
            start, end = match.span()
            yield Word(match.group(), range(start, end), range(start + 1, end + 1))

    def _all_words(self, chunk: str) -> Iterator[Word]:
        ends = self._ends(chunk)
        letters: list[str] = []
        sources: list[int] = []
        for (code, kind), source in zip(*self._normal_form(chunk)):
            if kind == ACCENT:
                continue
            if kind == ALONE and letters:
                yield Word("".join(letters), sources, [ends[place] for place in sources])
                letters, sources = [], []
            letters.append(chr(code))
            sources.append(source)
            if kind == ALONE:
                yield Word(letters[0], sources, [ends[source]])
                letters, sources = [], []
        if letters:
            yield Word("".join(letters), sources, [ends[place] for place in sources])

    def _normal_form(self, chunk: str) -> tuple[list[Part], list[int]]:
        """The chunk's parts without the deleted characters, and the character each is from."""
        parts: list[Part] = []
        sources: list[int] = []
        for index, char in enumerate(chunk):
            form = self._form(char)
            if char == "\u03a3" and self._lower_case and self._final_sigma(chunk, index):
                form = (Part(unicode_table.FINAL_SIGMA, WORD),)
            for part in form:
                if part.kind != CONTROL:
                    parts.append(part)
                    sources.append(index)
        if self._lower_case and any(part.code in self._table.reordering for part in parts):
            return self._canonical_order(parts, sources)
        return parts, sources

    def _form(self, char: str) -> tuple[Part, ...]:
        form = self._forms.get(char)
        if form is None:
            form = self._forms[char] = self._table.normal_form(ord(char), self._lower_case)
        return form

    def _ends(self, chunk: str) -> list[int]:
        """Where each character ends, the accents that follow it (and are dropped) included."""
        ends = list(range(1, len(chunk) + 1))
        for index in range(len(chunk) - 2, -1, -1):
            if all(part.kind == ACCENT for part in self._form(chunk[index + 1])):
                ends[index] = ends[index + 1]
        return ends

    def _final_sigma(self, chunk: str, index: int) -> bool:
        """Whether a capital sigma is the last letter of its word (Unicode's Final_Sigma)."""
        before = self._first_letter(chunk, range(index - 1, -1, -1))
        after = self._first_letter(chunk, range(index + 1, len(chunk)))
        return before in self._table.cased and after not in self._table.cased

    def _first_letter(self, chunk: str, places: range) -> int | None:
        for place in places:
            code = ord(chunk[place])
            if code not in self._table.case_ignorable and code not in self._table.control:
                return code
        return None

    def _canonical_order(
        self, parts: list[Part], sources: list[int]
    ) -> tuple[list[Part], list[int]]:
        """Sorts each run of combining marks by class, then drops accents.

        Where marks change places, the text's own order is kept for their sources.
        """
        classes = [self._table.combining_class.get(part.code, 0) for part in parts]
        runs = itertools.accumulate(value == 0 for value in classes)
        order = sorted(zip(runs, classes, range(len(parts))))
        ordered = [parts[i] for _, _, i in order if parts[i].kind != ACCENT]
        return ordered, [s for part, s in zip(parts, sources) if part.kind != ACCENT]
