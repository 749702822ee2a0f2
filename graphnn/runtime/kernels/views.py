"""Copies between strided views: where elements lie, the rows that copy them, and their kernels.

`View` says where elements lie: a size and a stride in elements for each dim. `copy_rows` copies one view to another of the
same sizes. Dims of size 1 go, neighbours that run on alike join, and one of a few kernels for elements of 1, 4 or 8 bytes
does the rest: runs (both contiguous), backward (the source reversed), steps (one element after the other), and blocks (a
transpose of 8 x 8 elements in registers). Nothing depends on the number of dims but a loop over them.
"""

# pyright: reportMissingParameterType=false, reportIndexIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.row import Address, Arg, Kernel, Row

TILE_BYTES = 32 << 10
BLOCK = 8
"""Rows and columns of the piece that is transposed in registers."""
_BLOCK_TILE = 64
"""Rows and columns of the blocks of one tile: both sides stay in the first-level cache."""
_HERE = "graphnn.runtime.kernels.views"
_WORD = {1: "bool", 4: "i32", 8: "i64"}


@dataclass(frozen=True)
class View:
    """Elements of an address at strides, in elements."""

    address: Address
    strides: tuple[int, ...]

    def shifted(self, elements: int, itemsize: int) -> View:
        return View(self.address + elements * itemsize, self.strides)


def contiguous(address: Address, shape: Sequence[int]) -> View:
    """A whole buffer in row-major order."""
    strides = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return View(address, tuple(strides))


def copy_rows(source: View, target: View, sizes: Sequence[int], itemsize: int) -> list[Row]:
    """The rows that copy `source` to `target`, views of these sizes. The target's last dim is its most contiguous."""
    if 0 in sizes:
        return []
    dims = _joined(sizes, source.strides, target.strides)
    if dims == [] or dims == [(dims[0][0], 1, 1)]:
        return [copy_row(source.address, target.address, prod(sizes) * itemsize)]
    *outer, (count, step, to_step) = dims
    if step == to_step == 1:
        return [_line_row("runs", source, target, outer, (count, 1, 1), itemsize)]
    across = next((i for i, dim in enumerate(outer) if dim[1] == 1), None)
    if to_step == 1 and across is not None and outer[across][0] >= BLOCK <= count:
        rows, _, to_row = outer.pop(across)
        return [_block_row(source, target, outer, (rows, count, step, to_row), itemsize)]
    if (step, to_step) == (-1, 1):
        return [_line_row("backward", source, target, outer, (count, -1, 1), itemsize)]
    return [_line_row("steps", source, target, outer, (count, step, to_step), itemsize)]


def _joined(sizes: Sequence[int], source: Sequence[int], target: Sequence[int]) -> list[tuple[int, int, int]]:
    """(size, stride of the source, stride of the target), neighbours joined where both run on."""
    dims: list[tuple[int, int, int]] = []
    for size, s, t in zip(sizes, source, target, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * s and dims[-1][2] == size * t:
            dims[-1] = (dims[-1][0] * size, s, t)
        else:
            dims.append((size, s, t))
    return dims


def _line_row(name: str, source: View, target: View, outer: Sequence[tuple[int, int, int]], line: tuple[int, int, int],
              itemsize: int) -> Row:  # fmt: skip
    """Lines of `line` (count, steps) for each index of the outer dims; a tile is several lines, or a part of one."""
    count, step, to_step = line
    lines, elements = prod(size for size, _, _ in outer), TILE_BYTES // itemsize
    parts = -(-count // elements) if count > elements else 1
    length = -(-count // parts)
    per = max(1, elements // length)
    args: tuple[Arg, ...] = (
        source.address, target.address, parts, length, per, lines, count, step, to_step, len(outer), *_words(outer),
    )  # fmt: skip
    return Row(Kernel.of(f"{_HERE}:{name}", itemsize=itemsize), args, -(-lines // per) * parts)


def _block_row(source: View, target: View, outer: Sequence[tuple[int, int, int]], block: tuple[int, int, int, int],
               itemsize: int) -> Row:  # fmt: skip
    """Transposes of rows x columns: columns are contiguous in the target, rows in the source."""
    rows, columns, step, to_row = block
    down, right = -(-rows // _BLOCK_TILE), -(-columns // _BLOCK_TILE)
    args: tuple[Arg, ...] = (
        source.address, target.address, down, right, rows, columns, step, to_row, _BLOCK_TILE, len(outer), *_words(outer),
    )  # fmt: skip
    tiles = prod(size for size, _, _ in outer) * down * right
    return Row(Kernel.of(f"{_HERE}:blocks", itemsize=itemsize), args, tiles, _BLOCK_TILE * _pitch(itemsize) * itemsize)


def _pitch(itemsize: int) -> int:
    """Elements from line to line of a staged tile: a cache line more than it needs, so that lines spread over the cache."""
    return _BLOCK_TILE + 64 // itemsize


def _words(outer: Sequence[tuple[int, int, int]]) -> list[int]:
    """The outer dims as arguments, the innermost first."""
    return [word for dim in reversed(outer) for word in dim]


def fill_rows(target: Address, elements: int, value: np.ndarray) -> list[Row]:
    """The row that writes one value to all elements of a buffer."""
    if not elements:
        return []
    size = value.dtype.itemsize
    bits = int(value.reshape(1).view({1: np.uint8, 4: np.int32, 8: np.int64}[size])[0])
    each = TILE_BYTES // size
    return [Row(Kernel.of(f"{_HERE}:fill", itemsize=size), (target, elements, each, bits), -(-elements // each))]


# ---------------------------------------------------------------------------------------------- kernels

DIMS = 10
"""The first argument of the outer dims (all kernels here): size, stride of the source, of the target; innermost first."""


def _offsets() -> Callable[..., tuple[int, int]]:
    """`offsets(args, index)`: where the source and the target of this index of the outer dims begin, in elements."""
    from graphnn.runtime import intrinsics as k

    @k.inline
    def offsets(args, index):
        source, target = 0, 0
        for d in range(args[DIMS - 1]):
            rest = k.udiv(index, args[DIMS + 3 * d])
            i = index - rest * args[DIMS + 3 * d]
            source += i * args[DIMS + 3 * d + 1]
            target += i * args[DIMS + 3 * d + 2]
            index = rest
        return source, target

    return offsets


def runs(itemsize: int) -> Callable[..., int]:
    """Lines that are contiguous on both sides. Arguments: see `_line_row`."""
    return _lines(itemsize, "runs")


def backward(itemsize: int) -> Callable[..., int]:
    """Lines that are contiguous, the source's from its end."""
    return _lines(itemsize, "backward")


def steps(itemsize: int) -> Callable[..., int]:
    """Lines at any stride, negative ones too."""
    return _lines(itemsize, "steps")


def _lines(itemsize: int, kind: str) -> Callable[..., int]:
    from graphnn.runtime import intrinsics as k

    offsets = _offsets()
    pointer = k.POINTER[_WORD[itemsize]]

    def kernel(args, tile, scratch):
        group = k.udiv(tile, args[2])
        start = (tile - group * args[2]) * args[3]
        count = k.imin(args[3], args[6] - start)
        first = group * args[4]
        step, to_step = args[7], args[8]
        for t in range(k.imin(args[4], args[5] - first)):
            source, target = offsets(args, first + t)
            x, y = args[0] + itemsize * source, args[1] + itemsize * target
            if kind == "runs":
                a, b = pointer(x + itemsize * start), pointer(y + itemsize * start)
                for i in range(count):
                    b[i] = a[i]
                    k.independent()
            elif kind == "backward":
                a, b = pointer(x - itemsize * start), pointer(y + itemsize * start)
                for i in range(count):
                    b[i] = a[-i]
                    k.independent()
            else:
                a, b = pointer(x + itemsize * start * step), pointer(y + itemsize * start * to_step)
                for i in range(count):
                    b[i * to_step] = a[i * step]
                    k.independent()
        return 0

    return kernel


def blocks(itemsize: int) -> Callable[..., int]:
    """Transposes by blocks of 8 x 8 elements. Arguments: see `_block_row`."""
    from graphnn.runtime import intrinsics as k

    offsets = _offsets()
    pointer = k.POINTER[_WORD[itemsize]]
    block, pitch = _transpose_block(), _pitch(itemsize)

    def kernel(args, tile, scratch):
        down, right, side = args[2], args[3], args[8]
        rest = k.udiv(tile, right)
        column = (tile - rest * right) * side
        index = k.udiv(rest, down)
        row = (rest - index * down) * side
        rows, columns = k.imin(side, args[4] - row), k.imin(side, args[5] - column)
        step, to_row = args[6], args[7]
        source, target = offsets(args, index)
        x = pointer(args[0] + itemsize * (source + column * step + row))
        y = pointer(args[1] + itemsize * (target + row * to_row + column))
        # Lines of the source are read whole into the scratch, lines of the target written whole from there: at strides of
        # 4096 bytes the first-level cache holds no more than a few lines of each.
        staged = pointer(scratch)
        for j in range(columns):
            a, b = pointer(k.address_of(x, j * step)), pointer(k.address_of(staged, j * pitch))
            for i in range(rows):
                b[i] = a[i]
                k.independent()
        whole_rows, whole_columns = rows & -8, columns & -8
        for i in range(0, whole_rows, 8):
            for j in range(0, whole_columns, 8):
                block(staged, j * pitch + i, pitch, y, i * to_row + j, to_row)
        for i in range(rows):
            for j in range(whole_columns if i < whole_rows else 0, columns):
                y[i * to_row + j] = staged[j * pitch + i]
        return 0

    return kernel


def _transpose_block() -> Callable[..., None]:
    """`block(x, at, step, y, to, to_step)`: y[to + i * to_step + j] = x[at + j * step + i] for i, j below 8."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    from graphnn.runtime import intrinsics as k

    @intrinsic
    def block(context, x, at, step, y, to, to_step):
        element = k.LLVM_TYPE[x.dtype]
        vector = ir.VectorType(element, BLOCK)

        def shuffle(b, left, right, lanes):
            return b.shuffle_vector(left, right, ir.Constant(ir.VectorType(k.I32, BLOCK), lanes))

        def generate(context, b, signature, values):
            x, at, step, y, to, to_step = values
            align = element.width // 8

            def place(base, first, stride, i):
                index = b.add(first, b.mul(stride, k.I64(i)))
                return b.bitcast(b.gep(base, [index]), vector.as_pointer())

            lines = [b.load(place(x, at, step, i), align=align) for i in range(BLOCK)]
            # Swap the off-diagonal quarters of ever larger blocks: 1, 2, then 4 elements wide.
            for width in (1, 2, 4):
                for i in range(BLOCK):
                    if not i & width:
                        low, high = lines[i], lines[i + width]
                        even = [j if not j & width else j - width + BLOCK for j in range(BLOCK)]
                        odd = [j + width if not j & width else j + BLOCK for j in range(BLOCK)]
                        lines[i], lines[i + width] = shuffle(b, low, high, even), shuffle(b, low, high, odd)
            for i, line in enumerate(lines):
                b.store(line, place(y, to, to_step, i), align=align)
            return context.get_dummy_value()

        return types.void(x, types.int64, types.int64, y, types.int64, types.int64), generate

    return block


def fill(itemsize: int) -> Callable[..., int]:
    """args: target, elements, elements a tile, the element's bits."""
    from graphnn.runtime import intrinsics as k

    pointer = k.POINTER[_WORD[itemsize]]
    narrow = k.CAST[_WORD[itemsize]] if itemsize > 1 else k.to_i64

    def kernel(args, tile, scratch):
        start = tile * args[2]
        y, value = pointer(args[0] + itemsize * start), narrow(args[3])
        for i in range(k.imin(args[2], args[1] - start)):
            y[i] = value
            k.independent()
        return 0

    return kernel
