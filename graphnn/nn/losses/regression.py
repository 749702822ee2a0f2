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


@dataclass(frozen=True)
class MeanAbsoluteError(ElementwiseLoss):
    """|p - y| for each element; the mean is over all elements. Its derivative where p = y is 0. p and y have one shape.

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((2,), name="p"), gnn.Input((2,), name="y")
    >>> loss = gnn.compile(gnn.Graph.of("loss", [p, y], [nn.MeanAbsoluteError()(p, y)]), backend="numpy")
    >>> float(loss(np.array([[1, 2]], np.float32), np.array([[0, 4]], np.float32)))
    1.5
    """

    def each(self, prediction: Value, target: Value) -> Value:
        self.check_types(prediction, target)
        return ir.abs(prediction - target)


@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for each element d = p - y; the mean is over all elements.

    Quadratic near the target, linear far from it: an outlier pulls with delta at most. (Huber, 1964)

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((), name="p"), gnn.Input((), name="y")
    >>> loss = gnn.compile(gnn.Graph.of("loss", [p, y], [nn.Huber(reduction="none")(p, y)]), backend="numpy")
    >>> loss(np.array([0.5, 3.0], np.float32), np.zeros(2, np.float32)).tolist()
    [0.125, 2.5]
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("delta", 0.0, open=True)

    def each(self, prediction: Value, target: Value) -> Value:
        self.check_types(prediction, target)
        d = prediction - target
        near = ir.clip(d, -self.delta, self.delta)
        return near * (d - 0.5 * near)                           # both branches at once; nothing overflows
