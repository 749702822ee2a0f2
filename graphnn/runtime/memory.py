"""Memory of arrays: aligned, and recycled when the caller lets a result go.

A large array taken fresh from the system costs more in page faults than the arithmetic that fills it, so results come from
a free list of blocks; a block goes back when the last view of it dies.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

ALIGN = 64
_POOLED_FROM = 1 << 16             # below, the C allocator is as quick and keeps its own lists
_KEPT_BYTES = 1 << 30              # no more than this lies idle


def aligned_bytes(nbytes: int) -> np.ndarray:
    """Bytes that start on a cache line; their contents are arbitrary."""
    raw = np.empty(nbytes + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + nbytes]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array that starts on a cache line; its contents are arbitrary."""
    count = 1
    for size in shape:
        count *= size
    return aligned_bytes(count * dtype.itemsize).view(dtype).reshape(shape)


class _Lease:
    """Holds a block while any array made from it lives; NumPy keeps the lease as the base of the array."""

    __slots__ = ("__array_interface__", "block", "pool")

    def __init__(self, pool: BlockPool, block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.pool, self.block = pool, block
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": (block.ctypes.data, False), "version": 3}

    def __del__(self) -> None:
        self.pool.give_back(self.block)


class BlockPool:
    """A free list of blocks by size."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}
        self._idle = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        self._lock = threading.RLock()                   # a collection inside may give blocks back

    @property
    def idle_bytes(self) -> int:
        """Bytes that wait for the next result."""
        return self._idle

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array for the caller to keep; its memory comes back to the pool when the last view of it dies."""
        count = 1
        for size in shape:
            count *= size
        nbytes = count * dtype.itemsize
        if nbytes < _POOLED_FROM:
            return np.empty(shape, dtype)
        with self._lock:
            blocks = self._free.get(nbytes)
            block = blocks.pop() if blocks else None
            if block is not None:
                self._idle -= nbytes
        if block is None:
            block = aligned_bytes(nbytes)
        return np.asarray(_Lease(self, block, shape, dtype))

    def give_back(self, block: np.ndarray) -> None:
        with self._lock:
            if self._idle + block.nbytes <= _KEPT_BYTES:
                self._idle += block.nbytes
                self._free.setdefault(block.nbytes, []).append(block)

    def clear(self) -> None:
        """Let all idle blocks go."""
        with self._lock:
            self._free.clear()
            self._idle = 0


results = BlockPool()

if hasattr(os, "register_at_fork"):                      # another thread may have held the lock
    os.register_at_fork(after_in_child=results.renew_lock)
