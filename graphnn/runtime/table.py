"""A plan ready to run: rows and argument slots in memory, walked by the compiled executor (executor_code.py).

    table = Table(rows, args, scratch_bytes=4096, cost_ns=120_000)
    code, row = table.run()             # (0, -1), or the first failure

`rows` has three int64 a row: kernel address, offset of its first argument slot, tiles. (LOOP, 0, trips) and (END, 0, 0)
repeat the rows between them; `ADVANCE` and `RESTORE` are kernels of rows that step and reset argument slots in a loop:
args (count, then slot and step, or value, for each), where slots are counted from the row's own first slot.
"""

from __future__ import annotations

import contextlib
import math
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from graphnn.runtime import executor_code as code
from graphnn.runtime.executor_code import END, LOOP
from graphnn.runtime.pace import Pace
from graphnn.runtime.parking import yield_address
from graphnn.runtime.threads import aligned_words, executor_kernel, function, leave, pool, threads

__all__ = ["ADVANCE", "END", "FINE", "LOOP", "RESTORE", "Table"]

ADVANCE, RESTORE = executor_kernel("advance"), executor_kernel("restore")
FINE = (0, -1)
"""What `run` returns when no row failed."""

# Measured on two cores. Where the rows of several tiles are shorter than a start and a meeting at each of them, a second
# thread costs more than it saves; below the last, taking the GIL back after the call may cost more than keeping it from others.
_START_NS, _MEETING_NS = 2_000, 300
_RELEASE_GIL_FROM_NS = 5_000
# Work that is worth a thread of its own in the first runs, before their times are known.
_THREAD_NS = 5_000

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.int64]


class Table:
    """Rows bound to addresses. One thread runs a table at a time; different tables run at once."""

    def __init__(
        self, rows: Words, args: Words, *, scratch_bytes: int = 0, cost_ns: float = math.inf, shared_ns: float = math.inf
    ) -> None:
        """`args` is used in place. `scratch_bytes` is what one thread needs, `cost_ns` a guess of the serial time, and
        `shared_ns` of that part of it that several threads can share."""
        assert rows.dtype == args.dtype == np.int64, "a table is made of int64 words"
        assert args.flags.c_contiguous, "the walkers know no strides"
        self.args = args
        self._shared_ns = shared_ns
        self._rows, depth, self._most_tiles, meetings = _lay_out(rows)
        self._alone = self._most_tiles == 1 or shared_ns < _START_NS + _MEETING_NS * meetings
        self._scratch_stride = -(-scratch_bytes // 64) * 64 + 64  # a cache line apart
        self._stack_stride = -(-16 * depth // 64) * 64 + 64
        self._tickets = aligned_words(0)
        self.times = aligned_words(2 * len(self._rows))          # ticks of each row, and the stamps they come from
        self._control = aligned_words(code.CONTROL_WORDS)
        self._address = self._control.ctypes.data
        self._control[[code.ROWS, code.ARGS, code.COUNT]] = self._rows.ctypes.data, args.ctypes.data, len(self._rows)
        self._control[[code.TIMES, code.YIELD]] = self.times.ctypes.data, yield_address()
        self._threads = 0
        self._make_room(1)
        self._pace = Pace(1, 1)
        self._serial = function(executor_kernel("serial", timed=False), hold_gil=cost_ns < _RELEASE_GIL_FROM_NS)

    def __len__(self) -> int:
        return len(self._rows)

    def run(self, count: int | None = None) -> tuple[int, int]:
        """Run all rows once, with `count` threads or as many as prove fastest; returns (0, -1) or the code and index of the
        first failure."""
        if self._alone:
            failure = self._serial(self._address, 0, 0)
            return FINE if failure == 0 else (failure & 0xFFFFFFFF, (failure >> 32) - 1)
        if count is not None:
            return self._run(min(count, self._most_tiles), timed=False)
        pace = self._current_pace()
        result = self._run(pace.start(), timed=False)
        pace.stop()
        return result

    def run_timed(self, count: int | None = None) -> tuple[tuple[int, int], NDArray[np.float64]]:
        """Run once as `run` would; returns its result, and the nanoseconds that each row took (all its visits)."""
        self.times[:] = 0
        count = 1 if self._alone else self._current_pace().count if count is None else min(count, self._most_tiles)
        return self._run(count, timed=True), self.times[: len(self._rows)] * ns_per_tick()

    def _current_pace(self) -> Pace:
        most = min(threads(), self._most_tiles)
        if most != self._pace.most:
            self._pace = Pace(most, int(min(1 + self._shared_ns / _THREAD_NS, most)))
        return self._pace

    def _run(self, count: int, *, timed: bool) -> tuple[int, int]:
        workers = pool() if count > 1 else None
        try:
            if workers is None or not workers.take(self._address):
                walk = function(executor_kernel("serial", timed=True)) if timed else self._serial
                failure = walk(self._address, 0, 0)
            else:
                if count != self._threads:
                    workers.leave(self._address)
                    self._make_room(count)
                if timed:
                    self._control[code.BEGAN] = _ticks()
                failure = workers.run(self._address, count, timed=timed)
                workers.give_back(self._address)
        except BaseException:                            # wherever an interrupt came, the workers are let go
            if workers is not None:
                workers.give_back(self._address)
            raise
        return FINE if failure == 0 else (failure & 0xFFFFFFFF, (failure >> 32) - 1)

    def _make_room(self, count: int) -> None:
        """Scratch, loop counters and tickets for `count` threads. No worker may be in the table."""
        self._scratch = aligned_words(count * self._scratch_stride // 8)
        self._stack = aligned_words(count * self._stack_stride // 8)
        if count > 1:
            lines = _deal_out(self._rows, count)
            self._tickets = aligned_words(8 * lines)
            self._control[[code.TICKET_THREADS, code.TICKET_LINES, code.RUN]] = count, lines, 0
        self._control[[code.SCRATCH, code.SCRATCH_STRIDE]] = self._scratch.ctypes.data, self._scratch_stride
        self._control[[code.STACK, code.STACK_STRIDE]] = self._stack.ctypes.data, self._stack_stride
        self._control[code.TICKETS] = self._tickets.ctypes.data
        self._threads = count

    def __del__(self) -> None:
        # A worker that is late may still be walking through, finding nothing to do.
        with contextlib.suppress(Exception):  # half made, or the interpreter is going down
            leave(self._address)


def _lay_out(rows: Words) -> tuple[Words, int, int, int]:
    """Rows as the walkers read them, the depth of nested loops, the most tiles of a row, and how often rows of several tiles
    are reached."""
    out = aligned_words(code.WORDS_A_ROW * len(rows)).reshape(-1, code.WORDS_A_ROW)
    out[:, : code.SPAN] = rows
    out[:, code.SPAN] = 1
    open_loops: list[int] = []
    visits = [1]
    depth = most_tiles = meetings = 0
    for i, (function_, _, tiles) in enumerate(rows.tolist()):
        if function_ == LOOP:
            open_loops.append(i)
            visits.append(visits[-1] * tiles)
            depth = max(depth, len(open_loops))
        elif function_ == END:
            begin = open_loops.pop()
            visits.pop()
            out[begin, code.SPAN], out[i, code.SPAN] = i, begin
        else:
            most_tiles = max(most_tiles, tiles)
            meetings += visits[-1] * (tiles > 1)
    assert not open_loops, "every LOOP has its END"
    single = (out[:, code.KERNEL] > END) & (out[:, code.TILES] == 1)
    for i in range(len(out) - 2, -1, -1):
        if single[i] and single[i + 1]:
            out[i, code.SPAN] = out[i + 1, code.SPAN] + 1
    return out, depth, max(most_tiles, 1), meetings


def _deal_out(rows: Words, count: int) -> int:
    """Give each row as many parts as there are threads, or tiles if these are fewer; returns the lines of all tickets."""
    parts = np.clip(rows[:, code.TILES], 0, count)
    parts[rows[:, code.KERNEL] <= END] = 0
    rows[:, code.PARTS] = parts
    lines = parts + 1  # one for the tiles finished
    rows[:, code.TICKET_LINE] = np.cumsum(lines) - lines
    return int(lines.sum())


def _ticks() -> int:
    """The counter that timed walks read."""
    return function(executor_kernel("ticks"))(0, 0, 0)


@cache
def ns_per_tick() -> float:
    """How long a tick of that counter is."""
    _ticks()                                             # loads the kernel
    start, first = time.perf_counter_ns(), _ticks()
    while time.perf_counter_ns() - start < 5_000_000:
        pass
    return (time.perf_counter_ns() - start) / (_ticks() - first)
