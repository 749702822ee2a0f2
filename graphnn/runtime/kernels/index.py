"""Rows by number: gather, scatter_add, one_hot, equal ids, and the range check of ids.

A kernel that is given an id out of range returns 1 and touches no memory outside its operands, whether or not a check came
before it: a graph may come from a stranger. scatter_add hands each destination to one tile, which sees all ids in their
order, so that sums do not depend on threads.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable
from math import prod

from graphnn.ir.graph import Node
from graphnn.ir.ops.index import CheckIndex, FirstEqual, Gather, OneHot, ScatterAdd
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

TILE_BYTES = 1 << 15
CHECKED = 1 << 15           # ids a tile
SCATTER_TILES = 16
_BUILDERS = "graphnn.runtime.kernels.index"


@lowers(CheckIndex)
def check_rows(node: Node, at: Lowering) -> list[Row]:
    op, (ids,) = at.op, node.inputs
    assert isinstance(op, CheckIndex)
    n = prod(at.shape(ids))
    if n == 0:
        return []
    kernel = Kernel.of(f"{_BUILDERS}:check", ids=str(ids.dtype))
    return [Row(kernel, (at.address(ids), n, at.bind(op.low), at.bind(op.high), CHECKED), -(-n // CHECKED))]


@lowers(Gather)
def gather_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x, ids), y = at.op, node.inputs, node.output
    assert isinstance(op, Gather)
    shape, many = at.shape(x), prod(at.shape(ids))
    outer, size, inner = prod(shape[:op.axis]), shape[op.axis], prod(shape[op.axis + 1:])
    if 0 in (outer, many, inner):
        return []
    single = inner == 1 and all(s == 1 for s in x.shape[op.axis + 1:])      # known for every binding: another variant
    kernel = Kernel.of(f"{_BUILDERS}:gather", itemsize=x.dtype.itemsize, ids=str(ids.dtype), single=single)
    rows = outer * many
    each = max(1, TILE_BYTES // (inner * x.dtype.itemsize))
    return [Row(kernel, (at.address(x), at.address(ids), at.address(y), size, inner, many, rows, each), -(-rows // each))]


@lowers(ScatterAdd)
def scatter_rows(node: Node, at: Lowering) -> list[Row]:
    op, (base, ids, updates), y = at.op, node.inputs, node.output
    assert isinstance(op, ScatterAdd)
    shape, many = at.shape(base), prod(at.shape(ids))
    outer, size, inner = prod(shape[:op.axis]), shape[op.axis], prod(shape[op.axis + 1:])
    rows: list[Row] = []
    if not at.same_buffer(base, y) and prod(shape):
        rows.append(copy_row(at.address(base), at.address(y), prod(shape) * base.dtype.itemsize))
    if 0 in (outer, many, inner):
        return rows
    # A tile for the ids that are equal modulo `parts`: more of them where a row is long against reading an id.
    parts = 1
    while parts < min(SCATTER_TILES, inner // 4, many * inner * base.dtype.itemsize // TILE_BYTES):
        parts *= 2
    kernel = Kernel.of(f"{_BUILDERS}:scatter_add", dtype=str(base.dtype), ids=str(ids.dtype))
    args = (at.address(ids), at.address(updates), at.address(y), size, inner, many, parts)
    return [*rows, Row(kernel, args, outer * parts)]


@lowers(FirstEqual)
def first_equal_rows(node: Node, at: Lowering) -> list[Row]:
    op, (ids,), y = at.op, node.inputs, node.output
    assert isinstance(op, FirstEqual)
    n, size = prod(at.shape(ids)), at.bind(op.size)
    if n == 0:
        return []
    kernel = Kernel.of(f"{_BUILDERS}:first_equal", ids=str(ids.dtype))
    return [Row(kernel, (at.address(ids), at.address(y), at.scratch("places", 8 * size), n, size))]


@lowers(OneHot)
def one_hot_rows(node: Node, at: Lowering) -> list[Row]:
    op, (ids,), y = at.op, node.inputs, node.output
    assert isinstance(op, OneHot)
    n, depth = prod(at.shape(ids)), at.bind(op.depth)
    if n == 0:
        return []
    kernel = Kernel.of(f"{_BUILDERS}:one_hot", dtype=str(y.dtype), ids=str(ids.dtype))
    each = max(1, TILE_BYTES // max(1, depth * y.dtype.itemsize))
    return [Row(kernel, (at.address(ids), at.address(y), n, depth, each), -(-n // each))]


# ------------------------------------------------------------------------------------------------ kernels


def check(ids: str) -> Callable[..., int]:
    """args: ids, count, low, high, ids a tile. Returns 1 when an id lies outside [low, high)."""
    from graphnn.runtime import intrinsics as k

    pointer, size = k.POINTER[ids], k.ITEMSIZE[ids]

    def kernel(args, tile, scratch):
        first = tile * args[4]
        x, low, high = pointer(args[0] + first * size), args[2], args[3]
        wrong = 0
        for i in range(k.imin(args[1] - first, args[4])):
            a = k.to_i64(x[i])
            wrong |= k.select(a < low, 1, 0) | k.select(a >= high, 1, 0)
        return wrong

    return kernel


def gather(itemsize: int, ids: str, single: bool) -> Callable[..., int]:
    """args: x, ids, y, size of the axis, elements a row, ids, rows of y, rows a tile."""
    from graphnn.runtime import intrinsics as k

    id_pointer = k.POINTER[ids]
    element = {1: k.u8_pointer, 4: k.i32_pointer, 8: k.i64_pointer}[itemsize]

    def kernel(args, tile, scratch):
        x, y, size, inner, many = args[0], args[2], args[3], args[4], args[5]
        ids_, first = id_pointer(args[1]), tile * args[7]
        for row in range(first, k.imin(first + args[7], args[6])):
            outer = k.udiv(row, many)
            i = k.to_i64(ids_[row - outer * many])
            if i < 0 or i >= size:
                return 1
            if single:
                element(y)[row] = element(x)[outer * size + i]
            elif inner * itemsize >= 256:
                k.memcpy(y + row * inner * itemsize, x + (outer * size + i) * inner * itemsize, inner * itemsize)
            else:
                source, target = element(x + (outer * size + i) * inner * itemsize), element(y + row * inner * itemsize)
                for e in range(inner):
                    target[e] = source[e]
                    k.independent()
        return 0

    return kernel


def scatter_add(dtype: str, ids: str) -> Callable[..., int]:
    """args: ids, updates, y, size of the axis, elements a row, ids, parts (a power of two)."""
    from graphnn.runtime import intrinsics as k

    pointer, size, id_pointer = k.POINTER[dtype], k.ITEMSIZE[dtype], k.POINTER[ids]

    def kernel(args, tile, scratch):
        ids_, length, inner, many, parts = id_pointer(args[0]), args[3], args[4], args[5], args[6]
        outer = k.udiv(tile, parts)
        part = tile - outer * parts
        updates, y = args[1] + outer * many * inner * size, args[2] + outer * length * inner * size
        for m in range(many):
            i = k.to_i64(ids_[m])
            if i < 0 or i >= length:
                return 1
            if (i & (parts - 1)) == part:
                target, source = pointer(y + i * inner * size), pointer(updates + m * inner * size)
                for e in range(inner):
                    target[e] = target[e] + source[e]
                    k.independent()
        return 0

    return kernel


def first_equal(ids: str) -> Callable[..., int]:
    """args: ids, y, a place for each possible id, ids, possible ids.

    The places are not cleared, which would cost a table's length: a place is believed where it stands before and has the id.
    From an id's first occurrence on its place is right, whatever was there.
    """
    from graphnn.runtime import intrinsics as k

    id_pointer = k.POINTER[ids]

    def kernel(args, tile, scratch):
        ids_, y, places, size = id_pointer(args[0]), k.i64_pointer(args[1]), k.i64_pointer(args[2]), args[4]
        for m in range(args[3]):
            i = k.to_i64(ids_[m])
            if i < 0 or i >= size:
                return 1
            first = places[i]
            if first < 0 or first >= m or k.to_i64(ids_[first]) != i:
                first = m
                places[i] = m
            y[m] = first
        return 0

    return kernel


def one_hot(dtype: str, ids: str) -> Callable[..., int]:
    """args: ids, y, count, depth, ids a tile."""
    from graphnn.runtime import intrinsics as k

    pointer, size, id_pointer, one = k.POINTER[dtype], k.ITEMSIZE[dtype], k.POINTER[ids], k.SCALAR[dtype](1)

    def kernel(args, tile, scratch):
        ids_, depth, first = id_pointer(args[0]), args[3], tile * args[4]
        last = k.imin(first + args[4], args[2])
        k.memset0(args[1] + first * depth * size, (last - first) * depth * size)
        y = pointer(args[1])
        for row in range(first, last):
            i = k.to_i64(ids_[row])
            if i < 0 or i >= depth:
                return 1
            y[row * depth + i] = one
        return 0

    return kernel
