"""Parts of tensors, and tensors put together: slice, pad, concat, split."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, ceildiv, dim, floordiv
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import shaping, sizes
from graphnn.ir.ops.operands import as_axis, check_axis, check_bound_size, located, number, require_same_dtype
from graphnn.ir.types import DType, TensorType

N = dim("N")


@dataclass(frozen=True)
class Slice(Op):
    """x[start:stop:step] along every axis; 0 <= start <= stop <= size, step >= 1. `flip` does reversal."""

    name = "slice"
    fusion = Fusion.VIEW
    starts: tuple[Size, ...]
    stops: tuple[Size, ...]
    steps: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        if not len(self.starts) == len(self.stops) == len(self.steps) == x.rank:
            raise ShapeError(f"a slice of {x} has {x.rank} starts, stops and steps")
        shape: list[Size] = []
        for axis, (size, start, stop, step) in enumerate(zip(x.shape, self.starts, self.stops, self.steps, strict=True)):
            if step < 1:
                raise ShapeError(f"the step {step} is not positive", hint="use flip to reverse an axis")
            if isinstance(start, int) and start < 0:
                raise ShapeError(f"the start {start} of axis {axis} is negative")
            for low, high in ((start, stop), (stop, size)):
                gap = high - low
                if isinstance(gap, int) and gap < 0:
                    raise ShapeError(f"[{start}:{stop}] does not lie within axis {axis} of size {size}")
            shape.append(ceildiv(stop - start, step))
        return (x.of_shape(shape),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        self.infer(TensorType.of(x))             # bounds of symbolic axes are known only now
        return x[tuple(slice(*part) for part in zip(self.starts, self.stops, self.steps, strict=True))]

    def grad(self, node: Node, dy: Value) -> Cotangents:
        x = node.inputs[0].type
        rest = tuple(size - stop for size, stop in zip(x.shape, self.stops, strict=True))
        if all(step == 1 for step in self.steps):
            return (pad(dy, tuple(zip(self.starts, rest, strict=True))),)
        # Zeros between the elements: each gets step - 1 of them behind it, on an axis of its own.
        apart = shaping.reshape(dy, [s for size in dy.shape for s in (size, 1)])
        apart = pad(apart, [p for step in self.steps for p in ((0, 0), (0, step - 1))])
        spread = shaping.reshape(apart, [size * step for size, step in zip(dy.shape, self.steps, strict=True)])
        # The last element's zeros may reach up to step - 1 beyond the axis.
        wide = pad(spread, tuple(zip(self.starts, rest, strict=True)))
        return (Slice((0,) * x.rank, x.shape, (1,) * x.rank).one(wide),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(13).normal(size=(5, 4, 3))
        yield Sample(cls((1, 0, 1), (N, 4, 2), (1, 1, 1)), (x,), ("N,4,3",))
        yield Sample(cls((0, 1, 0), (N - 1, 4, 3), (2, 2, 1)), (x,), ("N,4,3",))
        yield Sample(cls((N - 3, 0, 0), (N, 3, 3), (1, 3, 2)), (x,), ("N,4,3",))
        yield Sample(cls((0, 0, 0), (N, 4, 3), (3, 1, 2)), (x,), ("N,4,3",))
        yield Sample(cls((2, 1, 0), (2, 4, 3), (1, 1, 1)), (x,), ("N,4,3",))
        yield Sample(cls((), (), ()), (np.array(1.5),))
        yield Sample(cls((0,), (N,), (2,)), (np.zeros(0),), ("N",))
        yield Sample(cls((1,), (4,), (2,)), (np.arange(5),))
        yield Sample(cls((1,), (4,), (2,)), (np.arange(5, dtype=np.int32),))
        yield Sample(cls((1,), (4,), (2,)), (np.array([True, False, True, True, False]),))


@dataclass(frozen=True)
class Pad(Op):
    """x with `value` put before (`low`) and after (`high`) it along each axis."""

    name = "pad"
    fusion = Fusion.OPAQUE
    low: tuple[Size, ...]
    high: tuple[Size, ...]
    value: bool | int | float = 0.0

    def infer(self, x: TensorType) -> Types:
        if not len(self.low) == len(self.high) == x.rank:
            raise ShapeError(f"padding of {x} has {x.rank} sizes before and {x.rank} after")
        for size in (*self.low, *self.high):
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"cannot pad by {size}", hint="use a slice to remove elements")
        number(self.value if x.dtype.is_float or x.dtype is DType.bool else operator.index(self.value)
               if isinstance(self.value, int) else self.value, x.dtype)
        return (x.of_shape([low + size + high for low, size, high in zip(self.low, x.shape, self.high, strict=True)]),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        low, high = (tuple(check_bound_size(size) for size in side) for side in (self.low, self.high))
        y = np.full([a + size + b for a, size, b in zip(low, x.shape, high, strict=True)], self.value, x.dtype)
        y[tuple(slice(a, a + size) for a, size in zip(low, x.shape, strict=True))] = x
        return y

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        stops = tuple(low + size for low, size in zip(self.low, x.shape, strict=True))
        return (Slice(self.low, stops, (1,) * x.rank).one(dy),)

    def flops(self, *inputs: TensorType) -> Size:
        return 0

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(14).normal(size=(2, 3))
        yield Sample(cls((1, 0), (0, 2)), (x,), ("N,3",))
        yield Sample(cls((0, 0), (0, 0), 1.5), (x,), ("N,3",))
        yield Sample(cls((2, 1), (1, 3), -np.inf), (x,), ("N,C",), smooth=False)
        yield Sample(cls((N, 0), (0, N), 2.0), (x,), ("N,3",))
        yield Sample(cls((1,), (2,)), (np.zeros(0),), ("N",))
        yield Sample(cls((), ()), (np.array(1.5),))
        yield Sample(cls((1,), (2,), -7), (np.array([1, 2, 3]),), ("N",))
        yield Sample(cls((1,), (2,), -7), (np.array([1, 2, 3], np.int32),), ("N",))
        yield Sample(cls((1,), (0,), True), (np.array([False, False]),), ("N",))


@dataclass(frozen=True)
class Concat(Op):
    """Tensors joined along an axis."""

    name = "concat"
    fusion = Fusion.OPAQUE
    axis: int

    def infer(self, *parts: TensorType) -> Types:
        if not parts:
            raise ShapeError("takes one tensor or more")
        require_same_dtype(*parts)
        first = parts[0]
        check_axis(self.axis, first.rank)
        total: Size = 0
        for part in parts:
            beside = (part.shape[:self.axis], part.shape[self.axis + 1:])
            if part.rank != first.rank or beside != (first.shape[:self.axis], first.shape[self.axis + 1:]):
                raise ShapeError(f"{part} and {first} differ beside axis {self.axis}")
            total = total + part.shape[self.axis]
        return (first.of_shape((*first.shape[:self.axis], total, *first.shape[self.axis + 1:])),)

    def numpy(self, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts, self.axis)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return split(dy, [part.shape[self.axis] for part in node.inputs], self.axis)

    def flops(self, *inputs: TensorType) -> Size:
        return 0

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(15)
        a, b, c = rng.normal(size=(2, 3)), rng.normal(size=(1, 3)), rng.normal(size=(4, 3))
        yield Sample(cls(0), (a, b, c), ("N,3", "1,3", "M,3"))
        yield Sample(cls(1), (a, a[:, :1]), ("N,3", "N,1"))
        yield Sample(cls(0), (a,), ("N,C",))
        yield Sample(cls(0), (a, np.zeros((0, 3))), ("N,3", "M,3"))
        yield Sample(cls(2), (rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 2))), ("N,T,5", "N,T,2"))
        yield Sample(cls(1), (rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 1, 5))), ("N,T,C", "N,1,C"))
        yield Sample(cls(0), (np.arange(3), np.arange(2)), ("N", "M"))
        yield Sample(cls(0), (np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32)), ("N", "M"))
        yield Sample(cls(0), (np.array([True]), np.array([False, True])), ("N", "M"))


@dataclass(frozen=True)
class Split(Op):
    """x cut along an axis into parts of the given sizes."""

    name = "split"
    fusion = Fusion.VIEW
    axis: int
    sizes: tuple[Size, ...]

    def infer(self, x: TensorType) -> Types:
        check_axis(self.axis, x.rank)
        total: Size = 0
        for size in self.sizes:
            total = total + size
        if not self.sizes or total != x.shape[self.axis]:
            raise ShapeError(f"the parts {', '.join(map(str, self.sizes)) or 'none'} do not make up axis {self.axis} of {x}")
        return tuple(x.of_shape((*x.shape[:self.axis], size, *x.shape[self.axis + 1:])) for size in self.sizes)

    def numpy(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        cuts = np.cumsum([check_bound_size(size) for size in self.sizes])[:-1]
        return tuple(np.split(x, cuts, self.axis))

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        parts = [d if d is not None else sizes.zeros_like(y) for d, y in zip(d_outputs, node.outputs, strict=True)]
        return (concat(parts, self.axis),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(16).normal(size=(3, 5))
        yield Sample(cls(1, (2, 1, 2)), (x,), ("N,5",))
        yield Sample(cls(0, (1, N - 1)), (x,), ("N,5",))
        yield Sample(cls(1, (5,)), (x,), ("N,5",))
        yield Sample(cls(1, (0, 5)), (x,), ("N,5",))
        yield Sample(cls(2, (1, 2)), (np.random.default_rng(17).normal(size=(2, 4, 3)),), ("N,T,3",))
        yield Sample(cls(0, (1, 2)), (np.arange(3),))
        yield Sample(cls(0, (1, 2)), (np.arange(3, dtype=np.int32),))
        yield Sample(cls(0, (1, 2)), (np.array([True, False, True]),))


# ------------------------------------------------------------------------------------------------ what users call

@located
def pad(x: Value, widths: Sequence[tuple[Size, Size]], value: bool | int | float | None = None) -> Value:
    """x with (before, after) elements of `value` (0 by default) put around each axis: `pad(x, [(0, 0), (1, 1)])`."""
    if len(widths) != x.rank:
        raise ShapeError(f"padding of {x.type} has {x.rank} pairs of sizes, not {len(widths)}")
    if all(low == 0 and high == 0 for low, high in widths):
        return x
    if value is None:
        value = False if x.dtype is DType.bool else 0
    if x.dtype.is_float and not isinstance(value, bool):
        value = float(value)
    return Pad(tuple(low for low, _ in widths), tuple(high for _, high in widths), value).one(x)


@located
def concat(parts: Sequence[Value], axis: int = 0) -> Value:
    """Tensors joined along an axis."""
    if not parts:
        raise ShapeError("takes one tensor or more")
    return parts[0] if len(parts) == 1 else Concat(as_axis(axis, parts[0].rank)).one(*parts)


@located
def stack(parts: Sequence[Value], axis: int = 0) -> Value:
    """Tensors of one shape joined along a new axis."""
    return concat([shaping.expand_dims(part, axis) for part in parts], axis)


@located
def split(x: Value, parts: int | Sequence[Size], axis: int = 0) -> tuple[Value, ...]:
    """x cut along an axis: into a number of equal parts, or into parts of given sizes."""
    at = as_axis(axis, x.rank)
    if isinstance(parts, int):
        if parts < 1:
            raise ShapeError(f"cannot cut into {parts} parts")
        each = floordiv(x.shape[at], parts)
        if each * parts != x.shape[at]:
            raise ShapeError(f"axis {at} of {x.type} cannot be cut into {parts} equal parts")
        parts = (each,) * parts
    if len(parts) == 1 and parts[0] == x.shape[at]:
        return (x,)
    made = Split(at, tuple(parts))(x)
    return made if isinstance(made, tuple) else (made,)
