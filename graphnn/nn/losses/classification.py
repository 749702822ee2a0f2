"""Losses of classes and distributions. Classes are on the last axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import DType, TensorType
from graphnn.nn.arguments import is_number, is_whole
from graphnn.nn.losses.base import Loss

# float32's smallest normal number; a probability below counts as 0, whose logarithm counts as -100, as in PyTorch's BCELoss.
LEAST_PROBABILITY, LOG_OF_NONE = 2.0**-126, -100.0


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log p[y] from logits: logsumexp(x) - x[y] for integer targets y, or -sum(y log p) for one-hot (or soft) ones.

    x is (..., classes). Integer targets are (...), ids in [0, classes): an id outside is a NumericsError at run time; the id
    `ignore_index` counts for nothing. Real targets have the shape of x. `from_logits=False` takes probabilities p instead; there
    log(0) counts as -100, and its derivative as 0.

    `weight`, one number a class, multiplies the terms of that class; for integer targets the mean then divides by the sum
    of w[y], for real ones by the number of rows. `label_smoothing` e trains towards (1 - e) y + e / classes
    (Szegedy et al., 2016). All as in PyTorch, except that the mean over nothing (every id ignored) is 0, not NaN.

    >>> import math
    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> logits, ids = gnn.Input((4,), name="logits"), gnn.Input((), name="ids", dtype="i64")
    >>> loss = gnn.compile(gnn.Graph.of("loss", [logits, ids], [nn.CrossEntropy()(logits, ids)]), backend="numpy")
    >>> bool(np.isclose(loss(np.zeros((3, 4), np.float32), np.array([0, 3, -100])), math.log(4)))
    True
    """

    from_logits: bool = True
    weight: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    ignore_index: int | None = -100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None:
            self._as_weights("weight")
        smoothing = self.label_smoothing
        self._require(is_number(smoothing) and 0.0 <= smoothing <= 1.0,
                      f"label_smoothing is {smoothing!r}; it must be a number from 0 to 1")
        self._require(self.ignore_index is None or is_whole(self.ignore_index),
                      f"ignore_index is {self.ignore_index!r}; it must be a whole number or None")
        object.__setattr__(self, "label_smoothing", float(smoothing))
        object.__setattr__(self, "ignore_index", None if self.ignore_index is None else int(self.ignore_index))

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        return TensorType(DType.i64, prediction.shape[:-1]) if integer and prediction.rank else prediction

    def check_targets(self, prediction: TensorType, targets: np.ndarray) -> None:
        classes = prediction.shape[-1]
        if targets.dtype.kind != "i" or not targets.size or not isinstance(classes, int):
            return
        wrong = (targets < 0) | (targets >= classes)
        if self.ignore_index is not None:
            wrong &= targets != self.ignore_index
        if wrong.any():
            place = np.argwhere(wrong)[0].tolist()
            raise NumericsError(f"the targets have the class {targets[tuple(place)]} at {place}; the model's output {prediction} "
                                f"has the classes 0 to {classes - 1}",
                                hint="number the classes from 0, or give the model more outputs")

    def each(self, prediction: Value, target: Value) -> Value:
        self._check_types(prediction, target)
        if target.dtype.is_integer and not self.label_smoothing:
            return self._kept(self._of_class(prediction, self._picked(prediction, target)), target)
        return self._soft(prediction, target, None)

    def weights(self, prediction: Value, target: Value) -> Value | None:
        self._check_types(prediction, target)
        if not target.dtype.is_integer or (self.weight is None and self.ignore_index is None):
            return None
        if self.weight is None:
            return ir.cast(ir.not_equal(target, self.ignore_index or 0), prediction.dtype)
        picked = self._picked(prediction, target)
        return self._kept(ir.sum(ir.where(picked, self._class_weights(prediction), 0.0), -1), target)

    def weighted(self, prediction: Value, target: Value) -> Value:
        if self.weight is not None and (self.label_smoothing or not target.dtype.is_integer):
            self._check_types(prediction, target)
            return self._soft(prediction, target, self._class_weights(prediction))
        if target.dtype.is_integer and self.weight is None:
            return self.each(prediction, target)                 # 0 where ignored, the only other weight
        return super().weighted(prediction, target)

    def _of_class(self, prediction: Value, picked: Value) -> Value:
        """-log p of the picked class. A select rather than a product: 0 * -inf would be NaN for a class of probability 0."""
        if self.from_logits:
            return -ir.sum(ir.where(picked, ir.log_softmax(prediction), 0.0), -1)
        return -log_probability(ir.sum(ir.where(picked, prediction, 0.0), -1))

    def _soft(self, prediction: Value, target: Value, class_weights: Value | None) -> Value:
        """-sum(w y log p), for the smoothed distribution y that the target means."""
        ids = target if target.dtype.is_integer else None
        if ids is not None:
            target = ir.cast(self._picked(prediction, ids), prediction.dtype)
        if self.label_smoothing:
            classes = ir.size_of(prediction.shape[-1], prediction.dtype)
            target = (1.0 - self.label_smoothing) * target + self.label_smoothing / classes
        each = times_log(target if class_weights is None else target * class_weights, prediction,
                         "logits" if self.from_logits else "probabilities")
        total = -ir.sum(each, -1)
        return total if ids is None else self._kept(total, ids)

    def _picked(self, prediction: Value, ids: Value) -> Value:
        """(..., classes): true at the class of each id; at class 0 for ignored ids."""
        if self.ignore_index is not None:
            ids = ir.where(ir.equal(ids, self.ignore_index), 0, ids)
        classes = prediction.shape[-1]
        ids = ir.expand_dims(ir.check_index(ids, classes, what="class"), -1)
        return ir.equal(ir.arange(classes, ids.dtype), ids)

    def _kept(self, x: Value, ids: Value) -> Value:
        """x, 0 at ignored ids."""
        return x if self.ignore_index is None else ir.where(ir.equal(ids, self.ignore_index), 0.0, x)

    def _class_weights(self, prediction: Value) -> Value:
        assert self.weight is not None, "asked for only with weights"
        if prediction.shape[-1] != len(self.weight):
            raise ShapeError(f"CrossEntropy: weight has {len(self.weight)} numbers, the prediction {prediction.type} "
                             f"{prediction.shape[-1]} classes")
        return ir.constant(np.array(self.weight), prediction.dtype)

    def _check_types(self, prediction: Value, target: Value) -> None:
        if prediction.rank < 1:
            raise ShapeError(f"CrossEntropy: the prediction {prediction.type} has no axis of classes")
        if target.dtype.is_integer:
            if target.shape != prediction.shape[:-1]:
                raise ShapeError(f"CrossEntropy: integer targets for {prediction.type} have shape "
                                 f"[{','.join(map(str, prediction.shape[:-1]))}], not {target.type}")
        elif target.type != prediction.type:
            raise DTypeError(f"CrossEntropy: real targets have the prediction's type {prediction.type}, not {target.type}")


def times_log(y: Value, x: Value, form: str) -> Value:
    """y log p, 0 where y and p are both 0; x is p in one of three forms: "logits", "probabilities", "log_probabilities"."""
    if form == "probabilities":
        return y * log_probability(x)
    logs = ir.log_softmax(x) if form == "logits" else x
    nothing = ir.logical_and(ir.equal(y, 0.0), ir.logical_not(ir.is_finite(logs)))
    return y * ir.where(nothing, 0.0, logs)


def log_probability(p: Value) -> Value:
    """log p; -100, with a derivative of 0, for p so small that 1 / p would overflow; NaN below 0, where p is none."""
    none = ir.less(ir.abs(p), LEAST_PROBABILITY)
    return ir.where(none, LOG_OF_NONE, ir.log(ir.where(none, 1.0, p)))
