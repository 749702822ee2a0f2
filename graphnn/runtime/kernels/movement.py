"""Lowering of what moves data: reshape where it is no view, transpose, flip, slice, concat, split, pad."""

from __future__ import annotations

from math import prod

import numpy as np

from graphnn.ir.dims import numbers
from graphnn.ir.graph import Node
from graphnn.ir.ops.shaping import Flip, Reshape, Transpose
from graphnn.ir.ops.slicing import Concat, Pad, Slice, Split
from graphnn.ir.types import TensorType
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.kernels.views import View, contiguous, copy_rows, fill_rows
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Row


@lowers(Reshape)
def reshape(node: Node, at: Lowering) -> list[Row]:
    source, target = node.inputs[0], node.output
    if at.same_buffer(source, target):
        return []
    return [copy_row(at.address(source), at.address(target), prod(at.shape(source)) * source.dtype.itemsize)]


@lowers(Transpose)
def transpose(node: Node, at: Lowering) -> list[Row]:
    assert isinstance(node.op, Transpose)
    source, shape = contiguous(at.address(node.inputs[0]), at.shape(node.inputs[0])), at.shape(node.output)
    view = View(source.address, tuple(source.strides[axis] for axis in node.op.perm))
    return copy_rows(view, contiguous(at.address(node.output), shape), shape, node.output.dtype.itemsize)


@lowers(Flip)
def flip(node: Node, at: Lowering) -> list[Row]:
    assert isinstance(node.op, Flip)
    shape, itemsize = at.shape(node.output), node.output.dtype.itemsize
    source = contiguous(at.address(node.inputs[0]), shape)
    last = sum((shape[axis] - 1) * source.strides[axis] for axis in node.op.axes)
    strides = tuple(-s if axis in node.op.axes else s for axis, s in enumerate(source.strides))
    view = View(source.address, strides).shifted(last, itemsize)
    return copy_rows(view, contiguous(at.address(node.output), shape), shape, itemsize)


@lowers(Slice)
def slice_(node: Node, at: Lowering) -> list[Row]:
    op = at.op
    assert isinstance(op, Slice)
    kind = TensorType(node.output.dtype, at.shape(node.inputs[0]))
    op.infer(kind)                                      # bounds of symbolic axes are known only now
    starts = [int(start) for start in op.starts]        # pyright: ignore[reportArgumentType]
    source, shape = contiguous(at.address(node.inputs[0]), at.shape(node.inputs[0])), at.shape(node.output)
    first = sum(start * stride for start, stride in zip(starts, source.strides, strict=True))
    strides = tuple(stride * step for stride, step in zip(source.strides, op.steps, strict=True))
    view = View(source.address, strides).shifted(first, kind.dtype.itemsize)
    return copy_rows(view, contiguous(at.address(node.output), shape), shape, kind.dtype.itemsize)


@lowers(Concat)
def concat(node: Node, at: Lowering) -> list[Row]:
    assert isinstance(node.op, Concat)
    axis, shape, itemsize = node.op.axis, at.shape(node.output), node.output.dtype.itemsize
    whole, rows, start = contiguous(at.address(node.output), shape), list[Row](), 0
    for value in node.inputs:
        sizes = at.shape(value)
        target = whole.shifted(start * whole.strides[axis], itemsize)
        rows += copy_rows(contiguous(at.address(value), sizes), target, sizes, itemsize)
        start += sizes[axis]
    return rows


@lowers(Split)
def split(node: Node, at: Lowering) -> list[Row]:
    assert isinstance(node.op, Split)
    axis, itemsize = node.op.axis, node.inputs[0].dtype.itemsize
    whole, rows, start = contiguous(at.address(node.inputs[0]), at.shape(node.inputs[0])), list[Row](), 0
    for value in node.outputs:
        sizes = at.shape(value)
        source = whole.shifted(start * whole.strides[axis], itemsize)
        rows += copy_rows(source, contiguous(at.address(value), sizes), sizes, itemsize)
        start += sizes[axis]
    return rows


@lowers(Pad)
def pad(node: Node, at: Lowering) -> list[Row]:
    """Fill, then copy the middle."""
    op = at.op
    assert isinstance(op, Pad)
    low = numbers(op.low)
    dtype, sizes, shape = node.output.dtype, at.shape(node.inputs[0]), at.shape(node.output)
    target = contiguous(at.address(node.output), shape)
    rows = fill_rows(target.address, prod(shape), np.array(op.value, dtype.numpy))
    middle = target.shifted(sum(a * s for a, s in zip(low, target.strides, strict=True)), dtype.itemsize)
    return rows + copy_rows(contiguous(at.address(node.inputs[0]), sizes), middle, sizes, dtype.itemsize)
