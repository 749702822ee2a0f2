"""Change of dtype, and the end of a gradient's way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops.operands import Operand, operands
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype


@dataclass(frozen=True)
class Cast(Op):
    """x as another dtype. Floats lose their fraction when they become integers (NaN and values out of range become
    unspecified integers); bool is "not 0". A gradient passes between floats only."""

    name = "cast"
    fusion = Fusion.ELEMENTWISE
    dtype: DType

    def infer(self, x: TensorType) -> Types:
        return (x.of_dtype(self.dtype),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x.astype(self.dtype.numpy)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        return (cast(dy, x.dtype) if x.dtype.is_float and self.dtype.is_float else None,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        floats = np.array([[-1.9, -0.0, 0.4], [1.5, 2.5, 300.7]])
        for dtype in DType:
            yield Sample(cls(dtype), (floats,), ("N,3",), smooth=dtype is DType.f64)
            yield Sample(cls(dtype), (np.array([3, 0, -7], np.int32),), ("N",), smooth=False)
            yield Sample(cls(dtype), (np.array([2**24 + 1, 0, -7], np.int64),), ("N",), smooth=False)
            yield Sample(cls(dtype), (np.array([True, False]),), ("N",), smooth=False)
        yield Sample(cls(DType.f32), (np.array([np.inf, np.nan, 1e300]),), ("N",), smooth=False)


@dataclass(frozen=True)
class StopGradient(Op):
    """x, which no gradient passes."""

    name = "stop_gradient"
    fusion = Fusion.ELEMENTWISE
    view_of = 0

    def infer(self, x: TensorType) -> Types:
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[1.0, -2.0, 3.0]]),), ("N,3",), smooth=False)
        yield Sample(cls(), (np.array([1, 2]),), ("N",), smooth=False)


def cast(x: Operand, dtype: DTypeLike) -> Value:
    """x as another dtype: `cast(mask, "f32")`; x itself when it has that dtype."""
    (value,) = operands(x)
    target = as_dtype(dtype)
    return value if value.dtype is target else Cast(target).one(value)


def stop_gradient(x: Operand) -> Value:
    """x, treated as a constant by gradients."""
    return StopGradient().one(*operands(x))
