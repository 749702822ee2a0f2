"""Memory between pages that end the process when they are touched: a kernel that reads or writes outside of its operands dies.

    with guarded() as memory:
        ...                             # compile and run
        memory.check()                  # nothing was written just before a buffer, either

A block ends where a forbidden page begins, to the byte if its element size allows, and starts at most a page behind another one;
the slack between is filled and checked. In the arena each buffer has such a block of its own. Linux and macOS.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from graphnn.ir.dims import bind_size
from graphnn.passes import plan_buffers as planning
from graphnn.passes.plan_buffers import BufferPlan, Lifetimes, Slot
from graphnn.runtime import memory, plan, state, table, workspace

PAGE = mmap.PAGESIZE
SLACK = 0xA5


def _forbid(address: int, nbytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


class GuardedMemory:
    """Makes blocks, and remembers the slack before each."""

    def __init__(self) -> None:
        self._slack: list[np.ndarray] = []

    def block(self, nbytes: int) -> np.ndarray:
        """Bytes that end at a forbidden page."""
        inside = -(-max(nbytes, 1) // PAGE) * PAGE
        raw = np.frombuffer(mmap.mmap(-1, inside + 2 * PAGE), np.uint8)
        _forbid(raw.ctypes.data, PAGE)
        _forbid(raw.ctypes.data + PAGE + inside, PAGE)
        start = PAGE + inside - nbytes
        slack = raw[PAGE:start]
        slack[:] = SLACK
        self._slack.append(slack)
        return raw[start : start + nbytes]

    def bytes(self, nbytes: int) -> np.ndarray:
        """As `memory.aligned_bytes`."""
        return self.block(-(-nbytes // 64) * 64)[:nbytes]

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """As `memory.aligned_array`, but for where it starts: a caller's array may start anywhere."""
        count = 1
        for size in shape:
            count *= size
        made = self.block(count * dtype.itemsize)
        made[:] = 0xFF
        return made.view(dtype).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        made = self.array(array.shape, array.dtype)
        made[...] = array
        return made

    def words(self, count: int) -> np.ndarray:
        """As `threads.aligned_words`."""
        made = self.bytes(8 * count).view(np.int64)
        made[:] = 0
        return made

    def check(self) -> None:
        """Raise AssertionError when the slack before a block was written to. Forgets all blocks."""
        slack, self._slack = self._slack, []
        for block in slack:
            if (block != SLACK).any():
                raise AssertionError(f"{int((block != SLACK).sum())} bytes before a buffer were written")


@dataclass(frozen=True)
class _Spread(BufferPlan):
    """A plan whose buffers stand apart."""

    gaps: tuple[tuple[int, int], ...] = ()


def _spread(life: Lifetimes, sizes: Mapping[str, int]) -> BufferPlan:
    """As `plan_buffers`, each buffer at the end of pages of its own."""
    slots, nbytes = dict(life.fixed), {}
    gaps: list[tuple[int, int]] = []
    at = 0
    for buffer in life.buffers:
        size = -(-bind_size(buffer.root.type.bind(sizes).nbytes, {}) // planning.ALIGN) * planning.ALIGN
        pages = -(-max(size, 1) // PAGE) * PAGE
        nbytes[buffer.root] = size
        for value in buffer.values:
            slots[value] = Slot("arena", 0, at + pages - size)
        gaps.append((at + pages, PAGE))
        at += pages + PAGE
    return _Spread(life, slots, at, at, nbytes, tuple(gaps))


@contextmanager
def guarded() -> Iterator[GuardedMemory]:
    """While this lasts, all that kernels work on lies in guarded blocks, but for the arrays of callers: see `copy`."""
    mine = GuardedMemory()
    make, place = workspace.Workspace.__init__, workspace.Workspace._memory

    def __init__(self: workspace.Workspace, plan: plan.Plan, state: state.State) -> None:
        make(self, plan, state)
        buffers = plan.buffers
        assert isinstance(buffers, _Spread)
        for offset, nbytes in buffers.gaps:
            _forbid(self.arena.ctypes.data + offset, nbytes)

    def _memory(self: workspace.Workspace, kind: str, index: int) -> np.ndarray:
        array = place(self, kind, index)
        return mine.copy(array) if kind == "constant" else array

    with (patch.object(workspace, "aligned_bytes", mine.bytes), patch.object(workspace, "aligned_array", mine.array),
          patch.object(state, "aligned_array", mine.array), patch.object(memory.results, "array", mine.array),
          patch.object(table, "aligned_words", mine.words), patch.object(plan, "plan_buffers", _spread),
          patch.object(workspace.Workspace, "__init__", __init__), patch.object(workspace.Workspace, "_memory", _memory)):
        yield mine
