"""Functions of one tensor, element by element.

Meanings of transcendental functions are computed in float64 and rounded: float32 kernels get an oracle within half an ulp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import compare
from graphnn.ir.ops.operands import Operand, operands, require_float, require_number
from graphnn.ir.types import TensorType

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)


def in_double(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """function(x) computed in float64, rounded to x's dtype."""
    return np.asarray(function(x.astype(np.float64))).astype(x.dtype)


def unary_samples(op: Op, low: float = -2.0, high: float = 2.0, *, integers: bool = False,
                  smooth: bool = True) -> Iterable[Sample]:
    """Samples of a unary op: odd sizes, one, none, 0-d; entries in [low, high]; then special values, without gradient."""
    rng = np.random.default_rng(3)
    for shape, symbolic in (((3, 5), "N,C"), ((17,), "N"), ((1, 1), "1,1"), ((), ""), ((0, 3), "N,3")):
        yield Sample(op, (np.asarray(rng.uniform(low, high, shape)),), (symbolic,), smooth=smooth)
        if integers:
            yield Sample(op, (np.asarray(rng.integers(-9, 9, shape, np.int32)),), (symbolic,), smooth=False)
            yield Sample(op, (np.asarray(rng.integers(-9, 9, shape, np.int64)),), (symbolic,), smooth=False)
    special = [-np.inf, np.inf, np.nan, 0.0, -0.0, 1e-30, -1e-30, 30.0, -30.0, 300.0, -300.0]
    yield Sample(op, (np.array(special),), ("N",), smooth=False)


class FloatFunction(Op):
    """A float tensor to one of the same type."""

    fusion = Fusion.ELEMENTWISE

    def infer(self, x: TensorType) -> Types:
        require_float(x)
        return (x,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


class NumberFunction(Op):
    """A tensor of numbers, integers too, to one of the same type."""

    fusion = Fusion.ELEMENTWISE

    def infer(self, x: TensorType) -> Types:
        require_number(x)
        return (x,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), integers=True)


@dataclass(frozen=True)
class Neg(NumberFunction):
    """-x."""

    name = "neg"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.negative(x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (neg(dy),)


@dataclass(frozen=True)
class Abs(NumberFunction):
    """|x|; its derivative at 0 is taken as 0."""

    name = "abs"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.absolute(x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy * sign(node.inputs[0]),)


@dataclass(frozen=True)
class Sign(NumberFunction):
    """-1, 0 or 1; NaN for NaN."""

    name = "sign"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.sign(x)


@dataclass(frozen=True)
class Exp(FloatFunction):
    """e to the power x."""

    name = "exp"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.exp, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy * node.output,)


@dataclass(frozen=True)
class Expm1(FloatFunction):
    """exp(x) - 1, accurate near 0."""

    name = "expm1"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.expm1, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy * (node.output + 1.0),)


@dataclass(frozen=True)
class Log(FloatFunction):
    """The natural logarithm: -inf at 0, NaN below."""

    name = "log"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.log, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy / node.inputs[0],)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), 0.3, 3.0)


@dataclass(frozen=True)
class Log1p(FloatFunction):
    """log(1 + x), accurate near 0."""

    name = "log1p"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.log1p, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy / (node.inputs[0] + 1.0),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), -0.5, 3.0)


@dataclass(frozen=True)
class Sqrt(FloatFunction):
    """The square root; NaN below 0. Its derivative at 0 is infinite."""

    name = "sqrt"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.sqrt(x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy * 0.5 / node.output,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), 0.3, 3.0)


@dataclass(frozen=True)
class Rsqrt(FloatFunction):
    """1 / sqrt(x)."""

    name = "rsqrt"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(lambda x: 1.0 / np.sqrt(x), x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        y = node.output
        return (dy * -0.5 * (y * y * y),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), 0.3, 3.0)


@dataclass(frozen=True)
class Tanh(FloatFunction):
    """The hyperbolic tangent."""

    name = "tanh"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.tanh, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        y = node.output
        return (dy * (1.0 - y * y),)


@dataclass(frozen=True)
class Sigmoid(FloatFunction):
    """1 / (1 + exp(-x)), without overflow."""

    name = "sigmoid"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        def stable(x: np.ndarray) -> np.ndarray:
            e = np.exp(-np.abs(x))
            return np.where(x >= 0, 1.0, e) / (1.0 + e)
        return in_double(stable, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        y = node.output
        return (dy * (y * (1.0 - y)),)


@dataclass(frozen=True)
class Erf(FloatFunction):
    """The error function, 2/sqrt(pi) times the integral of exp(-t*t) from 0 to x."""

    name = "erf"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(lambda x: np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape), x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        return (dy * (TWO_OVER_SQRT_PI * exp(neg(x * x))),)


@dataclass(frozen=True)
class Sin(FloatFunction):
    """The sine of x in radians."""

    name = "sin"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.sin, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy * cos(node.inputs[0]),)


@dataclass(frozen=True)
class Cos(FloatFunction):
    """The cosine of x in radians."""

    name = "cos"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return in_double(np.cos, x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (neg(dy * sin(node.inputs[0])),)


class Rounding(FloatFunction):
    """A float tensor to whole numbers; the gradient is 0."""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from unary_samples(cls(), smooth=False)
        halves = np.array([[0.5, 1.5, 2.5], [-0.5, -1.5, -2.5], [2.0**23 + 1, 2.0**52 + 1, -(2.0**60)]])
        yield Sample(cls(), (halves,), ("N,3",), smooth=False)


@dataclass(frozen=True)
class Floor(Rounding):
    """Rounded down."""

    name = "floor"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.floor(x)


@dataclass(frozen=True)
class Ceil(Rounding):
    """Rounded up."""

    name = "ceil"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.ceil(x)


@dataclass(frozen=True)
class Round(Rounding):
    """Rounded to the nearest whole number, halves to even."""

    name = "round"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.rint(x)


@dataclass(frozen=True)
class Relu(FloatFunction):
    """max(x, 0); NaN for NaN; its derivative at 0 is 0."""

    name = "relu"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, x.dtype.type(0), x)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (compare.where(compare.less(0.0, node.output), dy, 0.0),)


# ------------------------------------------------------------------------------------------------ what users call

def neg(x: Operand) -> Value:
    """-x."""
    return Neg().one(*operands(x))


def abs(x: Operand) -> Value:
    """|x|."""
    return Abs().one(*operands(x))


def sign(x: Operand) -> Value:
    """-1, 0 or 1."""
    return Sign().one(*operands(x))


def exp(x: Operand) -> Value:
    """e to the power x."""
    return Exp().one(*operands(x))


def expm1(x: Operand) -> Value:
    """exp(x) - 1, accurate near 0."""
    return Expm1().one(*operands(x))


def log(x: Operand) -> Value:
    """The natural logarithm."""
    return Log().one(*operands(x))


def log1p(x: Operand) -> Value:
    """log(1 + x), accurate near 0."""
    return Log1p().one(*operands(x))


def sqrt(x: Operand) -> Value:
    """The square root."""
    return Sqrt().one(*operands(x))


def rsqrt(x: Operand) -> Value:
    """1 / sqrt(x)."""
    return Rsqrt().one(*operands(x))


def tanh(x: Operand) -> Value:
    """The hyperbolic tangent."""
    return Tanh().one(*operands(x))


def sigmoid(x: Operand) -> Value:
    """1 / (1 + exp(-x))."""
    return Sigmoid().one(*operands(x))


def erf(x: Operand) -> Value:
    """The error function."""
    return Erf().one(*operands(x))


def sin(x: Operand) -> Value:
    """The sine of x in radians."""
    return Sin().one(*operands(x))


def cos(x: Operand) -> Value:
    """The cosine of x in radians."""
    return Cos().one(*operands(x))


def floor(x: Operand) -> Value:
    """Rounded down."""
    return Floor().one(*operands(x))


def ceil(x: Operand) -> Value:
    """Rounded up."""
    return Ceil().one(*operands(x))


def round(x: Operand) -> Value:
    """Rounded to the nearest whole number, halves to even."""
    return Round().one(*operands(x))


def relu(x: Operand) -> Value:
    """max(x, 0)."""
    return Relu().one(*operands(x))
