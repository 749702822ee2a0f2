"""Losses of real numbers: prediction and target have one type, and each element is an entry."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.losses.base import Loss


@dataclass(frozen=True)
class ElementwiseLoss(Loss):
    """Base of losses that compare a prediction with a target of its type, element by element."""

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        return prediction

    def check_types(self, prediction: Value, target: Value) -> None:
        """Raise ShapeError unless both are of one type: nothing is broadcast."""
        if prediction.type != target.type:
            raise ShapeError(f"{type(self).__name__}: prediction {prediction.type} and target {target.type} differ")


@dataclass(frozen=True)
class SquaredError(ElementwiseLoss):
    """(p - y)^2 for each element; the mean is over all elements. p and y have one shape.

    numpy-ml's SquaredError is half of `SquaredError(reduction="sum")`.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((3,), name="p"), gnn.Input((3,), name="y")
    >>> nn.SquaredError()(p, y).type, nn.SquaredError(reduction="none")(p, y).type
    (f32[], f32[N,3])
    """

    def each(self, prediction: Value, target: Value) -> Value:
        self.check_types(prediction, target)
        return ir.square(prediction - target)
