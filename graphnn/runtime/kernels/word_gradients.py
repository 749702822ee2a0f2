"""Gradients of a step on word vectors, as functions that kernels call: kernels/words.py says how a step is cut.

Their arguments are, by number: the tables, 0 inputs, 1 outputs, 2 bias and 3 offset; the text, 4 words, 5 left, 6 right,
7 targets and 8 labels; 9 the learning rate; 10 the losses; what a step leaves for its second half, 11 gradients of outputs (if
pooled, the means that they are multiples of), 12 gradients of inputs (if pooled, of the means), 13 factors (the gradients of the
logits, times -lr), 14 for each position how many targets there are, then which, 15 the entries of those by part, 16 where each
part ends; the first (17) and last (18) position; the sizes, 19 N, 20 V, 21 C, 22 K, 23 D; 24 bytes of a row in scratch; 25 the
window; 26 positions a tile, 27 positions a step, 28 parts.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from typing import Any


def gradients(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool, whole: bool) -> Any:
    """`tile_of(args, first, last, tile, scratch)`: what a tile of the step [first, last) leaves for `add`."""
    if pooled:
        return _pooled_gradients(dtype, lanes, whole)
    return _pair_gradients(dtype, lanes, tallest, registers, biased)


def _pooled_gradients(dtype: str, lanes: int, whole: bool) -> Any:
    """Of each position the mean of its window, the factors of its targets, and the gradient at the mean."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math
    from graphnn.runtime.row_sums import DOTS_AT_ONCE, row_dots_call, row_sums_call

    sums, dots = row_sums_call(dtype, lanes), row_dots_call(dtype, lanes)
    pointer, scalar, size, cast = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype], k.CAST[dtype]
    sigmoid, softplus = vector_math.FUNCTIONS["sigmoid"], vector_math.FUNCTIONS["softplus"]
    zero, one = scalar(0.0), scalar(1.0)

    @k.inline
    def ask_for(args, p):
        """Have the rows of a position's targets come to the cache: in a large table each is a journey to memory."""
        ids, length = k.i32_pointer(args[7] + p * args[22] * 4), args[23] * size
        for j in range(args[22]):
            row = args[1] + k.imax(k.to_i64(ids[j]), 0) * length
            line = row
            while line < row + length:
                k.prefetch(line)
                line += 64

    @k.inline
    def tile_of(args, begin, stop, tile, scratch):
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        bias, offset, lr, loss = pointer(args[2]), pointer(args[3]), pointer(args[9])[0], pointer(args[10])
        many, d, stride = args[22], args[23], args[24]
        labels, shifts = pointer(scratch), pointer(scratch + (many + 8) * size)
        logits = scratch + 2 * (many + 8) * size
        factors = logits + (many + 8) * size
        rows = factors + k.imax(many + 8, 2 * args[25] + 1) * size
        rows += (8 - (rows & 7)) & 7
        z, factor, row = pointer(logits), pointer(factors), k.slots(rows)
        start = begin + tile * args[26]
        for p in range(start, k.imin(start + args[26], stop)):
            before, after, place = k.to_i64(left[p]), k.to_i64(right[p]), p - begin
            found = k.i32_pointer(args[14] + place * (many + 1) * 4)
            found[0] = k.to_i32(0)
            loss[p] = zero
            if k.to_i64(words[p]) < 0 or before + after == 0:
                continue
            ask_for(args, k.imin(p + 1, args[19] - 1))
            ids, given = k.i32_pointer(args[7] + p * many * 4), pointer(args[8] + p * many * size)
            count = 0
            for j in range(many):
                target = k.to_i64(ids[j])
                if target >= 0:
                    row[count] = args[1] + target * d * size
                    labels[count], shifts[count] = given[j], bias[target] - offset[target]
                    count += 1
                    found[count] = ids[j]
            found[0] = k.to_i32(count)
            if count == 0:
                continue
            for j in range(count, count + DOTS_AT_ONCE - 1):
                row[j] = row[0]
            mean, dy, kept = args[11] + place * stride, args[12] + place * stride, pointer(args[13] + place * many * size)
            contexts = before + after
            # The addresses of the window's words lie behind those of the targets for a moment.
            scale, i = one / cast(contexts), 0
            around = rows + (count + DOTS_AT_ONCE) * 8
            near = k.slots(around)
            for q in range(p - before, p + after + 1):
                if q != p:
                    near[i] = args[0] + k.to_i64(words[q]) * d * size
                    factor[i] = scale
                    i += 1
            sums(mean, factors, around, contexts, d, 0)
            for j in range(0, count, DOTS_AT_ONCE):
                dots(mean, rows + j * 8, d, logits + j * size)
            for j in range(0, count, 8):
                for i in range(8):
                    s, label = z[j + i] + shifts[j + i], labels[j + i]
                    shifts[j + i] = softplus(s) - label * s
                    z[j + i] = lr * (label - sigmoid(s))
                    k.independent()
            total = zero
            for i in range(count):
                total += shifts[i]
                kept[i] = z[i]
                factor[i] = z[i] if whole else z[i] * scale
            loss[p] = total
            sums(dy, factors, rows, count, d, 0)

    return tile_of


def _pair_gradients(dtype: str, lanes: int, tallest: int, registers: int, biased: bool) -> Any:
    """Of each position the gradients of its targets and of each word of its window, by register tiles."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math
    from graphnn.runtime.contraction import TileSet, tile_call
    from graphnn.runtime.dot_products import dots_call, dots_width

    tile_set = TileSet(dtype, lanes, tuple(range(1, tallest + 1)), registers, masked=False)
    register_tile, dots = tile_call(tile_set), dots_call(dtype, lanes, registers)
    vectors, panel = tile_set.panel, tile_set.panel * lanes
    wide2, wide4 = (max((h for h in tile_set.heights if w * vectors in tile_set.widths(h)), default=0) for w in (2, 4))
    width = dots_width(2, registers)                     # at most 8
    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]
    panel_bytes = panel * size
    sigmoid, softplus = vector_math.FUNCTIONS["sigmoid"], vector_math.FUNCTIONS["softplus"]
    zero = scalar(0.0)

    @k.inline
    def gather(to, table, row, d):
        x, y = pointer(to), pointer(table + row * d * size)
        for e in range(d):
            x[e] = y[e]
            k.independent()

    @k.inline
    def multiply(loops, rows, sums, a, a_row, a_step, b, c, stride, accumulate):
        """C[rows, :] (+)= sum over `sums` of A[row, i] * B[i, :]; rows of B and C are `stride` bytes."""
        loops[0], loops[1], loops[2] = a_row, panel_bytes, stride
        loops[9], loops[10], loops[11] = sums, a_step, stride
        done = 0
        while done < stride:
            left = stride - done
            step = vectors
            if rows <= wide4 and left >= 4 * panel_bytes:
                step = 4 * vectors
            elif rows <= wide2 and left >= 2 * panel_bytes:
                step = 2 * vectors
            i = 0
            while i < rows:
                height = k.imin(rows - i, tallest)
                register_tile(height, step, a + i * a_row, b + done, c + i * stride + done, panel, accumulate,
                              k.address_of(loops, 0))
                i += height
            done += step * lanes * size

    @k.inline
    def step(loops, x, dx, own, contexts, rows, count, labels, shifts, losses, logits, d_outputs, d_bias, stride, lr):
        """The gradients of one word and each of its contexts; logits are [target, context] for blocks of contexts."""
        for i in range(width):
            losses[i] = zero
            k.independent()
        first, padded = 0, k.udiv(stride, size)
        while first < contexts:
            inside = k.imin(contexts - first, width)
            for j in range(0, count, 2):
                dots(2, rows + j * stride, stride, x + first * stride, stride, padded, logits + j * width * size)
            for j in range(count):
                z, shift, label = pointer(logits + j * width * size), shifts[j], labels[j]
                for i in range(width):
                    valid = (i < inside) & (first + i != own)
                    s = z[i] + shift
                    losses[i] = losses[i] + k.select(valid, softplus(s) - label * s, zero)
                    z[i] = k.select(valid, lr * (label - sigmoid(s)), zero)
                    k.independent()
                if biased:
                    total = d_bias[j] if first else zero
                    for i in range(inside):
                        total += z[i]
                    d_bias[j] = total
            multiply(loops, count, inside, logits, width * size, size, x + first * stride, d_outputs, stride, first)
            multiply(loops, inside, count, logits, size, width * size, rows, dx + first * stride, stride, 0)
            first += width
        total = zero
        for i in range(width):
            total += losses[i]
        return total

    @k.inline
    def tile_of(args, begin, stop, tile, scratch):
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        bias, offset, lr, loss = pointer(args[2]), pointer(args[3]), pointer(args[9])[0], pointer(args[10])
        n, many, d, stride, window = args[19], args[22], args[23], args[24], args[25]
        start = begin + tile * args[26]
        end = k.imin(start + args[26], stop)
        low, high = k.imax(start - window, 0), k.imin(end + window, n)
        loops = k.slots(scratch)
        for slot in range(3, 9):
            loops[slot] = 0
        loops[3], loops[6] = 1, 1
        labels = pointer(scratch + 128)
        shifts, losses = pointer(scratch + 128 + many * size), pointer(scratch + 128 + 2 * many * size)
        logits = scratch + 128 + (2 * many + 16) * size
        rows = logits + (many + 8) * 8 * size
        rows += (64 - (rows & 63)) & 63
        context = rows + (many + 8) * stride
        for i in range(many + 8 + high - low):           # zeros behind all rows: whole vectors are worked with
            k.memset0(rows + i * stride + d * size, stride - d * size)
        for p in range(low, high):
            word = k.to_i64(words[p])
            if word >= 0:
                gather(context + (p - low) * stride, args[0], word, d)
        for p in range(start, end):
            before, after, place = k.to_i64(left[p]), k.to_i64(right[p]), p - begin
            found = k.i32_pointer(args[14] + place * (many + 1) * 4)
            found[0] = k.to_i32(0)
            loss[p] = zero
            if k.to_i64(words[p]) < 0 or before + after == 0:
                continue
            ids, given = k.i32_pointer(args[7] + p * many * 4), pointer(args[8] + p * many * size)
            d_outputs, d_bias = args[11] + place * many * stride, pointer(args[13] + place * many * size)
            count = 0
            for j in range(many):
                target = k.to_i64(ids[j])
                if target >= 0:
                    gather(rows + count * stride, args[1], target, d)
                    labels[count], shifts[count] = given[j], bias[target] - offset[target]
                    count += 1
                    found[count] = ids[j]
            found[0] = k.to_i32(count)
            if count == 0:
                continue
            x, dx = context + (p - before - low) * stride, args[12] + place * (2 * window + 1) * stride
            loss[p] = step(loops, x, dx, before, before + 1 + after, rows, count, labels, shifts, losses, logits, d_outputs,
                           d_bias, stride, lr)

    return tile_of


def add(dtype: str, lanes: int, pooled: bool, biased: bool) -> Any:
    """`part_of(args, first, last, part, scratch)`: the gradients of the step [first, last) added to the rows whose ids are `part`
    modulo the number of parts, a power of two."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.row_sums import row_sums_call

    sums = row_sums_call(dtype, lanes)
    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]
    one = scalar(1.0)

    @k.inline
    def part_of(args, first, last, part, scratch):
        words, left, right, found = (k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6]),
                                     k.i32_pointer(args[14]))
        n, many, d, stride, window, parts = args[19], args[22], args[23], args[24], args[25], args[28]
        bias, factors, rows = pointer(args[2]), pointer(args[13]), k.slots(scratch)
        ones = pointer(scratch + 8 * (2 * window + 1))
        for i in range(2 * window + 1):
            ones[i] = one
            k.independent()
        listed, ends = k.i32_pointer(args[15] + first * many * 4), k.i32_pointer(args[16] + k.udiv(first, args[27]) * parts * 4)
        at = k.to_i64(ends[part - 1]) if part > 0 else 0
        for i in range(at, k.to_i64(ends[part])):
            entry = k.to_i64(listed[i])
            place = k.udiv(entry, many)
            target = k.to_i64(found[entry + place + 1])
            if pooled:
                rows[0] = args[11] + place * stride
                sums(args[1] + target * d * size, args[13] + entry * size, scratch, 1, d, 1)
            else:
                rows[0] = args[11] + entry * stride
                sums(args[1] + target * d * size, k.address_of(ones, 0), scratch, 1, d, 1)
            if biased:
                bias[target] = bias[target] + factors[entry]
        # A word takes the gradients of all positions in whose windows it stands, at once.
        for q in range(k.imax(first - window, 0), k.imin(last + window, n)):
            word = k.to_i64(words[q])
            if word >= 0 and (word & (parts - 1)) == part:
                near = 0
                for p in range(k.imax(q - window, first), k.imin(q + window + 1, last)):
                    before, after, place = k.to_i64(left[p]), k.to_i64(right[p]), p - first
                    if pooled:
                        rows[near] = args[12] + place * stride
                    else:
                        rows[near] = args[12] + (place * (2 * window + 1) + q - p + before) * stride
                    inside = (q >= p - before) & (q <= p + after) & (q != p) & (k.to_i64(found[place * (many + 1)]) > 0)
                    near += k.to_i64(inside)
                if near > 0:
                    sums(args[0] + word * d * size, scratch + 8 * (2 * window + 1), scratch, near, d, 1)

    return part_of
