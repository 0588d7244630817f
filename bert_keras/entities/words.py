"""Words of raw text, told from its WordPieces and their offsets alone.

    text     John's  (New York-based)  U.N.
    pieces   john ' s  ( new  york - based )  u . n .
    words    John 's ( New York-based ) U.N .

Pieces that touch are a chunk, as between white space, and a CJK ideograph is one by itself. In a
chunk the punctuation that leads and trails are words of their own; an English clitic at the end
(one of 's 'm 'd 're 've 'll 't, as the treebanks and CoNLL-2003 part it) is a word that begins with
the apostrophe; the rest is one word. `[UNK]` is no punctuation.

The rule is written over arrays, without a loop, in ops that TensorFlow has too (cumsum, gather,
segment_min, segment_max), so that a graph can repeat it on what its tokenizer gives.

Shapes: P pieces, V vocabulary, W words.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from bert_keras.text import unicode_table
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SUFFIX, Vocabulary

APOSTROPHES = ("'", "\u2019")
CLITICS = ("s", "m", "d", "re", "ve", "ll", "t")


class PieceTables(NamedTuple):
    """What each WordPiece of a vocabulary is: bool [V] each.

    Attributes:
        is_punctuation: a single character of punctuation, as BERT's tokenizer sees it.
        is_apostrophe: ' or \u2019, which are punctuation too.
        is_clitic: s m d re ve ll t, in either case.
        is_cjk: a single ideograph of those that BERT's tokenizer sets apart.
        is_suffix: continues a word (##).
    """

    is_punctuation: np.ndarray
    is_apostrophe: np.ndarray
    is_clitic: np.ndarray
    is_cjk: np.ndarray
    is_suffix: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of a text.

    Attributes:
        starts, ends: int64 [W]; word k is the characters text[starts[k]:ends[k]].
        pieces: the ids of each word's pieces, as `windows.make_rows` takes them.
    """

    starts: np.ndarray
    ends: np.ndarray
    pieces: list[list[int]]


def piece_tables(vocabulary: Vocabulary) -> PieceTables:
    """The tables of a vocabulary."""
    table = unicode_table.load()
    codes = [ord(piece) if len(piece) == 1 else -1 for piece in vocabulary]
    return PieceTables(
        is_punctuation=np.array([code in table.alone for code in codes]),
        is_apostrophe=np.array([piece in APOSTROPHES for piece in vocabulary]),
        is_clitic=np.array([piece.lower() in CLITICS for piece in vocabulary]),
        is_cjk=np.array([code in table.ideographs for code in codes]),
        is_suffix=np.array([piece.startswith(SUFFIX) and piece != SUFFIX for piece in vocabulary]),
    )


def begins_word(
    ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    tables: PieceTables,
    texts: np.ndarray | None = None,
) -> np.ndarray:
    """Whether each piece is the first of a word.

    Args:
        ids, starts, ends: int [P], as the tokenizers give them, without special tokens.
        tables: of the vocabulary.
        texts: int [P], the text that each piece is of, ascending; None for a single one.

    Returns:
        bool [P].
    """
    if len(ids) == 0:
        return np.zeros(0, bool)
    punctuation, apostrophe, clitic, cjk, suffix = (np.take(table, ids) for table in tables)
    # Characters that BERT deletes may lie between the pieces of a word, but no white space.
    apart = (starts[1:] > ends[:-1]) & ~suffix[1:]
    if texts is not None:
        apart |= texts[1:] != texts[:-1]
    begins_chunk = np.concatenate([[True], apart | cjk[1:] | cjk[:-1]])
    chunk = np.cumsum(begins_chunk) - 1

    # The chunk from its first to its last piece that is no punctuation; where there is none, every
    # piece comes before the first.
    index = np.arange(len(ids))
    firsts = np.flatnonzero(begins_chunk)
    first = np.minimum.reduceat(np.where(punctuation, len(ids), index), firsts)[chunk]
    last = np.maximum.reduceat(np.where(punctuation, -1, index), firsts)[chunk]

    after_apostrophe = np.concatenate([[False], apostrophe[:-1]]) & ~begins_chunk
    ends_clitic = clitic & after_apostrophe & (index == last)
    begins_clitic = np.concatenate([ends_clitic[1:], [False]])
    begins = begins_chunk | (index <= first) | (index > last) | begins_clitic
    return begins & ~ends_clitic


def split_words(tokenizer: Tokenizer, text: str, tables: PieceTables | None = None) -> Words:
    """The words of a text; nothing for one without pieces.

    Args:
        tokenizer: the model's.
        text: any string.
        tables: of the tokenizer's vocabulary, for those who split many texts.
    """
    tokens = tokenizer.tokenize(text)
    ids = np.array([token.id for token in tokens], np.int64)
    starts = np.array([token.start for token in tokens], np.int64)
    ends = np.array([token.end for token in tokens], np.int64)
    if tables is None:
        tables = piece_tables(tokenizer.vocabulary)
    heads = np.flatnonzero(begins_word(ids, starts, ends, tables))
    lasts = np.concatenate([heads[1:], [len(ids)]])[: len(heads)] - 1
    pieces = [part.tolist() for part in np.split(ids, heads[1:])] if len(heads) else []
    return Words(starts[heads], ends[lasts], pieces)
