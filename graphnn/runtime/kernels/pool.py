"""Pooling: maximum and mean of windows, and their gradients. Channels are the vector axis.

Forward kernels give tiles of output rows. Gradients give tiles of bands of input rows: a tile looks at every window that touches
its band and writes inside the band alone, so that tiles are disjoint although windows may overlap. A window that lies within
the image goes through a loop with its taps unrolled (2 x 2 and 3 x 3); others through loops over the taps that exist.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.dims import numbers
from graphnn.ir.graph import Node
from graphnn.ir.ops import pool
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Kernel, Row

TILE_BYTES = 1 << 15
BAND_BYTES = 1 << 17        # a window across two bands is looked at twice: fewer, larger tiles
UNROLLED = ((2, 2), (3, 3))


def _kernel(function: str, kernel: tuple[int, int], dtype: str, **params: bool) -> Kernel:
    kh, kw = kernel if kernel in UNROLLED else (0, 0)
    return Kernel(f"graphnn.runtime.kernels.pool:{function}", (("dtype", dtype), ("kh", kh), ("kw", kw), *params.items()))


def _geometry(op: pool.MaxPool2D | pool.MaxPool2DGrad | pool.MaxPool2DPick | pool.AvgPool2D | pool.AvgPool2DGrad,
              image: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...]:
    """h, w, c, oh, ow, kh, kw, stride h, stride w, top, left: the arguments that all kernels share."""
    top, _, left, _ = numbers(op.padding)
    return (*image[1:], *out[1:3], *op.kernel, *op.stride, top, left)


def _by_output_rows(kernel: Kernel, args: tuple, geometry: tuple[int, ...], out: tuple[int, ...], itemsize: int,
                    thread_scratch: int = 0) -> list[Row]:
    rows = out[0] * out[1]
    if 0 in out:
        return []
    each = max(1, TILE_BYTES // (out[2] * out[3] * itemsize))
    return [Row(kernel, (*args, *geometry, rows, each), -(-rows // each), thread_scratch)]


def _by_input_bands(kernel: Kernel, args: tuple, geometry: tuple[int, ...], image: tuple[int, ...], itemsize: int,
                    thread_scratch: int = 0) -> list[Row]:
    """Bands begin where a window does, so that windows that do not overlap fall into one band each."""
    if 0 in image:
        return []
    n, h, w, c = image
    stride, top = geometry[7], geometry[9]
    each = stride * max(1, BAND_BYTES // (stride * w * c * itemsize))
    bands = -(-(h + top) // each)
    several = max(1, TILE_BYTES // (h * w * c * itemsize)) if bands == 1 else 1
    return [Row(kernel, (*args, *geometry, bands, each, n * bands, several), -(-n * bands // several), thread_scratch)]


@lowers(pool.MaxPool2D)
def max_pool_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x,), y = at.op, node.inputs, node.output
    assert isinstance(op, pool.MaxPool2D)
    kernel = _kernel("forward", op.kernel, str(x.dtype), mean=False)
    geometry = _geometry(op, at.shape(x), at.shape(y))
    return _by_output_rows(kernel, (at.address(x), at.address(y), 0), geometry, at.shape(y), x.dtype.itemsize)


@lowers(pool.AvgPool2D)
def avg_pool_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x,), y = at.op, node.inputs, node.output
    assert isinstance(op, pool.AvgPool2D)
    kernel = _kernel("forward", op.kernel, str(x.dtype), mean=True)
    geometry = _geometry(op, at.shape(x), at.shape(y))
    args = (at.address(x), at.address(y), int(op.count_include_pad))
    return _by_output_rows(kernel, args, geometry, at.shape(y), x.dtype.itemsize)


@lowers(pool.MaxPool2DPick)
def pick_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x, v), y = at.op, node.inputs, node.output
    assert isinstance(op, pool.MaxPool2DPick)
    kernel = _kernel("pick", op.kernel, str(x.dtype))
    geometry = _geometry(op, at.shape(x), at.shape(y))
    args = (at.address(x), at.address(v), at.address(y))
    return _by_output_rows(kernel, args, geometry, at.shape(y), x.dtype.itemsize, at.shape(x)[3] * x.dtype.itemsize)


@lowers(pool.MaxPool2DGrad)
def max_pool_grad_rows(node: Node, at: Lowering) -> list[Row]:
    op, (x, dy), dx = at.op, node.inputs, node.output
    assert isinstance(op, pool.MaxPool2DGrad)
    kernel = _kernel("max_grad", op.kernel, str(x.dtype))
    geometry = _geometry(op, at.shape(x), at.shape(dy))
    args = (at.address(x), at.address(dy), at.address(dx))
    channels = -(-at.shape(x)[3] // 16) * 16
    return _by_input_bands(kernel, args, geometry, at.shape(x), x.dtype.itemsize, channels * (x.dtype.itemsize + 4))


@lowers(pool.AvgPool2DGrad)
def avg_pool_grad_rows(node: Node, at: Lowering) -> list[Row]:
    op, (dy,), dx = at.op, node.inputs, node.output
    assert isinstance(op, pool.AvgPool2DGrad)
    kernel = Kernel.of("graphnn.runtime.kernels.pool:mean_grad", dtype=str(dy.dtype))
    geometry = _geometry(op, at.shape(dx), at.shape(dy))
    args = (at.address(dy), at.address(dx), int(op.count_include_pad))
    return _by_input_bands(kernel, args, geometry, at.shape(dx), dy.dtype.itemsize)


# ------------------------------------------------------------------------------------------------ kernels


def forward(dtype: str, mean: bool, kh: int, kw: int) -> Callable[..., int]:
    """args: x, y, padding counts; h, w, c, oh, ow, kh, kw, sh, sw, top, left; rows of all images, rows a tile.

    `kh` and `kw` as parameters unroll the taps of windows that lie within the image; 0: none are.
    """
    from graphnn.runtime import intrinsics as k

    pointer, size, to_dtype = k.POINTER[dtype], k.ITEMSIZE[dtype], k.CAST[dtype]

    @k.inline
    def join(a, b):
        return a + b if mean else k.maximum(a, b)

    def kernel(args, tile, scratch):
        x, y, counted = args[0], args[1], args[2]
        h, w, c, oh, ow = args[3], args[4], args[5], args[6], args[7]
        full_h, full_w, sh, sw, top, left = args[8], args[9], args[10], args[11], args[12], args[13]
        first = tile * args[15]
        for row in range(first, k.imin(first + args[15], args[14])):
            n = k.udiv(row, oh)
            r0 = (row - n * oh) * sh - top
            i0, i1 = k.imax(0, k.ineg(r0)), k.imin(full_h, h - r0)
            for q in range(ow):
                s0 = q * sw - left
                j0, j1 = k.imax(0, k.ineg(s0)), k.imin(full_w, w - s0)
                corner = x + ((n * h + r0) * w + s0) * c * size
                target = pointer(y + (row * ow + q) * c * size)
                count = (i1 - i0) * (j1 - j0)
                if kh > 0 and count == kh * kw:
                    source, line = pointer(corner), w * c
                    for e in range(c):
                        best = source[e]
                        for t in range(1, kh * kw):
                            best = join(best, source[t // kw * line + t % kw * c + e])
                        target[e] = best
                        k.independent()
                else:
                    source = pointer(corner + (i0 * w + j0) * c * size)
                    for e in range(c):
                        target[e] = source[e]
                        k.independent()
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            if i > i0 or j > j0:
                                source = pointer(corner + (i * w + j) * c * size)
                                for e in range(c):
                                    target[e] = join(target[e], source[e])
                                    k.independent()
                if mean:
                    if counted != 0:
                        count = full_h * full_w
                    divisor = to_dtype(count)
                    for e in range(c):
                        target[e] = target[e] / divisor
                        k.independent()
        return 0

    return kernel


def pick(dtype: str, kh: int, kw: int) -> Callable[..., int]:
    """args: x, v, y; then as `forward`. Scratch: the best of each channel."""
    from graphnn.runtime import intrinsics as k

    pointer, size = k.POINTER[dtype], k.ITEMSIZE[dtype]

    @k.inline
    def better(a, best):
        # Without short cuts, which would be branches: a is larger, or a NaN and best is none.
        return (not a <= best) & (best == best)

    def kernel(args, tile, scratch):
        x, v, y = args[0], args[1], args[2]
        h, w, c, oh, ow = args[3], args[4], args[5], args[6], args[7]
        full_h, full_w, sh, sw, top, left = args[8], args[9], args[10], args[11], args[12], args[13]
        first = tile * args[15]
        best = pointer(scratch)
        for row in range(first, k.imin(first + args[15], args[14])):
            n = k.udiv(row, oh)
            r0 = (row - n * oh) * sh - top
            i0, i1 = k.imax(0, k.ineg(r0)), k.imin(full_h, h - r0)
            for q in range(ow):
                s0 = q * sw - left
                j0, j1 = k.imax(0, k.ineg(s0)), k.imin(full_w, w - s0)
                corner = ((n * h + r0) * w + s0) * c * size
                target = pointer(y + (row * ow + q) * c * size)
                if kh > 0 and (i1 - i0) * (j1 - j0) == kh * kw:
                    source, values, line = pointer(x + corner), pointer(v + corner), w * c
                    for e in range(c):
                        top_value, picked = source[e], values[e]
                        for t in range(1, kh * kw):
                            a = source[t // kw * line + t % kw * c + e]
                            wins = better(a, top_value)
                            top_value = k.select(wins, a, top_value)
                            picked = k.select(wins, values[t // kw * line + t % kw * c + e], picked)
                        target[e] = picked
                        k.independent()
                else:
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            place = corner + (i * w + j) * c * size
                            source, values = pointer(x + place), pointer(v + place)
                            if i == i0 and j == j0:
                                for e in range(c):
                                    best[e] = source[e]
                                    target[e] = values[e]
                                    k.independent()
                            else:
                                for e in range(c):
                                    a, b = source[e], best[e]
                                    wins = better(a, b)
                                    best[e] = k.select(wins, a, b)
                                    target[e] = k.select(wins, values[e], target[e])
                                    k.independent()
        return 0

    return kernel


def max_grad(dtype: str, kh: int, kw: int) -> Callable[..., int]:
    """args: x, dy, dx; h, w, c, oh, ow, kh, kw, sh, sw, top, left; bands of an image, padded rows a band, bands, bands a tile.

    Scratch: the best of each channel and the number of its tap.
    """
    from graphnn.runtime import intrinsics as k

    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]

    @k.inline
    def better(a, best):
        # Without short cuts, which would be branches: a is larger, or a NaN and best is none.
        return (not a <= best) & (best == best)

    @k.inline
    def band(args, number_of, scratch):
        x, dy, dx = args[0], args[1], args[2]
        h, w, c, oh, ow = args[3], args[4], args[5], args[6], args[7]
        full_h, full_w, sh, sw, top, left = args[8], args[9], args[10], args[11], args[12], args[13]
        n = k.udiv(number_of, args[14])
        begin = (number_of - n * args[14]) * args[15]
        stop = begin + args[15]
        low, high = k.imax(0, begin - top), k.imin(h, stop - top)          # rows of dx that are this tile's
        if high <= low:
            return
        k.memset0(dx + (n * h + low) * w * c * size, (high - low) * w * c * size)
        best, which = pointer(scratch), k.i32_pointer(scratch + ((c + 15) & -16) * size)
        p0 = k.imax(0, begin - full_h + sh) // sh
        p1 = k.imin(oh, (stop + sh - 1) // sh)
        for p in range(p0, p1):
            r0 = p * sh - top
            i0, i1 = k.imax(0, k.ineg(r0)), k.imin(full_h, h - r0)
            m0, m1 = k.imax(i0, low - r0), k.imin(i1, high - r0)            # taps that write
            for q in range(ow):
                s0 = q * sw - left
                j0, j1 = k.imax(0, k.ineg(s0)), k.imin(full_w, w - s0)
                corner = ((n * h + r0) * w + s0) * c * size
                given = pointer(dy + ((n * oh + p) * ow + q) * c * size)
                if kh > 0 and (i1 - i0) * (j1 - j0) == kh * kw:
                    source, line = pointer(x + corner), w * c
                    for e in range(c):
                        top_value, number = source[e], k.to_i32(0)
                        for t in range(1, kh * kw):
                            a = source[t // kw * line + t % kw * c + e]
                            wins = better(a, top_value)
                            top_value = k.select(wins, a, top_value)
                            number = k.select(wins, k.to_i32(t), number)
                        which[e] = number
                        k.independent()
                    for i in range(m0, m1):
                        target, tap = pointer(dx + corner + i * w * c * size), i * kw
                        for e in range(c):
                            d, number = given[e], which[e]
                            for j in range(kw):
                                wins = number == k.to_i32(tap + j)
                                target[j * c + e] = target[j * c + e] + k.select(wins, d, scalar(0.0))
                            k.independent()
                else:
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            source, tap = pointer(x + corner + (i * w + j) * c * size), k.to_i32(i * full_w + j)
                            if i == i0 and j == j0:
                                for e in range(c):
                                    best[e] = source[e]
                                    which[e] = tap
                                    k.independent()
                            else:
                                for e in range(c):
                                    a, b = source[e], best[e]
                                    wins = better(a, b)
                                    best[e] = k.select(wins, a, b)
                                    which[e] = k.select(wins, tap, which[e])
                                    k.independent()
                    for i in range(m0, m1):
                        for j in range(j0, j1):
                            target, tap = pointer(dx + corner + (i * w + j) * c * size), k.to_i32(i * full_w + j)
                            for e in range(c):
                                target[e] = target[e] + k.select(which[e] == tap, given[e], scalar(0.0))
                                k.independent()

    def kernel(args, tile, scratch):
        for number in range(tile * args[17], k.imin(args[16], (tile + 1) * args[17])):
            band(args, number, scratch)
        return 0

    return kernel


def mean_grad(dtype: str) -> Callable[..., int]:
    """args: dy, dx, padding counts; then as `max_grad`."""
    from graphnn.runtime import intrinsics as k

    pointer, size, to_dtype = k.POINTER[dtype], k.ITEMSIZE[dtype], k.CAST[dtype]

    @k.inline
    def band(args, number_of):
        dy, dx, counted = args[0], args[1], args[2]
        h, w, c, oh, ow = args[3], args[4], args[5], args[6], args[7]
        full_h, full_w, sh, sw, top, left = args[8], args[9], args[10], args[11], args[12], args[13]
        n = k.udiv(number_of, args[14])
        begin = (number_of - n * args[14]) * args[15]
        low, high = k.imax(0, begin - top), k.imin(h, begin + args[15] - top)
        for r in range(low, high):
            p0, p1 = k.imax(0, r + top - full_h + sh) // sh, k.imin(oh, (r + top) // sh + 1)
            for s in range(w):
                q0, q1 = k.imax(0, s + left - full_w + sw) // sw, k.imin(ow, (s + left) // sw + 1)
                target = pointer(dx + ((n * h + r) * w + s) * c * size)
                if p0 >= p1 or q0 >= q1:
                    k.memset0(dx + ((n * h + r) * w + s) * c * size, c * size)
                # From the last window to the first, that is by ascending taps: the order of the meaning.
                for back in range(p1 - p0):
                    p = p1 - 1 - back
                    tall = k.imin(full_h, h + top - p * sh) - k.imax(0, top - p * sh)
                    for left_over in range(q1 - q0):
                        q = q1 - 1 - left_over
                        wide = k.imin(full_w, w + left - q * sw) - k.imax(0, left - q * sw)
                        count = full_h * full_w if counted != 0 else tall * wide
                        divisor = to_dtype(count)
                        given = pointer(dy + ((n * oh + p) * ow + q) * c * size)
                        if back == 0 and left_over == 0:
                            for e in range(c):
                                target[e] = given[e] / divisor
                                k.independent()
                        else:
                            for e in range(c):
                                target[e] = target[e] + given[e] / divisor
                                k.independent()

    def kernel(args, tile, scratch):
        for number in range(tile * args[17], k.imin(args[16], (tile + 1) * args[17])):
            band(args, number)
        return 0

    return kernel
