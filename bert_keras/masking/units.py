"""Units of masking and their choice: words, runs of words, and the greedy rule.

    cells    [CLS] un ##aff ##able is the man [SEP]
    breaks     1    1   0     0    1   1   1    1       words; special cells are their own
    breaks     1    1   0     0    0   1   1    1       runs of words, of lengths 2, 1, 1

Shapes: B rows, T tokens (cells), U = T units, the unused ones at the end. Everything is written
over the names that NumPy and `keras.ops` share, without a loop over rows, cells or candidates.
"""

from typing import Any

import numpy as np

# Low bits of a sort key hold the unit's number, whatever T is, so that padding changes no order;
# 20 random bits are left.
INDEX_BITS = 12


def sort_keys(bits: Any, index: Any, xp: Any) -> Any:
    """Keys in random order, no two alike: random bits high, the unit's number low."""
    return xp.bitwise_or(xp.bitwise_and(bits, -(1 << INDEX_BITS)), index)


def word_breaks(word_starts: Any, special: Any, xp: Any) -> Any:
    """int32 [B, T], 1 where a word begins; every special cell is a word of its own."""
    after_special = xp.concatenate([xp.ones_like(special[:, :1]), special[:, :-1]], axis=1)
    breaks = xp.logical_or(xp.equal(word_starts, 1), xp.logical_or(special, after_special))
    return xp.array(breaks, "int32")


def run_breaks(breaks: Any, special: Any, lengths: Any, xp: Any) -> Any:
    """Cuts a row of words into runs: from its first word on, each as long as its draw.

    A run ends before a special token, which is a run of its own. Which words begin runs is a walk
    that hops from one beginning to the next; doubling the hop lays out all of it in log2 T steps.

    Returns:
        int32 [B, T], 1 where a run begins.
    """
    width = breaks.shape[1]
    index = xp.arange(width, dtype="int32")[None]  # words, [1, U]
    cell_of_word = xp.sort(xp.where(xp.equal(breaks, 1), index, width), axis=1)  # [B, U]
    # Slots after the last word count as special.
    beyond = xp.equal(cell_of_word, width)
    stops = gather(special, xp.minimum(cell_of_word, width - 1), xp)
    stops = xp.logical_or(stops, beyond)  # [B, U]

    end = xp.full_like(breaks[:, :1], width)  # [B, 1]
    stop_words = xp.concatenate([xp.sort(xp.where(stops, index, width), axis=1), end], axis=1)
    stops_before = xp.cumsum(xp.array(stops, "int32"), axis=1, dtype="int32")
    next_stop = gather(stop_words, stops_before, xp)  # [B, U]
    hop = xp.where(stops, index + 1, xp.minimum(index + lengths, next_stop))
    hop = xp.array(xp.concatenate([hop, end], axis=1), "int32")  # [B, U + 1]; the end stays

    begins = xp.zeros_like(end)  # [B, 1]: word 0
    while begins.shape[1] <= width:
        begins = xp.concatenate([begins, gather(hop, begins, xp)], axis=1)
        hop = gather(hop, hop, xp)
    cells = xp.concatenate([cell_of_word, end], axis=1)
    cells = gather(cells, begins[:, : width + 1], xp)
    return _scatter(cells, xp.ones_like(cells), width + 1, xp)[:, :width]


def choose(breaks: Any, unit_of_cell: Any, special: Any, bits: Any, budget: Any, xp: Any) -> Any:
    """Chooses units in random order; returns bool [B, T], True on all their cells."""
    width = breaks.shape[1]
    index = xp.arange(width, dtype="int32")[None]
    too_long = width + 1  # longer than any budget
    begins = xp.sort(xp.where(xp.equal(breaks, 1), index, width), axis=1)  # [B, U]
    ends = xp.concatenate([begins[:, 1:], xp.full_like(begins[:, :1], width)], axis=1)
    # A special unit's first cell is special. Unused units have length 0.
    stops = gather(special, xp.minimum(begins, width - 1), xp)
    lengths = xp.where(xp.logical_or(stops, xp.equal(begins, width)), too_long, ends - begins)

    keys = xp.sort(sort_keys(bits, index, xp), axis=1)
    order = xp.bitwise_and(keys, (1 << INDEX_BITS) - 1)  # [B, U]
    taken = _greedy(xp.array(gather(lengths, order, xp), "int32"), budget, xp)
    taken = _scatter(order, xp.array(taken, "int32"), width, xp)
    return xp.equal(gather(taken, unit_of_cell, xp), 1)


def _greedy(lengths: Any, budget: Any, xp: Any) -> Any:
    """Takes units in order, skipping each that no longer fits; bool [B, U].

    In rounds, over the units that would fit what is left (the others never will, since it only
    shrinks): a cumulative sum of their lengths finds how far one can go without a skip. All up
    to there are taken, as one after the other would; the next one is too long for what is left
    now, and so drops out with its like. The lengths that end a round shrink from round to round,
    and each needs a unit of its own: there are below sqrt(2 T) + 1 rounds, three or so mostly.
    """

    def some(active: Any, taken: Any, left: Any) -> Any:
        return xp.any(active)

    def take_prefix(active: Any, taken: Any, left: Any) -> tuple[Any, Any, Any]:
        total = xp.cumsum(xp.where(active, lengths, 0), axis=1, dtype="int32")
        fits = xp.logical_and(active, total <= left)
        left = left - xp.max(xp.where(fits, total, 0), axis=1, keepdims=True)
        taken = xp.logical_or(taken, fits)
        active = xp.logical_and(xp.logical_and(active, xp.logical_not(fits)), lengths <= left)
        return active, taken, left

    active = lengths <= budget
    state = active, xp.zeros_like(active), budget
    if xp is not np:
        return xp.while_loop(some, take_prefix, state)[1]
    while some(*state):
        state = take_prefix(*state)
    return state[1]


def gather(x: Any, positions: Any, xp: Any) -> Any:
    """`take_along_axis` over the last of two axes; its NumPy form takes three times as long."""
    if xp is not np:
        return xp.take_along_axis(x, positions, axis=1)
    rows = np.arange(len(x))[:, None] * x.shape[1]
    return x.reshape(-1).take(rows + positions)


def _scatter(positions: Any, values: Any, width: int, xp: Any) -> Any:
    """int32 [B, width] with `values` [B, K] at `positions` [B, K], 0 elsewhere."""
    shape = xp.shape(positions)
    row = xp.arange(shape[0], dtype="int32")[:, None]
    flat = xp.reshape(row * width + positions, (-1,))  # below 2³¹ for every batch that fits
    if xp is np:
        out = np.zeros(shape[0] * width, "int32")
        out[flat] = values.reshape(-1)
    else:
        out = xp.zeros((shape[0] * width,), "int32")
        out = xp.scatter_update(out, flat[:, None], xp.reshape(values, (-1,)))
    return xp.reshape(out, (-1, width))
