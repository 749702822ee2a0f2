"""Objective: what training makes small. A loss for each trained output, and losses that are values of the graph themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError, VerifyError
from graphnn.ir.dims import Dim
from graphnn.ir.graph import Graph, Value
from graphnn.ir.loc import scope
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import DType, TensorType
from graphnn.nn.arguments import is_number, is_whole
from graphnn.nn.losses import Loss
from graphnn.nn.metrics import Metric, as_metrics
from graphnn.nn.outputs import for_each_output, is_by_name
from graphnn.nn.totals import Layout, LossAt, Totals
from graphnn.nn.trained_loss import by_class, total_weight, trained_loss


@dataclass(frozen=True)
class Kind:
    """What the targets and weights of a batch are. A step is compiled for each kind that comes."""

    targets: tuple[TensorType, ...]
    weights: tuple[int, ...]                             # the rank of the sample weights of each, 0 where there are none
    classes: tuple[tuple[float, ...] | None, ...]        # class weights


@dataclass(frozen=True)
class Term:
    """A trained output: its name and index, its loss and how much it counts, its metrics."""

    name: str
    index: int
    loss: Loss
    factor: float
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Written:
    """The objective as values: further inputs, the loss, all outputs of a step with their layout; and what the mean gradient of a
    batch counts when several batches are averaged, None for losses that are sums."""

    inputs: tuple[Value, ...]
    loss: Value
    outputs: tuple[Value, ...]
    layout: Layout
    weight: Value | None


class Objective:
    """The losses and metrics of a model whose graph has these `outputs`, then the values `extra`."""

    def __init__(self, graph: Graph, outputs: Sequence[str], extra: Sequence[str], loss: Any, metrics: Any,
                 loss_weights: Any) -> None:
        self.graph, self.outputs = graph, tuple(outputs)
        specs = {name: spec for name, spec in for_each_output(loss, outputs, "loss").items() if spec is not None}
        factors = dict.fromkeys((*specs, *extra), 1.0)
        if loss_weights is not None:
            factors |= for_each_output(loss_weights, list(factors), "loss_weights")
        for name, factor in factors.items():
            if not is_number(factor):
                raise VerifyError(f"the loss weight of {name!r} is {factor!r}; it must be a number")
        watched = _metrics_of(metrics, self.outputs, list(specs))
        self.terms = tuple(Term(name, self.outputs.index(name), trained_loss(spec), float(factors[name]), watched[name])
                           for name, spec in specs.items())
        self.extra = tuple((name, float(factors[name])) for name in extra)
        several = len(self.terms) > 1
        self.losses = [*((f"{term.name}_loss", term.factor) for term in self.terms), *self.extra]
        self.metrics = [(f"{term.name}_{metric.label}" if several else metric.label, metric)
                        for term in self.terms for metric in term.metrics]
        columns = ["loss", *(name for name, _ in self.losses), *(column for column, _ in self.metrics)]
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise VerifyError(f"two columns of the history would be named {twice[0]!r}",
                              hint="give outputs, losses and metrics other names")

    @property
    def is_default(self) -> bool:
        """Whether all losses count alike."""
        return all(factor == 1.0 for _, factor in self.losses)

    def totals(self) -> Totals:
        return Totals(self.losses, self.metrics)

    # ------------------------------------------------------------------------------------------ kinds of batches

    def first_kind(self) -> Kind:
        """The kind that is built when the model is compiled: real targets, without weights."""
        return self._kind_of([self.prediction(term).type for term in self.terms], integer=False)

    def other_kind(self) -> Kind:
        """As first_kind, with ids for targets."""
        return self._kind_of([self.prediction(term).type for term in self.terms], integer=True)

    def _kind_of(self, types: Sequence[TensorType], *, integer: bool) -> Kind:
        targets = tuple(term.loss.target_type(type, integer) for term, type in zip(self.terms, types, strict=True))
        return Kind(targets, (0,) * len(targets), (None,) * len(targets))

    def prediction(self, term: Term) -> Value:
        return self.graph.outputs[term.index]

    def target_type(self, term: Term, targets: np.ndarray, what: str) -> TensorType:
        """The declared type for the user's targets: ids when they have one axis less than the prediction, or one number there for
        several classes; else real numbers."""
        if targets.dtype.kind not in "biuf":
            raise DTypeError(f"{what} are an array of {targets.dtype}", hint="give class ids or real numbers")
        prediction = self.prediction(term).type
        ids, real = term.loss.target_type(prediction, True), term.loss.target_type(prediction, False)
        if ids.rank == real.rank:
            whole = targets.dtype.kind in "biu" or bool(np.all(targets == np.floor(targets)))
            return ids if whole else real
        column = targets.ndim == real.rank > 1 and targets.shape[-1] == 1 != real.shape[-1]
        return ids if column or targets.ndim == ids.rank else real

    def classes(self, class_weight: Any) -> tuple[tuple[float, ...] | None, ...]:
        """The weight of each class for each trained output, from {class: weight}, or that by output name."""
        if class_weight is None:
            return (None,) * len(self.terms)
        if not isinstance(class_weight, Mapping):
            raise VerifyError(f"class_weight is {class_weight!r}; it is a dictionary from classes to weights")
        names = [term.name for term in self.terms]
        given = dict.fromkeys(names, class_weight)
        if all(isinstance(key, str) for key in class_weight):
            given = for_each_output(class_weight, names, "class_weight")
        return tuple(self._of_classes(term, given.get(term.name)) for term in self.terms)

    def _of_classes(self, term: Term, weights: Any) -> tuple[float, ...] | None:
        if weights is None:
            return None
        prediction = self.prediction(term).type
        count = prediction.shape[-1] if prediction.rank > 1 else 1
        if isinstance(count, Dim):
            raise ShapeError(f"class_weight: the number of classes of {prediction} is not known")
        count = max(count, 2)                            # one score an example is yes or no
        for key, weight in weights.items():
            if not is_whole(key) or not 0 <= key < count:
                raise VerifyError(f"class_weight names the class {key!r}; the output {prediction} has the classes 0 to "
                                  f"{count - 1}")
            if not is_number(weight) or weight < 0:
                raise VerifyError(f"class_weight of {key} is {weight!r}; it must be a number, not negative")
        return tuple(float(weights.get(i, 1.0)) for i in range(count))

    # ------------------------------------------------------------------------------------------ writing

    def write(self, graph: Graph, kind: Kind) -> Written:
        """The losses and metrics of a form of the graph, for batches of this kind."""
        taken = {value.name for value in graph.inputs}
        targets: list[Value] = []
        weights: list[Value] = []
        losses: list[Value] = []
        totals: list[Value | None] = []
        sums: list[tuple[Value, ...]] = []
        for i, term in enumerate(self.terms):
            prediction = graph.outputs[term.index]
            target = placeholder(self._label("target", term, taken), kind.targets[i])
            targets.append(target)
            given = None
            if kind.weights[i]:
                shape = target.shape[:kind.weights[i]]
                given = placeholder(self._label("weight", term, taken), TensorType(prediction.dtype, shape))
                weights.append(given)
            with scope("loss" if len(self.terms) == 1 else f"loss/{term.name}"):
                weight = by_class(given, kind.classes[i], prediction, target)
                losses.append(term.loss(prediction, target) if weight is None else term.loss(prediction, target, weight))
                totals.append(total_weight(term.loss, prediction, target, weight))
            with scope("metrics"):
                sums += [metric.collected(prediction, target, given) if metric.collects else
                         metric.sums(prediction, target, given) for metric in term.metrics]
        extra = graph.outputs[len(self.outputs):]
        with scope("loss"):
            parts = [*losses, *extra]
            dtype = parts[0].dtype
            scaled = [ir.cast(part, dtype) if factor == 1.0 else ir.cast(part, dtype) * factor
                      for part, (_, factor) in zip(parts, self.losses, strict=True)]
            loss = sum(scaled[1:], scaled[0])
            weight = self._weight(graph, targets, losses, totals, dtype)
        outputs, layout = self._laid_out(loss, parts, totals, sums)
        return Written((*targets, *weights), loss, outputs, layout, weight)

    def _label(self, what: str, term: Term, taken: set[str]) -> str:
        label = what if len(self.terms) == 1 else f"{what}/{term.name}"
        while label in taken:
            label += "_"
        taken.add(label)
        return label

    def _laid_out(self, loss: Value, parts: Sequence[Value], totals: Sequence[Value | None],
                  sums: Sequence[tuple[Value, ...]]) -> tuple[tuple[Value, ...], Layout]:
        outputs = [loss]
        where: list[LossAt] = []
        for i, part in enumerate(parts):
            if len(parts) > 1 or part != loss:
                outputs.append(part)
            at, total, summed = len(outputs) - 1, None, False
            if i < len(self.terms):
                total, summed = totals[i], self.terms[i].loss.reduction == "sum"
            if total is not None:
                outputs.append(total)
            where.append(LossAt(at, None if total is None else len(outputs) - 1, summed))
        spans: list[tuple[int, int]] = []
        for values in sums:
            spans.append((len(outputs), len(outputs) + len(values)))
            outputs += values
        return tuple(outputs), Layout(tuple(where), tuple(spans))

    def _weight(self, graph: Graph, targets: Sequence[Value], losses: Sequence[Value], totals: Sequence[Value | None],
                dtype: DType) -> Value | None:
        if len(self.losses) == 1 and losses:
            if self.terms[0].loss.reduction == "sum":
                return None
            if totals[0] is not None:
                return totals[0]
        first = graph.by_role("input")[0]
        return ir.size_of(first.shape[0] if first.rank else 1, dtype)


def _metrics_of(metrics: Any, outputs: Sequence[str], trained: Sequence[str]) -> dict[str, tuple[Metric, ...]]:
    if not is_by_name(metrics, outputs):
        found = as_metrics(metrics)
        if found and not trained:
            raise VerifyError("metrics need an output with a loss: without one there are no targets")
        return dict.fromkeys(trained, found)
    watched = {name: as_metrics(spec) for name, spec in for_each_output(metrics, outputs, "metrics").items()}
    for name, found in watched.items():
        if found and name not in trained:
            raise VerifyError(f"metrics are given for {name!r}, which has no loss: its targets are unknown")
    return {name: watched.get(name, ()) for name in trained}
