"""Convolution of images and its two gradients: sizes -> rows of the contraction kernel, without an im2col buffer.

Images are [n, h, w, channel], weights [kh, kw, in channel / groups, out channel]. All three are contractions that differ
in what slides over what:

    forward          y[n, oh, ow, co]    rows = ow, summed over (kh, kw, ci)
    input gradient   dx[n, ih, iw, ci]   rows = iw of one phase of the stride, summed over the (kh, kw) of that phase and co
    weight gradient  dw[kh, kw, ci, co]  rows = (kw, ci), summed over (n, oh, ow)
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernels import few_channels, few_channels_grad, many_images
from graphnn.runtime.kernels.matmul import Matrix, matmul_rows
from graphnn.runtime.kernels.tiling import (
    ITEMSIZE,
    Boxes,
    Contraction,
    Epilogue,
    Window,
    ceildiv,
    combine_row,
    contract_row,
    epilogue_args,
    epilogue_row,
    round_up,
)
from graphnn.runtime.row import Address, Kernel, Row, Scratch

_TILE_FLOPS = 2_000_000
_TILES = 64
# Half of a usual second-level cache for what a tile packs and stages together.
_PACKED_BYTES = 320 << 10
_STAGED_BYTES = 256 << 10


@dataclass(frozen=True)
class Convolution:
    """The sizes of a convolution. `padding` is (top, bottom, left, right); a dilation of 1 means none."""

    n: int
    h: int
    w: int
    cin: int
    kh: int
    kw: int
    cout: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def oh(self) -> int:
        return max(0, (self.h + self.padding[0] + self.padding[1] - self.dilation[0] * (self.kh - 1) - 1) // self.stride[0] + 1)

    @property
    def ow(self) -> int:
        return max(0, (self.w + self.padding[2] + self.padding[3] - self.dilation[1] * (self.kw - 1) - 1) // self.stride[1] + 1)

    @property
    def cin_g(self) -> int:
        return self.cin // self.groups

    @property
    def cout_g(self) -> int:
        return self.cout // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Each channel on its own: a contraction would leave most lanes of a vector empty."""
        return self.cin_g == 1 == self.cout_g and self.groups > 1

    @property
    def is_matmul(self) -> bool:
        """A 1 x 1 convolution without stride or padding is a matrix product over all pixels."""
        return (self.kh, self.kw, self.groups) == (1, 1, 1) and self.stride == (1, 1) and not any(self.padding)


def conv2d_rows(
    dtype: str, isa: InstructionSet, v: Convolution, x: Address, w: Address, y: Address, *,
    epilogue: Epilogue | None = None, owner: Hashable = None,
) -> list[Row]:  # fmt: skip
    """The rows of y = x * w. The epilogue's rows are the flattened (n, oh, ow), its columns the output channels."""
    if 0 in (v.n, v.oh, v.ow, v.cout):
        return []
    if v.is_matmul:
        pixels = v.n * v.h * v.w
        a, b, c = Matrix(x, v.cin, 1), Matrix(w, v.cout, 1), Matrix(y, v.cout, 1)
        return matmul_rows(dtype, isa, (pixels, v.cin, v.cout), a, b, c, epilogue=epilogue, owner=owner)
    if v.is_depthwise:
        return [_depthwise_row(dtype, v, "forward", x, w, y, epilogue)]
    window = Window(
        (v.w * v.cin, v.cin, 1),
        segment=(v.stride[0], 0, 0), row=(0, v.stride[1], 0),
        k=((v.dilation[0], 0, 0), (0, v.dilation[1], 0), (0, 0, 1)),
        origin=(-v.padding[0], -v.padding[2], 0), sizes=(v.h, v.w),
    )  # fmt: skip
    c = Contraction(
        dtype, x, w, y, window, rows=v.ow, cols=v.cout_g,
        k=(v.kh, v.kw, v.cin_g), b_k=(v.kw * v.cin_g * v.cout, v.cin_g * v.cout, v.cout),
        c_row=v.cout, segments=v.oh, c_segment=v.ow * v.cout,
        outer=v.n, a_outer=v.h * v.w * v.cin, c_outer=v.oh * v.ow * v.cout,
        epilogue=epilogue, **_groups(v, v.cin_g, v.cout_g, v.cout_g),
    )  # fmt: skip
    return [_image_row(c, isa)]


def conv2d_input_grad_rows(
    dtype: str, isa: InstructionSet, v: Convolution, dy: Address, w: Address, dx: Address, *,
    epilogue: Epilogue | None = None, owner: Hashable = None,
) -> list[Row]:  # fmt: skip
    """The rows of dx: every pixel of x gathers what it was multiplied into. Rows of the epilogue: (n, h, w)."""
    if 0 in (v.n, v.h, v.w, v.cin):
        return []
    if v.is_matmul:
        pixels = v.n * v.h * v.w
        a, b, c = Matrix(dy, v.cout, 1), Matrix(w, 1, v.cout), Matrix(dx, v.cin, 1)
        return matmul_rows(dtype, isa, (pixels, v.cout, v.cin), a, b, c, epilogue=epilogue, owner=owner)
    if v.is_depthwise:
        return [_depthwise_row(dtype, v, "input_grad", dy, w, dx, epilogue)]
    rows = []
    for vertical in _phases(v.h, v.kh, v.stride[0], v.dilation[0], v.padding[0]):
        for horizontal in _phases(v.w, v.kw, v.stride[1], v.dilation[1], v.padding[2]):
            rows.append(_input_grad_phase(dtype, isa, v, dy, w, dx, vertical, horizontal, epilogue))
    if epilogue is not None and v.stride != (1, 1):
        rows.append(epilogue_row(epilogue, v.n * v.h * v.w, v.cin))
    return rows


def conv2d_weight_grad_rows(
    dtype: str, isa: InstructionSet, v: Convolution, x: Address, dy: Address, dw: Address, *,
    epilogue: Epilogue | None = None, owner: Hashable = None,
) -> list[Row]:  # fmt: skip
    """The rows of dw. Rows of the epilogue: the flattened (kh, kw, in channel / groups)."""
    if 0 in (v.kh, v.kw, v.cin, v.cout):
        return []
    if v.is_matmul:
        pixels = v.n * v.h * v.w
        a, b, c = Matrix(x, 1, v.cin), Matrix(dy, v.cout, 1), Matrix(dw, v.cout, 1)
        return matmul_rows(dtype, isa, (v.cin, pixels, v.cout), a, b, c, epilogue=epilogue, owner=owner)
    if v.is_depthwise:
        chunks = max(1, min(16, v.n * v.oh, v.n * v.oh * v.ow // 256))
        taps = v.kh * v.kw
        partial = Scratch(owner, "partial sums", chunks * taps * v.cin * ITEMSIZE[dtype])
        row = _depthwise_row(dtype, v, "weight_grad", x, dy, Address(partial), None, chunks)
        return [row, combine_row(dtype, partial, dw, row.tiles, taps, v.cin, epilogue)]
    if few_channels_grad.suits(v, dtype, isa):
        partial = Scratch(owner, "partial sums", few_channels_grad.CHUNKS * v.kh * v.kw * v.cin * v.cout * ITEMSIZE[dtype])
        row = few_channels_grad.few_channels_grad_row(dtype, isa, v, x, dy, Address(partial))
        return [row, combine_row(dtype, partial, dw, row.tiles, v.kh * v.kw * v.cin, v.cout, epilogue)]
    flat = v.groups == 1 and v.dilation[1] == 1
    line = v.kw * v.cin_g * v.cout
    window = Window(
        (v.w * v.cin, v.cin, 1),
        segment=(v.dilation[0], 0, 0) if flat else (0, v.dilation[1], 0), row=(0, 0, 1),
        k=((0, 0, 0), (v.stride[0], 0, 0), (0, v.stride[1], 0)),
        origin=(-v.padding[0], -v.padding[2], 0), sizes=(v.h, v.w),
        flat_rows=flat, reach=(0, v.kw - 1, v.cin - 1) if flat else (0, 0, 0),
    )  # fmt: skip
    c = Contraction(
        dtype, x, dy, dw, window, rows=v.kw * v.cin if flat else v.cin_g, cols=v.cout_g,
        k=(1, v.oh, v.ow), b_k=(0, v.ow * v.cout, v.cout),
        c_row=v.cout, segments=v.kh if flat else v.kw, c_segment=line if flat else v.cin_g * v.cout,
        q=v.n, a_q=v.h * v.w * v.cin, b_q=v.oh * v.ow * v.cout,
        epilogue=epilogue, **_groups(v, v.cin_g, v.cout_g, v.cout_g),
    )  # fmt: skip
    total = v.kh * v.kw * v.cin_g
    boxes = _weight_boxes(c, isa, 1 if flat else v.kh, total * v.cout)
    partial = Scratch(owner, "partial sums", boxes.chunks * total * v.cout * ITEMSIZE[dtype])
    if boxes.chunks > 1:
        c = replace(c, c=Address(partial), epilogue=None)
    if flat:
        rows = [contract_row(c, boxes, isa)]
    else:
        # The kernel rows one after the other: with dilation or groups, (kw, in channel) do not lie side by side.
        rows = []
        for i in range(v.kh):
            origin = (i * v.dilation[0] - v.padding[0], -v.padding[2], 0)
            moved = replace(c, c=c.c + i * line * ITEMSIZE[dtype], window=replace(window, origin=origin), epilogue=None)
            rows.append(contract_row(moved, boxes, isa))
    if boxes.chunks > 1:
        rows.append(combine_row(dtype, partial, dw, boxes.chunks, total, v.cout, epilogue))
    elif epilogue is not None and not flat:
        rows.append(epilogue_row(epilogue, total, v.cout))
    return rows


def _depthwise_row(
    dtype: str, v: Convolution, part: str, source: Address, weight: Address, result: Address,
    epilogue: Epilogue | None, chunks: int = 0,
) -> Row:  # fmt: skip
    lines, width = (v.n * v.h, v.w) if part == "input_grad" else (v.n * v.oh, v.ow)
    work = 2 * lines * width * v.cin * v.kh * v.kw
    tiles = chunks or max(1, min(lines, _TILES, 8 * work // _TILE_FLOPS))
    tile = ceildiv(lines, tiles) if lines else 1
    args = (
        source, weight, result, *epilogue_args(epilogue), lines, tile, v.h, v.w, v.oh, v.ow, v.cin, v.kh, v.kw,
        *v.stride, *v.dilation, v.padding[0], v.padding[2],
    )  # fmt: skip
    kernel = Kernel.of("graphnn.runtime.kernels.depthwise:depthwise", dtype=dtype, part=part)
    return Row(kernel, args, max(1, ceildiv(lines, tile)))


def _groups(v: Convolution, a: int, b: int, c: int) -> dict[str, Any]:
    """Groups are batches whose operands lie side by side in the channels."""
    return {"batch": ((v.groups, a, b, c),), "epilogue_batch_col": c} if v.groups > 1 else {}


@dataclass(frozen=True)
class _Phase:
    """The indices `first`, `first + stride`, ... of x along one axis: the taps of the kernel that they meet, as the
    last tap, the step to the one before, and the index and step in y. No tap: zeros."""

    first: int
    count: int
    taps: int
    last_tap: int
    tap_step: int
    origin: int
    step: int


def _phases(size: int, kernel: int, stride: int, dilation: int, padding: int) -> list[_Phase]:
    """x[i] meets y[o] through tap t where i + padding = o * stride + t * dilation."""
    phases = []
    tap_step, step = stride // gcd(stride, dilation), dilation // gcd(stride, dilation)
    for first in range(min(stride, size)):
        start = next((t for t in range(min(tap_step, kernel)) if (first + padding - t * dilation) % stride == 0), None)
        taps = 0 if start is None else len(range(start, kernel, tap_step))
        last = 0 if start is None else start + (taps - 1) * tap_step
        origin = (first + padding - last * dilation) // stride
        phases.append(_Phase(first, len(range(first, size, stride)), taps, last, tap_step, origin, step))
    return phases


def _input_grad_phase(
    dtype: str, isa: InstructionSet, v: Convolution, dy: Address, w: Address, dx: Address,
    vertical: _Phase, horizontal: _Phase, epilogue: Epilogue | None,
) -> Row:  # fmt: skip
    size, line = ITEMSIZE[dtype], v.cin_g * v.cout
    window = Window(
        (v.ow * v.cout, v.cout, 1),
        segment=(1, 0, 0), row=(0, 1, 0), k=((vertical.step, 0, 0), (0, horizontal.step, 0), (0, 0, 1)),
        origin=(vertical.origin, horizontal.origin, 0), sizes=(v.oh, v.ow),
    )  # fmt: skip
    # Walking y forwards walks the taps backwards, from the last one.
    c = Contraction(
        dtype, dy, w + (vertical.last_tap * v.kw + horizontal.last_tap) * line * size,
        dx + (vertical.first * v.w + horizontal.first) * v.cin * size, window,
        rows=horizontal.count, cols=v.cin_g, k=(vertical.taps, horizontal.taps, v.cout_g),
        b_k=(-vertical.tap_step * v.kw * line, -horizontal.tap_step * line, 1), b_col=v.cout,
        c_row=v.stride[1] * v.cin, segments=vertical.count, c_segment=v.stride[0] * v.w * v.cin,
        outer=v.n, a_outer=v.oh * v.ow * v.cout, c_outer=v.h * v.w * v.cin,
        epilogue=epilogue if v.stride == (1, 1) else None, **_groups(v, v.cout_g, v.cout_g, v.cin_g),
    )  # fmt: skip
    return _image_row(c, isa)


def _span(c: Contraction, d: int, *, segments: int, rows: int) -> int:
    """How many h, w or x (d = 0, 1, 2) a box of so many segments and rows reaches over."""
    w = c.window
    row = 0 if w.flat_rows else w.row[d] * (rows - 1)
    return 1 + w.reach[d] + w.segment[d] * (segments - 1) + row + sum(w.k[i][d] * (c.k[i] - 1) for i in range(3))


def _stays_inside(c: Contraction) -> bool:
    """Whether no window reaches over an edge of the image."""
    w = c.window
    return all(
        w.origin[d] >= 0 and w.origin[d] + _span(c, d, segments=c.segments, rows=c.rows) <= w.sizes[d] for d in (0, 1)
    )


def _unpadded(c: Contraction) -> Contraction:
    return replace(c, window=replace(c.window, sizes=Window((0, 0, 0)).sizes))


def _image_row(c: Contraction, isa: InstructionSet) -> Row:
    """A contraction whose rows and segments are the pixels of an image."""
    if c.depth == 0:
        return contract_row(_unpadded(c), Boxes(c.rows, c.cols, c.segments, pack=True), isa)
    if few_channels.suits(c, isa):
        return few_channels.few_channels_row(c, isa)
    if many_images.suits(c, isa):
        return many_images.many_images_row(c, isa)
    size, panel = ITEMSIZE[c.dtype], isa.tile(c.dtype)[1]
    stage = not _stays_inside(c)
    taps = c.k[0] * c.k[1]
    # Block the channels where even one panel of the weights would not stay close.
    block = c.k[2] if taps * c.k[2] <= 1536 else max(16, round_up(1152 // taps, 16))
    depth = taps * min(block, c.k[2])
    panels = ceildiv(c.cols, panel)
    cols = panel * ceildiv(panels, ceildiv(panels * panel * depth * size, _PACKED_BYTES))
    want = max(1, min(_TILES, c.flops // _TILE_FLOPS) // ceildiv(c.cols, cols) // c.batches)
    lines = ceildiv(c.outer * c.segments, want)
    line = _span(c, 1, segments=1, rows=c.rows) * min(block, c.k[2]) * size
    most = max(1, (_STAGED_BYTES // line - _span(c, 0, segments=1, rows=1)) // max(1, c.window.segment[0]) + 1)
    if lines >= c.segments and c.segments <= 2 * most:
        outer, segments = ceildiv(lines, c.segments), c.segments
    else:
        outer, segments = 1, ceildiv(c.segments, ceildiv(c.segments, min(lines, most)))
    boxes = Boxes(c.rows, cols, segments, outer, block=block, pack=True, stage=stage)
    return contract_row(c if stage else _unpadded(c), boxes, isa)


def _weight_boxes(c: Contraction, isa: InstructionSet, times: int, total: int) -> Boxes:
    """A contraction whose sum runs over the pixels: blocks of image rows, dealt to a fixed number of partial sums."""
    panel = isa.tile(c.dtype)[1]
    if c.depth == 0:
        return Boxes(c.rows, c.cols, c.segments, pack=True, stage=True)
    block = max(1, min(c.k[1], 256 // max(1, c.k[2])))
    blocks = c.q * ceildiv(c.k[1], block)
    rows, cols = c.rows, min(round_up(c.cols, panel), 4 * panel)
    want = max(1, min(_TILES, c.flops * times // _TILE_FLOPS) // ceildiv(c.cols, cols) // c.batches)
    # Partial sums cost memory and a pass over them: no more than the operands themselves.
    operands = c.q * c.k[1] * c.k[2] * (c.cols + c.rows)
    chunks = max(1, min(want, blocks, 16, operands // total))
    chunks = ceildiv(blocks, ceildiv(blocks, chunks))
    return Boxes(rows, cols, c.segments, blocked=1, block=block, chunks=chunks, chunk_stride=total, pack=True, stage=True)
