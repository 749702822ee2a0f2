"""Training: a model's optimiser and objective, and the graphs and executables made of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.errors import FileFormatError, GraphnnError, UnsupportedError
from graphnn.ir.graph import Graph, Value
from graphnn.ir.loc import scope
from graphnn.ir.modes import resolve_modes
from graphnn.ir.ops.inputs import state as new_state
from graphnn.ir.types import DType
from graphnn.nn import losses, metrics, optimisers
from graphnn.nn.arguments import as_count
from graphnn.nn.described import DescriptionError, describe
from graphnn.nn.freezing import Frozen, hold
from graphnn.nn.initialisers import zeros
from graphnn.nn.metrics import Metric
from graphnn.nn.objective import Kind, Objective, Written
from graphnn.nn.optimisers import Optimizer
from graphnn.nn.totals import Layout
from graphnn.nn.trained_loss import FunctionLoss
from graphnn.runtime.compile import compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State

T = TypeVar("T")
Updates = list[tuple[Value, Value]]


@dataclass(frozen=True)
class Step:
    """An executable for batches of one kind, and what its outputs are."""

    exe: Executable
    layout: Layout

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        values = self.exe(*arrays)
        return values if type(values) is tuple else (values,)


class Training:
    """How a model is trained. Steps are compiled for the kinds of batches that they meet first, and kept."""

    def __init__(self, optimizer: Optimizer, objective: Objective, accumulate: int, backend: str) -> None:
        self.optimizer, self.objective, self.backend = optimizer, objective, backend
        self.accumulate = as_count(accumulate, "accumulate")
        self._steps: dict[tuple[Kind, Frozen], Step] = {}
        self._measures: dict[Kind, Step] = {}
        self._applies: dict[Frozen, Executable] = {}
        self._compiled = False
        # The states of training are there from the start, so that they can be set before the first step.
        self.examples = [self._first_graph(), *([self.apply_graph(Frozen())] if self.accumulate > 1 else [])]
        self._compiled = True
        self.own_states = {state.name for graph in self.examples for state, _ in graph.updates}
        self.own_states |= {value.name for graph in self.examples for value in graph.by_role("state")}

    def _first_graph(self) -> Graph:
        """The training graph for real targets; for ids, where a user's loss takes those alone."""
        kind, other = self.objective.first_kind(), self.objective.other_kind()
        try:
            return self.train_graph(kind, Frozen())[0]
        except GraphnnError:
            if other == kind or not any(isinstance(term.loss, FunctionLoss) for term in self.objective.terms):
                raise
        return self.train_graph(other, Frozen())[0]

    # ------------------------------------------------------------------------------------------ graphs

    def train_graph(self, kind: Kind, frozen: Frozen) -> tuple[Graph, Layout]:
        """Forward, backward and update as one graph; when gradients are accumulated, what adds them up instead of the update."""
        graph = resolve_modes(hold(self.objective.graph, frozen.statistics), True)
        written = self.objective.write(graph, kind)
        updates = list(graph.updates)
        params = self._trained(graph, frozen)
        if params:
            grads = gradients(written.loss, params)
            if self.accumulate > 1:
                updates += self._accumulated(params, grads, written)
            else:
                updates += self._optimised(params, grads, written.loss)
        inputs = [*graph.by_role("input"), *written.inputs]
        return Graph.of("train", inputs, written.outputs, updates=updates), written.layout

    def apply_graph(self, frozen: Frozen) -> Graph:
        """The update by the mean of the accumulated gradients, which start from 0 again."""
        params = self._trained(self.objective.graph, frozen)
        with scope("accumulated"):
            sums, weight, loss, steps = self._sums(params)
            count = 1.0 if self._sums_gradients else ir.where(ir.equal(weight, 0.0), 1.0, weight)
            grads = [total / ir.cast(count, total.dtype) if isinstance(count, Value) else total for total in sums]
            mean = loss / count
        updates = self._optimised(params, grads, mean) if params else []
        updates += [(state, ir.zeros(state.shape, dtype=state.dtype)) for state in (*sums, weight, loss, steps)]
        return Graph.of("apply", [], [], updates=updates)

    def _optimised(self, params: Sequence[Value], grads: Sequence[Value], loss: Value) -> Updates:
        with warnings.catch_warnings():
            if self._compiled:                           # has warned then, and what is frozen now may be all of a group
                warnings.filterwarnings("ignore", ".* the group .* fits none of the")
            return self.optimizer.updates(params, grads, loss=loss)

    @staticmethod
    def _trained(graph: Graph, frozen: Frozen) -> list[Value]:
        return [value for value in graph.by_role("param") if value.name not in frozen.params]

    @property
    def _sums_gradients(self) -> bool:
        terms = self.objective.terms
        return len(self.objective.losses) == 1 and len(terms) == 1 and terms[0].loss.reduction == "sum"

    def _sums(self, params: Sequence[Value]) -> tuple[list[Value], Value, Value, Value]:
        dtype = DType.f64 if any(param.dtype is DType.f64 for param in params) else DType.f32
        path = f"{self.optimizer.label}/accumulated"     # as a slot of the optimiser's: models that share a state tell them apart
        sums = [new_state(f"{path}/{param.name}", param.shape, zeros, dtype=param.dtype) for param in params]
        weight, loss = (new_state(f"{path}/{label}", (), zeros, dtype=dtype) for label in ("weight", "loss"))
        return sums, weight, loss, new_state(f"{path}/steps", (), zeros, dtype=DType.i64)

    def waiting(self, state: State) -> int:
        """How many batches have been added up since the last update."""
        return int(state[f"{self.optimizer.label}/accumulated/steps"]) if self.accumulate > 1 else 0

    def _accumulated(self, params: Sequence[Value], grads: Sequence[Value], written: Written) -> Updates:
        with scope("accumulated"):
            sums, weight, loss, steps = self._sums(params)
            share = written.weight
            if share is None:
                updates = [(total, total + grad) for total, grad in zip(sums, grads, strict=True)]
                return [*updates, (loss, loss + ir.cast(written.loss, loss.dtype)), (weight, weight + 1.0), (steps, steps + 1)]
            updates = [(total, total + grad * ir.cast(share, grad.dtype)) for total, grad in zip(sums, grads, strict=True)]
            whole = loss + ir.cast(written.loss * ir.cast(share, written.loss.dtype), loss.dtype)
            return [*updates, (loss, whole), (weight, weight + ir.cast(share, weight.dtype)), (steps, steps + 1)]

    # ------------------------------------------------------------------------------------------ executables

    def step(self, kind: Kind, frozen: Frozen, state: State) -> Step:
        """The compiled training step for such batches."""
        key = kind, frozen
        if key not in self._steps:
            graph, layout = self.train_graph(kind, frozen)
            self._steps[key] = Step(compile_graph(graph, state=state, backend=self.backend), layout)
        return self._steps[key]

    def apply(self, frozen: Frozen, state: State) -> Executable:
        """The compiled update by accumulated gradients."""
        if frozen not in self._applies:
            self._applies[frozen] = compile_graph(self.apply_graph(frozen), state=state, backend=self.backend)
        return self._applies[frozen]

    def measure(self, kind: Kind, state: State) -> Step:
        """The compiled losses and metrics for such batches; nothing is trained."""
        if kind not in self._measures:
            graph = resolve_modes(self.objective.graph, False)
            written = self.objective.write(graph, kind)
            graph = Graph.of("evaluate", [*graph.by_role("input"), *written.inputs], written.outputs)
            self._measures[kind] = Step(compile_graph(graph, state=state, backend=self.backend), written.layout)
        return self._measures[kind]

    # ------------------------------------------------------------------------------------------ files

    def described(self) -> dict[str, Any]:
        """What a file says of it. Raises UnsupportedError for a user's own optimiser, loss or metric: a file holds no code."""
        objective = self.objective
        loss: Any = {term.name: _described(term.loss, losses.as_loss) for term in objective.terms}
        watched: Any = {term.name: [_described(metric, metrics.as_metric) for metric in term.metrics] for term in objective.terms}
        if len(objective.outputs) == 1:
            loss, watched = next(iter(loss.values()), None), next(iter(watched.values()), [])
        result = {"optimizer": _described(self.optimizer, optimisers.as_optimiser), "loss": loss, "metrics": watched}
        if not objective.is_default:
            names = [*(term.name for term in objective.terms), *(name for name, _ in objective.extra)]
            result["loss_weights"] = dict(zip(names, (factor for _, factor in objective.losses), strict=True))
        if self.accumulate > 1:
            result["accumulate"] = self.accumulate
        return result

    @staticmethod
    def read(train: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of Model.compile that a file describes. Raises FileFormatError."""
        try:
            return {
                "optimizer": optimisers.as_optimiser(str(train["optimizer"])),
                "loss": _each(train["loss"], lambda loss: None if loss is None else losses.as_loss(str(loss))),
                "metrics": _each(train["metrics"], lambda names: [metrics.as_metric(str(name)) for name in names]),
                "loss_weights": train.get("loss_weights"),
                "accumulate": train.get("accumulate", 1),
            }
        except (KeyError, TypeError, DescriptionError) as error:
            raise FileFormatError(f"the training section of the file is not understood: {error}") from error


def _each(value: Any, read: Any) -> Any:
    return {str(name): read(one) for name, one in value.items()} if isinstance(value, Mapping) else read(value)


def _described(thing: Optimizer | losses.Loss | Metric, read: Any) -> str:
    """The string of which a file can make the thing again. Raises UnsupportedError for what only code can make."""
    try:
        text = describe(thing)
        if type(read(text)) is type(thing):
            return text
    except GraphnnError:
        pass
    name = getattr(getattr(thing, "function", None), "__name__", type(thing).__name__)
    raise UnsupportedError(f"{name} is not part of graphnn, and a file holds no code",
                           hint="model.save(path, training=False) saves graph and weights alone")
