"""Can every gold answer be said in tokens? From characters to tokens and back to the same text.

Answers were marked by people, character by character. Some files give a wrong place, and some
answers begin or end inside a WordPiece ("Japan" in "Japanese"), so that no model of this
vocabulary can give exactly this text; it is then taught the tokens that cover the answer. `check`
finds all of these before a training run does.
"""

import bisect
import collections
import dataclasses
from collections.abc import Iterator, Sequence

from bert_keras.text.tokenizer import MAX_WORD_CHARACTERS, Tokenizer
from tasks.squad_files import Gold, Question

ABSENT = "the text is not in the context"
NO_TOKEN = "the text has no token"
WHITE_SPACE = "white space at its ends"
DELETED = "characters that the tokenizer deletes at its ends"
LONG_WORD = f"begins or ends inside a word of more than {MAX_WORD_CHARACTERS} characters"
INSIDE = "begins or ends inside a WordPiece"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A gold answer that is not where, or not what, its file says.

    Attributes:
        id: of the question.
        where: the file and the place in it.
        text: of the gold answer.
        found: what its tokens stand for in the context; "" where it has none.
        cause: one of this module's; "" where only the place is wrong.
        moved: characters from the place in the file to where the text was found; 0 if right.
    """

    id: str
    where: str
    text: str
    found: str
    cause: str
    moved: int


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What `check` found.

    Attributes:
        answers: gold answers that were looked at.
        moved: those whose place is wrong, and whose text was found elsewhere.
        failed: those whose tokens do not stand for exactly their text.
    """

    answers: int
    moved: tuple[Fault, ...]
    failed: tuple[Fault, ...]

    def causes(self) -> dict[str, int]:
        """How many failed, by cause; most first."""
        return dict(collections.Counter(fault.cause for fault in self.failed).most_common())


def locate(context: str, gold: Gold) -> int | None:
    """Where a gold answer begins: at its own place, else at the nearest occurrence of its text.

    Of two equally near the earlier one; None where the context does not have the text, or the
    text is empty.
    """
    if not gold.text:
        return None
    if gold.start >= 0 and context.startswith(gold.text, gold.start):
        return gold.start
    return min(_occurrences(context, gold.text), key=lambda k: abs(k - gold.start), default=None)


def training_span(question: Question) -> tuple[int, int] | None:
    """The characters [start, end) that a question is trained on: its first answer.

    White space at the ends of the answer is left out. (0, 0) for a question without an answer,
    None where the context does not have the text: such a question cannot be trained on.
    """
    if not question.answers:
        return 0, 0
    gold = question.answers[0]
    place = locate(question.context, gold)
    text = gold.text.strip()
    if place is None or not text:
        return None
    start = place + gold.text.index(text)
    return start, start + len(text)


def check(tokenizer: Tokenizer, questions: Sequence[Question]) -> Report:
    """Takes every gold answer to tokens and back; tokenizes each distinct context once."""
    known: dict[str, tuple[list[int], list[int], list[int]]] = {}
    answers = 0
    moved, failed = [], []
    for question in questions:
        context = question.context
        if context not in known:
            known[context] = tokenizer.pieces(context)
        _, starts, ends = known[context]
        for gold in question.answers:
            answers += 1
            place = locate(context, gold)
            if place is None:
                failed.append(Fault(question.id, question.where, gold.text, "", ABSENT, 0))
                continue
            first = bisect.bisect_right(ends, place)
            last = bisect.bisect_left(starts, place + len(gold.text)) - 1
            found, longest = "", 0
            if first <= last:
                found = context[starts[first] : ends[last]]
                longest = max(ends[k] - starts[k] for k in (first, last))
            cause = "" if found == gold.text else _cause(gold.text, found, longest)
            fault = Fault(question.id, question.where, gold.text, found, cause, place - gold.start)
            if fault.moved:
                moved.append(fault)
            if cause:
                failed.append(fault)
    return Report(answers, tuple(moved), tuple(failed))


def _occurrences(context: str, text: str) -> Iterator[int]:
    place = context.find(text)
    while place >= 0:
        yield place
        place = context.find(text, place + 1)


def _cause(text: str, found: str, longest: int) -> str:
    if not found:
        return NO_TOKEN
    if found == text.strip():
        return WHITE_SPACE
    if found in text:
        return DELETED
    return LONG_WORD if longest > MAX_WORD_CHARACTERS else INSIDE
