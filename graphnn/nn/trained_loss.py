"""Losses as training takes them: of prediction and target, users' functions too; and what each example counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import Dim
from graphnn.ir.graph import Value
from graphnn.ir.types import DType, TensorType
from graphnn.nn.described import DescriptionError
from graphnn.nn.layer import Layer
from graphnn.nn.losses import Loss, as_loss

_AS_VALUE = 'call it on the values that it needs, and give the result to the model: Model(x, y, losses={"name": value})'


@dataclass(frozen=True)
class FunctionLoss(Loss):
    """A user's function (prediction, target) -> value as a loss. The value is the loss of each entry, of which the mean is taken;
    or one number, which sample weights cannot reach. Targets are ids or real numbers, as for CrossEntropy."""

    function: Callable[..., Any] = field(kw_only=True)

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        ids = integer and prediction.rank and prediction.shape[-1] != 1
        return TensorType(DType.i64, prediction.shape[:-1]) if ids else prediction

    def each(self, prediction: Value, target: Value) -> Value:
        value = self.function(prediction, target)
        if not isinstance(value, Value):
            raise DescriptionError(f"the loss {self.function!r} gives a {type(value).__name__}, not a symbolic value")
        return value

    def __call__(self, prediction: Value, target: Value, sample_weight: Value | None = None) -> Value:
        if sample_weight is not None and self.each(prediction, target).rank == 0:
            raise ShapeError(f"the loss {self.function!r} is one number for the batch: sample weights cannot reach it",
                             hint="give the loss of each example")
        return super().__call__(prediction, target, sample_weight)


def trained_loss(spec: Any) -> Loss:
    """The loss of (prediction, target) that is meant."""
    if isinstance(spec, Layer) or (not isinstance(spec, (Loss, type)) and callable(spec)):
        if isinstance(spec, Layer) or not _takes_two(spec):
            name = getattr(spec, "__name__", type(spec).__name__)
            raise DescriptionError(f"{name} is no loss of (prediction, target)", hint=_AS_VALUE)
        return FunctionLoss(function=spec)
    loss = as_loss(spec)  # pyright: ignore[reportArgumentType]  (a class is refused there)
    if type(loss).target_type is Loss.target_type:
        raise DescriptionError(f"{type(loss).__name__} is no loss of (prediction, target)", hint=_AS_VALUE)
    if loss.reduction == "none":
        raise DescriptionError(f"training needs a loss that is one number; {type(loss).__name__} has reduction='none'")
    return loss


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:                                   # written in C, without a signature
        return True
    return True


def by_class(given: Value | None, classes: tuple[float, ...] | None, prediction: Value, target: Value) -> Value | None:
    """The weight of each example (and place): its sample weight times the weight of its class."""
    if classes is None:
        return given
    table = np.array(classes)
    if target.dtype.is_integer and target.rank < prediction.rank:
        picked = ir.equal(ir.arange(len(classes), target.dtype), ir.expand_dims(target, -1))
        weight = ir.sum(ir.where(picked, ir.constant(table, prediction.dtype), 0.0), -1)
    elif prediction.rank < 2 or prediction.shape[-1] == 1:
        yes = target if target.rank < 2 else target[..., 0]
        yes = ir.greater(yes, 0.5 if yes.dtype.is_float else 0)
        weight = ir.where(yes, ir.constant(table[1], prediction.dtype), ir.constant(table[0], prediction.dtype))
    else:
        largest = ir.expand_dims(ir.argmax(target, -1), -1)
        picked = ir.equal(ir.arange(len(classes), largest.dtype), largest)
        weight = ir.sum(ir.where(picked, ir.constant(table, prediction.dtype), 0.0), -1)
    if given is None:
        return weight
    for _ in range(weight.rank - given.rank):
        given = ir.expand_dims(given, -1)
    return weight * given


def total_weight(loss: Loss, prediction: Value, target: Value, weight: Value | None) -> Value | None:
    """What the loss of a batch weighs; None when every example weighs the same."""
    if loss.reduction == "sum":
        return None if weight is None else ir.sum(weight)
    if type(loss).each is Loss.each:                     # it writes itself as a whole
        return None
    each = loss.each(prediction, target)
    if each.rank == 0:
        return None
    even = all(not isinstance(size, Dim) for size in each.shape[1:])
    if even and weight is None and loss.weights(prediction, target) is None:
        return None
    return loss.terms(prediction, target, weight)[1]
