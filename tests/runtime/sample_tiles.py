"""Kernels that run one piece of the contraction kernel, for its tests."""


def one_tile(dtype: str, lanes: int, tallest: int, registers: int, masked: bool):
    """Arguments: height, width, A, B, C, columns in the last vector, accumulate, then the loop block."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime.contraction import LOOP_SLOTS, TileSet, tile_call
    from graphnn.runtime.kernels.register_tiles import heights

    tile = tile_call(TileSet(dtype, lanes, heights(tallest), registers, masked))

    def kernel(args, index, scratch):
        block = k.slots(scratch)
        for i in range(LOOP_SLOTS):
            block[i] = args[7 + i]
        tile(args[0], args[1], args[2], args[3], args[4], args[5], args[6], scratch)
        return 0

    return kernel


def one_transpose(dtype: str, lanes: int):
    """Arguments: to, its stride, from, its stride; strides in bytes."""
    from graphnn.runtime.square_transpose import transpose_call

    transpose = transpose_call(dtype, lanes)

    def kernel(args, index, scratch):
        transpose(args[0], args[1], args[2], args[3])
        return 0

    return kernel


def one_row_sum(dtype: str, lanes: int):
    """Arguments: to, factors, rows, count, n, whether to add."""
    from graphnn.runtime.row_sums import row_sums_call

    sums = row_sums_call(dtype, lanes)

    def kernel(args, index, scratch):
        sums(args[0], args[1], args[2], args[3], args[4], args[5])
        return 0

    return kernel


def row_products(dtype: str, lanes: int):
    """Arguments: x, rows, n, to."""
    from graphnn.runtime.row_sums import row_dots_call

    dots = row_dots_call(dtype, lanes)

    def kernel(args, index, scratch):
        dots(args[0], args[1], args[2], args[3])
        return 0

    return kernel
