"""Of one declared graph the training graph, or the evaluation graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphnn.errors import UnsupportedError, VerifyError
from graphnn.ir.attrs import bodies_of
from graphnn.ir.graph import Graph, Node, Value, collect, role_of
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops.modes import ByMode, WithUpdate
from graphnn.ir.ops.scan import Scan, rebuild
from graphnn.ir.rewrite import rewrite

Updates = list[tuple[Value, Value]]


def has_modes(nodes: Iterable[Node]) -> bool:
    """Whether training and evaluation differ in these nodes, bodies of scans included."""
    return any(isinstance(node.op, (ByMode, WithUpdate)) or any(has_modes(body.nodes) for body in bodies_of(node.op))
               for node in nodes)


def trains(graph: Graph) -> bool:
    """Whether a graph updates a parameter."""
    return any(role_of(state) == "param" for state, _ in graph.updates)


def resolve_modes(graph: Graph, training: bool) -> Graph:
    """The graph as it is in training, or as it is in evaluation: no `by_mode` and no `with_update` is left in it.

    In training the updates of states that the graph carries join `graph.updates`. Raises VerifyError for a state that has an
    update there already.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((4,), name="x")
    >>> graph = gnn.Graph.of("net", [x], [nn.BatchNorm1D()(x)])
    >>> [state.name for state, _ in resolve_modes(graph, training=True).updates]
    ['batch_norm1d/running_mean', 'batch_norm1d/running_var']
    """
    if not has_modes(graph.nodes):
        return graph
    resolved, carried = _resolve(graph, training)
    known = {state for state, _ in resolved.updates}
    for state, _ in carried:
        if role_of(state) not in ("param", "state"):
            raise VerifyError(f"{state!r} cannot be updated: it is no param or state")
        if state in known:
            raise VerifyError(f"{state.name!r} is updated by a layer and by the updates of {graph.name!r}")
    updates = [*resolved.updates, *carried]
    return Graph.of(graph.name, resolved.inputs, resolved.outputs, updates=updates)


def resolve_values(values: Sequence[Value], of: Value, training: bool) -> tuple[Value, list[Value | None]]:
    """`of` as it is in training (or evaluation), and what each of `values` is on the way to it; None for one that is not."""
    nodes = collect([of])
    inputs = [node.output for node in nodes if role_of(node) is not None]
    on_way = {value for node in nodes for value in node.outputs}
    wanted = [value for value in values if value in on_way]
    graph = Graph.of("of", [v for v in inputs if role_of(v) == "input"], [of, *wanted])
    resolved, _ = _resolve(graph, training)
    found = dict(zip(wanted, resolved.outputs[1:], strict=True))
    return resolved.outputs[0], [found.get(value) for value in values]


def _resolve(graph: Graph, training: bool) -> tuple[Graph, Updates]:
    """The graph without mode ops, and the updates that it carried (none in evaluation)."""

    def choose(node: Node, inputs: tuple[Value, ...]) -> Value | None:
        return inputs[0 if training else 1] if isinstance(node.op, ByMode) else None

    chosen = rewrite(graph, choose)                      # first: an update in the branch not taken is none
    carried: Updates = []

    def strip(node: Node, inputs: tuple[Value, ...]) -> Value | tuple[Value, ...] | None:
        if isinstance(node.op, WithUpdate):
            y, state, new = inputs
            carried.append((state, new))
            return y
        bodies = {name: value for name, value in vars(node.op).items() if isinstance(value, Graph)}
        if not any(has_modes(body.nodes) for body in bodies.values()):
            return None
        made = {name: _resolve(body, training) for name, body in bodies.items()}
        for body, inner in made.values():
            carried.extend(_outside(node.op, body, inner, inputs))
        op = replace(node.op, **{name: body for name, (body, _) in made.items()})  # type: ignore[type-var]
        return make_node(op, inputs, node.loc).outputs

    stripped = rewrite(chosen, strip)
    return stripped, _composed(carried) if training else []


def _outside(op: Op, body: Graph, inner: Updates, inputs: Sequence[Value]) -> Updates:
    """The updates of a body, said of the values outside: those that are the same in every step."""
    fixed: dict[Value, Value] = {}
    if isinstance(op, Scan):
        first = op.carries + op.sequences
        fixed = dict(zip(body.inputs[first:], inputs[first:], strict=True))
    for state, new in inner:
        if state not in fixed or new not in fixed:
            raise UnsupportedError("a state is updated inside a scan by what its steps compute",
                                   hint="hand it through the scan as a carry, or apply the layer to the whole sequence outside")
    return [(fixed[state], fixed[new]) for state, new in inner]


def _composed(carried: Updates) -> Updates:
    """One update a state: a later one starts from what an earlier one left. Equal ones count once."""
    result: dict[Value, Value] = {}
    seen: set[tuple[Value, Value]] = set()
    for state, new in carried:
        if (state, new) not in seen:
            seen.add((state, new))
            result[state] = rebuild([new], {state: result[state]})[0] if state in result else new
    return list(result.items())
