"""Learning rates that are functions of the number of the step, counted from 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.nn.arguments import is_whole
from graphnn.nn.described import require_flags
from graphnn.nn.schedulers.scheduler import ByStep


@dataclass(frozen=True)
class ConstantScheduler(ByStep):
    """lr(t) = lr, at every step t.

    >>> from graphnn import nn
    >>> nn.ConstantScheduler(0.1).rates(3).tolist()
    [0.1, 0.1, 0.1]
    """

    lr: float = 0.01

    def __post_init__(self) -> None:
        self._require_number("lr")

    def at(self, step: Value) -> Value:
        return 0.0 * step + self.lr


@dataclass(frozen=True)
class ExponentialScheduler(ByStep):
    """lr(t) = initial_lr decay^(t / stage_length); with `staircase` the exponent is floored.

    >>> from graphnn import nn
    >>> nn.ExponentialScheduler(1.0, stage_length=2, staircase=True, decay=0.5).rates(5).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    initial_lr: float = 0.01
    stage_length: float = 500
    staircase: bool = False
    decay: float = 0.1

    def __post_init__(self) -> None:
        self._require_number("initial_lr")
        self._require_number("stage_length", above=True)
        require_flags(self)
        self._require_number("decay", above=True)

    def at(self, step: Value) -> Value:
        stage = step / float(self.stage_length)
        return self.initial_lr * ir.pow(self.decay, ir.floor(stage) if self.staircase else stage)


@dataclass(frozen=True)
class NoamScheduler(ByStep):
    """lr(t) = scale_factor / sqrt(model_dim) min(1 / sqrt(n), n / warmup_steps^1.5), with n = t + 1: up in a line, then down as
    1 / sqrt(n). The first step has n = 1, as in the paper.

    Reference: Vaswani et al., 2017.

    >>> from graphnn import nn
    >>> f"{nn.NoamScheduler().first:.4g}"
    '1.747e-07'
    """

    model_dim: int = 512
    scale_factor: float = 1.0
    warmup_steps: int = 4000

    def __post_init__(self) -> None:
        self._require_whole("model_dim", 1)
        self._require_number("scale_factor")
        self._require_whole("warmup_steps", 1)

    def at(self, step: Value) -> Value:
        n = step + 1.0
        return self.scale_factor * self.model_dim ** -0.5 * ir.minimum(1.0 / ir.sqrt(n), n * self.warmup_steps ** -1.5)


@dataclass(frozen=True)
class StepScheduler(ByStep):
    """lr(t) = initial_lr decay^k, with k = floor(t / step_size), or k the number of `milestones` that are at most t.

    >>> from graphnn import nn
    >>> nn.StepScheduler(1.0, milestones=[1, 3], decay=0.5).rates(5).tolist()
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    initial_lr: float = 0.01
    step_size: int | None = None
    milestones: Sequence[int] | None = None
    decay: float = 0.1

    def __post_init__(self) -> None:
        self._require_number("initial_lr")
        self._require_number("decay", above=True)
        self._require((self.step_size is None) != (self.milestones is None),
                      f"step_size is {self.step_size!r} and milestones is {self.milestones!r}; give one of the two")
        if self.milestones is None:
            self._require_whole("step_size", 1)
            return
        good = isinstance(self.milestones, (list, tuple)) and all(is_whole(m) and m >= 0 for m in self.milestones)
        self._require(good, f"milestones is {self.milestones!r}; it must be a list of steps")
        object.__setattr__(self, "milestones", tuple(sorted(int(m) for m in self.milestones)))

    def at(self, step: Value) -> Value:
        if self.milestones is None:
            assert self.step_size is not None
            return self.initial_lr * ir.pow(self.decay, ir.floor(step / float(self.step_size)))
        passed = 0.0 * step
        for milestone in self.milestones:
            passed = passed + ir.cast(ir.greater_equal(step, float(milestone)), step.dtype)
        return self.initial_lr * ir.pow(self.decay, passed)


@dataclass(frozen=True)
class CosineScheduler(ByStep):
    """lr(t) = min_lr + (initial_lr - min_lr) (1 + cos(pi t / steps)) / 2, and min_lr after `steps` steps.

    With `restarts` a cycle follows the other: each begins at initial_lr and is `growth` times as long as the one before.

    Reference: Loshchilov & Hutter, 2017.

    >>> from graphnn import nn
    >>> [round(float(rate), 2) for rate in nn.CosineScheduler(1.0, steps=4).rates(6)]
    [1.0, 0.85, 0.5, 0.15, 0.0, 0.0]
    """

    initial_lr: float = 0.01
    steps: int = 1000
    min_lr: float = 0.0
    restarts: bool = False
    growth: int = 1

    def __post_init__(self) -> None:
        self._require_number("initial_lr")
        self._require_number("min_lr")
        self._require_whole("steps", 1)
        self._require_whole("growth", 1)
        require_flags(self)
        self._require(self.restarts or self.growth == 1, f"growth is {self.growth!r}, but there are no restarts")

    def at(self, step: Value) -> Value:
        return self.min_lr + (self.initial_lr - self.min_lr) * 0.5 * (1.0 + ir.cos(math.pi * self._part(step)))

    def _part(self, step: Value) -> Value:
        """How much of its cycle is over at a step."""
        cycles = step / float(self.steps)
        if not self.restarts:
            return ir.minimum(cycles, 1.0)
        if self.growth == 1:
            return cycles - ir.floor(cycles)

        def start(number: Value) -> Value:
            return ir.round((ir.pow(float(self.growth), number) - 1.0) / (self.growth - 1.0))

        # The logarithm may be off by a rounding: the number of the cycle is put right by its start.
        number = ir.floor(ir.log(cycles * (self.growth - 1.0) + 1.0) / math.log(self.growth))
        number = ir.where(ir.less(cycles, start(number)), number - 1.0, number)
        number = ir.where(ir.less(cycles, start(number + 1.0)), number, number + 1.0)
        return (cycles - start(number)) / (start(number + 1.0) - start(number))


@dataclass(frozen=True)
class OneCycleScheduler(ByStep):
    """From max_lr / div_factor up to max_lr in the first `pct_start` of all steps, then down to
    max_lr / div_factor / final_div_factor at the last; both ways along a cosine, or a line (`anneal="linear"`).

    The rate stays at its last value after `steps` steps. Momentum is left alone.

    Reference: Smith & Topin, 2018.

    >>> from graphnn import nn
    >>> [round(float(rate), 2) for rate in nn.OneCycleScheduler(1.0, steps=8, pct_start=0.5).rates(8)]
    [0.04, 0.28, 0.76, 1.0, 0.85, 0.5, 0.15, 0.0]
    """

    max_lr: float = 0.01
    steps: int = 1000
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    anneal: str = "cos"

    def __post_init__(self) -> None:
        self._require_number("max_lr")
        self._require_whole("steps", 1)
        self._require_number("pct_start", 0.0, 1.0)
        self._require(self.pct_start < 1, f"pct_start is {self.pct_start!r}; it must be below 1")
        self._require_number("div_factor", above=True)
        self._require_number("final_div_factor", above=True)
        self._require(self.anneal in ("cos", "linear"), f"anneal is {self.anneal!r}; it must be 'cos' or 'linear'")

    def at(self, step: Value) -> Value:
        low = self.max_lr / self.div_factor
        top, end = self.pct_start * self.steps - 1.0, max(self.steps - 1.0, 1.0)
        down = self._between(self.max_lr, low / self.final_div_factor, ir.minimum((step - top) / (end - top), 1.0))
        if top <= 0:
            return down
        return ir.where(ir.less(step, top), self._between(low, self.max_lr, step / top), down)

    def _between(self, start: float, end: float, part: Value) -> Value:
        if self.anneal == "linear":
            return start + (end - start) * part
        return end + (start - end) * 0.5 * (1.0 + ir.cos(math.pi * part))
