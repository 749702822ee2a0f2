"""Conv2D: cross-correlation over images in NHWC."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, activation_name, as_activation
from graphnn.nn.initialisers import as_initialiser, zeros
from graphnn.nn.layer import Layer

Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[int, int, int, int] | str


def as_pair(value: Pair, what: str, least: int = 1) -> tuple[int, int]:
    """(rows, columns) from one number or two. Raises ShapeError."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(v, int) or v < least for v in pair):
        raise ShapeError(f"{what} is {value!r}; use an integer or a pair of integers, at least {least}")
    return pair


@dataclass(eq=False)
class Conv2D(Layer):
    """y = f(x * W + b): cross-correlation, (N, H, W, C) -> (N, H', W', out_channels).

    The kernel is (kh, kw, C / groups, out_channels). `padding` is an int, (rows, columns), (top, bottom, left, right), "valid"
    (none) or "same" (H' = ceil(H / stride)). `dilation=1` means none. H' = (H + pads - dilation (kh - 1) - 1) // stride + 1.

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
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_channels < 1:
            raise ShapeError(f"Conv2D: out_channels is {self.out_channels}; it must be at least 1")
        if self.groups < 1 or self.out_channels % self.groups:
            raise ShapeError(f"Conv2D: groups is {self.groups}; it must divide out_channels, {self.out_channels}")
        self._kernel = as_pair(self.kernel_size, "Conv2D: kernel_size")
        as_pair(self.stride, "Conv2D: stride")
        as_pair(self.dilation, "Conv2D: dilation")
        self._activate = as_activation(self.activation)

    def build(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"Conv2D takes images (N, H, W, C), not {x}")
        channels = x.shape[-1]
        if isinstance(channels, int) and channels % self.groups:
            raise ShapeError(f"Conv2D: groups is {self.groups}; it must divide the {channels} channels of x")
        first = as_initialiser(self.init, activation_name(self.activation))
        shape = (*self._kernel, channels // self.groups, self.out_channels)
        self.weight = self.param("weight", shape, first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_channels,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        y = ir.conv2d(x, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        return self._activate(y if self.offset is None else y + self.offset)
