"""The door of a model: arrays, lists and scikit-learn's float64 become arrays of the declared types, or a clear error."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.dims import Dim
from graphnn.ir.types import TensorType


def as_declared(array: Any, declared: TensorType, what: str) -> np.ndarray:
    """`array` with the declared dtype and rank. Real and integer numbers are converted; anything else is a DTypeError.

    A number that the declared dtype cannot hold (a fraction for integers, an id beyond int32) is a NumericsError.
    """
    if type(array) is np.ndarray and array.dtype is declared.dtype.numpy:
        given = array
    else:
        given = _converted(as_array(array, what), declared, what)
    if given.ndim != declared.rank:
        raise ShapeError(f"{what}: {given.ndim} axes, shape {given.shape}; declared {declared}",
                         hint=_rank_hint(given, declared))
    for axis, (size, actual) in enumerate(zip(declared.shape, given.shape, strict=True)):
        if not isinstance(size, Dim) and size != actual:
            raise ShapeError(f"{what}: shape {given.shape}, axis {axis} is {actual}, declared {declared}")
    return given


def as_array(array: Any, what: str) -> np.ndarray:
    """`array` as a NumPy array of whatever dtype it has."""
    if np.ma.is_masked(array):                           # the mask would be lost, and what it hides taken for numbers
        raise DTypeError(f"{what} is a masked array", hint="fill it: array.filled(value), or give masks as inputs of their own")
    try:
        return np.asarray(array)
    except ValueError as error:
        raise ShapeError(f"{what}: the rows have different lengths", hint="an array has rows of one length") from error


def _rank_hint(given: np.ndarray, declared: TensorType) -> str | None:
    if given.ndim == declared.rank - 1:
        if declared.rank > 1 and declared.shape[-1] == 1 and given.shape[-1:] != (1,):
            return "add an axis of channels: x[..., None]"
        return "one example needs a batch axis: x[None]"
    return None


def _converted(given: np.ndarray, declared: TensorType, what: str) -> np.ndarray:
    target = declared.dtype.numpy
    if given.dtype.kind not in "biuf":
        raise DTypeError(f"{what} is an array of {given.dtype}; declared {declared}", hint="give real or integer numbers")
    if declared.dtype.is_float:
        try:
            with np.errstate(over="raise"):
                return given.astype(target)
        except FloatingPointError:
            raise NumericsError(f"{what}: there are numbers that {declared.dtype} cannot hold",
                                hint='scale them, or declare the input with dtype="f64"') from None
    if given.dtype.kind == "f" and not (np.all(np.isfinite(given)) and np.all(given == np.floor(given))):
        raise NumericsError(f"{what}: there are values that are no whole numbers; declared {declared}")
    if declared.dtype.is_integer and given.size:
        limits = np.iinfo(str(target))
        if int(given.max()) > limits.max or int(given.min()) < limits.min:
            raise NumericsError(f"{what}: there are values that {declared.dtype} cannot hold")
    return given.astype(target)


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise NumericsError, naming the first place, when a real array has NaN or infinity."""
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise NumericsError(f"{what}: {array[tuple(place)]} at {place}", hint="remove or replace such examples")


def common_length(arrays: dict[str, np.ndarray]) -> int:
    """The number of examples, the same in all arrays and not 0. Raises ShapeError."""
    lengths = {name: len(array) for name, array in arrays.items()}
    first = next(iter(lengths.values()))
    if any(length != first for length in lengths.values()):
        raise ShapeError(f"the arrays have different numbers of examples: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    if first == 0:
        raise ShapeError("there are no examples: the batch is empty")
    return first
