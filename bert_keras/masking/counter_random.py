"""Random numbers without a generator: a hash of what they are for.

    random_bits(seed, STREAM, epoch, row, cell) -> the same 32 bits on every machine and backend

Nothing is drawn one after the other, so nothing has to be drawn again to continue a run in the
middle of an epoch, and host and accelerator make the same numbers. The idea of a generator that
is a function of a counter: Salmon et al., 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"
(https://doi.org/10.1145/2063384.2063405). The mixing function is the 32-bit finaliser of
MurmurHash3 (Austin Appleby, public domain), of which every step can be undone: within an epoch no
two rows share a state. Good for masks and orders; not for secrets.
"""

import enum
from typing import Any

import numpy as np


class Stream(enum.IntEnum):
    """What a number is for; numbers of two streams have nothing to do with each other."""

    UNIT_ORDER = 1
    RUN_LENGTH = 2
    ACTION = 3
    RANDOM_TOKEN = 4
    SHARD_ORDER = 5
    ROW_ORDER = 6
    WINDOW = 7


GOLDEN = 0x9E3779B9  # 2³² / golden ratio: spreads small counters over all 32 bits
MIX_1, MIX_2 = 0x85EBCA6B, 0xC2B2AE35  # MurmurHash3's


def random_bits(seed: int, *counters: Any, xp: Any = np) -> Any:
    """32 random bits for every combination of counters.

    Args:
        seed: any whole number; its low 64 bits count.
        *counters: whole numbers, or int32 tensors of one axis or more that broadcast together;
            by convention a `Stream` first, then epoch, row, cell.
        xp: `numpy` or `keras.ops`.

    Returns:
        int32, all 2³² values equally likely, of the shape to which the counters broadcast.
    """
    state = _int32(seed & 0xFFFFFFFF, xp)
    for counter in (seed >> 32 & 0xFFFFFFFF, *counters):
        counter = _int32(counter, xp) * _signed(GOLDEN)
        state = _mix(xp.bitwise_xor(state, counter) + _signed(GOLDEN), xp)
    return state


def random_below(bits: Any, limit: Any, xp: Any = np) -> Any:
    """Numbers from 0 to `limit` - 1 out of random bits; the odds differ by limit / 2³¹ at most."""
    return xp.mod(xp.bitwise_and(bits, 0x7FFFFFFF), limit)


def _mix(x: Any, xp: Any) -> Any:
    """MurmurHash3's finaliser, in int32 arithmetic that wraps around."""
    x = xp.bitwise_xor(x, _shifted(x, 16, xp)) * _signed(MIX_1)
    x = xp.bitwise_xor(x, _shifted(x, 13, xp)) * _signed(MIX_2)
    return xp.bitwise_xor(x, _shifted(x, 16, xp))


def _shifted(x: Any, places: int, xp: Any) -> Any:
    """x >> places with zeros coming in: PyTorch has no unsigned integers to shift."""
    return xp.bitwise_and(xp.right_shift(x, places), (1 << 32 - places) - 1)


def _int32(x: Any, xp: Any) -> Any:
    # An axis even for one number: NumPy warns where a single number wraps around.
    return xp.array([_signed(int(x) & 0xFFFFFFFF)] if isinstance(x, int) else x, "int32")


def _signed(x: int) -> int:
    """The int32 with the bits of a number below 2³²."""
    return x - (1 << 32) if x >> 31 else x
