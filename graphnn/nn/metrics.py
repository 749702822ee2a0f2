"""Metrics: numbers that people read, computed in the same graph as the loss. Each is a mean over examples."""

from __future__ import annotations

from collections.abc import Callable

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.described import DescriptionError

Metric = Callable[[Value, Value], Value]


def accuracy(prediction: Value, target: Value) -> Value:
    """The share of examples whose largest score is the target's class. Targets are ids, or one-hot rows."""
    if prediction.rank < 1:
        raise ShapeError(f"accuracy: the prediction {prediction.type} has no axis of classes")
    guess = ir.argmax(prediction, -1)
    truth = ir.cast(target, guess.dtype) if target.dtype.is_integer else ir.argmax(target, -1)
    return ir.mean(ir.cast(ir.equal(guess, truth), "f32"))


def mean_squared_error(prediction: Value, target: Value) -> Value:
    """The mean of (p - y)^2."""
    return ir.mean(ir.square(prediction - target))


BY_NAME: dict[str, Metric] = {"accuracy": accuracy, "mean_squared_error": mean_squared_error}


def as_metric(name: str) -> Metric:
    """The metric with this name."""
    if not isinstance(name, str) or name not in BY_NAME:
        raise DescriptionError(f"there is no metric {name!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]
