"""Three tokenizers on the same texts: the plain form, the graph's two ways, and the reference."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from bert_keras.text.graph_tokenizer import GraphTokenizer
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.text import google_reference

STRINGS = tf.TensorSpec([None], tf.string)
OFFICIAL = ("uncased", "cased", "multilingual-cased")


class Compiled:
    """A plain tokenizer and its graph, traced once."""

    def __init__(self, tokenizer):
        graph = GraphTokenizer(tokenizer)
        self.plain, self.graph = tokenizer, graph
        self.ids = tf.function(graph.tokenize, input_signature=[STRINGS], autograph=False)
        self.offsets = tf.function(
            graph.tokenize_with_offsets, input_signature=[STRINGS], autograph=False
        )

    def check(self, texts, batch=2048, reference=False):
        """Both graphs on all texts against the plain form: ids, starts, ends, rows.

        With `reference` the plain form is first compared with google's rules, ids and offsets.
        """
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            tokens = [self.plain.tokenize(text) for text in part]
            if reference:
                self._check_reference(part, tokens)
            lengths = [len(row) for row in tokens]
            ids, starts, ends = (
                np.array([token[field] for row in tokens for token in row], np.int32)
                for field in (0, 2, 3)
            )
            strings = tf.constant(part, tf.string)
            exact, found_starts, found_ends = self.offsets(strings)
            for found in (self.ids(strings), exact):
                same = np.array_equal(found.row_lengths(), lengths)
                if not same or not np.array_equal(found.flat_values, ids):
                    rows = zip(part, found.to_list(), tokens)
                    wrong = [text for text, row, want in rows if row != [t.id for t in want]]
                    pytest.fail(f"{len(wrong)} texts differ, the first: {wrong[0]!r}")
            np.testing.assert_array_equal(found_starts.flat_values, starts)
            np.testing.assert_array_equal(found_ends.flat_values, ends)

    def _check_reference(self, texts, tokens):
        ids, lower_case = self.plain.vocabulary.ids, self.plain.lower_case
        for index, (text, row) in enumerate(zip(texts, tokens)):
            expected = google_reference.tokens_with_offsets(text, ids, lower_case)
            assert [token[1:] for token in row] == expected, text
            if index % 10 == 0:  # the reference with offsets is the one without
                pieces = google_reference.tokenize(text, ids, lower_case)
                assert pieces == [piece for piece, _, _ in expected], text


@functools.cache
def official(shared_data, name):
    """The official vocabulary of a name in OFFICIAL, compiled once a process."""
    path = shared_data / "vocab" / f"bert-base-{name}-vocab.txt"
    return Compiled(Tokenizer(Vocabulary.load(path), name == "uncased"))


@functools.cache
def of_all_characters(lower_case):
    """A vocabulary of all assigned characters, so that an id tells which one it was.

    Of private use and unassigned code points every 97th is there; the others are [UNK], which
    tells the word that they are in.
    """
    codes = [*range(0x40000), *range(0x40000, 0x110000, 97)]
    chars = [chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF]
    category = google_reference.unicodedata.category
    chars = [
        char
        for char in chars
        if char == char.strip()
        and char > "\0"
        and (category(char) not in ("Cn", "Co") or ord(char) % 97 == 0)
    ]
    pieces = [*chars, *("##" + char for char in chars)]
    return Compiled(Tokenizer(Vocabulary([*SPECIAL_TOKENS, *pieces]), lower_case))


def contexts(code):
    """A code point alone, inside a word, between words."""
    return chr(code), f"a{chr(code)}b", f"a {chr(code)} b"


def corpus(shared_data):
    """Every line of the shared real texts."""
    for path in sorted((shared_data / "corpus").rglob("*.txt")):
        yield from path.read_text("utf-8").split("\n")
    for path in sorted((shared_data / "glue").rglob("*.tsv")):
        yield from path.read_text("utf-8").split("\n")
