"""Losses of probabilities that stand element by element: yes or no, and one distribution against another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphnn import ir
from graphnn.errors import NumericsError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.losses.base import reduce_entries, reduce_terms
from graphnn.nn.losses.classification import log_probability, times_log
from graphnn.nn.losses.regression import ElementwiseLoss


@dataclass(frozen=True)
class BinaryCrossEntropy(ElementwiseLoss):
    """-(w y log p + (1 - y) log(1 - p)) for each element, from logits: w y softplus(-x) + (1 - y) softplus(x).

    Targets y in [0, 1] have the shape of x. `from_logits=False` takes probabilities p; there log(0) counts as -100, and its
    derivative as 0. `pos_weight` w, a number or one for each element of the last axis, weighs the positive targets: more than 1
    for more recall. The mean is over all elements.

    >>> import math
    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, y = gnn.Input((1,), name="x"), gnn.Input((1,), name="y")
    >>> loss = gnn.compile(gnn.Graph.of("loss", [x, y], [nn.BinaryCrossEntropy()(x, y)]), backend="numpy")
    >>> bool(np.isclose(loss(np.zeros((2, 1), np.float32), np.array([[0], [1]], np.float32)), math.log(2)))
    True
    """

    from_logits: bool = True
    pos_weight: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.pos_weight, (list, tuple, np.ndarray)):
            self._as_weights("pos_weight")
        else:
            self._require_number("pos_weight", 0.0)

    def check_targets(self, prediction: TensorType, targets: np.ndarray) -> None:
        wrong = (targets < 0) | (targets > 1) | np.isnan(targets)
        if wrong.any():
            place = np.argwhere(wrong)[0].tolist()
            raise NumericsError(f"the target {targets[tuple(place)]} at {place} is no probability: it must lie in [0, 1]")

    def each(self, prediction: Value, target: Value) -> Value:
        self.check_types(prediction, target)
        if self.from_logits:
            miss, false_alarm = ir.softplus(-prediction), ir.softplus(prediction)
        else:
            miss, false_alarm = -log_probability(prediction), -log_probability(1.0 - prediction)
        positive = target if self.pos_weight == 1.0 else target * self._positive_weight(prediction)
        return positive * miss + (1.0 - target) * false_alarm

    def _positive_weight(self, prediction: Value) -> float | Value:
        if not isinstance(self.pos_weight, tuple):
            return self.pos_weight
        if not prediction.rank or prediction.shape[-1] != len(self.pos_weight):
            raise ShapeError(f"BinaryCrossEntropy: pos_weight has {len(self.pos_weight)} numbers, which does not fit the "
                             f"last axis of the prediction {prediction.type}")
        return ir.constant(np.array(self.pos_weight), prediction.dtype)


FORMS = ("log_probabilities", "probabilities", "logits")


@dataclass(frozen=True)
class KLDivergence(ElementwiseLoss):
    """y (log y - log p) for each element: how far the prediction p is from the distribution y; 0 log 0 is 0.

    The prediction is log p, as in PyTorch; with `form="probabilities"` it is p, where log(0) counts as -100 and its derivative
    as 0; with `form="logits"` scores along the last axis. The target is y, or log y with `log_target`. `reduction="batchmean"`
    divides the sum by the first size, which gives the divergence of an example; "mean", PyTorch's default, divides by the
    number of elements. (Kullback & Leibler, 1951)

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((2,), name="p"), gnn.Input((2,), name="y")
    >>> divergence = nn.KLDivergence("batchmean", form="probabilities")(p, y)
    >>> loss = gnn.compile(gnn.Graph.of("loss", [p, y], [divergence]), backend="numpy")
    >>> bool(np.isclose(loss(np.array([[0.25, 0.75]], np.float32), np.array([[0, 1]], np.float32)), np.log(4 / 3)))
    True
    """

    reductions: ClassVar[tuple[str, ...]] = ("mean", "batchmean", "sum", "none")
    form: str = "log_probabilities"
    log_target: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.form in FORMS, f"form is {self.form!r}; it is one of {', '.join(FORMS)}")

    def each(self, prediction: Value, target: Value) -> Value:
        self.check_types(prediction, target)
        y = ir.exp(target) if self.log_target else target
        entropy = times_log(y, target, "log_probabilities") if self.log_target else times_log(y, y, "probabilities")
        return entropy - times_log(y, prediction, self.form)

    def terms(self, prediction: Value, target: Value, sample_weight: Value | None = None) -> tuple[Value, Value]:
        if self.reduction != "batchmean":
            return super().terms(prediction, target, sample_weight)
        return reduce_terms(self._each_example(prediction, target), None, sample_weight)

    def __call__(self, prediction: Value, target: Value, sample_weight: Value | None = None) -> Value:
        if self.reduction != "batchmean":
            return super().__call__(prediction, target, sample_weight)
        return reduce_entries("mean", self._each_example(prediction, target), None, sample_weight)

    def _each_example(self, prediction: Value, target: Value) -> Value:
        each = self.each(prediction, target)
        if not each.rank:
            raise ShapeError(f"KLDivergence: reduction is 'batchmean', and {prediction.type} has no first axis")
        return ir.sum(each, range(1, each.rank))
