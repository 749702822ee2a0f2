"""Kernels on matrices that stand beside the contraction: dot products, packing, transposes, sums of partial sums, epilogues."""

# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations


def dots(dtype: str, lanes: int, registers: int):
    """C[row, col] = dot product of a row of A and a row of B, both along memory: few rows of A, no packing of B.

    Arguments: A, B, C, epilogue, its arguments, rows, cols, depth, strides in bytes of the rows of A, B and C, cols of a
    tile, then batches and the batch's strides in bytes of A, B and C.
    """
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.dot_products import dots_call, dots_width

    dot = dots_call(dtype, lanes, registers)
    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]
    width1, width2, width4 = (dots_width(height, registers) for height in (1, 2, 4))

    def kernel(args, index, scratch):
        rows, tiles = args[5], k.udiv(args[6] + args[11] - 1, args[11])
        batch, first = k.udiv32(index, tiles), k.urem32(index, tiles) * args[11]
        cols = k.imin(args[6] - first, args[11])
        b = args[1] + batch * args[14] + first * args[9]
        found = pointer(scratch)
        row = 0
        while row < rows:
            height, width = 4, width4
            if rows - row < 2:
                height, width = 1, width1
            elif rows - row < 4:
                height, width = 2, width2
            a = args[0] + batch * args[13] + row * args[8]
            c = args[2] + batch * args[15] + row * args[10] + first * size
            col = 0
            while col < cols:
                # The last tile goes back over columns that are done; where all columns are too few, one row at a time.
                col = k.imax(0, k.imin(col, cols - width))
                step = k.imin(width, cols)
                if step == width:
                    dot(height, a, args[8], b + col * args[9], args[9], args[7], scratch)
                    for i in range(height):
                        y = pointer(c + i * args[10] + col * size)
                        for j in range(width):
                            y[j] = found[i * width + j]
                else:
                    # B is repeated: with a stride of 0 every row of B is the same one.
                    for j in range(step):
                        dot(height, a, args[8], b + j * args[9], 0, args[7], scratch)
                        for i in range(height):
                            pointer(c + i * args[10] + j * size)[0] = found[i * width]
                col += step
            row += height
        if args[3]:
            return k.call_epilogue(args[3], args[4], 0, batch * rows, rows, first, cols)
        return 0

    return kernel


def transpose(dtype: str, lanes: int):
    """C[row, col] = T[col, row], for few columns, then the epilogue.

    Arguments: T, C, epilogue, its arguments, rows, cols, row stride of C, rows in a tile.
    """
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.square_transpose import transpose_call

    square = transpose_call(dtype, lanes)
    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]

    def kernel(args, index, scratch):
        first, cols, stride = index * args[7], args[5], args[6]
        rows = k.imin(args[4] - first, args[7])
        column = args[4] * size
        source, to = args[0] + first * size, args[1] + first * stride * size
        whole = cols - k.urem(cols, lanes)
        done = rows - k.urem(rows, lanes)
        for i in range(0, done, lanes):
            for j in range(0, whole, lanes):
                square(to + (i * stride + j) * size, stride * size, source + j * column + i * size, column)
        for i in range(rows):
            c = pointer(to + i * stride * size)
            for j in range(whole if i < done else 0, cols):
                c[j] = pointer(source + j * column)[i]
        if args[2]:
            return k.call_epilogue(args[2], args[3], 0, first, rows, 0, cols)
        return 0

    return kernel


def pack(dtype: str, lanes: int):
    """Panels of a matrix that is used many times: [batch, col / panel, k, panel], zero beyond the last column.

    Arguments: from, to, k, cols, stride of k, stride of cols, stride of the batch. A tile is a panel.
    """
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.square_transpose import transpose_call

    panel = 2 * lanes
    square = transpose_call(dtype, lanes)
    size, pointer, zero = k.ITEMSIZE[dtype], k.POINTER[dtype], k.SCALAR[dtype](0)

    def kernel(args, index, scratch):
        depth, cols, k_step, col_step = args[2], args[3], args[4], args[5]
        panels = k.udiv(cols + (panel - 1), panel)
        batch, place = k.udiv32(index, panels), k.urem32(index, panels)
        source = args[0] + (batch * args[6] + place * panel * col_step) * size
        to = args[1] + index * depth * panel * size
        valid = k.imin(cols - place * panel, panel)
        whole, done = 0, 0
        if col_step == 1:
            for r in range(depth):
                k.memcpy(to + r * panel * size, source + r * k_step * size, valid * size)
            whole, done = valid, depth
        elif k_step == 1:
            whole, done = valid - k.urem(valid, lanes), depth - k.urem(depth, lanes)
            for r in range(0, done, lanes):
                for j in range(0, whole, lanes):
                    square(to + (r * panel + j) * size, panel * size, source + (j * col_step + r) * size, col_step * size)
        for r in range(depth):
            x, y = pointer(to + r * panel * size), pointer(source + r * k_step * size)
            for j in range(whole if r < done else 0, valid):
                x[j] = y[j * col_step]
            for j in range(valid, panel):
                x[j] = zero
        return 0

    return kernel


def combine(dtype: str):
    """C = the sum of the chunks of partial sums, first to last, then the epilogue.

    Arguments: partial sums, C, epilogue, its arguments, chunks, elements in a chunk, rows, cols, rows in a tile.
    """
    from graphnn.runtime import intrinsics as k

    size, pointer = k.ITEMSIZE[dtype], k.POINTER[dtype]

    def kernel(args, index, scratch):
        row, cols = index * args[8], args[7]
        rows = k.imin(args[6] - row, args[8])
        n = rows * cols
        c = pointer(args[1] + row * cols * size)
        p = pointer(args[0] + row * cols * size)
        for i in range(n):
            c[i] = p[i]
            k.independent()
        for chunk in range(1, args[4]):
            p = pointer(args[0] + (chunk * args[5] + row * cols) * size)
            for i in range(n):
                c[i] = c[i] + p[i]
                k.independent()
        if args[2]:
            return k.call_epilogue(args[2], args[3], 0, row, rows, 0, cols)
        return 0

    return kernel


def apply_epilogue():
    """Run an epilogue over rows that another kernel has finished.

    Arguments: epilogue, its arguments, rows, cols, rows in a tile.
    """
    from graphnn.runtime import intrinsics as k

    def kernel(args, index, scratch):
        row = index * args[4]
        return k.call_epilogue(args[0], args[1], 0, row, k.imin(args[2] - row, args[4]), 0, args[3])

    return kernel
