"""Elementwise functions that are no ops: written in others, since fusion makes one kernel of them."""

from __future__ import annotations

import math

from graphnn.ir.graph import Value
from graphnn.ir.ops import arithmetic, compare, functions
from graphnn.ir.ops.operands import Operand, operands

# log(1 + exp(x)) - x = exp(-x) < ulp(x) / 2 from here on, in float64.
SOFTPLUS_IS_LINEAR = 40.0

# From here on erf(x / sqrt(2)) and tanh(sqrt(2 / pi) (x + 0.044715 x^3)) are 1, in float64, and gelu(-x) is 0 in float32.
GELU_IS_LINEAR = 25.0


def square(x: Value) -> Value:
    """x * x."""
    return x * x


def reciprocal(x: Value) -> Value:
    """1 / x."""
    return 1.0 / x


def clip(x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    """x kept within [low, high]; either may be missing. Its derivative by x is 1 within, the ends included, else 0."""
    y = x
    if low is not None:
        y = compare.where(compare.less(x, low), operands(x, low)[1], y)
    if high is not None:
        y = compare.where(compare.less(high, x), operands(x, high)[1], y)
    return y


def softplus(x: Value) -> Value:
    """log(1 + exp(x)), without overflow; smooth at 0 to any order."""
    linear = compare.less(SOFTPLUS_IS_LINEAR, x)
    return compare.where(linear, x, functions.log1p(functions.exp(compare.where(linear, 0.0, x))))


def log_sigmoid(x: Value) -> Value:
    """log(sigmoid(x)), without overflow."""
    return functions.neg(softplus(functions.neg(x)))


def gelu(x: Value) -> Value:
    """x times the normal distribution function of x: x / 2 * (1 + erf(x / sqrt(2)))  (Hendrycks and Gimpel, 2016)."""
    z = clip(x, -GELU_IS_LINEAR, GELU_IS_LINEAR)                           # its square overflows for no x
    return 0.5 * x * (1.0 + functions.erf(z * math.sqrt(0.5)))


def silu(x: Value) -> Value:
    """x * sigmoid(x)."""
    return arithmetic.mul(x, functions.sigmoid(x))
