"""Fused bodies and single elementwise ops and reductions -> rows. The kernels are written by fused_body.

Which kernel is used follows from symbolic shapes, and from how much there is to hand out: a reduction to few elements of
much is split into chunks (their number is a function of the sizes alone) whose results the next row combines in order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from math import prod
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from graphnn.ir.dims import Size, bind_size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.iteration_space import CHUNKS, scalar_of
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops import casting
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.ops.inputs import Input
from graphnn.ir.ops.reduce import LogSumExp, Max, Min, Prod, Sum
from graphnn.ir.ops.shaping import Expand
from graphnn.ir.ops.sizes import Iota, SizeOf, check_fits
from graphnn.ir.types import TensorType
from graphnn.runtime.fused_body import ACCUMULATOR_BYTES, Generated, write_columns, write_epilogue, write_map, write_rows
from graphnn.runtime.fused_layout import Layout, layout, matrix_layout
from graphnn.runtime.fused_split import Step, split
from graphnn.runtime.fused_writer import Slot
from graphnn.runtime.kernels.contractions import contraction_rows
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Address, Arg, Kernel, Row
from graphnn.runtime.scalar_formulas import FORMULAS

P = ParamSpec("P")
T = TypeVar("T")

LANES = 64
TILE_BYTES = 32 << 10
"""What a tile of elementwise work writes: it fits the first-level cache, and handing it out costs little."""
ROW_ELEMENTS, MOST_ROWS = 1 << 14, 512
"""Elements that the rows of a tile have together, where rows are short."""
SWEPT_ELEMENTS = 1 << 11
"""The same where rows are swept several times: few, so that reading one goes on while another is computed."""
WIDEST_BLOCK = 1024
"""Columns of a tile; their partial results stay in the first-level cache."""
CHUNK_ELEMENTS = 1 << 14
MOST_CHUNKS = 32

Operand = Address | np.generic
"""Memory, or a number that is known when the row is made."""

ELEMENTWISE: tuple[type[Op], ...] = (*FORMULAS, casting.Cast)


@lowers(Fused)
def lower_fused(node: Node, at: Lowering) -> list[Row]:
    """The rows of a fused body."""
    assert isinstance(node.op, Fused)
    return body_rows(node.op.body, node, at)


@lowers(*ELEMENTWISE, Sum, Max, Min, Prod, LogSumExp, Expand, Iota, SizeOf)
def lower_single(node: Node, at: Lowering) -> list[Row]:
    """An op on its own: a body of one node."""
    return body_rows(_body_of_one(node.op, tuple(value.type for value in node.inputs)), node, at)


@lru_cache(maxsize=1024)
def _body_of_one(op: Op, types: tuple[TensorType, ...]) -> Graph:
    inputs = [Input(f"x{i}", "input", kind).one() for i, kind in enumerate(types)]
    return Graph.of(op.name, inputs, make_node(op, tuple(inputs)).outputs)


def body_rows(body: Graph, node: Node, at: Lowering) -> list[Row]:
    """The rows that compute a body on the inputs and outputs of `node`."""
    numbers = tuple(i for i, value in enumerate(node.inputs) if scalar_of(value) is not None)
    ins: list[Operand] = [at.address(v) if (number := scalar_of(v)) is None else number for v in node.inputs]
    outs = [at.address(value) for value in node.outputs]
    job = _Job(at.sizes, ins, outs)
    _refuse_empty(body, job)
    plan = _layout(body, numbers)
    if any(job.bind(size) == 0 for value in body.outputs for size in value.shape) and not plan.reduced:
        return []
    if plan.reduced:
        return _reduction_rows(plan, body, numbers, job, at)
    stream = all(at.streams(v) for v in node.outputs) and len({v.dtype.itemsize for v in node.outputs}) == 1
    return _map_rows(_map(body, numbers, stream), job)


def _refuse_empty(body: Graph, job: _Job) -> None:
    """Raise ShapeError where a result follows from the largest or smallest of no elements."""
    if all(job.bind(size) for value in body.inputs for size in value.shape):
        return
    follows: dict[Value, Node] = {}                     # values with elements, and the reduction that they follow from
    for node in body.nodes:
        output = node.outputs[0]
        if any(job.bind(size) == 0 for size in output.shape):
            continue                                    # such as exp(x - max(x)) of a softmax over nothing
        empty = isinstance(node.op, (Max, Min)) and any(job.bind(node.inputs[0].shape[axis]) == 0 for axis in node.op.axes)
        found = node if empty else next((follows[value] for value in node.inputs if value in follows), None)
        if found is not None:
            follows[output] = found
    for value in body.outputs:
        if (node := follows.get(value)) is not None:
            node.op.infer(node.inputs[0].type.bind(job.sizes))


@lowers(Epilogue)
def lower_epilogue(node: Node, at: Lowering) -> list[Row]:
    """A contraction whose elementwise tail runs on each finished tile. The tail's first result of the same dtype is where
    the contraction itself writes."""
    op, bound = node.op, at.op
    assert isinstance(op, Epilogue)
    assert isinstance(bound, Epilogue)
    takes = node.inputs[: op.producer_inputs]
    made = op.producer.infer(*(value.type for value in takes))[0]
    targets = [value for value in node.outputs if value.dtype == made.dtype]
    to = at.address(targets[0]) if targets else at.scratch("product", prod(map(at.bind, made.shape)) * made.dtype.itemsize)
    kernel, args = epilogue(op.body, to, node, at)
    return contraction_rows(bound.producer, at, takes, to, (kernel, args))


def epilogue(body: Graph, to: Address, node: Node, at: Lowering) -> tuple[Kernel, tuple[Arg, ...]]:
    """The kernel of signature "epilogue" for a body, and its arguments: its first input is the contraction's result at
    `to`, the others are the last inputs of `node`, its outputs those of `node`."""
    rest = node.inputs[len(node.inputs) - len(body.inputs) + 1 :]
    numbers = tuple(i for i, value in enumerate(rest, 1) if scalar_of(value) is not None)
    ins: list[Operand] = [to, *(at.address(v) if (number := scalar_of(v)) is None else number for v in rest)]
    written = _epilogue(body, numbers)
    shape = tuple(map(at.bind, body.inputs[0].shape))
    job = _Job(at.sizes, ins, [at.address(value) for value in node.outputs])
    return written.kernel, job.args(written, per_batch=shape[-2] if len(shape) > 1 else 1)


# ---------------------------------------------------------------------------------------------- generation, once a body


def once_a_body(make: Callable[Concatenate[Graph, P], T]) -> Callable[Concatenate[Graph, P], T]:
    """What `make` makes of a body, kept on the body itself: a cache of its own would keep the graphs of every model there was."""

    @wraps(make)
    def made(body: Graph, *args: P.args, **kwargs: P.kwargs) -> T:
        kept: dict[Hashable, Any] = vars(body).setdefault("_kernels", {})
        key = make.__name__, args, *kwargs.items()
        if key not in kept:
            kept[key] = make(body, *args, **kwargs)
        return kept[key]

    return made


@once_a_body
def _epilogue(body: Graph, numbers: tuple[int, ...]) -> Generated:
    return write_epilogue(matrix_layout(body, body.inputs[0].shape, [body.inputs[i] for i in numbers]))


@once_a_body
def _layout(body: Graph, numbers: tuple[int, ...]) -> Layout:
    return layout(body, [body.inputs[i] for i in numbers])


@once_a_body
def _map(body: Graph, numbers: tuple[int, ...], stream: bool) -> Generated:
    plan = _layout(body, numbers)
    return write_map(plan, stream=stream and bool(plan.loops) and body.outputs[0].dtype.itemsize > 1)


@once_a_body
def _reduction(body: Graph, numbers: tuple[int, ...], chunked: bool) -> Generated:
    plan = _layout(body, numbers)
    write = write_rows if plan.loops[-1].reduced else write_columns
    return write(plan, chunked=chunked)


@once_a_body
def _split(body: Graph, numbers: tuple[int, ...]) -> list[Step]:
    return split(_layout(body, numbers))


# ---------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Job:
    """What a kernel is applied to: its operands, and numbers for the names of sizes."""

    sizes: Mapping[str, int]
    ins: Sequence[Operand]
    outs: Sequence[Address]

    def bind(self, size: Size) -> int:
        return bind_size(size, self.sizes)

    def loops(self, plan: Layout) -> list[int]:
        return [self.bind(loop.size) for loop in plan.loops]

    def args(self, made: Generated, **params: int) -> tuple[Arg, ...]:
        return tuple(self._arg(made, slot, params) for slot in made.slots)

    def _arg(self, made: Generated, slot: Slot, params: Mapping[str, int]) -> Arg:
        if slot.kind == "in":
            address = self.ins[slot.index]
            assert isinstance(address, Address), "a number has no address"
            return address
        if slot.kind == "out":
            return self.outs[slot.index]
        if slot.kind == "size":
            return self.bind(made.layout.loops[slot.index].size)
        if slot.kind == "param":
            return params[slot.name]
        return self._number(made, slot.name, slot.number)

    def _number(self, made: Generated, dtype: str, number: Value | SizeOf | None) -> int | float:
        if isinstance(number, SizeOf):
            value: object = check_fits(self.bind(number.size), number.dtype)
        else:
            assert number is not None
            inputs = made.layout.body.inputs
            value = scalar_of(number) if number not in inputs else self.ins[inputs.index(number)]
        assert isinstance(value, (int, np.generic)), "numbers are known when the row is made"
        return float(value) if dtype in ("f32", "f64") else int(value)


def _map_rows(made: Generated, job: _Job) -> list[Row]:
    plan = made.layout
    if not plan.loops:
        return [Row(made.kernel, job.args(made))]
    *outer, last = job.loops(plan)
    elements = TILE_BYTES // max(v.dtype.itemsize for v in plan.body.outputs)
    blocks = ceildiv(last, elements)
    block = round_up(ceildiv(last, blocks), LANES) if blocks > 1 else last
    blocks = ceildiv(last, block)
    per = max(1, elements // block)
    return [Row(made.kernel, job.args(made, blocks=blocks, block=block, per=per), ceildiv(prod(outer), per) * blocks)]


def _reduction_rows(plan: Layout, body: Graph, numbers: tuple[int, ...], job: _Job, at: Lowering) -> list[Row]:
    sizes = job.loops(plan)
    kept, reduced = prod(sizes[i] for i in plan.kept), prod(sizes[i] for i in plan.reduced)
    if kept == 0 or (reduced == 0 and all(plan.is_full(v) for v in plan.body.outputs)):
        return []
    tiles = _tiles(plan, sizes)
    want = min(MOST_CHUNKS, kept * reduced // CHUNK_ELEMENTS)
    if tiles >= want // 2 or want < 4:
        return [_reduction_row(_reduction(body, numbers, False), job)]
    return _staged_rows(plan, _split(body, numbers), job, at, max(2, want // tiles))


def _tiles(plan: Layout, sizes: Sequence[int]) -> int:
    if plan.loops[-1].reduced:
        per = _rows_a_tile(plan, sizes)
        return ceildiv(prod(sizes[i] for i in plan.kept), per)
    return prod(sizes[i] for i in plan.kept[:-1]) * ceildiv(sizes[-1], _block(sizes[-1]))


def _rows_a_tile(plan: Layout, sizes: Sequence[int]) -> int:
    several = plan.levels > 1 or any(plan.is_full(value) for value in plan.body.outputs)
    elements = SWEPT_ELEMENTS if several else ROW_ELEMENTS
    return min(MOST_ROWS, max(1, elements // max(1, prod(sizes[i] for i in plan.reduced))))


def _block(columns: int) -> int:
    """Columns a tile: an eighth of them, in whole strips, not too many."""
    return min(columns, min(WIDEST_BLOCK, round_up(ceildiv(columns, 8), LANES)))


def _reduction_row(made: Generated, job: _Job, **chunk: int) -> Row:
    plan = made.layout
    sizes = job.loops(plan)
    chunks = chunk.get("chunks", 1)
    if made.form == "rows":
        per = _rows_a_tile(plan, sizes)
        held_at, held = made.arrays * ACCUMULATOR_BYTES, round_up(per * 8, 64)
        cache_at, each = held_at + made.held * held, round_up(prod(sizes[i] for i in plan.reduced) * 8, 64)
        args = job.args(made, per=per, held_at=held_at, held_bytes=held, cache_at=cache_at, cache_bytes=each,
                        cache_total=per * each, **chunk)  # fmt: skip
        return Row(made.kernel, args, _tiles(plan, sizes) * chunks, cache_at + made.caches * per * each)
    columns = sizes[-1]
    # Arrays in scratch begin at multiples of 64 bytes: 8 columns.
    block = round_up(_block(columns), 8)
    args = job.args(made, blocks=ceildiv(columns, block), block=block, **chunk)
    tiles = prod(sizes[i] for i in plan.kept[:-1]) * ceildiv(columns, block)
    return Row(made.kernel, args, tiles * chunks, made.arrays * block * 8)


def _staged_rows(plan: Layout, steps: Sequence[Step], job: _Job, at: Lowering, chunks: int) -> list[Row]:
    """Sweep by sweep: partial results of chunks, what follows from them, the next sweep; full-size outputs at the end."""
    first = job.bind(plan.loops[plan.reduced[0]].size)
    length = ceildiv(first, min(chunks, max(1, first)))
    if plan.reduced[0] == len(plan.loops) - 1:
        length = round_up(length, LANES)
    chunks = ceildiv(first, length)
    scratch: dict[str, Address] = {}
    rows: list[Row] = []
    for step in steps:
        for name, kind, per_chunk in step.makes:
            nbytes = prod(job.bind(size) for size in kind.shape) * kind.dtype.itemsize
            scratch[name] = at.scratch(name, nbytes * (chunks if per_chunk else 1))
        ins = [scratch[i] if isinstance(i, str) else job.ins[i] for i in step.ins]
        outs = [scratch[o] if isinstance(o, str) else job.outs[o] for o in step.outs]
        inner = _Job({**job.sizes, CHUNKS: chunks}, ins, outs)
        numbers = tuple(i for i, operand in enumerate(ins) if not isinstance(operand, Address))
        if step.kind == "partial":
            rows.append(_reduction_row(_reduction(step.body, numbers, True), inner, chunks=chunks, length=length))
        elif step.kind == "finish" and _layout(step.body, numbers).reduced:
            rows.append(_reduction_row(_reduction(step.body, numbers, False), inner))
        else:                       # full-size outputs, or kept ones that follow from no reduction
            rows += _map_rows(_map(step.body, numbers, False), inner)
    return rows


def ceildiv(n: int, d: int) -> int:
    return -(-n // d)


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
