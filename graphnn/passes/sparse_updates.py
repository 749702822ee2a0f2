"""The gradient of a row gather touches few rows; an update made of it alone writes only these, in the parameter's own memory.

`p - lr * scatter_add(0, ids, g)` becomes `scatter_add(p, ids, -lr * g)`: training an embedding of 50,000 words costs what the
rows that were looked up cost. It is done for next values of params and states, where the buffer plan lets scatter_add write in
place. What differs: a row that is looked up twice is updated twice, with a rounding each, instead of once by the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops import arithmetic, functions
from graphnn.ir.ops.index import ScatterAdd
from graphnn.ir.rewrite import rewrite
from graphnn.passes.simplify import number


@dataclass(frozen=True)
class _Rows:
    """Rows that are added: at `ids` along an axis."""

    axis: int
    ids: Value
    updates: Value


def sparse_updates(graph: Graph) -> Graph:
    """The graph whose updates by gathers' gradients are row updates."""
    written = {new.node: state for state, new in graph.updates}
    if not any(isinstance(node.op, ScatterAdd) for node in graph.nodes) or not written:
        return graph

    def rule(node: Node, inputs: tuple[Value, ...]) -> Value | None:
        if node.op.name not in ("add", "sub") or node not in written:
            return None
        old = written[node]
        a, b = node.inputs
        if a != old and (node.op.name == "sub" or b != old):
            return None
        rows = _rows(graph, b if a == old else a)
        if rows is None:
            return None
        y = old
        for part in rows:
            y = ScatterAdd(part.axis).one(y, part.ids, functions.neg(part.updates) if node.op.name == "sub" else part.updates)
        return y

    return rewrite(graph, rule) if any(node.op.name in ("add", "sub") for node in written) else graph


def _rows(graph: Graph, value: Value) -> list[_Rows] | None:
    """`value` as rows added to zeros; None when it is not, or when somebody else reads what it is made of."""
    if len(graph.uses.get(value, ())) != 1:
        return None
    op, inputs = value.node.op, value.node.inputs
    if isinstance(op, ScatterAdd) and value not in graph.results:
        base, ids, updates = inputs
        below = [] if number(base) == 0 else _rows(graph, base)
        return None if below is None else [*below, _Rows(op.axis, ids, updates)]
    if op.name == "neg":
        return _each(_rows(graph, inputs[0]), functions.neg)
    if op.name == "add" and inputs[0].type == inputs[1].type:
        first, second = _rows(graph, inputs[0]), _rows(graph, inputs[1])
        return None if first is None or second is None else [*first, *second]
    if op.name in ("mul", "div"):
        for sparse, factor in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
            if factor.rank == 0 and (op.name == "mul" or factor == inputs[1]):
                scale = arithmetic.mul if op.name == "mul" else arithmetic.div
                return _each(_rows(graph, sparse), lambda x, factor=factor, scale=scale: scale(x, factor))
    return None


def _each(rows: list[_Rows] | None, f: Callable[[Value], Value]) -> list[_Rows] | None:
    return None if rows is None else [_Rows(part.axis, part.ids, f(part.updates)) for part in rows]
