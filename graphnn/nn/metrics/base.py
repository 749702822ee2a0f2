"""Metric: what all metrics share. One of one's own is a frozen dataclass with `sums` (or `collected`) and `value`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.nn.described import DescriptionError
from graphnn.nn.layer import snake_case
from graphnn.nn.losses import Loss


@dataclass(frozen=True)
class Metric:
    """Base of metrics: a number for people to read, exact over all batches whatever their sizes.

    The graph of a step gives a few sums for each batch (`sums`), which are added up over the batches in float64; `value` makes
    the number of the totals. A metric that needs every example has `collects = True` and gives arrays (`collected`) with one
    entry an example, which are joined along their first axis for `value`. `better` says whether "max" or "min" is better.

    `name` is the column in the history, by default the class's name in lower case. `weight` has the leading axes of the
    entries, usually (N,); None is 1 everywhere. Over no weight at all a metric is NaN.
    """

    collects: ClassVar[bool] = False
    better: ClassVar[str] = "max"
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._require(self.name is None or (isinstance(self.name, str) and self.name != ""),
                      f"name is {self.name!r}; it must be a string")

    @property
    def label(self) -> str:
        """The column in the history."""
        return self.name or snake_case(type(self).__name__)

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        """What is added up over batches: values whose shapes do not depend on the batch."""
        raise NotImplementedError(f"{type(self).__name__}.sums")

    def collected(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        """What is joined over batches, where `collects`: values with one entry an example on their first axis."""
        raise NotImplementedError(f"{type(self).__name__}.collected")

    def value(self, *totals: Any) -> float:
        """The number, from the totals of `sums` or the joined arrays of `collected`."""
        raise NotImplementedError(f"{type(self).__name__}.value")

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_bool(self, name: str) -> None:
        value = getattr(self, name)
        self._require(isinstance(value, (bool, np.bool_)), f"{name} is {value!r}; it must be True or False")
        object.__setattr__(self, name, bool(value))


@dataclass(frozen=True)
class MeanMetric(Metric):
    """Base of metrics that are means over entries: one's own needs `each` alone.

    Called with values, a mean metric is its number as a value of the graph, f64, over one batch.
    """

    def each(self, prediction: Value, target: Value) -> Value:
        """The number of each entry."""
        raise NotImplementedError(f"{type(self).__name__}.each")

    def counts(self, prediction: Value, target: Value) -> Value | None:
        """Which entries count, as booleans; None for all."""
        return None

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        each = self.each(prediction, target)
        return weighted_sum(each, weights_of(each, weight, self.counts(prediction, target)))

    def value(self, *totals: Any) -> float:
        return ratio(*totals)

    def __call__(self, prediction: Value, target: Value, weight: Value | None = None) -> Value:
        total, count = self.sums(prediction, target, weight)
        return total / count


@dataclass(frozen=True)
class LossMetric(Metric):
    """The mean of a loss as a metric, with the loss's own weights. Made of a loss among the metrics.

    >>> from graphnn import nn
    >>> nn.metrics.as_metric(nn.CrossEntropy()).label
    'cross_entropy'
    """

    better: ClassVar[str] = "min"
    loss: Loss | Any

    def __post_init__(self) -> None:
        super().__post_init__()
        from graphnn.nn.losses import as_loss

        object.__setattr__(self, "loss", as_loss(self.loss))

    @property
    def label(self) -> str:
        return self.name or snake_case(type(self.loss).__name__)

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        return self.loss.terms(prediction, target, weight)

    def value(self, *totals: Any) -> float:
        return ratio(*totals)


@dataclass(frozen=True)
class FunctionMetric(Metric):
    """A user's plain function (prediction, target) -> 0-d value as a metric: the mean over examples of what it gives for their
    batches. Sample weights do not reach it. A file cannot hold it."""

    function: Callable[[Value, Value], Value]

    @property
    def label(self) -> str:
        return self.name or getattr(self.function, "__name__", type(self.function).__name__)

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        result = self.function(prediction, target)
        if not isinstance(result, Value) or result.rank != 0:
            given = result.type if isinstance(result, Value) else type(result).__name__
            raise ShapeError(f"the metric {self.label} gives {given}; a function of (prediction, target) gives one 0-d value")
        count = ir.size_of(prediction.shape[0] if prediction.rank else 1, "f64")
        return ir.cast(result, "f64") * count, count

    def value(self, *totals: Any) -> float:
        return ratio(*totals)


def ratio(total: Any, count: Any) -> float:
    """total / count; NaN when nothing counts."""
    return float(total) / float(count) if float(count) else math.nan


def weights_of(entries: Value, weight: Value | None, counts: Value | None = None) -> Value | None:
    """The weight of each entry in f64, of the shape of `entries`; None when all are 1."""
    result = None
    if weight is not None:
        if weight.shape != entries.shape[:weight.rank]:
            raise ShapeError(f"the sample weights are {weight.type}; they must have the leading axes of the entries, "
                             f"{entries.type}")
        for _ in range(entries.rank - weight.rank):
            weight = ir.expand_dims(weight, -1)
        result = ir.expand(ir.cast(weight, "f64"), entries.shape)
    if counts is not None:
        counted = ir.cast(counts, "f64")
        result = counted if result is None else result * counted
    return result


def weighted_sum(entries: Value, weights: Value | None) -> tuple[Value, Value]:
    """The sum of entries times weights and the sum of weights, both in f64."""
    entries = ir.cast(entries, "f64")
    if weights is None:
        return ir.sum(entries), ir.size_of(product(entries.shape), "f64")
    return ir.sum(entries * weights), ir.sum(weights)
