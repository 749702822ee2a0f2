"""Images at another size, and many of them as one picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.nn.arguments import Pair, as_count, as_pair, is_number


def resize_images(images: Any, size: Pair) -> np.ndarray:
    """Images (N, h, w) or (N, h, w, C) at another size (H, W), by linear interpolation between the centres of pixels.

    The centre of row I lies at row (I + 1/2) h / H - 1/2 of the image given, and at its edge where that is outside; so with
    columns. It is what PyTorch's `interpolate` does with mode="bilinear". Integers become float64. Raises ShapeError for what
    are no images, DTypeError for what are no real numbers.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.resize_images(np.array([[[0.0, 1.0]]]), (1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]])
    """
    images = _images(images)
    for axis, target in ((1, as_pair(size, "size")[0]), (2, as_pair(size, "size")[1])):
        count = images.shape[axis]
        at = np.clip((np.arange(target) + 0.5) * count / target - 0.5, 0, count - 1)
        low = np.minimum(at.astype(int), max(count - 2, 0))
        part = (at - low).astype(images.dtype).reshape(-1, *[1] * (images.ndim - 1 - axis))
        images = images.take(low, axis) * (1 - part) + images.take(np.minimum(low + 1, count - 1), axis) * part
    return images


def tile_images(images: Any, columns: int | None = None, *, gap: int = 1, fill: float = np.nan) -> np.ndarray:
    """Images (N, H, W), (N, H, W, 1) or (N, H, W, C) as one picture, row by row: (H', W') or (H', W', C).

    There are `columns` of them in a row, by default about as many as there are rows, and `gap` pixels between two, which have
    the value `fill`: the default NaN is where matplotlib's `imshow` shows what lies behind. H' = rows (H + gap) - gap, so with
    columns. Raises ShapeError for what are no images, DTypeError for what are no real numbers.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.tile_images(np.arange(3.0).reshape(3, 1, 1), 2, fill=9.0)
    array([[0., 9., 1.],
           [9., 9., 9.],
           [2., 9., 9.]])
    """
    images = _images(images)
    count, height, width, *channels = images.shape
    columns = as_count(int(np.ceil(count**0.5)) if columns is None else columns, "columns")
    gap = as_count(gap, "gap", 0)
    if not is_number(fill) and not (isinstance(fill, float) and np.isnan(fill)):
        raise ShapeError(f"fill is {fill!r}; it must be a number, or NaN")
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap, *channels), fill, images.dtype)
    cells[:count, :height, :width] = images
    picture = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    picture = picture.reshape(rows * (height + gap), columns * (width + gap), *channels)
    picture = picture[:picture.shape[0] - gap, :picture.shape[1] - gap]
    return picture[..., 0] if channels == [1] else picture


def _images(given: Any) -> np.ndarray:
    images = np.asarray(given)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ShapeError(f"images have the shape {images.shape}; it must be (N, H, W) or (N, H, W, C), none of them 0")
    if images.dtype.kind not in "biuf":
        raise DTypeError(f"images are an array of {images.dtype}", hint="give real or integer numbers")
    return images if images.dtype.kind == "f" else images.astype(np.float64)
