"""A model looked at: its table, its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphnn.inspect.profile import Profile
from graphnn.inspect.summary import summary
from graphnn.ir.graph import Graph
from graphnn.ir.modes import resolve_modes
from graphnn.nn.described import DescriptionError, describe
from graphnn.nn.trained_loss import FunctionLoss
from graphnn.runtime.compile import compile_graph

if TYPE_CHECKING:
    from graphnn.nn.model import Model


def summary_of(model: Model, training: bool) -> str:
    """The table of a model's layers, and lines on what is frozen and how it is trained."""
    resolved = resolve_modes(model.whole_graph, training)
    lines = [summary(Graph.of(resolved.name, resolved.by_role("input"), resolved.outputs))]
    if model.frozen:
        lines.append(f"frozen: {', '.join(model.frozen)}")
    made = model._training
    if made is not None:
        lines.append(f"optimizer: {_text(made.optimizer)}")
        for term in made.objective.terms:
            of = f" of {term.name}" if len(model.output_names) > 1 else ""
            factor = "" if term.factor == 1.0 else f"{term.factor:g} * "
            watched = f"; metrics: {', '.join(metric.label for metric in term.metrics)}" if term.metrics else ""
            lines.append(f"loss{of}: {factor}{_text(term.loss)}{watched}")
        lines += [f"loss {name}: {factor:g} * a value of the graph" for name, factor in made.objective.extra]
    return "\n".join(lines)


def _text(thing: Any) -> str:
    try:
        return thing.function.__name__ if isinstance(thing, FunctionLoss) else describe(thing)
    except (DescriptionError, AttributeError):
        return repr(thing)


def profile_of(model: Model, x: Any, training: bool, runs: int) -> Profile:
    resolved = resolve_modes(model.graph, training)
    graph = Graph.of(resolved.name, model._asked, resolved.outputs)
    arrays = model._asked_arrays(x)
    exe = compile_graph(graph, state=model.state, training=False, backend=model.backend)
    exe(*arrays)
    plan, nanoseconds = exe.profile(*arrays, runs=runs)
    return Profile.of(plan.program.graph, plan.row_nodes, nanoseconds, plan.sizes)
