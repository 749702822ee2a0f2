"""Training: a model's optimiser, loss and metrics, and the graphs made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphnn.autodiff.gradients import gradients
from graphnn.errors import DTypeError, FileFormatError, UnsupportedError
from graphnn.ir.graph import Graph
from graphnn.ir.loc import scope
from graphnn.ir.modes import resolve_modes
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.nn import losses, optimisers
from graphnn.nn.described import DescriptionError, describe
from graphnn.nn.losses import Loss
from graphnn.nn.metrics import as_metric
from graphnn.nn.optimisers import Optimizer
from graphnn.runtime.compile import compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State


class Totals:
    """Means over examples of numbers that come batch by batch."""

    def __init__(self, names: Sequence[str], summed: Sequence[bool]) -> None:
        self.names, self.summed = names, summed
        self.count = 0
        self._sums = [0.0] * len(names)

    def add(self, values: Any, count: int) -> None:
        """One batch: the mean (or sum) of each quantity over its `count` examples."""
        values = values if isinstance(values, tuple) else (values,)
        self.count += count
        for i, value in enumerate(values):
            self._sums[i] += float(value) * (1 if self.summed[i] else count)

    def means(self) -> dict[str, float]:
        return {name: total / max(self.count, 1) for name, total in zip(self.names, self._sums, strict=True)}


class Training:
    """How a model is trained. Steps are compiled for the targets they meet first: ids, or real numbers."""

    def __init__(self, graph: Graph, optimizer: Optimizer, loss: Loss, metrics: tuple[str, ...], backend: str) -> None:
        self.graph, self.optimizer, self.loss, self.metrics, self.backend = graph, optimizer, loss, metrics, backend
        if loss.reduction == "none":
            raise DescriptionError(f"training needs a loss that is one number; {type(loss).__name__} has reduction='none'")
        self._metrics = [as_metric(name) for name in metrics]
        self._steps: dict[TensorType, Executable] = {}
        self._measures: dict[TensorType, Executable] = {}
        train = self.example = self.train_graph(self._declared(False))
        self.own_states = {state.name for state, _ in train.updates}
        self.own_states |= {value.name for value in train.by_role("state")}

    def _declared(self, integer: bool) -> TensorType:
        return self.loss.target_type(self.graph.outputs[0].type, integer)

    def target_type(self, targets: np.ndarray) -> TensorType:
        """The declared type for the user's targets: ids when they have one axis less than the prediction, else real numbers."""
        if targets.dtype.kind not in "biuf":
            raise DTypeError(f"the targets are an array of {targets.dtype}", hint="give class ids or real numbers")
        ids, real = self._declared(True), self._declared(False)
        if ids.rank == real.rank:
            whole = targets.dtype.kind in "biu" or bool(np.all(targets == np.floor(targets)))
            return ids if whole else real
        return ids if targets.ndim == ids.rank else real

    def _graph(self, target_type: TensorType, name: str, train: bool) -> Graph:
        graph = resolve_modes(self.graph, train)
        prediction = graph.outputs[0]
        target = placeholder("target", target_type)
        with scope("loss"):
            loss = self.loss(prediction, target)
        with scope("metrics"):
            metrics = [metric(prediction, target) for metric in self._metrics]
        updates = list(graph.updates)
        if train:
            params = graph.by_role("param")
            updates += self.optimizer.updates(params, gradients(loss, params), loss)
        return Graph.of(name, [*graph.by_role("input"), target], [loss, *metrics], updates=updates)

    def train_graph(self, target_type: TensorType) -> Graph:
        """Forward, backward and update as one graph."""
        return self._graph(target_type, "train", True)

    def step(self, targets: np.ndarray, state: State) -> Executable:
        """The compiled training step for such targets."""
        kind = self.target_type(targets)
        if kind not in self._steps:
            self._steps[kind] = compile_graph(self.train_graph(kind), state=state, backend=self.backend)
        return self._steps[kind]

    def measure(self, targets: np.ndarray, state: State) -> Executable:
        """The compiled loss and metrics for such targets."""
        kind = self.target_type(targets)
        if kind not in self._measures:
            graph = self._graph(kind, "evaluate", False)
            self._measures[kind] = compile_graph(graph, state=state, backend=self.backend)
        return self._measures[kind]

    def totals(self) -> Totals:
        return Totals(("loss", *self.metrics), (self.loss.reduction == "sum", *(False for _ in self.metrics)))

    def described(self) -> dict[str, Any]:
        """What a file says of it. Raises UnsupportedError for a user's own optimiser or loss: a file holds no code."""
        for thing, table in ((self.optimizer, optimisers.BY_NAME), (self.loss, losses.BY_NAME)):
            if type(thing) not in table.values():
                raise UnsupportedError(f"{type(thing).__name__} is not part of graphnn, and a file holds no code",
                                       hint="model.save(path, training=False) saves graph and weights alone")
        return {"optimizer": describe(self.optimizer), "loss": describe(self.loss), "metrics": list(self.metrics)}

    @staticmethod
    def read(train: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of Model.compile that a file describes. Raises FileFormatError."""
        try:
            return {
                "optimizer": optimisers.as_optimiser(str(train["optimizer"])),
                "loss": losses.as_loss(str(train["loss"])),
                "metrics": [str(name) for name in train["metrics"]],
            }
        except (KeyError, TypeError, DescriptionError) as error:
            raise FileFormatError(f"the training section of the file is not understood: {error}") from error
