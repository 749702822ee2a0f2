"""Rewiring of a sparse matrix, by one thread: it comes once an epoch, and its work goes with the entries alone."""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphnn.ir.graph import Node
from graphnn.ir.ops.rewire import Rewire
from graphnn.runtime.kernels.random import generator
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

_BUILDERS = "graphnn.runtime.kernels.rewire"


@lowers(Rewire)
def rewire_rows(node: Node, at: Lowering) -> list[Row]:
    op, (values, pattern, many, seed, step) = at.op, node.inputs
    assert isinstance(op, Rewire)
    (entries,), rows, columns = at.shape(values), at.bind(op.rows), at.bind(op.columns)
    if entries == 0:
        return []
    bits = (2 * entries).bit_length()                   # of the table of drawn numbers, which is at most half full
    scratch = [at.scratch(name, nbytes) for name, nbytes in (
        ("places", 8 * entries), ("origins", 4 * entries), ("order", 4 * entries), ("counts", 8 * (max(rows, columns) + 1)),
        ("drawn", 8 << bits))]
    after, origin = node.outputs
    args = (at.address(values), at.address(pattern), at.address(many), at.address(seed), at.address(step), at.address(after),
            at.address(origin), entries, rows, columns, op.stream, bits, *scratch)
    return [Row(Kernel.of(f"{_BUILDERS}:rewire", dtype=str(values.dtype)), args)]


def rewire(dtype: str) -> Callable[..., int]:
    """args: values, pattern, many, seed, step, new pattern, origin, entries, rows, columns, stream, bits of the table, then
    scratch: places, origins, order, counts, drawn. Returns 1 for a damaged pattern."""
    from graphnn.runtime import intrinsics as k

    pointer, bits_of, zero = k.POINTER[dtype], k.BITS[dtype], k.SCALAR[dtype](0.0)
    block, key = generator()
    no_purpose = np.uint32(0)
    top = 30 if dtype == "f32" else 62                  # of the bits below the sign

    @k.inline
    def distance(x, negative):
        """The bits of |x|, in the order of |x|, for x of this sign; beyond all others for the rest."""
        mine = (x < zero) if negative else (x >= zero)
        return k.select(mine, k.to_i64(bits_of(k.fabs(x))), np.int64(0x7FFFFFFFFFFFFFFF))

    @k.inline
    def farthest(values, entries, negative, go):
        """The largest distance of which fewer than `go` entries fall short, and how many those are."""
        limit, found = 0, 0
        for b in range(top, -1, -1):
            trial = limit | k.shl(np.int64(1), b)
            count = 0
            for e in range(entries):
                count += k.select(distance(values[e], negative) < trial, np.int64(1), np.int64(0))
            if count < go:
                limit, found = trial, count
        return limit, found

    @k.inline
    def of_sign(values, entries, negative):
        count = 0
        for e in range(entries):
            x = values[e]
            count += k.select((x < zero) if negative else (x >= zero), np.int64(1), np.int64(0))
        return count

    @k.inline
    def scaled(high, low, many):
        """floor((high 2**32 + low) many / 2**64) for 0 < many < 2**63, in parts that do not overflow."""
        word = k.to_u64(many)
        m1, m0 = k.lshr(word, np.uint64(32)), word & np.uint64(0xFFFFFFFF)
        h, w = k.to_u64(high), k.to_u64(low)
        middle = h * m0 + k.lshr(w * m0, np.uint64(32))
        other = w * m1 + (middle & np.uint64(0xFFFFFFFF))
        return k.to_i64(h * m1 + k.lshr(middle, np.uint64(32)) + k.lshr(other, np.uint64(32)))

    @k.inline
    def slot(table, bits, number):
        """Where `number` stands in the table, or the free slot where it belongs. A slot holds its number + 1; 0 is free."""
        mask = k.shl(np.int64(1), bits) - 1
        at = k.lshr(number * np.int64(-7046029254386353131), 64 - bits) & mask
        while table[at] != 0 and table[at] != number + 1:
            at = (at + 1) & mask
        return at

    @k.inline
    def sort(numbers, order, result, counts, entries, size):
        """result = the entries in the order of numbers[e], which lie below `size`; equal ones as in `order`."""
        k.memset0(k.address_of(counts, 0), 8 * (size + 1))
        for e in range(entries):
            counts[k.to_i64(numbers[e]) + 1] += 1
        for i in range(size):
            counts[i + 1] += counts[i]
        for j in range(entries):
            e = k.to_i64(order[j])
            i = k.to_i64(numbers[e])
            result[counts[i]] = k.to_i32(e)
            counts[i] += 1

    def kernel(args, tile, scratch):
        values, many, entries, rows, columns = pointer(args[0]), k.i64_pointer(args[2]), args[7], args[8], args[9]
        old_row, old_column = k.i32_pointer(args[1]), k.i32_pointer(args[1] + 4 * entries)
        row, column = k.i32_pointer(args[5]), k.i32_pointer(args[5] + 4 * entries)
        by_column, origin = k.i32_pointer(args[5] + 8 * entries), k.i32_pointer(args[6])
        place, origins, order = k.i64_pointer(args[12]), k.i32_pointer(args[13]), k.i32_pointer(args[14])
        counts, drawn, bits = k.i64_pointer(args[15]), k.i64_pointer(args[16]), args[11]

        before = np.int64(-1)
        for e in range(entries):
            r, c = k.to_i64(old_row[e]), k.to_i64(old_column[e])
            here = r * columns + c
            if r < 0 or r >= rows or c < 0 or c >= columns or here <= before:
                return 1
            before = here

        go_up = k.imin(k.imax(many[0], 0), of_sign(values, entries, False))
        go_down = k.imin(k.imax(many[1], 0), of_sign(values, entries, True))
        limit_up, below = farthest(values, entries, False, go_up)
        equal_up = go_up - below                        # how many at the limit itself go
        limit_down, below = farthest(values, entries, True, go_down)
        equal_down = go_down - below
        if go_up == 0:
            limit_up, equal_up = -1, 0
        if go_down == 0:
            limit_down, equal_down = -1, 0
        kept = 0
        for e in range(entries):
            up, down = distance(values[e], False), distance(values[e], True)
            goes = up < limit_up or down < limit_down
            if up == limit_up and equal_up > 0:
                goes = True
                equal_up -= 1
            if down == limit_down and equal_down > 0:
                goes = True
                equal_down -= 1
            if not goes:
                place[kept] = k.to_i64(old_row[e]) * columns + k.to_i64(old_column[e])
                origins[kept] = k.to_i32(e)
                kept += 1

        k.memset0(args[16], k.shl(np.int64(8), bits))
        seed, step = k.i64_pointer(args[3])[0], k.i64_pointer(args[4])[0]
        k0, k1 = key(seed, args[10], no_purpose)
        step0, step1 = k.to_u32(step), k.to_u32(k.lshr(step, 32))
        new = entries - kept
        free = rows * columns - kept
        for i in range(new):
            half = k.lshr(i, 1)
            a, b, c, d = block(k.to_u32(half), k.to_u32(k.lshr(half, 32)), step0, step1, k0, k1)
            odd = (i & 1) == 1
            last = free - new + i
            t = scaled(k.select(odd, d, b), k.select(odd, c, a), last + 1)
            at = slot(drawn, bits, t)
            if drawn[at] != 0:
                t = last
                at = slot(drawn, bits, t)
            drawn[at] = t + 1
            low, high = 0, kept                         # kept entries with at most t free places before them
            while low < high:
                middle = (low + high) >> 1
                if place[middle] - middle <= t:
                    low = middle + 1
                else:
                    high = middle
            place[kept + i] = t + low
            origins[kept + i] = k.to_i32(np.int64(-1))

        # In the order of rows, then columns: by columns first. The new pattern's own memory holds them meanwhile.
        for e in range(entries):
            r = k.udiv(place[e], columns)
            row[e], column[e] = k.to_i32(r), k.to_i32(place[e] - r * columns)
            order[e] = k.to_i32(e)
        sort(column, order, by_column, counts, entries, columns)
        sort(row, by_column, order, counts, entries, rows)
        for j in range(entries):
            e = k.to_i64(order[j])
            origin[j] = origins[e]
            by_column[j] = row[e]
        for j in range(entries):
            origins[j] = column[k.to_i64(order[j])]
        for j in range(entries):
            row[j], column[j], order[j] = by_column[j], origins[j], k.to_i32(j)
        sort(column, order, by_column, counts, entries, columns)
        return 0

    return kernel
