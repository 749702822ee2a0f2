"""sin and cos for `vector_math`, for arguments of any size, without a branch.

Payne and Hanek's reduction in floating point. A float is M * 2**e with a whole M, so for e >= 16j multiples of 4 may be
dropped from 2**(16j) * 2/pi before the product: x * 2/pi modulo 4 needs only a few numbers that depend on j. Their
product with x is exact in parts (fma); what is near a multiple of pi/2 keeps its relative accuracy.
"""

from __future__ import annotations

from functools import cache
from math import ldexp
from typing import Any

from llvmlite import ir

from graphnn.runtime.intrinsics import F64, I32
from graphnn.runtime.llvm_numbers import (
    Number,
    absolute,
    any_two_sum,
    fma,
    muladd,
    polynomial,
    rint,
    two_product,
)
from graphnn.runtime.vector_formats import SINGLE, format_of

STEP = 16  # of the exponent, between entries of the table
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
QUARTER_PI = 0.7853981633974483
TO_INTEGER = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits of a float64


def sin(x: Number) -> Number:
    return _wave(x, 0, x.bits)


def cos(x: Number) -> Number:
    return _wave(x, 1, None)


def _wave(x: Number, shift: int, sign: Number | None) -> Number:
    """sin(|x| + shift * pi/2), negated if `sign` has its top bit set."""
    form = format_of(x)
    a = absolute(x)
    r, quadrant = _reduce_single(a) if form is SINGLE else _reduce_double(a)
    quadrant = quadrant + shift
    z = r * r
    sine = muladd(r * z, polynomial(z, form.sin), r)
    cosine = muladd(z * z, polynomial(z, form.cos), muladd(z, -0.5, r.constant(1.0)))
    value = (quadrant & 1).equals(0).where(sine, cosine).bits
    top = form.mantissa + (8 if form is SINGLE else 11)
    flip = (quadrant >> 1) << top
    if sign is not None:
        flip = flip ^ ((sign >> top) << top)
    return (a < float("inf")).where((value ^ flip).from_bits, float("nan"))


def _reduce_single(a: Number) -> tuple[Number, Number]:
    """a - n * pi/2 for the nearest n, and n's low bits. Two float64 for each of the seven steps of the exponent."""
    entries = [[ldexp(part, -STEP * j) for part in entry] for j, entry in enumerate(two_over_pi(7, 2))]
    upper, lower = (Number(a.builder, F64(part)) for part in entries[-1])
    for j in range(5, -1, -1):
        smaller = a < 2.0 ** (24 + STEP * (j + 1))
        upper, lower = smaller.where(upper.constant(entries[j][0]), upper), smaller.where(entries[j][1], lower)
    x = a.widened()
    turns, error = two_product(x, upper)
    t = turns + TO_INTEGER
    rest = (turns - (t - TO_INTEGER)) + fma(x, lower, error)
    return (rest * HALF_PI[0]).narrowed(), t.bits.narrowed()


def _reduce_double(a: Number) -> tuple[Number, Number]:
    """a - n * pi/2 for the nearest n, and n's low bits. Four float64 from a table, so that 2**-115 of a turn counts."""
    exponent = a.bits >> 52
    j = (exponent > 1075).where(exponent - 1075, 0) >> 4
    x = (a.bits - (j << 56)).from_bits  # a * 2**(-16 * j)
    parts = [two_product(x, t) for t in _table_entry(j)]
    (h0, l0), (h1, l1), (h2, l2), (h3, _) = parts
    s, e1 = any_two_sum(_modulo_4(h0), _modulo_4(l0))
    s, e2 = any_two_sum(s, _modulo_4(h1))
    t = s + TO_INTEGER
    q, error = any_two_sum(l1, h2)
    low = error + (l2 + h3)
    g = s - (t - TO_INTEGER)
    for part in (q, e1, e2):  # whichever of them cancels, the sum keeps what is left
        g, error = any_two_sum(g, part)
        low = low + error
    high = g + low
    low = (g - high) + low
    r = high * HALF_PI[0]
    r = r + (fma(high, HALF_PI[0], -r) + muladd(high, HALF_PI[1], low * HALF_PI[0]))
    return (a < QUARTER_PI).where(a, r), t.bits


def _modulo_4(x: Number) -> Number:
    """x minus the nearest multiple of 4, exactly."""
    return x - rint(x * 0.25) * 4.0


def _table_entry(j: Number) -> list[Number]:
    """The four parts of entry j of a table that the module holds once."""
    builder: Any = j.builder
    module, name, entries = builder.module, "graphnn_two_over_pi", two_over_pi(61, 4)
    table: Any = module.globals.get(name)
    if table is None:
        flat = [part for entry in entries for part in entry]
        kind = ir.ArrayType(F64, len(flat))
        table = ir.GlobalVariable(module, kind, name)
        table.linkage, table.global_constant, table.unnamed_addr = "internal", True, True
        table.initializer = ir.Constant(kind, flat)
    first = j << 2
    places = [builder.gep(table, [I32(0), (first + part).value], inbounds=True) for part in range(4)]
    return [Number(builder, builder.load(place, align=8)) for place in places]


@cache
def two_over_pi(entries: int, parts: int) -> list[list[float]]:
    """For j below `entries`: 2**(16j) * 2/pi modulo 4 as a sum of `parts` float64, each truncated to 53 bits."""
    point = 1400  # bits behind it; 2**-(1400 - 960) is far below the last part
    ratio = (1 << 2 * point + 1) // _pi(point)
    table = []
    for j in range(entries):
        rest = (ratio << STEP * j) & ((4 << point) - 1)
        entry = []
        for _ in range(parts):
            drop = max(0, rest.bit_length() - 53)
            entry.append(ldexp(rest >> drop, drop - point))
            rest -= rest >> drop << drop
        table.append(entry)
    return table


def _pi(point: int) -> int:
    """pi with `point` bits behind the point, by Machin's formula."""

    def arctan_of_inverse(n: int) -> int:
        power = total = (1 << point + 32) // n
        for k in range(3, point, 2):
            power //= -n * n
            total += power // k
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 32
