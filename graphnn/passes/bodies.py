"""Run a pass in the bodies of scans as well: a body is a graph like any other, run many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.rewrite import rewrite


def bodies(op: Op) -> dict[str, Graph]:
    """The graphs among the attributes of `op`, by field name."""
    return {name: value for name, value in vars(op).items() if isinstance(value, Graph)}


def also_in_bodies(transform: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """The pass that first treats the bodies of scans, however deep, and then the graph. Fused bodies stay as they are:
    they are the product of passes, and the key under which a kernel is found."""

    @wraps(transform)
    def both(graph: Graph) -> Graph:
        changed: dict[Node, Op] = {}
        for node in graph.nodes:
            old = {} if isinstance(node.op, (Fused, Epilogue)) else bodies(node.op)
            new = {name: both(body) for name, body in old.items()}
            if any(new[name] is not old[name] for name in old):
                changed[node] = replace(node.op, **new)  # type: ignore[type-var]

        def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
            return make_node(changed[node], inputs, node.loc).outputs if node in changed else None

        return transform(rewrite(graph, rule) if changed else graph)

    return both
