"""Matrix products: sizes and strides -> rows. Any transposes, any batch broadcasts, one microkernel.

The choices made here (boxes, packing, blocks of the sum) depend on sizes alone, so results do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels.tiling import (
    ITEMSIZE,
    Boxes,
    Contraction,
    Epilogue,
    Window,
    ceildiv,
    combine_row,
    contract_row,
    epilogue_args,
    epilogue_row,
    masked,
    round_up,
    transpose_row,
)
from graphnn.runtime.row import Address, Kernel, Row, Scratch

# Floating-point operations below which a tile costs more to hand out than it gains: some 8 us of one core.
_TILE_FLOPS = 2_000_000
# Most tiles that are made only to have something for every thread.
_TILES = 32
# The largest box: rows, and bytes of a row of it. With a block of B it fits a usual second-level cache.
_BOX_ROWS = 512
_BOX_COLS = 1024
# With so few rows against a transposed right operand, dot products along memory beat packing it.
_FEW_ROWS = 8
# Columns, in bytes, that fill no more than a usual vector.
_FEW_COLS = 64
# Addresses a multiple of so many bytes apart share the sets of a usual first-level cache, which has room for few of them.
_SAME_SETS = 4096
# What it costs to bring a byte of B to a matrix-vector product, in floating-point operations.
_FLOPS_A_BYTE = 2


@dataclass(frozen=True)
class Matrix:
    """An operand: where it starts and its strides in elements; `batch` has one stride for each batch dim (0 repeats)."""

    address: Address
    row: int
    col: int
    batch: tuple[int, ...] = ()

    @property
    def mT(self) -> Matrix:
        return replace(self, row=self.col, col=self.row)


def matmul_rows(
    dtype: str,
    isa: InstructionSet,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    *,
    batch: tuple[int, ...] = (),
    epilogue: Epilogue | None = None,
    owner: Hashable = None,
) -> list[Row]:
    """The rows of c = a @ b, for (M, K, N) = `sizes` and batch dims `batch`; c has columns next to each other.

    The epilogue counts rows through all batches: batch * M + row is the same row of C whether it comes as (batch, row)
    or, where batches were joined into one product, as (0, batch * M + row). `owner` names the scratch that rows share.
    """
    m, k, n = sizes
    if 0 in (m, n, *batch):
        return []
    dims, m = _join_batches(batch, m, a, b, c)
    if len(dims) > 2:
        return _over_leading_batches(dtype, isa, (m, k, n), a, b, c, dims, epilogue, owner)
    window = Window((0, a.row, a.col), row=(0, 1, 0), k=((0, 0, 0), (0, 0, 0), (0, 0, 1)))
    if k and a.col == 1 and b.row == 1 and m <= _FEW_ROWS and n > 1 and len(dims) <= 1:
        return [_dots_row(dtype, isa, (m, k, n), a, b, c, dims, epilogue)]
    if not dims and n <= _FEW_COLS // ITEMSIZE[dtype] and m >= max(16, 2 * n):
        # A vector of C would be mostly empty: multiply the other way round.
        turned = Address(Scratch(owner, "transposed product", m * n * ITEMSIZE[dtype]))
        left, right = replace(b.mT, batch=()), replace(a.mT, batch=())
        rows = matmul_rows(dtype, isa, (n, k, m), left, right, Matrix(turned, m, 1), owner=(owner, "transposed"))
        return [*rows, transpose_row(dtype, isa, turned, c.address, m, n, c.row, epilogue)]
    if a.col != 1 and a.row == 1:
        window = Window((0, a.col, a.row), row=(0, 0, 1), k=((0, 0, 0), (0, 0, 0), (0, 1, 0)))
    contraction = Contraction(
        dtype, a.address, b.address, c.address, window, m, n, (1, 1, k), (0, 0, b.row), b_col=b.col,
        c_row=c.row, batch=dims, epilogue=epilogue,
    )  # fmt: skip
    return _rows(contraction, isa, owner)


def packing_serves(dtype: str, sizes: tuple[int, int, int]) -> bool:
    """Whether many products of these sizes with one right operand gain by packing it once: not where they read it but once or
    twice, or would turn it round."""
    m, k, n = sizes
    return m > _FEW_ROWS and k > 0 and n > _FEW_COLS // ITEMSIZE[dtype]


def prepacked_nbytes(dtype: str, isa: InstructionSet, k: int, n: int) -> int:
    """The size of a right operand [k, n] in panels."""
    return round_up(n, isa.tile(dtype)[1]) * k * ITEMSIZE[dtype]


def pack_row(dtype: str, isa: InstructionSet, k: int, n: int, b: Matrix, to: Address) -> Row:
    """The row that writes the right operand in panels, once for many products (constant weights)."""
    kernel = Kernel.of("graphnn.runtime.kernels.matrices:pack", dtype=dtype, lanes=isa.lanes(dtype))
    return Row(kernel, (b.address, to, k, n, b.row, b.col, 0), ceildiv(n, isa.tile(dtype)[1]))


def matmul_prepacked_rows(
    dtype: str,
    isa: InstructionSet,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Address,
    c: Matrix,
    *,
    epilogue: Epilogue | None = None,
    owner: Hashable = None,
) -> list[Row]:
    """The rows of c = a @ b where `pack_row` wrote b."""
    m, k, n = sizes
    panel = isa.tile(dtype)[1]
    right = Matrix(b, panel, 1)
    if 0 in (m, n):
        return []
    window = Window((0, a.row, a.col), row=(0, 1, 0), k=((0, 0, 0), (0, 0, 0), (0, 0, 1)))
    contraction = Contraction(
        dtype, a.address, right.address, c.address, window, m, n, (1, 1, k), (0, 0, panel), b_panel=k * panel,
        c_row=c.row, epilogue=epilogue,
    )  # fmt: skip
    return _rows(contraction, isa, owner)


def _join_batches(
    sizes: tuple[int, ...], m: int, a: Matrix, b: Matrix, c: Matrix
) -> tuple[tuple[tuple[int, int, int, int], ...], int]:
    """Batch dims (size, strides of a, b, c) with those of size 1 gone and neighbours joined; and M, which takes in
    the batches that share b where a and c run on from one batch to the next."""
    dims = [d for d in zip(sizes, a.batch, b.batch, c.batch, strict=True) if d[0] != 1]
    joined: list[tuple[int, int, int, int]] = []
    for dim in dims:
        n = dim[0]
        if joined and all(outer == n * inner for outer, inner in zip(joined[-1][1:], dim[1:], strict=True)):
            joined[-1] = (joined[-1][0] * n, *dim[1:])
        else:
            joined.append(dim)
    if joined:
        n, a_step, b_step, c_step = joined[-1]
        if b_step == 0 and a_step == m * a.row and c_step == m * c.row:
            return tuple(joined[:-1]), m * n
    return tuple(joined), m


def _dots_row(
    dtype: str,
    isa: InstructionSet,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    dims: tuple[tuple[int, int, int, int], ...],
    epilogue: Epilogue | None,
) -> Row:
    m, k, n = sizes
    size = ITEMSIZE[dtype]
    batches, a_step, b_step, c_step = dims[0] if dims else (1, 0, 0, 0)
    work = n * k * (2 * m + _FLOPS_A_BYTE * size)
    tile = round_up(ceildiv(n, max(1, min(_TILES, work // _TILE_FLOPS))), 8)
    kernel = Kernel.of(
        "graphnn.runtime.kernels.matrices:dots", dtype=dtype, lanes=isa.lanes(dtype), registers=isa.registers
    )
    args = (a.address, b.address, c.address, *epilogue_args(epilogue), m, n, k, a.row * size, b.col * size, c.row * size)
    args += (tile, batches, a_step * size, b_step * size, c_step * size)
    return Row(kernel, args, batches * ceildiv(n, tile), thread_scratch=256)


def _over_leading_batches(
    dtype: str,
    isa: InstructionSet,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    dims: tuple[tuple[int, int, int, int], ...],
    epilogue: Epilogue | None,
    owner: Hashable,
) -> list[Row]:
    """A row takes two batch dims; the others are unrolled into rows, with the epilogue after all of them."""
    size, rows = ITEMSIZE[dtype], []
    leading, last = dims[:-2], dims[-2:]
    for index in product(*(range(n) for n, *_ in leading)):
        moved = []
        for matrix, place in ((a, 1), (b, 2), (c, 3)):
            offset = sum(i * dim[place] for i, dim in zip(index, leading, strict=True)) * size
            moved.append(replace(matrix, address=matrix.address + offset, batch=tuple(d[place] for d in last)))
        rows += matmul_rows(dtype, isa, sizes, *moved, batch=tuple(n for n, *_ in last), owner=(owner, index))
    if epilogue is not None:
        rows.append(epilogue_row(epilogue, prod(n for n, *_ in dims) * sizes[0], sizes[2]))
    return rows


def _rows(c: Contraction, isa: InstructionSet, owner: Hashable) -> list[Row]:
    boxes = _boxes(c, isa)
    if boxes.chunks == 1:
        return [contract_row(c, boxes, isa)]
    partial = Scratch(owner, "partial sums", boxes.chunks * c.rows * c.cols * ITEMSIZE[c.dtype])
    split = contract_row(replace(c, c=Address(partial), c_row=c.cols, epilogue=None), boxes, isa)
    return [split, combine_row(c.dtype, partial, c.c, boxes.chunks, c.rows, c.cols, c.epilogue)]


def _boxes(c: Contraction, isa: InstructionSet) -> Boxes:
    """Cut C into boxes, near square, and the sum into blocks that stay in cache. Measured on Zen 5."""
    size, (tallest, panel) = ITEMSIZE[c.dtype], isa.tile(c.dtype)
    m, n, k = c.rows, c.cols, max(1, c.k[2])
    blocks = 1 if k * panel * size <= 1 << 16 else ceildiv(k * panel * size, 48 << 10)
    flops = 2 * m * n * k
    batch = max(1, min(c.batches, _TILE_FLOPS // max(1, flops), ceildiv(c.batches, _TILES)))
    work = c.flops + _FLOPS_A_BYTE * size * k * n * c.batches
    want = min(_TILES, work // _TILE_FLOPS) / ceildiv(c.batches, batch)

    # Hardware follows rows of B wherever they lie, until B is so large that its pages are too many.
    edge = n % panel != 0 and not masked(isa)
    far = k * n * size > 2 << 20 and m >= 4 * tallest
    pack = not c.b_panel and (edge or c.b_col != 1 or far)
    # A is copied closer together where its rows, or those of its transpose, would be in each other's way in the cache.
    crowded = max(c.window.strides[1:]) * size % _SAME_SETS == 0 and m > _FEW_ROWS and n >= 4 * panel
    stage = min(c.window.strides[1:]) != 1 or crowded

    panels = ceildiv(n, panel)
    rows_first = 1 if pack or stage else 2  # boxes are wide or tall where something is copied for each of them
    row_parts, col_parts = ceildiv(m, _BOX_ROWS), 1
    if m > tallest:  # few rows are one pass over B, whatever its width
        col_parts = ceildiv(panels * panel * size, _BOX_COLS)
    while row_parts * col_parts < want:
        rows, cols = ceildiv(m, row_parts), ceildiv(panels, col_parts) * panel
        if (rows * rows_first >= 2 * cols and rows > 2 * tallest) or (cols == panel and rows > 4 * tallest):
            row_parts *= 2
        elif cols > panel:
            col_parts *= 2
        else:
            break
    rows, cols = ceildiv(m, row_parts), ceildiv(panels, col_parts) * panel
    chunks = 1
    if not c.batch and c.c_row == n:
        # A long sum into few elements is split; the parts are added in order by another row.
        free = int(want / (ceildiv(m, rows) * ceildiv(n, cols)))
        if free >= 2 and blocks >= 4:
            chunks = ceildiv(blocks, ceildiv(blocks, min(free, 16)))
    block = ceildiv(k, blocks)
    return Boxes(rows, cols, batch=batch, block=block, chunks=chunks, chunk_stride=m * n, pack=pack, stage=stage)
