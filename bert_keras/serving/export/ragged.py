"""Small parts of graphs over ragged rows, for the signatures that read windows."""

import tensorflow as tf


def ranges(starts: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """All integers from starts[i] to ends[i] (exclusive), for one i after the other.

    Returns:
        owners: the i of each; values: the integers; both int32 [sum of the lengths].
    """
    lengths = tf.maximum(ends - starts, 0)
    owners = tf.repeat(tf.range(tf.size(lengths)), lengths)
    within = tf.range(tf.size(owners)) - tf.gather(tf.cumsum(lengths, exclusive=True), owners)
    return owners, tf.gather(starts, owners) + within


def first_best(
    items: tf.Tensor, candidates: tf.Tensor, scores: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Whether each pair is that of its item's best candidate; of equals the lowest one.

    Args:
        items: int32 [P], below `count`.
        candidates: int32 [P], no pair twice.
        scores: [P], of any number type.
        count: how many items there are.

    Returns:
        bool [P].
    """
    best = tf.gather(tf.math.unsorted_segment_max(scores, items, count), items)
    last = candidates.dtype.max
    among = tf.where(tf.equal(scores, best), candidates, last)
    first = tf.gather(tf.math.unsorted_segment_min(among, items, count), items)
    return tf.equal(candidates, first)


def framed(rows: tf.RaggedTensor, first: int, last: int) -> tf.RaggedTensor:
    """Rows [B, (n)] with `first` before and `last` after each, [B, (n + 2)]."""
    before, after = (tf.fill([rows.nrows(), 1], value) for value in (first, last))
    return tf.concat([before, rows, after], axis=1)


def characters(text: tf.Tensor, rows: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Characters [starts[i], ends[i]) of text[rows[i]]; what is not UTF-8 counts as Python's does.

    Args:
        text: string [B].
        rows, starts, ends: int32 [n].

    Returns:
        string [n].
    """
    codes = tf.strings.unicode_decode(text, "UTF-8", errors="replace", replacement_char=0xFFFD)
    offsets = tf.gather(tf.cast(codes.row_starts(), tf.int32), rows)
    owners, places = ranges(offsets + starts, offsets + ends)
    picked = tf.RaggedTensor.from_value_rowids(
        tf.gather(codes.flat_values, places),
        tf.cast(owners, tf.int64),
        tf.size(rows, out_type=tf.int64),
        validate=False,
    )
    return tf.strings.unicode_encode(picked, "UTF-8")
