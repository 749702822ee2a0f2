"""Philox4x32-10, the counter-based generator behind every random op, in NumPy (Salmon, Moraes, Dror and Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011).

A block of four 32-bit words is a pure function of a 128-bit counter and a 64-bit key:

    key     = fold(seed, stream), the first two words of the block with counter (stream low, stream high, 0, FOLD) and key seed
    counter = (block low, block high, step low, step high)

so that numbers depend on seed, stream, step and the element's index alone, not on threads, passes or the order of evaluation.
"""

from __future__ import annotations

import numpy as np

FOLD = 0x666F6C64                                       # "fold": keeps the counters of fold apart
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_LOW = 0xFFFFFFFF

Words = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Key = tuple[int, int]


def halves(value: int) -> Key:
    """The low and the high 32 bits of a 64-bit integer, negative ones as two's complement."""
    return value & _LOW, (value >> 32) & _LOW


def philox4x32(counter: tuple[np.ndarray | int, np.ndarray | int, np.ndarray | int, np.ndarray | int], key: Key) -> Words:
    """The four words of the block of each counter."""
    a, b, c, d = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    low, (k0, k1) = np.uint64(_LOW), key
    for _ in range(ROUNDS):
        first, second = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(k0), second & low
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(k1), first & low
        k0, k1 = (k0 + WEYL[0]) & _LOW, (k1 + WEYL[1]) & _LOW
    return a, b, c, d


def fold(seed: int, data: int, purpose: int = 0) -> Key:
    """A key made from a seed and a number; `purpose` keeps uses of the same seed apart."""
    a, b, _, _ = philox4x32((*halves(data), purpose, FOLD), halves(seed))
    return int(a), int(b)


def words(seed: int, step: int, stream: int, blocks: int) -> np.ndarray:
    """The words of the blocks 0, 1, ...: (blocks, 4), uint64 that hold 32 bits."""
    index = np.arange(blocks, dtype=np.uint64)
    counter = (index & np.uint64(_LOW), index >> np.uint64(32), *halves(step))
    return np.stack(philox4x32(counter, fold(seed, stream)), axis=-1)
