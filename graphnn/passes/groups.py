"""What the two fusion passes share: how a group of nodes becomes a body, and how groups become nodes of a new graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.loc import Loc
from graphnn.ir.op import make_node
from graphnn.ir.ops.inputs import Input
from graphnn.ir.rewrite import replace_results
from graphnn.passes.common_subexpressions import op_key


def make_body(nodes: Sequence[Node], outputs: Sequence[Value], first: Sequence[Value] = ()) -> tuple[Graph, list[Value]]:
    """The body that computes `outputs` by `nodes`, and the values it takes: `first`, then the others by first use.

    The text of a body is the key of its kernel. So that equal groups have equal texts, wherever they stood in the graph,
    nodes come in depth-first order from the outputs and inputs are named a0, a1, ... Equal nodes become one.
    """
    inside = set(nodes)
    new: dict[Value, Value] = {}
    operands: list[Value] = []
    ordered: list[Node] = []
    equal: dict[Hashable, Node] = {}

    def operand(value: Value) -> None:
        new[value] = Input(f"a{len(operands)}", "input", value.type).one()
        operands.append(value)

    for value in first:
        operand(value)
    stack = [(value.node, 0) for value in reversed(outputs) if value.node in inside]
    done: set[Node] = set()
    while stack:
        node, position = stack.pop()
        if node in done:
            continue
        for i in range(position, len(node.inputs)):
            value = node.inputs[i]
            if value in new:
                continue
            if value.node in inside:
                stack += [(node, i + 1), (value.node, 0)]
                break
            operand(value)
        else:
            inputs = tuple([new[value] for value in node.inputs])
            key = op_key(node.op), inputs
            made = equal.get(key)
            if made is None:
                made = equal[key] = Node(node.op, inputs, node.types, node.loc)
                ordered.append(made)
            done.add(node)
            new.update(zip(node.outputs, made.outputs, strict=True))
    body = Graph("body", tuple([new[value] for value in operands]), tuple([new[value] for value in outputs]), tuple(ordered))
    return body, operands


def by_depth(values: Sequence[Value], inside: set[Node]) -> list[Value]:
    """`values` ordered by how much of the group stands above each: an order that depends on the group alone."""
    above: dict[Node, set[Node]] = {}

    def ancestors(node: Node) -> set[Node]:
        if node not in above:
            found = {node}
            for value in node.inputs:
                if value.node in inside:
                    found |= ancestors(value.node)
            above[node] = found
        return above[node]

    keys = {value: (len(ancestors(value.node)), value.node.op.name) for value in values}
    return sorted(values, key=lambda value: keys[value])


Emit = Callable[[Mapping[Value, Value]], Mapping[Value, Value]]


class Group:
    """Nodes that become one: the values it takes and gives, and how to make it once the values it takes are there."""

    def __init__(self, nodes: Sequence[Node], takes: Sequence[Value], emit: Emit) -> None:
        self.nodes, self.takes, self.emit = nodes, takes, emit


def collapse(graph: Graph, groups: Sequence[Group]) -> Graph:
    """The graph in which each group is replaced by what its `emit` makes of the new values of what it takes."""
    if not groups:
        return graph
    group_of = {node: group for group in groups for node in group.nodes}
    new: dict[Value, Value] = {value: value for value in graph.inputs}
    done: set[Node | Group] = set()

    def unit(node: Node) -> tuple[Node | Group, Sequence[Value]]:
        group = group_of.get(node)
        return (node, node.inputs) if group is None else (group, group.takes)

    most = 1 + sum([len(node.inputs) for node in graph.nodes]) + sum([len(group.takes) for group in groups])
    for root in graph.results:
        stack = [root.node]
        while stack:
            item, takes = unit(stack[-1])
            if item in done or role_of(stack[-1]) is not None:
                stack.pop()
                continue
            missing = [value.node for value in takes if value not in new]
            if missing:
                assert len(stack) <= most, "the groups depend on each other in a circle"
                stack += reversed(missing)
                continue
            done.add(item)
            node = stack.pop()
            if isinstance(item, Group):
                new.update(item.emit(new))
                continue
            inputs = tuple([new[value] for value in node.inputs])
            kept = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            new.update(zip(node.outputs, kept.outputs, strict=True))
    return replace_results(graph, new)


def location(nodes: Sequence[Node]) -> Loc:
    """Where a group comes from: its last node, which users see as its result."""
    return nodes[-1].loc
