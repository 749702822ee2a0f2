"""Inputs and constants: values that no other value gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphnn.errors import DTypeError, VerifyError
from graphnn.ir.attrs import Array
from graphnn.ir.dims import Size
from graphnn.ir.graph import IDENTIFIER, ROLES, Value
from graphnn.ir.op import Op, Sample, Types
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype, as_shape

# In quotes: numpy.random takes as long to import as all of ir, and many programs never draw a number.
Initializer = Callable[[tuple[int, ...], np.dtype[np.generic], "np.random.Generator"], np.ndarray]


@dataclass(frozen=True)
class Input(Op):
    """A value given from outside. `role` says by whom: "input" by the caller of each run, "param" and "state" by the
    state that runs share. `init` makes the first value of a param or state; it is no part of text or files."""

    name = "input"
    label: str
    role: str
    type: TensorType
    init: Initializer | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise VerifyError(f"an input's role is one of {', '.join(ROLES)}, not {self.role!r}")
        if not IDENTIFIER.match(self.label):
            raise VerifyError(f"{self.label!r} cannot name an input; use letters, digits, _ . / -, not a digit first")

    def infer(self) -> Types:
        return (self.type,)


@dataclass(frozen=True)
class Constant(Op):
    """A known array. Large weights are params, not constants."""

    name = "constant"
    value: Array

    def infer(self) -> Types:
        return (self.value.type,)

    def numpy(self) -> np.ndarray:
        return self.value.data

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(Array(np.array([[1.5, -2.0], [np.inf, 0.0]]))), ())
        yield Sample(cls(Array(np.array(7, np.int64))), ())
        yield Sample(cls(Array(np.array([True, False]))), ())
        yield Sample(cls(Array(np.zeros((0, 3), np.float32))), ())


def placeholder(label: str, type: TensorType | str, role: str = "input", init: Initializer | None = None) -> Value:
    """An input value of the given type: `placeholder("x", "f32[N,784]")`."""
    if isinstance(type, str):
        type = TensorType.parse(type)
    return Input(label, role, type, init).one()


def parameter(label: str, shape: Sequence[Size | str], init: Initializer | None = None, *, dtype: DTypeLike = DType.f32) -> Value:
    """A trainable value of the state, first made by `init(shape, dtype, rng)`."""
    return placeholder(label, TensorType(as_dtype(dtype), as_shape(shape)), "param", init)


def state(label: str, shape: Sequence[Size | str] = (), init: Initializer | None = None, *,
          dtype: DTypeLike = DType.f32) -> Value:
    """A value that runs keep but training does not optimise: a running mean, an optimiser's slot, a step count."""
    return placeholder(label, TensorType(as_dtype(dtype), as_shape(shape)), "state", init)


def constant(value: object, dtype: DTypeLike | None = None) -> Value:
    """A known array or number as a value. Python floats become float32, integers int64, unless `dtype` says otherwise."""
    array = np.asarray(value)
    if dtype is not None:
        array = array.astype(as_dtype(dtype).numpy)
    elif not isinstance(value, (np.ndarray, np.generic)) and array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype == object:
        raise DTypeError(f"{type(value).__name__} cannot be a constant; give numbers or an array")
    return Constant(Array(array.astype(as_dtype(array.dtype).numpy, copy=False))).one()
