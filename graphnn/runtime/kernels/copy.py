"""Copies of whole buffers: results that could not be made in place."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.runtime.row import Address, Kernel, Row

TILE_BYTES = 1 << 17
_COPY = Kernel.of("graphnn.runtime.kernels.copy:copy_bytes")


def copy_row(source: Address, target: Address, nbytes: int) -> Row:
    """The row that copies `nbytes` from one buffer to another."""
    return Row(_COPY, (source, target, nbytes, TILE_BYTES), tiles=-(-nbytes // TILE_BYTES))


def copy_bytes() -> Callable[[object, int, int], int]:
    """args: source, target, bytes, bytes a tile."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        start = tile * args[3]
        k.memcpy(args[1] + start, args[0] + start, k.imin(args[3], args[2] - start))
        return 0

    return kernel
