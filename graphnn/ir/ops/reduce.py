"""Folding axes: sum, max, min, prod, logsumexp, argmax, and the means written in them.

An axis is an integer (negative counts from the back), several, or None for all. Sums keep their dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import Size, product
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import casting, compare, functions, shaping, sizes
from graphnn.ir.ops.operands import (
    Axis,
    as_axes,
    as_axis,
    check_axes,
    check_axis,
    located,
    require_float,
    require_number,
)
from graphnn.ir.types import DType, TensorType


def reduced_shape(shape: tuple[Size, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[Size, ...]:
    """The shape after folding `axes`."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def with_axes(y: Value, x: TensorType, axes: tuple[int, ...]) -> Value:
    """A result of folding `axes` of x, shaped so that it broadcasts against x."""
    if y.rank == x.rank or axes == tuple(range(len(axes))):      # leading axes come back by broadcasting
        return y
    return shaping.reshape(y, reduced_shape(x.shape, axes, True))


def _refuse_empty(shape: tuple[Size, ...], axes: tuple[int, ...]) -> None:
    for axis in axes:
        if shape[axis] == 0:
            raise ShapeError(f"axis {axis} of size 0 has no largest or smallest element", hint="fold axes of one element or more")


REDUCTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...] = (
    ((3, 5), (1,), "N,C"),
    ((3, 5), (0,), "N,C"),
    ((2, 3, 4), (0, 2), "N,3,C"),
    ((2, 3, 4), (1,), "N,T,C"),
    ((2, 3, 4), (0, 1, 2), "N,3,4"),
    ((1, 1), (0,), "1,N"),
    ((7,), (0,), "N"),
    ((37, 3), (0,), "N,3"),
    ((0, 3), (1,), "N,3"),
)


@dataclass(frozen=True)
class Reduction(Op):
    """Fields and type rule of ops that fold axes of numbers to one of the same dtype."""

    fusion = Fusion.REDUCE
    axes: tuple[int, ...]
    keepdims: bool

    def infer(self, x: TensorType) -> Types:
        require_number(x)
        check_axes(self.axes, x.rank)
        return (x.of_shape(reduced_shape(x.shape, self.axes, self.keepdims)),)

    def flops(self, *inputs: TensorType) -> Size:
        return inputs[0].elements

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(4)
        for shape, axes, symbolic in REDUCTIONS:
            count = math.prod(shape)                # spread out, so that finite differences meet no tie
            x = rng.permutation(np.linspace(-1.5, 1.5, count)).reshape(shape)
            yield Sample(cls(axes, False), (x,), (symbolic,))
            yield Sample(cls(axes, True), (x,), (symbolic,))
        yield Sample(cls((), False), (rng.normal(size=(2, 3)),), ("N,3",))
        yield Sample(cls((), False), (np.array(1.5),))
        yield Sample(cls((0,), False), (np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, 3.0]]),), ("N,2",), smooth=False)

    @classmethod
    def integer_samples(cls) -> Iterable[Sample]:
        for dtype in (np.int32, np.int64):
            yield Sample(cls((0,), False), (np.array([[3, -4, 5], [-2, 7, 5]], dtype),), ("N,3",), smooth=False)
            yield Sample(cls((0, 1), True), (np.array([[3, -4, 5], [-2, 7, 5]], dtype),), ("N,C",), smooth=False)


@dataclass(frozen=True)
class Sum(Reduction):
    """The sum over axes; 0 over none."""

    name = "sum"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        wide = np.float64 if x.dtype == np.float32 else x.dtype
        return np.asarray(np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=wide)).astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        x = node.inputs[0].type
        return (shaping.expand(with_axes(dy, x, self.axes), x.shape),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from super().samples()
        yield from cls.integer_samples()
        yield Sample(cls((0,), False), (np.zeros((0, 3)),), ("N,3",))


@dataclass(frozen=True)
class Prod(Reduction):
    """The product over axes; 1 over none. The gradient is exact at zeros, to any order; it takes size**2 work along the axes."""

    name = "prod"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        wide = np.float64 if x.dtype == np.float32 else x.dtype
        return np.asarray(np.prod(x, axis=self.axes, keepdims=self.keepdims, dtype=wide)).astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        if not self.axes:
            return (dy,)
        # dx[i] = dy * prod of all x but x[i]: the product of each row of a square that has x in it and 1 on its diagonal.
        kept = tuple(axis for axis in range(x.rank) if axis not in self.axes)
        perm = kept + self.axes
        kept_shape = tuple(x.shape[axis] for axis in kept)
        length = product([x.shape[axis] for axis in self.axes])
        rows = shaping.reshape(shaping.transpose(x, perm), (*kept_shape, 1, length))
        diagonal = compare.equal(sizes.iota((length, length), 0), sizes.iota((length, length), 1))
        others = prod(compare.where(diagonal, 1.0, rows), -1)                       # (..., length)
        d = others * shaping.reshape(dy, (*kept_shape, 1))
        moved = shaping.reshape(d, (*kept_shape, *(x.shape[axis] for axis in self.axes)))
        return (shaping.transpose(moved, tuple(perm.index(axis) for axis in range(x.rank))),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from super().samples()
        yield from cls.integer_samples()
        yield Sample(cls((1,), False), (np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, -1.0]]),), ("N,3",))
        yield Sample(cls((0,), False), (np.zeros((0, 3)),), ("N,3",))


@dataclass(frozen=True)
class Extremum(Reduction):
    """Gradient of max and min: elements that tie share it equally (as in PyTorch's amax)."""

    def infer(self, x: TensorType) -> Types:
        types = super().infer(x)
        _refuse_empty(x.shape, self.axes)
        return types

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        ties = compare.equal(x, with_axes(node.output, x.type, self.axes))
        count = sum(casting.cast(ties, x.dtype), self.axes, keepdims=True)
        share = with_axes(dy, x.type, self.axes) / count
        return (compare.where(ties, share, 0.0),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from super().samples()
        yield from cls.integer_samples()
        ties = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [-1.0, -1.0, -3.0]])
        yield Sample(cls((1,), False), (ties,), ("N,3",), smooth=False)


@dataclass(frozen=True)
class Max(Extremum):
    """The largest over axes; NaN when one is."""

    name = "max"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        _refuse_empty(x.shape, self.axes)
        return np.max(x, axis=self.axes, keepdims=self.keepdims)


@dataclass(frozen=True)
class Min(Extremum):
    """The smallest over axes; NaN when one is."""

    name = "min"

    def numpy(self, x: np.ndarray) -> np.ndarray:
        _refuse_empty(x.shape, self.axes)
        return np.min(x, axis=self.axes, keepdims=self.keepdims)


@dataclass(frozen=True)
class LogSumExp(Reduction):
    """log(sum(exp(x))) over axes, without overflow; -inf over none and where all are -inf (there the gradient is 0)."""

    name = "logsumexp"

    def infer(self, x: TensorType) -> Types:
        require_float(x)
        return super().infer(x)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        x64 = x.astype(np.float64)
        largest = np.max(x64, axis=self.axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(largest), largest, 0.0)
        y = np.log(np.sum(np.exp(x64 - shift), axis=self.axes, keepdims=True)) + shift
        return y.reshape(reduced_shape(x.shape, self.axes, self.keepdims)).astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        x, y = node.inputs[0], node.output
        shift = compare.where(compare.is_finite(y), y, 0.0)          # x - y is NaN where both are -inf
        share = functions.exp(x - with_axes(shift, x.type, self.axes))
        return (with_axes(dy, x.type, self.axes) * share,)

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        (x,) = inputs
        if any(x.shape[axis] == 0 for axis in self.axes):
            return None
        largest = Max(self.axes, True).one(x)
        shift = compare.where(compare.is_finite(largest), largest, 0.0)
        y = functions.log(sum(functions.exp(x - shift), self.axes, keepdims=True)) + shift
        return (y if self.keepdims else shaping.reshape(y, reduced_shape(x.shape, self.axes, False)),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield from super().samples()
        rows = np.array([[-np.inf, -np.inf, -np.inf], [-np.inf, 0.0, 1.0], [np.inf, 0.0, 1.0], [1e4, 1e4, -1e4]])
        yield Sample(cls((1,), True), (rows,), ("N,3",), smooth=False)
        yield Sample(cls((1,), False), (np.array([[1000.0, 999.0], [-1000.0, -1000.5]]),), ("N,2",))


@dataclass(frozen=True)
class ArgMax(Op):
    """The index of the first maximum along an axis, as i64; NaN counts as the maximum."""

    name = "argmax"
    fusion = Fusion.OPAQUE
    axis: int
    keepdims: bool

    def infer(self, x: TensorType) -> Types:
        require_number(x)
        check_axis(self.axis, x.rank)
        _refuse_empty(x.shape, (self.axis,))
        return (TensorType(DType.i64, reduced_shape(x.shape, (self.axis,), self.keepdims)),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        _refuse_empty(x.shape, (self.axis,))
        return np.asarray(np.argmax(x, axis=self.axis, keepdims=self.keepdims)).astype(np.int64)

    def flops(self, *inputs: TensorType) -> Size:
        return inputs[0].elements

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(5).normal(size=(2, 3, 5))
        for axis in range(3):
            yield Sample(cls(axis, False), (x,), ("N,T,C",), smooth=False)
            yield Sample(cls(axis, True), (x,), ("N,T,C",), smooth=False)
        rows = np.array([[1.0, 3.0, 3.0], [np.nan, 9.0, np.nan], [-np.inf, -np.inf, -np.inf]])
        yield Sample(cls(1, False), (rows,), ("N,3",), smooth=False)
        yield Sample(cls(0, False), (np.array([4]),), ("N",), smooth=False)
        yield Sample(cls(0, False), (np.array([4, 9, 9, -2], np.int32),), ("N",), smooth=False)
        yield Sample(cls(1, False), (np.zeros((0, 3)),), ("N,3",), smooth=False)


# ------------------------------------------------------------------------------------------------ what users call

@located
def sum(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The sum over axes (all by default), in x's dtype."""
    axes = as_axes(axis, x.rank)
    return Sum(axes, keepdims).one(x) if axes else x


@located
def prod(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The product over axes (all by default)."""
    axes = as_axes(axis, x.rank)
    return Prod(axes, keepdims).one(x) if axes else x


@located
def max(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The largest over axes (all by default). Elements that tie share the gradient equally."""
    axes = as_axes(axis, x.rank)
    return Max(axes, keepdims).one(x) if axes else x


@located
def min(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The smallest over axes (all by default). Elements that tie share the gradient equally."""
    axes = as_axes(axis, x.rank)
    return Min(axes, keepdims).one(x) if axes else x


@located
def logsumexp(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) over axes (all by default), without overflow."""
    axes = as_axes(axis, x.rank)
    return LogSumExp(axes, keepdims).one(x) if axes else x


@located
def argmax(x: Value, axis: int = -1, keepdims: bool = False) -> Value:
    """The index of the first maximum along an axis (the last by default), as i64."""
    return ArgMax(as_axis(axis, x.rank), keepdims).one(x)


@located
def argmin(x: Value, axis: int = -1, keepdims: bool = False) -> Value:
    """The index of the first minimum along an axis (the last by default), as i64."""
    return ArgMax(as_axis(axis, x.rank), keepdims).one(functions.neg(x))


@located
def mean(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The mean over axes (all by default), of floats."""
    return _mean(x, as_axes(axis, x.rank), keepdims, 0)


@located
def variance(x: Value, axis: Axis = None, keepdims: bool = False, *, ddof: int = 0) -> Value:
    """The mean square distance from the mean over axes (all by default); divides by the count less `ddof`."""
    axes = as_axes(axis, x.rank)
    centred = x - _mean(x, axes, True, 0)
    return _mean(centred * centred, axes, keepdims, ddof)


@located
def norm(x: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """The Euclidean length over axes (all by default); its gradient at 0 is 0."""
    squared = sum(x * x, axis, keepdims)
    zero = compare.equal(squared, 0.0)
    return compare.where(zero, 0.0, functions.sqrt(compare.where(zero, 1.0, squared)))


def _mean(x: Value, axes: tuple[int, ...], keepdims: bool, ddof: int) -> Value:
    if not x.dtype.is_float:
        raise DTypeError(f"takes f32 or f64, not {x.dtype}", hint='use cast(x, "f32")')
    count = product([x.shape[axis] for axis in axes]) - ddof
    total = Sum(axes, keepdims).one(x) if axes else x
    if isinstance(count, int):
        return total / (float(count) if count >= 0 else math.nan)
    return total / sizes.size_of(count, x.dtype)
