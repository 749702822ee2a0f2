"""Minibatches: index arrays in a seeded order, and rows gathered into buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graphnn.errors import ShapeError


def epoch_order(count: int, *, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order of examples in an epoch: a permutation that depends on seed and epoch alone, so a resumed run repeats it."""
    if not shuffle:
        return np.arange(count)
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(count)


def minibatches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Slices of `order`, the last one shorter when the sizes do not divide."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def check_batch_size(batch_size: int) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ShapeError(f"batch_size is {batch_size!r}; it is a whole number, at least 1")
    return int(batch_size)


class Gatherer:
    """Rows of arrays by index, copied into buffers of its own: fresh memory for each batch would cost page faults."""

    def __init__(self, arrays: Sequence[np.ndarray], batch_size: int) -> None:
        self.arrays = arrays
        self._buffers = [np.empty((min(batch_size, len(a)), *a.shape[1:]), a.dtype) for a in arrays]

    def rows(self, index: np.ndarray) -> list[np.ndarray]:
        """The rows at `index`; valid until the next call."""
        count = len(index)
        return [array.take(index, 0, buffer[:count], "clip") for array, buffer in zip(self.arrays, self._buffers, strict=True)]
