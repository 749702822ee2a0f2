"""Memory of results: aligned, recycled when the last view dies, and never while one lives."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import graphnn as gnn
from graphnn.ir.graph import Graph
from graphnn.ir.ops.inputs import placeholder
from graphnn.runtime import memory
from graphnn.runtime.memory import BlockPool, aligned_array, aligned_bytes

F4 = np.dtype(np.float32)
LARGE = (100, 1000)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (7, 3), (1000, 33)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "?"])
def test_arrays_start_on_a_cache_line(shape: tuple[int, ...], dtype: str) -> None:
    array = aligned_array(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    if array.size:
        assert array.ctypes.data % 64 == 0
    assert aligned_bytes(array.nbytes).nbytes == array.nbytes


def test_memory_comes_back_when_the_last_view_dies() -> None:
    pool = BlockPool()
    array = pool.array(LARGE, F4)
    address, nbytes = array.ctypes.data, array.nbytes
    assert address % 64 == 0
    view = array[3:, ::2].T
    del array
    assert pool.idle_bytes == 0
    other = pool.array(LARGE, F4)
    assert other.ctypes.data != address
    del view
    assert pool.idle_bytes == nbytes
    again = pool.array((1000, 100), np.dtype(np.int32))     # the same size in bytes, another type
    assert again.ctypes.data == address
    assert pool.idle_bytes == 0


@pytest.mark.parametrize("keeper", [
    memoryview, lambda a: a.view(np.uint8), lambda a: a.reshape(-1)[5:], lambda a: a.ravel().real,
    lambda a: np.frombuffer(a, F4), lambda a: np.asarray(a).T, lambda a: [iter(a), next(iter(a))],
])
def test_whatever_holds_on_to_a_result_keeps_its_memory(keeper) -> None:
    pool = BlockPool()
    kept = keeper(pool.array(LARGE, F4))
    assert pool.idle_bytes == 0
    del kept
    assert pool.idle_bytes == 400_000


def test_small_arrays_are_left_to_the_allocator_and_idle_blocks_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = BlockPool()
    del_me = pool.array((10, 10), F4)
    del del_me
    assert pool.idle_bytes == 0
    monkeypatch.setattr(memory, "_KEPT_BYTES", 1_000_000)
    arrays = [pool.array(LARGE, F4) for _ in range(4)]
    del arrays
    assert pool.idle_bytes == 800_000
    pool.clear()
    assert pool.idle_bytes == 0


def test_threads_never_share_a_block() -> None:
    pool = BlockPool()
    bad: list[int] = []

    def work(mark: int) -> None:
        for k in range(300):
            array = pool.array((20_000 + 100 * (k % 3),), F4)
            array[...] = mark
            if k % 7 == 0:
                gc.collect(0)
            if not (array == mark).all():
                bad.append(mark)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad


def test_an_executable_takes_its_results_from_the_pool() -> None:
    x = placeholder("x", "f32[N,1000]")
    exe = gnn.compile(Graph.of("double", [x], [x * 2.0]))
    given = np.ones((217, 1000), np.float32)             # a size of its own, so that no other test's block fits
    first = exe(given)
    address = first.ctypes.data
    second = exe(given)
    assert second.ctypes.data != address
    del first
    third = exe(given)
    assert third.ctypes.data == address
    assert third.base is not None
    assert (second == 2).all()
