"""Arithmetic on two tensors, element by element: + - * / and their kin, with NumPy's broadcasting.

To add an op: a frozen dataclass with `infer`, `numpy`, `grad` and `samples`, and beside it the function that users call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import compare, functions
from graphnn.ir.ops.broadcasting import unbroadcast
from graphnn.ir.ops.operands import (
    Operand,
    broadcast_type,
    operands,
    require_float,
    require_integer,
    require_number,
    scalar_constant,
)
from graphnn.ir.types import TensorType

BROADCASTS: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[str, str]], ...] = (
    ((3, 5), (3, 5), ("N,C", "N,C")),
    ((7, 3), (3,), ("N,3", "3")),
    ((2, 1, 3), (5, 1), ("N,1,3", "5,1")),
    ((), (4,), ("", "N")),
    ((1,), (1, 1), ("1", "1,1")),
    ((), (), ("", "")),
    ((0, 3), (1, 3), ("N,3", "1,3")),
)


def pair_samples(op: Op, *, integers: bool = True, floats: bool = True, low: float = -2.0, high: float = 2.0) -> Iterable[Sample]:
    """Samples of a binary op over the ways in which two shapes broadcast; float entries are distinct, so far from ties."""
    rng = np.random.default_rng(1)
    for left, right, symbolic in BROADCASTS:
        if floats:
            a, b = rng.uniform(low, high, left), rng.uniform(low, high, right)
            yield Sample(op, (np.asarray(a), np.asarray(b)), symbolic)
        if integers:
            for dtype in (np.int32, np.int64):
                a, b = rng.integers(-9, 9, left, dtype), rng.integers(1, 9, right, dtype)
                yield Sample(op, (np.asarray(a), np.asarray(b)), symbolic, smooth=False)


@dataclass(frozen=True)
class Add(Op):
    """a + b."""

    name = "add"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        return unbroadcast(dy, a.type), unbroadcast(dy, b.type)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return pair_samples(cls())


@dataclass(frozen=True)
class Sub(Op):
    """a - b."""

    name = "sub"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a - b

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        return unbroadcast(dy, a.type), functions.neg(unbroadcast(dy, b.type))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return pair_samples(cls())


@dataclass(frozen=True)
class Mul(Op):
    """a * b."""

    name = "mul"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        return unbroadcast(dy * b, a.type), unbroadcast(dy * a, b.type)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return pair_samples(cls())


@dataclass(frozen=True)
class Div(Op):
    """a / b, of floats."""

    name = "div"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_float(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a / b

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        da = dy / b
        return unbroadcast(da, a.type), unbroadcast(functions.neg(da * node.output), b.type)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls(), integers=False, low=0.5, high=2.0)
        yield Sample(cls(), (np.array([1.0, -1.0, 0.0]), np.array([0.0, 0.0, 0.0])), ("N", "N"), smooth=False)


@dataclass(frozen=True)
class Pow(Op):
    """a ** b, of floats; NaN for a negative base and a fractional exponent.

    The derivative by the exponent is taken as 0 where the base is not positive, as it has no logarithm there.
    """

    name = "pow"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_float(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64))).astype(a.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        c = scalar_constant(b)
        if c is not None:
            da = dy * (c * pow(a, c - 1)) if c != 0 else None
            return (unbroadcast(da, a.type) if da is not None else None), self._by_exponent(node, dy)
        # At 0 ** 0 the factor b is 0 but a ** (b - 1) is infinite; the exponent 1 there keeps every further derivative finite.
        singular = compare.logical_and(compare.equal(a, 0.0), compare.equal(b, 0.0))
        exponent = compare.where(singular, 1.0, b)
        return unbroadcast(dy * (b * Pow().one(a, exponent - 1)), a.type), self._by_exponent(node, dy)

    def _by_exponent(self, node: Node, dy: Value) -> Value:
        a, b = node.inputs
        log = functions.log(compare.where(compare.less(0.0, a), a, 1.0))
        return unbroadcast(dy * (node.output * log), b.type)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls(), integers=False, low=0.5, high=2.0)
        bases = np.array([-2.0, -1.0, 0.0, 0.5, 2.0])
        for exponent in (0.0, 1.0, 2.0, 3.0, -1.0, 0.5):
            yield Sample(cls(), (bases, np.array(exponent)), ("N", ""), smooth=False)


@dataclass(frozen=True)
class Minimum(Op):
    """The smaller of a and b; NaN when one is. Where they are equal each gets half the gradient (as in PyTorch)."""

    name = "minimum"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(a, b)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        return _to_the_chosen(dy, a, b, compare.less(a, b), compare.less(b, a))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls())
        yield Sample(cls(), (np.array([1.0, np.nan, 2.0]), np.array([1.0, 1.0, np.nan])), ("N", "N"), smooth=False)


@dataclass(frozen=True)
class Maximum(Op):
    """The larger of a and b; NaN when one is. Where they are equal each gets half the gradient (as in PyTorch)."""

    name = "maximum"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        return _to_the_chosen(dy, a, b, compare.less(b, a), compare.less(a, b))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls())
        yield Sample(cls(), (np.array([1.0, np.nan, 2.0]), np.array([1.0, 1.0, np.nan])), ("N", "N"), smooth=False)


def _to_the_chosen(dy: Value, a: Value, b: Value, chose_a: Value, chose_b: Value) -> Cotangents:
    half = compare.where(compare.equal(a, b), dy * 0.5, 0.0)
    return (unbroadcast(compare.where(chose_a, dy, half), a.type), unbroadcast(compare.where(chose_b, dy, half), b.type))


@dataclass(frozen=True)
class Mod(Op):
    """The remainder of integers with the sign of the divisor, as in Python; 0 for the divisor 0, as in NumPy."""

    name = "mod"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_integer(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.mod(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls(), floats=False)
        yield Sample(cls(), (np.array([7, -7, 7, -7, 7]), np.array([3, 3, -3, -3, 0])), ("N", "N"))


@dataclass(frozen=True)
class FloorDiv(Op):
    """The quotient of integers rounded down, as in Python; 0 for the divisor 0, as in NumPy."""

    name = "floordiv"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_integer(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.floor_divide(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from pair_samples(cls(), floats=False)
        yield Sample(cls(), (np.array([7, -7, 7, -7, 7]), np.array([3, 3, -3, -3, 0])), ("N", "N"))


# ------------------------------------------------------------------------------------------------ what users call

def add(a: Operand, b: Operand) -> Value:
    """a + b."""
    return Add().one(*operands(a, b))


def sub(a: Operand, b: Operand) -> Value:
    """a - b."""
    return Sub().one(*operands(a, b))


def mul(a: Operand, b: Operand) -> Value:
    """a * b, element by element."""
    return Mul().one(*operands(a, b))


def div(a: Operand, b: Operand) -> Value:
    """a / b, of floats."""
    return Div().one(*operands(a, b))


def pow(a: Operand, b: Operand) -> Value:
    """a ** b, of floats; small whole exponents become products, 0.5 a square root. Integers take whole exponents 1 to 4."""
    if isinstance(a, Value) and isinstance(b, (int, float)) and not isinstance(b, bool):
        short = _short_power(a, b)
        if short is not None:
            return short
        if not a.dtype.is_float:
            raise DTypeError(f"pow: takes an exponent from 1 to 4 for {a.dtype}, not {b!r}", hint='use cast(x, "f32")')
    return Pow().one(*operands(a, b))


def _short_power(x: Value, exponent: float) -> Value | None:
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if exponent == 4:
        square = x * x
        return square * square
    if not x.dtype.is_float:
        return None
    if exponent == 0.5:
        return functions.sqrt(x)
    if exponent == -0.5:
        return functions.rsqrt(x)
    return 1.0 / x if exponent == -1 else None


def minimum(a: Operand, b: Operand) -> Value:
    """The smaller of a and b, element by element; NaN when one is."""
    return Minimum().one(*operands(a, b))


def maximum(a: Operand, b: Operand) -> Value:
    """The larger of a and b, element by element; NaN when one is."""
    return Maximum().one(*operands(a, b))


def mod(a: Operand, b: Operand) -> Value:
    """The remainder of integers, with the sign of b."""
    return Mod().one(*operands(a, b))


def floordiv(a: Operand, b: Operand) -> Value:
    """The quotient of integers, rounded down."""
    return FloorDiv().one(*operands(a, b))
