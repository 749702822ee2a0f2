"""Convolution of images, and its two gradients. Each of the three ops is linear in both operands, and each is the gradient
of the other two, so that derivatives of every order stay within them.

Layout: x (N, H, W, C), w (kh, kw, C / groups, K), y (N, OH, OW, K). Output channel k belongs to group k // (K / groups) and sees
that group's C / groups input channels. As everywhere in this field, the kernel is not flipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, dim, numbers, product
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import window
from graphnn.ir.ops.operands import located
from graphnn.ir.ops.window import PaddingLike, Pair, PairLike, Sides
from graphnn.ir.types import TensorType

_N = dim("N")
Shape4 = tuple[Size, Size, Size, Size]


def _conv_type(x: TensorType, w: TensorType, stride: Pair, padding: Sides, dilation: Pair, groups: int) -> TensorType:
    """The type rule that all three ops check."""
    window.check_image(x)
    window.check_float(x, w)
    window.check_sides(padding)
    window.check_pairs(stride=stride, dilation=dilation)
    _check_groups(groups)
    if w.rank != 4 or not all(isinstance(size, int) for size in w.shape[:2]):
        raise ShapeError(f"the weight has the axes (kh, kw, C / groups, K), the first two fixed: {w}")
    n, h, width, c = x.shape
    kh, kw, per_group, k = w.shape
    kh, kw = numbers((kh, kw))
    if kh < 1 or kw < 1:
        raise ShapeError(f"a kernel of {kh} x {kw} has no elements")
    if per_group * groups != c:
        raise ShapeError(f"the image has {c} channels; the weight takes {per_group} for each of {groups} group(s)")
    if isinstance(k, int) and k % groups:
        raise ShapeError(f"{k} output channels cannot be split into {groups} groups")
    top, bottom, left, right = padding
    return x.of_shape((n, window.out_size(h, top, bottom, window.reach(kh, dilation[0]), stride[0]),
                       window.out_size(width, left, right, window.reach(kw, dilation[1]), stride[1]), k))


def _check_groups(groups: int) -> None:
    if not isinstance(groups, int) or groups < 1:
        raise ShapeError(f"groups is {groups!r}; it is a whole number >= 1")


def _flops(y: TensorType, w: TensorType) -> Size:
    """A multiplication and an addition for each output element and each weight that it sees."""
    return 2 * y.elements * product(w.shape[:3])


def _taps(kh: int, kw: int, dilation: Pair) -> Iterator[tuple[Pair, Pair]]:
    """Each tap of the kernel, and where it lies in the window."""
    for i in range(kh):
        for j in range(kw):
            yield (i, j), (i * dilation[0], j * dilation[1])


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, OH, OW, C) -> (groups, N*OH*OW, C / groups)."""
    channels = x.shape[-1] // groups
    rows = x.shape[0] * x.shape[1] * x.shape[2]
    return x.reshape(rows, groups, channels).transpose(1, 0, 2)


def _ungrouped(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return y.transpose(1, 0, 2).reshape(shape)


def _tap_weight(w: np.ndarray, groups: int) -> np.ndarray:
    """One tap's weight (C / groups, K) as (groups, C / groups, K / groups)."""
    return w.reshape(w.shape[0], groups, w.shape[1] // groups).transpose(1, 0, 2)


@dataclass(frozen=True)
class Conv2D(Op):
    """y[n,p,q,k] = sum over i, j, c of xp[n, p*stride + i*dilation, q*stride + j*dilation, c] * w[i,j,c,k], xp padded with 0."""

    name = "conv2d"
    fusion = Fusion.CONTRACT
    stride: Pair
    padding: Sides
    dilation: Pair
    groups: int

    def infer(self, x: TensorType, w: TensorType) -> Types:
        return (_conv_type(x, w, self.stride, self.padding, self.dilation, self.groups),)

    def numpy(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        (y_type,) = self.infer(TensorType.of(x), TensorType.of(w))
        n, oh, ow, k = numbers(y_type.shape)
        xp = window.padded(x, self.padding)
        y = np.zeros((self.groups, n * oh * ow, k // self.groups), x.dtype)
        for (i, j), place in _taps(w.shape[0], w.shape[1], self.dilation):
            y += _grouped(window.tap(xp, place, (oh, ow), self.stride), self.groups) @ _tap_weight(w[i, j], self.groups)
        return np.ascontiguousarray(_ungrouped(y, (n, oh, ow, k)))

    def grad(self, node: Node, dy: Value) -> Cotangents:
        x, w = node.inputs
        return self.input_grad(x.shape, dy, w), self.weight_grad(w.shape, x, dy)

    def input_grad(self, shape: tuple[Size, ...], dy: Value, w: Value) -> Value:
        return Conv2DInputGrad(_four(shape), self.stride, self.padding, self.dilation, self.groups).one(dy, w)

    def weight_grad(self, shape: tuple[Size, ...], x: Value, dy: Value) -> Value:
        return Conv2DWeightGrad(_four(shape), self.stride, self.padding, self.dilation, self.groups).one(x, dy)

    def flops(self, x: TensorType, w: TensorType) -> Size:
        return _flops(self.infer(x, w)[0], w)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for conv, x, w in _examples():
            kh, kw, per_group, k = w.shape
            yield Sample(conv, (x, w), ("N,H,W,C", f"{kh},{kw},C,K") if conv.groups == 1 else
                         (f"N,H,W,{x.shape[3]}", f"{kh},{kw},{per_group},{k}"))


@dataclass(frozen=True)
class Conv2DInputGrad(Op):
    """dx of a convolution from dy and w: each output's cotangent spread over the window it read. It is also the transposed
    convolution ("deconvolution")."""

    name = "conv2d_input_grad"
    fusion = Fusion.CONTRACT
    input_shape: Shape4
    stride: Pair
    padding: Sides
    dilation: Pair
    groups: int

    @property
    def forward(self) -> Conv2D:
        return Conv2D(self.stride, self.padding, self.dilation, self.groups)

    def infer(self, dy: TensorType, w: TensorType) -> Types:
        x = dy.of_shape(self.input_shape)
        _expect(dy, self.forward.infer(x, w)[0])
        return (x,)

    def numpy(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        n, h, width, c = numbers(self.input_shape)
        top, bottom, left, right = numbers(self.padding)
        dxp = np.zeros((n, h + top + bottom, width + left + right, c), dy.dtype)
        _, oh, ow, _ = dy.shape
        rows = _grouped(dy, self.groups)
        for (i, j), place in _taps(w.shape[0], w.shape[1], self.dilation):
            part = rows @ _tap_weight(w[i, j], self.groups).transpose(0, 2, 1)
            window.tap(dxp, place, (oh, ow), self.stride)[...] += _ungrouped(part, (n, oh, ow, c))
        return np.ascontiguousarray(window.cropped(dxp, self.padding))

    def grad(self, node: Node, d: Value) -> Cotangents:
        dy, w = node.inputs
        return self.forward.one(d, w), self.forward.weight_grad(w.shape, d, dy)

    def flops(self, dy: TensorType, w: TensorType) -> Size:
        return _flops(dy, w)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for conv, x, w in _examples():
            dy = conv.numpy(x, w)
            shape = (_N, *x.shape[1:])
            yield Sample(cls(_four(shape), conv.stride, conv.padding, conv.dilation, conv.groups), (dy, w),
                         (window.any_batch(dy), ",".join(map(str, w.shape))))


@dataclass(frozen=True)
class Conv2DWeightGrad(Op):
    """dw of a convolution from x and dy: for each tap, the sum over all windows of what it read times their cotangent."""

    name = "conv2d_weight_grad"
    fusion = Fusion.CONTRACT
    kernel_shape: Shape4
    stride: Pair
    padding: Sides
    dilation: Pair
    groups: int

    @property
    def forward(self) -> Conv2D:
        return Conv2D(self.stride, self.padding, self.dilation, self.groups)

    def infer(self, x: TensorType, dy: TensorType) -> Types:
        w = x.of_shape(self.kernel_shape)
        _expect(dy, self.forward.infer(x, w)[0])
        return (w,)

    def numpy(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        kh, kw, per_group, k = numbers(self.kernel_shape)
        dw = np.zeros((kh, kw, per_group, k), x.dtype)
        xp = window.padded(x, self.padding)
        rows = _grouped(dy, self.groups)
        for (i, j), place in _taps(kh, kw, self.dilation):
            read = _grouped(window.tap(xp, place, dy.shape[1:3], self.stride), self.groups)
            dw[i, j] = (read.transpose(0, 2, 1) @ rows).transpose(1, 0, 2).reshape(per_group, k)
        return dw

    def grad(self, node: Node, d: Value) -> Cotangents:
        x, dy = node.inputs
        return self.forward.input_grad(x.shape, dy, d), self.forward.one(x, d)

    def flops(self, x: TensorType, dy: TensorType) -> Size:
        return _flops(dy, x.of_shape(self.kernel_shape))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for conv, x, w in _examples():
            dy = conv.numpy(x, w)
            yield Sample(cls(_four(w.shape), conv.stride, conv.padding, conv.dilation, conv.groups), (x, dy),
                         (window.any_batch(x), window.any_batch(dy)))


def _expect(dy: TensorType, y: TensorType) -> None:
    if dy != y:
        raise ShapeError(f"the convolution gives {y}, its cotangent is {dy}")


def _four(shape: tuple[Size, ...]) -> Shape4:
    a, b, c, d = shape
    return a, b, c, d


def _examples() -> Iterator[tuple[Conv2D, np.ndarray, np.ndarray]]:
    """Convolutions over every attribute, odd sizes, size one and an empty batch."""
    rng = np.random.default_rng(0)
    cases: list[tuple[tuple[int, ...], tuple[int, ...], Pair, Sides, Pair, int]] = [
        ((2, 5, 4, 3), (3, 3, 3, 2), (1, 1), (1, 1, 1, 1), (1, 1), 1),
        ((1, 7, 5, 2), (3, 2, 2, 3), (2, 1), (0, 1, 2, 0), (1, 2), 1),      # stride, asymmetric padding, dilation
        ((2, 6, 6, 1), (2, 3, 1, 1), (3, 2), (0, 0, 0, 0), (2, 1), 1),      # rows that no window reads
        ((1, 4, 4, 4), (3, 3, 2, 6), (1, 1), (0, 2, 1, 0), (1, 1), 2),      # groups
        ((2, 3, 3, 3), (2, 2, 1, 3), (1, 1), (0, 0, 0, 0), (1, 1), 3),      # depthwise
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
        ((1, 2, 2, 2), (3, 3, 2, 1), (2, 2), (3, 3, 3, 3), (1, 1), 1),      # windows wholly in the padding
        ((0, 4, 4, 2), (3, 3, 2, 2), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ]
    for x_shape, w_shape, stride, padding, dilation, groups in cases:
        yield Conv2D(stride, padding, dilation, groups), rng.normal(size=x_shape), rng.normal(size=w_shape)


@located
def conv2d(x: Value, w: Value, *, stride: PairLike = 1, padding: PaddingLike = 0, dilation: PairLike = 1,
           groups: int = 1) -> Value:
    """Convolution of images x (N, H, W, C) with w (kh, kw, C / groups, K): (N, OH, OW, K).

    `padding` is a number, (height, width), (top, bottom, left, right), "valid" (none) or "same" (ceil(size / stride) results).
    """
    window.check_image(x.type)
    if w.rank != 4:
        raise ShapeError(f"the weight has the axes (kh, kw, C / groups, K): {w.type}")
    stride, dilation = window.as_pair(stride, "stride"), window.as_pair(dilation, "dilation")
    _check_groups(groups)
    sides = window.as_sides(padding, (x.shape[1], x.shape[2]), _spans(w, dilation), stride)
    return Conv2D(stride, sides, dilation, groups).one(x, w)


@located
def conv2d_transpose(x: Value, w: Value, *, stride: PairLike = 1, padding: PaddingLike = 0, output_padding: PairLike = 0,
                     dilation: PairLike = 1, groups: int = 1) -> Value:
    """The transposed convolution of x (N, H, W, K) with w (kh, kw, C / groups, K): (N, OH, OW, C).

    It is the input gradient of `conv2d` with the same arguments: OH = (H - 1) * stride - top - bottom + dilation * (kh - 1) + 1 +
    output_padding. With "same", OH = H * stride.
    """
    window.check_image(x.type)
    if w.rank != 4:
        raise ShapeError(f"the weight has the axes (kh, kw, C / groups, K): {w.type}")
    stride, dilation = window.as_pair(stride, "stride"), window.as_pair(dilation, "dilation")
    extra, spans = window.as_pair(output_padding, "output_padding", 0), _spans(w, dilation)
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ShapeError(f"output_padding {extra} must be smaller than the stride {stride}")
    n, h, width, _ = x.shape
    if padding == "same":
        sizes = (h * stride[0], width * stride[1])
        sides = window.as_sides("same", sizes, spans, stride)
    else:
        sides = window.as_sides(padding, (h, width), spans, stride)
        sizes = ((h - 1) * stride[0] - sides[0] - sides[1] + spans[0] + extra[0],
                 (width - 1) * stride[1] - sides[2] - sides[3] + spans[1] + extra[1])
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise ShapeError(f"padding {sides} leaves nothing: {h} x {width} becomes {sizes[0]} x {sizes[1]}",
                             hint="use a larger kernel or stride, or less padding")
    return Conv2DInputGrad((n, sizes[0], sizes[1], w.shape[2] * groups), stride, sides, dilation, groups).one(x, w)


def _spans(w: Value, dilation: Pair) -> Pair:
    kh, kw = w.shape[:2]
    if not isinstance(kh, int) or not isinstance(kw, int):
        raise ShapeError(f"the first two axes of the weight, kh and kw, are fixed numbers: {w.type}")
    return window.reach(kh, dilation[0]), window.reach(kw, dilation[1])
