"""Windows of rows that are longer than the sequence length of a training phase.

One data set of 512 tokens a row serves the phase of 128 (Devlin et al., 2019, appendix A.2): from a
longer row every epoch takes another window, by (seed, epoch, row). What the label says stays true:

    B follows A    [CLS] a a a|a a [SEP] b b b b|b [SEP]    A and B are joined text; a sentence
                   [CLS] a a a [SEP] a a b b b [SEP]        start in it becomes the new boundary
    random B       the same with two boundaries: A ends where a sentence of A does, B begins where
                   one of B does; so neither place nor length tells the label
    text alone     whole sentences, from a sentence start on as many as fit

In pairs the outer ends may cut a sentence, as google-research/bert's truncation does. Every token
is in some window, except: in a pair, within a sentence longer than a window, those too far from
any boundary; in a random pair, those of A too far before its end for a short B to fill the row.

Shapes: R rows, W = the longest row, T = the window.
"""

from collections.abc import Callable, Mapping

import numpy as np

from bert_keras.masking.counter_random import random_below

Features = dict[str, np.ndarray]
# draw(number of the draw) -> random bits int32 [R]
Draw = Callable[[int], np.ndarray]


def pair_windows(
    x: Mapping[str, np.ndarray],
    swapped: np.ndarray,
    separate: np.ndarray,
    width: int,
    draw: Draw,
    cls_id: int,
    sep_id: int,
) -> Features:
    """A window of each pair; all rows have more than `width` tokens, and come out as long.

    Args:
        x: `token_ids`, `segment_ids`, `word_starts`, `sentence_starts` int32 [R, W], and `lengths`
            int64 [R].
        swapped: bool [R]; B is the text before A (sentence order).
        separate: bool [R]; A and B are of two texts (a random next sentence).
        width: T, at least 5.
        draw: random bits.
        cls_id, sep_id: of the vocabulary.

    Returns:
        The four features, int32 [R, T], and `lengths`.
    """
    room = width - 3
    later = x["segment_ids"].sum(axis=1) - 1  # tokens of B
    first = x["lengths"] - later - 3  # tokens of A
    size_x = np.where(swapped, later, first)[:, None]  # of the earlier text
    start_x = np.where(swapped, first + 2, 1)[:, None]
    start_y = np.where(swapped, 1, first + 2)[:, None]
    # The joined text: token j of it stands in this cell of the row.
    j = np.arange(x["token_ids"].shape[1])[None]
    size = (first + later)[:, None]
    cells = np.clip(np.where(j < size_x, start_x + j, start_y + j - size_x), 0, j[0, -1])
    starts = np.take_along_axis(x["sentence_starts"], cells, axis=1) == 1
    starts = (starts | (j == size_x)) & (j > 0) & (j < size)

    # The earlier part ends at `end`, the later one begins at `begin`.
    apart = separate[:, None]
    ends = starts & (~apart | ((j <= size_x) & (j + size - size_x >= room)))
    end = _pick(ends, draw(0))[:, None]
    begin = _pick(starts & (j >= size_x) & (end + size - j >= room), draw(1))[:, None]
    begin = np.where(apart, begin, end)
    low = np.maximum(1, room - (size - begin))
    high = np.minimum(end, room - 1)
    before = low + random_below(draw(2)[:, None], np.maximum(high - low + 1, 1))
    after = room - before

    is_swapped = swapped[:, None]
    size_a = np.where(is_swapped, after, before)
    begin_a = np.where(is_swapped, begin, end - before)
    begin_b = np.where(is_swapped, end - before, begin)
    c = np.arange(width)[None]
    source = np.where(c <= size_a, begin_a + c - 1, begin_b + c - size_a - 2)
    source = np.take_along_axis(cells, np.clip(source, 0, j[0, -1]), axis=1)
    separator = (c == size_a + 1) | (c == width - 1)
    special = separator | (c == 0)
    return {
        **_taken(x, source, special, separator, cls_id, sep_id),
        "segment_ids": (c > size_a + 1).astype(np.int32),
        "lengths": np.full(len(size_a), width),
    }


def text_windows(
    x: Mapping[str, np.ndarray], width: int, draw: Draw, cls_id: int, sep_id: int
) -> Features:
    """A window of each row of one text or several; arguments and result as in `pair_windows`.

    A window begins at a sentence, no later than one whose rest of the row would fit; a sentence
    longer than a window is cut out of at random. With `document_ids` these are numbered anew.
    """
    room = width - 2
    token_ids = x["token_ids"]
    c = np.arange(token_ids.shape[1])[None]
    last = x["lengths"][:, None] - 1  # the last [SEP]
    after_cls = np.pad(token_ids[:, :-1] == cls_id, ((0, 0), (1, 0)))
    starts = ((x["sentence_starts"] == 1) | after_cls) & (c < last)
    ends = ((starts & ~after_cls) | (token_ids == sep_id)) & (c <= last)

    rest_fits = starts & (last - c <= room)
    earlier = np.cumsum(rest_fits, axis=1) - rest_fits
    begin = _pick(starts & (earlier == 0), draw(0))[:, None]
    end = np.where(ends & (c <= begin + room), c, 0).max(axis=1)[:, None]
    sentence_end = np.where(ends & (c > begin), c, last).min(axis=1)[:, None]
    spare = np.maximum(sentence_end - begin - room, 0)  # of a sentence longer than the window
    begin = begin + random_below(draw(1)[:, None], spare + 1)
    end = np.where(spare > 0, begin + room, end)

    cells = np.arange(width)[None]
    size = end - begin
    separator = cells == size + 1
    special = separator | (cells == 0)
    source = np.clip(begin + cells - 1, 0, c[0, -1])
    found = _taken(x, source, special, separator, cls_id, sep_id)
    inside = cells <= size + 1
    found = {name: array * inside for name, array in found.items()}
    # A document that begins inside brings its own [CLS].
    found["segment_ids"] = np.zeros_like(found["token_ids"])
    if "document_ids" in x:
        documents = np.cumsum(found["token_ids"] == cls_id, axis=1, dtype=np.int32)
        found["document_ids"] = documents * inside
    return {**found, "lengths": size[:, 0] + 2}


def _taken(
    x: Mapping[str, np.ndarray],
    source: np.ndarray,
    special: np.ndarray,
    separator: np.ndarray,
    cls_id: int,
    sep_id: int,
) -> Features:
    """Token ids and marks from the cells `source`, special tokens where they belong."""
    specials = np.where(separator, sep_id, cls_id)
    token_ids = np.take_along_axis(x["token_ids"], source, axis=1)
    marks = {
        name: np.where(special, 0, np.take_along_axis(x[name], source, axis=1)).astype(np.int32)
        for name in ("word_starts", "sentence_starts")
    }
    return {"token_ids": np.where(special, specials, token_ids).astype(np.int32), **marks}


def _pick(candidates: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """A random True of each row, int64 [R]; 0 where there is none."""
    ranks = np.cumsum(candidates, axis=1)
    chosen = random_below(bits, np.maximum(ranks[:, -1], 1))
    return np.argmax(ranks > chosen[:, None], axis=1)
