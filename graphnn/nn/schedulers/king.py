"""Davis King's test: the learning rate falls when the losses have stopped falling, by a line through the last of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import state
from graphnn.ir.types import DType
from graphnn.nn.initialisers import Constant
from graphnn.nn.schedulers.scheduler import Scheduler, Updates

# A line is held to fall when its slope is below 0 with more than this probability.
PROBABILITY = 0.51
DEVIATIONS = 0.025068908258711057       # of the normal distribution: PROBABILITY = Phi(DEVIATIONS)
KEPT = 0.9                              # of the losses, in the robust test


@dataclass(frozen=True)
class KingScheduler(Scheduler):
    """lr = decay lr when the last `patience` + 1 losses do not fall; then it waits for as many new losses.

    The least squares line loss = a + s t through these n losses has the residual variance V = sum(residual^2) / (n - 2), and
    its slope the variance V / sum((t - mean t)^2). The losses fall when Phi(-s / sqrt(variance + 2.2e-16)) >= 0.51. The test
    is made twice, the second time without the losses above their 0.9 quantile (a few bad batches hide no descent); lr falls
    when neither finds a descent. A loss that is not finite puts the decision off until it has left the window.

    Reference: King, 2018, "Automatic learning rate scheduling that really works" (dlib).

    >>> from graphnn import nn
    >>> nn.KingScheduler(1.0, patience=3, decay=0.5).rates(10, losses=[1.0] * 10).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    """

    needs_loss: ClassVar[bool] = True

    initial_lr: float = 0.01
    patience: int = 1000
    decay: float = 0.99

    def __post_init__(self) -> None:
        self._require_number("initial_lr")
        self._require_whole("patience", 2)
        self._require_number("decay", 0.0, 1.0, above=True)

    @property
    def first(self) -> float:
        return float(self.initial_lr)

    def next(self, step: Value, rate: Value, loss: Value | None, label: str) -> tuple[Value, Updates]:
        assert loss is not None
        n = self.patience + 1
        # In the order they came, and in order of size; inf where there is none yet.
        losses, ordered = (state(f"{label}/{name}", (n,), Constant(math.inf), dtype=DType.f64)
                           for name in ("losses", "ordered_losses"))
        new = ir.reshape(ir.where(ir.is_finite(loss), loss, math.inf), (1,))
        window, by_size = ir.concat([losses[1:], new]), _replaced(ordered, losses[0], new, n)
        full = ir.less(by_size[n - 1], math.inf)
        points = ir.where(ir.is_finite(window), window, 0.0)
        low = ir.cast(ir.less_equal(window, by_size[math.floor(KEPT * (n - 1))]), DType.f64)
        falls = ir.logical_or(_falls(points, ir.ones((n,), DType.f64), n), _falls(points, low, n))
        fires = ir.logical_and(full, ir.logical_not(falls))
        return ir.where(fires, rate * self.decay, rate), [
            (losses, ir.where(fires, math.inf, window)),
            (ordered, ir.where(fires, math.inf, by_size)),
        ]


def _replaced(ordered: Value, old: Value, new: Value, n: int) -> Value:
    """The ordered numbers without `old`, which is one of them, and with `new`: a step costs n, not n log n."""
    at, end = ir.arange(n), ir.constant([math.inf], DType.f64)
    left = ir.where(ir.less(at, _count(ir.less(ordered, old))), ordered, ir.concat([ordered[1:], end]))
    place = _count(ir.less(left, new))
    return ir.where(ir.less(at, place), left, ir.where(ir.equal(at, place), new, ir.concat([new, left[:-1]])))


def _count(which: Value) -> Value:
    return ir.sum(ir.cast(which, DType.i64))


def _falls(points: Value, weights: Value, n: int) -> Value:
    """Whether the line through points of weight 1 falls; those of weight 0 do not count."""
    time = ir.constant(np.arange(n) - (n - 1) / 2, DType.f64)
    count = ir.sum(weights)
    t, y = time - ir.sum(weights * time) / count, points - ir.sum(weights * points) / count
    spread = ir.sum(weights * t * t)
    slope = ir.sum(weights * t * y) / spread
    rest = y - slope * t
    variance = ir.sum(weights * rest * rest) / ir.maximum(count - 2.0, 1.0) / spread
    return ir.greater_equal(-slope, DEVIATIONS * ir.sqrt(variance + np.finfo(np.float64).eps))
