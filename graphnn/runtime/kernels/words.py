"""Windows of a text, and gradient steps on word vectors.

The first row checks all ids and windows: a run that fails leaves the tables as they were. Then a step is two rows. One has a tile
for every few positions: it gathers their rows of the two tables into scratch, padded to whole vectors, and works there with the
two microkernels, dot products for the logits and register tiles for the gradients. The other adds the gradients to the tables; a
tile of it owns the rows whose ids are equal modulo PARTS and takes their gradients in the order of the text, so that sums do not
depend on threads.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphnn.ir.graph import Node
from graphnn.ir.ops.words import ContextWindows, WordVectorSteps
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Arg, Kernel, Row

TILE = 16                   # positions, at least; a step has at most TILES tiles
TILES = 8
PARTS = 8                   # a power of two
CHECKED = 1 << 10           # positions a tile
_BUILDERS = "graphnn.runtime.kernels.words"


@lowers(ContextWindows)
def window_rows(node: Node, at: Lowering) -> list[Row]:
    ids, keep = node.inputs[:2]
    (n,), (v,) = at.shape(ids), at.shape(keep)
    args = tuple(at.address(value) for value in (*node.inputs, *node.outputs))
    return [Row(Kernel.of(f"{_BUILDERS}:windows", dtype=str(keep.dtype)), (*args, n, v))] if n else []


@lowers(WordVectorSteps)
def step_rows(node: Node, at: Lowering) -> list[Row]:
    op = at.op
    assert isinstance(op, WordVectorSteps)
    dtype, size, isa = str(node.inputs[0].dtype), node.inputs[0].dtype.itemsize, at.isa
    (v, d), (c, _), (n, k) = at.shape(node.inputs[0]), at.shape(node.inputs[1]), at.shape(node.inputs[7])
    window = min(op.window, max(n, 1))
    inputs, outputs, bias, loss = (at.address(value) for value in node.outputs)
    offset, words, left, right, targets, labels, lr = (at.address(value) for value in node.inputs[3:])
    rows: list[Row] = []
    if n:
        given = (words, left, right, targets, n, v, c, k, window, CHECKED)
        rows.append(Row(Kernel.of(f"{_BUILDERS}:check"), given, -(-n // CHECKED)))
    for old, new in zip(node.inputs[:3], node.outputs[:3], strict=True):
        nbytes = size
        for length in at.shape(old):
            nbytes *= length
        if nbytes and not at.same_buffer(old, new):
            rows.append(copy_row(at.address(old), at.address(new), nbytes))
    lanes, (tallest, _) = isa.lanes(dtype), isa.tile(dtype)
    panel = 2 * lanes * size
    stride = -(-max(d, 1) * size // panel) * panel       # of a row in scratch, in bytes: whole panels of register tiles
    chunk = min(op.chunk, max(n, 1))
    each = -(-chunk // max(1, min(TILES, chunk // TILE)))                   # positions a tile
    tiles = -(-chunk // each)
    halo = each + 2 * window
    variant = {"dtype": dtype, "lanes": lanes, "tallest": min(8, tallest), "registers": isa.registers, "pooled": op.pooled,
               "biased": op.biased, "whole": op.whole}
    d_inputs = at.scratch("gradients of inputs", tiles * halo * stride)
    d_outputs = at.scratch("gradients of outputs", max(1, chunk * k * stride))
    d_bias = at.scratch("gradients of bias", max(1, chunk * k * size))
    found = at.scratch("targets", chunk * (k + 1) * 4)
    # A thread's scratch: loop block, labels, shifts, losses, logits, then rows: the mean and its gradient, targets, context.
    own = 192 + (2 * k + 16 + 8 * (k + 8)) * size + (2 + k + 8 + halo + 8) * stride
    places = (d_inputs, d_outputs, d_bias, found)

    def args(first: int, last: int) -> tuple[Arg, ...]:
        return (inputs, outputs, bias, offset, words, left, right, targets, labels, lr, loss, *places,
                first, last, n, v, c, k, d, stride, window, each)

    if tiles == 1:                                       # nothing to share: one thread takes all steps, and none waits for it
        return [*rows, Row(Kernel.of(f"{_BUILDERS}:serial", **variant), (*args(0, n), chunk), thread_scratch=own)] if n else rows
    for first in range(0, n, chunk):
        last = min(first + chunk, n)
        rows.append(Row(Kernel.of(f"{_BUILDERS}:gradients", **variant), args(first, last), -(-(last - first) // each), own))
        rows.append(Row(Kernel.of(f"{_BUILDERS}:add", dtype=dtype, pooled=op.pooled, biased=op.biased), args(first, last), PARTS))
    return rows


# ------------------------------------------------------------------------------------------------ kernels


def windows(dtype: str) -> Callable[..., int]:
    """args: ids, keep, draws, radius, words, left, right, ids, words of the vocabulary."""
    from graphnn.runtime import intrinsics as k

    pointer = k.POINTER[dtype]

    def kernel(args, tile, scratch):
        ids, keep, draws, radius = k.i32_pointer(args[0]), pointer(args[1]), pointer(args[2]), k.i32_pointer(args[3])
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        n, many = args[7], args[8]
        kept, start = 0, 0
        for i in range(n + 1):
            word = k.to_i64(ids[i]) if i < n else -1
            if word < -1 or word >= many:
                return 1
            if word < 0:
                for p in range(start, kept):
                    right[p] = k.to_i32(k.imin(k.to_i64(right[p]), kept - 1 - p))
                start = kept
            else:
                reach = k.imax(k.to_i64(radius[i]), 0)
                words[kept] = k.to_i32(word)
                left[kept] = k.to_i32(k.imin(reach, kept - start))
                right[kept] = k.to_i32(reach)
                kept += k.to_i64(draws[i] < keep[word])
        for p in range(kept, n):
            words[p], left[p], right[p] = k.to_i32(-1), k.to_i32(0), k.to_i32(0)
        return 0

    return kernel


def check() -> Callable[..., int]:
    """args: words, left, right, targets, N, V, C, K, window, positions a tile."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        words, left, right = k.i32_pointer(args[0]), k.i32_pointer(args[1]), k.i32_pointer(args[2])
        n, many, window, start = args[4], args[7], args[8], tile * args[9]
        for p in range(start, k.imin(start + args[9], n)):
            word, before, after = k.to_i64(words[p]), k.to_i64(left[p]), k.to_i64(right[p])
            if word < -1 or word >= args[5]:
                return 1
            ids = k.i32_pointer(args[3] + p * many * 4)
            for j in range(many):
                target = k.to_i64(ids[j])
                if target < -1 or target >= args[6]:
                    return 2
            if before < 0 or after < 0 or before > k.imin(window, p) or after > k.imin(window, n - 1 - p):
                return 3
            if word >= 0 and before + after > 0:
                for q in range(p - before, p + after + 1):
                    if k.to_i64(words[q]) == -1:
                        return 3
        return 0

    return kernel


# Arguments of the kernels of a step: inputs, outputs, bias, offset, words, left, right, targets, labels, lr, loss, then the
# gradients of inputs (for each tile those of its positions and of `window` more on either side), of outputs (for each target; if
# pooled, for each position the mean, to be multiplied with those of bias) and of bias (for each target), the targets that there
# are (their number, then ids), first and last position, N, V, C, K, D, bytes of a row in scratch, window, positions a tile.


def gradients(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool,
              whole: bool) -> Callable[..., int]:
    """The gradients of a tile's positions."""
    tile_of = _gradients(dtype, lanes, tallest, registers, pooled, biased, whole)

    def kernel(args, tile, scratch):
        return tile_of(args, args[15], args[16], tile, scratch)

    return kernel


def add(dtype: str, pooled: bool, biased: bool) -> Callable[..., int]:
    """The gradients added to the rows whose ids are equal to the tile modulo PARTS."""
    part_of = _add(dtype, pooled, biased)

    def kernel(args, part, scratch):
        part_of(args, args[15], args[16], part, PARTS - 1)
        return 0

    return kernel


def serial(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool, whole: bool) -> Callable[..., int]:
    """All steps, one after the other; args: one more, positions a step."""
    from graphnn.runtime import intrinsics as k

    tile_of, part_of = _gradients(dtype, lanes, tallest, registers, pooled, biased, whole), _add(dtype, pooled, biased)

    def kernel(args, tile, scratch):
        first, code = args[15], 0
        while first < args[16] and code == 0:
            last = k.imin(first + args[25], args[16])
            code = tile_of(args, first, last, 0, scratch)
            if code == 0:
                part_of(args, first, last, 0, 0)
            first = last
        return code

    return kernel


def _gradients(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool, whole: bool) -> Any:
    """`tile_of(args, first, last, tile, scratch)` for kernels: the gradients of a tile of the step [first, last)."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math
    from graphnn.runtime.contraction import TileSet, tile_call
    from graphnn.runtime.dot_products import dots_call, dots_width

    tile_set = TileSet(dtype, lanes, tuple(range(1, tallest + 1)), registers, masked=False)
    register_tile, dots = tile_call(tile_set), dots_call(dtype, lanes, registers)
    vectors, panel = tile_set.panel, tile_set.panel * lanes
    wide2, wide4 = (max((h for h in tile_set.heights if w * vectors in tile_set.widths(h)), default=0) for w in (2, 4))
    width, width1 = dots_width(2, registers), dots_width(1, registers)       # at most 8
    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]
    panel_bytes, cast = panel * size, k.CAST[dtype]
    sigmoid, softplus = vector_math.FUNCTIONS["sigmoid"], vector_math.FUNCTIONS["softplus"]
    zero, one = scalar(0.0), scalar(1.0)

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
            multiply(loops, inside, count, logits, size, width * size, rows, dx + first * stride, stride, 1)
            first += width
        total = zero
        for i in range(width):
            total += losses[i]
        return total

    @k.inline
    def pooled_step(loops, x, dx, own, contexts, rows, count, labels, shifts, logits, mean, d_outputs, d_bias, stride, lr):
        """The gradients of one word and the mean of its contexts."""
        scale, padded = one / cast(contexts - 1), k.udiv(stride, size)
        y, dy, z = pointer(mean), mean + stride, pointer(logits)
        for e in range(padded):
            y[e] = zero
            k.independent()
        for i in range(contexts):
            if i != own:
                source = pointer(x + i * stride)
                for e in range(padded):
                    y[e] = y[e] + source[e]
                    k.independent()
        for e in range(padded):
            y[e] = y[e] * scale
            k.independent()
        for j in range(0, count, width1):
            dots(1, mean, stride, rows + j * stride, stride, padded, logits + j * size)
        for j in range(count):
            s, label = z[j] + shifts[j], labels[j]
            shifts[j] = softplus(s) - label * s
            z[j] = lr * (label - sigmoid(s))
            k.independent()
        total = zero
        for j in range(count):
            total += shifts[j]
            d_bias[j] = z[j]
        kept = pointer(d_outputs)                        # the gradient of target j is d_bias[j] times the mean
        for e in range(padded):
            kept[e] = y[e]
            k.independent()
        multiply(loops, 1, count, logits, size, size, rows, dy, stride, 0)
        source, scale = pointer(dy), one if whole else scale
        for i in range(contexts):
            if i != own:
                target = pointer(dx + i * stride)
                for e in range(padded):
                    target[e] = target[e] + source[e] * scale
                    k.independent()
        return total

    @k.inline
    def tile_of(args, begin, stop, tile, scratch):
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        bias, offset, lr = pointer(args[2]), pointer(args[3]), pointer(args[9])[0]
        loss = pointer(args[10])
        n, many, d, stride, window = args[17], args[20], args[21], args[22], args[23]
        start = begin + tile * args[24]
        end = k.imin(start + args[24], stop)
        low, high = k.imax(start - window, 0), k.imin(end + window, n)
        d_inputs = args[11] + tile * (args[24] + 2 * window) * stride
        loops = k.slots(scratch)
        for slot in range(3, 9):
            loops[slot] = 0
        loops[3], loops[6] = 1, 1
        labels = pointer(scratch + 128)
        shifts, losses = pointer(scratch + 128 + many * size), pointer(scratch + 128 + 2 * many * size)
        logits = scratch + 128 + (2 * many + 16) * size
        mean = logits + (many + 8) * 8 * size
        mean += (64 - (mean & 63)) & 63
        rows = mean + 2 * stride
        context = rows + (many + 8) * stride
        for i in range(many + 8 + high - low):           # zeros behind all rows: whole vectors are worked with
            k.memset0(rows + i * stride + d * size, stride - d * size)
        for p in range(low, high):
            word = k.to_i64(words[p])
            if word < -1 or word >= args[18]:
                return 1
            if word >= 0:
                gather(context + (p - low) * stride, args[0], word, d)
        k.memset0(d_inputs, (high - low) * stride)
        for p in range(start, end):
            before, after = k.to_i64(left[p]), k.to_i64(right[p])
            if before < 0 or after < 0 or before > k.imin(window, p) or after > k.imin(window, n - 1 - p):
                return 3
            found = k.i32_pointer(args[14] + (p - begin) * (many + 1) * 4)
            found[0] = k.to_i32(0)
            loss[p] = zero
            if k.to_i64(words[p]) < 0 or before + after == 0:
                continue
            for q in range(p - before, p + after + 1):
                if k.to_i64(words[q]) < 0:
                    return 3
            ids, given = k.i32_pointer(args[7] + p * many * 4), pointer(args[8] + p * many * size)
            d_outputs, d_bias = args[12] + (p - begin) * many * stride, pointer(args[13] + (p - begin) * many * size)
            count = 0
            for j in range(many):
                target = k.to_i64(ids[j])
                if target < -1 or target >= args[19]:
                    return 2
                if target >= 0:
                    gather(rows + count * stride, args[1], target, d)
                    labels[count], shifts[count] = given[j], bias[target] - offset[target]
                    count += 1
                    found[count] = ids[j]
            found[0] = k.to_i32(count)
            if count == 0:
                continue
            at, contexts = (p - before - low) * stride, before + 1 + after
            x, dx = context + at, d_inputs + at
            if pooled:
                loss[p] = pooled_step(loops, x, dx, before, contexts, rows, count, labels, shifts, logits, mean, d_outputs,
                                      d_bias, stride, lr)
            else:
                loss[p] = step(loops, x, dx, before, contexts, rows, count, labels, shifts, losses, logits, d_outputs,
                               d_bias, stride, lr)
        return 0

    return tile_of


def _add(dtype: str, pooled: bool, biased: bool) -> Any:
    """`part_of(args, first, last, part, mask)` for kernels: the gradients of the step [first, last) added to the rows whose ids
    are `part` under the mask."""
    from graphnn.runtime import intrinsics as k

    pointer, size = k.POINTER[dtype], k.ITEMSIZE[dtype]

    @k.inline
    def add_row(table, row, d, source):
        x, y = pointer(table + row * d * size), pointer(source)
        for e in range(d):
            x[e] = x[e] + y[e]
            k.independent()

    @k.inline
    def add_times(table, row, d, source, factor):
        x, y = pointer(table + row * d * size), pointer(source)
        for e in range(d):
            x[e] = k.fmuladd(factor, y[e], x[e])
            k.independent()

    @k.inline
    def part_of(args, first, last, part, mask):
        words, bias = k.i32_pointer(args[4]), pointer(args[2])
        n, many, d, stride, window, each = args[17], args[20], args[21], args[22], args[23], args[24]
        for p in range(first, last):
            found = k.i32_pointer(args[14] + (p - first) * (many + 1) * 4)
            d_outputs, d_bias = args[12] + (p - first) * many * stride, pointer(args[13] + (p - first) * many * size)
            for j in range(k.to_i64(found[0])):
                target = k.to_i64(found[j + 1])
                if (target & mask) == part:
                    if pooled:
                        add_times(args[1], target, d, d_outputs, d_bias[j])
                    else:
                        add_row(args[1], target, d, d_outputs + j * stride)
                    if biased:
                        bias[target] = bias[target] + d_bias[j]
        start, d_inputs = first, args[11]
        while start < last:
            low, high = k.imax(start - window, 0), k.imin(k.imin(start + each, last) + window, n)
            for p in range(low, high):
                word = k.to_i64(words[p])
                if word >= 0 and (word & mask) == part:
                    add_row(args[0], word, d, d_inputs + (p - low) * stride)
            start += each
            d_inputs += (each + 2 * window) * stride
        return 0

    return part_of
