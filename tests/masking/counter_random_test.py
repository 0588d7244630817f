"""The hash against MurmurHash3's published values, and its numbers against chance."""

import numpy as np
from scipy import stats

from bert_keras.masking.counter_random import Stream, _mix, random_below, random_bits


def test_the_mixing_function_is_murmurhash3s():
    # MurmurHash3_x86_32 of no bytes is the finaliser of the seed; values of its verification
    # tables: seeds 0, 1 and 2^32 - 1.
    mixed = _mix(np.array([0, 1, -1], "int32"), np).view("uint32")
    assert [hex(x) for x in mixed] == ["0x0", "0x514e28b7", "0x81f16f39"]


def test_within_an_epoch_no_two_rows_share_a_state():
    bits = random_bits(7, Stream.UNIT_ORDER, 3, np.arange(1 << 20))
    assert bits.dtype == np.int32
    assert len(np.unique(bits)) == 1 << 20


def test_every_counter_and_the_whole_seed_count():
    base = (12345, Stream.ACTION, 1, np.arange(1000))
    seen = random_bits(*base)
    np.testing.assert_array_equal(seen, random_bits(*base))
    for other in (
        (12346, *base[1:]),
        (12345 + (1 << 32), *base[1:]),
        (12345, Stream.RANDOM_TOKEN, *base[2:]),
        (12345, Stream.ACTION, 2, base[3]),
        (12345, Stream.ACTION, 1, base[3] + 1000),
    ):
        assert np.mean(seen == random_bits(*other)) < 0.01


def test_numbers_do_not_depend_on_what_they_are_drawn_with():
    rows, cells = np.arange(5)[:, None], np.arange(7)[None]
    grid = random_bits(-3, Stream.ACTION, 2, rows, cells)
    assert grid.shape == (5, 7)
    np.testing.assert_array_equal(grid[4:, 6], random_bits(-3, Stream.ACTION, 2, 4, 6))


def test_bits_are_even_and_neighbours_are_strangers():
    bits = random_bits(1, Stream.ACTION, 0, np.arange(2000)[:, None], np.arange(512)[None])
    words = bits.view("uint32")
    for counts in (
        np.bincount((words >> 24).ravel(), minlength=256),
        np.bincount((words & 255).ravel(), minlength=256),
        np.bincount((((words[:, :-1] >> 28) << 4) | (words[:, 1:] >> 28)).ravel(), minlength=256),
        np.bincount((((words[:-1] >> 28) << 4) | (words[1:] >> 28)).ravel(), minlength=256),
    ):
        assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4
    ones = np.unpackbits(words.view("uint8")).mean()
    assert abs(ones - 0.5) < 1e-3


def test_random_below_is_even():
    bits = random_bits(2, Stream.RANDOM_TOKEN, 0, np.arange(1_000_000))
    numbers = random_below(bits, 97)
    assert (numbers.min(), numbers.max()) == (0, 96)
    assert stats.chisquare(np.bincount(numbers)).pvalue > 1e-4
