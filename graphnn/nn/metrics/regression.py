"""Metrics of real numbers. Prediction and target have one shape; a last axis of one may be left out of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.metrics.base import MeanMetric, Metric, weights_of


@dataclass(frozen=True)
class MeanSquaredError(MeanMetric):
    """The mean of (p - y)^2 over all elements.

    >>> from graphnn import nn
    >>> nn.metrics.MeanSquaredError().value(12.0, 4)                    # the sum of squares, the number of elements
    3.0
    """

    better: ClassVar[str] = "min"

    @property
    def label(self) -> str:
        return self.name or "mean_squared_error"

    def each(self, prediction: Value, target: Value) -> Value:
        return ir.square(difference(self.label, prediction, target))


@dataclass(frozen=True)
class MeanAbsoluteError(MeanMetric):
    """The mean of |p - y| over all elements.

    >>> from graphnn import nn
    >>> nn.metrics.MeanAbsoluteError().label
    'mean_absolute_error'
    """

    better: ClassVar[str] = "min"

    @property
    def label(self) -> str:
        return self.name or "mean_absolute_error"

    def each(self, prediction: Value, target: Value) -> Value:
        return ir.abs(difference(self.label, prediction, target))


@dataclass(frozen=True)
class R2(Metric):
    """1 - sum (y - p)^2 / sum (y - mean y)^2, the share of the target's variance that is explained; the mean over the outputs,
    which are on the last axis.

    Where all targets are equal it is 1 if each is met exactly, else 0 (as in scikit-learn). The sums are in float64; targets
    whose mean is more than a million times their deviation lose digits.

    >>> from graphnn import nn
    >>> nn.R2().value([1.0], [0.0], [4.0], [4])                         # sums of (y - p)^2, y, y^2, 1
    0.75
    """

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        error = ir.square(difference(self.label, prediction, target))
        y = ir.cast(matched(self.label, prediction, target), "f64")
        if prediction.rank == 1:
            error, y = ir.expand_dims(error, -1), ir.expand_dims(y, -1)
        weights = weights_of(y, weight)
        if weights is None:
            weights = ir.ones(y.shape, dtype="f64")
        axes = tuple(range(y.rank - 1))
        return tuple(ir.sum(v, axes) for v in (error * weights, y * weights, y * y * weights, weights))

    def value(self, *totals: Any) -> float:
        error, y, square, weight = (np.asarray(total, np.float64) for total in totals)
        if not weight.all():
            return float("nan")
        spread = np.maximum(square - y * y / weight, 0.0)
        # What float64 cannot tell from no spread at all: the rounding of the two sums of squares.
        equal = spread <= 8 * np.finfo(np.float64).eps * square
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.where(equal, np.where(error == 0, 1.0, 0.0), 1.0 - error / spread).mean())


def matched(what: str, prediction: Value, target: Value) -> Value:
    """The target in the shape of the prediction."""
    if target.dtype is not prediction.dtype:
        raise DTypeError(f"{what}: the prediction is {prediction.type}, the target {target.type}; they must be of one dtype")
    if target.shape == prediction.shape[:-1] and prediction.rank and prediction.shape[-1] == 1:
        target = ir.expand_dims(target, -1)
    if target.shape != prediction.shape or not prediction.rank:
        raise ShapeError(f"{what}: the prediction {prediction.type} and the target {target.type} differ")
    return target


def difference(what: str, prediction: Value, target: Value) -> Value:
    """prediction - target in f64."""
    return ir.cast(prediction, "f64") - ir.cast(matched(what, prediction, target), "f64")
