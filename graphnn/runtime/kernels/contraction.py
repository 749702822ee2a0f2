"""The kernel around the contraction microkernel: what one tile of a contraction does.

    C[batch, outer, segment, row, col] = sum over q, k0, k1, k2 of A[batch, outer, q, (segment, row, k0, k1, k2)] *
                                                                   B[batch, q, k0, k1, k2, col]

A tile computes a box of C, one block of the sum after the other. For each block it may first copy B into panels of
`panel` columns (packing) and the window of A that it needs into its private scratch (staging), which gives both dense
strides and puts zeros around an image. `tiling.py` chooses the boxes; here nothing is decided but the split of rows
into register tiles.

A is seen as a tensor [h, w, c] whose coordinates are sums of the loop counters times constants: that is a matrix, its
transpose, or an image under a sliding window.
"""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

# Argument slots of `contract`. Strides are in bytes; a `TILE_` is a size of the box, a `GRID_` a number of boxes. The slots
# from LOOPS on are what a register tile reads (LOOP_SLOTS of contraction.py). WINDOW has, for each of h, w and x: origin,
# step of a segment, of a row, of the blocked loop, and extent without these.
(
    A, B, C, EPILOGUE, EPILOGUE_ARGS, EMPTY,
    GRID_COL, GRID_ROW, GRID_SEGMENT, GRID_OUTER, GRID_BATCH,
    TILE_COL, TILE_ROW, TILE_SEGMENT, TILE_OUTER, TILE_BATCH, TILE_BLOCKS,
    COLS, ROWS, SEGMENTS, OUTER, BATCH, BLOCKS,
    BATCH_INNER, A_BATCH, A_BATCH_INNER, B_BATCH, B_BATCH_INNER, C_BATCH, C_BATCH_INNER,
    C_SEGMENT, C_OUTER, C_CHUNK, A_OUTER, A_Q, A_SEGMENT, B_Q, B_COL, PACK,
    BLOCKED, BLOCK, BLOCKS_PER_Q,
    STAGE, STAGE_AT, H_SIZE, W_SIZE, H_STRIDE, W_STRIDE, X_STRIDE, H_STAGED, W_STAGED, STAGED_ROW,
    EPILOGUE_OUTER, EPILOGUE_SEGMENT, EPILOGUE_BATCH, EPILOGUE_BATCH_COL,
    WINDOW,
) = range(57)  # fmt: skip
LOOPS = WINDOW + 15
A_ROW, B_PANEL, C_ROW, K0, A_K0, B_K0, K1, A_K1, B_K1, K2, A_K2, B_K2 = range(LOOPS, LOOPS + 12)
SLOTS = LOOPS + 12

LOOPS_BYTES = 192
"""What the loop block and the window take at the start of a thread's scratch; then room for an edge, packed B, staged A."""


def contract(dtype: str, lanes: int, tallest: int, registers: int, masked: bool):
    """One box of C. Its tiles write disjoint boxes of C, or of one chunk of partial sums."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import TileSet
    from graphnn.runtime.kernels.register_tiles import heights, register_tiles, spare_nbytes

    tiles = TileSet(dtype, lanes, heights(tallest), registers, masked)
    pack_panel, rows_of_tiles = register_tiles(tiles, tallest)
    vectors, panel = tiles.panel, tiles.panel * lanes
    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]
    wide2, wide4 = (max((h for h in tiles.heights if w * tiles.panel in tiles.widths(h)), default=0) for w in (2, 4))
    panel_bytes, spare_bytes = panel * size, spare_nbytes(tiles, tallest)

    @k.inline
    def stage(args, to, source, window):
        """Copy a window of A, (origin, extent) of h, w and x, to dense rows, zero outside of A."""
        w0, ws, xs = window[2], window[3], window[5] * size
        wide, step = args[W_STAGED], args[W_STRIDE]
        first = k.imin(k.imax(-w0, 0), ws)
        last = k.imax(k.imin(args[W_SIZE] - w0, ws), first)
        dense = step == xs and wide == xs and args[X_STRIDE] == size
        for h in range(window[1]):
            y = window[0] + h
            d = to + h * args[H_STAGED]
            s = source + y * args[H_STRIDE] + w0 * step + window[4] * args[X_STRIDE]
            if y < 0 or y >= args[H_SIZE]:
                k.memset0(d, wide * ws)
            elif dense:
                k.memset0(d, wide * first)
                k.memcpy(d + wide * first, s + wide * first, wide * (last - first))
                k.memset0(d + wide * last, wide * (ws - last))
            else:
                for w in range(ws):
                    if w < first or w >= last:
                        k.memset0(d + w * wide, xs)
                    elif args[X_STRIDE] == size:
                        k.memcpy(d + w * wide, s + w * step, xs)
                    else:
                        p = pointer(d + w * wide)
                        for x in range(window[5]):
                            p[x] = pointer(s + w * step + x * args[X_STRIDE])[0]

    @k.inline
    def multiply(args, loops, a, b, c, rows, cols, segments, accumulate, spare):
        """C[segments, rows, cols] (+)= the block of sums whose loops these are."""
        done = 0
        while done < cols:
            width = vectors
            if cols - done <= lanes:
                width = vectors // 2
            elif rows <= wide4 and cols - done > 3 * panel:
                width = 4 * vectors
            elif rows <= wide2 and cols - done > panel:
                width = 2 * vectors
            valid = k.imin(cols - done, width * lanes)
            b_at = b + k.udiv(done, panel) * loops[1]
            for s in range(segments):
                a_at = a + s * args[A_SEGMENT]
                c_at = c + s * args[C_SEGMENT] + done * size
                rows_of_tiles(rows, width, a_at, b_at, c_at, valid, accumulate, loops, spare)
            done += width * lanes

    @k.inline
    def finish(args, batch, at, segments, row, rows, col, cols):
        """Run the epilogue on a finished box, whose first segment is at row `at`: at once if its rows are consecutive."""
        function = args[EPILOGUE]
        if function == 0:
            return 0
        height = args[EPILOGUE_SEGMENT]
        at, col = at + batch * args[EPILOGUE_BATCH], col + batch * args[EPILOGUE_BATCH_COL]
        if rows == height:
            segments, height, rows = 1, 0, rows * segments
        code = 0
        for s in range(segments):
            code |= k.call_epilogue(function, args[EPILOGUE_ARGS], 0, at + row + s * height, rows, col, cols)
        return code

    def kernel(args, index, scratch):
        rest, col = k.udiv32(index, args[GRID_COL]), k.urem32(index, args[GRID_COL]) * args[TILE_COL]
        rest, row = k.udiv32(rest, args[GRID_ROW]), k.urem32(rest, args[GRID_ROW]) * args[TILE_ROW]
        rest, segment = k.udiv32(rest, args[GRID_SEGMENT]), k.urem32(rest, args[GRID_SEGMENT]) * args[TILE_SEGMENT]
        rest, outer = k.udiv32(rest, args[GRID_OUTER]), k.urem32(rest, args[GRID_OUTER]) * args[TILE_OUTER]
        chunk, batch = k.udiv32(rest, args[GRID_BATCH]), k.urem32(rest, args[GRID_BATCH]) * args[TILE_BATCH]
        cols, rows = k.imin(args[COLS] - col, args[TILE_COL]), k.imin(args[ROWS] - row, args[TILE_ROW])
        segments = k.imin(args[SEGMENTS] - segment, args[TILE_SEGMENT])
        outer_end = k.imin(outer + args[TILE_OUTER], args[OUTER])
        first_block = chunk * args[TILE_BLOCKS]
        last_block = k.imin(first_block + args[TILE_BLOCKS], args[BLOCKS]) - 1
        loops, window, given = k.slots(scratch), k.slots(scratch + 96), k.slots(k.address_of(args, LOOPS))
        spare = scratch + LOOPS_BYTES
        panels = spare + spare_bytes
        code = 0
        for b in range(batch, k.imin(batch + args[TILE_BATCH], args[BATCH])):
            high, low = k.udiv32(b, args[BATCH_INNER]), k.urem32(b, args[BATCH_INNER])
            a_batch = args[A] + high * args[A_BATCH] + low * args[A_BATCH_INNER]
            b_batch = args[B] + high * args[B_BATCH] + low * args[B_BATCH_INNER]
            c_batch = args[C] + high * args[C_BATCH] + low * args[C_BATCH_INNER] + chunk * args[C_CHUNK]
            c_batch += segment * args[C_SEGMENT] + row * args[C_ROW] + col * size
            for kk in range(first_block, last_block + 1):
                q, start = k.udiv32(kk, args[BLOCKS_PER_Q]), k.urem32(kk, args[BLOCKS_PER_Q]) * args[BLOCK]
                for slot in range(12):
                    loops[slot] = given[slot]
                blocked = 3 + 3 * args[BLOCKED]
                count = k.imin(given[blocked] - start, args[BLOCK])
                loops[blocked] = count
                b_at = b_batch + q * args[B_Q] + start * given[blocked + 2]
                if args[PACK] and not args[EMPTY]:
                    loops[1] = loops[3] * loops[6] * loops[9] * panel_bytes
                    for j in range(0, cols, panel):
                        to = panels + k.udiv(j, panel) * loops[1]
                        pack_panel(loops, to, b_at + (col + j) * args[B_COL], args[B_COL], k.imin(cols - j, panel))
                    b_at = panels
                    loops[11] = panel_bytes
                    loops[8] = loops[9] * panel_bytes
                    loops[5] = loops[6] * loops[8]
                else:
                    b_at += k.udiv(col, panel) * loops[1]
                for o in range(outer, outer_end):
                    a_at = a_batch + o * args[A_OUTER] + q * args[A_Q]
                    c_at = c_batch + o * args[C_OUTER]
                    if args[EMPTY]:
                        for s in range(segments):
                            for i in range(rows):
                                k.memset0(c_at + s * args[C_SEGMENT] + i * args[C_ROW], cols * size)
                    else:
                        if args[STAGE]:
                            for d in range(3):
                                at = WINDOW + 5 * d
                                window[2 * d] = (
                                    args[at] + segment * args[at + 1] + row * args[at + 2] + start * args[at + 3]
                                )
                                window[2 * d + 1] = (
                                    args[at + 4] + (segments - 1) * args[at + 1] + (rows - 1) * args[at + 2]
                                    + (count - 1) * args[at + 3]
                                )  # fmt: skip
                            stage(args, scratch + args[STAGE_AT], a_at, window)
                            a_at = scratch + args[STAGE_AT] + row * args[STAGED_ROW]
                        else:
                            a_at += segment * args[A_SEGMENT] + row * args[A_ROW] + start * given[blocked + 1]
                        multiply(args, loops, a_at, b_at, c_at, rows, cols, segments, kk - first_block, spare)
                    if kk == last_block:
                        at = o * args[EPILOGUE_OUTER] + segment * args[EPILOGUE_SEGMENT]
                        code |= finish(args, b, at, segments, row, rows, col, cols)
        return code

    return kernel
