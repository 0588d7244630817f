"""Text to the entities in it.

`serving_default`: `text` string [B] -> `count` int32 [B], and for the entities of each text, padded
to the most of the batch, `entity` (the words as sent) and `type`, string [B, E], `start` and `end`
(characters), int32 [B, E], `score`, float32 [B, E].

The graph repeats `bert_keras.answers.entities` op for op: words as `entities.words` finds them,
rows as `entities.windows` makes them in its sentence mode, the reading of tags of `entities.tags`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert_keras.entities import entities, is_tag, piece_tables
from bert_keras.entities.words import PieceTables
from bert_keras.serving.export.ragged import characters, first_best, ranges
from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.text_model import TextModel


class _Words(NamedTuple):
    """The words of a batch, one text after the other, by the WordPieces of the batch.

    Attributes:
        ids: int32 [P], the pieces.
        heads, ends: int32 [W], a word's pieces are [head, end).
        texts: int32 [W].
        first, last: int32 [W], its characters are [first, last).
        sizes: int32 [B], pieces of each text.
    """

    ids: tf.Tensor
    heads: tf.Tensor
    ends: tf.Tensor
    texts: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    sizes: tf.Tensor


class EntityFinder(ServingModule):
    """A `models.TokenTagger`."""

    def __init__(self, model: TextModel, network: Any) -> None:
        super().__init__(model, network)
        vocabulary = model.tokenizer.vocabulary
        self._specials = (vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id)
        labels = model.labels or []
        types, outside, continues = _tag_tables(labels)
        with tf.device("CPU:0"):
            self._pieces = PieceTables(*map(tf.constant, piece_tables(vocabulary)))
            self._types, self._outside = tf.constant(types, tf.string), tf.constant(outside)
            self._continues = tf.constant(continues)

    def text_function(self) -> Any:
        return graph(self._answer).get_concrete_function(text=tf.TensorSpec([None], tf.string))

    def _answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            words = self._words(self.bounded(text))
            begin, stop = _windows(words, self.max_seq_length - 2)
            inputs = self._rows(words, begin, stop)
        logits = self.run(inputs)["logits"]
        with tf.device("CPU:0"):
            window = _deciders(words, begin, stop)
            place = words.heads - tf.gather(begin, window) + 1  # after [CLS]
            shares = tf.nn.softmax(tf.gather_nd(logits, tf.stack([window, place], axis=1)))
            return self._entities(text, words, shares)

    def _words(self, text: tf.Tensor) -> _Words:
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(text)
        pieces = ids.flat_values
        texts = tf.cast(ids.value_rowids(), tf.int32)
        begins = _begins_word(pieces, starts.flat_values, ends.flat_values, texts, self._pieces)
        heads = tf.cast(tf.reshape(tf.where(begins), [-1]), tf.int32)
        word_ends = tf.concat([heads[1:], [tf.size(pieces)]], axis=0)[: tf.size(heads)]
        return _Words(
            pieces,
            heads,
            word_ends,
            tf.gather(texts, heads),
            tf.gather(starts.flat_values, heads),
            tf.gather(ends.flat_values, word_ends - 1),
            tf.cast(ids.row_lengths(), tf.int32),
        )

    def _rows(self, words: _Words, begin: tf.Tensor, stop: tf.Tensor) -> dict[str, tf.Tensor]:
        """`[CLS] pieces [SEP]` of each window, padded to the longest."""
        cls_id, sep_id, pad_id = self._specials
        length = (stop - begin)[:, tf.newaxis]
        column = tf.range(tf.reduce_max(tf.concat([[0], stop - begin], axis=0)) + 2)[tf.newaxis, :]
        inside = (column > 0) & (column <= length)
        place = tf.where(inside, begin[:, tf.newaxis] + column, 0)
        tokens = tf.gather(tf.concat([[cls_id], words.ids], axis=0), place)  # piece p is at p + 1
        tokens = tf.where(inside | tf.equal(column, 0), tokens, pad_id)
        return {
            "token_ids": tf.where(tf.equal(column, length + 1), sep_id, tokens),
            "segment_ids": tf.zeros_like(tokens),
            "padding_mask": tf.cast(column <= length + 1, tf.int32),
        }

    def _entities(self, text: tf.Tensor, words: _Words, shares: tf.Tensor) -> dict[str, tf.Tensor]:
        tags = tf.argmax(shares, axis=-1, output_type=tf.int32)
        before = tf.stack([tf.concat([[0], tags], axis=0)[:-1], tags], axis=1)
        same_text = tf.concat([[False], tf.equal(words.texts[1:], words.texts[:-1])], axis=0)
        continues = tf.gather_nd(self._continues, before) & same_text[: tf.size(tags)]
        inside = tf.logical_not(tf.gather(self._outside, tags))
        begins = inside & tf.logical_not(continues)
        number = tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int32)) - 1, inside)
        count = tf.reduce_sum(tf.cast(begins, tf.int32))
        last = tf.boolean_mask(words.last, inside)
        best = tf.boolean_mask(tf.reduce_max(shares, axis=-1), inside)
        texts = tf.boolean_mask(words.texts, begins)
        start = tf.boolean_mask(words.first, begins)
        end = tf.math.unsorted_segment_max(last, number, count)
        columns = {
            "entity": characters(text, texts, start, end),
            "type": tf.gather(self._types, tf.boolean_mask(tags, begins)),
            "start": start,
            "end": end,
            "score": tf.math.unsorted_segment_mean(best, number, count),
        }
        rows = tf.RaggedTensor.from_value_rowids(
            start, tf.cast(texts, tf.int64), tf.size(text, out_type=tf.int64), validate=False
        )
        dense = {name: rows.with_flat_values(x).to_tensor() for name, x in columns.items()}
        return dense | {"count": tf.cast(rows.row_lengths(), tf.int32)}


def _begins_word(
    ids: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, texts: tf.Tensor, tables: PieceTables
) -> tf.Tensor:
    """`entities.words.begins_word`, line by line."""
    punctuation, apostrophe, clitic, cjk, suffix = (tf.gather(table, ids) for table in tables)
    apart = (starts[1:] > ends[:-1]) & tf.logical_not(suffix[1:])
    apart |= tf.not_equal(texts[1:], texts[:-1])
    size = tf.size(ids)
    begins_chunk = tf.concat([[True], apart | cjk[1:] | cjk[:-1]], axis=0)[:size]
    chunk = tf.cumsum(tf.cast(begins_chunk, tf.int32)) - 1

    index = tf.range(size)
    first = tf.math.unsorted_segment_min(tf.where(punctuation, size, index), chunk, size)
    last = tf.math.unsorted_segment_max(tf.where(punctuation, -1, index), chunk, size)
    first, last = tf.gather(first, chunk), tf.gather(last, chunk)

    after_apostrophe = tf.concat([[False], apostrophe[:-1]], axis=0)[:size]
    ends_clitic = clitic & after_apostrophe & tf.logical_not(begins_chunk) & tf.equal(index, last)
    begins_clitic = tf.concat([ends_clitic[1:], [False]], axis=0)[:size]
    begins = begins_chunk | (index <= first) | (index > last) | begins_clitic
    return begins & tf.logical_not(ends_clitic)


def _windows(words: _Words, room: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of the network: pieces [begin, stop) of the batch, int32 [R] each.

    One row for a text that fits, else rows half a row apart, evenly spread. A row begins with a
    word; after the last word's first piece there is nothing to decide.
    """
    first = tf.cumsum(words.sizes, exclusive=True)
    rest = tf.maximum(words.sizes - room, 0)
    apart = room - room // 2
    steps = (rest + apart - 1) // apart
    text, k = ranges(tf.zeros_like(steps), steps + 1)
    cut = tf.gather(first, text)
    cut += k * tf.gather(rest, text) // tf.maximum(tf.gather(steps, text), 1)
    end = tf.gather(first + words.sizes, text)
    heads = tf.concat([words.heads, [tf.size(words.ids)]], axis=0)
    begin = tf.gather(heads, tf.searchsorted(heads, cut))
    has_word = begin < end
    begin = tf.where(has_word, begin, end)
    kept = has_word | tf.equal(k, 0)  # a text without words has a row all the same
    begin, end = tf.boolean_mask(begin, kept), tf.boolean_mask(end, kept)
    return begin, tf.minimum(begin + room, end)


def _deciders(words: _Words, begin: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """The row that decides each word, int32 [W]: that with most context, the first of equals."""
    row, word = ranges(tf.searchsorted(words.heads, begin), tf.searchsorted(words.heads, stop))
    context = tf.minimum(
        tf.gather(words.heads, word) - tf.gather(begin, row),
        tf.gather(stop, row) - tf.gather(words.ends, word),
    )
    count = tf.size(words.heads)
    best = first_best(word, row, context, count)
    return tf.scatter_nd(
        tf.boolean_mask(word, best)[:, tf.newaxis], tf.boolean_mask(row, best), [count]
    )


def _tag_tables(labels: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What `entities.decode` makes of tags.

    Returns:
        The type of each tag; whether it is outside of entities, bool [C]; whether the second of two
        neighbours goes on with the entity of the first, bool [C, C].
    """
    if not all(map(is_tag, labels)):  # plain labels: each word is an entity
        size = len(labels)
        return list(labels), np.zeros(size, bool), np.zeros((size, size), bool)
    found = [entities([tag]) for tag in labels]
    types = [spans[0].type if spans else "" for spans in found]
    outside = np.array([not spans for spans in found])
    continues = [
        [entities([a, b])[:1] == [(t, 0, 2)] for b in labels] for a, t in zip(labels, types)
    ]
    return types, outside, np.array(continues)
