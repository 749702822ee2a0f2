"""Zeros around and between, and how many results a window then has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.nn.arguments import Pair, as_count, as_pair, is_whole

Sides = tuple[tuple[int, int], ...]                     # (before, after) for each axis


def calc_pad_dims_1D(x_shape: Sequence[int], out_length: int, kernel_size: int, stride: int = 1, dilation: int = 1,
                     causal: bool = False) -> tuple[int, int]:
    """(left, right) zeros for which a window over x (N, T, C) has `out_length` results.

    total = stride (out_length - 1) + dilation (kernel_size - 1) + 1 - T; an odd zero goes to the right, and all to the left when
    `causal`. No zeros where the window has that many results already. Raises ShapeError when it has more: T would have to be cut.

    >>> from graphnn.nn import utils
    >>> utils.calc_pad_dims_1D((8, 7, 3), out_length=7, kernel_size=4), utils.calc_pad_dims_1D((8, 7, 3), 7, 4, causal=True)
    ((1, 2), (3, 0))
    """
    (size,) = as_shape(x_shape, 3, "x_shape")[1:2]
    out_length, k = as_count(out_length, "out_length"), as_count(kernel_size, "kernel_size")
    stride, span = as_count(stride, "stride"), as_count(dilation, "dilation") * (k - 1) + 1
    before, after = _for_results(out_length, size, span, stride)
    return (before + after, 0) if causal else (before, after)


def calc_pad_dims_2D(x_shape: Sequence[int], out_shape: tuple[int, int], kernel_size: Pair, stride: Pair = 1,
                     dilation: Pair = 1) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) zeros for which a window over x (N, H, W, C) has `out_shape` (rows, columns) results.

    For each axis as in calc_pad_dims_1D; an odd zero goes to the bottom and the right. Raises ShapeError.

    >>> from graphnn.nn import utils
    >>> utils.calc_pad_dims_2D((8, 7, 7, 3), out_shape=(7, 7), kernel_size=3, stride=2)
    (4, 4, 4, 4)
    """
    sizes = as_shape(x_shape, 4, "x_shape")[1:3]
    spans, strides = _spans(as_pair(kernel_size, "kernel_size"), as_pair(dilation, "dilation")), as_pair(stride, "stride")
    (top, bottom), (left, right) = (_for_results(*axis) for axis in zip(as_pair(out_shape, "out_shape"), sizes, spans, strides,
                                                                       strict=True))
    return top, bottom, left, right


def calc_conv_out_dims(x_shape: Sequence[int], weight_shape: Sequence[int], stride: Pair = 1, padding: Any = 0,
                       dilation: Pair = 1) -> tuple[int, ...]:
    """The shape of a convolution's result, of x (N, T, C) with a kernel (k, C, out) or x (N, H, W, C) with (kh, kw, C, out).

    T' = (T + left + right - dilation (k - 1) - 1) // stride + 1. Raises ShapeError when the channels differ or the kernel is
    larger than the padded x.

    >>> from graphnn.nn import utils
    >>> utils.calc_conv_out_dims((8, 28, 28, 1), (5, 5, 1, 32), stride=2, padding="same")
    (8, 14, 14, 32)
    """
    rank = len(x_shape) if isinstance(x_shape, (tuple, list)) else 4
    if rank not in (3, 4):
        raise ShapeError(f"x_shape is {x_shape!r}; it is (N, T, C) or (N, H, W, C)")
    shape, weight = as_shape(x_shape, rank, "x_shape"), as_shape(weight_shape, rank, "weight_shape")
    if shape[-1] != weight[-2]:
        raise ShapeError(f"x_shape {shape} has {shape[-1]} channels, weight_shape {weight} takes {weight[-2]}")
    strides, dilations = as_steps(stride, "stride", rank - 2), as_steps(dilation, "dilation", rank - 2)
    spans = _spans(weight[:-2], dilations)
    pads = sides(padding, shape[1:-1], spans, strides)
    return shape[0], *results(shape[1:-1], spans, strides, pads), weight[-1]


def pad1D(x: np.ndarray, padding: Any, kernel_size: int | None = None, stride: int = 1,
          dilation: int = 1) -> tuple[np.ndarray, tuple[int, int]]:
    """(x with zeros around its time axis, (left, right)): (N, T, C) -> (N, left + T + right, C).

    `padding` is a number, (left, right), "valid", or "same", "same_size" and "causal" (dilation (kernel_size - 1) zeros at the
    left), which need `kernel_size`. numpy-ml's "causal" keeps T at any stride: calc_pad_dims_1D(x.shape, T, kernel_size, stride,
    causal=True). Raises ShapeError.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> y, pads = utils.pad1D(np.ones((8, 10, 3)), "causal", kernel_size=3, dilation=2)
    >>> y.shape, pads
    ((8, 14, 3), (4, 0))
    """
    x = as_array(x, 3, "x")
    spans = None if kernel_size is None else _spans((as_count(kernel_size, "kernel_size"),), (as_count(dilation, "dilation"),))
    (pads,) = sides(padding, x.shape[1:2], spans, (as_count(stride, "stride"),))
    return with_zeros(x, (pads,)), pads


def pad2D(x: np.ndarray, padding: Any, kernel_size: Pair | None = None, stride: Pair = 1,
          dilation: Pair = 1) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """(x with zeros around its images, (top, bottom, left, right)): (N, H, W, C) -> (N, top + H + bottom, left + W + right, C).

    `padding` is a number, (rows, columns), (top, bottom, left, right), "valid", or "same" and "same_size", which need
    `kernel_size`. Raises ShapeError.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> y, pads = utils.pad2D(np.ones((8, 7, 7, 3)), "same", kernel_size=4)
    >>> y.shape, pads
    ((8, 10, 10, 3), (1, 2, 1, 2))
    """
    x = as_array(x, 4, "x")
    spans = None if kernel_size is None else _spans(as_pair(kernel_size, "kernel_size"), as_pair(dilation, "dilation"))
    rows, columns = sides(padding, x.shape[1:3], spans, as_pair(stride, "stride"))
    return with_zeros(x, (rows, columns)), (*rows, *columns)


def dilate(x: np.ndarray, d: Pair) -> np.ndarray:
    """x with d zeros between neighbours, in rows and columns: (N, H, W, C) -> (N, H + d (H - 1), W + d (W - 1), C).

    `d` is a number or (rows, columns); a kernel so dilated is one of `dilation` d + 1. Raises ShapeError.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.dilate(np.ones((1, 2, 2, 1)), 1)[0, :, :, 0]
    array([[1., 0., 1.],
           [0., 0., 0.],
           [1., 0., 1.]])
    """
    x = as_array(x, 4, "x")
    steps = [count + 1 for count in as_pair(d, "d", 0)]
    rows, columns = (max(0, (size - 1) * step + 1) for size, step in zip(x.shape[1:3], steps, strict=True))
    result = np.zeros((x.shape[0], rows, columns, x.shape[3]), x.dtype)
    result[:, ::steps[0], ::steps[1]] = x
    return result


# ------------------------------------------------------------------------------------------------ shared

def sides(padding: Any, sizes: Sequence[int], spans: Sequence[int] | None, strides: Sequence[int]) -> Sides:
    """(before, after) for each axis: how `padding` is meant for one axis or two. Raises ShapeError."""
    axes = len(sizes)
    if isinstance(padding, str) and padding == "valid":
        return ((0, 0),) * axes
    if isinstance(padding, str) and padding in ("same", "same_size", *(("causal",) if axes == 1 else ())):
        if spans is None:
            raise ShapeError(f"padding {padding!r} needs kernel_size")
        if padding == "causal":
            return ((spans[0] - 1, 0),)
        wanted = [-(-size // stride) if padding == "same" else size for size, stride in zip(sizes, strides, strict=True)]
        return tuple(_halves(max(0, (count - 1) * stride + span - size)) if count else (0, 0)
                     for count, size, span, stride in zip(wanted, sizes, spans, strides, strict=True))
    given: tuple[Any, ...] = tuple(padding) if isinstance(padding, (tuple, list, np.ndarray)) else ()
    if is_whole(padding):
        given = (padding,) * (2 * axes)
    elif axes == 2 and len(given) == 2:
        given = (given[0], given[0], given[1], given[1])
    if len(given) == 2 * axes and all(is_whole(count) and count >= 0 for count in given):
        return tuple((int(given[axis]), int(given[axis + 1])) for axis in range(0, 2 * axes, 2))
    forms = "(left, right), 'valid', 'same', 'same_size' or 'causal'" if axes == 1 else \
            "(rows, columns), (top, bottom, left, right), 'valid', 'same' or 'same_size'"
    raise ShapeError(f"padding is {padding!r}; use an integer, {forms}, none negative")


def results(sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Sides) -> tuple[int, ...]:
    """How many results a window has on each axis. Raises ShapeError when it has none."""
    found: list[int] = []
    for size, span, stride, (before, after) in zip(sizes, spans, strides, pads, strict=True):
        padded = size + before + after
        if padded < span:
            raise ShapeError(f"the kernel reaches over {span}, more than the {padded} of x with padding ({before}, {after})")
        found.append((padded - span) // stride + 1)
    return tuple(found)


def with_zeros(x: np.ndarray, pads: Sides) -> np.ndarray:
    """x with zeros around the axes after the first."""
    return np.pad(x, [(0, 0), *pads, (0, 0)])


def as_array(x: Any, rank: int, what: str) -> np.ndarray:
    """x as an array of numbers of this rank. Raises ShapeError, DTypeError."""
    array = np.asarray(x)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{what} is of {array.dtype}; it must be of numbers")
    if array.ndim != rank:
        raise ShapeError(f"{what} has the shape {array.shape}; it must have {rank} axes")
    return array


def as_shape(shape: Any, rank: int, what: str) -> tuple[int, ...]:
    """A shape of this rank. Raises ShapeError."""
    if not isinstance(shape, (tuple, list)) or len(shape) != rank or any(not is_whole(size) or size < 0 for size in shape):
        raise ShapeError(f"{what} is {shape!r}; it must have {rank} sizes, none negative")
    return tuple(int(size) for size in shape)


def as_steps(value: Any, what: str, axes: int) -> tuple[int, ...]:
    """A stride or dilation for one axis or two. Raises ShapeError."""
    return (as_count(value, what),) if axes == 1 else as_pair(value, what)


def _spans(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """How far a kernel reaches on each axis."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def _for_results(count: int, size: int, span: int, stride: int) -> tuple[int, int]:
    total = stride * (count - 1) + span - size
    if total < 0 and (size - span) // stride + 1 != count:
        raise ShapeError(f"{count} results would need {total} zeros: a window of {span} at stride {stride} has "
                         f"{(size - span) // stride + 1} on {size} without any")
    return _halves(max(0, total))


def _halves(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2
