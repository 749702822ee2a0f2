"""Pool2D: the maximum or the mean of windows of images in NHWC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, ceildiv, dim_max, dim_min, numbers
from graphnn.ir.graph import Value
from graphnn.ir.ops.window import as_sides
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import Padding, Pair, as_padding, as_pair, check_flags, check_window, check_word, require_float
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Pool2D(Layer):
    """The maximum or mean of each window: (N, H, W, C) -> (N, H', W', C), H' = (H + pads - size) // stride + 1.

    `stride` is the window's size by default. `padding` as in Conv2D, each side below the window's size. `mode` is "max", which
    pads with -inf, or "average", which counts padding unless `count_include_pad=False`. `ceil_mode` adds a window for
    pixels left over at bottom and right: H' is rounded up, windows that would start in the padding there apart. Of equal
    maxima the first takes the gradient. Raises ShapeError when a window does not fit. (LeCun et al., 1998)

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
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kernel = as_pair(self.kernel_size, "Pool2D: kernel_size")
        self._stride = self._kernel if self.stride is None else as_pair(self.stride, "Pool2D: stride")
        self._padding: Any = as_padding(self.padding, "Pool2D: padding")
        if not isinstance(self._padding, str):
            top, bottom, left, right = numbers(as_sides(self._padding, (0, 0), self._kernel, self._stride))
            if max(top, bottom) >= self._kernel[0] or max(left, right) >= self._kernel[1]:
                raise ShapeError(f"Pool2D: padding is {self.padding!r}; each side must be less than kernel_size, "
                                 f"{self.kernel_size!r}, or windows lie in it whole")
        check_word(self, "mode", "max", "average")
        check_flags(self, "count_include_pad", "ceil_mode")

    def accepts(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"Pool2D takes images (N, H, W, C), not {x}")
        require_float(x, "Pool2D")
        if not self.ceil_mode:                           # else a window begins that goes beyond the image
            check_window("Pool2D", self.kernel_size, x.shape[1:3], self._kernel, self._padding)

    def call(self, x: Value) -> Value:
        padding, counted = self._padding, self.count_include_pad
        if self.ceil_mode:
            _, h, w, _ = x.shape
            top, bottom, left, right = as_sides(padding, (h, w), self._kernel, self._stride)
            below = self._left_over(0, h + top + bottom, bottom)
            beside = self._left_over(1, w + left + right, right)
            if self.mode == "average" and counted:       # the padding is counted, what is added for the last window is not
                x = ir.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
                padding, counted = (0, below, 0, beside), False
            else:
                padding = (top, bottom + below, left, right + beside)
        if self.mode == "max":
            return ir.max_pool2d(x, self._kernel, stride=self._stride, padding=padding)
        return ir.avg_pool2d(x, self._kernel, stride=self._stride, padding=padding, count_include_pad=counted)

    def _left_over(self, axis: int, size: Size, after: Size) -> Size:
        """What a further window needs beyond a padded axis of `size`, `after` of which are padding at the end."""
        k, s = self._kernel[axis], self._stride[axis]
        count = dim_min(ceildiv(size - k, s) + 1, ceildiv(size - after, s))     # the last one starts before that padding
        return dim_max((count - 1) * s + k - size, 0)
