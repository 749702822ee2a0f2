"""First values of parameters: functions (shape, dtype, rng) -> array. Each draws from the generator it is given.

fan_in and fan_out are read off the shape: (in, out) for dense layers, (*kernel, in, out) for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.ops.inputs import Initializer
from graphnn.nn.described import DescriptionError

DTypeOf = np.dtype[np.generic]


def calc_fan(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (*kernel, in, out). Raises ShapeError below two axes."""
    if len(shape) < 2:
        raise ShapeError(f"a weight has at least two axes, (in, out); got {shape}")
    taps = math.prod(shape[:-2])
    return shape[-2] * taps, shape[-1] * taps


def zeros(shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
    """All 0."""
    return np.zeros(shape, dtype)


def ones(shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
    """All 1."""
    return np.ones(shape, dtype)


@dataclass(frozen=True)
class Filled:
    """All `value`."""

    value: float

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value, dtype)


@dataclass(frozen=True)
class GlorotUniform:
    """U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out))  (Glorot & Bengio, 2010)."""

    gain: float = 1.0

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        bound = self.gain * math.sqrt(6.0 / max(1, sum(calc_fan(shape))))
        return rng.uniform(-bound, bound, shape).astype(dtype)


@dataclass(frozen=True)
class HeUniform:
    """U(-b, b) with b = sqrt(6 / fan_in), for relu  (He et al., 2015)."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        bound = math.sqrt(6.0 / max(1, calc_fan(shape)[0]))
        return rng.uniform(-bound, bound, shape).astype(dtype)


GAINS = {"relu": math.sqrt(2.0), "tanh": 5.0 / 3.0}
BY_NAME: dict[str, Callable[[float], Initializer]] = {
    "glorot_uniform": lambda gain: GlorotUniform(gain),
    "he_uniform": lambda gain: HeUniform(),
    "zeros": lambda gain: zeros,
    "ones": lambda gain: ones,
}


def as_initialiser(init: str | Initializer, activation: str = "identity") -> Initializer:
    """The initialiser meant by a name, with the gain that suits the activation after it; a function stays as it is."""
    if not isinstance(init, str):
        if not callable(init):
            raise DescriptionError(f"{init!r} is no initialiser; give a name ({', '.join(BY_NAME)}) or a function "
                                   "(shape, dtype, rng) -> array")
        return init
    if init not in BY_NAME:
        raise DescriptionError(f"there is no initialiser {init!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[init](GAINS.get(activation, 1.0))
