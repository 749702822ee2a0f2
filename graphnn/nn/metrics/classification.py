"""Metrics of decisions: which class, or yes or no.

Scores of classes are on the last axis, (..., classes): logits or probabilities, as only their order counts. Targets are ids
(...), or one-hot rows (..., classes). An id equal to `ignore_index` counts for nothing.
One score an example is (...) or (..., 1), with targets 0 and 1 (or any numbers, of which those above 1/2 are yes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import is_number, is_whole
from graphnn.nn.losses import CrossEntropy
from graphnn.nn.metrics.base import MeanMetric, Metric, ratio, weights_of


@dataclass(frozen=True)
class ClassMetric(Metric):
    """Base of metrics of scores of classes."""

    ignore_index: int | None = field(default=-100, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.ignore_index is None or is_whole(self.ignore_index),
                      f"ignore_index is {self.ignore_index!r}; it must be a whole number or None")

    def _ids(self, prediction: Value, target: Value) -> Value:
        """The target's class of each entry, i64 (...)."""
        what = self.label
        if prediction.rank < 1 or target.rank not in (prediction.rank, prediction.rank - 1):
            raise ShapeError(f"{what}: the prediction {prediction.type} and the target {target.type} do not go together",
                             hint="scores of classes are (..., classes), targets ids (...) or one-hot (..., classes)")
        if prediction.shape[-1] == 1:
            raise ShapeError(f"{what}: the prediction {prediction.type} has the score of one class only",
                             hint="binary_accuracy, precision, recall, f1 and auc take one score an example")
        if target.rank == prediction.rank:
            if target.shape != prediction.shape:
                raise ShapeError(f"{what}: the prediction {prediction.type} and the one-hot target {target.type} differ")
            return ir.argmax(ir.cast(target, "i32") if target.dtype.name == "bool" else target, -1)
        if target.shape != prediction.shape[:-1]:
            raise ShapeError(f"{what}: the ids {target.type} do not fit the prediction {prediction.type}")
        if target.dtype.is_float:
            raise DTypeError(f"{what}: the ids are {target.type}; they must be integers")
        return ir.cast(target, "i64")

    def _counted(self, prediction: Value, target: Value) -> Value | None:
        """Which entries count; None for all."""
        if self.ignore_index is None or target.rank == prediction.rank:
            return None
        return ir.not_equal(ir.cast(target, "i64"), self.ignore_index)


@dataclass(frozen=True)
class Accuracy(MeanMetric, ClassMetric):
    """The share of entries whose largest score is the target's class; of equal scores the first counts.

    Scores (..., classes); targets are ids (...), or one-hot rows (..., classes).

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((3,), name="p"), gnn.Input((), name="y", dtype="i64")
    >>> share = gnn.compile(gnn.Graph.of("share", [p, y], [nn.Accuracy()(p, y)]), backend="numpy")
    >>> float(share(np.eye(3, dtype=np.float32)[[0, 1, 2, 2]], np.array([0, 1, 2, 0])))
    0.75
    """

    def each(self, prediction: Value, target: Value) -> Value:
        ids = self._ids(prediction, target)
        return ir.equal(ir.argmax(prediction, -1), ids)

    def counts(self, prediction: Value, target: Value) -> Value | None:
        return self._counted(prediction, target)


@dataclass(frozen=True)
class TopKAccuracy(MeanMetric, ClassMetric):
    """The share of entries whose target is among the `k` classes of the largest scores; of equal scores the first count.

    Scores (..., classes); targets are ids (...), or one-hot rows. With k = 1 it is the accuracy.

    >>> from graphnn import nn
    >>> nn.metrics.as_metric("top_k_accuracy(k=3)").k
    3
    """

    k: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(is_whole(self.k) and self.k >= 1, f"k is {self.k!r}; it must be a whole number, at least 1")

    @property
    def label(self) -> str:
        return self.name or "top_k_accuracy"

    def each(self, prediction: Value, target: Value) -> Value:
        ids = ir.expand_dims(self._ids(prediction, target), -1)
        classes = ir.iota(prediction.shape)
        own = ir.sum(ir.where(ir.equal(classes, ids), prediction, 0.0), -1, keepdims=True)
        earlier = ir.logical_and(ir.equal(prediction, own), ir.less(classes, ids))
        ahead = ir.sum(ir.cast(ir.logical_or(ir.greater(prediction, own), earlier), "i64"), -1)
        return ir.less(ahead, self.k)

    def counts(self, prediction: Value, target: Value) -> Value | None:
        return self._counted(prediction, target)


@dataclass(frozen=True)
class BinaryMetric(Metric):
    """Base of metrics of one score an example: a logit, which is yes above 0, or a probability, which is yes above 1/2.

    `threshold` sets another bound.
    """

    from_logits: bool = field(default=True, kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_bool("from_logits")
        self._require(self.threshold is None or is_number(self.threshold),
                      f"threshold is {self.threshold!r}; it must be a number or None")

    def _yes(self, scores: Value) -> Value:
        return ir.greater(scores, (0.0 if self.from_logits else 0.5) if self.threshold is None else float(self.threshold))


@dataclass(frozen=True)
class BinaryAccuracy(MeanMetric, BinaryMetric):
    """The share of right answers, yes or no, over all elements (several columns are several questions).

    The scores are logits, yes above 0; with `from_logits=False` probabilities, yes above 1/2; `threshold` sets another bound.
    Targets have the shape of the scores (a last axis of one may be left out); those above 1/2 are yes.

    >>> from graphnn import nn
    >>> nn.BinaryAccuracy(from_logits=False).label
    'binary_accuracy'
    """

    def each(self, prediction: Value, target: Value) -> Value:
        scores, truth = one_score(self.label, prediction, target)
        return ir.equal(self._yes(scores), truth)


@dataclass(frozen=True)
class CountsMetric(BinaryMetric, ClassMetric):
    """Base of precision, recall and F1: over the counts of each class, right, guessed and true."""

    average: str = "binary"

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = ("binary", "macro", "micro", "weighted")
        self._require(self.average in kinds, f"average is {self.average!r}; it is one of {', '.join(kinds)}")

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        guess, truth, counts = self._decisions(prediction, target)
        weights = weights_of(guess[..., 0], weight, counts)
        if weights is not None:
            weights = ir.expand_dims(weights, -1)
        axes = tuple(range(guess.rank - 1))

        def count(entries: Value) -> Value:
            return ir.sum(entries if weights is None else entries * weights, axes)

        return count(guess * truth), count(guess), count(truth)

    def _decisions(self, prediction: Value, target: Value) -> tuple[Value, Value, Value | None]:
        """The classes guessed and true as rows of 0 and 1, f64 (..., classes), and which entries count."""
        if scores_are_single(prediction, target):
            scores, truth = one_score(self.label, prediction, target)
            yes = ir.cast(self._yes(scores), "f64"), ir.cast(truth, "f64")
            guessed, true = (ir.stack([1.0 - v, v], -1) for v in yes)
            return guessed, true, None
        ids = self._ids(prediction, target)
        if self.average == "binary" and prediction.shape[-1] != 2:
            raise ShapeError(f"{self.label}: average='binary' takes one score or two classes, not {prediction.type}",
                             hint="use average='macro', 'micro' or 'weighted'")
        classes = ir.iota(prediction.shape)
        guess = ir.argmax(prediction, -1)
        if self.threshold is not None:
            raise ShapeError(f"{self.label}: threshold={self.threshold!r} is for one score an example, not {prediction.type}")
        guessed, true = (ir.cast(ir.equal(classes, ir.expand_dims(v, -1)), "f64") for v in (guess, ids))
        return guessed, true, self._counted(prediction, target)

    def value(self, *totals: Any) -> float:
        right, guessed, true = (np.asarray(total, np.float64) for total in totals)
        if not true.sum():
            return math.nan
        if self.average == "binary":
            return float(self._of(right, guessed, true)[1])
        if self.average == "micro":
            return float(self._of(right.sum(keepdims=True), guessed.sum(keepdims=True), true.sum(keepdims=True))[0])
        each = self._of(right, guessed, true)
        weights = true if self.average == "weighted" else (guessed + true > 0).astype(np.float64)
        return float((each * weights).sum() / weights.sum())

    def _of(self, right: np.ndarray, guessed: np.ndarray, true: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}._of")


@dataclass(frozen=True)
class Precision(CountsMetric):
    """Right guesses of a class / all guesses of it; 0 when it is never guessed.

    One score an example (...) or (..., 1), a logit (yes above 0) or, with `from_logits=False`, a probability (yes above 1/2),
    with targets 0 and 1; or scores of classes (..., classes) with targets that are ids or one-hot.

    `average`: "binary" is the precision of yes, or of class 1 of two; "macro" the mean over the classes that are guessed or
    true somewhere; "weighted" the mean weighted by how often each is true; "micro" counts all classes together.

    >>> from graphnn import nn
    >>> nn.Precision().value([2, 3], [2, 4], [3, 3])                    # of classes 0 and 1: right, guessed, true
    0.75
    """

    def _of(self, right: np.ndarray, guessed: np.ndarray, true: np.ndarray) -> np.ndarray:
        return shares(right, guessed)


@dataclass(frozen=True)
class Recall(CountsMetric):
    """Right guesses of a class / how often it is true; 0 when it is never true. Arguments as in `Precision`.

    >>> from graphnn import nn
    >>> nn.Recall(average="macro").value([2, 3], [2, 6], [4, 4])
    0.625
    """

    def _of(self, right: np.ndarray, guessed: np.ndarray, true: np.ndarray) -> np.ndarray:
        return shares(right, true)


@dataclass(frozen=True)
class F1(CountsMetric):
    """2 precision recall / (precision + recall), which is 2 right / (guessed + true). Arguments as in `Precision`.

    Reference: van Rijsbergen, 1979.

    >>> from graphnn import nn
    >>> nn.F1(average="micro").value([2, 3], [2, 6], [4, 4])
    0.625
    """

    def _of(self, right: np.ndarray, guessed: np.ndarray, true: np.ndarray) -> np.ndarray:
        return shares(2 * right, guessed + true)


@dataclass(frozen=True)
class Perplexity(Metric):
    """exp(mean of -log p[y]): among how many equally likely classes the model would be as unsure.

    Logits (..., classes), or probabilities with `from_logits=False`; targets are ids (...), of which `ignore_index` counts for
    nothing, or rows of probabilities (..., classes).

    Reference: Jelinek et al., 1977.

    >>> import math
    >>> from graphnn import nn
    >>> round(nn.Perplexity().value(10 * math.log(4), 10), 6)
    4.0
    """

    better: ClassVar[str] = "min"
    from_logits: bool = True
    ignore_index: int | None = -100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._loss()

    def _loss(self) -> CrossEntropy:
        return CrossEntropy(from_logits=self.from_logits, ignore_index=self.ignore_index)

    def sums(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        return self._loss().terms(prediction, target, weight)

    def value(self, *totals: Any) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(np.float64(ratio(*totals))))


def shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def scores_are_single(prediction: Value, target: Value) -> bool:
    """Whether these are one score an example rather than scores of classes."""
    if prediction.rank == 0 or prediction.shape[-1] == 1:
        return True
    return prediction.rank == 1 and target.rank == 1


def one_score(what: str, prediction: Value, target: Value) -> tuple[Value, Value]:
    """The scores, and whether the target is yes, of one shape: a last axis of one is left out."""
    if prediction.rank and prediction.shape[-1] == 1:
        if target.shape == prediction.shape:
            target = ir.squeeze(target, -1)
        prediction = ir.squeeze(prediction, -1)
    if target.shape != prediction.shape:
        raise ShapeError(f"{what}: the scores {prediction.type} and the targets {target.type} differ")
    if target.dtype.name == "bool":
        return prediction, target
    return prediction, ir.greater(target, 0.5 if target.dtype.is_float else 0)
