"""Convolution of many small images: the rows of a register tile are images, and taps that fall beside the image are left out.

    C[image, s, r, co] = sum of A[image, h, w, ci] * W[k0, k1, ci, co] over ci and the taps (k0, k1) that meet the image

Lines of a small image are short rows for a tile, and many of their taps are multiplications by padding. A tile owns some lines
of the result of some images. For each block of channels it packs W, lays what its lines see of the images out as
[h, w, image, channel] in its thread's scratch, and goes through the pixels of the result one by one.
"""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from typing import Any

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels.register_tiles import row_cost
from graphnn.runtime.kernels.tiling import ITEMSIZE, Contraction, ceildiv, epilogue_args, masked, round_up
from graphnn.runtime.row import Kernel, Row

(
    A, W, C, EPILOGUE, EPILOGUE_ARGS, GRID_COL, GRID_BAND, GRID_IMAGE, TILE_COL, BAND, IMAGES,
    COLS, SEGMENTS, ROWS, OUTER, CHANNELS, BLOCK, K0, K1, STEP_H, STEP_W, TAP_H, TAP_W, ORIGIN_H, ORIGIN_W, SIZE_H, SIZE_W,
    A_LINE, A_PIXEL, A_OUTER, A_GROUP, W_K0, W_K1, W_CHANNEL, W_COL, W_GROUP, C_ROW, C_SEGMENT, C_OUTER, C_GROUP,
    STAGED, STAGE_AT, EPILOGUE_GROUP,
    SLOTS,
) = range(44)  # fmt: skip

LOOPS_BYTES = 128
_TILE_FLOPS = 2_000_000
_TILES = 64
# What a tile packs and lays out together fits a usual second-level cache; a panel of W, read again for every pixel, should
# not be much larger than the first-level one.
_PACKED_BYTES = 256 << 10
_PANEL_BYTES = 80 << 10
_STAGED_BYTES = 256 << 10
# The least channels that make the innermost loop worth starting.
_CHANNELS = 16
# What copying the images costs, as a part of the whole.
_COPY = 1.04


def suits(c: Contraction, isa: InstructionSet) -> bool:
    """Whether this way is better, as far as rows of register tiles and taps that are left out tell."""
    w, (tallest, _) = c.window, isa.tile(c.dtype)
    straight = (w.row[0], w.row[2], w.segment[1], w.segment[2]) == (0, 0, 0, 0) and c.q == 1 and len(c.batch) <= 1
    if not straight or c.k[0] * c.k[1] == 1 or c.k[2] < _CHANNELS or c.cols < isa.lanes(c.dtype) or _lines(c, isa) < c.k[0]:
        return False
    images = _images(c, tallest)
    met = [_taps_met(c.rows if d else c.segments, (w.row if d else w.segment)[d], c.k[d], w.k[d][d], w.origin[d], w.sizes[d])
           for d in (0, 1)]
    part = met[0] * met[1] / (c.segments * c.rows * c.k[0] * c.k[1])
    return _COPY * part * row_cost(images, tallest) / images < row_cost(c.rows, tallest) / c.rows


def _taps_met(places: int, step: int, taps: int, tap: int, origin: int, size: int) -> int:
    """How many (place, tap) along an axis meet the image."""
    return sum(0 <= origin + p * step + t * tap < size for p in range(places) for t in range(taps))


def _images(c: Contraction, tallest: int) -> int:
    """The images of a tile: about two register tiles of rows, all tiles alike."""
    return ceildiv(c.outer, ceildiv(c.outer, 2 * tallest))


def _block(c: Contraction, isa: InstructionSet) -> int:
    """The channels of a block, whose weights are packed together."""
    most = max(_CHANNELS, _PANEL_BYTES // (c.k[0] * c.k[1] * isa.tile(c.dtype)[1] * ITEMSIZE[c.dtype]))
    return min(c.k[2], round_up(ceildiv(c.k[2], ceildiv(c.k[2], most)), _CHANNELS))


def _staged(c: Contraction, isa: InstructionSet) -> int:
    """Bytes from image to image at a pixel: an odd number of cache lines, so that images do not share sets of the cache."""
    return (ceildiv(_block(c, isa) * ITEMSIZE[c.dtype], 64) | 1) * 64


def _lines(c: Contraction, isa: InstructionSet) -> int:
    """The most lines of the images that a tile lays out."""
    return _STAGED_BYTES // (max(1, c.window.sizes[1]) * _images(c, isa.tile(c.dtype)[0]) * _staged(c, isa))


def many_images_row(c: Contraction, isa: InstructionSet) -> Row:
    """The row that computes `c`, which `suits`."""
    size, w, (tallest, panel) = ITEMSIZE[c.dtype], c.window, isa.tile(c.dtype)
    groups, a_group, w_group, c_group = c.batch[0] if c.batch else (1, 0, 0, 0)
    images, block, staged = _images(c, tallest), _block(c, isa), _staged(c, isa)
    panels, panel_bytes = ceildiv(c.cols, panel), c.k[0] * c.k[1] * block * panel * size
    cols = panel * ceildiv(panels, ceildiv(panels, max(1, _PACKED_BYTES // panel_bytes)))
    tiles = groups * ceildiv(c.outer, images) * ceildiv(c.cols, cols)
    around = (c.k[0] - 1) * w.k[0][0] + 1
    most = max(1, (_lines(c, isa) - around) // w.segment[0] + 1)
    bands = max(ceildiv(c.segments, most), min(c.segments, min(_TILES, c.flops // _TILE_FLOPS) // tiles))
    band = ceildiv(c.segments, bands)
    stage_at = round_up(LOOPS_BYTES + _spare(isa, c.dtype) + ceildiv(min(cols, round_up(c.cols, panel)), panel) * panel_bytes, 64)
    grid = (ceildiv(c.cols, cols), ceildiv(c.segments, band), ceildiv(c.outer, images))
    args: Any = (
        c.a, c.b, c.c, *epilogue_args(c.epilogue), *grid, cols, band, images,
        c.cols, c.segments, c.rows, c.outer, c.k[2], block, c.k[0], c.k[1], w.segment[0], w.row[1], w.k[0][0], w.k[1][1],
        w.origin[0], w.origin[1], *w.sizes, w.strides[0] * size, w.strides[1] * size, c.a_outer * size, a_group * size,
        *(step * size for step in c.b_k), c.b_col * size, w_group * size,
        c.c_row * size, c.c_segment * size, c.c_outer * size, c_group * size, staged, stage_at, c.epilogue_batch_col,
    )  # fmt: skip
    assert len(args) == SLOTS, "every slot has its argument"
    kernel = Kernel.of(
        "graphnn.runtime.kernels.many_images:many_images",
        dtype=c.dtype, lanes=isa.lanes(c.dtype), tallest=tallest, registers=isa.registers, masked=masked(isa),
    )  # fmt: skip
    lines = min(w.sizes[0], around + (band - 1) * w.segment[0])
    scratch = stage_at + lines * w.sizes[1] * images * staged
    return Row(kernel, args, groups * grid[0] * grid[1] * grid[2], round_up(scratch, 64))


def _spare(isa: InstructionSet, dtype: str) -> int:
    tallest, panel = isa.tile(dtype)
    return 0 if masked(isa) else 4 * panel * tallest * ITEMSIZE[dtype]


def many_images(dtype: str, lanes: int, tallest: int, registers: int, masked: bool):
    """Some lines of the result of some images, in a box of channels. Tiles write disjoint results."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import TileSet
    from graphnn.runtime.kernels.register_tiles import heights, register_tiles, spare_nbytes

    tiles = TileSet(dtype, lanes, heights(tallest), registers, masked)
    pack_panel, rows_of_tiles = register_tiles(tiles, tallest)
    vectors, panel = tiles.panel, tiles.panel * lanes
    size = k.ITEMSIZE[dtype]
    panel_bytes, spare_bytes = panel * size, spare_nbytes(tiles, tallest)

    @k.inline
    def first_tap(at, step):
        """The first tap that does not fall before the image, where tap 0 falls on `at`."""
        return 0 if at >= 0 else k.udiv(step - 1 - at, step)

    @k.inline
    def end_tap(at, step, extent, taps):
        """One past the last tap that does not fall behind the image."""
        return 0 if at >= extent else k.imin(taps, k.udiv(extent - 1 - at, step) + 1)

    @k.inline
    def stage(args, to, source, images, low, high, channels):
        """to[line, w, image, channel] for the lines from `low` to `high`."""
        for h in range(low, high):
            for w in range(args[SIZE_W]):
                at = source + h * args[A_LINE] + w * args[A_PIXEL]
                for i in range(images):
                    k.memcpy(to + i * args[STAGED], at + i * args[A_OUTER], channels * size)
                to += args[IMAGES] * args[STAGED]

    @k.inline
    def pixel(args, loops, h0, w0, low, staged, weights, c, images, cols, width, channels, accumulate, spare):
        """One pixel of the result of all images; its tap (0, 0) falls on (h0, w0), and `staged` begins with line `low`."""
        i0, i1 = first_tap(h0, args[TAP_H]), end_tap(h0, args[TAP_H], args[SIZE_H], args[K0])
        j0, j1 = first_tap(w0, args[TAP_W]), end_tap(w0, args[TAP_W], args[SIZE_W], args[K1])
        if i1 > i0 and j1 > j0:
            loops[3], loops[6] = i1 - i0, j1 - j0
            place = (h0 + i0 * args[TAP_H] - low) * args[SIZE_W] + w0 + j0 * args[TAP_W]
            a = staged + place * args[IMAGES] * args[STAGED]
            rows_of_tiles(images, width, a, weights + (i0 * args[K1] + j0) * channels * panel_bytes, c, cols, accumulate, loops,
                          spare)  # fmt: skip
        elif accumulate == 0:
            for i in range(images):
                k.memset0(c + i * args[C_OUTER], cols * size)

    def kernel(args, index, scratch):
        rest, col = k.udiv32(index, args[GRID_COL]), k.urem32(index, args[GRID_COL]) * args[TILE_COL]
        rest, segment = k.udiv32(rest, args[GRID_BAND]), k.urem32(rest, args[GRID_BAND]) * args[BAND]
        group, image = k.udiv32(rest, args[GRID_IMAGE]), k.urem32(rest, args[GRID_IMAGE]) * args[IMAGES]
        cols, segments = k.imin(args[COLS] - col, args[TILE_COL]), k.imin(args[SEGMENTS] - segment, args[BAND])
        images = k.imin(args[OUTER] - image, args[IMAGES])
        a = args[A] + image * args[A_OUTER] + group * args[A_GROUP]
        weights = args[W] + group * args[W_GROUP] + col * args[W_COL]
        c = args[C] + image * args[C_OUTER] + group * args[C_GROUP] + segment * args[C_SEGMENT] + col * size
        h_first = args[ORIGIN_H] + segment * args[STEP_H]
        h_last = h_first + (segments - 1) * args[STEP_H] + (args[K0] - 1) * args[TAP_H]
        low = k.imax(0, h_first)
        high = k.imax(low, k.imin(args[SIZE_H], h_last + 1))
        loops = k.slots(scratch)
        spare = scratch + LOOPS_BYTES
        panels, staged = spare + spare_bytes, scratch + args[STAGE_AT]
        first = 0
        while first < args[CHANNELS]:
            channels = k.imin(args[CHANNELS] - first, args[BLOCK])
            stage(args, staged, a + first * size, images, low, high, channels)
            loops[3], loops[5] = args[K0], args[W_K0]
            loops[6], loops[8] = args[K1], args[W_K1]
            loops[9], loops[11] = channels, args[W_CHANNEL]
            packed = args[K0] * args[K1] * channels * panel_bytes
            for j in range(0, cols, panel):
                source = weights + first * args[W_CHANNEL] + j * args[W_COL]
                pack_panel(loops, panels + k.udiv(j, panel) * packed, source, args[W_COL], k.imin(cols - j, panel))
            loops[0], loops[1], loops[2] = args[STAGED], packed, args[C_OUTER]
            loops[4] = args[TAP_H] * args[SIZE_W] * args[IMAGES] * args[STAGED]
            loops[5] = args[K1] * channels * panel_bytes
            loops[7], loops[8] = args[TAP_W] * args[IMAGES] * args[STAGED], channels * panel_bytes
            loops[10], loops[11] = size, panel_bytes
            for j in range(0, cols, panel):
                valid = k.imin(cols - j, panel)
                width = vectors // 2 if valid <= lanes else vectors
                for s in range(segments):
                    for r in range(args[ROWS]):
                        w0 = args[ORIGIN_W] + r * args[STEP_W]
                        to = c + s * args[C_SEGMENT] + r * args[C_ROW] + j * size
                        pixel(args, loops, h_first + s * args[STEP_H], w0, low, staged, panels + k.udiv(j, panel) * packed, to,
                              images, valid, width, channels, first, spare)  # fmt: skip
            first += args[BLOCK]
        code = 0
        if args[EPILOGUE]:
            for i in range(images):
                at = ((image + i) * args[SEGMENTS] + segment) * args[ROWS]
                code |= k.call_epilogue(args[EPILOGUE], args[EPILOGUE_ARGS], 0, at, segments * args[ROWS],
                                        col + group * args[EPILOGUE_GROUP], cols)  # fmt: skip
        return code

    return kernel
