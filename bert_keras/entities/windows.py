"""Sentences of words as rows of WordPieces, each word decided in exactly one row.

    words   Ada    Lund       left   Lima
    row     [CLS]  Ada  Lu  ##nd  left  Lima  [SEP]
    tags     -1     1    2   -1    0     5     -1      the first piece of a word stands for it

Devlin et al., 2019, section 5.3 (https://arxiv.org/abs/1810.04805). Two ways to place a sentence:

sentence: alone in its row. One too long for a row is cut into rows half a row apart, evenly spread,
    and each word is decided by the row that has most context of it: the larger of
    min(pieces before it, pieces after it).
document_context: in the middle of its document, from which words before and after fill the row,
    as many on each side; what one side lacks goes to the other. A longer sentence is cut as above,
    its outer rows beginning and ending a quarter of a row outside it. The paper's 92.4 on
    CoNLL-2003 needs this ("maximal document context"); sentences alone give 90 to 91.7.

Only the words that a row decides have tags in it, also in training: context is read, not learnt
from. So every word counts once in an epoch, an epoch has as many rows as the paper's, and training
sees exactly the rows that evaluation sees. The price is full rows; windows that tile the document
and learn from all of it would be fewer, but also as many fewer updates with the paper's batch size.

Shapes: T tokens of a row, W words that it decides, C tags.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from bert_keras.data.features import IGNORED
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary

Mode = Literal["sentence", "document_context"]
MODES = ("sentence", "document_context")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a network's input, not padded.

    Attributes:
        token_ids: int32 [T], `[CLS]` and `[SEP]` included; all of segment 0.
        tags: int32 [T], the tags of the words that it decides at their first pieces, IGNORED
            elsewhere; None for text without tags.
        heads: int32 [W], where the first pieces of these words stand.
        words: int32 [W], their numbers, counted through the corpus; ascending.
    """

    token_ids: np.ndarray
    tags: np.ndarray | None
    heads: np.ndarray
    words: np.ndarray


def word_pieces(tokenizer: Tokenizer, words: Iterable[str]) -> list[list[int]]:
    """The ids of each word's pieces; none for a word of characters that BERT deletes."""
    return [tokenizer.token_ids(word) for word in words]


def make_rows(
    vocabulary: Vocabulary,
    sentences: Sequence[Sequence[Sequence[int]]],
    *,
    tags: Sequence[Sequence[int]] | None = None,
    documents: Sequence[int] | None = None,
    max_seq_length: int = 128,
    mode: Mode = "sentence",
) -> list[Row]:
    """Rows in the order of the sentences; a sentence without words has none.

    Args:
        vocabulary: for the special tokens.
        sentences: the pieces of each word of each sentence. A word without any is `[UNK]`; of one
            with more than fit in a row the first ones are kept.
        tags: the tag of each word, or None.
        documents: a number by sentence; neighbours with the same one are of one document. By
            default each sentence is its own document. Read in document_context alone.
        max_seq_length: at least 3, `[CLS]` and `[SEP]` included.
        mode: "sentence" or "document_context".

    Raises:
        InputError: an argument is out of range, or `tags` or `documents` do not fit `sentences`.
    """
    _check(sentences, tags, documents, max_seq_length, mode)
    if documents is None or mode == "sentence":
        documents = range(len(sentences))
    rows: list[Row] = []
    first_word = 0
    for _, group in itertools.groupby(range(len(sentences)), documents.__getitem__):
        members = list(group)
        text = _Text(vocabulary, [sentences[k] for k in members], first_word)
        labels = None
        if tags is not None:
            labels = np.array([tag for k in members for tag in tags[k]], np.int32)
        rows.extend(text.rows(labels, max_seq_length - 2))
        first_word += len(text.heads)
    return rows


def join(rows: Sequence[Row], outputs: Iterable[np.ndarray]) -> np.ndarray:
    """What a network said of each word.

    Args:
        rows: all rows of a corpus, in any order.
        outputs: for each row [T, C] (or [T]); padding after the row's end does no harm.

    Returns:
        [words, C], in the order of the corpus; [0, 0] where there are no rows.

    Raises:
        InputError: the rows do not decide every word once.
    """
    if not rows:
        return np.zeros((0, 0), np.float32)
    words = np.concatenate([row.words for row in rows])
    if not np.array_equal(np.sort(words), np.arange(len(words))):
        raise InputError("rows do not decide every word once; expected all rows of a corpus.")
    found = [output[row.heads] for row, output in zip(rows, outputs, strict=True)]
    return np.concatenate(found)[np.argsort(words)]


class _Text:
    """Sentences in a row of pieces: the ones that may lend each other context.

    Attributes:
        pieces: int32, the ids of all.
        heads: int64 [words], where each word's first piece is; `ends` where its last one ends.
        bounds: the first word of each sentence, and the number of words.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        sentences: Sequence[Sequence[Sequence[int]]],
        first_word: int,
    ):
        unknown = (vocabulary.unknown_id,)
        words = [pieces if len(pieces) else unknown for words in sentences for pieces in words]
        self.vocabulary = vocabulary
        self.first_word = first_word
        self.pieces = np.fromiter(itertools.chain.from_iterable(words), np.int32)
        self.ends = np.cumsum([len(pieces) for pieces in words], dtype=np.int64)
        self.heads = np.concatenate([[0], self.ends[:-1]])[: len(words)].astype(np.int64)
        self.bounds = list(itertools.accumulate(map(len, sentences), initial=0))

    def rows(self, tags: np.ndarray | None, room: int) -> Iterator[Row]:
        """The rows of all sentences, each of at most `room` pieces."""
        for first, end in itertools.pairwise(self.bounds):
            if first == end:
                continue
            words = np.arange(first, end)
            heads, ends = self.heads[words], self.ends[words]
            size = len(self.pieces)
            # A row begins with a word: half a word before it would be no context. After the last
            # word's first piece there is nothing to decide.
            cuts = [
                cut
                for cut in _cuts(int(heads[0]), int(ends[-1]), size, room)
                if cut <= self.heads[-1]
            ]
            begins = self.heads[np.searchsorted(self.heads, cuts)]
            begin, stop = begins[:, None], np.minimum(begins + room, size)[:, None]
            inside = (begin <= heads) & (heads < stop)
            context = np.minimum(heads - begin, stop - ends)  # below 0 where the word is cut off
            decider = np.argmax(np.where(inside, context, -size - 1), axis=0)
            for k, place in enumerate(begins.tolist()):
                decided = words[decider == k]
                if len(decided):
                    yield self._row(place, room, decided, tags)

    def _row(self, begin: int, room: int, decided: np.ndarray, tags: np.ndarray | None) -> Row:
        pieces = self.pieces[begin : begin + room]
        specials = self.vocabulary
        token_ids = np.concatenate([[specials.cls_id], pieces, [specials.sep_id]]).astype(np.int32)
        heads = (self.heads[decided] - begin + 1).astype(np.int32)
        row_tags = None
        if tags is not None:
            row_tags = np.full(len(token_ids), IGNORED, np.int32)
            row_tags[heads] = tags[decided]
        return Row(token_ids, row_tags, heads, (decided + self.first_word).astype(np.int32))


def _cuts(begin: int, end: int, size: int, room: int) -> list[int]:
    """Where the rows of a sentence begin: pieces `begin` to `end` of a text of `size` pieces."""
    spare = room - (end - begin)
    if spare >= 0:
        return [max(min(begin - spare // 2, size - room), 0)]
    margin = room // 4
    low, high = max(begin - margin, 0), min(end + margin, size)
    rest = high - low - room
    steps = -(-rest // (room - room // 2))
    return [low + k * rest // steps for k in range(steps + 1)]


def _check(
    sentences: Sequence[Sequence[Sequence[int]]],
    tags: Sequence[Sequence[int]] | None,
    documents: Sequence[int] | None,
    max_seq_length: int,
    mode: str,
) -> None:
    if max_seq_length < 3:
        raise InputError(
            f"max_seq_length is {max_seq_length}; expected at least 3, for [CLS], a word and [SEP]."
        )
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; expected one of: {', '.join(MODES)}.")
    if documents is not None and len(documents) != len(sentences):
        raise InputError(
            f"{len(documents)} documents for {len(sentences)} sentences; expected one each."
        )
    if tags is not None and list(map(len, tags)) != list(map(len, sentences)):
        raise InputError("tags do not fit the sentences; expected one for each word.")
