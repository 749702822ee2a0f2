"""Tensor types: a dtype and a shape, written `f32[N,784]` in code, text, errors, drawings and files alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import prod

import numpy as np

from graphnn.errors import DTypeError, ShapeError, UnsupportedError
from graphnn.ir.dims import MAX_ELEMENTS, Dim, Size, bind_size, dim, is_size, parse_size, product

RESERVED_DTYPES = ("f16", "bf16")
MAX_RANK = 16


class DType(Enum):
    """What an element is. The value is its name in types."""

    f32 = "f32"
    f64 = "f64"
    i32 = "i32"
    i64 = "i64"
    bool = "bool"

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        return np.dtype(_NUMPY_NAMES[self.value])

    @cached_property
    def itemsize(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.f32, DType.f64)

    @property
    def is_integer(self) -> bool:
        return self in (DType.i32, DType.i64)

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return str(self.value)


_NUMPY_NAMES = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "bool": "bool"}
_BY_NUMPY = {np.dtype(name): DType(short) for short, name in _NUMPY_NAMES.items()}
f32, f64, i32, i64, boolean = DType.f32, DType.f64, DType.i32, DType.i64, DType.bool

DTypeLike = DType | str | np.dtype[np.generic] | type


def as_dtype(value: DTypeLike) -> DType:
    """The DType meant by "f32", "float32", np.float32 or DType.f32. Raises DTypeError or UnsupportedError."""
    if isinstance(value, DType):
        return value
    if (isinstance(value, str) and value in RESERVED_DTYPES) or value in ("float16", "bfloat16"):
        raise UnsupportedError(f"the dtype {value} is reserved and not implemented yet", hint="use f32")
    if isinstance(value, str) and value in _NUMPY_NAMES:
        return DType(value)
    try:
        return _BY_NUMPY[np.dtype(value)]
    except (KeyError, TypeError):
        raise DTypeError(f"{value!r} is not a dtype of graphnn; there are {', '.join(_NUMPY_NAMES)}") from None


@dataclass(frozen=True)
class TensorType:
    """dtype and shape of a tensor."""

    dtype: DType
    shape: tuple[Size, ...]

    def __post_init__(self) -> None:
        if len(self.shape) > MAX_RANK:
            raise ShapeError(f"a tensor has at most {MAX_RANK} axes, not {len(self.shape)}")
        for size in self.shape:
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"a size cannot be negative: {self.dtype}[{shape_text(self.shape)}]")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def elements(self) -> Size:
        return product(self.shape)

    @property
    def nbytes(self) -> Size:
        return self.elements * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        """Whether no size depends on a name."""
        return all(isinstance(size, int) for size in self.shape)

    def bind(self, sizes: Mapping[str, int]) -> TensorType:
        """This type with numbers for names. Raises ShapeError when a tensor would be too large."""
        bound = self if self.is_static else TensorType(self.dtype, tuple(bind_size(size, sizes) for size in self.shape))
        elements = bound.elements or prod(size or 1 for size in bound.shape)    # an empty axis must not hide the others
        if elements > MAX_ELEMENTS:  # pyright: ignore[reportOperatorIssue]
            raise ShapeError(f"{bound} has more than 2**44 elements")
        return bound

    def of_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def of_shape(self, shape: Sequence[Size]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def __str__(self) -> str:
        return f"{self.dtype}[{shape_text(self.shape)}]"

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """The inverse of str: `TensorType.parse("f32[N,784]")`."""
        name, bracket, rest = text.strip().partition("[")
        if not bracket or not rest.endswith("]"):
            raise ShapeError(f"{text!r} is not a tensor type; write f32[N,784]")
        return cls(as_dtype(name), parse_shape(rest[:-1]))

    @classmethod
    def of(cls, array: np.ndarray) -> TensorType:
        """The type of a NumPy array."""
        return cls(as_dtype(array.dtype), array.shape)


def shape_text(shape: Sequence[Size]) -> str:
    return ",".join(str(size) for size in shape)


def parse_shape(text: str) -> tuple[Size, ...]:
    """The shape written `N,784`; commas within parentheses belong to min and max."""
    parts: list[str] = []
    depth = start = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if text.strip():
        parts.append(text[start:])
    return tuple(parse_size(part) for part in parts)


def as_shape(shape: Sequence[Size | str]) -> tuple[Size, ...]:
    """A shape from integers, Dims and names: (28, "N") -> (28, N)."""
    result: list[Size] = []
    for size in shape:
        if isinstance(size, str):
            result.append(dim(size))
        elif isinstance(size, Dim) or is_size(size):
            result.append(size)
        elif isinstance(size, np.integer):
            result.append(int(size))
        else:
            raise ShapeError(f"{size!r} in {tuple(shape)!r} is not a size; use an integer, a Dim or a name")
    return tuple(result)


def broadcast_shapes(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """The shape that NumPy's broadcasting gives; symbolic sizes must be equal, or one of them 1. Raises ShapeError."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for shape in shapes:
            if len(shape) < -axis or shape[axis] == 1 or shape[axis] == size:
                continue
            if size != 1:
                raise ShapeError(f"axis {axis} is {size} on one side and {shape[axis]} on the other",
                                 hint="make the sizes equal, or one of them 1")
            size = shape[axis]
        result.append(size)
    return tuple(result)


def bind_sizes(types: Sequence[TensorType], shapes: Sequence[tuple[int, ...]], names: Sequence[str]) -> dict[str, int]:
    """The value of each symbolic size, found from the actual shapes of inputs. Raises ShapeError naming the input.

    A name is read where it stands alone as an axis; every other size is then checked against it.
    """
    sizes: dict[str, int] = {}
    for declared, shape, name in zip(types, shapes, names, strict=True):
        if declared.rank != len(shape):
            raise ShapeError(f"input {name!r} has {len(shape)} axes, {shape}; declared {declared}")
        for size, actual in zip(declared.shape, shape, strict=True):
            if isinstance(size, Dim) and len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1:
                atom = size.terms[0][0][0]
                if isinstance(atom, str):
                    sizes.setdefault(atom, actual)
    for declared, shape, name in zip(types, shapes, names, strict=True):
        for axis, (size, actual) in enumerate(zip(declared.shape, shape, strict=True)):
            expected = bind_size(size, sizes)
            if expected != actual:
                where = "" if isinstance(size, int) else f" ({size} = {expected})"
                raise ShapeError(f"input {name!r} has shape {shape}: axis {axis} is {actual}, declared {declared}{where}")
    return sizes
