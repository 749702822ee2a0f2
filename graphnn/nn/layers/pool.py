"""Pool2D: the maximum or the mean of windows of images in NHWC."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import Padding, Pair, as_padding, as_pair
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Pool2D(Layer):
    """The maximum or mean of each window: (N, H, W, C) -> (N, H', W', C), H' = (H + pads - size) // stride + 1.

    `stride` is the window's size by default. Maximum pads with -inf; the mean counts padding unless
    `count_include_pad=False`. `mode` is "max" or "average".

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Pool2D(2)(gnn.Input((28, 28, 3), name="image")).type)
    'f32[N,14,14,3]'
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Padding = 0
    mode: str = "max"
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kernel = as_pair(self.kernel_size, "Pool2D: kernel_size")
        self._stride = self._kernel if self.stride is None else as_pair(self.stride, "Pool2D: stride")
        self._padding = as_padding(self.padding, "Pool2D: padding")
        if self.mode not in ("max", "average"):
            raise ShapeError(f"Pool2D: mode is {self.mode!r}; it is 'max' or 'average'")

    def call(self, x: Value) -> Value:
        if x.rank != 4:
            raise ShapeError(f"Pool2D takes images (N, H, W, C), not {x.type}")
        if self.mode == "max":
            return ir.max_pool2d(x, self._kernel, stride=self._stride, padding=self._padding)
        return ir.avg_pool2d(x, self._kernel, stride=self._stride, padding=self._padding,
                             count_include_pad=self.count_include_pad)
