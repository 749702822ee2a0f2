"""Arguments of layers and optimisers, checked when they are given: an error names the argument and its value."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
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


def as_count(value: Any, what: str, least: int = 1) -> int:
    """`value` as a Python integer. Raises ShapeError unless it is a whole number, at least `least`."""
    if not is_whole(value) or not least <= value < 1 << 63:
        shown = f"{value!r}" if not is_whole(value) or abs(value) < 1 << 64 else "an integer of more than 64 bits"
        raise ShapeError(f"{what} is {shown}; it must be a whole number, at least {least}")
    return int(value)


def as_probability(value: Any, what: str, *, closed: bool = False) -> float:
    """`value` as a float in [0, 1), or in [0, 1] when `closed`. Raises ShapeError."""
    if not is_number(value) or not 0 <= value <= 1 or (value == 1 and not closed):
        raise ShapeError(f"{what} is {value!r}; it must be at least 0 and {'at most' if closed else 'below'} 1")
    return float(value)


def check_flags(thing: Any, *arguments: str) -> None:
    """Raise ShapeError unless these arguments of a layer are True or False."""
    for argument in arguments:
        if not isinstance(getattr(thing, argument), bool):
            raise ShapeError(f"{type(thing).__name__}: {argument} is {getattr(thing, argument)!r}; it is True or False")


def as_pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """(rows, columns) from one number or two. Raises ShapeError."""
    pair = (value, value) if is_whole(value) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or any(not is_whole(v) or v < least for v in pair):
        raise ShapeError(f"{what} is {value!r}; use an integer or a pair of integers, at least {least}")
    return int(pair[0]), int(pair[1])


def as_padding(value: Any, what: str, *words: str) -> Padding:
    """A padding in its own form, its numbers as Python integers; `words` are allowed beside "valid" and "same".
    Raises ShapeError."""
    known = ("valid", "same", *words)
    if is_whole(value) and value >= 0:
        return int(value)
    if isinstance(value, str) and value in known:
        return value
    if isinstance(value, (tuple, list)) and len(value) in (2, 4) and all(is_whole(v) and v >= 0 for v in value):
        return tuple(int(v) for v in value)  # pyright: ignore[reportReturnType]
    raise ShapeError(f"{what} is {value!r}; use an integer, (rows, columns), (top, bottom, left, right), "
                     f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}, none negative")


def require_float(x: TensorType, what: str) -> None:
    """Raise DTypeError unless x is of a float dtype: parameters of another could not be trained."""
    if not x.dtype.is_float:
        raise DTypeError(f"{what} takes real numbers, not {x}", hint='use gnn.cast(x, "f32")')
