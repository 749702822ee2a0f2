"""What kernels around the microkernel share: packing of B, and the split of any number of rows into register tiles."""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphnn.runtime.contraction import TileSet


def heights(tallest: int) -> tuple[int, ...]:
    """The heights for which register tiles are emitted: enough to split any number of rows well, few to compile."""
    return tuple(h for h in range(1, tallest + 1) if h <= 8 or h in (10, tallest))


@cache
def _costs(tallest: int) -> tuple[tuple[float, int], ...]:
    """For each number of rows below 2 * tallest what it costs, and the height of its first register tile, negative."""
    # A tile of up to 4 rows takes the latency of a multiply-add a step; one more tile costs about half a step in all.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for rows in range(1, 2 * tallest):
        best.append(min((max(h, 4) + 0.5 + best[rows - h][0], -h) for h in heights(tallest) if h <= rows))
    return tuple(best)


def row_cost(rows: int, tallest: int) -> float:
    """What rows of register tiles cost, in rows of the tallest tile."""
    whole = max(0, rows // tallest - 1)
    return whole * (tallest + 0.5) + _costs(tallest)[rows - whole * tallest][0]


def row_splits(tallest: int) -> tuple[int, int]:
    """The height of the first register tile for each number of rows below 2 * tallest: 4 bits each, 15 to a word."""
    words = [0, 0]
    for rows, (_, height) in enumerate(_costs(tallest)):
        words[rows // 15] |= -height << 4 * (rows % 15)
    return words[0], words[1]


def spare_nbytes(tiles: TileSet, tallest: int) -> int:
    """The memory in which a tile with a partial panel is computed where vectors have no masks."""
    from graphnn.runtime.contraction import BYTES

    return 0 if tiles.masked else 4 * tiles.panel * tiles.lanes * tallest * BYTES[tiles.dtype]


def register_tiles(tiles: TileSet, tallest: int) -> tuple[Any, Any]:
    """Two functions for kernels, `pack_panel(loops, to, source, col, cols)` and `rows_of_tiles(rows, width, a, b, c, cols,
    accumulate, loops, spare)`. `loops` is the block of numbers that a register tile reads (LOOP_SLOTS of contraction.py)."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import tile_call
    from graphnn.runtime.square_transpose import transpose_call

    dtype, lanes, masked = tiles.dtype, tiles.lanes, tiles.masked
    tile, transpose = tile_call(tiles), transpose_call(dtype, lanes)
    panel = tiles.panel * lanes
    size, pointer, zero = k.ITEMSIZE[dtype], k.POINTER[dtype], k.SCALAR[dtype](0)
    split_low, split_high = row_splits(tallest)
    panel_bytes = panel * size

    @k.inline
    def pack_panel(loops, to, source, col, cols):
        """Copy one panel of B, `cols` columns `col` bytes apart, to [k0, k1, k2, panel], zero beyond `cols`."""
        n2, step2 = loops[9], loops[11]
        for r0 in range(loops[3]):
            for r1 in range(loops[6]):
                at = source + r0 * loops[5] + r1 * loops[8]
                done = 0
                if col == size and cols == panel:
                    for r2 in range(n2):
                        k.memcpy(to + r2 * panel_bytes, at + r2 * step2, panel_bytes)
                    done = n2
                elif col == size:
                    for r2 in range(n2):
                        k.memcpy(to + r2 * panel_bytes, at + r2 * step2, cols * size)
                        k.memset0(to + r2 * panel_bytes + cols * size, (panel - cols) * size)
                    done = n2
                elif step2 == size:
                    whole = cols - k.urem(cols, lanes)
                    done = n2 - k.urem(n2, lanes)
                    for r2 in range(0, done, lanes):
                        for j in range(0, whole, lanes):
                            transpose(to + r2 * panel_bytes + j * size, panel_bytes, at + j * col + r2 * size, col)
                    if whole < panel:
                        x = pointer(to)
                        for j in range(whole, panel):
                            y = pointer(at + j * col)
                            for r2 in range(done):
                                x[r2 * panel + j] = y[r2] if j < cols else zero
                for r2 in range(done, n2):
                    x = pointer(to + r2 * panel_bytes)
                    for j in range(cols):
                        x[j] = pointer(at + r2 * step2 + j * col)[0]
                    for j in range(cols, panel):
                        x[j] = zero
                to += n2 * panel_bytes

    @k.inline
    def edge_tile(height, width, a, b, c, cols, accumulate, loops, spare):
        """A tile with a partial last panel, where vectors cannot be masked: computed aside, then copied."""
        stride = loops[2]
        loops[2] = 4 * panel_bytes
        tile(height, width, a, b, spare, panel, 0, k.address_of(loops, 0))
        loops[2] = stride
        for i in range(height):
            p, q = pointer(c + i * stride), pointer(spare + i * (4 * panel_bytes))
            for j in range(cols):
                p[j] = (p[j] if accumulate else zero) + q[j]

    @k.inline
    def rows_of_tiles(rows, width, a, b, c, cols, accumulate, loops, spare):
        """C[rows, cols] (+)= A * B for columns that one tile of `width` vectors holds."""
        last = cols - (width * lanes - panel)
        i = 0
        while i < rows:
            height = rows - i
            if height >= 2 * tallest:
                height = tallest
            elif height < 15:
                height = k.lshr(split_low, height * 4) & 15
            else:
                height = k.lshr(split_high, (height - 15) * 4) & 15
            if masked or last == panel:
                tile(height, width, a, b, c, last, accumulate, k.address_of(loops, 0))
            else:
                edge_tile(height, width, a, b, c, cols, accumulate, loops, spare)
            i += height
            a += height * loops[0]
            c += height * loops[2]

    return pack_panel, rows_of_tiles


def columns_of_tiles(tiles: TileSet) -> Any:
    """A function for kernels, `columns(height, a, b, c, cols, accumulate, loops)`: C[height, cols] (+)= A * B for a height that a
    tile has. B is read and C written in whole vectors, up to two beyond `cols`: both lie in scratch. Sets loops[1]."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import tile_call

    tile = tile_call(tiles)
    lanes, vectors, panel = tiles.lanes, tiles.panel, tiles.panel * tiles.lanes
    wide2, wide4 = (max((h for h in tiles.heights if w * vectors in tiles.widths(h)), default=0) for w in (2, 4))
    size = k.ITEMSIZE[tiles.dtype]

    @k.inline
    def columns(height, a, b, c, cols, accumulate, loops):
        loops[1] = panel * size                             # columns run on from panel to panel
        done = 0
        while done < cols:
            left, width = cols - done, vectors
            if left <= lanes:
                width = vectors // 2
            elif height <= wide4 and left > 3 * panel:
                width = 4 * vectors
            elif height <= wide2 and left > panel:
                width = 2 * vectors
            at = done * size
            tile(height, width, a, b + at, c + at, panel, accumulate, k.address_of(loops, 0))
            done += width * lanes

    return columns
