"""Freezing: which parameters training leaves as they are. Gradients flow through them to what lies before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphnn.errors import VerifyError
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops.modes import ByMode, WithUpdate
from graphnn.ir.rewrite import rewrite
from graphnn.nn.layer import Layer

Part = Layer | Value | str


@dataclass(frozen=True)
class Frozen:
    """The names of what training leaves as it is: parameters, and statistics."""

    params: frozenset[str] = frozenset()
    statistics: frozenset[str] = frozenset()


def names_of_parts(graph: Graph, parts: Sequence[Part]) -> tuple[list[str], list[str]]:
    """The parameters and the statistics (real-valued states that training updates) of parts of a graph: layers, values, names,
    layer paths; of all when no part is given. Raises VerifyError for a part that has none."""
    params = [value.name for value in graph.by_role("param")]
    updated = {node.inputs[1] for node in graph.nodes if isinstance(node.op, WithUpdate)}
    statistics = [value.name for value in graph.by_role("state") if value.dtype.is_float and value in updated]
    if not parts:
        return params, statistics
    chosen = set[str]()
    for part in parts:
        found = {name for name in (*params, *statistics) if _is_in(name, part)}
        if not found:
            raise VerifyError(f"{_described(part)} has no parameters in this model",
                              hint=f"the parameters are {', '.join(params) or 'none'}")
        chosen |= found
    return [name for name in params if name in chosen], [name for name in statistics if name in chosen]


def _is_in(name: str, part: Part) -> bool:
    if isinstance(part, Layer):
        return any(value.name == name for value in (*part.parameters, *part.states))
    path = part.name if isinstance(part, Value) else part
    if not isinstance(path, str):
        raise VerifyError(f"{part!r} is no layer, layer path or parameter")
    return name == path or name.startswith(f"{path.rstrip('/')}/")


def _described(part: Part) -> str:
    return f"the layer {type(part).__name__}" if isinstance(part, Layer) else repr(getattr(part, "name", part))


def hold(graph: Graph, states: Collection[str]) -> Graph:
    """The graph in which these states stay as they are, and what depends on the mode because of them is as in evaluation: a
    BatchNorm1D whose statistics are held normalises by them in training too."""
    if not states:
        return graph

    def updates_held(value: Value) -> bool:
        while isinstance(value.node.op, WithUpdate):
            if value.node.inputs[1].name in states:
                return True
            value = value.node.inputs[0]
        return False

    held = {node for node in graph.nodes if isinstance(node.op, ByMode) and updates_held(node.inputs[0])}

    def rule(node: Node, inputs: tuple[Value, ...]) -> Value | None:
        if node in held:
            return inputs[1]
        if isinstance(node.op, WithUpdate) and node.inputs[1].name in states:
            return inputs[0]
        return None

    return rewrite(graph, rule)
