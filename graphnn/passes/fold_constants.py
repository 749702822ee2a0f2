"""Compute at compile time what depends on constants alone, as long as the result is small."""

from __future__ import annotations

import numpy as np

from graphnn.errors import GraphnnError
from graphnn.ir.attrs import Array
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.interpret import run_node
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies

MAX_BYTES = 4096        # a larger result is folded only when it is no larger than what it is made from

# iota and expand are worth more as ops (a fused kernel makes their elements itself); what is made from them is folded.
KEPT = frozenset({"constant", "iota", "expand"})


@also_in_bodies
def fold_constants(graph: Graph) -> Graph:
    """Each node whose operands are all known becomes a constant, when the constant is small.

    Not folded: random ops (their numbers belong to the run, not to the graph), range checks (they must fail at run time),
    results of symbolic size, and scans.
    """
    known: dict[Value, np.ndarray] = {}

    def rule(node: Node, inputs: tuple[Value, ...]) -> Value | tuple[Value, ...] | None:
        if node.op.name == "constant":
            known[node.output] = node.op.numpy()  # pyright: ignore[reportArgumentType]
            return None
        if not _foldable(node) or any(value not in known for value in inputs):
            return None
        try:
            arrays = run_node(node, [known[value] for value in inputs], {})
        except GraphnnError:                            # it will fail again at run time, where the error belongs
            return None
        if node.op.name in KEPT:
            if inputs == node.inputs:
                known[node.output] = arrays[0]
            return None
        constants = tuple([Constant(Array(array)).one() for array in arrays])
        known.update(zip(constants, arrays, strict=True))
        return constants

    folded = rewrite(graph, rule) if any(_foldable(node) for node in graph.nodes) else graph
    return graph if folded.nodes == graph.nodes else folded


def _foldable(node: Node) -> bool:
    if node.op.may_fail or node.op.name in ("scan", "fused", "epilogue") or hasattr(node.op, "stream"):
        return False
    if any(value.node.op.name not in KEPT and not _is_static(value) for value in node.inputs):
        return False
    made = _total([value.type.nbytes for value in node.outputs])
    if not isinstance(made, int) or any(not value.type.is_static for value in node.outputs):
        return False
    given = _total([value.type.nbytes for value in node.inputs])
    return made <= MAX_BYTES or (isinstance(given, int) and made <= given and node.op.name not in KEPT)


def _is_static(value: Value) -> bool:
    return value.type.is_static


def _total(sizes: list[Size]) -> Size:
    total: Size = 0
    for size in sizes:
        total = total + size
    return total
