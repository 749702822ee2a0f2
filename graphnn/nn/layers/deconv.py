"""Deconv2D: the transposed convolution of images in NHWC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation
from graphnn.nn.arguments import Padding, Pair, as_padding, as_pair
from graphnn.nn.initialisers import Init
from graphnn.nn.layers.conv import Convolution


@dataclass(eq=False)
class Deconv2D(Convolution):
    """y = f(x *' W + b): each pixel of x adds its multiple of the kernel to y, (N, H, W, C) -> (N, H', W', out_channels).

    The transpose of Conv2D with the same arguments. The kernel is (kh, kw, C, out_channels / groups).
    H' = (H - 1) stride - pads + dilation (kh - 1) + 1 + output_padding; with padding "same", H' = H stride.
    `output_padding` is less than the stride: it chooses among the sizes that Conv2D would make H of. Raises ShapeError when
    padding leaves nothing of y. (Zeiler et al., 2010)

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
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._extra = as_pair(self.output_padding, "Deconv2D: output_padding", 0)
        if any(extra >= stride for extra, stride in zip(self._extra, self._stride, strict=True)):
            raise ShapeError(f"Deconv2D: output_padding is {self.output_padding!r}; it must be less than the stride, "
                             f"{self.stride!r}")
        if self._padding == "same" and self._extra != (0, 0):
            raise ShapeError(f"Deconv2D: output_padding is {self.output_padding!r}; padding 'same' settles the size by itself")

    def pads(self, padding: Any) -> Padding:
        return as_padding(padding, "Deconv2D: padding")

    def check_kernel(self, x: TensorType) -> None:
        """A kernel of any size will do."""

    def weight_shape(self, channels: Any) -> tuple[Any, ...]:
        return (*self._kernel, channels, self.out_channels // self.groups)

    def call(self, x: Value) -> Value:
        return self.finished(ir.conv2d_transpose(
            x, ir.swapaxes(self.weight, -1, -2), stride=self._stride, padding=self._padding, output_padding=self._extra,
            dilation=self._dilation, groups=self.groups))
