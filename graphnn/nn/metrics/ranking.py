"""Metrics of an order: they need every score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from graphnn import ir
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.nn.metrics.base import weights_of
from graphnn.nn.metrics.classification import ClassMetric, one_score, scores_are_single


@dataclass(frozen=True)
class AUC(ClassMetric):
    """The area under the ROC curve, exact: how likely a yes scores higher than a no, equal scores counting half.

    One score an example (...) or (..., 1), logit or probability, with targets 0 and 1; or scores of classes (..., classes),
    logits or, with `from_logits=False`, probabilities, with targets that are ids or one-hot. Of two classes the second is yes.
    For more, the areas of each class against the rest are averaged: all alike ("macro"), or by how often each is true
    ("weighted"); a class that is always or never true has none. NaN when none has. All scores of an epoch are kept.

    Reference: Hanley & McNeil, 1982.

    >>> from graphnn import nn
    >>> nn.AUC().value([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], [1, 1, 1, 1])
    0.75
    """

    collects: ClassVar[bool] = True
    average: str = "macro"
    from_logits: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_bool("from_logits")
        self._require(self.average in ("macro", "weighted"), f"average is {self.average!r}; it is macro or weighted")

    def collected(self, prediction: Value, target: Value, weight: Value | None = None) -> tuple[Value, ...]:
        if scores_are_single(prediction, target):
            scores, yes = one_score(self.label, prediction, target)
            ids, counts = ir.cast(yes, "i64"), None
        else:
            ids, counts = self._ids(prediction, target), self._counted(prediction, target)
            if prediction.shape[-1] == 2:
                scores = prediction[..., 1] - prediction[..., 0] if self.from_logits else prediction[..., 1]
            else:
                scores = ir.softmax(prediction) if self.from_logits else prediction
        weights = weights_of(ids, weight, counts)
        entries = product(ids.shape)
        if weights is None:
            weights = ir.ones(ids.shape, dtype="f64")
        return (ir.reshape(scores, (entries, *scores.shape[ids.rank:])), ir.reshape(ids, (entries,)),
                ir.reshape(weights, (entries,)))

    def value(self, *totals: Any) -> float:
        scores, ids, weights = (np.asarray(array) for array in totals)
        weights = weights.astype(np.float64)
        if scores.ndim == 1:
            return area(scores, ids == 1, weights)
        areas = np.array([area(scores[:, c], ids == c, weights) for c in range(scores.shape[1])])
        found = ~np.isnan(areas)
        if not found.any():
            return math.nan
        if self.average == "macro":
            return float(areas[found].mean())
        share = np.array([weights[ids == c].sum() for c in range(len(areas))])
        return float(np.average(areas[found], weights=share[found]))


def area(scores: np.ndarray, yes: np.ndarray, weights: np.ndarray) -> float:
    """The area under the ROC curve of one score; NaN without both a yes and a no."""
    order = np.argsort(-scores, kind="stable")
    scores, yes, weights = scores[order], yes[order], weights[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else []     # of each run of equal scores
    hits, misses = (np.concatenate([[0.0], np.cumsum(weights * part)[last]]) for part in (yes, ~yes))
    if not hits[-1] or not misses[-1]:
        return math.nan
    return float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1])) / (2 * hits[-1] * misses[-1]))
