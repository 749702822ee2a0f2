"""What a scheduler is: the learning rate as a value of the graph, so that each compiled step computes the next one itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphnn.errors import VerifyError
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.ops.casting import cast
from graphnn.ir.ops.inputs import placeholder, state
from graphnn.ir.types import DType
from graphnn.nn.arguments import is_number, is_whole
from graphnn.nn.described import DescriptionError
from graphnn.nn.initialisers import Constant, zeros
from graphnn.runtime.compile import compile_graph

Updates = list[tuple[Value, Value]]


@dataclass(frozen=True)
class Scheduler:
    """Base of schedulers. An optimiser calls `next` once, when a step is written: the compiled step then computes, besides its
    updates, the learning rate of the step that follows. What a scheduler remembers are states of the optimiser, saved with it.

    Steps count from 0. A scheduler of your own has `first` and `next`; one that depends on the count alone has `at` (ByStep).
    """

    needs_loss: ClassVar[bool] = False

    @property
    def first(self) -> float:
        """The learning rate of the first step."""
        raise NotImplementedError(f"{type(self).__name__}.first")

    def next(self, step: Value, rate: Value, loss: Value | None, label: str) -> tuple[Value, Updates]:
        """The learning rate of step number `step`, and the next values of the scheduler's own states, named "<label>/...".

        `rate` and `loss` are those of the step before; all real numbers are f64.
        """
        raise NotImplementedError(f"{type(self).__name__}.next")

    def rates(self, steps: int, losses: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
        """The learning rates of the first `steps` steps, f64[steps]. A scheduler that looks at the losses needs as many.

        >>> from graphnn import nn
        >>> [round(float(rate), 3) for rate in nn.StepScheduler(0.8, step_size=2, decay=0.5).rates(5)]
        [0.8, 0.8, 0.4, 0.4, 0.2]
        """
        seen = [0.0] * steps if losses is None else list(losses)
        if len(seen) < steps or (losses is None and self.needs_loss):
            raise VerifyError(f"{type(self).__name__}.rates: {steps} steps need as many losses")
        step, rate = state("step", (), zeros, dtype=DType.i64), state("lr", (), Constant(self.first), dtype=DType.f64)
        loss = placeholder("loss", "f64[]")
        after, own = self.next(step + 1, rate, loss, "schedule")
        updates = [(step, step + 1), (rate, after), *own]
        run = compile_graph(Graph.of("rates", [loss], [rate], updates=updates), backend="numpy")
        return np.array([run(np.asarray(seen[i], np.float64)) for i in range(steps)])

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_number(self, name: str, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> None:
        """The argument is a number in [low, high], or in (low, high] with `above`."""
        value = getattr(self, name)
        good = is_number(value) and low <= value <= high and not (above and value == low)
        wanted = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
        self._require(good, f"{name} is {value!r}; it must be a number, {wanted}")

    def _require_whole(self, name: str, low: int) -> None:
        value = getattr(self, name)
        self._require(is_whole(value) and value >= low, f"{name} is {value!r}; it must be a whole number, at least {low}")


@dataclass(frozen=True)
class ByStep(Scheduler):
    """A scheduler that depends on the number of the step alone: lr(t) is `at(t)`. One of your own:

    >>> import graphnn as gnn
    >>> from graphnn.nn.schedulers import ByStep
    >>> class SquareRoot(ByStep):
    ...     def at(self, step):
    ...         return 0.1 / gnn.sqrt(step + 1.0)
    >>> SquareRoot().rates(4).round(3).tolist()
    [0.1, 0.071, 0.058, 0.05]
    """

    def at(self, step: Value) -> Value:
        """The learning rates of steps, elementwise: f64 of any shape."""
        raise NotImplementedError(f"{type(self).__name__}.at")

    @property
    def first(self) -> float:
        return float(self.rates(1)[0])

    def next(self, step: Value, rate: Value, loss: Value | None, label: str) -> tuple[Value, Updates]:
        return self.at(cast(step, DType.f64)), []

    def rates(self, steps: int, losses: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
        """The learning rates of the first `steps` steps, f64[steps]."""
        step = placeholder("step", "f64[N]")
        return interpret(Graph.of("rates", [step], [self.at(step)]), [np.arange(steps, dtype=np.float64)]).outputs[0]
