"""Lowering of attention and its gradient: how many tiles, and the arguments of the kernels in attention_blocks.py."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphnn.ir.graph import Node, Value
from graphnn.ir.ops.attention import Attention, AttentionGrad
from graphnn.runtime.kernels.attention_blocks import KEYS, LOOPS_BYTES, QUERIES
from graphnn.runtime.kernels.tiling import ceildiv, combine_row, masked, round_up
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Address, Arg, Kernel, Row, Scratch

_HEADS = 16                 # so many heads or more are enough tiles

@lowers(Attention)
def attention_rows(node: Node, at: Lowering) -> list[Row]:
    op = at.op
    assert isinstance(op, Attention)
    (q, k, v, *masks), (y, logs) = node.inputs, node.outputs
    queries, heads, size = at.shape(q)[-3:]
    width, outer = at.shape(v)[-1], prod(at.shape(q)[:-3])
    blocks = ceildiv(queries, QUERIES)
    args, axes = _shared(op, at, q, k, v, logs, masks, blocks)
    itemsize, padded = q.dtype.itemsize, round_up(width, at.isa.lanes(str(q.dtype)))
    scratch = QUERIES * (3 + size + KEYS + padded) + KEYS * padded
    kernel = _kernel("forward", at, q)
    return [Row(kernel, (*args, at.address(y), *axes), outer * heads * blocks, LOOPS_BYTES + scratch * itemsize)]


@lowers(AttentionGrad)
def attention_grad_rows(node: Node, at: Lowering) -> list[Row]:
    op = at.op
    assert isinstance(op, AttentionGrad)
    (q, k, v, *masks), (logs, delta, dy), (d_q, d_k, d_v) = node.inputs[:-3], node.inputs[-3:], node.outputs
    queries, heads, size = at.shape(q)[-3:]
    keys, width, outer = at.shape(k)[-3], at.shape(v)[-1], prod(at.shape(q)[:-3])
    dtype, itemsize, lanes = str(q.dtype), q.dtype.itemsize, at.isa.lanes(str(q.dtype))
    units, blocks = outer * heads, max(1, ceildiv(keys, KEYS))
    chunk_blocks = ceildiv(blocks, min(blocks, ceildiv(_HEADS, max(1, units))))
    chunks = ceildiv(blocks, chunk_blocks)
    elements = outer * queries * heads * size
    partial = Scratch(node, "cotangents of queries", chunks * elements * itemsize)
    sums = Address(partial) if chunks > 1 else at.address(d_q)
    args, axes = _shared(op, at, q, k, v, logs, masks, chunks)
    args += (at.address(delta), at.address(dy), sums, at.address(d_k), at.address(d_v), elements * itemsize, chunk_blocks * KEYS)
    padded_size, padded_width = round_up(size, lanes), round_up(width, lanes)
    scratch = QUERIES * (2 + size + width + 2 * KEYS + 2 * padded_size + padded_width) + KEYS * (2 * padded_size + padded_width)
    rows = [Row(_kernel("backward", at, q), (*args, *axes), units * chunks, LOOPS_BYTES + scratch * itemsize)]
    if chunks > 1 and elements:
        rows.append(combine_row(dtype, partial, at.address(d_q), chunks, outer * queries, heads * size, None))
    return rows


def _kernel(name: str, at: Lowering, q: Value) -> Kernel:
    dtype, isa = str(q.dtype), at.isa
    return Kernel.of(f"graphnn.runtime.kernels.attention_blocks:{name}", dtype=dtype, lanes=isa.lanes(dtype),
                     tallest=isa.tile(dtype)[0], registers=isa.registers, masked=masked(isa))


def _shared(op: Attention | AttentionGrad, at: Lowering, q: Value, k: Value, v: Value, logs: Value, masks: Sequence[Value],
            parts: int) -> tuple[tuple[Arg, ...], tuple[Arg, ...]]:
    """The arguments of both kernels, and the axes of masks."""
    queries, heads, size = at.shape(q)[-3:]
    allowed = masks[0] if op.masked else None
    kept = masks[-1] if op.drop else None
    places = [0 if mask is None else at.address(mask) for mask in (allowed, kept)]
    by_axis = [[0] * q.rank if mask is None else _strides(at.shape(mask)) for mask in (allowed, kept)]
    axes: list[Arg] = []
    for axis, n in enumerate((*at.shape(q)[:-3], heads)):
        axes += [n, by_axis[0][axis], by_axis[1][axis]]
    args = (at.address(q), at.address(k), at.address(v), at.address(logs), *places, float(op.scale), 1.0 / (1.0 - op.drop),
            int(op.causal), heads, queries, at.shape(k)[-3], size, at.shape(v)[-1], *by_axis[0][-2:], *by_axis[1][-2:],
            q.rank - 2, parts)
    return args, tuple(axes)


def _strides(shape: tuple[int, ...]) -> list[int]:
    """In elements; 0 where an axis is 1, which repeats."""
    return [0 if n == 1 else prod(shape[axis + 1:]) for axis, n in enumerate(shape)]
