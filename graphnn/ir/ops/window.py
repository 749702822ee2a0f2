"""Sliding windows over the H and W of an image: what convolution and pooling share about sizes, strides and padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import Dim, Size, ceildiv, dim_max, floordiv, is_size, numbers
from graphnn.ir.types import TensorType

Pair = tuple[int, int]
Sides = tuple[Size, Size, Size, Size]                   # top, bottom, left, right
PairLike = int | Sequence[int]
LIMIT = 1 << 31
PaddingLike = int | str | Sequence[Size]


def as_pair(value: PairLike, what: str, least: int = 1) -> Pair:
    """(height, width) from one number for both, or two. Raises ShapeError."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    check_pairs(least, **{what: pair})
    return pair[0], pair[1]


def check_pairs(least: int = 1, /, **pairs: tuple[int, ...]) -> None:
    """Raise ShapeError unless each is two whole numbers. Type rules call it too: attributes may come from a stranger's file."""
    for what, pair in pairs.items():
        if len(pair) != 2 or not all(isinstance(v, int) and least <= v < LIMIT for v in pair):
            raise ShapeError(f"{what} is {pair!r}; give a whole number >= {least}, or two: (height, width)")


def reach(kernel: int, dilation: int = 1) -> int:
    """How many input positions a window spans: dilation * (kernel - 1) + 1."""
    return dilation * (kernel - 1) + 1


def same_total(size: Size, span: int, stride: int) -> Size:
    """The padding of both sides together that gives ceil(size / stride) results."""
    return dim_max((ceildiv(size, stride) - 1) * stride + span - size, 0)


def out_size(size: Size, low: Size, high: Size, span: int, stride: int) -> Size:
    """How many windows fit: (size + low + high - span) // stride + 1."""
    padding = low + high
    if isinstance(padding, Dim) and padding == same_total(size, span, stride):
        return ceildiv(size, stride)                    # the same number, said simply
    room = size + padding - span
    if isinstance(room, int) and room < 0:
        raise ShapeError(f"a window that spans {span} does not fit in {size} with padding {low} and {high}",
                         hint="use a smaller kernel or dilation, or more padding")
    return floordiv(room, stride) + 1


def as_sides(padding: PaddingLike, sizes: tuple[Size, Size], spans: Pair, stride: Pair) -> Sides:
    """(top, bottom, left, right) from a number, (height, width), four numbers, "valid" or "same"."""
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0, 0, 0
        if padding == "same":
            total = [same_total(n, span, s) for n, span, s in zip(sizes, spans, stride, strict=True)]
            top, left = floordiv(total[0], 2), floordiv(total[1], 2)
            return top, total[0] - top, left, total[1] - left
        raise ShapeError(f'padding is {padding!r}; the words are "valid" and "same"')
    sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    if len(sides) == 2:
        sides = (sides[0], sides[0], sides[1], sides[1])
    if len(sides) != 4:
        raise ShapeError(f"padding is {padding!r}; give a number, (height, width), (top, bottom, left, right), 'valid' or 'same'")
    check_sides(sides)
    return sides


def check_sides(padding: Sides) -> None:
    """Raise ShapeError unless padding is four sizes, none of them negative."""
    if len(padding) != 4 or not all(is_size(p) for p in padding) or any(isinstance(p, int) and p >= LIMIT for p in padding):
        raise ShapeError(f"padding is {padding!r}, not (top, bottom, left, right)")
    if any(isinstance(p, int) and p < 0 for p in padding):
        raise ShapeError(f"padding cannot be negative: {padding}", hint="slice the image instead")


def check_image(x: TensorType) -> None:
    """Raise unless `x` is a batch of float images, NHWC."""
    if x.rank != 4:
        raise ShapeError(f"an image batch has the four axes (N, H, W, C), not {x.rank}: {x}")
    check_float(x)


def check_float(*types: TensorType) -> None:
    """Raise DTypeError unless all are of one float dtype."""
    if not all(t.dtype.is_float for t in types) or len({t.dtype for t in types}) > 1:
        raise DTypeError(f"takes operands of one float dtype, not {', '.join(str(t.dtype) for t in types)}",
                         hint='use cast(x, "f32")')



def padded(x: np.ndarray, sides: Sides, value: float = 0.0) -> np.ndarray:
    """The images with `value` around them."""
    top, bottom, left, right = numbers(sides)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def cropped(x: np.ndarray, sides: Sides) -> np.ndarray:
    """The inverse of `padded`."""
    top, bottom, left, right = numbers(sides)
    return x[:, top:x.shape[1] - bottom, left:x.shape[2] - right]


def tap(x: np.ndarray, at: Pair, out: tuple[int, int], stride: Pair) -> np.ndarray:
    """The view of padded images that holds, for each window, its element at offset `at`: (N, OH, OW, C)."""
    (i, j), (oh, ow), (sh, sw) = at, out, stride
    return x[:, i:i + (oh - 1) * sh + 1:sh, j:j + (ow - 1) * sw + 1:sw]


def any_batch(x: np.ndarray) -> str:
    """The shape of a sample's images with a name for the batch."""
    return ",".join(map(str, ("N", *x.shape[1:])))
