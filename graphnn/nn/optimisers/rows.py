"""Lazy updates of tables: only the rows that a step looked up change, in the parameter and in the optimiser's slots.

The gradient of a table is then a list of rows with their ids. Rows of one id are added up at the first of them; the optimiser
is asked what it does to a parameter that is these rows alone; and the differences are added to the table, in its own memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphnn import ir
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.ir.op import make_node
from graphnn.ir.ops.index import FirstEqual, Gather, ScatterAdd
from graphnn.ir.ops.inputs import Input, placeholder
from graphnn.ir.types import TensorType
from graphnn.passes.simplify import number

Updates = list[tuple[Value, Value]]


@dataclass(frozen=True)
class Rows:
    """The gradient of `table`: `sums` (n, ...) stand at `ids` (n,); where an id comes again they are 0, and `first` is False."""

    table: Value
    ids: Value
    first: Value
    sums: Value

    @classmethod
    def of(cls, table: Value, grad: Value) -> Rows | None:
        """A gradient as rows; None when it is made of anything but look-ups along the first axis."""
        parts = _parts(grad)
        if not parts:
            return None
        inner = table.shape[1:]
        flat = [(ir.reshape(ids, (product(ids.shape),)), ir.reshape(rows, (product(ids.shape), *inner))) for ids, rows in parts]
        ids = ir.concat([ir.cast(ids, ir.i64) for ids, _ in flat]) if len(flat) > 1 else flat[0][0]
        rows = ir.concat([rows for _, rows in flat]) if len(flat) > 1 else flat[0][1]
        place = FirstEqual(table.shape[0]).one(ids)
        first = ir.equal(place, ir.arange(ids.shape[0], ir.i64))
        return cls(table, ids, ir.reshape(first, (ids.shape[0], *(1 for _ in inner))),
                   ScatterAdd(0).one(ir.zeros_like(rows), place, rows))

    def stand_ins(self) -> tuple[Value, Value]:
        """A parameter that is the rows alone, and its gradient: what the optimiser is asked about."""
        name, kind = self.table.name, self.sums.type
        return placeholder(name, kind, "param"), placeholder(f"{name}/gradient", kind)

    def updates(self, asked: Updates, param: Value, grad: Value) -> Updates:
        """What the optimiser said about the stand-ins, done to the table and its slots."""
        real: dict[Value, Value] = {}
        for state, _ in asked:
            op = state.node.op
            assert isinstance(op, Input)
            if state == param:
                real[state] = self.table
            elif state.type.shape == self.sums.shape:
                whole = TensorType(state.dtype, self.table.shape)
                real[state] = placeholder(op.label, whole, op.role, op.init)
        new = {state: Gather(0).one(whole, self.ids) for state, whole in real.items()} | {grad: self.sums}
        result: Updates = []
        for (state, _), value in zip(asked, _with([value for _, value in asked], new), strict=True):
            if state in real:
                change = ir.where(self.first, value - new[state], 0.0)
                result.append((real[state], ScatterAdd(0).one(real[state], self.ids, change)))
            else:
                result.append((state, value))
        return result


def _parts(grad: Value) -> list[tuple[Value, Value]]:
    """(ids, rows) of the look-ups that a gradient is made of; none where it is made of anything else."""
    op, inputs = grad.node.op, grad.node.inputs
    if isinstance(op, ScatterAdd) and op.axis == 0:
        base, ids, rows = inputs
        below = _parts(base)
        return [*below, (ids, rows)] if below or number(base) == 0 else []
    if op.name == "add" and inputs[0].type == inputs[1].type:
        a, b = _parts(inputs[0]), _parts(inputs[1])
        return [*a, *b] if a and b else []
    return []


def _with(values: Sequence[Value], new: Mapping[Value, Value]) -> list[Value]:
    """The values, computed from others: an optimiser's few ops between its stand-ins and its results."""
    known = dict(new)

    def put(value: Value) -> Value:
        if value not in known:
            node = value.node
            inputs = tuple(map(put, node.inputs))
            made = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            known.update(zip(node.outputs, made.outputs, strict=True))
        return known[value]

    return [put(value) for value in values]
