"""Pooling of images, NHWC: the maximum or the mean of each window, and their gradients, which are linear ops themselves.

The maximum's padding is -inf. Where several elements of a window are the maximum, the first in row-major order is it (and a
NaN counts as a maximum), so that a gradient goes to one element only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, dim, numbers
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import window
from graphnn.ir.ops.operands import located
from graphnn.ir.ops.window import PaddingLike, Pair, PairLike, Sides
from graphnn.ir.types import TensorType


def pool_type(x: TensorType, kernel: Pair, stride: Pair, padding: Sides) -> TensorType:
    """The type rule of all pooling ops."""
    window.check_image(x)
    window.check_sides(padding)
    window.check_pairs(kernel=kernel, stride=stride)
    n, h, w, c = x.shape
    top, bottom, left, right = padding
    for pad, span in ((top, kernel[0]), (bottom, kernel[0]), (left, kernel[1]), (right, kernel[1])):
        if isinstance(pad, int) and pad >= span:
            raise ShapeError(f"padding {pad} is not smaller than the kernel {kernel}: a window would hold no element")
    y = x.of_shape((n, window.out_size(h, top, bottom, kernel[0], stride[0]),
                    window.out_size(w, left, right, kernel[1], stride[1]), c))
    for size, windows in ((h, y.shape[1]), (w, y.shape[2])):
        if size == 0 and windows != 0:
            raise ShapeError(f"the image {x} is empty: a window would hold no element")
    return y


def _expect(d: TensorType, y: TensorType) -> None:
    if d != y:
        raise ShapeError(f"the pooling gives {y}, the operand is {d}")


def _taps(kernel: Pair) -> Iterator[Pair]:
    """The places of a window in row-major order."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield i, j


def first_maximum(x: np.ndarray, kernel: Pair, stride: Pair, padding: Sides) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each window and the number of its tap."""
    (y_type,) = MaxPool2D(kernel, stride, padding).infer(TensorType.of(x))
    n, oh, ow, c = numbers(y_type.shape)
    xp = window.padded(x, padding)
    real = window.padded(np.ones((1, x.shape[1], x.shape[2], 1)), padding) > 0
    best = np.full((n, oh, ow, c), -np.inf, x.dtype)
    which = np.full((n, oh, ow, c), -1)
    for number, place in enumerate(_taps(kernel)):
        v, inside = window.tap(xp, place, (oh, ow), stride), window.tap(real, place, (oh, ow), stride)
        better = inside & ((which < 0) | (v > best) | (np.isnan(v) & ~np.isnan(best)))
        best, which = np.where(better, v, best), np.where(better, number, which)
    return best, which


@dataclass(frozen=True)
class MaxPool2D(Op):
    """The largest element of each window, channel by channel."""

    name = "max_pool2d"
    fusion = Fusion.OPAQUE
    kernel: Pair
    stride: Pair
    padding: Sides

    def infer(self, x: TensorType) -> Types:
        return (pool_type(x, self.kernel, self.stride, self.padding),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return first_maximum(x, self.kernel, self.stride, self.padding)[0]

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return (MaxPool2DGrad(self.kernel, self.stride, self.padding).one(node.inputs[0], dy),)

    def flops(self, *inputs: TensorType) -> Size:
        return self.infer(*inputs)[0].elements * (self.kernel[0] * self.kernel[1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for x, kernel, stride, padding in _examples():
            yield Sample(cls(kernel, stride, padding), (x,), ("N,H,W,C",))
        yield Sample(cls((2, 2), (1, 1), (1, 0, 0, 1)), (_special(),), ("N,H,W,C",), smooth=False)


@dataclass(frozen=True)
class MaxPool2DGrad(Op):
    """dx of max_pool2d: each window's cotangent goes to its first maximum."""

    name = "max_pool2d_grad"
    fusion = Fusion.OPAQUE
    kernel: Pair
    stride: Pair
    padding: Sides

    def infer(self, x: TensorType, dy: TensorType) -> Types:
        _expect(dy, pool_type(x, self.kernel, self.stride, self.padding))
        return (x,)

    def numpy(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        which = first_maximum(x, self.kernel, self.stride, self.padding)[1]
        dxp = window.padded(np.zeros_like(x), self.padding)
        for number, place in enumerate(_taps(self.kernel)):
            window.tap(dxp, place, dy.shape[1:3], self.stride)[...] += np.where(which == number, dy, 0)
        return np.ascontiguousarray(window.cropped(dxp, self.padding))

    def grad(self, node: Node, d: Value) -> Cotangents:
        # The choice of the maximum is piecewise constant in x.
        return None, MaxPool2DPick(self.kernel, self.stride, self.padding).one(node.inputs[0], d)

    def flops(self, *inputs: TensorType) -> Size:
        return inputs[1].elements * (self.kernel[0] * self.kernel[1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for x, kernel, stride, padding in _examples():
            dy = np.random.default_rng(1).normal(size=MaxPool2D(kernel, stride, padding).numpy(x).shape)
            yield Sample(cls(kernel, stride, padding), (x, dy), (window.any_batch(x), window.any_batch(dy)))
        yield Sample(cls((2, 2), (1, 1), (1, 0, 0, 1)), (_special(), np.arange(1.0, 9.0).reshape(1, 2, 4, 1)), smooth=False)


@dataclass(frozen=True)
class MaxPool2DPick(Op):
    """From each window of v, the element at the place where x has its first maximum: the gradient of max_pool2d_grad."""

    name = "max_pool2d_pick"
    fusion = Fusion.OPAQUE
    kernel: Pair
    stride: Pair
    padding: Sides

    def infer(self, x: TensorType, v: TensorType) -> Types:
        if x != v:
            raise ShapeError(f"the two images differ: {x} and {v}")
        return (pool_type(x, self.kernel, self.stride, self.padding),)

    def numpy(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        which = first_maximum(x, self.kernel, self.stride, self.padding)[1]
        vp, picked = window.padded(v, self.padding), np.zeros(which.shape, v.dtype)
        for number, place in enumerate(_taps(self.kernel)):
            picked = np.where(which == number, window.tap(vp, place, which.shape[1:3], self.stride), picked)
        return picked

    def grad(self, node: Node, d: Value) -> Cotangents:
        return None, MaxPool2DGrad(self.kernel, self.stride, self.padding).one(node.inputs[0], d)

    def flops(self, *inputs: TensorType) -> Size:
        return self.infer(*inputs)[0].elements * (self.kernel[0] * self.kernel[1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for x, kernel, stride, padding in _examples():
            v = np.random.default_rng(2).normal(size=x.shape)
            yield Sample(cls(kernel, stride, padding), (x, v), ("N,H,W,C", "N,H,W,C"))
        v = np.arange(1.0, 1.0 + _special().size).reshape(_special().shape)
        yield Sample(cls((2, 2), (1, 1), (1, 0, 0, 1)), (_special(), v), ("N,H,W,C", "N,H,W,C"), smooth=False)


@dataclass(frozen=True)
class AvgPool2D(Op):
    """The mean of each window, channel by channel. The padding counts as zeros, or not at all."""

    name = "avg_pool2d"
    fusion = Fusion.OPAQUE
    kernel: Pair
    stride: Pair
    padding: Sides
    count_include_pad: bool

    def infer(self, x: TensorType) -> Types:
        return (pool_type(x, self.kernel, self.stride, self.padding),)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        (y_type,) = self.infer(TensorType.of(x))
        n, oh, ow, c = numbers(y_type.shape)
        xp, total = window.padded(x, self.padding), np.zeros((n, oh, ow, c), x.dtype)
        for place in _taps(self.kernel):
            total += window.tap(xp, place, (oh, ow), self.stride)
        return total / self.counts(x.shape[1], x.shape[2], x.dtype)

    def counts(self, h: int, w: int, dtype: np.dtype[np.generic]) -> np.ndarray:
        """How many elements each window's sum is divided by: (1, OH, OW, 1)."""
        (y_type,) = self.infer(TensorType.of(np.empty((1, h, w, 1), dtype)))
        _, oh, ow, _ = numbers(y_type.shape)
        ones = window.padded(np.ones((1, h, w, 1), dtype), self.padding, float(self.count_include_pad))
        total = np.zeros((1, oh, ow, 1), dtype)
        for place in _taps(self.kernel):
            total += window.tap(ones, place, (oh, ow), self.stride)
        return total

    def grad(self, node: Node, dy: Value) -> Cotangents:
        n, h, w, c = node.inputs[0].shape
        return (AvgPool2DGrad((n, h, w, c), self.kernel, self.stride, self.padding, self.count_include_pad).one(dy),)

    def flops(self, *inputs: TensorType) -> Size:
        return self.infer(*inputs)[0].elements * (self.kernel[0] * self.kernel[1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for x, kernel, stride, padding in _examples():
            for counted in (True, False):
                yield Sample(cls(kernel, stride, padding, counted), (x,), ("N,H,W,C",))


@dataclass(frozen=True)
class AvgPool2DGrad(Op):
    """dx of avg_pool2d: each window's cotangent shared out evenly over its elements."""

    name = "avg_pool2d_grad"
    fusion = Fusion.OPAQUE
    input_shape: tuple[Size, Size, Size, Size]
    kernel: Pair
    stride: Pair
    padding: Sides
    count_include_pad: bool

    @property
    def forward(self) -> AvgPool2D:
        return AvgPool2D(self.kernel, self.stride, self.padding, self.count_include_pad)

    def infer(self, dy: TensorType) -> Types:
        x = dy.of_shape(self.input_shape)
        _expect(dy, self.forward.infer(x)[0])
        return (x,)

    def numpy(self, dy: np.ndarray) -> np.ndarray:
        shape = numbers(self.input_shape)
        dxp = window.padded(np.zeros(shape, dy.dtype), self.padding)
        share = dy / self.forward.counts(shape[1], shape[2], dy.dtype)
        for place in _taps(self.kernel):
            window.tap(dxp, place, dy.shape[1:3], self.stride)[...] += share
        return np.ascontiguousarray(window.cropped(dxp, self.padding))

    def grad(self, node: Node, d: Value) -> Cotangents:
        return (self.forward.one(d),)

    def flops(self, *inputs: TensorType) -> Size:
        return inputs[0].elements * (self.kernel[0] * self.kernel[1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for x, kernel, stride, padding in _examples():
            for counted in (True, False):
                y = AvgPool2D(kernel, stride, padding, counted).numpy(x)
                _, h, w, c = x.shape
                yield Sample(cls((dim("N"), h, w, c), kernel, stride, padding, counted), (y,), (window.any_batch(y),))


def _examples() -> Iterator[tuple[np.ndarray, Pair, Pair, Sides]]:
    rng = np.random.default_rng(7)
    yield rng.normal(size=(2, 4, 6, 3)), (2, 2), (2, 2), (0, 0, 0, 0)
    yield rng.normal(size=(1, 5, 4, 2)), (3, 2), (2, 1), (1, 0, 0, 1)       # windows overlap, padding differs by side
    yield rng.normal(size=(1, 7, 7, 1)), (2, 2), (3, 3), (0, 0, 0, 0)       # rows that no window reads
    yield rng.normal(size=(1, 3, 3, 17)), (3, 3), (1, 1), (2, 2, 1, 1)
    yield rng.normal(size=(1, 1, 1, 1)), (1, 1), (1, 1), (0, 0, 0, 0)
    yield np.zeros((0, 4, 4, 2)), (2, 2), (2, 2), (0, 0, 0, 0)


def _special() -> np.ndarray:
    """Ties, NaN, infinities and zeros of both signs: one image of 2 x 4."""
    return np.array([[1.0, 1.0, -np.inf, -np.inf], [np.nan, 0.0, -0.0, -np.inf]])[None, :, :, None]


@located
def max_pool2d(x: Value, size: PairLike, *, stride: PairLike | None = None, padding: PaddingLike = 0) -> Value:
    """The largest element of each window of images x (N, H, W, C); the stride is the window's size unless given.

    `padding` (with -inf) is a number, (height, width), (top, bottom, left, right), "valid" or "same".
    """
    kernel, step, sides = _window(x, size, stride, padding)
    return MaxPool2D(kernel, step, sides).one(x)


@located
def avg_pool2d(x: Value, size: PairLike, *, stride: PairLike | None = None, padding: PaddingLike = 0,
               count_include_pad: bool = True) -> Value:
    """The mean of each window of images x (N, H, W, C); the stride is the window's size unless given.

    With `count_include_pad` a window's sum is divided by its size, else by the number of its elements within the image.
    """
    kernel, step, sides = _window(x, size, stride, padding)
    return AvgPool2D(kernel, step, sides, count_include_pad).one(x)


def _window(x: Value, size: PairLike, stride: PairLike | None, padding: PaddingLike) -> tuple[Pair, Pair, Sides]:
    window.check_image(x.type)
    kernel = window.as_pair(size, "size")
    step = kernel if stride is None else window.as_pair(stride, "stride")
    return kernel, step, window.as_sides(padding, (x.shape[1], x.shape[2]), kernel, step)
