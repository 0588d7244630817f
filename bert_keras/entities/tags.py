"""Tags of words, and the entities that they mean.

    words   Ada    Lund   met  Rao    in   Lima
    IOB1    I-PER  I-PER  O    I-PER  O    I-LOC    B- only right after an entity of its type
    IOB2    B-PER  I-PER  O    B-PER  O    B-LOC    B- wherever an entity begins; also called BIO
    BIOES   B-PER  E-PER  O    S-PER  O    S-LOC    also IOBES, and BILOU with L for E and U for S

Any tags have one reading, also those that contradict themselves, such as I- after O: conlleval's,
the scorer of the shared tasks CoNLL-2000 to 2003 (Tjong Kim Sang and De Meulder, 2003:
https://aclanthology.org/W03-0419). A tag continues an entity if it is an I or E of the type of the
tag before, and that one is a B or I; otherwise it begins one. This reads all schemes alike.
"""

import collections
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from bert_keras.errors import InputError

Scheme = Literal["iob1", "iob2", "bioes", "plain"]
IOB1: Scheme = "iob1"
IOB2: Scheme = "iob2"
BIOES: Scheme = "bioes"
PLAIN: Scheme = "plain"  # labels without entities, such as parts of speech

OUTSIDE = "O"
# A corpus of one type of entity may write B and I alone; its type is "".
_TAG = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)
_BILOU = {"L": "E", "U": "S"}


class Span(NamedTuple):
    """An entity of `type` in the words `start` to `end` (exclusive) of a sentence."""

    type: str
    start: int
    end: int


def is_tag(tag: str) -> bool:
    """Whether it is O, or one of B I E S (L U), alone or with a hyphen and a type."""
    return tag == OUTSIDE or _TAG.fullmatch(tag) is not None


def entities(tags: Iterable[str]) -> list[Span]:
    """The entities of a sentence, in order, by conlleval's reading.

    Args:
        tags: one a word, of any scheme but plain.

    Raises:
        InputError: something is not a tag.
    """
    found: list[Span] = []
    before = (OUTSIDE, "")
    for word, tag in enumerate(tags):
        letter, kind = now = _parse(tag)
        if letter in "IE" and before[0] in "BI" and kind == before[1]:
            found[-1] = found[-1]._replace(end=word + 1)
        elif letter != OUTSIDE:
            found.append(Span(kind, word, word + 1))
        before = now
    return found


def write_tags(spans: Iterable[Span], length: int, scheme: Scheme = IOB2) -> list[str]:
    """The tags of a sentence of `length` words; `spans` in order and apart."""
    if scheme == PLAIN:
        raise InputError("plain labels mean no entities; expected iob1, iob2 or bioes.")
    tags = [OUTSIDE] * length
    before = Span("", -1, -1)
    for span in spans:
        touches = span.start == before.end and span.type == before.type
        first, last = "B", "I"
        if scheme == IOB1 and not touches:
            first = "I"
        elif scheme == BIOES:
            first, last = ("S" if span.end - span.start == 1 else "B"), "E"
        letters = [first, *"I" * (span.end - span.start - 2), last][: span.end - span.start]
        tags[span.start : span.end] = [
            f"{letter}-{span.type}" if span.type else letter for letter in letters
        ]
        before = span
    return tags


def convert(tags: Sequence[str], scheme: Scheme = IOB2) -> list[str]:
    """The tags of the same entities in another scheme, from any; plain labels stay."""
    return list(tags) if scheme == PLAIN else write_tags(entities(tags), len(tags), scheme)


def contradictions(tags: Sequence[str], scheme: Scheme) -> list[int]:
    """The words at which tags break the rules of their scheme; none if they are valid.

    These are the tags that writing the entities that were read would change.
    """
    written = convert(tags, scheme)
    return [
        word
        for word, (tag, other) in enumerate(zip(tags, written, strict=True))
        if scheme != PLAIN and _parse(tag) != _parse(other)
    ]


def detect_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of a corpus.

    Plain where the tags are no tags of entities: where one of them is none and O is not among them,
    or all but O are none. BIOES where there is an E, S, L or U. Else the one of IOB1 and IOB2 that
    the corpus contradicts least, IOB2 at a tie and where there is no entity.
    """
    rows = list(sentences)
    counts = collections.Counter(tag for tags in rows for tag in tags)
    good = [tag for tag in counts if is_tag(tag)]
    outside = OUTSIDE in counts
    if len(good) < len(counts) and (not outside or good == [OUTSIDE]):
        return PLAIN
    if any(tag[0] in "ESLU" for tag in good):
        return BIOES
    known = [tags for tags in rows if all(map(is_tag, tags))]
    faults = {
        scheme: sum(len(contradictions(tags, scheme)) for tags in known) for scheme in (IOB1, IOB2)
    }
    return IOB1 if faults[IOB1] < faults[IOB2] else IOB2


def label_set(sentences: Iterable[Iterable[str]], scheme: Scheme = IOB2) -> tuple[str, ...]:
    """What a network tells apart, in the order of its logits.

    Args:
        sentences: the tags of each, in IOB2 or plain.
        scheme: IOB2: O, then B- and I- of each type that occurs, types sorted, also if its I- (or
            B-) does not occur. Plain: the labels that occur, sorted.
    """
    tags = {tag for sentence in sentences for tag in sentence}
    if scheme == PLAIN:
        return tuple(sorted(tags))
    if scheme != IOB2:
        raise InputError(f"tags in {scheme}; convert them to {IOB2} first.")
    types = sorted({_parse(tag)[1] for tag in tags - {OUTSIDE}})
    pairs = (write_tags([Span(kind, 0, 2)], 2) for kind in types)
    return (OUTSIDE, *(tag for pair in pairs for tag in pair))


@functools.lru_cache(maxsize=1 << 12)
def _parse(tag: str) -> tuple[str, str]:
    """Letter (BILOU's as those of BIOES) and type."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise InputError(f"tag {tag!r}: expected O, or B-, I-, E- or S- and a type.")
    return _BILOU.get(match[1], match[1]), match[2] or ""
