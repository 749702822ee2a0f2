"""The same elements in another shape or order: reshape, transpose, broadcasting, reversal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, dim, floordiv, product
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops.broadcasting import unbroadcast
from graphnn.ir.ops.operands import Axis, as_axes, as_axis, check_axes, check_bound_size, located
from graphnn.ir.types import TensorType, as_shape, broadcast_shapes, shape_text

N, C = dim("N"), dim("C")


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in row-major order, in another shape."""

    name = "reshape"
    fusion = Fusion.VIEW
    view_of = 0
    shape: tuple[Size, ...]

    def infer(self, x: TensorType) -> Types:
        if x.elements != product(self.shape):
            raise ShapeError(f"{x} has {x.elements} elements, [{shape_text(self.shape)}] has {product(self.shape)}",
                             hint="one size may be -1: what the others leave")
        return (x.of_shape(self.shape),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(tuple(check_bound_size(size) for size in self.shape))

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (reshape(dy, node.inputs[0].shape),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(6).normal(size=(3, 4))
        yield Sample(cls((N * 4,)), (x,), ("N,4",))
        yield Sample(cls((N, 2, 2)), (x,), ("N,4",))
        yield Sample(cls((4, N)), (x,), ("N,4",))
        yield Sample(cls((N, 1, C)), (x,), ("N,C",))
        yield Sample(cls(()), (np.array([[2.0]]),))
        yield Sample(cls((1, 1)), (np.array(2.0),))
        yield Sample(cls((4, N)), (np.zeros((0, 4)),), ("N,4",))
        yield Sample(cls((2 * N,)), (np.arange(6, dtype=np.int32).reshape(3, 2),), ("N,2",))
        yield Sample(cls((2 * N,)), (np.arange(6).reshape(3, 2),), ("N,2",))
        yield Sample(cls((3,)), (np.array([[True, False, True]]),))


@dataclass(frozen=True)
class Transpose(Op):
    """The axes in another order: axis i of the result is axis perm[i] of x."""

    name = "transpose"
    fusion = Fusion.VIEW
    perm: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        if sorted(self.perm) != list(range(x.rank)):
            raise ShapeError(f"{self.perm} does not order {x.rank} axes")
        return (x.of_shape([x.shape[axis] for axis in self.perm]),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.transpose(x, self.perm)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (transpose(dy, tuple(self.perm.index(axis) for axis in range(len(self.perm)))),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(7).normal(size=(2, 3, 5))
        for perm in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
            yield Sample(cls(perm), (x,), ("N,T,C",))
        yield Sample(cls((0, 2, 1, 3)), (np.random.default_rng(8).normal(size=(2, 3, 1, 4)),), ("N,T,1,C",))
        yield Sample(cls((1, 0)), (np.random.default_rng(9).normal(size=(33, 17)),), ("N,17",))
        yield Sample(cls(()), (np.array(1.5),))
        yield Sample(cls((1, 0)), (np.zeros((0, 3)),), ("N,3",))
        yield Sample(cls((1, 0)), (np.arange(6).reshape(2, 3),), ("N,3",))
        yield Sample(cls((1, 0)), (np.arange(6, dtype=np.int32).reshape(2, 3),), ("N,3",))
        yield Sample(cls((1, 0)), (np.array([[True, False, True]]),), ("N,3",))


@dataclass(frozen=True)
class Expand(Op):
    """x broadcast to a shape: sizes of 1 are repeated, axes are added in front."""

    name = "expand"
    fusion = Fusion.VIEW
    shape: tuple[Size, ...]

    def infer(self, x: TensorType) -> Types:
        if broadcast_shapes(x.shape, self.shape) != self.shape:
            raise ShapeError(f"{x} does not broadcast to [{shape_text(self.shape)}]")
        return (x.of_shape(self.shape),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, tuple(check_bound_size(size) for size in self.shape))

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (unbroadcast(dy, node.inputs[0].type),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(10)
        yield Sample(cls((3, 5)), (rng.normal(size=(3, 1)),))
        yield Sample(cls((N, 5)), (rng.normal(size=(3, 1)),), ("N,1",))
        yield Sample(cls((4, N)), (rng.normal(size=3),), ("N",))
        yield Sample(cls((2, N, 3, C)), (rng.normal(size=(3, 1, 4)),), ("N,1,C",))
        yield Sample(cls((3, 2)), (np.array(1.5),))
        yield Sample(cls(()), (np.array(1.5),))
        yield Sample(cls((1, N)), (rng.normal(size=3),), ("N",))
        yield Sample(cls((0, 3)), (rng.normal(size=(1, 3)),))
        yield Sample(cls((3, 2)), (np.array([1, 2]),))
        yield Sample(cls((3, 2)), (np.array([1, 2], np.int32),))
        yield Sample(cls((3, 2)), (np.array([True, False]),))


@dataclass(frozen=True)
class Flip(Op):
    """x reversed along axes."""

    name = "flip"
    fusion = Fusion.VIEW
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        check_axes(self.axes, x.rank)
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.flip(x, self.axes)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (flip(dy, self.axes),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        x = np.random.default_rng(11).normal(size=(2, 3, 5))
        for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2), ()):
            yield Sample(cls(axes), (x,), ("N,T,C",))
        yield Sample(cls((0,)), (np.zeros((0, 3)),), ("N,3",))
        yield Sample(cls((0,)), (np.arange(5),), ("N",))


# ------------------------------------------------------------------------------------------------ what users call

@located
def reshape(x: Value, shape: Sequence[Size | str]) -> Value:
    """x's elements in another shape; one size may be -1: what the others leave."""
    sizes = as_shape(shape)
    unknown = [axis for axis, size in enumerate(sizes) if size == -1]
    if len(unknown) > 1:
        raise ShapeError(f"only one size may be -1, not {len(unknown)} of [{shape_text(sizes)}]")
    if unknown:
        rest = product([size for size in sizes if size != -1])
        if rest == 0:
            raise ShapeError(f"-1 in [{shape_text(sizes)}] could be any size beside 0")
        size = floordiv(x.type.elements, rest)
        if size * rest != x.type.elements:
            raise ShapeError(f"the {x.type.elements} elements of {x.type} cannot be divided by {rest}")
        sizes = (*sizes[:unknown[0]], size, *sizes[unknown[0] + 1:])
    return x if sizes == x.shape else Reshape(sizes).one(x)


@located
def transpose(x: Value, perm: Sequence[int] | None = None) -> Value:
    """x with its axes in the order `perm`, reversed by default."""
    order = tuple(range(x.rank))[::-1] if perm is None else tuple(as_axis(axis, x.rank) for axis in perm)
    return x if order == tuple(range(x.rank)) else Transpose(order).one(x)


@located
def expand(x: Value, shape: Sequence[Size | str]) -> Value:
    """x broadcast to a shape."""
    sizes = as_shape(shape)
    return x if sizes == x.shape else Expand(sizes).one(x)


@located
def flip(x: Value, axis: Axis = None) -> Value:
    """x reversed along axes (all by default)."""
    axes = as_axes(axis, x.rank)
    return Flip(axes).one(x) if axes else x


@located
def moveaxis(x: Value, source: int, to: int) -> Value:
    """x with one axis moved elsewhere, the others in order."""
    start, end = as_axis(source, x.rank), as_axis(to, x.rank)
    perm = [axis for axis in range(x.rank) if axis != start]
    perm.insert(end, start)
    return transpose(x, perm)


@located
def swapaxes(x: Value, first: int, second: int) -> Value:
    """x with two axes exchanged."""
    a, b = as_axis(first, x.rank), as_axis(second, x.rank)
    perm = list(range(x.rank))
    perm[a], perm[b] = perm[b], perm[a]
    return transpose(x, perm)


@located
def expand_dims(x: Value, axis: int) -> Value:
    """x with an axis of size 1 put in at `axis` of the result."""
    at = as_axis(axis, x.rank + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


@located
def squeeze(x: Value, axis: Axis = None) -> Value:
    """x without the given axes of size 1, by default without all such axes."""
    axes = tuple(a for a, size in enumerate(x.shape) if size == 1) if axis is None else as_axes(axis, x.rank)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"axis {a} has size {x.shape[a]}, not 1")
    return reshape(x, [size for a, size in enumerate(x.shape) if a not in axes])


@located
def flatten(x: Value, first: int = 1) -> Value:
    """x with its axes from `first` on made one: (N, 28, 28, 1) -> (N, 784)."""
    start = as_axis(first, x.rank + 1)
    return reshape(x, (*x.shape[:start], product(x.shape[start:])))
