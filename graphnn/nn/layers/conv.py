"""Conv2D: cross-correlation over images in NHWC; and what all convolutions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Value
from graphnn.ir.ops.window import reach
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import Padding, Pair, as_count, as_padding, as_pair, check_flags, check_window, require_float
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layer import Layer

SAME_SIZE = "same_size"                                  # padding for which the result has the size of x, for any stride


def size_preserving(size: Size, span: int, stride: int) -> tuple[Size, Size]:
    """Padding before and after an axis that gives `size` windows of `span` at any stride; an odd one stands after."""
    total = (size - 1) * stride + span - size
    before = total // 2
    return before, total - before


class Convolution(Layer):
    """Base of convolutions: the arguments they share, checked; weight and bias; the activation at the end."""

    RANK, FORM = 4, "images (N, H, W, C)"

    out_channels: int
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    activation: Activation
    bias: bool
    init: Init

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kind = type(self).__name__
        self.out_channels = as_count(self.out_channels, f"{self._kind}: out_channels")
        self.groups = as_count(self.groups, f"{self._kind}: groups")
        if self.out_channels % self.groups:
            raise ShapeError(f"{self._kind}: groups is {self.groups}; it must divide out_channels, {self.out_channels}")
        check_flags(self, "bias")
        self._kernel, self._stride, self._dilation = (self.pair(name) for name in ("kernel_size", "stride", "dilation"))
        self._padding = self.pads(self.padding)
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, self.activation)

    def pair(self, argument: str) -> tuple[int, int]:
        """An argument as (rows, columns). Raises ShapeError."""
        return as_pair(getattr(self, argument), f"{self._kind}: {argument}")

    def pads(self, padding: Any) -> Padding:
        """The padding in a form of conv2d, or SAME_SIZE. Raises ShapeError."""
        return as_padding(padding, f"{self._kind}: padding", SAME_SIZE)

    def accepts(self, x: TensorType, *rest: TensorType) -> None:
        if x.rank != self.RANK:
            raise ShapeError(f"{self._kind} takes {self.FORM}, not {x}")
        require_float(x, self._kind)
        channels = x.shape[-1]
        if isinstance(channels, int) and channels % self.groups:
            raise ShapeError(f"{self._kind}: groups is {self.groups}; it must divide the {channels} channels of x")
        self.check_kernel(x)

    def check_kernel(self, x: TensorType) -> None:
        """Raise ShapeError when the kernel is larger than padded x."""
        spans = tuple(reach(k, d) for k, d in zip(self._kernel, self._dilation, strict=True))
        check_window(self._kind, self.kernel_size, (1, *x.shape[1:-1])[-2:], (spans[0], spans[1]), self._padding)

    def build(self, x: TensorType, *rest: TensorType) -> None:
        channels = x.shape[-1]
        self.weight = self.param("weight", self.weight_shape(channels), self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_channels,), zeros, dtype=x.dtype) if self.bias else None

    def weight_shape(self, channels: Size) -> tuple[Size, ...]:
        """(kh, kw, channels of x in a group, out_channels)."""
        return (*self._kernel, channels // self.groups, self.out_channels)

    def convolved(self, x: Value, weight: Value, padding: Any = None) -> Value:
        """x * W, without bias and activation, of images; by the layer's padding unless one is given."""
        padding = self._padding if padding is None else padding
        if padding == SAME_SIZE:
            axes = zip(x.shape[1:3], self._kernel, self._stride, self._dilation, strict=True)
            padding = [pad for size, k, s, d in axes for pad in size_preserving(size, reach(k, d), s)]
        return ir.conv2d(x, weight, stride=self._stride, padding=padding, dilation=self._dilation, groups=self.groups)

    def finished(self, y: Value) -> Value:
        """f(y + b)."""
        return self._activate(y if self.offset is None else y + self.offset)

    def call(self, x: Value) -> Value:
        return self.finished(self.convolved(x, self.weight))


@dataclass(eq=False)
class Conv2D(Convolution):
    """y = f(x * W + b): cross-correlation, (N, H, W, C) -> (N, H', W', out_channels).

    The kernel is (kh, kw, C / groups, out_channels). `stride` and `dilation` (1 means none) are a number or (rows, columns).
    `padding` is an int, (rows, columns), (top, bottom, left, right), "valid" (none), "same" (H' = ceil(H / stride)) or
    "same_size" (H' = H for any stride); an odd pixel goes to bottom and right.
    H' = (H + pads - dilation (kh - 1) - 1) // stride + 1. Raises ShapeError when groups do not divide the channels or
    the kernel is larger than the padded image. (LeCun et al., 1989)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((28, 28, 1), name="image")
    >>> str(nn.Conv2D(32, 3, padding="same", activation="relu")(x).type)
    'f32[N,28,28,32]'
    """

    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1
    activation: Activation = None
    bias: bool = True
    init: Init = "glorot_uniform"
