"""Residual blocks of two convolutions: with the input itself beside them, or a convolution of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, dim_max
from graphnn.ir.graph import Value
from graphnn.ir.ops.window import out_size, same_total
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import Padding, Pair, as_count, as_padding, as_pair, check_word, require_float
from graphnn.nn.initialisers import Init
from graphnn.nn.layer import Layer
from graphnn.nn.layers.batch_norm import BatchNorm2D
from graphnn.nn.layers.conv import SAME_SIZE, Conv2D, size_preserving

ORDERS = ("conv-norm-activation", "conv-activation-norm")

CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "out_channels": as_count, "kernel_size": as_pair, "stride": as_pair,
    "padding": lambda value, what: as_padding(value, what, SAME_SIZE),
}


class _Residual(Layer):
    """Base of residual blocks: the two convolutions, each with its batch norm, and the activation between."""

    activation: Activation
    order: str
    eps: float
    momentum: float

    def _setup(self) -> None:
        check_word(self, "order", *ORDERS)
        for field in fields(self):                       # errors name them as here, not as the layers inside do
            for start, check in CHECKS.items():
                if field.name.startswith(start):
                    check(getattr(self, field.name), f"{type(self).__name__}: {field.name}")
        self._activate = as_activation(self.activation)

    def _norm(self, name: str) -> BatchNorm2D:
        return BatchNorm2D(self.eps, self.momentum, name=name)

    def _main(self, x: Value, first: Conv2D, second: Conv2D) -> Value:
        h = first(x)
        h = self._activate(self._norm1(h)) if self.order == ORDERS[0] else self._norm1(self._activate(h))
        return self._norm2(second(h))

    _norm1: BatchNorm2D
    _norm2: BatchNorm2D


@dataclass(eq=False)
class SkipConnectionIdentityModule(_Residual):
    """y = f(x + norm2(conv2(f(norm1(conv1(x)))))): (N, H, W, C) -> (N, H, W, C), with f the activation.

    conv1 has `out_channels`, conv2 those of x; both keep the size of the image, for any stride and kernel. norm1 and norm2 are
    BatchNorm2D of `eps` and `momentum`. `order="conv-activation-norm"` puts f before norm1, as numpy-ml does. He et al.,
    "Deep residual learning for image recognition", 2016.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((8, 8, 3), name="x")
    >>> str(nn.SkipConnectionIdentityModule(16, 3, 3)(x).type)
    'f32[N,8,8,3]'
    """

    out_channels: int
    kernel_size1: Pair
    kernel_size2: Pair
    stride1: Pair = 1
    stride2: Pair = 1
    activation: Activation = "relu"
    order: str = "conv-norm-activation"
    eps: float = 1e-5
    momentum: float = 0.1
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._setup()
        # the second one's channels are known when it is built; it is made here too, so that bad arguments show now
        self._conv1, self._conv2 = self._convolution(1, self.out_channels), self._convolution(2, 1)
        self._norm1, self._norm2 = self._norm("norm1"), self._norm("norm2")

    def _convolution(self, which: int, channels: int) -> Conv2D:
        kernel, stride = getattr(self, f"kernel_size{which}"), getattr(self, f"stride{which}")
        return Conv2D(channels, kernel, stride, "same_size", init=self.init, name=f"conv{which}")

    def accepts(self, x: TensorType) -> None:
        check_images(x, "SkipConnectionIdentityModule")

    def build(self, x: TensorType) -> None:
        channels: Any = x.shape[-1]
        self._conv2 = self._convolution(2, channels)

    def call(self, x: Value) -> Value:
        return self._activate(x + self._main(x, self._conv1, self._conv2))


@dataclass(eq=False)
class SkipConnectionConvModule(_Residual):
    """y = f(norm_skip(skip(x)) + norm2(conv2(f(norm1(conv1(x)))))): (N, H, W, C) -> (N, H', W', out_channels2).

    conv1 and conv2 are Conv2D with their own kernels, paddings and strides; H' and W' are the size that they make. skip is a
    convolution with `kernel_size_skip` and `stride_skip`, padded so that its result has that size too: by as little as will do,
    an odd pixel at bottom and right. Norms are BatchNorm2D of `eps` and `momentum`. `order="conv-activation-norm"` puts f before
    norm1, as numpy-ml does. Raises ShapeError when no padding fits. He et al., 2016.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((8, 8, 3), name="x")
    >>> str(nn.SkipConnectionConvModule(16, 32, 3, 3, 1, padding1=1, padding2=1, stride1=2, stride_skip=2)(x).type)
    'f32[N,4,4,32]'
    """

    out_channels1: int
    out_channels2: int
    kernel_size1: Pair
    kernel_size2: Pair
    kernel_size_skip: Pair
    padding1: Padding = 0
    padding2: Padding = 0
    stride1: Pair = 1
    stride2: Pair = 1
    stride_skip: Pair = 1
    activation: Activation = "relu"
    order: str = "conv-norm-activation"
    eps: float = 1e-5
    momentum: float = 0.1
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._setup()
        self._conv1 = Conv2D(self.out_channels1, self.kernel_size1, self.stride1, self.padding1, init=self.init, name="conv1")
        self._conv2 = Conv2D(self.out_channels2, self.kernel_size2, self.stride2, self.padding2, init=self.init, name="conv2")
        self._skip = FittedConv2D(self.out_channels2, self.kernel_size_skip, self.stride_skip, init=self.init, name="skip")
        self._norm1, self._norm2, self._norm_skip = (self._norm(name) for name in ("norm1", "norm2", "norm_skip"))

    def accepts(self, x: TensorType) -> None:
        check_images(x, "SkipConnectionConvModule")

    def call(self, x: Value) -> Value:
        main = self._main(x, self._conv1, self._conv2)
        return self._activate(self._norm_skip(self._skip(x, like=main)) + main)


@dataclass(eq=False)
class FittedConv2D(Conv2D):
    """A Conv2D padded so that its result has as many rows and columns as another value."""

    def check_kernel(self, x: TensorType) -> None:
        """Whether it fits follows from the other value."""

    def call(self, x: Value, like: Value) -> Value:
        axes = zip(x.shape[1:3], like.shape[1:3], self._kernel, self._stride, self._dilation, strict=True)
        sides: list[Size] = []
        for size, out, k, s, d in axes:
            total = fitting(size, out, d * (k - 1) + 1, s)
            if total is None:
                raise ShapeError(f"no padding makes {out} of {size} with kernel_size_skip {k} and stride_skip {s}",
                                 hint="choose stride_skip so that the skip shrinks the image as the main path does; where sizes "
                                      "are symbolic, for every number")
            sides += [total // 2, total - total // 2]
        return self.finished(self.convolved(x, self.weight, sides))


def fitting(size: Size, out: Size, span: int, stride: int) -> Size | None:
    """The least padding of an axis that gives `out` windows, or None."""
    before, after = size_preserving(size, span, stride)
    needed = dim_max((out - 1) * stride + span - size, 0)
    for total in (0, same_total(size, span, stride), before + after, needed):
        room = size + total - span
        if not (isinstance(room, int) and room < 0) and out_size(size, 0, total, span, stride) == out:
            return total
    return None


def check_images(x: TensorType, kind: str) -> None:
    """Raise unless x is a batch of real images."""
    if x.rank != 4:
        raise ShapeError(f"{kind} takes images (N, H, W, C), not {x}")
    require_float(x, kind)
