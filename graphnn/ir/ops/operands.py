"""What ops take: values of one dtype, and beside them Python numbers and NumPy arrays. Shared checks of type rules."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from graphnn.errors import DTypeError, GraphnnError, ShapeError
from graphnn.ir.attrs import Array
from graphnn.ir.dims import Size
from graphnn.ir.graph import Value
from graphnn.ir.loc import here
from graphnn.ir.op import describe
from graphnn.ir.ops import inputs
from graphnn.ir.types import DType, TensorType, broadcast_shapes

Number = bool | int | float
Operand = Value | Number | np.ndarray | np.generic

P = ParamSpec("P")
R = TypeVar("R")


def located(function: Callable[P, R]) -> Callable[P, R]:
    """The function, its errors naming it, its operands and the user's line: for checks made before there is a node."""
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except GraphnnError as error:
            types = tuple(x.type for x in args if isinstance(x, Value))
            error.locate(f"{getattr(function, '__name__', 'function')}: ", describe(types, here()))
            raise
    return wrapper


def operands(*items: Operand) -> tuple[Value, ...]:
    """`items` as values. A number takes the dtype of the first tensor beside it; an array keeps its own dtype."""
    found = [x if isinstance(x, Value) else inputs.constant(x) if isinstance(x, np.ndarray) and x.ndim else None
             for x in items]
    dtype = next((x.dtype for x in found if x is not None), None)
    return tuple(x if x is not None else number(item, dtype) for x, item in zip(found, items, strict=True))  # pyright: ignore[reportArgumentType]


def number(item: Number | np.generic | np.ndarray, dtype: DType | None) -> Value:
    """A Python number as a 0-d constant of `dtype`; refuses a number that the dtype cannot hold."""
    if isinstance(item, (np.generic, np.ndarray)):
        if dtype is None:
            return inputs.constant(item)
        item = item.item()
    if not isinstance(item, (bool, int, float)):
        raise DTypeError(f"{type(item).__name__} is no operand", hint="give a Value, a number or a NumPy array")
    if dtype is None:
        return inputs.constant(item)
    fits = (isinstance(item, bool) if dtype is DType.bool else
            not isinstance(item, bool) and (dtype.is_float or isinstance(item, int)))
    if not fits:
        raise DTypeError(f"the number {item!r} does not go with {dtype}", hint="use cast(x, dtype) on the tensor")
    try:
        with np.errstate(over="ignore"):
            array = np.array(item, dtype.numpy)
    except OverflowError:
        array = None
    if array is None or (np.isinf(array) and not math.isinf(item)):
        raise DTypeError(f"the number {item!r} is too large for {dtype}")
    return inputs.Constant(Array(array)).one()


def scalar_constant(value: Value) -> Number | None:
    """The number that `value` is, when it is a 0-d constant."""
    op = value.node.op
    return op.value.data.item() if isinstance(op, inputs.Constant) and value.rank == 0 else None


# ------------------------------------------------------------------------------------------------ for type rules

def require_float(*types: TensorType) -> None:
    for t in types:
        if not t.dtype.is_float:
            raise DTypeError(f"takes f32 or f64, not {t.dtype}", hint='use cast(x, "f32")')


def require_number(*types: TensorType) -> None:
    for t in types:
        if t.dtype is DType.bool:
            raise DTypeError("takes numbers, not bool", hint='use cast(x, "f32"), or logical_and, logical_or, logical_not')


def require_integer(*types: TensorType) -> None:
    for t in types:
        if not t.dtype.is_integer:
            raise DTypeError(f"takes i32 or i64, not {t.dtype}", hint='use cast(x, "i64")')


def require_bool(*types: TensorType) -> None:
    for t in types:
        if t.dtype is not DType.bool:
            raise DTypeError(f"takes bool, not {t.dtype}", hint="compare first: less(x, y), equal(x, y)")


def require_same_dtype(*types: TensorType) -> None:
    for t in types[1:]:
        if t.dtype is not types[0].dtype:
            raise DTypeError(f"dtypes differ: {types[0].dtype} and {t.dtype}",
                             hint=f'nothing is promoted silently; use cast(x, "{types[0].dtype}")')


def broadcast_type(*types: TensorType) -> TensorType:
    """The type of an elementwise result: equal dtypes, shapes broadcast."""
    require_same_dtype(*types)
    return TensorType(types[0].dtype, broadcast_shapes(*(t.shape for t in types)))


# ------------------------------------------------------------------------------------------------ axes

Axis = int | Sequence[int] | None


def as_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises ShapeError."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise ShapeError(f"{axis!r} is not an axis; use an integer")
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is out of range for {rank} axes")
    return int(axis) % rank


def as_axes(axis: Axis, rank: int) -> tuple[int, ...]:
    """The axes meant by an integer, several, or None for all: sorted, counted from the front. Raises ShapeError."""
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, (int, np.integer)):
        return (as_axis(int(axis), rank),)
    if not isinstance(axis, (tuple, list, range)):
        raise ShapeError(f"{axis!r} is not an axis; use an integer, several, or None for all")
    axes = tuple(sorted(as_axis(a, rank) for a in axis))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"an axis stands twice in {tuple(axis)}")
    return axes


def check_axes(axes: tuple[int, ...], rank: int) -> None:
    """For type rules: the axes are in normal form, as `as_axes` gives them."""
    if as_axes(axes, rank) != tuple(axes):
        raise ShapeError(f"axes {axes} are not sorted, or counted from the back, for {rank} axes")


def check_axis(axis: int, rank: int) -> None:
    """For type rules: the axis is counted from the front."""
    if as_axis(axis, rank) != axis:
        raise ShapeError(f"axis {axis} is counted from the back")


def check_bound_size(size: Size) -> int:
    """For meanings: the number, after binding."""
    assert isinstance(size, int), f"the size {size} is not bound"
    return size
