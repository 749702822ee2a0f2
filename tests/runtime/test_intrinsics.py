"""Each word of the kernel vocabulary: does it mean what it says, and does its object stay pure."""

import ctypes
import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import cfunc, types

from graphnn.runtime import intrinsics as k

SIGNATURE = types.int64(types.CPointer(types.int64), types.int64, types.int64)
DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "bool": np.uint8}


def target_machine():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic"
    )


def undefined_symbols(compiled):
    """What the object refers to and does not define, read from its assembly and its module."""
    module = llvm.parse_assembly(compiled.inspect_llvm())
    defined = {f.name for f in module.functions if not f.is_declaration}
    assembly = target_machine().emit_assembly(module)
    called = re.findall(r"^\s+(?:callq?|jmpq?|bl)\s+([A-Za-z_][\w.]*)", assembly, re.MULTILINE)
    return {*called, *re.findall(r"([A-Za-z_][\w.]*)@(?:GOTPCREL|PLT)", assembly)} - defined


def run(kernel, *args):
    """Compile `kernel` the way the kernel store does, check that it is pure, call it once on arrays and numbers."""
    compiled = cfunc(SIGNATURE, error_model="numpy")(kernel)
    assert undefined_symbols(compiled) <= k.ALLOWED_SYMBOLS
    slots = np.zeros(len(args) + 1, np.int64)
    for i, value in enumerate(args):
        if isinstance(value, np.ndarray):
            slots[i] = value.ctypes.data
        elif isinstance(value, float):
            slots[i : i + 1].view(np.float64)[0] = value
        else:
            slots[i] = value
    scratch = np.zeros(64, np.int64)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(compiled.address)
    code = call(slots.ctypes.data, 0, scratch.ctypes.data)
    return code, compiled


def aligned(n, dtype):
    raw = np.zeros(n * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * np.dtype(dtype).itemsize].view(dtype)


SPECIAL = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.75, 1e30, -1e30, np.inf, -np.inf, np.nan, 3.25, 1e-40]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    ("op", "numpy"),
    [("floor", np.floor), ("ceil", np.ceil), ("rint", np.rint), ("trunc", np.trunc), ("fabs", np.fabs)],
)
def test_rounding_is_numpys_including_the_sign_of_zero(dtype, op, numpy):
    pointer, function = k.POINTER[dtype], getattr(k, op)

    def kernel(args, tile, scratch):
        x, y = pointer(args[0]), pointer(args[1])
        for i in range(args[2]):
            y[i] = function(x[i])
        return 0

    x = np.array(SPECIAL, DTYPES[dtype])
    y = np.empty_like(x)
    run(kernel, x, y, len(x))
    np.testing.assert_array_equal(y, numpy(x))
    np.testing.assert_array_equal(np.signbit(y), np.signbit(numpy(x)))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    ("op", "numpy"),
    [("minimum", np.minimum), ("maximum", np.maximum), ("minnum", np.fmin), ("maxnum", np.fmax)],
)
def test_extrema_treat_nan_as_numpy_does(dtype, op, numpy):
    pointer, function = k.POINTER[dtype], getattr(k, op)

    def kernel(args, tile, scratch):
        x, y, z = pointer(args[0]), pointer(args[1]), pointer(args[2])
        for i in range(args[3]):
            z[i] = function(x[i], y[i])
        return 0

    x, y = (v.ravel().astype(DTYPES[dtype]) for v in np.meshgrid(SPECIAL, SPECIAL))
    z = np.empty_like(x)
    run(kernel, x, y, z, len(x))
    np.testing.assert_array_equal(z, numpy(x, y))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_constants_take_the_type_of_the_first_argument(dtype):
    pointer = k.POINTER[dtype]

    def kernel(args, tile, scratch):
        x, y = pointer(args[0]), pointer(args[1])
        slope = k.float_arg(args, 2)
        for i in range(args[3]):
            y[i] = k.select(k.is_nan(x[i]), 7.0, k.copysign(k.fma(x[i], slope, 1.0), x[i]))
        return 0

    x = np.array([1.5, -2.0, np.nan, -0.0], DTYPES[dtype])
    y = np.empty_like(x)
    run(kernel, x, y, 0.25, 4)
    np.testing.assert_array_equal(y, np.array([1.375, -0.5, 7.0, -1.0], DTYPES[dtype]))


@pytest.mark.parametrize("source", list(DTYPES))
@pytest.mark.parametrize("target", list(DTYPES))
def test_casts(source, target):
    from_pointer, to_pointer, cast = k.POINTER[source], k.POINTER[target], k.CAST[target]

    def kernel(args, tile, scratch):
        x, y = from_pointer(args[0]), to_pointer(args[1])
        for i in range(args[2]):
            y[i] = cast(x[i])
        return 0

    x = np.array([0, 1, 1, 0, 1] if source == "bool" else [0, 1, 2.75, -3.25, 100000], DTYPES[source])
    y = np.empty(5, DTYPES[target])
    run(kernel, x, y, 5)
    np.testing.assert_array_equal(y, (x != 0) if target == "bool" else x.astype(DTYPES[target]))


def test_float_to_int_out_of_range_saturates():
    def kernel(args, tile, scratch):
        x, y = k.f64_pointer(args[0]), k.i32_pointer(args[1])
        for i in range(args[2]):
            y[i] = k.to_i32(x[i])
        return 0

    y = np.empty(5, np.int32)
    run(kernel, np.array([np.nan, np.inf, -np.inf, 1e20, -1e20]), y, 5)
    top, bottom = np.iinfo(np.int32).max, np.iinfo(np.int32).min
    assert y.tolist() == [0, top, bottom, top, bottom]


def test_integer_words():
    def kernel(args, tile, scratch):
        y, a, b = k.i64_pointer(args[0]), args[1], args[2]
        y[0] = k.udiv(a, b)
        y[1] = k.urem(a, b)
        y[2] = k.udiv32(a, b)
        y[3] = k.urem32(a, b)
        y[4] = k.imin(a, b)
        y[5] = k.imax(a, b)
        y[6] = k.shl(a, 3)
        y[7] = k.shr(k.ineg(a), 1)
        y[8] = k.lshr(a, 1)
        y[9] = k.iabs(k.ineg(a))
        u, v = k.to_u32(a), k.to_u32(4000000000)
        y[10] = k.to_i64(k.mul_high_u32(u, v))
        y[11] = k.to_i64(k.mul_low_u32(u, v))
        y[12] = k.to_i64(k.add_u32(v, v))
        y[13] = k.to_i64(k.xor_u32(u, v))
        y[14] = k.to_i64(k.to_f64(v))
        return 0

    y = np.zeros(15, np.int64)
    a, b, v = 123457, 1000, 4000000000
    run(kernel, y, a, b)
    expected = [123, 457, 123, 457, b, a, a * 8, -61729, a // 2, a]
    expected += [a * v >> 32, a * v % 2**32, 2 * v % 2**32, a ^ v, v]
    assert y.tolist() == expected


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_bits_round_trip(dtype):
    pointer, bits, from_bits = k.POINTER[dtype], k.BITS[dtype], k.FROM_BITS[dtype]
    whole = k.POINTER["i" + dtype[1:]]

    def kernel(args, tile, scratch):
        x, y, z = pointer(args[0]), whole(args[1]), pointer(args[2])
        for i in range(args[3]):
            y[i] = bits(x[i])
            z[i] = from_bits(bits(x[i]))
        return 0

    x = np.array(SPECIAL, DTYPES[dtype])
    y, z = np.empty(len(x), "i" + str(x.itemsize)), np.empty_like(x)
    run(kernel, x, y, z, len(x))
    np.testing.assert_array_equal(y, x.view(y.dtype))
    np.testing.assert_array_equal(z.view(y.dtype), y)


def test_memory_words():
    def kernel(args, tile, scratch):
        x, y = k.f32_pointer(args[0]), k.f32_pointer(args[1])
        n = args[2]
        k.assume_aligned(args[0], 64)
        k.prefetch(k.address_of(x, 0))
        for i in range(n):
            k.nontemporal_store(y, i, x[i] * x[i])
        k.store_fence()
        k.memcpy(args[3], args[0], n * 4)
        k.memset0(args[0], n * 2)
        return 0

    x, y, z = aligned(100, np.float32), aligned(100, np.float32), np.zeros(100, np.float32)
    x[:] = np.arange(100)
    _, compiled = run(kernel, x, y, 100, z)
    np.testing.assert_array_equal(y, np.arange(100.0) ** 2)
    np.testing.assert_array_equal(z, np.arange(100.0))
    np.testing.assert_array_equal(x, np.where(np.arange(100) < 50, 0, np.arange(100.0)))
    assert re.search(r"store <\d+ x float> .*!nontemporal", compiled.inspect_llvm())


def test_thread_words():
    def kernel(args, tile, scratch):
        p = k.slots(args[0])
        a = args[0]
        k.store_release(a, 41)
        p[1] = k.atomic_add(a, 1)
        p[2] = k.load_acquire(a)
        p[3] = k.compare_and_swap(a, 5, 6)
        p[4] = k.compare_and_swap(a, 42, 7)
        k.pause()
        return k.load_acquire(a)

    p = np.zeros(5, np.int64)
    code, _ = run(kernel, p)
    assert code == 7
    assert p.tolist() == [7, 41, 42, 0, 1]


def test_kernels_and_epilogues_are_called_by_address():
    def callee(args, tile, scratch):
        return args[0] + tile * 10 + scratch

    def epilogue(args, batch, row0, rows, col0, cols):
        return args[0] + batch + 10 * row0 + 100 * rows + 1000 * col0 + 10000 * cols

    def caller(args, tile, scratch):
        y = k.slots(args[0])
        y[0] = k.call_kernel(args[1], args[3], 2, 100)
        y[1] = k.call_epilogue(args[2], args[3], 1, 2, 3, 4, 5)
        return 0

    inner = cfunc(SIGNATURE, error_model="numpy")(callee)
    tail = cfunc(types.int64(types.CPointer(types.int64), *[types.int64] * 5), error_model="numpy")(epilogue)
    y, given = np.zeros(2, np.int64), np.array([7], np.int64)
    run(caller, y, inner.address, tail.address, given)
    assert y.tolist() == [127, 54328]


def test_inline_functions_vanish():
    @k.inline
    def square(x):
        return x * x

    def kernel(args, tile, scratch):
        x = k.f32_pointer(args[0])
        for i in range(args[1]):
            x[i] = square(square(x[i]))
        return 0

    x = np.arange(37, dtype=np.float32)
    _, compiled = run(kernel, x, 37)
    np.testing.assert_array_equal(x, np.arange(37, dtype=np.float32) ** 4)
    assert not re.search(r"call [^\n]*square", compiled.inspect_llvm())


def many_pointers(args, tile, scratch):
    a, b, c = k.f32_pointer(args[0]), k.f32_pointer(args[1]), k.f32_pointer(args[2])
    d, e, f = k.f32_pointer(args[3]), k.f32_pointer(args[4]), k.f32_pointer(args[5])
    g, h, o, p = k.f32_pointer(args[6]), k.f32_pointer(args[7]), k.f32_pointer(args[8]), k.f32_pointer(args[9])
    for i in range(args[10]):
        total = a[i] + b[i] * c[i]
        p[i] = total - d[i] * e[i]
        o[i] = k.select(f[i] > g[i], total, h[i])
        k.independent()
    return 0


def test_an_independent_loop_vectorises_without_alias_checks_and_in_place():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(1003).astype(np.float32) for _ in range(10)]
    a, b, c, d, e, f, g, h, *_ = (x.copy() for x in arrays)
    arrays[9], arrays[8] = arrays[0], arrays[7]  # both outputs overwrite inputs, at the same index
    _, compiled = run(many_pointers, *arrays, 1003)
    total = a + b * c
    np.testing.assert_allclose(arrays[9], total - d * e, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(arrays[8], np.where(f > g, total, h), rtol=1e-6, atol=1e-6)
    text = compiled.inspect_llvm()
    assert re.search(r"store <\d+ x float>", text)
    assert "memcheck" not in text
