"""Rebuild a graph node by node under a rule: the one tool most passes are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.loc import at
from graphnn.ir.op import make_node

Rule = Callable[[Node, tuple[Value, ...]], Value | tuple[Value, ...] | None]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """The graph in which each node is replaced by what `rule(node, new_inputs)` returns; None keeps the node.

    Nodes are visited in order; `new_inputs` are already rewritten. Nodes made by the rule take the place of the node
    they replace, also in errors and profiles. Nodes that nothing needs any more disappear; inputs stay.
    """
    new: dict[Value, Value] = {value: value for value in graph.inputs}
    for node in graph.nodes:
        inputs = tuple(new[value] for value in node.inputs)
        with at(node.loc):
            result = rule(node, inputs)
        if result is None:
            kept = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            outputs: Sequence[Value] = kept.outputs
        else:
            outputs = (result,) if isinstance(result, Value) else result
        assert len(outputs) == len(node.types), f"a rule replaced {node!r} by {len(outputs)} values"
        new.update(zip(node.outputs, outputs, strict=True))
    return replace_results(graph, new)


def replace_results(graph: Graph, new: Mapping[Value, Value]) -> Graph:
    """The graph with its outputs and next states mapped through `new`, keeping all inputs and their order."""
    outputs = [new[value] for value in graph.outputs]
    updates = [(state, new[value]) for state, value in graph.updates]
    return Graph.of(graph.name, graph.inputs, outputs, updates=updates)


def inline(graph: Graph, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """The outputs of `graph` applied to `inputs`: its nodes made anew where it is called."""
    new = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        made = make_node(node.op, tuple(new[value] for value in node.inputs), node.loc)
        new.update(zip(node.outputs, made.outputs, strict=True))
    return tuple(new[value] for value in graph.outputs)


def bind_graph(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph with numbers for names in every type and attribute."""
    new: dict[Value, Value] = {}
    changed = False
    for value in graph.inputs:
        op = value.node.op.bind(sizes)
        new[value] = value if op is value.node.op else make_node(op, (), value.node.loc).output
        changed |= new[value] is not value
    for node in graph.nodes:
        op = node.op.bind(sizes)
        inputs = tuple(new[value] for value in node.inputs)
        kept = node if op is node.op and inputs == node.inputs else make_node(op, inputs, node.loc)
        changed |= kept is not node
        new.update(zip(node.outputs, kept.outputs, strict=True))
    if not changed:
        return graph
    assert all(role_of(value) for value in graph.inputs)
    return Graph(graph.name, tuple(new[v] for v in graph.inputs), tuple(new[v] for v in graph.outputs),
                 tuple(dict.fromkeys(new[n.outputs[0]].node for n in graph.nodes if n.outputs)),
                 tuple((new[s], new[v]) for s, v in graph.updates))
