"""graphnn's own threads: how many, and the pool of workers that help whoever runs a table.

Workers are Python threads that sit in the compiled executor with the GIL released, from their start to the process's end.
They watch for about 100 us after each run, then sleep (parking.py). One run at a time has the workers; whoever finds them busy
runs alone. After a fork the child makes its own pool, and at exit the workers are sent home.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from graphnn.errors import NumericsError
from graphnn.runtime import executor_code as code
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.parking import new_gate, post_address, wait_address, yield_address
from graphnn.runtime.row import Kernel

MOST_THREADS = 512
# Longer than Python takes from one training step to the next.
_PATIENCE_NS = 100_000
_chosen: int | None = None


def set_threads(count: int | None) -> None:
    """Let every later call use up to `count` threads; None goes back to the default. Results do not depend on it."""
    global _chosen
    _chosen = None if count is None else _checked(count, "set_threads")


def threads() -> int:
    """How many threads a call may use: what `set_threads` said, else `GRAPHNN_THREADS`, else `default_threads()`."""
    if _chosen is not None:
        return _chosen
    asked = os.environ.get("GRAPHNN_THREADS")
    return _checked(asked, "GRAPHNN_THREADS") if asked else default_threads()


def _checked(count: int | str, where: str) -> int:
    try:
        number = int(count)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= MOST_THREADS:
        raise NumericsError(f"{where}: {count!r} is not a number of threads from 1 to {MOST_THREADS}")
    return number


@cache
def default_threads() -> int:
    """The CPUs this process may use: its affinity, and the quota of its control group, rounded up."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity of processes in Python
        cpus = os.cpu_count() or 1
    quota = cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, min(cpus, math.ceil(quota) if quota else cpus, MOST_THREADS))


def cgroup_quota(memberships: Path, mount: Path) -> float | None:
    """CPUs' worth of time that the control groups (version 1 or 2) allow this process; None for no limit."""
    try:
        lines = memberships.read_text("utf-8").splitlines()
    except OSError:
        return None
    limits: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = mount, _quota_v2
        elif "cpu" in controllers.split(","):
            root = next((mount / name for name in (controllers, "cpu") if (mount / name).is_dir()), mount)
            read = _quota_v1
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):  # a limit of any group above holds, too
            if (limit := read(folder)) is not None:
                limits.append(limit)
            if folder == root:
                break
    return min(limits, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text("ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text("ascii"))
        return quota / period if quota > 0 and period > 0 else None
    except (OSError, ValueError):
        return None


KernelFunction = Callable[[int, int, int], int]
# ctypes releases the GIL around a CFUNCTYPE and holds it in a PYFUNCTYPE.
_RELEASING = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_HOLDING = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def executor_kernel(name: str, **params: bool) -> Kernel:
    """One of the compiled functions of executor_code.py."""
    return Kernel(f"{code.__name__}:{name}", tuple(sorted(params.items())))


@cache
def function(kernel: Kernel, *, hold_gil: bool = False) -> KernelFunction:
    """A compiled kernel as a Python function of (address, int, int)."""
    return (_HOLDING if hold_gil else _RELEASING)(addresses([kernel])[0])


def aligned_words(count: int) -> np.ndarray:
    """`count` int64 zeros that start on a cache line."""
    raw = np.zeros(count + 8, np.int64)
    start = (-raw.ctypes.data // 8) % 8
    return raw[start : start + count]


class Pool:
    """Workers and the board on which runs are announced to them."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}  # "by": the control block of the run that has the workers
        self._words = aligned_words(code.SLOTS + code.SLOT_WORDS * (MOST_THREADS + 1))
        # Never freed: at exit a worker may still be looking at it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._words))
        self._board = self._words.ctypes.data
        self._walks = addresses([executor_kernel("walk", timed=timed) for timed in (False, True)])
        self._lead, self._serve, self._quiet = (function(executor_kernel(n)) for n in ("lead", "serve", "quiet"))
        self._words[[code.POOL_YIELD, code.WAIT, code.POST]] = yield_address(), wait_address(), post_address()
        self._words[code.PATIENCE] = _pauses(self._board, _PATIENCE_NS)
        self._workers: list[threading.Thread] = []

    def take(self, control: int) -> bool:
        """Reserve the workers for a run, unless they are busy."""
        return self._taken.setdefault("by", control) == control  # one step, which no interrupt can cut in two

    def give_back(self, control: int) -> None:
        """End the reservation of a run, if it has one."""
        if self._taken.get("by") == control:
            del self._taken["by"]

    def run(self, control: int, count: int, *, timed: bool = False) -> int:
        """Walk the table of a control block with `count` threads, the caller's among them, who has taken the workers."""
        if len(self._workers) < count - 1:
            self._hire(count - 1)
        self._words[code.WALK] = self._walks[timed]
        return self._lead(self._board, control, count)

    def leave(self, control: int) -> None:
        """Return when no worker is in that table any more. Nobody may be running it."""
        while not self._quiet(self._board, control, 0):
            time.sleep(0)

    def asleep(self) -> int:
        """How many workers sleep."""
        return int(self._words[code.SLOTS + code.PARKED :: code.SLOT_WORDS].sum())

    def close(self) -> None:
        """Send the workers home and wait for them."""
        self._words[code.STOP] = 1
        post = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(post_address())
        for index in range(len(self._workers)):
            post(int(self._words[code.SLOTS + code.SLOT_WORDS * (index + 1) + code.GATE]), 1, 0)
        for worker in self._workers:
            worker.join(timeout=1.0)

    def _hire(self, count: int) -> None:
        for number in range(len(self._workers) + 1, count + 1):
            self._words[code.SLOTS + code.SLOT_WORDS * number + code.GATE] = new_gate()
            worker = threading.Thread(target=self._work, args=(number,), name=f"graphnn-{number}", daemon=True)
            self._workers.append(worker)
            self._words[code.WORKERS] = len(self._workers)
            worker.start()

    def _work(self, number: int) -> None:
        self._serve(self._board, number, 0)


def _pauses(board: int, nanoseconds: int) -> int:
    """How many turns of the waiting loop take so long here."""
    spin, count = function(executor_kernel("spin")), 500
    spin(board, count, 0)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter_ns()
        spin(board, count, 0)
        best = min(best, time.perf_counter_ns() - start)
    return max(100, int(nanoseconds * count / max(best, 1)))


_pool: Pool | None = None
_making = threading.Lock()
_closed = False


def pool() -> Pool | None:
    """The process's pool; None once the interpreter is shutting down."""
    global _pool
    if _pool is None and not _closed:
        with _making:
            if _pool is None:
                _pool = Pool()
    return _pool


def leave(control: int) -> None:
    """Return when no worker is in that table any more."""
    if _pool is not None:
        _pool.leave(control)


def _at_exit() -> None:
    global _pool, _closed
    _closed = True
    if _pool is not None:
        _pool.close()
        _pool = None


def _in_child() -> None:
    """Threads do not survive a fork: the child starts without a pool."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
