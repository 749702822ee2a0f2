"""Softmax, log-softmax and one-hot beside elementwise work are written out in ops that fuse with it.

Alone they keep their own kernels. Beside elementwise work their parts join a fused body: softmax cross-entropy, forward
and backward, becomes one kernel over each row, and the one-hot matrix is never stored.
"""

from __future__ import annotations

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.iteration_space import fusible
from graphnn.ir.ops import casting, compare, reduce, shaping, sizes
from graphnn.ir.ops.index import OneHot
from graphnn.ir.ops.softmax import LogSoftmax, Softmax
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies

MAX_STEPS = 24          # how far upstream of a sum its reductions are looked for


@also_in_bodies
def open_composites(graph: Graph) -> Graph:
    """The graph with composite ops opened where their parts can join a neighbour, and sums split where that lets them join."""
    results = set(graph.results)

    def rule(node: Node, inputs: tuple[Value, ...]) -> Value | tuple[Value, ...] | None:
        op = node.op
        if isinstance(op, (Softmax, LogSoftmax)) and _has_fusible_neighbour(graph, node):
            return op.decompose(*inputs)
        if isinstance(op, OneHot) and node.output not in results and _read_by_fusible_only(graph, node.output):
            (ids,) = inputs
            wide = shaping.reshape(ids, (*ids.shape, 1))
            return casting.cast(compare.equal(wide, sizes.iota((op.depth,), 0, ids.dtype)), op.dtype)
        return _split(op, inputs[0]) if isinstance(op, reduce.Sum) else None

    if not any(isinstance(node.op, (Softmax, LogSoftmax, OneHot, reduce.Sum)) for node in graph.nodes):
        return graph
    opened = rewrite(graph, rule)
    return graph if opened.nodes == graph.nodes else opened


def _has_fusible_neighbour(graph: Graph, node: Node) -> bool:
    above = node.inputs[0].node
    return _worth(above) or any(_worth(use.node) for use in graph.uses.get(node.output, ()))


def _worth(node: Node) -> bool:
    return fusible(node) and node.op.name not in ("constant", "reshape", "expand", "iota", "size_of")


def _read_by_fusible_only(graph: Graph, value: Value) -> bool:
    return all(fusible(use.node) for use in graph.uses.get(value, ()))


def _split(op: reduce.Sum, x: Value) -> Value | None:
    """A sum over more axes than the reductions it follows: first over theirs, in one kernel with them, then over the rest."""
    seen: set[Node] = set()
    stack = [x]
    while stack and len(seen) < MAX_STEPS:
        value = stack.pop()
        above = value.node.op
        if isinstance(above, reduce.Reduction):
            if value.rank == x.rank and above.keepdims and set(above.axes) < set(op.axes):
                inner = reduce.Sum(above.axes, True).one(x)
                outer = tuple([axis for axis in op.axes if axis not in above.axes])
                y = reduce.Sum(outer, op.keepdims).one(inner)
                if op.keepdims:
                    return y
                kept = [size for axis, size in enumerate(x.shape) if axis not in op.axes]
                return shaping.reshape(y, kept)
            continue
        if value.node not in seen and fusible(value.node):
            seen.add(value.node)
            stack += value.node.inputs
    return None
