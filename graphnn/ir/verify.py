"""Is this graph well formed? The verifier re-runs every type rule: it stands between a stranger's file and the kernels."""

from __future__ import annotations

from graphnn.errors import GraphnnError, VerifyError
from graphnn.ir.graph import Graph, Value, role_of


def verify(graph: Graph) -> None:
    """Raise VerifyError unless: every value is defined once and before its use, every type is what the op's rule gives,
    names of inputs are unique, and updates fit their states. Bodies are verified too."""
    defined: set[Value] = set()
    names: dict[str, Value] = {}
    for value in graph.inputs:
        if role_of(value) is None:
            raise VerifyError(f"{graph.name}: the input {value!r} is made by {value.node.op.name}")
        if value.name in names:
            error = VerifyError(f"{graph.name}: two inputs are named {value.name!r}",
                                hint="give one of them another name (name=...), or make each part of the network in a scope "
                                     'of its own: with gnn.scope("left"): ...')
            error.locate("", [f"  made at   {v.node.loc.called_at}" for v in (names[value.name], value) if v.node.loc.called_at])
            raise error
        names[value.name] = value
        defined.add(value)
    for node in graph.nodes:
        if role_of(node) is not None:
            raise VerifyError(f"{graph.name}: the input {node.output.name!r} stands among the nodes")
        for value in node.inputs:
            if value not in defined:
                raise VerifyError(f"{graph.name}: {node.op.name} reads a {value.type} of {value.node.op.name} before it is made")
        try:
            types = node.op.infer(*(value.type for value in node.inputs))
        except GraphnnError as error:
            raise VerifyError(f"{graph.name}: {node.op.name}: {error}") from error
        if types != node.types:
            raise VerifyError(f"{graph.name}: {node.op.name} has types {node.types}, its rule gives {types}")
        if not defined.isdisjoint(node.outputs):
            raise VerifyError(f"{graph.name}: {node.op.name} stands twice")
        defined.update(node.outputs)
        for attribute in node.op.attributes().values():
            if isinstance(attribute, Graph):
                verify(attribute)
    for value in graph.results:
        if value not in defined:
            raise VerifyError(f"{graph.name}: the result {value!r} is not made")
    states = [state for state, _ in graph.updates]
    if len(set(states)) != len(states):
        raise VerifyError(f"{graph.name}: a state is updated twice")
    for state, new in graph.updates:
        if role_of(state) not in ("param", "state") or state.type != new.type:
            raise VerifyError(f"{graph.name}: {state!r} cannot be updated by a {new.type}")
