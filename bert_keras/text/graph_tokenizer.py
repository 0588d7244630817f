"""The tokenizer inside a TensorFlow graph: the ids and offsets of `Tokenizer`, for a SavedModel.

Only ops that TF Serving links: TensorFlow's own, and of tensorflow-text the fast WordPiece and
the UTF-8 normalizer. The vocabulary and the Unicode table are constants of the graph.

A text goes one of three ways, to equal ids. Plain ones (almost all English ones) need nothing but
ASCII's lower case. The fast way lets ICU and RE2 clean, lower-case and decompose whole strings; it
is taken by texts of characters that all versions of these libraries agree on. The exact one
(`graph_words`) reads the packaged table for each code point; it is taken by the other texts, and
by whoever asks for offsets. WordPiece, which is two thirds of the work, sees the batch once.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text
from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder as builder

from bert_keras.errors import InputError
from bert_keras.text import graph_tables, unicode_table
from bert_keras.text.graph_words import GraphWords
from bert_keras.text.tokenizer import (
    MAX_WORD_CHARACTERS,
    Tokenizer,
    Truncation,
    check_encoding,
)
from bert_keras.text.vocabulary import SUFFIX

MAX_TEXT_BYTES = 1 << 20
_MAX_WORD_BYTES = 4 * MAX_WORD_CHARACTERS
_MAX_PIECE_BYTES = 256  # of tensorflow-text's fast WordPiece


class GraphTokenizer(tf.Module):
    """Strings to padded token ids.

    Attributes:
        tokenizer: the plain tokenizer that it equals.
        max_text_bytes: longer texts are cut here before they are tokenized. This changes an
            encoding only if the first `max_seq_length` tokens lie not within them.
    """

    def __init__(self, tokenizer: Tokenizer, max_text_bytes: int | None = MAX_TEXT_BYTES):
        super().__init__()
        for index, piece in enumerate(tokenizer.vocabulary):
            if len(piece.encode("utf-8")) > _MAX_PIECE_BYTES:
                raise InputError(
                    f"vocab.txt, line {index + 1}: longer than {_MAX_PIECE_BYTES} bytes, which the "
                    "in-graph tokenizer cannot hold; shorten or remove it."
                )
        self.tokenizer = tokenizer
        self.max_text_bytes = max_text_bytes
        table = unicode_table.load()
        self._control = graph_tables.regex_class(table.control)
        parted = graph_tables.regex_class(graph_tables.unsettled_alone(table))
        self._spaces = f"{graph_tables.regex_class(table.spaces - {0x20})}|({parted})"
        self._accents = graph_tables.regex_class(table.accents)
        self._plain = graph_tables.plain_pattern(table, tokenizer.lower_case)
        self._settled = graph_tables.settled_pattern(table, tokenizer.lower_case)
        self._split_words = GraphWords(tokenizer.lower_case)
        with tf.device("CPU:0"):
            # One for texts, which gives up on words that might have more than 200 characters;
            # one for single words.
            self._text_pieces = _wordpiece(tokenizer, MAX_WORD_CHARACTERS, False)
            self._word_pieces = _wordpiece(tokenizer, _MAX_WORD_BYTES, True)
            self._piece_lengths = tf.constant(
                [len(piece.removeprefix(SUFFIX)) for piece in tokenizer.vocabulary], tf.int32
            )

    def __call__(
        self,
        text: tf.Tensor,
        text_b: tf.Tensor | None = None,
        *,
        max_seq_length: int,
        truncation: Truncation = "longest_first",
    ) -> dict[str, tf.Tensor]:
        """Encodes each text, or pair, as `Tokenizer.encode` does.

        Args:
            text: string [B]; UTF-8, what is not vanishes.
            text_b: string [B], the second texts.
            max_seq_length: at least 3, special tokens included.
            truncation: "longest_first" or "only_second".

        Returns:
            token_ids, segment_ids, padding_mask: int32 [B, T], T the batch's longest row.
        """
        check_encoding(max_seq_length, truncation)
        with tf.device("CPU:0"):
            ids_a = self.tokenize(text)
            ids_b = None if text_b is None else self.tokenize(text_b)
            return self._pack(ids_a, ids_b, max_seq_length, truncation)

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """The token ids of each text [B], without special tokens: int32 [B, (tokens)]."""
        with tf.device("CPU:0"):
            text = self._capped(text)
            clean, settled = self._normalized(text)
            ids, starts, ends = self._text_pieces.tokenize_with_offsets(clean)
            lengths = ends.with_flat_values(ends.flat_values - starts.flat_values)
            sure = tf.reduce_all(settled) & (_largest(lengths.flat_values) < MAX_WORD_CHARACTERS)
            values, splits = tf.cond(
                sure,
                lambda: (ids.flat_values, ids.row_splits),
                lambda: self._replace_unsure(ids, settled & _short(lengths), text),
            )
            return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    def tokenize_with_offsets(
        self, text: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Token ids, and the characters of the text each stands for.

        Args:
            text: string [B].

        Returns:
            ids, starts, ends: int32 [B, (tokens)]. Offsets count Unicode characters of the text
            as sent; each run of bytes that is not UTF-8 counts as Python's decoder counts it.
        """
        with tf.device("CPU:0"):
            return self._tokenize_exactly(self._capped(text))

    def _capped(self, text: tf.Tensor) -> tf.Tensor:
        text = tf.ensure_shape(tf.convert_to_tensor(text, tf.string), [None])
        if self.max_text_bytes is None:
            return text
        return tf.strings.substr(text, 0, self.max_text_bytes)

    def _normalized(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The texts in normal form, ready to be cut, and whether each is: "" where not."""
        plain = tf.strings.regex_full_match(text, self._plain)
        # In ASCII alone, where ICU would follow the machine's language (a Turkish dotless i).
        lower = tf.strings.lower(text) if self.tokenizer.lower_case else text
        return tf.cond(
            tf.reduce_all(plain),
            lambda: (lower, plain),
            lambda: self._normalize_others(lower, plain, text),
        )

    def _normalize_others(
        self, lower: tf.Tensor, plain: tf.Tensor, text: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same for a batch in which some texts are not plain."""
        others = tf.where(tf.logical_not(plain))
        settled = tf.strings.regex_full_match(tf.gather_nd(text, others), self._settled)
        other = tf.where(settled, tf.gather_nd(lower, others), "")
        other = tf.strings.regex_replace(other, self._control, "")
        other = tf.strings.regex_replace(other, self._spaces, r" \1 ")
        if self.tokenizer.lower_case:
            other = tf.strings.lower(other, encoding="utf-8")
            other = tensorflow_text.normalize_utf8(other, "NFD")
            other = tf.strings.regex_replace(other, self._accents, "")
        return (
            tf.tensor_scatter_nd_update(lower, others, other),
            tf.tensor_scatter_nd_update(plain, others, settled),
        )

    def _replace_unsure(
        self, ids: tf.RaggedTensor, sure: tf.Tensor, text: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Tokenizes the other texts exactly; values and row splits of all."""
        unsure = tf.reshape(tf.where(tf.logical_not(sure)), [-1])
        exact, _, _ = self._tokenize_exactly(tf.gather(text, unsure))
        both = tf.concat([ids, exact], axis=0)
        replaced = tf.range(tf.size(unsure, out_type=tf.int64)) + ids.nrows()
        order = tf.tensor_scatter_nd_update(tf.range(ids.nrows()), unsure[:, tf.newaxis], replaced)
        both = tf.gather(both, order)
        return both.flat_values, both.row_splits

    def _tokenize_exactly(
        self, text: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        words = self._split_words(text)
        lengths = words.codes.row_lengths()
        strings = tf.strings.unicode_encode(words.codes, "UTF-8")
        # No vocabulary has this piece, and as a word it is too long: [UNK].
        strings = tf.where(lengths > MAX_WORD_CHARACTERS, "x" * (_MAX_WORD_BYTES + 1), strings)
        ids, _, _ = self._word_pieces.tokenize_with_offsets(strings)
        # The pieces of all words tile their characters: [UNK] its word's, others their own.
        word = ids.value_rowids()
        pieces = ids.flat_values
        unknown = tf.equal(pieces, self.tokenizer.vocabulary.unknown_id)
        length = tf.where(
            unknown,
            tf.gather(tf.cast(lengths, tf.int32), word),
            tf.gather(self._piece_lengths, pieces),
        )
        end = tf.cumsum(length)
        starts = tf.gather(words.sources, end - length)
        ends = tf.gather(words.ends, tf.gather(words.sources, end - 1))
        rows = tf.gather(words.rows, word)
        row_starts = tf.cast(tf.gather(words.row_starts, rows), tf.int32)
        by_row = tf.RaggedTensor.from_value_rowids(
            pieces, rows, tf.size(text, out_type=tf.int64), validate=False
        )
        return (
            by_row,
            by_row.with_flat_values(starts - row_starts),
            by_row.with_flat_values(ends - row_starts),
        )

    def _pack(
        self,
        ids_a: tf.RaggedTensor,
        ids_b: tf.RaggedTensor | None,
        max_seq_length: int,
        truncation: Truncation,
    ) -> dict[str, tf.Tensor]:
        """`[CLS] A [SEP]`, then `B [SEP]` where B has tokens, padded to the longest row."""
        vocabulary = self.tokenizer.vocabulary
        length_a = tf.cast(ids_a.row_lengths(), tf.int32)
        length_b = tf.zeros_like(length_a)
        if ids_b is not None:
            length_b = tf.cast(ids_b.row_lengths(), tf.int32)
        pair = length_b > 0
        kept_a, kept_b = _kept_tokens(length_a, length_b, max_seq_length, truncation)
        length = kept_a + 2 + tf.where(pair, kept_b + 1, 0)
        width = tf.reduce_max(tf.concat([[0], length], axis=0))
        column = tf.range(width)[tf.newaxis, :]
        end_a, end_b = (kept_a + 1)[:, tf.newaxis], (length - 1)[:, tf.newaxis]
        mask = column <= end_b
        tokens = tf.where(mask, vocabulary.sep_id, vocabulary.pad_id)
        tokens = tf.where(column == 0, vocabulary.cls_id, tokens)
        in_a = (column > 0) & (column < end_a)
        tokens = tf.where(in_a, _columns(ids_a, column - 1, in_a), tokens)
        if ids_b is not None:
            in_b = (column > end_a) & (column < end_b)
            tokens = tf.where(in_b, _columns(ids_b, column - end_a - 1, in_b), tokens)
        return {
            "token_ids": tokens,
            "segment_ids": tf.cast(mask & (column > end_a), tf.int32),
            "padding_mask": tf.cast(mask, tf.int32),
        }


def _largest(lengths: tf.Tensor) -> tf.Tensor:
    """The largest of int64 lengths, 0 where there are none."""
    return tf.maximum(tf.reduce_max(lengths), 0)


def _short(lengths: tf.RaggedTensor) -> tf.Tensor:
    """Whether no piece of a text can be a word of more than 200 characters [B].

    By row this costs as much as WordPiece itself: only for batches that may have such a word.
    """
    return tf.reduce_max(lengths, axis=1) < MAX_WORD_CHARACTERS  # the least integer where no piece


def _columns(ids: tf.RaggedTensor, column: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """The ids at the wanted columns of each row [B, T]; 0 at the others."""
    start = tf.cast(ids.row_starts(), tf.int32)[:, tf.newaxis]
    index = tf.where(wanted, start + column + 1, 0)
    return tf.gather(tf.concat([[0], ids.flat_values], axis=0), index)


def _kept_tokens(
    length_a: tf.Tensor, length_b: tf.Tensor, max_seq_length: int, truncation: Truncation
) -> tuple[tf.Tensor, tf.Tensor]:
    """`tokenizer.kept_tokens` for each row [B]."""
    budget = max_seq_length - 3
    if truncation == "only_second":
        kept_a = tf.minimum(length_a, budget)
    else:
        half = budget - budget // 2
        kept_a = tf.minimum(length_a, tf.maximum(budget - length_b, half))
    kept_a = tf.where(length_b > 0, kept_a, tf.minimum(length_a, max_seq_length - 2))
    return kept_a, tf.minimum(length_b, tf.maximum(budget - kept_a, 0))


def _wordpiece(tokenizer: Tokenizer, max_bytes: int, single_words: bool) -> Any:
    table = unicode_table.load()
    unmatched = {chr(code) for code in table.control | table.spaces}
    # Pieces that no word has: the builder fails on some, and would find others across words.
    pieces = [
        piece if unmatched.isdisjoint(piece) else f"\x01{index}"
        for index, piece in enumerate(tokenizer.vocabulary)
    ]
    model = builder.build_fast_wordpiece_model(
        pieces, max_bytes, SUFFIX, "[UNK]", single_words, False
    )
    buffer = tf.constant(np.frombuffer(bytes(model), np.uint8))
    return tensorflow_text.FastWordpieceTokenizer(model_buffer=buffer, token_out_type=tf.int32)
