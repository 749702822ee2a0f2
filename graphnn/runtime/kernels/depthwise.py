"""Depthwise convolution and its gradients: each channel on its own, so vectors run along the channels.

As contractions these would fill one lane of a vector. A tile owns some lines of the result (for the weight gradient: a
chunk of lines of y, whose sums another row combines) and adds one tap of the kernel after the other to them.
"""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

# Argument slots of all three kernels. The image in and the one out are x and y forward, dy and dx for the input gradient;
# for the weight gradient both are read.
(
    SOURCE, WEIGHT, RESULT, EPILOGUE, EPILOGUE_ARGS, LINES, TILE, H, W, OH, OW, CHANNELS, KH, KW,
    STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, TOP, LEFT,
    SLOTS,
) = range(21)  # fmt: skip


def depthwise(dtype: str, part: str):
    """`part` is "forward", "input_grad" or "weight_grad"; then WEIGHT holds dy, SOURCE x and RESULT the chunks of dw."""
    from graphnn.runtime import intrinsics as k

    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]

    @k.inline
    def add_products(to, to_step, x, x_step, y, y_step, pixels, channels):
        """to[i * to_step + c] += x[i * x_step + c] * y[i * y_step + c], for all pixels i and channels c."""
        for i in range(pixels):
            t, p, q = pointer(to + i * to_step), pointer(x + i * x_step), pointer(y + i * y_step)
            for c in range(channels):
                t[c] = k.fmuladd(p[c], q[c], t[c])
                k.independent()

    @k.inline
    def first_column(args, shift):
        """The first column of y whose window does not lie left of x; `shift` is where the tap falls for column 0."""
        return 0 if shift >= 0 else k.udiv(args[STRIDE_W] - 1 - shift, args[STRIDE_W])

    @k.inline
    def end_column(args, shift):
        """One past the last column of y whose tap falls into x."""
        return 0 if args[W] - 1 < shift else k.imin(args[OW], k.udiv(args[W] - 1 - shift, args[STRIDE_W]) + 1)

    @k.inline
    def add_line(args, to, n, oh, kh, ih):
        """All taps of a line of the kernel, between line `ih` of x and line `oh` of y; `to` is where the result begins."""
        channels, pixel = args[CHANNELS], args[CHANNELS] * size
        x_line, y_line = (n * args[H] + ih) * args[W] * pixel, (n * args[OH] + oh) * args[OW] * pixel
        for kw in range(args[KW]):
            shift = kw * args[DILATION_W] - args[LEFT]
            low = first_column(args, shift)
            count = k.imax(0, end_column(args, shift) - low)
            step = args[STRIDE_W] * pixel
            x, y = x_line + (low * args[STRIDE_W] + shift) * pixel, y_line + low * pixel
            tap = (kh * args[KW] + kw) * pixel
            if part == "forward":
                add_products(to + y, pixel, args[SOURCE] + x, step, args[WEIGHT] + tap, 0, count, channels)
            elif part == "input_grad":
                add_products(to + x, step, args[SOURCE] + y, pixel, args[WEIGHT] + tap, 0, count, channels)
            else:
                add_products(to + tap, 0, args[SOURCE] + x, step, args[WEIGHT] + y, pixel, count, channels)

    def gather_lines(args, index, scratch):
        height, width = args[OH], args[OW]
        if part == "input_grad":
            height, width = args[H], args[W]
        first = index * args[TILE]
        lines = k.imin(args[LINES] - first, args[TILE])
        line_bytes = width * args[CHANNELS] * size
        k.memset0(args[RESULT] + first * line_bytes, lines * line_bytes)
        for line in range(first, first + lines):
            n, at = k.udiv(line, height), k.urem(line, height)
            for kh in range(args[KH]):
                if part == "forward":
                    ih = at * args[STRIDE_H] + kh * args[DILATION_H] - args[TOP]
                    if 0 <= ih < args[H]:
                        add_line(args, args[RESULT], n, at, kh, ih)
                else:
                    reach = at + args[TOP] - kh * args[DILATION_H]
                    if reach >= 0 and k.urem(reach, args[STRIDE_H]) == 0 and k.udiv(reach, args[STRIDE_H]) < args[OH]:
                        add_line(args, args[RESULT], n, k.udiv(reach, args[STRIDE_H]), kh, at)
        if args[EPILOGUE]:
            rows = lines * width
            return k.call_epilogue(args[EPILOGUE], args[EPILOGUE_ARGS], 0, first * width, rows, 0, args[CHANNELS])
        return 0

    def sum_lines(args, index, scratch):
        nbytes = args[KH] * args[KW] * args[CHANNELS] * size
        to, first = args[RESULT] + index * nbytes, index * args[TILE]
        k.memset0(to, nbytes)
        for line in range(first, k.imin(args[LINES], first + args[TILE])):
            n, oh = k.udiv(line, args[OH]), k.urem(line, args[OH])
            for kh in range(args[KH]):
                ih = oh * args[STRIDE_H] + kh * args[DILATION_H] - args[TOP]
                if 0 <= ih < args[H]:
                    add_line(args, to, n, oh, kh, ih)
        return 0

    return sum_lines if part == "weight_grad" else gather_lines
