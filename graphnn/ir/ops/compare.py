"""Comparisons and logic, element by element: tensors of bool, and the choice between two tensors by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops.broadcasting import unbroadcast
from graphnn.ir.ops.operands import (
    Operand,
    broadcast_type,
    operands,
    require_bool,
    require_float,
    require_number,
    require_same_dtype,
)
from graphnn.ir.types import DType, TensorType, broadcast_shapes


def _ordered_samples(op: Op) -> Iterable[Sample]:
    a = np.array([[-1.0, 0.0, 2.0], [np.nan, np.inf, -0.0]])
    yield Sample(op, (a, np.array([0.0, 0.0, 2.0])), ("N,3", "3"), smooth=False)
    yield Sample(op, (np.array(1.0), np.array([1.0, 2.0])), ("", "N"), smooth=False)
    for dtype in (np.int32, np.int64):
        yield Sample(op, (np.array([[1], [2], [3]], dtype), np.array([2, 3], dtype)), ("N,1", "M"), smooth=False)
    yield Sample(op, (np.zeros((0, 3)), np.zeros((1, 3))), ("N,3", "1,3"), smooth=False)


@dataclass(frozen=True)
class Equal(Op):
    """a == b, as bool; NaN equals nothing."""

    name = "equal"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        return (broadcast_type(a, b).of_dtype(DType.bool),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.equal(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from _ordered_samples(cls())
        yield Sample(cls(), (np.array([True, False]), np.array([True, True])), ("N", "N"), smooth=False)


@dataclass(frozen=True)
class Less(Op):
    """a < b, as bool; false for NaN."""

    name = "less"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b).of_dtype(DType.bool),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.less(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _ordered_samples(cls())


@dataclass(frozen=True)
class LessEqual(Op):
    """a <= b, as bool; false for NaN."""

    name = "less_equal"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_number(a, b)
        return (broadcast_type(a, b).of_dtype(DType.bool),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.less_equal(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _ordered_samples(cls())


@dataclass(frozen=True)
class LogicalAnd(Op):
    """Both, of bools."""

    name = "logical_and"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_bool(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.logical_and(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[True], [False]]), np.array([True, False])), ("N,1", "2"))


@dataclass(frozen=True)
class LogicalOr(Op):
    """Either or both, of bools."""

    name = "logical_or"
    fusion = Fusion.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_bool(a, b)
        return (broadcast_type(a, b),)

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.logical_or(a, b)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[True], [False]]), np.array([True, False])), ("N,1", "2"))


@dataclass(frozen=True)
class LogicalNot(Op):
    """The opposite, of bools."""

    name = "logical_not"
    fusion = Fusion.ELEMENTWISE

    def infer(self, x: TensorType) -> Types:
        require_bool(x)
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.logical_not(x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[True], [False], [True]]),), ("N,1",))
        yield Sample(cls(), (np.array(True),))


@dataclass(frozen=True)
class IsFinite(Op):
    """Neither infinite nor NaN, as bool."""

    name = "is_finite"
    fusion = Fusion.ELEMENTWISE

    def infer(self, x: TensorType) -> Types:
        require_float(x)
        return (x.of_dtype(DType.bool),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.isfinite(x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[1.0, np.nan, np.inf], [-np.inf, 0.0, -1e30]]),), ("N,3",), smooth=False)


@dataclass(frozen=True)
class Where(Op):
    """a where the condition holds, else b.

    The gradient of the branch not taken is 0 times whatever derivative stands there: keep that branch finite.
    """

    name = "where"
    fusion = Fusion.ELEMENTWISE

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> Types:
        require_bool(condition)
        require_same_dtype(a, b)
        return (TensorType(a.dtype, broadcast_shapes(condition.shape, a.shape, b.shape)),)

    def numpy(self, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(condition, a, b)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        condition, a, b = node.inputs
        return (None, unbroadcast(where(condition, dy, 0.0), a.type), unbroadcast(where(condition, 0.0, dy), b.type))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(2)
        choice = np.array([True, False, True])
        a, b = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
        yield Sample(cls(), (choice, a, b), ("3", "N,3", "N,3"))
        yield Sample(cls(), (choice[:, None], a[:1], np.array(0.5)), ("N,1", "1,3", ""))
        yield Sample(cls(), (np.array(False), np.array(1.0), np.array(2.0)))
        yield Sample(cls(), (choice, np.arange(3), np.array(7)), ("N", "N", ""), smooth=False)
        yield Sample(cls(), (choice, choice, np.array(True)), ("N", "N", ""), smooth=False)
        yield Sample(cls(), (choice, np.array([1.0, np.nan, -0.0]), np.array(np.inf)), ("N", "N", ""), smooth=False)


# ------------------------------------------------------------------------------------------------ what users call

def equal(a: Operand, b: Operand) -> Value:
    """a == b, element by element, as bool."""
    return Equal().one(*operands(a, b))


def not_equal(a: Operand, b: Operand) -> Value:
    """a != b, element by element, as bool."""
    return logical_not(equal(a, b))


def less(a: Operand, b: Operand) -> Value:
    """a < b, element by element, as bool."""
    return Less().one(*operands(a, b))


def less_equal(a: Operand, b: Operand) -> Value:
    """a <= b, element by element, as bool."""
    return LessEqual().one(*operands(a, b))


def greater(a: Operand, b: Operand) -> Value:
    """a > b, element by element, as bool."""
    return less(b, a)


def greater_equal(a: Operand, b: Operand) -> Value:
    """a >= b, element by element, as bool."""
    return less_equal(b, a)


def logical_and(a: Operand, b: Operand) -> Value:
    """a and b, element by element, of bools."""
    return LogicalAnd().one(*operands(a, b))


def logical_or(a: Operand, b: Operand) -> Value:
    """a or b, element by element, of bools."""
    return LogicalOr().one(*operands(a, b))


def logical_not(x: Operand) -> Value:
    """not x, element by element, of bools."""
    return LogicalNot().one(*operands(x))


def is_finite(x: Operand) -> Value:
    """Whether x is neither infinite nor NaN, element by element, as bool."""
    return IsFinite().one(*operands(x))


def where(condition: Operand, a: Operand, b: Operand) -> Value:
    """a where the condition holds, else b; shapes broadcast. Two numbers give f32 or i64."""
    (chosen,) = operands(condition)
    return Where().one(chosen, *operands(a, b))
