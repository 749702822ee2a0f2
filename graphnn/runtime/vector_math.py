"""Mathematics for kernels: one name a function, float32 and float64 alike, no branch, so that LLVM vectorises the loop.

    exp  expm1  log  log1p  tanh  sigmoid  softplus  erf  sin  cos  rsqrt      one argument
    pow                                                                        two arguments

`FUNCTIONS` maps these names to what kernels call; a call has the type of its first argument. `exp_f32`, `exp_f64` and so
on are the same functions under the names that generated code uses. Importing this module imports Numba.

Errors stay within 2 ulp for float32 and 4 ulp for float64 over the whole range: near zero, denormal arguments and
results, infinities, NaN and the sign of zero included (tests/runtime/test_vector_math.py measures them). Results do not
depend on libm, save that without fused multiply-add in hardware libm's exact `fma` stands in for it in pow, sin and cos.

Each function reduces its argument exactly (or in two parts), evaluates a minimax polynomial and scales. The polynomials
come from Remez's exchange in 50 digits, minimising the relative error of the final result, coefficients rounded from the
lowest up with the rest fitted again. Their arguments and intervals stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from graphnn.runtime import vector_power, vector_trigonometry
from graphnn.runtime.llvm_numbers import (
    Number,
    absolute,
    at_least,
    at_most,
    copysign,
    muladd,
    polynomial,
    sqrt,
)
from graphnn.runtime.vector_formats import DOUBLE, SINGLE, format_of, halves, split

INF, NAN = float("inf"), float("nan")
LOG2_E = 1.4426950408889634
TANH_SMALL = (-0.333333164, 0.133325413, -0.0538469665, 0.0210473593, -0.00623690989)
"""(tanh(a) / a - 1) / a**2 in a**2 for a < 0.55, for float32"""


Formula = Callable[..., Number]


# Exponentials.
def _exp_parts(x: Number, bias: int) -> tuple[Number, Number]:
    """With n = x / log(2) to the nearest integer: expm1(x - n * log(2)), and n + bias in the low bits of an integer.

    Cody and Waite's reduction: n times the upper part of log(2) is exact, and so is its difference from x.
    """
    form = format_of(x)
    shifter = form.shifter + bias
    t = muladd(x, LOG2_E, shifter)
    n = t - shifter
    upper = muladd(n, -form.ln2[0], x)
    lower = n * -form.ln2[1]
    r = upper + lower
    # Adding the parts to the result one by one leaves out the rounding of r: 0.25 ulp less.
    return muladd(r * r, polynomial(r, form.exp), lower) + upper, t.bits


def _exp_bounded(x: Number) -> Number:
    """exp for arguments within `exp_range` or NaN: a denormal result is rounded once, by the second scaling."""
    form = format_of(x)
    p, exponent = _exp_parts(x, 2 * form.bias)
    low, high = halves(exponent, form)
    return (p + 1.0) * low.from_bits * high.from_bits


def _exp(x: Number) -> Number:
    low, high = format_of(x).exp_range
    return _exp_bounded(at_most(at_least(x, low), high))


def _expm1(x: Number) -> Number:
    form = format_of(x)
    p, exponent = _exp_parts(at_most(at_least(x, form.expm1_low), form.exp_range[1]), 2 * form.bias)
    low, high = halves(exponent, form)
    # 2**n * (p + 1) - 1 = high * (low * p + (low - 1 / high)), which overflows only where the result does.
    inverse = ((2 * form.bias << form.mantissa) - high).from_bits
    low = low.from_bits
    return copysign(muladd(p, low, low - inverse) * high.from_bits, x)


def _tanh(x: Number) -> Number:
    form = format_of(x)
    a = at_most(absolute(x), form.tanh_one)
    p, exponent = _exp_parts(a + a, form.bias)
    power = (exponent << form.mantissa).from_bits
    if form is DOUBLE:
        # expm1(2a) / (expm1(2a) + 2): the quotient damps the error of the numerator, to 2.5 ulp.
        t = muladd(p, power, power - 1.0)
        return copysign(t / (t + 2.0), x)
    square = a * a
    small = muladd(a * square, polynomial(square, TANH_SMALL), a)
    large = 1.0 - 2.0 / muladd(p, power, power + 1.0)
    return copysign((a < 0.55).where(small, large), x)


def _sigmoid(x: Number) -> Number:
    """exp(-|x|) = e never overflows. With q = e / (1 + e): 1 - q, and where x < 0 e - e * q, good down to denormals."""
    e = _exp_bounded(at_least(-absolute(x), format_of(x).exp_range[0]))
    q = e / (e + 1.0)
    top = (x < 0.0).where(e, 1.0)
    return muladd(-top, q, top)


# Logarithms.
def _log_core(f: Number, e: Number) -> Number:
    """log(1 + f) + e * log(2) for sqrt(1/2) <= 1 + f < sqrt(2) and an integer e."""
    form = format_of(f)
    square = f * f
    if form is SINGLE:
        # log(1 + f) = f - f**2 / 2 + f**3 * P(f)
        y = muladd(e, form.ln2[1], f * square * polynomial(f, form.log))
        return muladd(e, form.ln2[0], muladd(square, -0.5, y) + f)
    # With s = f / (2 + f): log(1 + f) = 2s + s**3 * G(s**2) = f - f**2 / 2 + s * (f**2 / 2 + s**2 * G)
    half, s = square * 0.5, f / (f + 2.0)
    z = s * s
    y = muladd(s, muladd(z, polynomial(z, form.log), half), e * form.ln2[1])
    return muladd(e, form.ln2[0], f - (half - y))


def _log(x: Number) -> Number:
    form = format_of(x)
    denormal = x < form.tiny
    e, m = split(denormal.where(x * 2.0 ** (form.mantissa + 1), x), form)
    e = e - denormal.where(x.constant(form.mantissa + 1), 0.0)
    y = _log_core(m - 1.0, e)
    y = (x < INF).where(y, x)  # infinity and NaN are their own logarithm
    return (x <= 0.0).where(x.equals(0.0).where(x.constant(-INF), NAN), y)


def _log1p_above_minus_1(x: Number) -> Number:
    """log1p for -1 < x < infinity."""
    form = format_of(x)
    u = x + 1.0
    e, m = split(u, form)
    # 1 + x = 2**e * (1 + f) gives f = 2**-e * x + (2**-e - 1): x enters unrounded, whatever 1 + x lost.
    i = u.bits + (form.one - form.sqrt_half)
    scale = ((2 * form.bias << form.mantissa) - (i & ~((1 << form.mantissa) - 1))).from_bits
    f = muladd(x, scale, scale - 1.0)
    # For a huge x the scale may not exist, and 1 + x lost nothing that counts.
    return _log_core((x > 2.0 ** (form.mantissa + 8)).where(m - 1.0, f), e)


def _log1p(x: Number) -> Number:
    y = copysign(_log1p_above_minus_1(x), x)
    y = (x < INF).where(y, x)
    return (x <= -1.0).where(x.equals(-1.0).where(x.constant(-INF), NAN), y)


def _softplus(x: Number) -> Number:
    """max(x, 0) + log1p(exp(-|x|))"""
    return at_least(x, 0.0) + _log1p_above_minus_1(_exp_bounded(at_least(-absolute(x), format_of(x).exp_range[0])))


def _erf(x: Number) -> Number:
    form = format_of(x)
    a = at_most(absolute(x), form.erf_one)
    small = muladd(a, polynomial(a * a, form.erf_small), a)
    p, exponent = _exp_parts(polynomial(a, form.erf_large), form.bias)
    power = (exponent << form.mantissa).from_bits
    large = muladd(-p, power, 1.0 - power)
    return copysign((a < 1.0).where(small, large), x)


def _rsqrt(x: Number) -> Number:
    return 1.0 / sqrt(x)


def _kernel_function(formula: Formula, arity: int = 1) -> Any:
    """`formula` as a function that kernels call; its arguments are cast to the type of the first."""

    def resolve(*given: Any) -> Any:
        kind = given[0]
        if not isinstance(kind, types.Float):
            return None
        return kind(*[kind] * arity), lambda c, b, s, v: formula(*(Number(b, x) for x in v)).value

    if arity == 1:
        return intrinsic(lambda context, x: resolve(x))
    return intrinsic(lambda context, x, y: resolve(x, y))


FUNCTIONS: dict[str, Any] = {
    "exp": _kernel_function(_exp),
    "expm1": _kernel_function(_expm1),
    "log": _kernel_function(_log),
    "log1p": _kernel_function(_log1p),
    "tanh": _kernel_function(_tanh),
    "sigmoid": _kernel_function(_sigmoid),
    "softplus": _kernel_function(_softplus),
    "erf": _kernel_function(_erf),
    "rsqrt": _kernel_function(_rsqrt),
    "sin": _kernel_function(vector_trigonometry.sin),
    "cos": _kernel_function(vector_trigonometry.cos),
    "pow": _kernel_function(vector_power.power, 2),
}
"""Name -> the function that kernels call."""


def __getattr__(name: str) -> Any:
    """`exp` and `exp_f32` alike."""
    word = name.removesuffix("_f32").removesuffix("_f64")
    if word in FUNCTIONS:
        return FUNCTIONS[word]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
