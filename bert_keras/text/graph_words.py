"""Text into words inside a graph, with offsets: the packaged Unicode table gathered by code point.

The batch is one long row of characters in which a space closes each text. No rule of the
tokenizer looks across a space, so texts never meet. Core TensorFlow ops alone.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_keras.text import graph_tables, unicode_table
from bert_keras.text.graph_tables import NormalForms
from bert_keras.text.unicode_table import ACCENT, ALONE, SPACE, WORD


class Words(NamedTuple):
    """The words of a batch of texts, W in all, of E characters in normal form.

    Attributes:
        codes: int32 [W, (characters)], the normal form.
        rows: int64 [W], the text of each word.
        sources: int32 [E], the character of the batch that each of `codes.flat_values` is from.
        ends: int32, by `sources`: where a character ends, and the accents that go with it.
        row_starts: int64 [B], the first character of each text.
    """

    codes: tf.RaggedTensor
    rows: tf.Tensor
    sources: tf.Tensor
    ends: tf.Tensor
    row_starts: tf.Tensor


class _Parts(NamedTuple):
    """Normal form, and the character of the batch that each part is from."""

    codes: tf.Tensor
    kinds: tf.Tensor
    sources: tf.Tensor


class GraphWords(tf.Module):
    """google-research/bert's BasicTokenizer in a graph."""

    def __init__(self, lower_case: bool):
        super().__init__()
        table = unicode_table.load()
        self._lower_case = lower_case
        with tf.device("CPU:0"):
            self._forms = _constants(graph_tables.normal_forms(table, lower_case, False))
            if lower_case:
                self._full_forms = _constants(graph_tables.normal_forms(table, True, True))
                self._marks, self._classes = map(tf.constant, graph_tables.combining_classes(table))

    def __call__(self, text: tf.Tensor) -> Words:
        """`text` is a string tensor [B]; what is not UTF-8 in it vanishes."""
        closed = tf.strings.join([text, " "])
        decoded = tf.strings.unicode_decode(
            closed, "UTF-8", errors="replace", replacement_char=0xFFFD
        )
        codes = decoded.flat_values
        records = _records(codes, self._forms)
        parts = self._parts(codes, records)
        return _words(parts, self._ends(records), decoded.row_starts())

    def _parts(self, codes: tf.Tensor, records: tf.Tensor) -> _Parts:
        """Every character's normal form."""
        simple = _Parts(
            codes + (records & graph_tables.DELTA_MASK) - graph_tables.DELTA_ZERO,
            _kinds(records),
            tf.range(tf.size(codes)),
        )
        if not self._lower_case:
            return simple
        is_simple = tf.reduce_max(tf.concat([[0], records], axis=0)) < graph_tables.SPECIAL
        return _Parts(
            *tf.cond(is_simple, lambda: simple, lambda: self._special_parts(codes, records))
        )

    def _special_parts(self, codes: tf.Tensor, records: tf.Tensor) -> _Parts:
        """The same, where characters have several parts, move, or are capital sigmas."""
        return _Parts(
            *tf.cond(
                tf.reduce_any(_has(records, graph_tables.REORDERING)),
                lambda: self._ordered_parts(codes),
                lambda: _several_parts(codes, records, self._forms),
            )
        )

    def _ordered_parts(self, codes: tf.Tensor) -> _Parts:
        """The parts in canonical order: each run of combining marks sorted by class.

        Accents are dropped only then, as they part or move the other marks; deleted characters
        do not. Where marks change places, the text's own order is kept for their sources.
        """
        full = _several_parts(codes, _records(codes, self._full_forms), self._full_forms)
        kept = tf.not_equal(full.kinds, unicode_table.CONTROL)
        codes, kinds, sources = (tf.boolean_mask(column, kept) for column in full)
        place = tf.minimum(tf.searchsorted(self._marks, codes), tf.size(self._marks) - 1)
        is_mark = tf.equal(tf.gather(self._marks, place), codes)
        classes = tf.where(is_mark, tf.gather(self._classes, place), 0)
        run = tf.cumsum(tf.cast(tf.equal(classes, 0), tf.int64))
        order = tf.argsort(run * 256 + tf.cast(classes, tf.int64), stable=True)
        ordered = tf.gather(kinds, order)
        base = tf.not_equal(ordered, ACCENT)
        return _Parts(
            tf.boolean_mask(tf.gather(codes, order), base),
            tf.boolean_mask(ordered, base),
            tf.boolean_mask(sources, tf.not_equal(kinds, ACCENT)),
        )

    def _ends(self, records: tf.Tensor) -> tf.Tensor:
        """Where each character ends, the accents that follow it (and are dropped) included."""
        places = tf.range(tf.size(records) + 1)
        if not self._lower_case:
            return places[1:]
        base = tf.not_equal(_kinds(records), ACCENT)
        bases = tf.boolean_mask(places, tf.concat([base, [True]], axis=0))
        return tf.gather(bases, tf.cumsum(tf.cast(base, tf.int32)))


def _several_parts(codes: tf.Tensor, records: tf.Tensor, forms: NormalForms) -> _Parts:
    """Every character's parts; a capital sigma's by its neighbours."""
    low = records & graph_tables.DELTA_MASK
    single = codes + low - graph_tables.DELTA_ZERO
    single = tf.where(_final_sigmas(records), unicode_table.FINAL_SIGMA, single)
    several = _has(records, graph_tables.SEVERAL)
    row = tf.where(several, low, 0)
    lengths = tf.where(several, tf.gather(forms.part_lengths, row), 1)
    sources = tf.repeat(tf.range(tf.size(codes)), lengths)
    within = tf.range(tf.size(sources)) - tf.gather(tf.cumsum(lengths, exclusive=True), sources)
    is_part = tf.gather(several, sources)
    part = tf.gather(tf.gather(forms.part_starts, row), sources) + within
    part = tf.where(is_part, part, 0)
    return _Parts(
        tf.where(is_part, tf.gather(forms.part_codes, part), tf.gather(single, sources)),
        tf.where(is_part, tf.gather(forms.part_kinds, part), tf.gather(_kinds(records), sources)),
        sources,
    )


def _records(codes: tf.Tensor, forms: NormalForms) -> tf.Tensor:
    size = 1 << graph_tables.BLOCK_BITS
    block = tf.gather(forms.blocks, tf.bitwise.right_shift(codes, graph_tables.BLOCK_BITS))
    return tf.gather(forms.records, block * size + (codes & (size - 1)))


def _kinds(records: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.right_shift(records, graph_tables.KIND_SHIFT) & 7


def _has(records: tf.Tensor, flag: int) -> tf.Tensor:
    return tf.not_equal(records & flag, 0)


def _final_sigmas(records: tf.Tensor) -> tf.Tensor:
    """Capital sigmas that a cased letter precedes and none follows (Final_Sigma)."""
    case = tf.bitwise.right_shift(records, graph_tables.CASE_SHIFT) & 3
    seen = tf.not_equal(case, graph_tables.CASE_IGNORABLE)
    # The letters that are not skipped, with none before the first and none after the last.
    letters = tf.pad(tf.boolean_mask(case, seen), [[1, 1]])
    rank = tf.cumsum(tf.cast(seen, tf.int32))  # a sigma's own among them
    before, after = tf.gather(letters, tf.maximum(rank - 1, 0)), tf.gather(letters, rank + 1)
    final = tf.equal(before, graph_tables.CASED) & tf.not_equal(after, graph_tables.CASED)
    return _has(records, graph_tables.SIGMA) & final


def _words(parts: _Parts, ends: tf.Tensor, row_starts: tf.Tensor) -> Words:
    """Groups parts into words: letters that touch, and each lone character."""
    kept = tf.reshape(tf.where(parts.kinds <= SPACE), [-1])
    kinds = tf.gather(parts.kinds, kept)
    letter = tf.equal(kinds, WORD)
    follows = tf.concat([[False], letter], axis=0)[:-1]
    begins = tf.equal(kinds, ALONE) | (letter & tf.logical_not(follows))
    solid = tf.reshape(tf.where(tf.not_equal(kinds, SPACE)), [-1])
    kept = tf.gather(kept, solid)
    sources = tf.gather(parts.sources, kept)
    first = tf.reshape(tf.where(tf.gather(begins, solid)), [-1])
    splits = tf.concat([first, [tf.size(kept, out_type=tf.int64)]], axis=0)
    of_words = tf.cast(tf.gather(sources, first), tf.int64)
    return Words(
        codes=tf.RaggedTensor.from_row_splits(tf.gather(parts.codes, kept), splits, validate=False),
        rows=tf.searchsorted(row_starts, of_words, side="right", out_type=tf.int64) - 1,
        sources=sources,
        ends=ends,
        row_starts=row_starts,
    )


def _constants(forms: NormalForms) -> NormalForms:
    return NormalForms(*(tf.constant(np.asarray(array)) for array in forms))
