"""Accuracy, special values, purity and vectorisation of the kernel mathematics, on every instruction set at hand."""

import ctypes
import re
from functools import cache

import llvmlite.binding as llvm
import numpy as np
import pytest

from graphnn.errors import UnsupportedError
from graphnn.runtime import intrinsics as k
from graphnn.runtime import kernel_compiler, vector_math
from graphnn.runtime.instruction_set import named
from graphnn.runtime.object_symbols import undefined_symbols
from graphnn.runtime.row import Kernel

NUMPY = {"f32": np.float32, "f64": np.float64}
BITS = {"f32": np.int32, "f64": np.int64}
ULPS = {"f32": 2.0, "f64": 4.0}
WIDE = np.longdouble
UNARY = [name for name in vector_math.FUNCTIONS if name != "pow"]
EXTENDED = np.finfo(WIDE).nmant >= 63
KEPT = []


def runnable(isa):
    try:
        return named(isa).name == isa
    except UnsupportedError:
        return False


ISAS = [isa for isa in ("avx512", "avx2", "neon", "generic") if runnable(isa)]


def element_kernel(function, dtype):
    pointer, apply = k.POINTER[dtype], vector_math.FUNCTIONS[function]
    if function == "pow":

        def kernel(args, tile, scratch):
            x, y, out = pointer(args[1]), pointer(args[2]), pointer(args[3])
            for i in range(args[0]):
                out[i] = apply(x[i], y[i])
                k.independent()
            return 0
    else:

        def kernel(args, tile, scratch):
            x, out = pointer(args[1]), pointer(args[2])
            for i in range(args[0]):
                out[i] = apply(x[i])
                k.independent()
            return 0

    return kernel


@cache
def built(function, dtype, isa):
    kernel = Kernel.of(f"{__name__}:element_kernel", function=function, dtype=dtype)
    return kernel_compiler.generate(kernel_compiler.lower(kernel, "entry"), named(isa))


@cache
def loaded(function, dtype, isa):
    target = named(isa)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(target.llvm_triple).create_target_machine(cpu=target.llvm_cpu, reloc="pic")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(built(function, dtype, isa).code))
    engine.finalize_object()
    KEPT.append(engine)
    entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    call = entry(engine.get_function_address("entry"))

    def apply(*arrays):
        arrays = [np.ascontiguousarray(a) for a in arrays]
        out = np.empty_like(arrays[0])
        slots = np.array([out.size, *(a.ctypes.data for a in (*arrays, out))], np.int64)
        assert call(slots.ctypes.data, 0, 0) == 0
        return out

    return apply


def erf_wide(x):
    """erf from its Taylor series in integers of 260 bits; beyond 9 it is 1 in every format here."""

    def one(value):
        if not abs(value) < 9:
            return np.sign(value)
        numerator, denominator = float(value).as_integer_ratio()
        unit = 1 << 260
        x = numerator * unit // denominator
        square, power, total, n = x * x // unit, x, x, 0
        while power:
            n += 1
            power = -(power * square // unit // n) if power > 0 else (-power * square // unit // n)
            total += power // (2 * n + 1)
        root_pi = WIDE("1.7724538509055160272981674833411451828")
        high = total >> 200  # 60 bits behind the point
        low = total - (high << 200) >> 140
        return (
            (WIDE(high) / WIDE(2) ** 60 + WIDE(low) / WIDE(2) ** 120) * 2 / root_pi
            if abs(value) > 1e-9
            else (WIDE(value) * 2 / root_pi)
        )

    return np.array([one(v) for v in x], WIDE)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


REFERENCE = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sigmoid": sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), "erf": erf_wide, "sin": np.sin, "cos": np.cos,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


def ulps(got, true, dtype):
    """How far `got` lies from the long double `true`, in units of the last place of `true` (a denormal's: the smallest)."""
    kind = np.finfo(NUMPY[dtype])
    with np.errstate(all="ignore"):
        size = np.abs(true)
        exponent = np.floor(np.log2(np.where((size > 0) & np.isfinite(size), size, 1)))
        unit = np.exp2(np.maximum(exponent, WIDE(kind.minexp)) - kind.nmant)
        off = np.abs(got.astype(WIDE) - true) / unit
        beyond = np.isfinite(true) & (size > WIDE(kind.max) * (1 + WIDE(kind.eps) / 4))
        off = np.where(beyond, np.where(got == np.sign(true) * np.inf, 0, np.inf), off)
        off = np.where(np.isinf(true), np.where(got == true, 0, np.inf), off)
        return np.where(np.isnan(true) | np.isnan(got), np.where(np.isnan(true) & np.isnan(got), 0, np.inf), off)


THRESHOLDS = (
    88.7228, -87.336, -103.97, 709.7827, -708.396, -745.133, 0.34657, 0.69315, 1.03972, -17.3, 9.01, 10, 19.06, 20, 3.9,
    5.9, 0.55, 1, 0.70710678, 1.41421356, 0.78539816, 1.57079633, 3.14159265, 355, 16367173 * 2.0**72, 2.0**40, 2.0**56,
)  # fmt: skip


def arguments(dtype, count):
    """Every exponent, the neighbourhood of every threshold, denormals, and where most numbers of a network lie."""
    rng, kind, whole = np.random.default_rng(0), NUMPY[dtype], BITS[dtype]
    limits, bits = np.finfo(kind), np.iinfo(whole)
    special = [0, 1, np.inf, np.nan, limits.max, limits.tiny, limits.smallest_subnormal, 0.5, 2, 1 + limits.eps]
    parts = [
        rng.integers(bits.min, bits.max, count, dtype=whole).view(kind),
        rng.integers(0, 2**limits.nmant, count // 8, dtype=whole).view(kind),
        *(rng.uniform(-a, a, count // 8).astype(kind) for a in (1e-3, 0.1, 0.5, 1, 2, 5, 10, 20, 90, 120, 710, 750)),
        *((np.array(t, kind).view(whole) + np.arange(-60, 60, dtype=whole)).view(kind) for t in THRESHOLDS),
        np.array(special, kind),
    ]
    x = np.concatenate(parts)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("function", UNARY)
def test_error_in_ulps(function, dtype, isa):
    if dtype == "f64" and not EXTENDED:
        pytest.skip("long double is float64 here, so it cannot judge float64")
    x = arguments(dtype, 400 if function == "erf" else 20000)
    with np.errstate(all="ignore"):
        true = REFERENCE[function](x.astype(WIDE))
    got = loaded(function, dtype, isa)(x)
    off = ulps(got, true, dtype)
    worst = np.argmax(off)
    assert off[worst] <= ULPS[dtype], f"{function}({x[worst]!r}) gave {got[worst]!r}, not {true[worst]!r}"
    signed = ~np.isnan(got) & (function not in ("cos", "rsqrt"))
    np.testing.assert_array_equal(np.signbit(got[signed]), np.signbit(true[signed]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_pow_error_in_ulps(dtype, isa):
    if dtype == "f64" and not EXTENDED:
        pytest.skip("long double is float64 here, so it cannot judge float64")
    rng, kind, n = np.random.default_rng(1), NUMPY[dtype], 10000
    top = 88 if dtype == "f32" else 709
    anything = arguments(dtype, n)
    bases = [np.exp(rng.uniform(-top, top, n)), 1 + rng.uniform(-0.4, 0.5, n), 1 + rng.uniform(-1e-4, 1e-4, n)]
    with np.errstate(all="ignore"):
        cases = [(b := base.astype(kind), rng.uniform(-top, top, n) * 1.06 / np.log(b.astype(float))) for base in bases]
    cases += [(rng.uniform(-50, 50, n), rng.integers(-30, 30, n)), (anything, rng.permutation(anything))]
    for base, exponent in cases:
        x, y = base.astype(kind), np.asarray(exponent).astype(kind)
        with np.errstate(all="ignore"):
            true = np.power(x.astype(WIDE), y.astype(WIDE))
        got = loaded("pow", dtype, isa)(x, y)
        off = ulps(got, true, dtype)
        worst = np.argmax(off)
        assert off[worst] <= ULPS[dtype], f"{x[worst]!r} ** {y[worst]!r} gave {got[worst]!r}, not {true[worst]!r}"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_pow_has_numpys_special_cases(dtype, isa):
    kind = NUMPY[dtype]
    limits = np.finfo(kind)
    positive = [0, 1, 2, 3, 0.5, 1.5, np.inf, limits.max, limits.tiny, limits.smallest_subnormal, 1 + limits.eps]
    positive += [1 - limits.epsneg, 2.0**limits.nmant + 1, 2.0 ** (limits.nmant + 2)]
    values = np.array([*positive, *(-v for v in positive), np.nan], kind)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    got = loaded("pow", dtype, isa)(x, y)
    np.testing.assert_allclose(got, expected, rtol=4 * limits.eps, atol=2 * limits.smallest_subnormal)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("function", list(vector_math.FUNCTIONS))
def test_it_vectorises_and_refers_to_nothing(function, dtype):
    target = named("")
    compiled = built(function, dtype, target.name)
    word = "float" if dtype == "f32" else "double"
    assert re.search(rf"store <{target.lanes(dtype)} x {word}>", compiled.assembly)
    if target.fused_multiply_add:
        assert undefined_symbols(compiled.code) == []


def test_the_hardest_argument_of_cos():
    """6381956970095103 * 2**797 is the float64 nearest a multiple of pi/2 (Muller): cos is 4.7e-19."""
    x = np.array([6381956970095103 * 2.0**797])
    assert loaded("cos", "f64", ISAS[0])(x)[0] == pytest.approx(-4.68716592425462761112e-19, rel=1e-15)


def test_names_of_generated_code():
    for name, function in vector_math.FUNCTIONS.items():
        assert getattr(vector_math, name) is getattr(vector_math, f"{name}_f64") is function
    assert vector_math.exp_f32 is vector_math.FUNCTIONS["exp"]
    assert vector_math.pow_f64 is vector_math.FUNCTIONS["pow"]
    with pytest.raises(AttributeError):
        vector_math.nonsense_f32  # noqa: B018


def sum_of_many(dtype):
    pointer, sin, cos, exp = k.POINTER[dtype], vector_math.sin, vector_math.cos, vector_math.exp

    @k.inline
    def both(x):
        return sin(x) * sin(x) + cos(x) * cos(x)

    def kernel(args, tile, scratch):
        x, out = pointer(args[1]), pointer(args[2])
        for i in range(args[0]):
            out[i] = both(x[i]) + cos(x[i]) * exp(-x[i])
            k.independent()
        return 0

    return kernel


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_functions_combine_in_one_kernel_and_in_its_helpers(dtype):
    kernel = Kernel.of(f"{__name__}:sum_of_many", dtype=dtype)
    compiled = kernel_compiler.generate(kernel_compiler.lower(kernel, "entry"), named(""))
    assert undefined_symbols(compiled.code) == [] or not named("").fused_multiply_add
