"""im2col and its adjoint: the windows of images as the columns of a matrix, with which convolution is one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphnn.errors import ShapeError
from graphnn.nn.arguments import Pair, as_pair
from graphnn.nn.utils.padding import Sides, as_array, as_shape, results, sides, with_zeros


def im2col(x: np.ndarray, weight_shape: Sequence[int], padding: Any = 0, stride: Pair = 1,
           dilation: Pair = 1) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """(the windows of x as columns, (top, bottom, left, right)): (N, H, W, C) -> (C kh kw, H' W' N).

    The kernel is (kh, kw, C, out). Rows are ordered by channel, kernel row, kernel column; columns by row and column of the
    result, then by example. Raises ShapeError when the channels differ or the kernel is larger than the padded x.
    (Chellapilla et al., 2006)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> columns, pads = utils.im2col(np.arange(9.0).reshape(1, 3, 3, 1), (2, 2, 1, 1))
    >>> columns[:, 0], pads
    (array([0., 1., 3., 4.]), (0, 0, 0, 0))
    """
    x = as_array(x, 4, "x")
    kernel, stride, dilation, pads, counts = geometry(x.shape, weight_shape, padding, stride, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = sliding_window_view(with_zeros(x, pads), spans, (1, 2))            # (N, rows, columns, C, span, span)
    windows = windows[:, ::stride[0], ::stride[1], :, ::dilation[0], ::dilation[1]]
    columns = windows.transpose(3, 4, 5, 1, 2, 0).reshape(x.shape[3] * kernel[0] * kernel[1], counts[0] * counts[1] * x.shape[0])
    return columns, (*pads[0], *pads[1])


def col2im(columns: np.ndarray, x_shape: Sequence[int], weight_shape: Sequence[int], padding: Any = 0, stride: Pair = 1,
           dilation: Pair = 1) -> np.ndarray:
    """The adjoint of im2col: each column is added to x where its window stood, (C kh kw, H' W' N) -> (N, H, W, C).

    <im2col(x), columns> = <x, col2im(columns)>, so it is the gradient of im2col. Raises ShapeError when the matrix does not fit.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.col2im(np.ones((4, 4)), (1, 3, 3, 1), (2, 2, 1, 1))[0, :, :, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    columns = as_array(columns, 2, "columns")
    shape = n, height, width, channels = as_shape(x_shape, 4, "x_shape")
    kernel, stride, dilation, pads, counts = geometry(shape, weight_shape, padding, stride, dilation)
    expected = channels * kernel[0] * kernel[1], counts[0] * counts[1] * n
    if columns.shape != expected:
        raise ShapeError(f"columns have the shape {columns.shape}; windows of x {shape} have {expected}")
    windows = columns.reshape(channels, *kernel, *counts, n).transpose(5, 3, 4, 0, 1, 2)
    (top, bottom), (left, right) = pads
    total = np.zeros((n, top + height + bottom, left + width + right, channels), columns.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            row, column = i * dilation[0], j * dilation[1]
            total[:, row:row + counts[0] * stride[0]:stride[0], column:column + counts[1] * stride[1]:stride[1]] += \
                windows[..., i, j]
    return total[:, top:top + height, left:left + width]


def geometry(x_shape: Sequence[int], weight_shape: Sequence[int], padding: Any, stride: Pair, dilation: Pair,
             ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], Sides, tuple[int, int]]:
    """(kernel, stride, dilation, pads, results) of a convolution of images, each for rows and columns. Raises ShapeError."""
    rows, columns, taken, _ = as_shape(weight_shape, 4, "weight_shape")
    if taken != x_shape[3]:
        raise ShapeError(f"x {tuple(x_shape)} has {x_shape[3]} channels, the kernel {tuple(weight_shape)} takes {taken}")
    if not rows or not columns:
        raise ShapeError(f"weight_shape is {weight_shape!r}; the kernel must have rows and columns")
    steps, gaps = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    spans = gaps[0] * (rows - 1) + 1, gaps[1] * (columns - 1) + 1
    pads = sides(padding, x_shape[1:3], spans, steps)
    high, wide = results(x_shape[1:3], spans, steps, pads)
    return (rows, columns), steps, gaps, pads, (high, wide)
