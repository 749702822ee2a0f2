"""A slow start for any scheduler; and the table of all schedulers, by which they are read from strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.ir.types import DType
from graphnn.nn.arguments import is_number
from graphnn.nn.described import make
from graphnn.nn.schedulers.by_step import (
    ConstantScheduler,
    CosineScheduler,
    ExponentialScheduler,
    NoamScheduler,
    OneCycleScheduler,
    StepScheduler,
)
from graphnn.nn.schedulers.king import KingScheduler
from graphnn.nn.schedulers.plateau import ReduceOnPlateau
from graphnn.nn.schedulers.scheduler import Scheduler, Updates


@dataclass(frozen=True)
class WarmUpScheduler(Scheduler):
    """lr(t) = first (start_factor + (1 - start_factor) t / steps) for `steps` steps, up to the first rate of `scheduler`,
    which then begins: its step 0 is step `steps`. `scheduler` may be a number: a constant rate.

    Reference: Goyal et al., 2017.

    >>> from graphnn import nn
    >>> nn.WarmUpScheduler(nn.StepScheduler(1.0, step_size=2, decay=0.5), steps=4).rates(9).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    """

    scheduler: Scheduler | float | str | Mapping[str, Any]
    steps: int = 1000
    start_factor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheduler", self._inner)
        self._require_whole("steps", 1)
        self._require_number("start_factor", 0.0, 1.0)

    @property
    def _inner(self) -> Scheduler:
        return as_scheduler(self.scheduler)

    @property
    def needs_loss(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._inner.needs_loss

    @property
    def first(self) -> float:
        return self._inner.first * self.start_factor

    def next(self, step: Value, rate: Value, loss: Value | None, label: str) -> tuple[Value, Updates]:
        top = self._inner.first
        # Before the step `steps` has been made, the scheduler's memory stays as it is, and its rate is the first one.
        begun = ir.less(self.steps, step)
        after, own = self._inner.next(ir.maximum(step - self.steps, 0), ir.where(begun, rate, top), loss, label)
        ramp = top * (self.start_factor + (1.0 - self.start_factor) * (ir.cast(step, DType.f64) / float(self.steps)))
        new = ir.where(begun, after, ir.where(ir.less(step, self.steps), ramp, top))
        return new, [(old, ir.where(begun, value, old)) for old, value in own]


BY_NAME: dict[str, type[Scheduler]] = {
    "constant_scheduler": ConstantScheduler,
    "cosine_scheduler": CosineScheduler,
    "exponential_scheduler": ExponentialScheduler,
    "king_scheduler": KingScheduler,
    "noam_scheduler": NoamScheduler,
    "one_cycle_scheduler": OneCycleScheduler,
    "reduce_on_plateau": ReduceOnPlateau,
    "step_scheduler": StepScheduler,
    "warm_up_scheduler": WarmUpScheduler,
}


def as_scheduler(scheduler: Any) -> Scheduler:
    """The scheduler meant by an object, a string, a dictionary, or a number: that rate, always.

    >>> as_scheduler("noam_scheduler(model_dim=64)")
    NoamScheduler(model_dim=64, scale_factor=1.0, warmup_steps=4000)
    """
    return ConstantScheduler(scheduler) if is_number(scheduler) else make(scheduler, BY_NAME, Scheduler, "scheduler")
