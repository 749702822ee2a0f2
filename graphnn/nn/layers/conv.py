"""Conv2D: cross-correlation over images in NHWC."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, activation_name, as_activation
from graphnn.nn.arguments import Padding, Pair, as_count, as_padding, as_pair, require_float
from graphnn.nn.initialisers import as_initialiser, zeros
from graphnn.nn.layer import Layer


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
        self.out_channels = as_count(self.out_channels, "Conv2D: out_channels")
        self.groups = as_count(self.groups, "Conv2D: groups")
        if self.out_channels % self.groups:
            raise ShapeError(f"Conv2D: groups is {self.groups}; it must divide out_channels, {self.out_channels}")
        self._kernel = as_pair(self.kernel_size, "Conv2D: kernel_size")
        self._stride = as_pair(self.stride, "Conv2D: stride")
        self._dilation = as_pair(self.dilation, "Conv2D: dilation")
        self._padding = as_padding(self.padding, "Conv2D: padding")
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, activation_name(self.activation))

    def build(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"Conv2D takes images (N, H, W, C), not {x}")
        require_float(x, "Conv2D")
        channels = x.shape[-1]
        if isinstance(channels, int) and channels % self.groups:
            raise ShapeError(f"Conv2D: groups is {self.groups}; it must divide the {channels} channels of x")
        shape = (*self._kernel, channels // self.groups, self.out_channels)
        self.weight = self.param("weight", shape, self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_channels,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        y = ir.conv2d(x, self.weight, stride=self._stride, padding=self._padding, dilation=self._dilation,
                      groups=self.groups)
        return self._activate(y if self.offset is None else y + self.offset)
