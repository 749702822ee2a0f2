"""The weight gradient of a convolution to few channels: vectors run along the taps of a line and the channels of x.

    dW[k0, (k1, ci), co] = sum over (image, oh, ow) of dy[image, oh, ow, co] * x[image, line(oh, k0), column(ow) + (k1, ci)]

In memory (k1, ci) runs on through neighbouring pixels of x (without dilation; with it, ci alone). A tile sums over a chunk of
blocks, each some lines of dy of one image; it lays out the lines of x that a block sees with zeros beside them, and leaves
out those above or below the image. Another row adds the chunks.
"""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels.tiling import ITEMSIZE, ceildiv, round_up
from graphnn.runtime.row import Address, Kernel, Row

if TYPE_CHECKING:
    from graphnn.runtime.kernels.convolution import Convolution

(
    X, DY, PARTIAL, BLOCKS, CHUNK, BANDS, BAND, OH, OW, COUT, KH, RUNS, RUN, CHANNELS, H, W,
    STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, TOP, LEFT, WIDTH, RESULT_ROW, RESULT_RUN, STAGE_AT,
    SLOTS,
) = range(27)  # fmt: skip

LOOPS_BYTES = 128
_WIDEST = 8
"""Vectors of the widest register tile."""
# Half of a usual second-level cache.
_STAGED_BYTES = 256 << 10
_TILE_FLOPS = 2_000_000
CHUNKS = 16
"""The most partial sums."""


def _run(v: Convolution) -> int:
    """Elements that lie side by side in x and in the weights."""
    return v.cin * (v.kw if v.dilation[1] == 1 else 1)


def suits(v: Convolution, dtype: str, isa: InstructionSet) -> bool:
    """Whether this way is better: vectors along the channels of y would be emptier."""
    if v.groups != 1 or 0 in (v.n, v.oh, v.ow):
        return False
    lanes, run = isa.lanes(dtype), _run(v)
    return v.cout <= lanes // 2 and 2 * v.cout * ceildiv(run, lanes) <= run


def few_channels_grad_row(dtype: str, isa: InstructionSet, v: Convolution, x: Address, dy: Address, partial: Address) -> Row:
    """The row that writes, for each of its tiles, partial sums [kh, kw, in channel, out channel]."""
    size, run = ITEMSIZE[dtype], _run(v)
    runs = v.kw * v.cin // run
    width = (v.ow - 1) * v.stride[1] + (v.kw - 1) * v.dilation[1] + 1
    lines = _STAGED_BYTES // (width * v.cin * size)
    around = (v.kh - 1) * v.dilation[0] + 1
    band = ceildiv(v.oh, ceildiv(v.oh, max(1, (lines - around) // v.stride[0] + 1)))
    bands = ceildiv(v.oh, band)
    blocks = v.n * bands
    work = 2 * v.n * v.oh * v.ow * v.cout * v.kh * v.kw * v.cin
    chunk = ceildiv(blocks, max(1, min(CHUNKS, blocks, work // _TILE_FLOPS)))
    slack = _WIDEST * isa.lanes(dtype)
    result_run = round_up(run + slack, slack) * size
    result_row = v.kh * runs * result_run
    stage_at = LOOPS_BYTES + v.cout * result_row
    args = (
        x, dy, partial, blocks, chunk, bands, band, v.oh, v.ow, v.cout, v.kh, runs, run, v.cin, v.h, v.w,
        *v.stride, *v.dilation, v.padding[0], v.padding[2], width, result_row, result_run, stage_at,
    )  # fmt: skip
    assert len(args) == SLOTS, "every slot has its argument"
    kernel = Kernel.of(
        "graphnn.runtime.kernels.few_channels_grad:few_channels_grad",
        dtype=dtype, lanes=isa.lanes(dtype), registers=isa.registers,
    )  # fmt: skip
    scratch = stage_at + (((band - 1) * v.stride[0] + around) * width * v.cin + slack) * size
    return Row(kernel, args, ceildiv(blocks, chunk), round_up(scratch, 64))


def few_channels_grad(dtype: str, lanes: int, registers: int):
    """Partial sums over one chunk of blocks."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import TileSet
    from graphnn.runtime.kernels.register_tiles import columns_of_tiles

    tiles = TileSet(dtype, lanes, tuple(range(1, lanes // 2 + 1)), registers, False)
    columns = columns_of_tiles(tiles)
    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]

    @k.inline
    def stage(args, to, image, low, high):
        """Lines `low` to `high` of an image with what lies beside them, as zeros."""
        pixel = args[CHANNELS] * size
        first = k.imin(args[LEFT], args[WIDTH])
        last = k.imax(first, k.imin(args[WIDTH], args[LEFT] + args[W]))
        for h in range(low, high):
            k.memset0(to, first * pixel)
            k.memcpy(to + first * pixel, image + h * args[W] * pixel, (last - first) * pixel)
            k.memset0(to + last * pixel, (args[WIDTH] - last) * pixel)
            to += args[WIDTH] * pixel

    @k.inline
    def add_block(args, loops, block, result, staged):
        n, first = k.udiv(block, args[BANDS]), k.urem(block, args[BANDS]) * args[BAND]
        end = k.imin(args[OH], first + args[BAND])
        pixel, stride = args[CHANNELS] * size, args[STRIDE_H]
        low = k.imax(0, first * stride - args[TOP])
        high = k.imax(low, k.imin(args[H], (end - 1) * stride - args[TOP] + (args[KH] - 1) * args[DILATION_H] + 1))
        stage(args, staged, args[X] + n * args[H] * args[W] * pixel, low, high)
        for kh in range(args[KH]):
            # Lines of y from o0 to o1 have line `shift` + oh * stride of x within the image.
            shift = kh * args[DILATION_H] - args[TOP]
            o0, o1 = first, 0
            if shift < 0:
                o0 = k.imax(first, k.udiv(stride - 1 - shift, stride))
            if shift < args[H]:
                o1 = k.imin(end, k.udiv(args[H] - 1 - shift, stride) + 1)
            if o1 > o0:
                loops[6] = o1 - o0
                dy = args[DY] + (n * args[OH] + o0) * args[OW] * args[COUT] * size
                line = staged + (o0 * stride + shift - low) * args[WIDTH] * pixel
                for j in range(args[RUNS]):
                    to = result + (kh * args[RUNS] + j) * args[RESULT_RUN]
                    columns(args[COUT], dy, line + j * args[DILATION_W] * pixel, to, args[RUN], 1, loops)

    def kernel(args, index, scratch):
        loops, result, staged = k.slots(scratch), scratch + LOOPS_BYTES, scratch + args[STAGE_AT]
        pixel = args[CHANNELS] * size
        loops[0], loops[2] = size, args[RESULT_ROW]
        loops[3], loops[4], loops[5] = 1, 0, 0
        loops[7], loops[8] = args[OW] * args[COUT] * size, args[STRIDE_H] * args[WIDTH] * pixel
        loops[9], loops[10], loops[11] = args[OW], args[COUT] * size, args[STRIDE_W] * pixel
        k.memset0(result, args[COUT] * args[RESULT_ROW])
        for block in range(index * args[CHUNK], k.imin(args[BLOCKS], (index + 1) * args[CHUNK])):
            add_block(args, loops, block, result, staged)
        runs = args[KH] * args[RUNS]
        to = args[PARTIAL] + index * runs * args[RUN] * args[COUT] * size
        for c in range(args[COUT]):
            for t in range(runs):
                x, y = pointer(result + c * args[RESULT_ROW] + t * args[RESULT_RUN]), to + (t * args[RUN] * args[COUT] + c) * size
                for e in range(args[RUN]):
                    pointer(y + e * args[COUT] * size)[0] = x[e]
        return 0

    return kernel
