"""Generated source as LLVM assembly: statements, types, and the same meaning as Python's."""

import ctypes

import numpy as np
import pytest

from graphnn.errors import KernelStoreError
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.row import Kernel


def run(source, *args):
    """Call the kernel that `source` is with arrays and numbers as its arguments."""
    (code,) = addresses([Kernel.of("graphnn.runtime.fused_body:build", source=source)])
    words = np.array([a.ctypes.data if isinstance(a, np.ndarray) else a for a in args], np.int64)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(code)
    return call(words.ctypes.data, 3, None)


def test_loops_branches_and_integers():
    source = """
def kernel(args, tile, scratch):
    out = p_i64(args[0])
    for i in range(args[1]):
        for j in range(2):
            out[i * 2 + j] = tile * 10 + i - j
    if args[1] > 2:
        out[0] = -1 if args[1] == 3 else -2
    if args[1] > 5:
        out[1] = 77
    return args[1] + 4
"""
    out = np.zeros(6, np.int64)
    assert run(source, out, 3) == 7
    assert out.tolist() == [-1, 29, 31, 30, 32, 31]


def test_floats_keep_their_width_and_booleans_are_bytes():
    source = """
def kernel(args, tile, scratch):
    x = p_f32(args[0])
    y = p_f64(args[1])
    flags = p_bool(args[2])
    for l in range(args[3]):
        t = x[l]
        big = (t > f32(0.5)) & (not (t == f32(2)))
        y[l] = to_f64(select(big, t, f32(-inf)) / f32(3))
        flags[l] = to_bool(big)
        tail()
    return 0
"""
    x = np.array([0.1, 0.6, 2.0, np.nan, 7.0], np.float32)
    y, flags = np.zeros(5), np.zeros(5, np.uint8)
    run(source, x, y, flags, 5)
    big = (x > 0.5) & (x != 2)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(y, (np.where(big, x, np.float32(-np.inf)) / np.float32(3)).astype(np.float64))
    np.testing.assert_array_equal(flags, big)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_division_is_pythons_and_never_traps(dtype):
    word = {np.int32: "i32", np.int64: "i64"}[dtype]
    source = f"""
def kernel(args, tile, scratch):
    a = p_{word}(args[0])
    b = p_{word}(args[1])
    q = p_{word}(args[2])
    r = p_{word}(args[3])
    for l in range(args[4]):
        q[l] = floordiv_{word}(a[l], b[l])
        r[l] = mod_{word}(a[l], b[l])
        tail()
    return 0
"""
    low = np.iinfo(dtype).min
    a = np.array([7, -7, 7, -7, 7, low, 0, 6], dtype)
    b = np.array([3, 3, -3, -3, 0, -1, 5, -3], dtype)
    q, r = np.empty_like(a), np.empty_like(a)
    run(source, a, b, q, r, len(a))
    assert q.tolist() == [2, -3, -3, 2, 0, low, 0, -2]
    assert r.tolist() == [1, 2, -2, -1, 0, 0, 0, 0]


def test_a_kernel_that_calls_what_it_may_not_is_refused(monkeypatch):
    from graphnn.runtime import fused_words, intrinsics

    def vocabulary():
        return {"foreign": intrinsics._fixed(lambda b, x: intrinsics.call_llvm(b, "system", intrinsics.I64, [x]),
                                             intrinsics.NUMBA_TYPE["i64"], intrinsics.NUMBA_TYPE["i64"])}

    monkeypatch.setattr(fused_words, "vocabulary", vocabulary)
    with pytest.raises(KernelStoreError, match="not pure"):
        run("def kernel(args, tile, scratch):\n    return foreign(tile)\n")
