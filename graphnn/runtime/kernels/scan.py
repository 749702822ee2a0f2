"""Lowering of scan: a loop around the rows of its body.

The carries live in the scan's own last carries, which start as copies of the first ones; slices of sequences and of stacked
results are addresses that step from trip to trip. The body has a buffer plan of its own, in which a carry is a state that
each trip updates; its arena is scratch of the scan. What a row of the body can prepare from the loop's constants, such as a
matrix in panels, is made before the loop.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphnn.ir.dims import bind_size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.ops.scan import Scan
from graphnn.passes.plan_buffers import BufferPlan, Slot, lifetimes, plan_buffers
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.lowering import Lowering, lower, lowers
from graphnn.runtime.row import Address, End, Instruction, Loop, Row

MANY_TRIPS = 4              # from so many on, rows of the body may prepare what they read on every trip


@lowers(Scan)
def scan(node: Node, at: Lowering) -> list[Instruction]:
    op = node.op
    assert isinstance(op, Scan)
    trips = at.bind(op.length)
    carries = zip(node.inputs, node.outputs[: op.carries], strict=False)
    first = [(at.address(a), at.address(b), _bytes(a, at.sizes)) for a, b in carries]
    rows = [copy_row(a, b, nbytes) for a, b, nbytes in first if a != b and nbytes]
    if trips == 0:
        return list(rows)
    loop = Loop(trips)
    body = op.body
    # The planner sees carries as states: it makes new values in their place where every reader comes before.
    graph = Graph(body.name, body.inputs, body.outputs[op.carries :], body.nodes,
                  tuple(zip(body.inputs[: op.carries], body.outputs[: op.carries], strict=True)))
    places = _BodyPlaces(node, at, op, loop, plan_buffers(lifetimes(graph), at.sizes))
    fixed = frozenset(body.inputs[op.carries + op.sequences:] if trips >= MANY_TRIPS else ())
    before: list[Row] = []
    inside: list[Instruction] = [loop]
    for value, staged in places.plan.life.first_copies:
        inside.append(copy_row(places[value], places.of_slot(places.plan.slot(staged)), _bytes(value, at.sizes)))
    for i, inner in enumerate(body.nodes):
        if not isinstance(inner.op, Constant):
            reads = frozenset(body.nodes[i + 1].inputs) if i + 1 < len(body.nodes) else frozenset[Value]()
            first_before = len(before)
            made = lower(Lowering(inner, at.sizes, places, reads, at.constants, at.inner, fixed, before))
            for row in (*made, *before[first_before:]):
                at.inner.setdefault(id(row), inner)
            inside.extend(made)
    for value, slot in places.plan.life.last_copies:
        inside.append(copy_row(places[value], places.of_slot(slot), _bytes(value, at.sizes)))
    return [*rows, *before, *inside, End()]


def _bytes(value: Value, sizes: Mapping[str, int]) -> int:
    return bind_size(value.type.nbytes, sizes)


class _BodyPlaces(dict[Value, Address]):
    """The address of any value of the body."""

    def __init__(self, node: Node, at: Lowering, op: Scan, loop: Loop, plan: BufferPlan) -> None:
        super().__init__()
        self.node, self.at, self.op, self.loop, self.plan = node, at, op, loop, plan
        self.arena = at.scratch("arena of the body", plan.arena)

    def __missing__(self, value: Value) -> Address:
        self[value] = address = self.of_slot(self.plan.slot(value))
        return address

    def of_slot(self, slot: Slot) -> Address:
        op, at, node = self.op, self.at, self.node
        if slot.kind == "arena":
            return self.arena + slot.offset
        if slot.kind == "constant":
            return at.constants.address(self.plan.life.constants[slot.index])
        if slot.kind == "output":
            return self._stepping(at.address(node.outputs[op.carries + slot.index]), op.body.outputs[op.carries + slot.index])
        if slot.index < op.carries:                      # "input" or "state": one place
            return at.address(node.outputs[slot.index])
        address = at.address(node.inputs[slot.index])
        if slot.index < op.carries + op.sequences:
            return self._stepping(address, op.body.inputs[slot.index])
        return address

    def _stepping(self, stack: Address, step: Value) -> Address:
        nbytes = _bytes(step, self.at.sizes)
        if self.op.reverse:
            return (stack + nbytes * (self.loop.trips - 1)).stepping(self.loop, -nbytes)
        return stack.stepping(self.loop, nbytes)
