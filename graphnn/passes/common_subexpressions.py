"""Compute equal things once. Nodes are equal when their op, their inputs and so their types are."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import Op, make_node
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies

# Their two operands can be swapped without changing a bit (minimum and maximum of +0 and -0 cannot).
COMMUTATIVE = frozenset({"add", "mul", "equal", "logical_and", "logical_or"})


@also_in_bodies
def common_subexpressions(graph: Graph) -> Graph:
    """Each group of equal nodes becomes its first member.

    Random ops merge only when they share the stream id, which is one of their attributes. Bodies are compared by structure.
    """
    first: dict[Hashable, tuple[Value, ...]] = {}

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        operands = inputs
        if node.op.name in COMMUTATIVE:
            operands = tuple(sorted(inputs, key=_identity))
        key = (op_key(node.op), operands)
        if key not in first:
            kept = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            first[key] = kept.outputs
        return first[key]

    after = rewrite(graph, rule)
    return graph if after.nodes == graph.nodes else after


def _identity(value: Value) -> tuple[int, int]:
    return id(value.node), value.index


def op_key(op: Op) -> Hashable:
    """What two ops share exactly when they mean the same. Python's == is too generous for it: 0.0 == -0.0 and 1 == True."""
    if not op.__dict__:
        return type(op)
    return type(op), tuple([_attribute_key(value) for value in op.attributes().values()])


def _attribute_key(value: Any) -> Hashable:
    if isinstance(value, Graph):
        return body_key(value)
    if isinstance(value, Op):
        return op_key(value)
    if isinstance(value, tuple):
        return tuple([_attribute_key(item) for item in value])
    return (type(value), repr(value)) if isinstance(value, (bool, float)) else value


def body_key(body: Graph) -> Hashable:
    """What two bodies share exactly when they are the same up to the names of their inputs and of the graph."""
    number = {value: position for position, value in enumerate(body.inputs)}
    lines: list[Hashable] = [value.type for value in body.inputs]
    for node in body.nodes:
        lines.append((op_key(node.op), tuple([number[value] for value in node.inputs])))
        for value in node.outputs:
            number[value] = len(number)
    return tuple(lines), tuple([number[value] for value in body.outputs])
