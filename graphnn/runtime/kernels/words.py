"""Windows of a text, and gradient steps on word vectors.

The first row checks all ids and windows, so that a run that fails leaves the tables as they were, and lists the targets of each
step by the part of the table that they are in. Then a step is two rows. One has a tile for every few positions: it reads the two
tables and writes factors and gradients to scratch. The other adds the gradients to the tables; a tile of it owns the rows whose
ids are equal modulo PARTS and takes their gradients in the order of the text, so that sums do not depend on threads.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.graph import Node
from graphnn.ir.ops.words import ContextWindows, WordVectorSteps
from graphnn.runtime.kernels import word_gradients
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Arg, Kernel, Row

TILE = 12                   # positions, at least; a step has at most TILES tiles
TILES = 16
PARTS = 8                   # a power of two
CHECKED = 1 << 10           # positions a tile, about
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
    if not n:
        return _copies(node, at)
    lanes, (tallest, _) = isa.lanes(dtype), isa.tile(dtype)
    panel = 2 * lanes * size
    stride = -(-max(d, 1) * size // panel) * panel       # of a row in scratch, in bytes: whole panels of register tiles
    chunk = min(op.chunk, n)
    each = -(-chunk // max(1, min(TILES, chunk // TILE)))                   # positions a tile
    tiles, chunks = -(-chunk // each), -(-n // chunk)
    parts = PARTS if tiles > 1 else 1
    # What a step leaves for its second half. Of each position: if pooled the mean and its gradient, else the gradients of its
    # targets and of the words of its window; of each target a factor: the gradient at its logit, times -lr.
    rows_left = chunk * (1 if op.pooled else k), chunk * (1 if op.pooled else 2 * window + 1)
    scratch = (at.scratch("gradients of outputs", max(1, rows_left[0] * stride)),
               at.scratch("gradients of inputs", rows_left[1] * stride),
               at.scratch("factors of targets", max(1, chunk * k * size)),
               at.scratch("targets of positions", chunk * (k + 1) * 4),
               at.scratch("targets by part", max(1, n * k * 4)), at.scratch("ends of parts", chunks * parts * 4))
    # A thread's scratch: loop block, labels, shifts, losses, logits, factors, addresses of rows; then, unless pooled, rows.
    most = max(k + 8, 2 * window + 1)
    own = 192 + (2 * (k + 8) + 16 + 8 * (k + 8) + most) * size + 8 * (k + 8 + 2 * window + 1)
    own += 0 if op.pooled else (k + 8 + each + 2 * window + 8) * stride
    variant = {"dtype": dtype, "lanes": lanes, "tallest": min(8, tallest), "registers": isa.registers, "pooled": op.pooled,
               "biased": op.biased, "whole": op.whole}

    def args(first: int, last: int) -> tuple[Arg, ...]:
        return (inputs, outputs, bias, offset, words, left, right, targets, labels, lr, loss, *scratch,
                first, last, n, v, c, k, d, stride, window, each, chunk, parts)

    checked = max(1, CHECKED // chunk) * chunk           # positions a tile: whole steps
    rows = [Row(Kernel.of(f"{_BUILDERS}:check"), (*args(0, n), checked), -(-n // checked)), *_copies(node, at)]
    if tiles == 1:                                       # nothing to share: one thread takes all steps, and none waits for it
        return [*rows, Row(Kernel.of(f"{_BUILDERS}:serial", **variant), args(0, n), thread_scratch=own)]
    for first in range(0, n, chunk):
        last = min(first + chunk, n)
        rows.append(Row(Kernel.of(f"{_BUILDERS}:gradients", **variant), args(first, last), -(-(last - first) // each), own))
        rows.append(Row(Kernel.of(f"{_BUILDERS}:add", dtype=dtype, lanes=lanes, pooled=op.pooled, biased=op.biased),
                        args(first, last), parts, own))
    return rows


def _copies(node: Node, at: Lowering) -> list[Row]:
    """The tables that are not made in the memory of the old ones."""
    rows: list[Row] = []
    for old, new in zip(node.inputs[:3], node.outputs[:3], strict=True):
        nbytes = old.dtype.itemsize
        for length in at.shape(old):
            nbytes *= length
        if nbytes and not at.same_buffer(old, new):
            rows.append(copy_row(at.address(old), at.address(new), nbytes))
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
    """Checks all ids and windows, and lists the targets of each step by part. One argument more: positions a tile."""
    from graphnn.runtime import intrinsics as k

    @k.inline
    def walk(args, first, last, listed, ends, listing):
        """Adds to `ends` how many targets of the step each part has; when `listing`, they are written there, too."""
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        many, mask = args[22], args[28] - 1
        for p in range(first, last):
            if k.to_i64(words[p]) < 0 or k.to_i64(left[p]) + k.to_i64(right[p]) == 0:
                continue
            ids, entry = k.i32_pointer(args[7] + p * many * 4), (p - first) * many
            for j in range(many):
                target = k.to_i64(ids[j])
                if target >= 0:
                    at = k.to_i64(ends[target & mask])
                    if listing:
                        listed[at] = k.to_i32(entry)
                    ends[target & mask] = k.to_i32(at + 1)
                    entry += 1

    def kernel(args, tile, scratch):
        words, left, right = k.i32_pointer(args[4]), k.i32_pointer(args[5]), k.i32_pointer(args[6])
        n, many, window, chunk, parts = args[19], args[22], args[25], args[27], args[28]
        begin = tile * args[29]
        end = k.imin(begin + args[29], n)
        for p in range(begin, end):
            word, before, after = k.to_i64(words[p]), k.to_i64(left[p]), k.to_i64(right[p])
            if word < -1 or word >= args[20]:
                return 1
            ids = k.i32_pointer(args[7] + p * many * 4)
            for j in range(many):
                target = k.to_i64(ids[j])
                if target < -1 or target >= args[21]:
                    return 2
            if before < 0 or after < 0 or before > k.imin(window, p) or after > k.imin(window, n - 1 - p):
                return 3
            if word >= 0 and before + after > 0:
                for q in range(p - before, p + after + 1):
                    if k.to_i64(words[q]) == -1:
                        return 3
        first = begin
        while first < end:
            last = k.imin(first + chunk, end)
            listed, ends = k.i32_pointer(args[15] + first * many * 4), k.i32_pointer(args[16] + k.udiv(first, chunk) * parts * 4)
            for part in range(parts):
                ends[part] = k.to_i32(0)
            walk(args, first, last, listed, ends, False)
            total = 0
            for part in range(parts):                    # from how many to where each part begins; listing goes on to its end
                count = k.to_i64(ends[part])
                ends[part] = k.to_i32(total)
                total += count
            walk(args, first, last, listed, ends, True)
            first = last
        return 0

    return kernel


def gradients(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool,
              whole: bool) -> Callable[..., int]:
    """What a tile's positions leave for `add`."""
    tile_of = word_gradients.gradients(dtype, lanes, tallest, registers, pooled, biased, whole)

    def kernel(args, tile, scratch):
        tile_of(args, args[17], args[18], tile, scratch)
        return 0

    return kernel


def add(dtype: str, lanes: int, pooled: bool, biased: bool) -> Callable[..., int]:
    """The gradients added to the rows of a part."""
    part_of = word_gradients.add(dtype, lanes, pooled, biased)

    def kernel(args, part, scratch):
        part_of(args, args[17], args[18], part, scratch)
        return 0

    return kernel


def serial(dtype: str, lanes: int, tallest: int, registers: int, pooled: bool, biased: bool, whole: bool) -> Callable[..., int]:
    """All steps, one after the other."""
    from graphnn.runtime import intrinsics as k

    tile_of = word_gradients.gradients(dtype, lanes, tallest, registers, pooled, biased, whole)
    part_of = word_gradients.add(dtype, lanes, pooled, biased)

    def kernel(args, tile, scratch):
        first = args[17]
        while first < args[18]:
            last = k.imin(first + args[27], args[18])
            tile_of(args, first, last, 0, scratch)
            part_of(args, first, last, 0, scratch)
            first = last
        return 0

    return kernel
