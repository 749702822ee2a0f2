"""Convolution to few channels: vectors run along the pixels, as channels would leave most lanes of one empty.

    C[co, place] = sum over (ci, k0, k1) of W[k0, k1, ci, co] * plane[ci, place + shift(k0, k1)]

A tile owns some lines of one image's result. It lays the channels of the image that these lines see out as planes in its
thread's scratch, zero around the image; in a plane lines follow one another with one pitch, so that a shift by a tap is a
number and a tile's lines are one long row of places. Places at the end of a line, where windows wrap into the next one, are
computed and not copied to the result.
"""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from typing import Any

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels.tiling import ITEMSIZE, Contraction, ceildiv, epilogue_args, round_up
from graphnn.runtime.row import Kernel, Row

(
    A, W, C, EPILOGUE, EPILOGUE_ARGS, BANDS, OUTER, BAND, SEGMENTS, ROWS, COLS, CHANNELS, BLOCK,
    K0, K1, STEP_H, STEP_W, ORIGIN_H, ORIGIN_W, SIZE_H, SIZE_W, A_LINE, A_PIXEL, A_OUTER, A_GROUP,
    W_K0, W_K1, W_CHANNEL, W_COL, W_GROUP, C_ROW, C_SEGMENT, C_OUTER, C_GROUP, PITCH, PLANE, RESULT, RESULT_ROW, EPILOGUE_GROUP,
    SLOTS,
) = range(40)  # fmt: skip

LOOPS_BYTES = 128
_WIDEST = 8
"""Vectors of the widest register tile."""
# What a tile lays out: half of a usual first-level cache and more would be read from the second for every tap.
_PLANES_BYTES = 64 << 10
_TILE_FLOPS = 2_000_000
_TILES = 64


def suits(c: Contraction, isa: InstructionSet) -> bool:
    """Whether this way is better: few channels for a vector, also with what is computed between the lines, and taps to pay
    for the planes."""
    w = c.window
    strides_of_one = (w.segment, w.row) == ((1, 0, 0), (0, 1, 0)) and c.q == 1 and len(c.batch) <= 1
    return strides_of_one and c.k[0] * c.k[1] > 1 and 2 * c.cols * _pitch(c) <= isa.lanes(c.dtype) * c.rows


def _pitch(c: Contraction) -> int:
    return c.rows + (c.k[1] - 1) * c.window.k[1][1]


def few_channels_row(c: Contraction, isa: InstructionSet) -> Row:
    """The row that computes `c`, which `suits`."""
    size, lanes, w = ITEMSIZE[c.dtype], isa.lanes(c.dtype), c.window
    groups, a_group, w_group, c_group = c.batch[0] if c.batch else (1, 0, 0, 0)
    pitch, around = _pitch(c), (c.k[0] - 1) * w.k[0][0]
    want = max(1, min(_TILES, c.flops // _TILE_FLOPS) // groups // c.outer)
    block = min(c.k[2], lanes)                          # channels that are laid out together
    most = _PLANES_BYTES // (block * pitch * size) - around
    band = ceildiv(c.segments, max(want, ceildiv(c.segments, max(1, most))))
    places = (band - 1) * pitch + c.rows + _WIDEST * lanes
    plane = _odd_lines((band + around) * pitch * size)
    slack = _WIDEST * lanes * size
    result_at = round_up(LOOPS_BYTES + block * plane + slack, 64)
    result_row = _odd_lines(places * size)
    bands = ceildiv(c.segments, band)
    args: Any = (
        c.a, c.b, c.c, *epilogue_args(c.epilogue), bands, c.outer, band, c.segments, c.rows, c.cols, c.k[2], block,
        c.k[0], c.k[1], w.k[0][0], w.k[1][1], w.origin[0], w.origin[1], *w.sizes,
        w.strides[0] * size, w.strides[1] * size, c.a_outer * size, a_group * size,
        c.b_k[0] * size, c.b_k[1] * size, c.b_k[2] * size, c.b_col * size, w_group * size,
        c.c_row * size, c.c_segment * size, c.c_outer * size, c_group * size, pitch, plane, result_at, result_row,
        c.epilogue_batch_col,
    )  # fmt: skip
    assert len(args) == SLOTS, "every slot has its argument"
    kernel = Kernel.of(
        "graphnn.runtime.kernels.few_channels:few_channels", dtype=c.dtype, lanes=lanes, registers=isa.registers
    )
    return Row(kernel, args, groups * c.outer * bands, round_up(result_at + c.cols * result_row, 64))


def _odd_lines(nbytes: int) -> int:
    """At least so many bytes, an odd number of cache lines: rows that far apart share no set of the cache."""
    return (ceildiv(nbytes, 64) | 1) * 64


def few_channels(dtype: str, lanes: int, registers: int):
    """Some lines of one image's result. Tiles write disjoint lines of disjoint channels."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import TileSet
    from graphnn.runtime.kernels.register_tiles import columns_of_tiles
    from graphnn.runtime.square_transpose import transpose_call

    tiles = TileSet(dtype, lanes, tuple(range(1, lanes // 2 + 1)), registers, False)
    columns, transpose = columns_of_tiles(tiles), transpose_call(dtype, lanes)
    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]

    @k.inline
    def lay_out(args, to, source, pixels, channels):
        """to[channel, pixel] = source[pixel, channel]."""
        step, plane = args[A_PIXEL], args[PLANE]
        squares = channels - k.urem(channels, lanes)
        done = pixels
        if pixels < lanes:
            squares, done = 0, 0
        for at in range(0, done, lanes):
            p = k.imin(at, pixels - lanes)                  # the last square goes back over pixels that are done
            for c in range(0, squares, lanes):
                transpose(to + c * plane + p * size, plane, source + p * step + c * size, step)
        for c in range(squares, channels):
            x = pointer(to + c * plane)
            for p in range(pixels):
                x[p] = pointer(source + p * step + c * size)[0]

    @k.inline
    def stage(args, to, source, segment, segments, channels):
        """The planes of what the lines from `segment` on see; `source` is the first channel of the image's first pixel."""
        lines, pitch = segments + (args[K0] - 1) * args[STEP_H], args[PITCH]
        w0 = args[ORIGIN_W]
        first = k.imin(k.imax(0, k.ineg(w0)), pitch)
        last = k.imax(k.imin(args[SIZE_W] - w0, pitch), first)
        for line in range(lines):
            h = args[ORIGIN_H] + segment + line
            at = to + line * pitch * size
            if h < 0 or h >= args[SIZE_H]:
                for c in range(channels):
                    k.memset0(at + c * args[PLANE], pitch * size)
            else:
                if first > 0 or last < pitch:
                    for c in range(channels):
                        k.memset0(at + c * args[PLANE], first * size)
                        k.memset0(at + c * args[PLANE] + last * size, (pitch - last) * size)
                pixels = source + h * args[A_LINE] + (w0 + first) * args[A_PIXEL]
                lay_out(args, at + first * size, pixels, last - first, channels)

    @k.inline
    def copy_lines(args, to, result, segments):
        for s in range(segments):
            for c in range(args[COLS]):
                x = pointer(result + c * args[RESULT_ROW] + s * args[PITCH] * size)
                y = to + s * args[C_SEGMENT] + c * size
                if args[C_ROW] == size:
                    k.memcpy(y, k.address_of(x, 0), args[ROWS] * size)
                else:
                    for r in range(args[ROWS]):
                        pointer(y + r * args[C_ROW])[0] = x[r]

    def kernel(args, index, scratch):
        rest, segment = k.udiv32(index, args[BANDS]), k.urem32(index, args[BANDS]) * args[BAND]
        group, outer = k.udiv32(rest, args[OUTER]), k.urem32(rest, args[OUTER])
        segments = k.imin(args[SEGMENTS] - segment, args[BAND])
        image = args[A] + outer * args[A_OUTER] + group * args[A_GROUP]
        weights = args[W] + group * args[W_GROUP]
        planes, result = scratch + LOOPS_BYTES, scratch + args[RESULT]
        places = (segments - 1) * args[PITCH] + args[ROWS]
        loops = k.slots(scratch)
        loops[0], loops[2] = args[W_COL], args[RESULT_ROW]
        loops[4], loops[5] = args[W_CHANNEL], args[PLANE]
        loops[6], loops[7], loops[8] = args[K0], args[W_K0], args[STEP_H] * args[PITCH] * size
        loops[9], loops[10], loops[11] = args[K1], args[W_K1], args[STEP_W] * size
        first = 0
        while first < args[CHANNELS]:
            channels = k.imin(args[CHANNELS] - first, args[BLOCK])
            loops[3] = channels
            stage(args, planes, image + first * size, segment, segments, channels)
            columns(args[COLS], weights + first * args[W_CHANNEL], planes, result, places, first, loops)
            first += args[BLOCK]
        copy_lines(args, args[C] + outer * args[C_OUTER] + group * args[C_GROUP] + segment * args[C_SEGMENT], result, segments)
        if args[EPILOGUE]:
            at = (outer * args[SEGMENTS] + segment) * args[ROWS]
            col = group * args[EPILOGUE_GROUP]
            return k.call_epilogue(args[EPILOGUE], args[EPILOGUE_ARGS], 0, at, segments * args[ROWS], col, args[COLS])
        return 0

    return kernel
