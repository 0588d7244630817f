"""Which tokens the masked language model predicts, and what stands in their place.

    tokens   [CLS] un ##aff ##able is the man [SEP]      budget = 15 % of the tokens
    units           0   0     0    1   2   3             tokens, words, or runs of words
    order           2   2     2    0   3   1             random; taken greedily while they fit

Devlin et al., 2019, section 3.1 (https://arxiv.org/abs/1810.04805). One algorithm over the names
that NumPy and `keras.ops` share, without a loop over candidates: rows are masked many at a time, on
the host or on the accelerator, to the same bits. Every draw is a hash of (seed, epoch, row) and of
what it is for (`counter_random`), so what a row's masks are does not depend on its neighbours, on
the padding, on the backend, or on when it is asked.

Shapes: B rows, T tokens, P predicted positions, U = T units (unused ones at the end).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras.errors import InputError
from bert_keras.masking.counter_random import Stream, random_below, random_bits
from bert_keras.masking.units import (
    INDEX_BITS,
    choose,
    gather,
    run_breaks,
    sort_keys,
    word_breaks,
)

UNITS = ("token", "word", "ngram", "span")
LARGEST = 0x7FFFFFFF
# Draws of an action or a length are 30 bits, so that a share of 1 still has a threshold in int32.
DRAW_BITS = 30
# NumPy works on so many cells at a time: 128 KB an array, some ten of which fit the cache.
CHUNK_CELLS = 1 << 15


@dataclasses.dataclass(frozen=True)
class Masking:
    """How to mask.

    Attributes:
        rate: share of a row's real tokens ([CLS] and [SEP] counted) to predict, up to 0.8.
        max_predictions: P, the most tokens predicted in a row.
        unit: what is chosen as one: "token" a piece; "word" all pieces of a word; "ngram" 1 to
            `max_ngram_size` words, n of them with weight 1 / n (as in the Model Garden); "span" a
            run of words of geometric length (Joshi et al., 2020, section 3.1,
            https://arxiv.org/abs/1907.10529).
        max_ngram_size: longest n-gram, in words.
        span_p: of a span's length: P(l) ∝ p (1 - p)^(l - 1).
        max_span: longest span, in words.
        mask_share: of the chosen: these become [MASK].
        random_share: and these a token drawn from the whole vocabulary; the rest stays.
        replace_by: whether [MASK], random or as it is, is drawn for each "piece"
            (google-research/bert) or once for a whole unit, "word" (Model Garden, SpanBERT).
        predict: "masked": the chosen tokens; "all": every real token but the special ones, chosen
            or not; then P = T.
    """

    rate: float = 0.15
    max_predictions: int = 20
    unit: str = "token"
    max_ngram_size: int = 3
    span_p: float = 0.2
    max_span: int = 10
    mask_share: float = 0.8
    random_share: float = 0.1
    replace_by: str = "piece"
    predict: str = "masked"

    def __post_init__(self) -> None:
        shares = self.mask_share, self.random_share, 1 - self.mask_share - self.random_share
        for name, good, expected in (
            ("rate", 0 < self.rate <= 0.8, "above 0 and at most 0.8"),
            ("max_predictions", self.max_predictions >= 1, "at least 1"),
            ("unit", self.unit in UNITS, f"one of {', '.join(UNITS)}"),
            ("max_ngram_size", 1 <= self.max_ngram_size <= 100, "from 1 to 100"),
            ("span_p", 0 < self.span_p < 1, "between 0 and 1"),
            ("max_span", 1 <= self.max_span <= 100, "from 1 to 100"),
            ("mask_share", 0 <= self.mask_share <= 1, "from 0 to 1"),
            ("random_share", min(shares) >= -1e-9, "at least 0, and with mask_share at most 1"),
            ("replace_by", self.replace_by in ("piece", "word"), "piece or word"),
            ("predict", self.predict in ("masked", "all"), "masked or all"),
        ):
            if not good:
                raise InputError(f"{name} must be {expected}; it is {getattr(self, name)!r}.")

    def num_predictions(self, max_seq_length: int) -> int:
        """P, the width of the arrays of predictions, for rows of T = `max_seq_length` cells."""
        return max_seq_length if self.predict == "all" else self.max_predictions

    def run_lengths(self) -> np.ndarray:
        """P(a run has n words), float64 [longest], for n = 1, 2, ...; of n-grams and spans."""
        if self.unit == "ngram":
            weights = 1.0 / np.arange(1, self.max_ngram_size + 1)
        else:
            weights = np.power(1.0 - self.span_p, np.arange(self.max_span))
        return weights / weights.sum()

    def budgets(self, max_seq_length: int) -> np.ndarray:
        """Tokens to choose in a row of n real ones, int32 [T + 1]; google-research/bert's rule.

        A table, because Python rounds half to even in float64 and accelerators do not.
        """
        counts = [round(n * self.rate) for n in range(max_seq_length + 1)]
        return np.clip(np.array(counts, "int32"), 1, self.max_predictions)


def mask_rows(
    masking: Masking,
    token_ids: Any,
    word_starts: Any,
    padding_mask: Any,
    *,
    seed: int,
    epoch: Any,
    rows: Any,
    vocab_size: int,
    mask_id: int,
    special_ids: Sequence[int],
    xp: Any = np,
) -> dict[str, Any]:
    """Masks rows; any row's result is a function of the row, (seed, epoch, its number) alone.

    Args:
        masking: how.
        token_ids: int32 [B, T], T at most 4095.
        word_starts: int32 [B, T], 1 on the first piece of each word; with unit="token" it is not
            read and may be None. A piece right after a special token starts a word as well.
        padding_mask: int32 [B, T], 1 where a token is real.
        seed: of the run.
        epoch: number of the pass over the data, or of the copy; an int, or an int32 tensor that
            broadcasts with `rows`.
        rows: int [B], each row's number in the data set, below 2³¹.
        vocab_size: V; random tokens are drawn from all of it.
        mask_id: id of [MASK].
        special_ids: ids that are never chosen: [CLS], [SEP], ...
        xp: `numpy`, or `keras.ops` (there T must be known when a graph is built).

    Returns:
        `token_ids` int32 [B, T] with replacements; `masked_positions` (increasing), `masked_ids`
        (what stood there) int32 [B, P] and `masked_weights` float32 [B, P], 1.0 for a prediction;
        unused cells are 0. With other units than "token" a row whose every unit is longer than its
        budget gets no prediction, as in google-research/bert.
    """
    width = token_ids.shape[1]
    if width is None or not 1 <= width < 1 << INDEX_BITS:
        raise ValueError(
            f"`token_ids` must be 1 to {(1 << INDEX_BITS) - 1} tokens long, known beforehand. "
            f"Received shape {tuple(token_ids.shape)}."
        )
    mask = functools.partial(_mask_rows, masking, seed, vocab_size, mask_id, tuple(special_ids), xp)
    if xp is not np or len(token_ids) * width <= CHUNK_CELLS:
        return mask(token_ids, word_starts, padding_mask, epoch, rows)

    step = max(1, CHUNK_CELLS // width)
    if not isinstance(epoch, int):
        epoch = np.broadcast_to(np.reshape(epoch, -1), len(token_ids))
    parts = [
        mask(
            token_ids[start : start + step],
            None if word_starts is None else word_starts[start : start + step],
            padding_mask[start : start + step],
            epoch if isinstance(epoch, int) else epoch[start : start + step],
            rows[start : start + step],
        )
        for start in range(0, len(token_ids), step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _mask_rows(
    masking: Masking,
    seed: int,
    vocab_size: int,
    mask_id: int,
    special_ids: tuple[int, ...],
    xp: Any,
    token_ids: Any,
    word_starts: Any,
    padding_mask: Any,
    epoch: Any,
    rows: Any,
) -> dict[str, Any]:
    width = token_ids.shape[1]
    cells = xp.arange(width, dtype="int32")[None]  # [1, T]
    rows = xp.array(rows, "int32")[:, None]  # [B, 1]
    epoch = epoch if isinstance(epoch, int) else xp.reshape(xp.array(epoch, "int32"), (-1, 1))

    def draw(stream: Stream, index: Any) -> Any:
        return random_bits(seed, stream, epoch, rows, index, xp=xp)

    special = xp.equal(padding_mask, 0)  # [B, T]
    for token_id in special_ids:
        special = xp.logical_or(special, xp.equal(token_ids, token_id))
    real = xp.sum(xp.array(padding_mask, "int32"), axis=1)  # [B]
    budget = xp.take(xp.array(masking.budgets(width)), real)[:, None]  # [B, 1]

    if masking.unit == "token":
        unit_of_cell = cells
        keys = sort_keys(draw(Stream.UNIT_ORDER, cells), cells, xp)
        keys = xp.where(special, LARGEST, keys)
        last = gather(xp.sort(keys, axis=1), budget - 1, xp)  # [B, 1]
        chosen = xp.logical_and(keys <= last, xp.logical_not(special))
    else:
        breaks = word_breaks(word_starts, special, xp)
        if masking.unit != "word":
            lengths = _run_lengths(masking, draw(Stream.RUN_LENGTH, cells), xp)
            breaks = run_breaks(breaks, special, lengths, xp)
        unit_of_cell = xp.cumsum(breaks, axis=1, dtype="int32") - 1
        chosen = choose(breaks, unit_of_cell, special, draw(Stream.UNIT_ORDER, cells), budget, xp)

    by_unit = masking.replace_by == "word"
    action = draw(Stream.ACTION, unit_of_cell if by_unit else cells)
    action = xp.bitwise_and(action, (1 << DRAW_BITS) - 1)
    to_mask = round(masking.mask_share * (1 << DRAW_BITS))
    to_random = round((masking.mask_share + masking.random_share) * (1 << DRAW_BITS))
    anything = random_below(draw(Stream.RANDOM_TOKEN, cells), vocab_size, xp)
    replaced = xp.where(action < to_random, anything, token_ids)
    replaced = xp.where(action < to_mask, mask_id, replaced)

    predicted = xp.logical_not(special) if masking.predict == "all" else chosen
    return {
        "token_ids": xp.array(xp.where(chosen, replaced, token_ids), "int32"),
        **_predictions(token_ids, predicted, cells, masking.num_predictions(width), xp),
    }


def _predictions(
    token_ids: Any, predicted: Any, cells: Any, num_predictions: int, xp: Any
) -> dict[str, Any]:
    """Packs the predicted cells to the left, in their order."""
    width = token_ids.shape[1]
    positions = xp.sort(xp.where(predicted, cells, width), axis=1)[:, :num_predictions]
    if num_predictions > width:
        positions = xp.pad(positions, ((0, 0), (0, num_predictions - width)), constant_values=width)
    used = positions < width  # [B, P]
    positions = xp.where(used, positions, 0)
    ids = xp.where(used, gather(token_ids, positions, xp), 0)
    return {
        "masked_positions": xp.array(positions, "int32"),
        "masked_ids": xp.array(ids, "int32"),
        "masked_weights": xp.array(used, "float32"),
    }


def _run_lengths(masking: Masking, bits: Any, xp: Any) -> Any:
    """Draws a length in words for the run that may begin at each word, int32 [B, U]."""
    draws = xp.bitwise_and(bits, (1 << DRAW_BITS) - 1)
    lengths = xp.ones_like(draws)
    for longer in np.cumsum(masking.run_lengths())[:-1]:
        lengths = lengths + xp.array(draws >= round(longer * (1 << DRAW_BITS)), "int32")
    return lengths
