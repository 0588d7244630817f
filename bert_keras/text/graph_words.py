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
        starts, ends: int32 [E], where each character of `codes.flat_values` lies in its text.
    """

    codes: tf.RaggedTensor
    rows: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor


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
        rows = decoded.value_rowids()
        first = tf.cast(tf.gather(decoded.row_starts(), rows), tf.int32)
        records = _records(codes, self._forms)
        if self._lower_case:
            reorders = tf.reduce_any(_bits(records, graph_tables.REORDERING_SHIFT, 1) > 0)
            parts = tf.cond(
                reorders,
                lambda: self._ordered_parts(codes),
                lambda: self._parts(codes, records, self._forms),
            )
            parts = _Parts(*parts)
        else:
            parts = self._parts(codes, records, self._forms)
        starts = tf.range(tf.size(codes))
        ends = self._ends(starts, records)
        return _words(parts, starts - first, ends - first, rows)

    def _parts(self, codes: tf.Tensor, records: tf.Tensor, forms: NormalForms) -> _Parts:
        """Every character's normal form; a capital sigma's by its neighbours."""
        low = records & graph_tables.DELTA_MASK
        kinds = _bits(records, graph_tables.KIND_SHIFT, 7)
        single = codes + low - graph_tables.DELTA_ZERO
        if self._lower_case:
            sigma = tf.equal(codes, unicode_table.CAPITAL_SIGMA)
            single = tf.cond(
                tf.reduce_any(sigma), lambda: _final_sigmas(single, sigma, records), lambda: single
            )
        sources = tf.range(tf.size(codes))
        if not forms.part_codes.shape[0]:
            return _Parts(single, kinds, sources)
        several = _bits(records, graph_tables.SEVERAL_SHIFT, 1) > 0

        def expanded() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            row = tf.where(several, low, 0)
            lengths = tf.where(several, tf.gather(forms.part_lengths, row), 1)
            source = tf.repeat(sources, lengths)
            within = tf.range(tf.size(source)) - tf.gather(
                tf.cumsum(lengths, exclusive=True), source
            )
            is_part = tf.gather(several, source)
            part = tf.where(is_part, tf.gather(tf.gather(forms.part_starts, row), source), 0)
            part += tf.where(is_part, within, 0)
            return (
                tf.where(is_part, tf.gather(forms.part_codes, part), tf.gather(single, source)),
                tf.where(is_part, tf.gather(forms.part_kinds, part), tf.gather(kinds, source)),
                source,
            )

        return _Parts(*tf.cond(tf.reduce_any(several), expanded, lambda: (single, kinds, sources)))

    def _ordered_parts(self, codes: tf.Tensor) -> _Parts:
        """The parts in canonical order: each run of combining marks sorted by class.

        Accents, which are dropped later, still part or move the other marks here. Deleted
        characters do not. Places keep the character they are from.
        """
        full = self._parts(codes, _records(codes, self._full_forms), self._full_forms)
        kept = tf.not_equal(full.kinds, unicode_table.CONTROL)
        codes, kinds, sources = (tf.boolean_mask(column, kept) for column in full)
        place = tf.minimum(tf.searchsorted(self._marks, codes), tf.size(self._marks) - 1)
        is_mark = tf.equal(tf.gather(self._marks, place), codes)
        classes = tf.where(is_mark, tf.gather(self._classes, place), 0)
        run = tf.cumsum(tf.cast(tf.equal(classes, 0), tf.int64))
        order = tf.argsort(run * 256 + tf.cast(classes, tf.int64), stable=True)
        return _Parts(tf.gather(codes, order), tf.gather(kinds, order), sources)

    def _ends(self, starts: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        """Where each character ends, the accents that follow it (and are dropped) included."""
        if not self._lower_case:
            return starts + 1
        base = tf.not_equal(_bits(records, graph_tables.KIND_SHIFT, 7), ACCENT)
        bases = tf.concat([tf.boolean_mask(starts, base), [tf.size(starts)]], axis=0)
        return tf.gather(bases, tf.cumsum(tf.cast(base, tf.int32)))


def _records(codes: tf.Tensor, forms: NormalForms) -> tf.Tensor:
    size = 1 << graph_tables.BLOCK_BITS
    block = tf.gather(forms.blocks, _bits(codes, graph_tables.BLOCK_BITS, -1))
    return tf.gather(forms.records, block * size + (codes & (size - 1)))


def _bits(values: tf.Tensor, shift: int, mask: int) -> tf.Tensor:
    return tf.bitwise.right_shift(values, shift) & mask


def _final_sigmas(codes: tf.Tensor, sigma: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
    """Makes a sigma final where a cased letter precedes it and none follows (Final_Sigma)."""
    case = _bits(records, graph_tables.CASE_SHIFT, 3)
    seen = tf.not_equal(case, graph_tables.CASE_IGNORABLE)
    # The letters that are not skipped, with none before the first and none after the last.
    letters = tf.pad(tf.boolean_mask(case, seen), [[1, 1]])
    rank = tf.cumsum(tf.cast(seen, tf.int32))  # of the nearest letter, itself included
    before = tf.gather(letters, rank - 1 + tf.cast(tf.logical_not(seen), tf.int32))
    after = tf.gather(letters, rank + 1)
    cased_before = tf.equal(before, graph_tables.CASED)
    final = sigma & cased_before & tf.not_equal(after, graph_tables.CASED)
    return tf.where(final, unicode_table.FINAL_SIGMA, codes)


def _words(parts: _Parts, starts: tf.Tensor, ends: tf.Tensor, rows: tf.Tensor) -> Words:
    """Groups parts into words: letters that touch, and each lone character."""
    kept = tf.less_equal(parts.kinds, SPACE)
    codes, kinds, sources = (tf.boolean_mask(column, kept) for column in parts)
    letter = tf.equal(kinds, WORD)
    follows = tf.concat([[False], letter], axis=0)[:-1]
    begins = tf.equal(kinds, ALONE) | (letter & tf.logical_not(follows))
    solid = tf.not_equal(kinds, SPACE)
    codes, sources, begins = (tf.boolean_mask(column, solid) for column in (codes, sources, begins))
    first = tf.cast(tf.reshape(tf.where(begins), [-1]), tf.int64)
    splits = tf.concat([first, [tf.size(codes, out_type=tf.int64)]], axis=0)
    return Words(
        codes=tf.RaggedTensor.from_row_splits(codes, splits, validate=False),
        rows=tf.gather(rows, tf.gather(sources, first)),
        starts=tf.gather(starts, sources),
        ends=tf.gather(ends, sources),
    )


def _constants(forms: NormalForms) -> NormalForms:
    return NormalForms(*(tf.constant(np.asarray(array)) for array in forms))
