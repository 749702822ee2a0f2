"""The bare backward walk: cotangents of values from cotangents of what they lead to. Names no op but the sum of two paths.

It stands on the ground floor because scan's own gradient needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnn.ir.graph import Node, Value, collect
from graphnn.ir.loc import at


def vjp(outputs: Sequence[Value], d_outputs: Sequence[Value | None], wrt: Sequence[Value]) -> tuple[Value | None, ...]:
    """For each value of `wrt`, the cotangent that `d_outputs` of `outputs` bring to it; None where no path leads.

    Every gradient is itself made of IR ops, so the result can be differentiated again.
    """
    nodes = collect(outputs)
    on_path = _depends(nodes, wrt)
    cotangents: dict[Value, Value] = {}

    def add(value: Value, d: Value) -> None:
        cotangents[value] = cotangents[value] + d if value in cotangents else d

    for value, d in zip(outputs, d_outputs, strict=True):
        if d is not None:
            assert d.type == value.type, f"cotangent {d.type} for a value {value.type}"
            add(value, d)
    wanted = set(wrt)
    for node in reversed(nodes):
        if node not in on_path or not node.inputs:
            continue
        d_of_node = tuple(cotangents.get(value) for value in node.outputs)
        if all(d is None for d in d_of_node):
            continue
        with at(node.loc, backward=True):
            for value, d in zip(node.inputs, node.op.grad(node, *d_of_node), strict=True):
                if d is not None and (value.node in on_path or value in wanted):
                    assert d.type == value.type, f"the gradient of {node.op.name} gave {d.type} for {value.type}"
                    add(value, d)
        for value in node.outputs:
            if value not in wanted:
                cotangents.pop(value, None)
    return tuple(cotangents.get(value) for value in wrt)


def _depends(nodes: Sequence[Node], wrt: Sequence[Value]) -> set[Node]:
    """The nodes that depend on `wrt`, `wrt`'s own nodes included."""
    starts = {value.node for value in wrt}
    on_path: set[Node] = set()
    for node in nodes:
        if node in starts or any(value.node in on_path for value in node.inputs):
            on_path.add(node)
    return on_path
