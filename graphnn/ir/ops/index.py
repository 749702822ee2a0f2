"""Rows by number: gather, scatter_add, one_hot. Ids are checked by an op of its own, before any state is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.dims import MAX_SIZE, Size, dim
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import sizes
from graphnn.ir.ops.operands import (
    Operand,
    as_axis,
    check_axis,
    check_bound_size,
    located,
    operands,
    require_integer,
    require_number,
    require_same_dtype,
)
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype

N, V = dim("N"), dim("V")


def check_ids(ids: np.ndarray, low: int, high: int, what: str) -> None:
    """Raise NumericsError unless low <= ids < high."""
    wrong = ids[(ids < low) | (ids >= high)]
    if wrong.size:
        raise NumericsError(f"the {what} {wrong.flat[0]} is out of range: at least {low}, below {high}")


def check_limits(*limits: Size) -> None:
    """Raise ShapeError for a limit that is known and larger than any size."""
    for limit in limits:
        if isinstance(limit, int) and abs(limit) > MAX_SIZE:
            raise ShapeError(f"ids are checked against limits up to 2**40, not {limit}")


def gathered(x: TensorType, ids: TensorType, axis: int) -> TensorType:
    """The type of x with `axis` replaced by the axes of ids."""
    require_integer(ids)
    check_axis(axis, x.rank)
    return x.of_shape((*x.shape[:axis], *ids.shape, *x.shape[axis + 1:]))


@dataclass(frozen=True)
class Gather(Op):
    """x at the positions `ids` along an axis, which the axes of ids replace. Ids lie in [0, size)."""

    name = "gather"
    fusion = Fusion.OPAQUE
    axis: int

    def infer(self, x: TensorType, ids: TensorType) -> Types:
        return (gathered(x, ids, self.axis),)

    def numpy(self, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
        check_ids(ids, 0, x.shape[self.axis], "id")
        return np.take(x, ids, self.axis)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        x, ids = node.inputs
        return ScatterAdd(self.axis).one(sizes.zeros_like(x), ids, dy), None

    def flops(self, *inputs: TensorType) -> Size:
        return 0

    def failure(self, code: int) -> str:
        return f"an id lies outside axis {self.axis}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(18)
        x = rng.normal(size=(4, 3, 2))
        for dtype in (np.int32, np.int64):
            yield Sample(cls(0), (x, np.array([3, 0, 3, 1, 3], dtype)), ("V,3,2", "N"))
            yield Sample(cls(1), (x, np.array([[2, 0], [1, 1], [0, 2]], dtype)), ("V,3,C", "N,T"))
            yield Sample(cls(2), (x, np.array(1, dtype)), ("V,T,C", ""))
        yield Sample(cls(0), (x, np.zeros((0, 2), np.int64)), ("V,3,2", "N,2"))
        yield Sample(cls(0), (np.array([1.5]), np.zeros(3, np.int64)), ("V", "N"))
        yield Sample(cls(0), (np.arange(5, dtype=np.int32), np.array([4, 4, 0])), ("V", "N"))
        yield Sample(cls(0), (np.array([True, False]), np.array([1, 0, 1])), ("V", "N"))


@dataclass(frozen=True)
class ScatterAdd(Op):
    """base with each row of `updates` added at its id along an axis; ids may repeat. Ids lie in [0, size)."""

    name = "scatter_add"
    fusion = Fusion.OPAQUE
    axis: int

    def infer(self, base: TensorType, ids: TensorType, updates: TensorType) -> Types:
        require_number(base)
        require_same_dtype(base, updates)
        expected = gathered(base, ids, self.axis)
        if updates != expected:
            raise ShapeError(f"the updates are {updates}; for these ids they must be {expected}")
        return (base,)

    def numpy(self, base: np.ndarray, ids: np.ndarray, updates: np.ndarray) -> np.ndarray:
        check_ids(ids, 0, base.shape[self.axis], "id")
        total = base.astype(np.float64 if base.dtype == np.float32 else base.dtype)
        where: Any = (slice(None),) * self.axis + (ids,)
        np.add.at(total, where, updates)
        return total.astype(base.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return dy, None, Gather(self.axis).one(dy, node.inputs[1])

    def flops(self, *inputs: TensorType) -> Size:
        return inputs[2].elements

    def failure(self, code: int) -> str:
        return f"an id lies outside axis {self.axis}"

    def in_place(self, *inputs: TensorType) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(19)
        base = rng.normal(size=(4, 3, 2))
        for dtype in (np.int32, np.int64):
            yield Sample(cls(0), (base, np.array([3, 0, 3, 1, 3], dtype), rng.normal(size=(5, 3, 2))), ("V,3,2", "N", "N,3,2"))
            ids = np.array([[2, 0], [2, 2]], dtype)
            yield Sample(cls(1), (base, ids, rng.normal(size=(4, 2, 2, 2))), ("V,3,2", "N,2", "V,N,2,2"))
            yield Sample(cls(2), (base, np.array(1, dtype), rng.normal(size=(4, 3))), ("V,T,2", "", "V,T"))
        yield Sample(cls(0), (base, np.zeros(0, np.int64), np.zeros((0, 3, 2))), ("V,3,2", "N", "N,3,2"))
        yield Sample(cls(0), (np.array([1.5]), np.zeros(3, np.int64), np.array([1.0, 2.0, 4.0])), ("V", "N", "N"))
        yield Sample(cls(0), (np.zeros(3, np.int64), np.array([2, 2]), np.array([5, 7])), ("V", "N", "N"))


@dataclass(frozen=True)
class OneHot(Op):
    """1 at each id along a new last axis of `depth`, 0 elsewhere. Ids lie in [0, depth)."""

    name = "one_hot"
    fusion = Fusion.OPAQUE
    depth: Size
    dtype: DType

    def infer(self, ids: TensorType) -> Types:
        require_integer(ids)
        return (TensorType(self.dtype, (*ids.shape, self.depth)),)

    def numpy(self, ids: np.ndarray) -> np.ndarray:
        depth = check_bound_size(self.depth)
        check_ids(ids, 0, depth, "class")
        if ids.size == 0:                                # the depth may be larger than memory
            return np.empty((*ids.shape, depth), self.dtype.numpy)
        return (ids[..., None] == np.arange(depth)).astype(self.dtype.numpy)

    def failure(self, code: int) -> str:
        return f"a class lies outside [0, {self.depth})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for dtype in DType:
            yield Sample(cls(5, dtype), (np.array([[0, 4, 2]]),), ("N,T",))
        yield Sample(cls(3, DType.f32), (np.array([2, 2], np.int32),), ("N",))
        yield Sample(cls(N, DType.f64), (np.array([2, 1, 0]),), ("N",))
        yield Sample(cls(1, DType.f32), (np.array(0),), ("",))
        yield Sample(cls(3, DType.f32), (np.zeros(0, np.int64),), ("N",))


@dataclass(frozen=True)
class FirstEqual(Op):
    """For each id the first position that has the same id: by it rows of one destination are joined. Ids lie in [0, size)."""

    name = "first_equal"
    fusion = Fusion.OPAQUE
    size: Size

    def infer(self, ids: TensorType) -> Types:
        require_integer(ids)
        check_limits(self.size)
        if ids.rank != 1:
            raise ShapeError(f"takes ids of one axis, not {ids}")
        return (ids.of_dtype(DType.i64),)

    def numpy(self, ids: np.ndarray) -> np.ndarray:
        check_ids(ids, 0, check_bound_size(self.size), "id")
        _, first, which = np.unique(ids, return_index=True, return_inverse=True)
        return first[which.reshape(-1)].astype(np.int64)

    def failure(self, code: int) -> str:
        return f"an id lies outside [0, {self.size})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for dtype in (np.int32, np.int64):
            yield Sample(cls(5), (np.array([3, 0, 3, 4, 0, 3], dtype),), ("N",))
        yield Sample(cls(N), (np.array([2, 1, 2]),), ("N",))
        yield Sample(cls(1), (np.array([0]),), ("N",))
        yield Sample(cls(3), (np.zeros(0, np.int64),), ("N",))


@dataclass(frozen=True)
class CheckIndex(Op):
    """ids themselves; NumericsError, before any state is written, when one lies outside [low, high)."""

    name = "check_index"
    fusion = Fusion.OPAQUE
    view_of = 0
    may_fail = True
    low: Size
    high: Size
    what: str

    def infer(self, ids: TensorType) -> Types:
        require_integer(ids)
        check_limits(self.low, self.high)
        return (ids,)

    def failure(self, code: int) -> str:
        article = "an" if self.what.lower().startswith(tuple("aeiou")) else "a"
        return f"{article} {self.what} lies outside [{self.low}, {self.high})"

    def numpy(self, ids: np.ndarray) -> np.ndarray:
        check_ids(ids, check_bound_size(self.low), check_bound_size(self.high), self.what)
        return ids

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for dtype in (np.int32, np.int64):
            yield Sample(cls(0, 5, "class"), (np.array([[0, 4], [2, 2], [1, 0]], dtype),), ("N,2",))
        yield Sample(cls(-2, N, "id"), (np.array([-2, 2, 0]),), ("N",))
        yield Sample(cls(0, 1, "id"), (np.array(0),), ("",))
        yield Sample(cls(0, 0, "id"), (np.zeros(0, np.int64),), ("N",))


# ------------------------------------------------------------------------------------------------ what users call

def check_index(ids: Operand, high: Size, *, low: Size = 0, what: str = "id") -> Value:
    """ids, checked to lie in [low, high) when the graph runs; `what` names them in the error."""
    return CheckIndex(low, high, what).one(*operands(ids))


@located
def gather(x: Value, ids: Operand, axis: int = 0, *, what: str = "id") -> Value:
    """x at the positions `ids` along an axis, as numpy.take; an id outside [0, size) is a NumericsError when the graph runs."""
    at = as_axis(axis, x.rank)
    (positions,) = operands(ids)
    if positions.dtype is DType.bool:
        raise DTypeError("takes ids, not a bool mask: the result's shape would depend on data",
                         hint="use where(mask, x, 0), which keeps the shape")
    return Gather(at).one(x, check_index(positions, x.shape[at], what=what))


@located
def scatter_add(base: Value, ids: Operand, updates: Value, axis: int = 0) -> Value:
    """base with each row of `updates` added at its id along an axis; an id outside [0, size) is a NumericsError."""
    at = as_axis(axis, base.rank)
    (positions,) = operands(ids)
    return ScatterAdd(at).one(base, check_index(positions, base.shape[at]), updates)


def one_hot(ids: Operand, depth: Size, dtype: DTypeLike = DType.f32) -> Value:
    """1 at each id along a new last axis of `depth`, 0 elsewhere; an id outside [0, depth) is a NumericsError."""
    return OneHot(depth, as_dtype(dtype)).one(check_index(ids, depth, what="class"))
