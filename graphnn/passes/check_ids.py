"""Ids that no range check stands before get one: graphs from files and texts may hold a gather without it.

The functions that write IR put a `check_index` before each op that takes ids. A kernel that meets an id out of range stops, but
then some states may have their next values; a check runs before any of them is written.
"""

from __future__ import annotations

from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops.index import CheckIndex, FirstEqual, Gather, OneHot, ScatterAdd
from graphnn.ir.ops.shaping import Expand, Reshape, Transpose
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies


@also_in_bodies
def check_ids(graph: Graph) -> Graph:
    """The graph with a range check before each op that takes ids."""
    if all(_limit(node) is None for node in graph.nodes):
        return graph

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        found = _limit(node)
        if found is None:
            return None
        position, limit, what = found
        checked = CheckIndex(0, limit, what).one(inputs[position])
        outputs = node.op(*inputs[:position], checked, *inputs[position + 1:])
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return rewrite(graph, rule)


def _limit(node: Node) -> tuple[int, Size, str] | None:
    """Which operand are ids that nothing checks, below which limit they must lie, and what they are; None when all is well."""
    match node.op:
        case Gather(axis) | ScatterAdd(axis):
            position, limit, what = 1, node.inputs[0].shape[axis], "id"
        case OneHot(depth):
            position, limit, what = 0, depth, "class"
        case FirstEqual(size):
            position, limit, what = 0, size, "id"
        case _:
            return None
    return None if _lies_below(node.inputs[position], limit) else (position, limit, what)


def _lies_below(ids: Value, limit: Size) -> bool:
    """Whether what makes these ids sees to it that they lie in [0, limit)."""
    while isinstance(ids.node.op, (Reshape, Expand, Transpose)):
        ids = ids.node.inputs[0]
    op = ids.node.op
    if isinstance(op, FirstEqual):                      # positions among its ids
        return ids.shape[0] == limit
    return isinstance(op, CheckIndex) and op.low == 0 and op.high == limit
