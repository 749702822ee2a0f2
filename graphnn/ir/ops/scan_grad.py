"""The gradient of a scan: a scan in the other direction over the gradient of the body.

Its carries are the cotangents of the carries and the running sums of the constants' cotangents. What it reads of the forward
run, and only that, is kept: the forward scan is written once more with these values among its results (passes/scans.py merges
it with the first one). Numbers, values that do not vary over the loop, and views are computed again instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import Cotangents, make_node
from graphnn.ir.ops import scan, sizes
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.ir.vjp import vjp

if TYPE_CHECKING:
    from graphnn.ir.ops.scan import Scan

VIEWS = frozenset({"reshape", "expand", "transpose"})


def cotangents(op: Scan, node: Node, d_outputs: Sequence[Value | None]) -> Cotangents:
    """The cotangent of each input of a scan, given those of its outputs."""
    body, carries, end = op.body, op.carries, op.carries + op.sequences
    fresh = _fresh_names(body)
    steps = [d for d in d_outputs[carries:] if d is not None]
    active, d_slots, d_inputs = _backward(op, d_outputs, fresh)
    results = [d for d in d_inputs if d is not None]
    if not results:
        return d_inputs
    stored, kept = _kept_values(op, node, results)

    slots = {value: placeholder(fresh("saved"), value.type) for value in stored}
    sums = {j: placeholder(fresh("sum"), body.inputs[j].type) for j in range(end, len(body.inputs)) if d_inputs[j] is not None}
    new_carries = [_or_zeros(d_inputs[i], body.inputs[i].type) for i in active]
    new_sums = [total + d for j, total in sums.items() if (d := d_inputs[j]) is not None]
    d_slices = [d for d in d_inputs[carries:end] if d is not None]
    outputs = scan.rebuild([*new_carries, *new_sums, *d_slices], slots)

    read = {node.output for node in scan.walk_back(outputs, set()) if not node.inputs}
    constants = [j for j in range(end, len(body.inputs)) if body.inputs[j] in read]
    inputs = [*(d_slots[i] for i in active), *sums.values(), *(d for i, d in d_slots.items() if i >= carries), *slots.values(),
              *(body.inputs[j] for j in constants)]
    backward = Graph.of(body.name, inputs, outputs)
    starts = [_or_zeros(d_outputs[i], body.inputs[i].type) for i in active] + [sizes.zeros_like(total) for total in sums.values()]
    reversed_scan = scan.Scan(backward, len(starts), len(steps) + len(kept), not op.reverse, op.length)
    found = iter(make_node(reversed_scan, (*starts, *steps, *kept, *(node.inputs[j] for j in constants))).outputs)

    d_of: dict[int, Value] = {i: next(found) for i in active}
    d_of.update({j: next(found) for j in sums})
    d_of.update({i: next(found) for i in range(carries, end) if d_inputs[i] is not None})
    return tuple(d_of.get(i) for i in range(len(body.inputs)))


def _backward(op: Scan, d_outputs: Sequence[Value | None],
              fresh: Callable[[str], str]) -> tuple[list[int], dict[int, Value], tuple[Value | None, ...]]:
    """The carries that a cotangent reaches; the body's input for the cotangent of each output; the cotangents of its inputs."""
    body = op.body
    active = {i for i in range(op.carries) if d_outputs[i] is not None}
    slots: dict[int, Value] = {}
    while True:
        for i, output in enumerate(body.outputs):
            if i not in slots and (i in active if i < op.carries else d_outputs[i] is not None):
                slots[i] = placeholder(fresh("d"), output.type)
        d_inputs = vjp(body.outputs, [slots.get(i) for i in range(len(body.outputs))], body.inputs)
        # A cotangent that reaches a carry at one step reaches the step before through it.
        reached = active | {i for i in range(op.carries) if d_inputs[i] is not None}
        if reached == active:
            return sorted(active), dict(sorted(slots.items())), d_inputs
        active = reached


def _kept_values(op: Scan, node: Node, results: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """The values of the body that its gradient reads at each step, and for each the sequence that holds them."""
    body, carries, end = op.body, op.carries, op.carries + op.sequences
    stored = _read_values(body, end, results)
    slices = dict(zip(body.inputs[carries:end], node.inputs[carries:end], strict=True))
    given = dict(zip(body.outputs[carries:], node.outputs[carries:], strict=True))
    extra = [value for value in stored if value not in slices and value not in given]
    if extra:
        longer = Graph.of(body.name, body.inputs, [*body.outputs, *extra])
        made = make_node(scan.Scan(longer, carries, op.sequences, op.reverse, op.length), node.inputs, node.loc)
        given = dict(zip(longer.outputs[carries:], made.outputs[carries:], strict=True))
    return stored, [slices[value] if value in slices else given[value] for value in stored]


def _read_values(body: Graph, end: int, results: Sequence[Value]) -> list[Value]:
    """Where the walk back from the gradient's results meets a value of the forward body that must be kept."""
    forward = set(body.nodes)
    varying = {value.node for value in body.inputs[:end]}
    for node in body.nodes:
        if any(value.node in varying for value in node.inputs):
            varying.add(node)
    found: dict[Value, None] = {}
    seen: set[Node] = set()
    stack = list(reversed(results))
    while stack:
        value = stack.pop()
        if value.node in varying and (value.node not in forward or value.node.op.name not in VIEWS):
            found[value] = None
        elif value.node not in seen:
            seen.add(value.node)
            stack += reversed(value.node.inputs)
    return list(found)


def _fresh_names(body: Graph) -> Callable[[str], str]:
    used = {value.name for value in body.inputs}

    def fresh(start: str) -> str:
        name = next(f"{start}{i}" for i in range(len(used) + 1) if f"{start}{i}" not in used)
        used.add(name)
        return name

    return fresh


def _or_zeros(value: Value | None, kind: TensorType) -> Value:
    return value if value is not None else sizes.zeros(kind.shape, kind.dtype)
