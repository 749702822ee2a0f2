"""Products with a sparse matrix: a tile makes some rows of the result, by finding their run of entries and walking it.

A kernel returns 1 for a pattern with an index out of range or entries out of order, and touches no memory outside its
operands, whether or not a check came before it: a graph and its state may come from a stranger. Neighbouring tiles search
for the same boundary of their runs, so every entry is walked by one tile, which sees whether it stands where it should.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.graph import Node
from graphnn.ir.ops.sparse import SampledMatMul, SparseMatMul
from graphnn.runtime.kernels.tiling import ceildiv
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

TILES = 32                  # most tiles that are made only to have something for every thread
TILE_WORK = 1 << 17         # multiply-adds that pay for a tile
PANEL_BYTES = 1 << 19       # of a dense operand, whose rows are read in any order: half of a usual second-level cache
PANEL_COLUMNS = 128         # the narrowest panel
BLOCK = 64                  # entries that are looked up, then multiplied
_BUILDERS = "graphnn.runtime.kernels.sparse"


def panel_columns(features: int, itemsize: int) -> int:
    """How many columns of a dense operand are worked on together, so that they stay in cache."""
    return max(PANEL_COLUMNS, PANEL_BYTES // max(1, features * itemsize) // PANEL_COLUMNS * PANEL_COLUMNS)


@lowers(SparseMatMul)
def product_rows(node: Node, at: Lowering) -> list[Row]:
    op, (values, pattern, x), y = at.op, node.inputs, node.output
    assert isinstance(op, SparseMatMul)
    dtype, (size, n), (entries,), source = str(x.dtype), at.shape(y), at.shape(values), at.shape(x)[0]
    if 0 in (size, n):
        return []
    kernel = Kernel.of(f"{_BUILDERS}:product", dtype=dtype, lanes=at.isa.lanes(dtype), transposed=op.transposed)
    width = panel_columns(source, x.dtype.itemsize)
    across = ceildiv(n, width)
    down = max(1, min(TILES // across, entries * n // TILE_WORK, size))
    each = ceildiv(size, down)
    args = (at.address(values), at.address(pattern), at.address(x), at.address(y), entries, size, source, n, each, width, across)
    return [Row(kernel, args, across * ceildiv(size, each), thread_scratch=2 * 8 * BLOCK)]


@lowers(SampledMatMul)
def sampled_rows(node: Node, at: Lowering) -> list[Row]:
    (pattern, a, b), y = node.inputs, node.output
    dtype, (entries,), (m, n), k = str(a.dtype), at.shape(y), at.shape(a), at.shape(b)[0]
    if entries == 0:
        return []
    kernel = Kernel.of(f"{_BUILDERS}:sampled", dtype=dtype, lanes=at.isa.lanes(dtype))
    each = ceildiv(entries, max(1, min(TILES, entries * n // TILE_WORK)))
    width = panel_columns(k, a.dtype.itemsize)
    args = (at.address(pattern), at.address(a), at.address(b), at.address(y), entries, m, k, n, each, width)
    return [Row(kernel, args, ceildiv(entries, each), thread_scratch=64)]


# ------------------------------------------------------------------------------------------------ kernels


def product(dtype: str, lanes: int, transposed: bool) -> Callable[..., int]:
    """args: values, pattern, x, y, entries, rows of y, rows of x, columns, rows a tile, columns a tile, tiles across."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.sparse_products import sums_call

    sums, size, pointer = sums_call(dtype, lanes), k.ITEMSIZE[dtype], k.POINTER[dtype]

    @k.inline
    def lower_bound(order, to, entries, row):
        """The first place in the order of the entries whose row is not before `row`; -1 when the order is damaged."""
        low, high = 0, entries
        while low < high:
            middle = (low + high) >> 1
            e = middle
            if transposed:
                e = k.to_i64(order[middle])
                if e < 0 or e >= entries:
                    return -1
            if k.to_i64(to[e]) < row:
                low = middle + 1
            else:
                high = middle
        return low

    def kernel(args, tile, scratch):
        entries, rows, sources, n = args[4], args[5], args[6], args[7]
        block = k.udiv32(tile, args[10])
        first, column = block * args[8], (tile - block * args[10]) * args[9]
        last, width = k.imin(first + args[8], rows), k.imin(n - column, args[9])
        values, order = pointer(args[0]), k.i32_pointer(args[1] + 8 * entries)
        to = k.i32_pointer(args[1] + (4 * entries if transposed else 0))
        source = k.i32_pointer(args[1] + (0 if transposed else 4 * entries))
        offsets, factors = k.i64_pointer(scratch), pointer(scratch + 8 * BLOCK)
        at, end = lower_bound(order, to, entries, first), lower_bound(order, to, entries, last)
        if at < 0 or end < at or (first == 0 and at > 0) or (last == rows and end < entries):
            return 1
        x = args[2] + column * size
        for row in range(first, last):
            y = args[3] + (row * n + column) * size
            accumulate = 0
            while True:
                count = 0
                while at < end and count < BLOCK:
                    e = at
                    if transposed:
                        e = k.to_i64(order[at])
                        if e < 0 or e >= entries:
                            return 1
                    if k.to_i64(to[e]) != row:
                        break
                    i = k.to_i64(source[e])
                    if i < 0 or i >= sources:
                        return 1
                    offsets[count] = i * n * size
                    factors[count] = values[e]
                    count += 1
                    at += 1
                sums(y, x, scratch, scratch + 8 * BLOCK, count, width, accumulate)
                accumulate = 1
                if count < BLOCK:
                    break
        return 0 if at == end else 1                    # an entry that is not in its order is where the walk stops

    return kernel


def sampled(dtype: str, lanes: int) -> Callable[..., int]:
    """args: pattern, a, b, y, entries, rows of a, rows of b, columns, entries a tile, columns at once."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.sparse_products import DOT_ROWS, dots_call

    dots, size, pointer = dots_call(dtype, lanes), k.ITEMSIZE[dtype], k.POINTER[dtype]

    def kernel(args, tile, scratch):
        entries, n, width = args[4], args[7], args[9]
        first = tile * args[8]
        last = k.imin(first + args[8], entries)
        rows, columns, y = k.i32_pointer(args[0]), k.i32_pointer(args[0] + 4 * entries), pointer(args[3])
        offsets, found = k.i64_pointer(scratch), pointer(scratch + 8 * DOT_ROWS)
        column = 0
        while True:
            at, piece = first, k.imin(n - column, width)
            while at < last:
                row = k.to_i64(rows[at])                # entries of one row share its side of their products
                if row < 0 or row >= args[5]:
                    return 1
                count = 0
                while count < DOT_ROWS and at + count < last:
                    if k.to_i64(rows[at + count]) != row:
                        break
                    j = k.to_i64(columns[at + count])
                    if j < 0 or j >= args[6]:
                        return 1
                    offsets[count] = j * n * size
                    count += 1
                for i in range(count, DOT_ROWS):
                    offsets[i] = offsets[0]
                dots(scratch + 8 * DOT_ROWS, args[1] + (row * n + column) * size, args[2] + column * size, scratch, piece)
                for i in range(count):
                    y[at + i] = found[i] if column == 0 else y[at + i] + found[i]
                at += count
            column += width
            if column >= n:
                break
        return 0

    return kernel
