"""Losses: what training makes small. A loss writes IR for (prediction, target) and says which targets it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import DType, TensorType
from graphnn.nn.described import DescriptionError, read

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Loss:
    """Base of losses. `reduction` is "mean", "sum" or "none" (the loss of each example, or element)."""

    reduction: str = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise DescriptionError(f"{type(self).__name__}: reduction is {self.reduction!r}; "
                                   f"it is one of {', '.join(REDUCTIONS)}")

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        """The type of the targets for this prediction, when the user's targets are integers or real numbers."""
        raise NotImplementedError(f"{type(self).__name__}.target_type")

    def check_targets(self, prediction: TensorType, targets: np.ndarray) -> None:
        """Raise NumericsError for targets, already of the declared type, that this loss cannot take: before any step runs."""

    def each(self, prediction: Value, target: Value) -> Value:
        """The loss before reduction."""
        raise NotImplementedError(f"{type(self).__name__}.each")

    def __call__(self, prediction: Value, target: Value) -> Value:
        """The reduced loss as a value."""
        each = self.each(prediction, target)
        if self.reduction == "none":
            return each
        return ir.mean(each) if self.reduction == "mean" else ir.sum(each)


@dataclass(frozen=True)
class SquaredError(Loss):
    """(p - y)^2 for each element; the mean is over all elements. p and y have one shape.

    numpy-ml's SquaredError is half of `SquaredError(reduction="sum")`.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((3,), name="p"), gnn.Input((3,), name="y")
    >>> nn.SquaredError()(p, y).type, nn.SquaredError(reduction="none")(p, y).type
    (f32[], f32[N,3])
    """

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        return prediction

    def each(self, prediction: Value, target: Value) -> Value:
        if prediction.type != target.type:
            raise ShapeError(f"SquaredError: prediction {prediction.type} and target {target.type} differ")
        return ir.square(prediction - target)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log p[y] from logits: logsumexp(x) - x[y] for integer targets y, or -sum(y log p) for one-hot (or soft) ones.

    x is (..., classes). Integer targets are (...), ids in [0, classes): an id outside is a NumericsError at run time. Real
    targets have the shape of x. `from_logits=False` takes probabilities instead: log(p), exact only for p > 0.

    >>> import math
    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> logits, ids = gnn.Input((4,), name="logits"), gnn.Input((), name="ids", dtype="i64")
    >>> loss = gnn.compile(gnn.Graph.of("loss", [logits, ids], [nn.CrossEntropy()(logits, ids)]), backend="numpy")
    >>> bool(np.isclose(loss(np.zeros((2, 4), np.float32), np.array([0, 3])), math.log(4)))
    True
    """

    from_logits: bool = True

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        return TensorType(DType.i64, prediction.shape[:-1]) if integer and prediction.rank else prediction

    def check_targets(self, prediction: TensorType, targets: np.ndarray) -> None:
        classes = prediction.shape[-1]
        if targets.dtype.kind != "i" or not targets.size or not isinstance(classes, int):
            return
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            place = np.argwhere((targets < 0) | (targets >= classes))[0].tolist()
            raise NumericsError(f"the targets have the class {targets[tuple(place)]} at {place}; the model's output {prediction} "
                                f"has the classes 0 to {classes - 1}",
                                hint="number the classes from 0, or give the model more outputs")

    def each(self, prediction: Value, target: Value) -> Value:
        if prediction.rank < 1:
            raise ShapeError(f"CrossEntropy: the prediction {prediction.type} has no axis of classes")
        logs = ir.log_softmax(prediction) if self.from_logits else ir.log(prediction)
        if target.dtype.is_integer:
            if target.shape != prediction.shape[:-1]:
                raise ShapeError(f"CrossEntropy: integer targets for {prediction.type} have shape "
                                 f"[{','.join(map(str, prediction.shape[:-1]))}], not {target.type}")
            classes = prediction.shape[-1]
            ids = ir.expand_dims(ir.check_index(target, classes, what="class"), -1)
            picked = ir.equal(ir.arange(classes, target.dtype), ids)
            # A select rather than a product: 0 * -inf would be NaN for a class of probability 0.
            return -ir.sum(ir.where(picked, logs, 0.0), -1)
        if target.type != prediction.type:
            raise DTypeError(f"CrossEntropy: real targets have the prediction's type {prediction.type}, not {target.type}")
        return -ir.sum(ir.where(ir.equal(target, 0.0), 0.0, target * logs), -1)


BY_NAME: dict[str, type[Loss]] = {"squared_error": SquaredError, "cross_entropy": CrossEntropy}


def as_loss(loss: Loss | str) -> Loss:
    """The loss meant by an object or a string such as "cross_entropy"."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return read(loss, BY_NAME, "loss")
    raise DescriptionError(f"{type(loss).__name__} is no loss; give nn.CrossEntropy() or a name: {', '.join(BY_NAME)}")
