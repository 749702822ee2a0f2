"""pow for `vector_math`: |x|**y from a logarithm with extra bits, then the special cases of IEEE 754 by selection."""

from __future__ import annotations

from graphnn.runtime.llvm_numbers import (
    Number,
    absolute,
    at_least,
    at_most,
    fma,
    muladd,
    polynomial,
    rint,
    two_product,
    two_sum,
)
from graphnn.runtime.vector_formats import DOUBLE, SINGLE, format_of, halves, split

INF, NAN = float("inf"), float("nan")
LOG2_E, LN2 = 1.4426950408889634, 0.6931471805599453
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
LOG_SHORT = (0.66666665622941734, 0.40000340751787994, 0.28536929256262183, 0.2358980906590708)
"""G with log(1 + f) = 2s + s * z * G(z), where s = f / (2 + f) and z = s**2, to 2**-37"""
LOG_LONG = (0.39999999999999974, 0.28571428571447044, 0.22222222217070106, 0.18181818927128002, 0.15384553021739159,
            0.13336464522808822, 0.11671851779373983, 0.12013564034020842)  # fmt: skip
"""H with G(z) = 2/3 + z * H(z), to 2**-73 of the logarithm"""


def power(x: Number, y: Number) -> Number:
    """x**y as C and NumPy have it."""
    form = format_of(x)
    a = absolute(x)
    value = _single(a, y) if form is SINGLE else _double(a, y)
    # 0 and infinity: the limit, by the sign of y.
    grows = a.equals(INF).where((y > 0.0), (y < 0.0))
    limit = grows.where(value.constant(INF), 0.0)
    value = (a.equals(0.0) | a.equals(INF)).where(y.equals(y).where(limit, y), value)
    value = a.equals(a).where(value, a)
    # A negative base needs a whole exponent, and keeps its sign if that is odd.
    half = y * 0.5
    whole = rint(y).equals(y)
    odd = whole & (rint(half) < half) | whole & (rint(half) > half)
    top = form.mantissa + (8 if form is SINGLE else 11)
    value = (value.bits ^ odd.where((x.bits >> top) << top, 0)).from_bits
    negative = (x < 0.0) & (a < INF)
    value = negative.where(whole.where(value, NAN), value)
    return (x.equals(1.0) | y.equals(0.0)).where(x.constant(1.0), value)


def _single(a: Number, y: Number) -> Number:
    """a**y in float64 arithmetic, rounded once; denormals are ordinary numbers there."""
    e, m = split(a.widened(), DOUBLE)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    log = muladd(e, LN2, muladd(s * z, polynomial(z, LOG_SHORT), s + s))
    # A power beyond 2**120 is 0, 1 or infinite as at infinity, without infinity times the logarithm of 1.
    exponent = at_most(at_least(y.widened(), -(2.0**120)), 2.0**120)
    x = at_most(at_least(exponent * log, -200.0), 200.0)
    shifter = DOUBLE.shifter + DOUBLE.bias
    t = muladd(x, LOG2_E, shifter)
    r = muladd(t - shifter, -LN2, x)
    p = muladd(r * r, polynomial(r, SINGLE.exp), r)
    scale = (t.bits << DOUBLE.mantissa).from_bits
    return muladd(p, scale, scale).narrowed()


def _double(a: Number, y: Number) -> Number:
    """a**y with the logarithm and its product with y as sums of two float64, right to 2**-65."""
    form = DOUBLE
    denormal = a < form.tiny
    e, m = split(denormal.where(a * 2.0**53, a), form)
    e = e - denormal.where(a.constant(53.0), 0.0)
    f = m - 1.0
    d_high, d_low = two_sum(f.constant(2.0), f)
    inverse = 1.0 / d_high
    s = f * inverse
    s_low = (fma(-s, d_high, f) - s * d_low) * inverse
    z, error = two_product(s, s)
    z_low = error + 2.0 * s * s_low
    c, error = two_product(s, z)
    c_low = error + muladd(s, z_low, s_low * z)
    u, error = two_product(c, TWO_THIRDS[0])
    u_low = muladd(c_low, TWO_THIRDS[0], c * TWO_THIRDS[1]) + error
    u_low = muladd(c * z, polynomial(z, LOG_LONG), u_low)
    high, e1 = two_sum(e * form.ln2[0], s + s)
    high, e2 = two_sum(high, u)
    low = (e1 + e2) + muladd(e, form.ln2[1], (s_low + s_low) + u_low)
    log, log_low = two_sum(high, low)
    exponent = at_most(at_least(y, -(2.0**960)), 2.0**960)
    x, error = two_product(exponent, log)
    x_low = at_most(at_least(muladd(exponent, log_low, error), -0.001), 0.001)
    x = at_most(at_least(x, form.exp_range[0]), form.exp_range[1])
    shifter = form.shifter + 2 * form.bias
    t = muladd(x, LOG2_E, shifter)
    n = t - shifter
    r = muladd(n, -form.ln2[0], x)
    r = r + muladd(n, -form.ln2[1], x_low)
    p = muladd(r * r, polynomial(r, form.exp), r)
    first, second = halves(t.bits, form)
    return (p + 1.0) * first.from_bits * second.from_bits
