"""Arguments of layers and optimisers, checked when they are given: an error names the argument and its value."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import Size, numbers
from graphnn.ir.ops.window import as_sides
from graphnn.ir.types import TensorType

LARGEST = sys.float_info.max
Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[int, int, int, int] | str


def is_whole(value: Any) -> bool:
    """Whether this is an integer, NumPy's included, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether this is a finite real number, NumPy's included, and no bool."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and abs(float(value) if isinstance(value, np.generic) else value) <= LARGEST     # 10**400 has no float


def is_count(value: Any, least: int) -> bool:
    """Whether this is a whole number of 64 bits, at least `least`."""
    return is_whole(value) and least <= value < 1 << 63


def shown(value: Any) -> str:
    """An argument as errors show it: its repr, the beginning of a long one; no integer of thousands of digits."""
    if is_whole(value) and abs(value) >= 1 << 64:
        return "an integer of more than 64 bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_count(value: Any, what: str, least: int = 1) -> int:
    """`value` as a Python integer. Raises ShapeError unless it is a whole number, at least `least`."""
    if not is_count(value, least):
        raise ShapeError(f"{what} is {shown(value)}; it must be a whole number, at least {least}")
    return int(value)


def as_axis(value: Any, what: str) -> int:
    """`value` as a Python integer. Raises ShapeError unless it can be the number of an axis."""
    if not is_count(value, -(1 << 63)):
        raise ShapeError(f"{what} is {shown(value)}; it must be a whole number, negative from the end")
    return int(value)


def as_probability(value: Any, what: str, *, closed: bool = False) -> float:
    """`value` as a float in [0, 1), or in [0, 1] when `closed`. Raises ShapeError."""
    if not is_number(value) or not 0 <= value <= 1 or (value == 1 and not closed):
        raise ShapeError(f"{what} is {shown(value)}; it must be at least 0 and {'at most' if closed else 'below'} 1")
    return float(value)


def as_flag(value: Any, what: str) -> bool:
    """`value` as a Python bool. Raises ShapeError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ShapeError(f"{what} is {shown(value)}; it is True or False")
    return bool(value)


def check_flags(thing: Any, *arguments: str) -> None:
    """Make these arguments of a layer Python bools. Raises ShapeError unless they are True or False."""
    for argument in arguments:
        setattr(thing, argument, as_flag(getattr(thing, argument), f"{type(thing).__name__}: {argument}"))


def check_word(thing: Any, argument: str, *words: str) -> None:
    """Raise ShapeError unless this argument of a layer is one of the words."""
    value = getattr(thing, argument)
    if not isinstance(value, str) or value not in words:
        listed = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
        raise ShapeError(f"{type(thing).__name__}: {argument} is {shown(value)}; it is {listed}")


def as_pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """(rows, columns) from one number or two. Raises ShapeError."""
    pair = (value, value) if is_whole(value) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(is_count(v, least) for v in pair):
        raise ShapeError(f"{what} is {shown(value)}; use an integer or a pair of integers, at least {least}")
    return int(pair[0]), int(pair[1])


def as_padding(value: Any, what: str, *words: str) -> Padding:
    """A padding in its own form, its numbers as Python integers; `words` are allowed beside "valid" and "same".
    Raises ShapeError."""
    known = ("valid", "same", *words)
    if is_count(value, 0):
        return int(value)
    if isinstance(value, str) and value in known:
        return value
    if isinstance(value, (tuple, list)) and len(value) in (2, 4) and all(is_count(v, 0) for v in value):
        return tuple(int(v) for v in value)  # pyright: ignore[reportReturnType]
    raise ShapeError(f"{what} is {shown(value)}; use an integer, (rows, columns), (top, bottom, left, right), "
                     f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}, none negative")


def check_window(kind: str, kernel_size: Any, sizes: Sequence[Size], spans: tuple[int, int], padding: Padding) -> None:
    """Raise ShapeError, naming kernel_size, when a window that spans this much fits in no padded image of these rows and
    columns. Of sizes that are symbolic the numbers show it."""
    if isinstance(padding, str) and padding != "valid":  # as much as it takes
        return
    sides = as_sides(padding, (0, 0), spans, (1, 1))
    for size, span, low, high in zip(sizes, spans, sides[::2], sides[1::2], strict=True):
        if isinstance(size, int) and numbers((size + low + high,))[0] < span:
            raise ShapeError(f"{kind}: kernel_size is {kernel_size!r}; a window that spans {span} does not fit in {size} with "
                             f"padding {low} and {high}", hint="use a smaller kernel or dilation, or more padding")


def require_float(x: TensorType, what: str) -> None:
    """Raise DTypeError unless x is of a float dtype: parameters of another could not be trained."""
    if not x.dtype.is_float:
        raise DTypeError(f"{what} takes real numbers, not {x}", hint='use gnn.cast(x, "f32")')
