"""A contraction and the boxes it is cut into -> the row that runs it. No sizes are decided here, only written down.

`Contraction` says what is computed, `Boxes` how; both are plain data, so a plan can be printed and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels import contraction as slot
from graphnn.runtime.row import Address, Arg, ArgsOf, Code, Kernel, Row, Scratch

ITEMSIZE = {"f32": 4, "f64": 8}
Triple = tuple[int, int, int]
Epilogue = tuple[Kernel, tuple[Arg, ...]]
"""A kernel of signature "epilogue" and its arguments."""

# Unbounded sizes of a window: larger than any index, and products with strides stay below 2**63.
_UNBOUNDED = 1 << 40


@dataclass(frozen=True)
class Window:
    """A as a tensor [h, w, x] and where the loops go in it: each loop's step, in coordinates.

    Reading outside of `sizes` gives zero (only staging can do that). `flat_rows` means that the rows count on from the
    end of x into the next w, so all of them lie in a window of `reach` more columns.
    """

    strides: Triple
    segment: Triple = (0, 0, 0)
    row: Triple = (0, 0, 0)
    k: tuple[Triple, Triple, Triple] = ((0, 0, 0), (0, 0, 0), (0, 0, 0))
    origin: Triple = (0, 0, 0)
    sizes: tuple[int, int] = (_UNBOUNDED, _UNBOUNDED)
    flat_rows: bool = False
    reach: Triple = (0, 0, 0)


@dataclass(frozen=True)
class Contraction:
    """C[batch, outer, segment, row, col] = sum over q, k of A * B. Strides in elements; sizes of 1 need no stride.

    `batch` is up to two (size, stride in A, in B, in C). `b_panel` is 0, or B is in panels with that stride between them.
    """

    dtype: str
    a: Address
    b: Address
    c: Address
    window: Window
    rows: int
    cols: int
    k: Triple
    b_k: Triple
    b_col: int = 1
    b_panel: int = 0
    c_row: int = 0
    segments: int = 1
    c_segment: int = 0
    outer: int = 1
    a_outer: int = 0
    c_outer: int = 0
    q: int = 1
    a_q: int = 0
    b_q: int = 0
    batch: tuple[tuple[int, int, int, int], ...] = ()
    epilogue: Epilogue | None = None
    epilogue_batch_col: int = 0
    """0: the epilogue is told the batch. Else batches lie side by side in the columns, this far apart."""

    @property
    def batches(self) -> int:
        return prod(n for n, *_ in self.batch)

    @property
    def depth(self) -> int:
        """How many products are summed for an element of C."""
        return self.q * prod(self.k)

    @property
    def flops(self) -> int:
        return 2 * self.batches * self.outer * self.segments * self.rows * self.cols * self.depth


@dataclass(frozen=True)
class Boxes:
    """How a contraction is cut: the box of C of a tile, the block of the sum, and what a tile copies first.

    `block` cuts loop `blocked` of k. With `chunks` above 1 the blocks are dealt to so many partial sums, `chunk_stride`
    elements apart, and the caller combines them.
    """

    rows: int
    cols: int
    segments: int = 1
    outer: int = 1
    batch: int = 1
    blocked: int = 2
    block: int = 1 << 30
    chunks: int = 1
    chunk_stride: int = 0
    pack: bool = False
    stage: bool = False


def ceildiv(a: int, b: int) -> int:
    return -(-a // b)


def round_up(n: int, unit: int) -> int:
    return ceildiv(n, unit) * unit


def masked(isa: InstructionSet) -> bool:
    """Whether partial vectors cost no more than whole ones: with mask registers. Elsewhere edges are copied."""
    return isa.name == "avx512"


def contract_kernel(dtype: str, isa: InstructionSet) -> Kernel:
    rows, _ = isa.tile(dtype)
    return Kernel.of(
        "graphnn.runtime.kernels.contraction:contract",
        dtype=dtype, lanes=isa.lanes(dtype), tallest=rows, registers=isa.registers, masked=masked(isa),
    )  # fmt: skip


def epilogue_args(epilogue: Epilogue | None) -> tuple[Arg, Arg]:
    return (0, 0) if epilogue is None else (Code(epilogue[0]), ArgsOf(epilogue[1]))


def contract_row(c: Contraction, boxes: Boxes, isa: InstructionSet) -> Row:
    """The row that computes `c` in `boxes`."""
    size, lanes, (tallest, panel) = ITEMSIZE[c.dtype], isa.lanes(c.dtype), isa.tile(c.dtype)
    assert panel == 2 * lanes, "a packed panel is two vectors wide"
    assert masked(isa) or boxes.pack or c.b_panel or c.cols % panel == 0, "an edge needs masks or packed panels"
    assert boxes.stage or c.window.sizes == (_UNBOUNDED, _UNBOUNDED), "only staging puts zeros around A"
    cols, rows, segments = min(boxes.cols, c.cols), min(boxes.rows, c.rows), min(boxes.segments, c.segments)
    outer, batch = min(boxes.outer, c.outer), min(boxes.batch, c.batches)
    assert cols == c.cols or cols % panel == 0, "a box starts at a panel"
    blocked, block = boxes.blocked, max(1, min(boxes.block, c.k[boxes.blocked]))
    blocks_per_q = max(1, ceildiv(c.k[blocked], block))
    blocks = max(1, c.q * blocks_per_q)         # an empty sum is one block that writes zeros
    w = c.window

    # How far a window reaches besides the loops that tiles and blocks cut.
    cut = blocked if blocks_per_q > 1 else None
    extents = [1 + w.reach[d] + sum(w.k[i][d] * max(0, c.k[i] - 1) for i in range(3) if i != cut) for d in range(3)]
    block_step = (0, 0, 0) if cut is None else w.k[cut]
    strides = w.strides
    staged_bytes = 0
    if boxes.stage:
        row = (0, 0, 0) if w.flat_rows else w.row
        whole = [
            extents[d] + w.segment[d] * (segments - 1) + row[d] * (rows - 1) + block_step[d] * (block - 1)
            for d in range(3)
        ]
        x_staged = whole[2]
        if not w.flat_rows and whole[1] > 1 and x_staged * size % 1024 == 0 and w.k[1] == (0, 0, 0):
            x_staged += 64 // size  # rows a multiple of 1 KB apart would share a few sets of the cache
        strides = (x_staged * whole[1], x_staged, 1)
        staged_bytes = whole[0] * strides[0] * size

    def stride(step: Triple) -> int:
        return sum(s * t for s, t in zip(step, strides, strict=True))

    a_k, k, b_k = [stride(step) for step in w.k], list(c.k), list(c.b_k)
    for inner in (2, 1):
        # Two loops that run on from each other are one: fewer, longer innermost loops.
        joined = next((i for i in range(inner - 1, -1, -1) if k[i] != 1), None)
        if joined is None or cut in (inner, joined):
            continue
        if a_k[joined] == k[inner] * a_k[inner] and b_k[joined] == k[inner] * b_k[inner]:
            k[inner], k[joined] = k[inner] * k[joined], 1
            if blocked == joined:
                blocked, block = inner, k[inner]
            elif blocked == inner:
                block = k[inner]

    packed_bytes = 0
    if boxes.pack:
        packed_bytes = round_up(cols, panel) * prod(block if i == blocked else n for i, n in enumerate(k)) * size
    spare = 0 if masked(isa) else 4 * panel * tallest * size
    stage_at = round_up(slot.LOOPS_BYTES + spare + packed_bytes, 64)
    inner_n, inner_a, inner_b, inner_c = c.batch[-1] if c.batch else (1, 0, 0, 0)
    _, outer_a, outer_b, outer_c = c.batch[-2] if len(c.batch) > 1 else (1, 0, 0, 0)
    grid = (ceildiv(c.cols, cols), ceildiv(c.rows, rows), ceildiv(c.segments, segments))
    grid += (ceildiv(c.outer, outer), ceildiv(c.batches, batch))
    per_chunk = ceildiv(blocks, boxes.chunks)
    assert ceildiv(blocks, per_chunk) == boxes.chunks, "every chunk has blocks to sum"
    offset = 0 if boxes.stage else sum(o * s for o, s in zip(w.origin, w.strides, strict=True)) * size
    args: list[Arg] = [0] * slot.SLOTS
    function, function_args = epilogue_args(c.epilogue if boxes.chunks == 1 else None)

    def put(first: int, *values: Arg) -> None:
        args[first : first + len(values)] = values

    def put_strides(first: int, *elements: int) -> None:
        put(first, *(step * size for step in elements))

    put(slot.A, c.a + offset, c.b, c.c, function, function_args, int(c.depth == 0))
    put(slot.GRID_COL, *grid)
    put(slot.TILE_COL, cols, rows, segments, outer, batch, per_chunk)
    put(slot.COLS, c.cols, c.rows, c.segments, c.outer, c.batches, blocks)
    put(slot.BATCH_INNER, inner_n)
    put_strides(slot.A_BATCH, outer_a, inner_a, outer_b, inner_b, outer_c, inner_c)
    put_strides(slot.C_SEGMENT, c.c_segment, c.c_outer, boxes.chunk_stride)
    put_strides(slot.A_OUTER, c.a_outer, c.a_q, stride(w.segment), c.b_q, c.b_col)
    put(slot.PACK, int(boxes.pack), blocked, block, blocks_per_q)
    put(slot.STAGE, int(boxes.stage), stage_at, *w.sizes)
    put_strides(slot.H_STRIDE, *w.strides, *strides[:2], stride(w.row) if w.flat_rows else 0)
    for d in range(3):
        row = 0 if w.flat_rows else w.row[d]
        put(slot.WINDOW + 5 * d, w.origin[d], w.segment[d], row, block_step[d], extents[d])
    rows_of_batch = 0 if c.epilogue_batch_col else c.outer * c.segments * c.rows
    put(slot.EPILOGUE_OUTER, c.segments * c.rows, c.rows, rows_of_batch, c.epilogue_batch_col)
    put_strides(slot.A_ROW, stride(w.row), c.b_panel or panel * c.b_col, c.c_row)
    for i, first in enumerate((slot.K0, slot.K1, slot.K2)):
        put(first, k[i], a_k[i] * size, b_k[i] * size)
    scratch = stage_at + staged_bytes
    return Row(contract_kernel(c.dtype, isa), tuple(args), prod(grid) * boxes.chunks, round_up(scratch, 64))


def combine_row(
    dtype: str, partial: Scratch, c: Address, chunks: int, rows: int, cols: int, epilogue: Epilogue | None
) -> Row:
    """C[rows, cols], dense, = the sum of `chunks` dense partial sums, then the epilogue."""
    tile = max(1, min(rows, ceildiv(16384, cols)))
    args = (Address(partial), c, *epilogue_args(epilogue), chunks, rows * cols, rows, cols, tile)
    return Row(Kernel.of("graphnn.runtime.kernels.matrices:combine", dtype=dtype), args, ceildiv(rows, tile))


def transpose_row(
    dtype: str, isa: InstructionSet, source: Address, c: Address, rows: int, cols: int, c_row: int, epilogue: Epilogue | None
) -> Row:
    """C[rows, cols] = the transpose of a dense source, then the epilogue."""
    tile = max(1, min(rows, ceildiv(16384, cols)))
    args = (source, c, *epilogue_args(epilogue), rows, cols, c_row, tile)
    kernel = Kernel.of("graphnn.runtime.kernels.matrices:transpose", dtype=dtype, lanes=isa.lanes(dtype))
    return Row(kernel, args, ceildiv(rows, tile))


def epilogue_row(epilogue: Epilogue, rows: int, cols: int) -> Row:
    """Run an epilogue over a finished result of rows x cols."""
    tile = max(1, min(rows, ceildiv(16384, max(1, cols))))
    args = (*epilogue_args(epilogue), rows, cols, tile)
    return Row(Kernel.of("graphnn.runtime.kernels.matrices:apply_epilogue"), args, ceildiv(rows, tile))
