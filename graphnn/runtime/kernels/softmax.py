"""Softmax and its logarithm: a tile of rows along the last axis, or of columns along another one.

Rows keep `LANES` running maxima and sums side by side, which are joined at the end in a fixed order. What is left of a row
after whole blocks goes through a copy in scratch that is filled up with -inf, so that it is vector work too: exp(-inf) = 0.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable
from math import prod

from graphnn.ir.graph import Node
from graphnn.ir.ops.softmax import LogSoftmax, Softmax
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

TILE_BYTES = 1 << 15
LANES = {"f32": 64, "f64": 32}       # a whole block
PART = {"f32": 16, "f64": 8}         # what the rest of a row is rounded up to
COLUMNS = 256


@lowers(Softmax, LogSoftmax)
def softmax_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x,), y = at.op, node.inputs, node.output
    assert isinstance(op, (Softmax, LogSoftmax))
    shape, dtype, itemsize = at.shape(x), str(x.dtype), x.dtype.itemsize
    if 0 in shape:
        return []
    outer, n, inner = prod(shape[:op.axis]), shape[op.axis], prod(shape[op.axis + 1:])
    log = isinstance(op, LogSoftmax)
    if op.axis == len(shape) - 1:
        kernel = Kernel.of("graphnn.runtime.kernels.softmax:rows", dtype=dtype, log=log)
        each = max(1, TILE_BYTES // (n * itemsize))
        return [Row(kernel, (at.address(x), at.address(y), n, outer, each), -(-outer // each), 2 * LANES[dtype] * itemsize)]
    kernel = Kernel.of("graphnn.runtime.kernels.softmax:columns", dtype=dtype, log=log)
    parts = -(-inner // COLUMNS)
    return [Row(kernel, (at.address(x), at.address(y), n, inner, parts), outer * parts, 2 * COLUMNS * itemsize)]


def rows(dtype: str, log: bool) -> Callable[..., int]:
    """args: x, y, length of a row, rows, rows a tile. Scratch: LANES running values, and LANES for the rest of a row."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math

    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]
    exp, logarithm = vector_math.FUNCTIONS["exp"], vector_math.FUNCTIONS["log"]
    lanes, part = LANES[dtype], PART[dtype]
    quarter = part // 4
    minus_infinity, zero, one = scalar(float("-inf")), scalar(0.0), scalar(1.0)

    @k.inline
    def fill(to, value):
        for l in range(lanes):
            to[l] = value
            k.independent()

    @k.inline
    def total(acc, wide):
        if wide:
            for l in range(part):
                acc[l] = (acc[l] + acc[l + part]) + (acc[l + 2 * part] + acc[l + 3 * part])
                k.independent()
        for l in range(quarter):
            acc[l] = (acc[l] + acc[l + quarter]) + (acc[l + 2 * quarter] + acc[l + 3 * quarter])
            k.independent()
        return (acc[0] + acc[1]) + (acc[2] + acc[3]) if quarter == 4 else acc[0] + acc[1]

    @k.inline
    def largest(acc, wide):
        if wide:
            for l in range(part):
                acc[l] = k.maximum(k.maximum(acc[l], acc[l + part]), k.maximum(acc[l + 2 * part], acc[l + 3 * part]))
                k.independent()
        for l in range(quarter):
            acc[l] = k.maximum(k.maximum(acc[l], acc[l + quarter]), k.maximum(acc[l + 2 * quarter], acc[l + 3 * quarter]))
            k.independent()
        m = k.maximum(acc[0], acc[1])
        return k.maximum(m, k.maximum(acc[2], acc[3])) if quarter == 4 else m

    def kernel(args, tile, scratch):
        n, first = args[2], tile * args[4]
        acc, rest = pointer(scratch), pointer(scratch + lanes * size)
        whole = n // lanes * lanes
        left = n - whole
        parts = (left + part - 1) // part * part
        for row in range(first, k.imin(first + args[4], args[3])):
            x, y = args[0] + row * n * size, args[1] + row * n * size
            tail_x, tail_y = pointer(x + whole * size), pointer(y + whole * size)
            for l in range(parts):
                rest[l] = minus_infinity
                k.independent()
            for l in range(left):
                rest[l] = tail_x[l]
                k.independent()
            fill(acc, minus_infinity)
            for b in range(0, whole, lanes):
                source = pointer(x + b * size)
                for l in range(lanes):
                    acc[l] = k.maximum(acc[l], source[l])
                    k.independent()
            for l in range(parts):
                acc[l] = k.maximum(acc[l], rest[l])
                k.independent()
            m = largest(acc, n > part)
            fill(acc, zero)
            for b in range(0, whole, lanes):
                source, target = pointer(x + b * size), pointer(y + b * size)
                for l in range(lanes):
                    e = exp(source[l] - m)
                    if not log:
                        target[l] = e
                    acc[l] = acc[l] + e
                    k.independent()
            for l in range(parts):
                e = exp(rest[l] - m)
                if not log:
                    rest[l] = e
                acc[l] = acc[l] + e
                k.independent()
            s = total(acc, n > part)
            if log:
                shift = logarithm(s)
                source, target = pointer(x), pointer(y)
                for l in range(n):
                    target[l] = (source[l] - m) - shift
                    k.independent()
            else:
                scale, target = one / s, pointer(y)
                for l in range(whole):
                    target[l] = target[l] * scale
                    k.independent()
                for l in range(left):
                    tail_y[l] = rest[l] * scale
                    k.independent()
        return 0

    return kernel


def columns(dtype: str, log: bool) -> Callable[..., int]:
    """args: x, y, size of the axis, elements behind it, tiles across those. Scratch: a maximum and a sum for each column."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math

    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]
    exp, logarithm = vector_math.FUNCTIONS["exp"], vector_math.FUNCTIONS["log"]
    zero, one = scalar(0.0), scalar(1.0)

    def kernel(args, tile, scratch):
        n, inner, parts = args[2], args[3], args[4]
        outer = k.udiv(tile, parts)
        first = (tile - outer * parts) * COLUMNS
        width = k.imin(COLUMNS, inner - first)
        offset = (outer * n * inner + first) * size
        x, y = args[0] + offset, args[1] + offset
        best, total = pointer(scratch), pointer(scratch + COLUMNS * size)
        source = pointer(x)
        for i in range(width):
            best[i] = source[i]
            total[i] = zero
            k.independent()
        for j in range(1, n):
            source = pointer(x + j * inner * size)
            for i in range(width):
                best[i] = k.maximum(best[i], source[i])
                k.independent()
        for j in range(n):
            source, target = pointer(x + j * inner * size), pointer(y + j * inner * size)
            for i in range(width):
                e = exp(source[i] - best[i])
                if not log:
                    target[i] = e
                total[i] = total[i] + e
                k.independent()
        for i in range(width):
            total[i] = logarithm(total[i]) if log else one / total[i]
            k.independent()
        for j in range(n):
            source, target = pointer(x + j * inner * size), pointer(y + j * inner * size)
            for i in range(width):
                target[i] = (source[i] - best[i]) - total[i] if log else target[i] * total[i]
                k.independent()
        return 0

    return kernel
