"""Softmax and its logarithm along one axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.ir.dims import Size
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import functions, reduce
from graphnn.ir.ops.operands import as_axis, check_axis, located, require_float
from graphnn.ir.types import TensorType


def _shifted(x: np.ndarray, axis: int) -> np.ndarray:
    # The max is subtracted first so that exp cannot overflow; it cancels in the ratio.
    wide = x.astype(np.float64)
    return wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)


def _samples(kind: type[Softmax] | type[LogSoftmax]) -> Iterable[Sample]:
    x = np.random.default_rng(20).normal(size=(2, 3, 5))
    for axis in range(3):
        yield Sample(kind(axis), (x,), ("N,T,C",))
    yield Sample(kind(0), (np.array([1.0, 2.0, -3.0]),), ("N",))
    yield Sample(kind(1), (np.array([[1.0], [2.0]]),), ("N,1",))
    yield Sample(kind(1), (np.array([[1000.0, 999.0, 0.0], [-1000.0, -1000.0, -1000.0]]),), ("N,3",))
    rows = np.array([[-np.inf, 0.0, 1.0], [-np.inf, -np.inf, -np.inf], [np.nan, 0.0, 1.0]])
    yield Sample(kind(1), (rows,), ("N,3",), smooth=False)
    yield Sample(kind(1), (np.zeros((0, 3)),), ("N,3",))
    yield Sample(kind(1), (np.random.default_rng(21).normal(size=(3, 67)) * 5,), ("N,C",))


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x) / sum(exp(x)) along an axis, without overflow; NaN where all are -inf."""

    name = "softmax"
    fusion = Fusion.OPAQUE
    axis: int

    def infer(self, x: TensorType) -> Types:
        require_float(x)
        check_axis(self.axis, x.rank)
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        e = np.exp(_shifted(x, self.axis))
        return (e / np.sum(e, axis=self.axis, keepdims=True)).astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        y = node.output
        weighted = dy * y
        return (weighted - y * reduce.sum(weighted, self.axis, keepdims=True),)

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        (x,) = inputs
        if x.shape[self.axis] == 0:
            return None
        e = functions.exp(x - reduce.max(x, self.axis, keepdims=True))
        return (e / reduce.sum(e, self.axis, keepdims=True),)

    def flops(self, *inputs: TensorType) -> Size:
        return 5 * inputs[0].elements

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _samples(cls)


@dataclass(frozen=True)
class LogSoftmax(Op):
    """x - log(sum(exp(x))) along an axis, without overflow; NaN where all are -inf."""

    name = "log_softmax"
    fusion = Fusion.OPAQUE
    axis: int

    def infer(self, x: TensorType) -> Types:
        require_float(x)
        check_axis(self.axis, x.rank)
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        shifted = _shifted(x, self.axis)
        return (shifted - np.log(np.sum(np.exp(shifted), axis=self.axis, keepdims=True))).astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (dy - functions.exp(node.output) * reduce.sum(dy, self.axis, keepdims=True),)

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        (x,) = inputs
        if x.shape[self.axis] == 0:
            return None
        shifted = x - reduce.max(x, self.axis, keepdims=True)
        return (shifted - functions.log(reduce.sum(functions.exp(shifted), self.axis, keepdims=True)),)

    def flops(self, *inputs: TensorType) -> Size:
        return 5 * inputs[0].elements

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _samples(cls)


@located
def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along an axis (the last by default)."""
    return Softmax(as_axis(axis, x.rank)).one(x)


@located
def log_softmax(x: Value, axis: int = -1) -> Value:
    """x - log(sum(exp(x))) along an axis (the last by default)."""
    return LogSoftmax(as_axis(axis, x.rank)).one(x)
