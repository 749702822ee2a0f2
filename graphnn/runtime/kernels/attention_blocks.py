"""The kernels of attention, block by block of the scores: they live in a thread's scratch, and are made again in the backward.

A block holds the scores of some keys (its rows) with some queries (its columns), so that the softmax over keys is vector work
from row to row. Forward, a tile is a block of queries that meets one block of keys after the other and keeps its running
maximum and sum (Milakov & Gimelshein, 2018; Dao et al., 2022). Backward, a tile is a head, or a chunk of a head's keys where
there are few heads: it meets all queries for each block of keys, keeps the cotangents of these, and adds to those of the
queries; the chunks' sums are combined in order. Blocks that `causal` hides are left out.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.ops.attention import LEAST

QUERIES, KEYS = 64, 64      # of a block: its float32 scores take 16 KB

# Argument slots of both kernels; then those of the forward, those of the backward, and the axes before T with those of heads:
# size, and strides in bytes of either mask.
(
    Q, K, V, LOGS, ALLOWED, KEPT, SCALE, KEEP_SCALE, CAUSAL, HEADS, N_QUERIES, N_KEYS, SIZE, WIDTH,
    ALLOWED_KEY, ALLOWED_QUERY, KEPT_KEY, KEPT_QUERY, MASK_AXES, PARTS, SECOND,
) = range(21)  # fmt: skip
Y, FORWARD_AXES = SECOND, SECOND + 1
DELTA, DY, D_Q, D_K, D_V, D_Q_PART, PART_KEYS, BACKWARD_AXES = range(SECOND, SECOND + 8)
LOOPS_BYTES = 128


def _blocks(dtype: str, lanes: int, tallest: int, registers: int, is_masked: bool):
    """What both kernels do with blocks: (product, turned, padded, scores, dropped, mask_offset)."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import TileSet
    from graphnn.runtime.kernels.register_tiles import heights, register_tiles
    from graphnn.runtime.square_transpose import transpose_call

    tiles = TileSet(dtype, lanes, heights(tallest), registers, is_masked)
    panel, square = tiles.panel * lanes, transpose_call(dtype, lanes)
    _, rows_of_tiles = register_tiles(tiles, tallest)
    size, pointer, scalar, zero = k.ITEMSIZE[dtype], k.POINTER[dtype], k.SCALAR[dtype], k.SCALAR[dtype](0)
    hidden = scalar(float("-inf"))

    @k.inline
    def product(loops, a, a_row, a_k, b, b_k, c, rows, cols, depth, accumulate):
        """C[rows, cols] (+)= A B with whole vectors of columns, C dense; strides in bytes."""
        if depth == 0:
            if not accumulate:
                k.memset0(c, rows * cols * size)
            return 0
        loops[0], loops[1], loops[2] = a_row, panel * size, cols * size
        loops[3], loops[4], loops[5] = 1, 0, 0
        loops[6], loops[7], loops[8] = 1, 0, 0
        loops[9], loops[10], loops[11] = depth, a_k, b_k
        for done in range(0, cols, panel):
            valid = k.imin(cols - done, panel)           # a panel, or a vector
            rows_of_tiles(rows, k.udiv(valid, lanes), a, b + done * size, c + done * size, valid, accumulate, loops, 0)
        return 0

    @k.inline
    def turned(to, cols, source, stride, rows, depth):
        """The transpose of [rows, depth] as [depth, cols], zero beyond the rows."""
        if rows < cols:
            k.memset0(to, depth * cols * size)
        whole, done = depth - k.urem(depth, lanes), rows - k.urem(rows, lanes)
        for i in range(0, done, lanes):
            for j in range(0, whole, lanes):
                square(to + (j * cols + i) * size, cols * size, source + i * stride + j * size, stride)
        for i in range(rows):
            x = pointer(source + i * stride)
            y = pointer(to + i * size)
            for j in range(whole if i < done else 0, depth):
                y[j * cols] = x[j]

    @k.inline
    def padded(to, cols, source, stride, rows, depth):
        """[rows, depth] as [rows, cols], zero beyond the depth."""
        for i in range(rows):
            k.memcpy(to + i * cols * size, source + i * stride, depth * size)
            k.memset0(to + (i * cols + depth) * size, (cols - depth) * size)

    @k.inline
    def scores(args, loops, s, keys_at, key_stride, turned_queries, cols, mask, query, queries, key, keys):
        """The scores of a block, -inf where they are hidden: [keys, cols]."""
        product(loops, keys_at, key_stride, size, turned_queries, cols * size, s, keys, cols, args[SIZE], 0)
        if args[ALLOWED]:
            for j in range(keys):
                row = pointer(s + j * cols * size)
                at = k.u8_pointer(mask + (key + j) * args[ALLOWED_KEY] + query * args[ALLOWED_QUERY])
                if args[ALLOWED_QUERY]:
                    for i in range(queries):
                        row[i] = k.select(at[i] != 0, row[i], hidden)
                        k.independent()
                elif at[0] == 0:
                    for i in range(cols):
                        row[i] = hidden
                        k.independent()
        if args[CAUSAL] and key + keys - 1 > query:
            for j in range(keys):
                row = pointer(s + j * cols * size)
                for i in range(k.imin(cols, k.imax(0, key + j - query))):
                    row[i] = hidden
                    k.independent()

    @k.inline
    def dropped(args, s, cols, mask, query, queries, key, keys, factor):
        """A block times the factor where weights are kept, 0 elsewhere."""
        for j in range(keys):
            row = pointer(s + j * cols * size)
            at = k.u8_pointer(mask + (key + j) * args[KEPT_KEY] + query * args[KEPT_QUERY])
            if args[KEPT_QUERY]:
                for i in range(queries):
                    row[i] = k.select(at[i] != 0, row[i] * factor, zero)
                    k.independent()
            else:
                kept = k.select(at[0] != 0, factor, zero)
                for i in range(queries):
                    row[i] = row[i] * kept
                    k.independent()

    @k.inline
    def mask_offset(args, axes, unit, which):
        """Where the mask of a head begins, in bytes."""
        offset, rest = 0, unit
        for turn in range(args[MASK_AXES]):
            axis = axes + 3 * (args[MASK_AXES] - 1 - turn)
            offset += k.urem(rest, args[axis]) * args[axis + which]
            rest = k.udiv(rest, args[axis])
        return offset

    return product, turned, padded, scores, dropped, mask_offset


def forward(dtype: str, lanes: int, tallest: int, registers: int, masked: bool) -> Callable[..., int]:
    """A tile is a block of queries of a head."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math

    product, turned, padded, scores, dropped, mask_offset = _blocks(dtype, lanes, tallest, registers, masked)
    exp, log = vector_math.FUNCTIONS["exp"], vector_math.FUNCTIONS["log"]
    size, pointer, scalar = k.ITEMSIZE[dtype], k.POINTER[dtype], k.SCALAR[dtype]
    zero, one, least = scalar(0), scalar(1), scalar(LEAST)

    def kernel(args, index, scratch):
        unit, query = k.udiv32(index, args[PARTS]), k.urem32(index, args[PARTS]) * QUERIES
        outer, head = k.udiv32(unit, args[HEADS]), k.urem32(unit, args[HEADS])
        heads, n_keys, depth, width = args[HEADS], args[N_KEYS], args[SIZE], args[WIDTH]
        rows = k.imin(args[N_QUERIES] - query, QUERIES)
        cols, wide = k.udiv(rows + lanes - 1, lanes) * lanes, k.udiv(width + lanes - 1, lanes) * lanes
        stride, value_stride = heads * depth * size, heads * width * size
        first = outer * args[N_QUERIES] + query
        q = args[Q] + (first * heads + head) * depth * size
        keys_at = args[K] + (outer * n_keys * heads + head) * depth * size
        values_at = args[V] + (outer * n_keys * heads + head) * width * size
        allowed = args[ALLOWED] + mask_offset(args, FORWARD_AXES, unit, 1)
        kept = args[KEPT] + mask_offset(args, FORWARD_AXES, unit, 2)
        scale, factor = scalar(k.float_arg(args, SCALE)), scalar(k.float_arg(args, KEEP_SCALE))

        loops, most, total = k.slots(scratch), pointer(scratch + LOOPS_BYTES), pointer(scratch + LOOPS_BYTES + QUERIES * size)
        change = pointer(scratch + LOOPS_BYTES + 2 * QUERIES * size)
        turned_q = scratch + LOOPS_BYTES + 3 * QUERIES * size
        s = turned_q + QUERIES * depth * size
        sums = s + QUERIES * KEYS * size
        wide_v = sums + QUERIES * wide * size
        turned(turned_q, cols, q, stride, rows, depth)
        scaled = pointer(turned_q)
        for i in range(depth * cols):
            scaled[i] = scaled[i] * scale
            k.independent()
        for i in range(cols):
            most[i], total[i] = least, zero
            k.independent()
        k.memset0(sums, rows * wide * size)

        seen = k.imin(n_keys, query + rows) if args[CAUSAL] else n_keys
        for key in range(0, seen, KEYS):
            keys = k.imin(seen - key, KEYS)
            scores(args, loops, s, keys_at + key * stride, stride, turned_q, cols, allowed, query, rows, key, keys)
            for i in range(cols):
                change[i] = most[i]
                k.independent()
            even = keys - k.urem(keys, 4)
            for j in range(0, even, 4):
                s0, s1 = pointer(s + j * cols * size), pointer(s + (j + 1) * cols * size)
                s2, s3 = pointer(s + (j + 2) * cols * size), pointer(s + (j + 3) * cols * size)
                for i in range(cols):
                    most[i] = k.maximum(most[i], k.maximum(k.maximum(s0[i], s1[i]), k.maximum(s2[i], s3[i])))
                    k.independent()
            for j in range(even, keys):
                row = pointer(s + j * cols * size)
                for i in range(cols):
                    most[i] = k.maximum(most[i], row[i])
                    k.independent()
            for i in range(cols):
                change[i] = exp(change[i] - most[i])
                total[i] = total[i] * change[i]
                k.independent()
            for j in range(keys):
                row = pointer(s + j * cols * size)
                for i in range(cols):
                    e = exp(row[i] - most[i])
                    row[i] = e
                    total[i] = total[i] + e
                    k.independent()
            if args[KEPT]:
                dropped(args, s, cols, kept, query, rows, key, keys, factor)
            if key:
                for i in range(rows):
                    row, by = pointer(sums + i * wide * size), change[i]
                    for c in range(wide):
                        row[c] = row[c] * by
                        k.independent()
            v_at, v_stride = values_at + key * value_stride, value_stride
            if wide != width:
                padded(wide_v, wide, v_at, v_stride, keys, width)
                v_at, v_stride = wide_v, wide * size
            product(loops, s, size, cols * size, v_at, v_stride, sums, rows, wide, keys, 1)

        logs = pointer(args[LOGS] + (first * heads + head) * size)
        for i in range(rows):
            found = total[i]
            shift = zero if found == zero else log(found)
            logs[i * heads] = zero if found == zero else most[i] + shift
            by = zero if found == zero else one / found
            y, row = pointer(args[Y] + ((first + i) * heads + head) * width * size), pointer(sums + i * wide * size)
            for c in range(width):
                y[c] = row[c] * by
                k.independent()
        return 0

    return kernel


def backward(dtype: str, lanes: int, tallest: int, registers: int, masked: bool) -> Callable[..., int]:
    """A tile is a chunk of the keys of a head."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math

    product, turned, padded, scores, dropped, mask_offset = _blocks(dtype, lanes, tallest, registers, masked)
    exp = vector_math.FUNCTIONS["exp"]
    size, pointer, scalar = k.ITEMSIZE[dtype], k.POINTER[dtype], k.SCALAR[dtype]
    zero = scalar(0)

    def kernel(args, index, scratch):
        unit, chunk = k.udiv32(index, args[PARTS]), k.urem32(index, args[PARTS])
        outer, head = k.udiv32(unit, args[HEADS]), k.urem32(unit, args[HEADS])
        heads, n_queries, n_keys, depth, width = args[HEADS], args[N_QUERIES], args[N_KEYS], args[SIZE], args[WIDTH]
        deep, wide = k.udiv(depth + lanes - 1, lanes) * lanes, k.udiv(width + lanes - 1, lanes) * lanes
        stride, value_stride = heads * depth * size, heads * width * size
        first_query, first_key = outer * n_queries * heads + head, outer * n_keys * heads + head
        d_q = args[D_Q] + chunk * args[D_Q_PART] + first_query * depth * size
        allowed = args[ALLOWED] + mask_offset(args, BACKWARD_AXES, unit, 1)
        kept = args[KEPT] + mask_offset(args, BACKWARD_AXES, unit, 2)
        scale, factor = scalar(k.float_arg(args, SCALE)), scalar(k.float_arg(args, KEEP_SCALE))

        loops, logs, delta = k.slots(scratch), pointer(scratch + LOOPS_BYTES), pointer(scratch + LOOPS_BYTES + QUERIES * size)
        turned_q = scratch + LOOPS_BYTES + 2 * QUERIES * size
        turned_dy = turned_q + QUERIES * depth * size
        s = turned_dy + QUERIES * width * size
        ds = s + QUERIES * KEYS * size
        d_rows = ds + QUERIES * KEYS * size
        deep_q = d_rows + QUERIES * deep * size
        wide_dy = deep_q + QUERIES * deep * size
        d_keys = wide_dy + QUERIES * wide * size
        d_values = d_keys + KEYS * deep * size
        deep_k = d_values + KEYS * wide * size
        for i in range(n_queries):
            k.memset0(d_q + i * stride, depth * size)
        start = chunk * args[PART_KEYS]
        for key in range(start, k.imin(n_keys, start + args[PART_KEYS]), KEYS):
            keys = k.imin(n_keys - key, KEYS)
            k_at = args[K] + first_key * depth * size + key * stride
            v_at = args[V] + first_key * width * size + key * value_stride
            by_key, by_key_stride = k_at, stride
            if deep != depth:
                padded(deep_k, deep, k_at, stride, keys, depth)
                by_key, by_key_stride = deep_k, deep * size
            k.memset0(d_keys, keys * deep * size)
            k.memset0(d_values, keys * wide * size)
            begin = k.udiv(key, QUERIES) * QUERIES if args[CAUSAL] else 0
            for query in range(begin, n_queries, QUERIES):
                rows = k.imin(n_queries - query, QUERIES)
                cols = k.udiv(rows + lanes - 1, lanes) * lanes
                q_at = args[Q] + first_query * depth * size + query * stride
                dy_at = args[DY] + first_query * width * size + query * value_stride
                given, shares = pointer(args[LOGS] + first_query * size), pointer(args[DELTA] + first_query * size)
                for i in range(rows):
                    logs[i], delta[i] = given[(query + i) * heads], shares[(query + i) * heads]
                for i in range(rows, cols):
                    logs[i], delta[i] = zero, zero
                turned(turned_q, cols, q_at, stride, rows, depth)
                scaled = pointer(turned_q)
                for i in range(depth * cols):
                    scaled[i] = scaled[i] * scale
                    k.independent()
                turned(turned_dy, cols, dy_at, value_stride, rows, width)
                q_stride, dy_stride = stride, value_stride
                if deep != depth:
                    padded(deep_q, deep, q_at, stride, rows, depth)
                    q_at, q_stride = deep_q, deep * size
                if wide != width:
                    padded(wide_dy, wide, dy_at, value_stride, rows, width)
                    dy_at, dy_stride = wide_dy, wide * size

                scores(args, loops, s, k_at, stride, turned_q, cols, allowed, query, rows, key, keys)
                product(loops, v_at, value_stride, size, turned_dy, cols * size, ds, keys, cols, width, 0)
                if args[KEPT]:
                    dropped(args, ds, cols, kept, query, rows, key, keys, factor)
                for j in range(keys):
                    row, d_row = pointer(s + j * cols * size), pointer(ds + j * cols * size)
                    for i in range(cols):
                        weight = exp(row[i] - logs[i])
                        row[i] = weight
                        d_row[i] = weight * (d_row[i] - delta[i])
                        k.independent()
                if args[KEPT]:
                    dropped(args, s, cols, kept, query, rows, key, keys, factor)
                product(loops, s, cols * size, size, dy_at, dy_stride, d_values, keys, wide, rows, 1)
                product(loops, ds, cols * size, size, q_at, q_stride, d_keys, keys, deep, rows, 1)
                product(loops, ds, size, cols * size, by_key, by_key_stride, d_rows, rows, deep, keys, 0)
                for i in range(rows):
                    to, row = pointer(d_q + (query + i) * stride), pointer(d_rows + i * deep * size)
                    for c in range(depth):
                        to[c] = to[c] + row[c] * scale
                        k.independent()
            for j in range(keys):
                to, row = pointer(args[D_K] + first_key * depth * size + (key + j) * stride), pointer(d_keys + j * deep * size)
                for c in range(depth):
                    to[c] = row[c] * scale
                    k.independent()
                d_v = args[D_V] + first_key * width * size + (key + j) * value_stride
                k.memcpy(d_v, d_values + j * wide * size, width * size)
        return 0

    return kernel
