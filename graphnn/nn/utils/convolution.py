"""Convolution of arrays: by one matrix product, and written out in loops, to read and to check others against."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnn.errors import ShapeError
from graphnn.nn.arguments import Pair, as_count, as_pair
from graphnn.nn.utils.columns import geometry, im2col
from graphnn.nn.utils.padding import as_array, sides, with_zeros


def conv2D(x: np.ndarray, weight: np.ndarray, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1) -> np.ndarray:
    """The cross-correlation of images by im2col and one product: (N, H, W, C), (kh, kw, C, out) -> (N, H', W', out).

    y[n, r, c, o] = sum over i, j, k of x[n, r stride + i dilation - top, c stride + j dilation - left, k] w[i, j, k, o],
    where x is 0 outside. The layer is nn.Conv2D. Raises ShapeError when the channels differ or the kernel is larger
    than the padded x.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.conv2D(np.ones((8, 28, 28, 1)), np.ones((3, 3, 1, 32)), stride=2, padding="same").shape
    (8, 14, 14, 32)
    """
    x, weight = as_array(x, 4, "x"), as_array(weight, 4, "weight")
    kernel, stride, dilation, pads, counts = geometry(x.shape, weight.shape, padding, stride, dilation)
    columns, _ = im2col(x, weight.shape, [*pads[0], *pads[1]], stride, dilation)
    taps = weight.transpose(3, 2, 0, 1).reshape(weight.shape[3], kernel[0] * kernel[1] * weight.shape[2])
    return np.ascontiguousarray((taps @ columns).reshape(weight.shape[3], *counts, x.shape[0]).transpose(3, 1, 2, 0))


def conv1D(x: np.ndarray, weight: np.ndarray, stride: int = 1, padding: Any = 0, dilation: int = 1) -> np.ndarray:
    """The cross-correlation of sequences: (N, T, C), (k, C, out) -> (N, T', out).

    y[n, t, o] = sum over i, k of x[n, t stride + i dilation - left, k] w[i, k, o], where x is 0 outside. `padding` may be
    "causal". The layer is nn.Conv1D. Raises ShapeError when the channels differ or the kernel is longer than the padded x.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.conv1D(np.arange(4.0).reshape(1, 4, 1), np.ones((2, 1, 1)), padding="causal")[0, :, 0]
    array([0., 1., 3., 5.])
    """
    x, weight = as_array(x, 3, "x"), as_array(weight, 3, "weight")
    stride, dilation = as_count(stride, "stride"), as_count(dilation, "dilation")
    (pads,) = sides(padding, x.shape[1:2], (dilation * (weight.shape[0] - 1) + 1,), (stride,))
    return conv2D(x[:, None], weight[None], (1, stride), (0, 0, *pads), (1, dilation))[:, 0]


def conv2D_naive(x: np.ndarray, weight: np.ndarray, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1) -> np.ndarray:
    """conv2D in loops over examples, rows, columns and outputs: slow, and plainly right. (N, H, W, C) -> (N, H', W', out).

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.conv2D_naive(np.arange(9.0).reshape(1, 3, 3, 1), np.ones((2, 2, 1, 1)))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    x, weight = as_array(x, 4, "x"), as_array(weight, 4, "weight")
    kernel, stride, dilation, pads, counts = geometry(x.shape, weight.shape, padding, stride, dilation)
    padded = with_zeros(x, pads)
    y = np.zeros((x.shape[0], *counts, weight.shape[3]), np.result_type(x, weight))
    for n in range(y.shape[0]):
        for r in range(counts[0]):
            for c in range(counts[1]):
                top, left = r * stride[0], c * stride[1]
                window = padded[n, top:top + dilation[0] * (kernel[0] - 1) + 1:dilation[0],
                                left:left + dilation[1] * (kernel[1] - 1) + 1:dilation[1]]
                for o in range(y.shape[3]):
                    y[n, r, c, o] = (window * weight[..., o]).sum()
    return y


def deconv2D_naive(x: np.ndarray, weight: np.ndarray, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1) -> np.ndarray:
    """The transposed convolution in loops: (N, H, W, C), (kh, kw, C, out) -> (N, H', W', out).

    Each pixel x[n, r, c] adds x[n, r, c] w[i, j] to y[n, r stride + i dilation - top, c stride + j dilation - left].
    H' = (H - 1) stride - pads + dilation (kh - 1) + 1; with "same" H' = H stride, with "same_size" H' = H: conv2D with the same
    arguments makes H of H'. The layer is nn.Deconv2D. Raises ShapeError when nothing is left. (Zeiler et al., 2010)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.deconv2D_naive(np.ones((1, 2, 2, 1)), np.ones((3, 3, 1, 1)), stride=2, padding=1)[0, :, :, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    x, weight = as_array(x, 4, "x"), as_array(weight, 4, "weight")
    rows, columns, taken, outs = weight.shape
    if taken != x.shape[3]:
        raise ShapeError(f"x {x.shape} has {x.shape[3]} channels, the kernel {weight.shape} takes {taken}")
    steps, gaps = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    spans = gaps[0] * (rows - 1) + 1, gaps[1] * (columns - 1) + 1
    same = isinstance(padding, str) and padding == "same"
    sizes = [size * step for size, step in zip(x.shape[1:3], steps, strict=True)] if same else x.shape[1:3]
    (top, bottom), (left, right) = sides(padding, sizes, spans, steps)
    full = [(size - 1) * step + span for size, step, span in zip(x.shape[1:3], steps, spans, strict=True)]
    high, wide = sizes if same else (full[0] - top - bottom, full[1] - left - right)
    if high < 1 or wide < 1:
        raise ShapeError(f"padding {padding!r} leaves {high} rows and {wide} columns of {full[0]} and {full[1]}")
    y = np.zeros((x.shape[0], max(full[0], top + high), max(full[1], left + wide), outs), np.result_type(x, weight))
    for n in range(x.shape[0]):
        for r in range(x.shape[1]):
            for c in range(x.shape[2]):
                for i in range(rows):
                    for j in range(columns):
                        y[n, r * steps[0] + i * gaps[0], c * steps[1] + j * gaps[1]] += x[n, r, c] @ weight[i, j]
    return y[:, top:top + high, left:left + wide]
