"""Tensors made of sizes alone: a size as a number, an index along an axis, and constants of any shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.attrs import Array
from graphnn.ir.dims import Size
from graphnn.ir.graph import Value
from graphnn.ir.op import Fusion, Op, Sample, Types
from graphnn.ir.ops import inputs, shaping
from graphnn.ir.ops.operands import as_axis, check_axis, check_bound_size, located, number
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype, as_shape


def check_fits(size: Size, dtype: DType) -> Size:
    """`size`, unless it is known and an element of the dtype cannot hold it: ShapeError."""
    if dtype is DType.i32 and isinstance(size, int) and size >= 1 << 31:
        raise ShapeError(f"the size {size} does not fit an i32", hint="use i64")
    return size


@dataclass(frozen=True)
class SizeOf(Op):
    """A symbolic size as a 0-d tensor: the count in a mean over the batch."""

    name = "size_of"
    fusion = Fusion.OPAQUE
    size: Size
    dtype: DType

    def infer(self) -> Types:
        if self.dtype is DType.bool:
            raise DTypeError("a size is a number, not a bool")
        check_fits(self.size, self.dtype)
        return (TensorType(self.dtype, ()),)

    def numpy(self) -> np.ndarray:
        return np.array(check_fits(check_bound_size(self.size), self.dtype), self.dtype.numpy)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for dtype in (DType.f32, DType.f64, DType.i32, DType.i64):
            yield Sample(cls(7, dtype), ())


@dataclass(frozen=True)
class Iota(Op):
    """Each element's index along an axis."""

    name = "iota"
    fusion = Fusion.OPAQUE
    shape: tuple[Size, ...]
    axis: int
    dtype: DType

    def infer(self) -> Types:
        if self.dtype is DType.bool:
            raise DTypeError("an index is a number, not a bool")
        check_axis(self.axis, len(self.shape))
        check_fits(self.shape[self.axis], self.dtype)
        return (TensorType(self.dtype, self.shape),)

    def numpy(self) -> np.ndarray:
        shape = tuple(check_bound_size(size) for size in self.shape)
        check_fits(shape[self.axis], self.dtype)
        if 0 in shape:                                   # the axis itself may be longer than memory
            return np.empty(shape, self.dtype.numpy)
        along = [1] * len(shape)
        along[self.axis] = shape[self.axis]
        return np.broadcast_to(np.arange(shape[self.axis], dtype=self.dtype.numpy).reshape(along), shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for dtype in (DType.f32, DType.f64, DType.i32, DType.i64):
            yield Sample(cls((5,), 0, dtype), ())
            yield Sample(cls((2, 3), 1, dtype), ())
        yield Sample(cls((2, 3, 4), 1, DType.i64), ())
        yield Sample(cls((0, 3), 1, DType.i64), ())
        yield Sample(cls((1,), 0, DType.i64), ())


def size_of(size: Size, dtype: DTypeLike = DType.i64) -> Value:
    """A size as a 0-d value: `size_of(x.shape[0], "f32")`."""
    target = as_dtype(dtype)
    if isinstance(size, int) and target is not DType.bool:
        return inputs.Constant(Array(np.array(size, target.numpy))).one()
    return SizeOf(size, target).one()


@located
def iota(shape: Sequence[Size | str], axis: int = -1, dtype: DTypeLike = DType.i64) -> Value:
    """Each element's index along an axis."""
    sizes = as_shape(shape)
    return Iota(sizes, as_axis(axis, len(sizes)), as_dtype(dtype)).one()


def arange(size: Size, dtype: DTypeLike = DType.i64) -> Value:
    """0, 1, ... size - 1."""
    return iota((size,), 0, dtype)


@located
def full(shape: Sequence[Size | str], value: bool | int | float, dtype: DTypeLike = DType.f32) -> Value:
    """A tensor with `value` everywhere."""
    return shaping.expand(number(value, as_dtype(dtype)), as_shape(shape))


def zeros(shape: Sequence[Size | str], dtype: DTypeLike = DType.f32) -> Value:
    """A tensor of zeros; of False for bool."""
    return full(shape, False if as_dtype(dtype) is DType.bool else 0, dtype)


def ones(shape: Sequence[Size | str], dtype: DTypeLike = DType.f32) -> Value:
    """A tensor of ones; of True for bool."""
    return full(shape, True if as_dtype(dtype) is DType.bool else 1, dtype)


def zeros_like(x: Value) -> Value:
    """Zeros of x's type."""
    return zeros(x.shape, x.dtype)


def ones_like(x: Value) -> Value:
    """Ones of x's type."""
    return ones(x.shape, x.dtype)
