"""Named entities: tags and what they mean, words as rows of WordPieces, words of raw text.

A text's or a corpus's words become rows (`windows`), a network gives each row's pieces the logits
of the tags, `join` gives each word its own, and `decode` reads entities from them. Raw text is cut
into words by its WordPieces alone (`words`), so that a graph can do the same.
"""

from bert_keras.entities.decoding import Entity, decode, tag_probabilities
from bert_keras.entities.tags import (
    BIOES,
    IOB1,
    IOB2,
    PLAIN,
    Scheme,
    Span,
    contradictions,
    convert,
    detect_scheme,
    entities,
    is_tag,
    label_set,
    write_tags,
)
from bert_keras.entities.windows import IGNORED, Mode, Row, join, make_rows, word_pieces
from bert_keras.entities.words import PieceTables, Words, begins_word, piece_tables, split_words

__all__ = [
    "BIOES",
    "IGNORED",
    "IOB1",
    "IOB2",
    "PLAIN",
    "Entity",
    "Mode",
    "PieceTables",
    "Row",
    "Scheme",
    "Span",
    "Words",
    "begins_word",
    "contradictions",
    "convert",
    "decode",
    "detect_scheme",
    "entities",
    "is_tag",
    "join",
    "label_set",
    "make_rows",
    "piece_tables",
    "split_words",
    "tag_probabilities",
    "word_pieces",
    "write_tags",
]
