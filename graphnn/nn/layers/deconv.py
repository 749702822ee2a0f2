"""Deconv2D: the transposed convolution of images in NHWC."""

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
class Deconv2D(Layer):
    """y = f(x *' W + b): each pixel of x adds its multiple of the kernel to y, (N, H, W, C) -> (N, H', W', out_channels).

    The transpose of Conv2D with the same arguments. The kernel is (kh, kw, C, out_channels / groups).
    H' = (H - 1) stride - pads + dilation (kh - 1) + 1 + output_padding; with padding "same", H' = H stride.
    `output_padding` is less than the stride: it chooses among the sizes that Conv2D would make H of. (Zeiler et al., 2010)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((7, 7, 64), name="x")
    >>> str(nn.Deconv2D(32, 3, stride=2, padding=1, output_padding=1)(x).type)
    'f32[N,14,14,32]'
    """

    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Padding = 0
    output_padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    activation: Activation = None
    bias: bool = True
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.out_channels = as_count(self.out_channels, "Deconv2D: out_channels")
        self.groups = as_count(self.groups, "Deconv2D: groups")
        if self.out_channels % self.groups:
            raise ShapeError(f"Deconv2D: groups is {self.groups}; it must divide out_channels, {self.out_channels}")
        self._kernel = as_pair(self.kernel_size, "Deconv2D: kernel_size")
        self._stride = as_pair(self.stride, "Deconv2D: stride")
        self._dilation = as_pair(self.dilation, "Deconv2D: dilation")
        self._padding = as_padding(self.padding, "Deconv2D: padding")
        self._extra = as_pair(self.output_padding, "Deconv2D: output_padding", 0)
        if any(extra >= stride for extra, stride in zip(self._extra, self._stride, strict=True)):
            raise ShapeError(f"Deconv2D: output_padding is {self.output_padding!r}; it must be less than the stride, "
                             f"{self.stride!r}")
        if self._padding == "same" and self._extra != (0, 0):
            raise ShapeError(f"Deconv2D: output_padding is {self.output_padding!r}; padding 'same' settles the size by itself")
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, activation_name(self.activation))

    def build(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"Deconv2D takes images (N, H, W, C), not {x}")
        require_float(x, "Deconv2D")
        channels = x.shape[-1]
        if isinstance(channels, int) and channels % self.groups:
            raise ShapeError(f"Deconv2D: groups is {self.groups}; it must divide the {channels} channels of x")
        shape = (*self._kernel, channels, self.out_channels // self.groups)
        self.weight = self.param("weight", shape, self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_channels,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        y = ir.conv2d_transpose(x, ir.swapaxes(self.weight, -1, -2), stride=self._stride, padding=self._padding,
                                output_padding=self._extra, dilation=self._dilation, groups=self.groups)
        return self._activate(y if self.offset is None else y + self.offset)
