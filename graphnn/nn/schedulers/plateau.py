"""Less learning rate when a number has stopped improving: in the compiled step, by its loss, or on the host, by any number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import state
from graphnn.ir.types import DType
from graphnn.nn.initialisers import Constant, zeros
from graphnn.nn.schedulers.scheduler import Scheduler, Updates


@dataclass(frozen=True)
class ReduceOnPlateau(Scheduler):
    """lr = max(factor lr, min_lr) after more than `patience` steps in a row whose loss was no better than the best.

    Better (mode "min") is loss < best (1 - threshold), or loss < best - threshold with threshold_mode "abs"; "max" turns it
    round. After a reduction, `cooldown` steps count as good. Reductions of at most `eps` are left out. The learning rate can
    also be set by hand: the state "<optimiser>/lr" is what is multiplied.

    This looks at the loss of each training step, which is noisy: choose `patience` in steps. For a number of each epoch, such as
    the loss on validation data, there is `rule()`, the same mathematics on the host.

    >>> from graphnn import nn
    >>> nn.ReduceOnPlateau(0.5, factor=0.5, patience=1).rates(5, losses=[3, 2, 2, 2, 2]).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.25]
    """

    needs_loss: ClassVar[bool] = True

    initial_lr: float = 0.01
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self._require(self.mode in ("min", "max"), f"mode is {self.mode!r}; it must be 'min' or 'max'")
        self._require(self.threshold_mode in ("rel", "abs"),
                      f"threshold_mode is {self.threshold_mode!r}; it must be 'rel' or 'abs'")
        self._require_number("factor", 0.0, 1.0)
        self._require(self.factor < 1, f"factor is {self.factor!r}; it must be below 1")
        for name in ("initial_lr", "threshold", "min_lr", "eps"):
            self._require_number(name)
        for name in ("patience", "cooldown"):
            self._require_whole(name, 0)

    @property
    def first(self) -> float:
        return float(self.initial_lr)

    @property
    def worst(self) -> float:
        """What any number is better than."""
        return math.inf if self.mode == "min" else -math.inf

    def rule(self) -> PlateauRule:
        """The same, for numbers that are known on the host."""
        return PlateauRule(self.mode, self.factor, self.patience, self.threshold, self.threshold_mode, self.cooldown,
                           self.min_lr, self.eps)

    def next(self, step: Value, rate: Value, loss: Value | None, label: str) -> tuple[Value, Updates]:
        assert loss is not None
        best = state(f"{label}/best", (), Constant(self.worst), dtype=DType.f64)
        bad, wait = (state(f"{label}/{name}", (), zeros, dtype=DType.i64) for name in ("bad_steps", "cooldown"))
        sign = 1.0 if self.mode == "min" else -1.0
        goal = best - sign * self.threshold if self.threshold_mode == "abs" else best * (1.0 - sign * self.threshold)
        better = ir.less(loss, goal) if self.mode == "min" else ir.less(goal, loss)
        cooling = ir.less(0, wait)
        count = ir.where(ir.logical_or(better, cooling), 0, bad + 1)
        fires = ir.less(self.patience, count)
        lower = ir.maximum(rate * self.factor, self.min_lr)
        new = ir.where(ir.logical_and(fires, ir.less(self.eps, rate - lower)), lower, rate)
        return new, [
            (best, ir.where(better, loss, best)),
            (bad, ir.where(fires, 0, count)),
            (wait, ir.where(fires, self.cooldown, ir.where(cooling, wait - 1, wait))),
        ]


@dataclass
class PlateauRule:
    """ReduceOnPlateau on the host: `update(value, lr)` gives the next learning rate. `best`, `bad` and `wait` are its memory.

    >>> rule = PlateauRule(factor=0.5, patience=1)
    >>> [rule.update(loss, 1.0) for loss in (3.0, 2.0, 2.0, 2.0)]
    [1.0, 1.0, 1.0, 0.5]
    """

    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    best: float = field(init=False)
    bad: int = field(init=False, default=0)
    wait: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.best = ReduceOnPlateau(0.0, self.mode, self.factor, self.patience, self.threshold, self.threshold_mode,
                                    self.cooldown, self.min_lr, self.eps).worst

    def update(self, value: float, lr: float) -> float:
        """The learning rate after one more `value`, when it was `lr`."""
        return self.lowered(lr) if self.fires(value) else lr

    def fires(self, value: float) -> bool:
        """Whether after one more `value` the learning rate is to be lowered."""
        sign = 1.0 if self.mode == "min" else -1.0
        goal = self.best - sign * self.threshold if self.threshold_mode == "abs" else self.best * (1.0 - sign * self.threshold)
        better = value < goal if self.mode == "min" else value > goal
        if better:
            self.best = float(value)
        self.bad = 0 if better or self.wait > 0 else self.bad + 1
        self.wait = max(self.wait - 1, 0)
        if self.bad <= self.patience:
            return False
        self.bad, self.wait = 0, self.cooldown
        return True

    def lowered(self, lr: float) -> float:
        """`lr` lowered once."""
        lower = max(lr * self.factor, self.min_lr)
        return lower if lr - lower > self.eps else lr
