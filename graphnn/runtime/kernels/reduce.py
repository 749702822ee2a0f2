"""Argmax: the index of the first largest element; a NaN counts as the largest. Other reductions are fused bodies."""

# pyright: reportMissingParameterType=false, reportIndexIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from math import prod

from graphnn.ir.graph import Node
from graphnn.ir.ops.reduce import ArgMax
from graphnn.ir.types import TensorType
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

_TILE_ELEMENTS = 1 << 13
_COLUMNS = 512
"""Columns of a tile: the largest of each so far stays in the thread's scratch."""


@lowers(ArgMax)
def argmax(node: Node, at: Lowering) -> list[Row]:
    assert isinstance(node.op, ArgMax)
    (x,), axis = node.inputs, node.op.axis
    shape = at.shape(x)
    at.op.infer(TensorType(x.dtype, shape))             # an empty axis is an error that only numbers show
    outer, n, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    if outer * inner == 0:
        return []
    dtype = x.dtype.value
    # Which kernel depends on the symbolic shape alone: an axis with nothing behind it is a row.
    if axis == x.rank - 1:
        per = max(1, _TILE_ELEMENTS // n)
        kernel = Kernel.of("graphnn.runtime.kernels.reduce:argmax_rows", dtype=dtype)
        return [Row(kernel, (at.address(x), at.address(node.output), outer, n, per), -(-outer // per))]
    block = min(inner, _COLUMNS)
    blocks = -(-inner // block)
    kernel = Kernel.of("graphnn.runtime.kernels.reduce:argmax_columns", dtype=dtype)
    args = (at.address(x), at.address(node.output), n, inner, block, blocks)
    return [Row(kernel, args, outer * blocks, block * x.dtype.itemsize)]


def argmax_rows(dtype: str) -> Callable[..., int]:
    """args: x, result, rows, elements a row, rows a tile."""
    from graphnn.runtime import intrinsics as k

    size, pointer, better = k.ITEMSIZE[dtype], k.POINTER[dtype], _better(dtype)

    def kernel(args, tile, scratch):
        first, n = tile * args[4], args[3]
        y = k.i64_pointer(args[1])
        for row in range(first, k.imin(first + args[4], args[2])):
            x = pointer(args[0] + size * row * n)
            best, index = x[0], 0
            for i in range(1, n):
                new = better(x[i], best)
                best, index = k.select(new, x[i], best), k.select(new, i, index)
            y[row] = index
        return 0

    return kernel


def argmax_columns(dtype: str) -> Callable[..., int]:
    """args: x, result, elements along the axis, columns, columns a tile, tiles across."""
    from graphnn.runtime import intrinsics as k

    size, pointer, better = k.ITEMSIZE[dtype], k.POINTER[dtype], _better(dtype)

    def kernel(args, tile, scratch):
        outer = k.udiv(tile, args[5])
        start = (tile - outer * args[5]) * args[4]
        count = k.imin(args[4], args[3] - start)
        x0 = args[0] + size * (outer * args[2] * args[3] + start)
        best, y = pointer(scratch), k.i64_pointer(args[1] + 8 * (outer * args[3] + start))
        x = pointer(x0)
        for j in range(count):
            best[j] = x[j]
            y[j] = 0
            k.independent()
        for i in range(1, args[2]):
            x = pointer(x0 + size * i * args[3])
            for j in range(count):
                new = better(x[j], best[j])
                best[j], y[j] = k.select(new, x[j], best[j]), k.select(new, i, y[j])
                k.independent()
        return 0

    return kernel


def _better(dtype: str) -> Callable[..., bool]:
    """Whether a later element takes the place of the largest so far."""
    from graphnn.runtime import intrinsics as k

    @k.inline
    def floats(x, best):
        return (x > best) | (k.is_nan(x) & (not k.is_nan(best)))

    @k.inline
    def integers(x, best):
        return x > best

    return floats if dtype in ("f32", "f64") else integers
