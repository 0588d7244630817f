"""Masking against a sequential reference, against chance, and against itself elsewhere."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from bert_keras.errors import InputError
from bert_keras.masking.counter_random import Stream, random_bits
from bert_keras.masking.rule import Masking, _run_lengths, mask_rows
from bert_keras.masking.units import run_breaks
from tests.masking import masking_reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
V, CLS, SEP, MASK = 997, 2, 3, 4
IDS = {"vocab_size": V, "mask_id": MASK, "special_ids": (CLS, SEP)}
UNITS = ("token", "word", "ngram", "span")


def random_rows(count, width, seed=0, longest_word=6):
    """Rows of [CLS] A [SEP] B [SEP] and padding, with words of 1 to `longest_word` pieces."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, width + 1, count)
    token_ids = rng.integers(5, V, (count, width))
    word_starts = rng.integers(0, rng.integers(1, longest_word + 1, (count, 1)) + 1, (count, width))
    word_starts = (word_starts == 0).astype("int32")
    cells = np.arange(width)
    special = (cells == 0) | (cells == lengths[:, None] - 1)
    middle = rng.integers(1, lengths - 1)[:, None]
    is_sep = (cells == middle) | (cells == lengths[:, None] - 1)
    token_ids = np.where(cells == 0, CLS, np.where(is_sep, SEP, token_ids))
    special |= is_sep
    padding_mask = cells < lengths[:, None]
    word_starts = np.where(special, 0, word_starts)
    return [
        (x * padding_mask).astype("int32") for x in (token_ids, word_starts, np.ones_like(cells))
    ]


def mask(masking, arrays, rows=None, seed=12345, epoch=0, **more):
    rows = np.arange(len(arrays[0])) if rows is None else rows
    return mask_rows(masking, *arrays, seed=seed, epoch=epoch, rows=rows, **IDS | more)


def full_rows(count=8000, width=128):
    """Rows without padding or second text, every third token inside a word."""
    rng = np.random.default_rng(5)
    token_ids = rng.integers(5, V, (count, width)).astype("int32")
    token_ids[:, 0], token_ids[:, -1] = CLS, SEP
    word_starts = (rng.random((count, width)) < 2 / 3).astype("int32")
    word_starts[:, [0, -1]] = 0
    return token_ids, word_starts, np.ones_like(token_ids)


# --- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("replace_by", ["piece", "word"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("rate", "predictions"), [(0.15, 20), (0.8, 40), (0.4, 5)])
def test_equals_the_sequential_rule(unit, replace_by, rate, predictions):
    masking = Masking(rate, predictions, unit, replace_by=replace_by)
    arrays = random_rows(400, 48, seed=predictions)
    rows = np.arange(400) * 1009 + 7
    seed = 2**40 + 17
    out = mask(masking, arrays, rows, seed=seed, epoch=3)
    for k, row in enumerate(rows):
        length = arrays[2][k].sum()
        tokens, starts = (x[k, :length].tolist() for x in arrays[:2])
        want, predicted = masking_reference.mask_row(
            masking, tokens, starts, seed=seed, epoch=3, row=int(row),
            vocab_size=V, mask_id=MASK, special=(CLS, SEP),
        )  # fmt: skip
        assert out["token_ids"][k, :length].tolist() == want, k
        used = out["masked_weights"][k] == 1
        pairs = zip(out["masked_positions"][k][used], out["masked_ids"][k][used], strict=True)
        assert [(int(p), int(i)) for p, i in pairs] == predicted, k


@pytest.mark.parametrize("unit", UNITS)
def test_what_holds_of_every_row(unit):
    arrays = random_rows(4000, 64)
    token_ids, _, padding_mask = arrays
    out = mask(Masking(0.3, 10, unit), arrays)
    used = out["masked_weights"] == 1
    number = used.sum(1)
    real = padding_mask.sum(1)
    budget = np.clip([round(n * 0.3) for n in real.tolist()], 1, 10)
    assert (number <= budget).all()
    # A row without any token that may be chosen has none; with words, short rows may have none.
    eligible = ((token_ids != CLS) & (token_ids != SEP) & (padding_mask == 1)).sum(1)
    assert (number[eligible == 0] == 0).all()
    if unit == "token":
        np.testing.assert_array_equal(number, np.minimum(budget, eligible))
    # Used cells come first, positions increase, ids are what stood there; unused cells are 0.
    assert (used == (np.arange(10) < number[:, None])).all()
    steps = np.diff(out["masked_positions"], axis=1)
    assert (steps[used[:, 1:]] > 0).all()
    stood = np.take_along_axis(token_ids, out["masked_positions"], axis=1)
    assert (out["masked_ids"] == np.where(used, stood, 0)).all()
    assert (out["masked_positions"][~used] == 0).all()
    assert not np.isin(out["masked_ids"][used], (CLS, SEP, 0)).any()
    changed = np.argwhere(out["token_ids"] != token_ids)
    predicted = np.zeros(token_ids.shape, bool)
    predicted[np.nonzero(used)[0], out["masked_positions"][used]] = True
    assert predicted[tuple(changed.T)].all()
    assert {n: x.dtype.name for n, x in out.items()} == {
        "token_ids": "int32",
        "masked_positions": "int32",
        "masked_ids": "int32",
        "masked_weights": "float32",
    }


def test_all_pieces_of_a_word_are_chosen_together():
    token_ids, word_starts, padding_mask = full_rows(500)
    out = mask(Masking(unit="word"), (token_ids, word_starts, padding_mask))
    chosen = np.zeros(token_ids.shape, bool)
    row = np.nonzero(out["masked_weights"])[0]
    chosen[row, out["masked_positions"][out["masked_weights"] == 1]] = True
    inside = (word_starts == 0) & ~np.isin(token_ids, (CLS, SEP))
    inside[:, 1] = False  # the cell after [CLS] begins a word whatever it is marked as
    row, cell = np.nonzero(inside)
    np.testing.assert_array_equal(chosen[row, cell], chosen[row, cell - 1])


def test_one_action_for_a_whole_word():
    arrays = full_rows(2000)
    out = mask(Masking(unit="word", replace_by="word", random_share=0.0), arrays)
    masked = out["token_ids"] == MASK
    predicted = np.zeros(masked.shape, bool)
    row = np.nonzero(out["masked_weights"])[0]
    predicted[row, out["masked_positions"][out["masked_weights"] == 1]] = True
    inside = (arrays[1] == 0) & ~np.isin(arrays[0], (CLS, SEP)) & predicted
    inside[:, 1] = False
    row, cell = np.nonzero(inside)
    np.testing.assert_array_equal(masked[row, cell], masked[row, cell - 1])
    assert 0.75 < masked[predicted].mean() < 0.85


def test_predict_all_asks_for_every_real_token():
    arrays = random_rows(200, 32)
    out = mask(Masking(0.15, 4, predict="all"), arrays)
    masked = mask(Masking(0.15, 4), arrays)
    np.testing.assert_array_equal(out["token_ids"], masked["token_ids"])
    assert out["masked_ids"].shape == (200, 32)
    for k in range(200):
        eligible = np.flatnonzero(~np.isin(arrays[0][k], (0, CLS, SEP)))
        count = len(eligible)
        assert out["masked_weights"][k].tolist() == [1.0] * count + [0.0] * (32 - count)
        np.testing.assert_array_equal(out["masked_positions"][k, :count], eligible)
        np.testing.assert_array_equal(out["masked_ids"][k, :count], arrays[0][k, eligible])


def test_more_predictions_than_tokens_are_padding():
    out = mask(Masking(0.8, 40), random_rows(20, 16))
    assert out["masked_positions"].shape == (20, 40)
    assert (out["masked_weights"][:, 16:] == 0).all()


def test_a_row_whose_words_are_all_too_long_has_no_prediction_as_in_google_research_bert():
    row = [np.array([x], "int32") for x in ([CLS, 9, 9, 9, SEP], [0, 1, 0, 0, 0], [1] * 5)]
    assert mask(Masking(unit="word"), row)["masked_weights"].sum() == 0
    assert mask(Masking(), row)["masked_weights"].sum() == 1


# --- chance --------------------------------------------------------------------------------------


def test_fifteen_percent_are_predicted_and_eighty_ten_ten_of_them_replaced():
    token_ids, word_starts, padding_mask = full_rows()
    out = mask(Masking(max_predictions=40), (token_ids, word_starts, padding_mask))
    used = out["masked_weights"] == 1
    assert abs(used.sum() / token_ids.size - 0.15) < 0.002  # a million tokens; 19 of 128
    now = np.take_along_axis(out["token_ids"], out["masked_positions"], axis=1)[used]
    was = out["masked_ids"][used]
    keep, mask_count = (now == was).sum(), (now == MASK).sum()
    counts = np.array([mask_count, len(now) - mask_count - keep, keep])
    # A random token is by chance [MASK], or what stood there.
    shares = np.array([0.8 + 0.1 / V, 0.1 * (1 - 2 / V), 0.1 + 0.1 / V])
    assert np.abs(counts / len(now) - shares).max() < 0.002
    assert stats.chisquare(counts, shares * len(now)).pvalue > 1e-3
    changed = now[(now != was) & (now != MASK)]
    assert stats.chisquare(np.delete(np.bincount(changed, minlength=V), MASK)).pvalue > 1e-3


@pytest.mark.parametrize("unit", UNITS)
def test_every_position_is_chosen_as_often(unit):
    token_ids, word_starts, padding_mask = full_rows(8000, 66)
    word_starts = np.ones_like(word_starts)
    out = mask(Masking(unit=unit), (token_ids, word_starts, padding_mask))
    positions = out["masked_positions"][out["masked_weights"] == 1]
    counts = np.bincount(positions, minlength=66)[1:65]
    if unit in ("token", "word"):
        assert stats.chisquare(counts).pvalue > 1e-4
    else:
        # A budget of 10 has no room for the longest runs, and at the ends of a text runs are
        # shorter: the first and the last words are chosen up to half as often again.
        inside = counts[10:-10]
        assert inside.std() < 0.05 * inside.mean()
        assert 0.9 * inside.mean() < counts.min() <= counts.max() < 1.7 * inside.mean()


@pytest.mark.parametrize(
    ("masking", "pmf"),
    [
        # SpanBERT, section 3.1: Geo(0.2) up to 10, which has a mean of 3.8.
        (Masking(unit="span"), [0.2 * 0.8**n for n in range(10)]),
        (Masking(unit="ngram", max_ngram_size=4), [1, 1 / 2, 1 / 3, 1 / 4]),
    ],
    ids=["span", "ngram"],
)
def test_runs_have_the_lengths_of_their_law(masking, pmf):
    width, count, longest = 512, 4000, len(pmf)
    ones = np.ones((count, width), "int32")
    special = np.zeros(ones.shape, bool)
    special[:, [0, -1]] = True
    bits = random_bits(1, Stream.RUN_LENGTH, 0, np.arange(count)[:, None], np.arange(width)[None])
    runs = run_breaks(ones, special, _run_lengths(masking, bits, np), np)
    counts = np.zeros(longest + 1, int)
    for row in runs:
        begins = np.flatnonzero(row)[1:]  # without [CLS]
        lengths = np.diff(begins)[begins[:-1] < width - longest]  # those that [SEP] cannot cut
        counts += np.bincount(lengths, minlength=longest + 1)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], np.array(pmf) / np.sum(pmf) * counts.sum()).pvalue > 1e-3
    if masking.unit == "span":
        assert abs(counts @ np.arange(longest + 1) / counts.sum() - 3.8) < 0.02


# --- the same everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_masks_do_not_depend_on_neighbours_batch_size_or_padding(unit):
    arrays = random_rows(300, 40)
    masking = Masking(0.3, 12, unit)
    whole = mask(masking, arrays)
    order = np.random.default_rng(0).permutation(300)[:77]
    wider = [np.pad(x[order], ((0, 0), (0, 23))) for x in arrays]
    part = mask(masking, wider, order)
    for name, x in part.items():
        want = whole[name][order]
        np.testing.assert_array_equal(x[:, : want.shape[1]], want, err_msg=name)
        assert not x[:, want.shape[1] :].any()
    one = mask(masking, [x[5:6] for x in arrays], [5])
    np.testing.assert_array_equal(one["token_ids"][0], whole["token_ids"][5])


def test_many_rows_are_worked_on_in_pieces_that_change_nothing(monkeypatch):
    arrays = random_rows(300, 40)
    whole = mask(Masking(unit="span"), arrays)
    monkeypatch.setattr("bert_keras.masking.rule.CHUNK_CELLS", 500)
    pieces = mask(Masking(unit="span"), arrays)
    for name, x in whole.items():
        np.testing.assert_array_equal(x, pieces[name])


def test_epochs_and_seeds_differ_and_repeat():
    arrays = random_rows(200, 128)
    first = mask(Masking(), arrays)["token_ids"]
    np.testing.assert_array_equal(first, mask(Masking(), arrays)["token_ids"])
    # What epoch 2 is for one row, an array of epochs says as well.
    epochs = np.full((200, 1), 2)
    np.testing.assert_array_equal(
        mask(Masking(), arrays, epoch=epochs)["token_ids"],
        mask(Masking(), arrays, epoch=2)["token_ids"],
    )
    for other in ({"epoch": 1}, {"seed": 1}):
        assert (mask(Masking(), arrays, **other)["token_ids"] != first).mean() > 0.05


PROGRAM = """
import os, sys
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None
import numpy as np
from keras import ops
from bert_keras.masking.rule import Masking, mask_rows
from tests.masking.rule_test import IDS, UNITS, random_rows

out = {}
for unit in UNITS:
    for more in ({}, {"replace_by": "word"}, {"predict": "all"}, {"max_predictions": 50}):
        arrays = [ops.convert_to_tensor(x) for x in random_rows(60, 40)]
        rows = ops.convert_to_tensor(np.arange(60, dtype="int32") + 10**9)
        masking = Masking(rate=0.3, unit=unit, **more)
        result = mask_rows(masking, *arrays, seed=2**35 + 1, epoch=2, rows=rows, xp=ops, **IDS)
        for name, x in result.items():
            out[f"{unit}.{more}.{name}"] = ops.convert_to_numpy(x)
np.savez(sys.argv[1], **out)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_every_backend_makes_the_bits_of_numpy(backend, tmp_path):
    pytest.importorskip(backend)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "out.npz")],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    seen = dict(np.load(tmp_path / "out.npz"))
    arrays, rows = random_rows(60, 40), np.arange(60) + 10**9
    assert len(seen) == 4 * 4 * 4
    for unit in UNITS:
        for more in ({}, {"replace_by": "word"}, {"predict": "all"}, {"max_predictions": 50}):
            masking = Masking(rate=0.3, unit=unit, **more)
            for name, want in mask(masking, arrays, rows, seed=2**35 + 1, epoch=2).items():
                found = seen[f"{unit}.{more}.{name}"]
                assert found.dtype == want.dtype
                np.testing.assert_array_equal(found, want, err_msg=f"{unit} {more} {name}")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0.81}, "rate must be above 0 and at most 0.8; it is 0.81"),
        ({"rate": 0.0}, "rate must be"),
        ({"max_predictions": 0}, "max_predictions must be at least 1"),
        ({"unit": "words"}, "unit must be one of token, word, ngram, span; it is 'words'"),
        ({"max_ngram_size": 0}, "max_ngram_size"),
        ({"span_p": 1.0}, "span_p"),
        ({"max_span": 0}, "max_span"),
        ({"mask_share": 1.2}, "mask_share"),
        ({"mask_share": 0.9, "random_share": 0.2}, "random_share"),
        ({"replace_by": "token"}, "replace_by must be piece or word"),
        ({"predict": "none"}, "predict"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message):
        Masking(**given)


def test_rows_too_long_for_the_sort_keys_are_refused():
    arrays = [np.ones((1, 4096), "int32")] * 3
    with pytest.raises(ValueError, match="1 to 4095 tokens"):
        mask(Masking(), arrays)
