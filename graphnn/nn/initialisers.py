"""First values of parameters: functions (shape, dtype, rng) -> array. Each draws from the generator it is given.

fan_in and fan_out are read off the shape: (in, out) for dense layers, (*kernel, in, out) for convolutions. Layers take an
initialiser as an object, a string ("glorot_uniform(gain=2.0)"), a dictionary or a function; all mean the same. To add one,
write the class and put it into BY_NAME.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.ops.inputs import Initializer
from graphnn.nn.activations import Activation, LeakyReLU, ReLU, Tanh, read_activation
from graphnn.nn.arguments import is_number, is_whole, shown
from graphnn.nn.described import DescriptionError, make

DTypeOf = np.dtype[np.generic]
Init = str | Mapping[str, Any] | Initializer

# The standard deviation of a normal variable of variance 1 that is kept within (-2, 2): 0.8796.
TRUNCATED_STD = math.sqrt(1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(math.sqrt(2.0)))


def calc_fan(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (*kernel, in, out): in and out, times the kernel's size. Raises ShapeError below two axes.

    >>> calc_fan((3, 3, 4, 8))
    (36, 72)
    """
    if not isinstance(shape, (tuple, list)) or len(shape) < 2 or any(not is_whole(size) or size < 0 for size in shape):
        raise ShapeError(f"a weight's shape is {shape!r}; it is (in, out) or (*kernel, in, out), no size "
                         "negative")
    taps = math.prod(int(size) for size in shape[:-2])
    return int(shape[-2]) * taps, int(shape[-1]) * taps


def calc_gain(activation: Activation) -> float:
    """The gain that keeps the variance of what passes an activation, by which initialisers scale weights before it.

    5/3 for tanh, sqrt(2) for ReLU, sqrt(2 / (1 + alpha^2)) for LeakyReLU, else 1. For SELU it is 1, as its fixed point needs
    (with `lecun_normal`; Klambauer et al., 2017); PyTorch has 3/4. (He et al., 2015)

    >>> calc_gain("leaky_relu(alpha=1.0)"), calc_gain("selu")
    (1.0, 1.0)
    """
    if isinstance(activation, (str, Mapping)):
        activation = read_activation(activation)
    if isinstance(activation, LeakyReLU):
        return math.sqrt(2.0 / (1.0 + activation.alpha ** 2))
    if isinstance(activation, ReLU):
        return math.sqrt(2.0)
    return 5.0 / 3.0 if isinstance(activation, Tanh) else 1.0


class _Initialiser:
    """Base of initialisers: numbers are checked when they are made."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def _require_number(self, argument: str, least: float = -math.inf) -> None:
        value = getattr(self, argument)
        if not is_number(value) or value < least:
            wanted = "a finite number" if least == -math.inf else f"a finite number, at least {least:g}"
            raise ShapeError(f"{type(self).__name__}: {argument} is {value!r}; it must be {wanted}")
        object.__setattr__(self, argument, float(value))

    def _require_flag(self, argument: str) -> None:
        value = getattr(self, argument)
        if not isinstance(value, (bool, np.bool_)):
            raise ShapeError(f"{type(self).__name__}: {argument} is {value!r}; it is True or False")


@dataclass(frozen=True)
class Zeros(_Initialiser):
    """All 0: (shape, dtype, rng) -> array of that shape.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(3, init="zeros")
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(shape, dtype)


@dataclass(frozen=True)
class Ones(_Initialiser):
    """All 1: (shape, dtype, rng) -> array of that shape.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(3, init="ones")
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return np.ones(shape, dtype)


@dataclass(frozen=True)
class Constant(_Initialiser):
    """All `value`: (shape, dtype, rng) -> array of that shape.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(3, init="constant(value=0.5)")
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.value, (int, float, np.integer, np.floating)) or isinstance(self.value, bool):
            raise ShapeError(f"Constant: value is {self.value!r}; it must be a number")

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value, dtype)


zeros, ones = Zeros(), Ones()


# ------------------------------------------------------------------------------------------------ normal

@dataclass(frozen=True)
class Normal(_Initialiser):
    """N(mean, std^2) for each entry; by default N(0, 1), the `std_normal` of numpy-ml.

    >>> import numpy as np
    >>> from graphnn import nn
    >>> nn.Normal(std=0.02)((3, 4), np.dtype("f4"), np.random.default_rng(0)).shape
    (3, 4)
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        self._require_number("mean")
        self._require_number("std", 0.0)

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(self.mean, self.std, shape).astype(dtype)


@dataclass(frozen=True)
class TruncatedNormal(_Initialiser):
    """N(mean, std^2), drawn again where it is not within (mean - 2 std, mean + 2 std).

    That leaves a standard deviation of 0.8796 std. With `corrected` it is std itself: the normal is wider by 1 / 0.8796, and so
    are the bounds. (The default is that of Keras, PyTorch and numpy-ml.)

    >>> import numpy as np
    >>> from graphnn import nn
    >>> drawn = nn.TruncatedNormal(std=0.5)((100, 100), np.dtype("f8"), np.random.default_rng(0))
    >>> bool(abs(drawn).max() < 1.0), round(float(drawn.std()), 2)
    (True, 0.44)
    """

    mean: float = 0.0
    std: float = 1.0
    corrected: bool = False

    def __post_init__(self) -> None:
        self._require_number("mean")
        self._require_number("std", 0.0)
        self._require_flag("corrected")

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        std = self.std / TRUNCATED_STD if self.corrected else self.std
        return (self.mean + std * _within_two(shape, rng)).astype(dtype)


def _within_two(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """N(0, 1) drawn again where it is not within (-2, 2)."""
    drawn = np.asarray(rng.standard_normal(shape))
    while (outside := np.abs(drawn) >= 2.0).any():
        drawn[outside] = rng.standard_normal(np.count_nonzero(outside))
    return drawn


# ------------------------------------------------------------------------------------------------ by the fans

@dataclass(frozen=True)
class _ByGain(_Initialiser):
    """Base of initialisers with a gain: None is that of the activation after the weight (see calc_gain), 1 without one."""

    gain: float | None = None

    def __post_init__(self) -> None:
        if self.gain is not None:
            self._require_number("gain", 0.0)

    @property
    def _scale(self) -> float:
        return 1.0 if self.gain is None else self.gain


@dataclass(frozen=True)
class GlorotUniform(_ByGain):
    """U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). (Glorot & Bengio, 2010)

    `gain=None` is the gain of the layer's activation: sqrt(2) before ReLU, 5/3 before tanh, else mostly 1.

    >>> import numpy as np
    >>> from graphnn import nn
    >>> drawn = nn.GlorotUniform()((2, 4), np.dtype("f4"), np.random.default_rng(0))
    >>> drawn.shape, bool(abs(drawn).max() <= 1.0)
    ((2, 4), True)
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return _uniform(self._scale / math.sqrt(max(1, sum(calc_fan(shape))) / 2), shape, dtype, rng)


@dataclass(frozen=True)
class GlorotNormal(_ByGain):
    """A normal variable of standard deviation gain sqrt(2 / (fan_in + fan_out)), truncated. (Glorot & Bengio, 2010)

    `gain=None` is the gain of the layer's activation. Truncated at two standard deviations of the underlying normal, which is
    the wider one of TruncatedNormal(corrected=True), as in Keras; with `corrected=False` the narrower one of numpy-ml.

    >>> import numpy as np
    >>> from graphnn import nn
    >>> round(float(nn.GlorotNormal()((200, 200), np.dtype("f8"), np.random.default_rng(0)).std()), 3)
    0.071
    """

    corrected: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_flag("corrected")

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        std = self._scale * math.sqrt(2.0 / max(1, sum(calc_fan(shape))))
        return TruncatedNormal(0.0, std, self.corrected)(shape, dtype, rng)


@dataclass(frozen=True)
class HeUniform(_Initialiser):
    """U(-b, b) with b = sqrt(6 / fan_in), the variance 2 / fan_in that ReLU wants. (He et al., 2015)

    >>> import numpy as np
    >>> from graphnn import nn
    >>> bool(abs(nn.HeUniform()((6, 9), np.dtype("f4"), np.random.default_rng(0))).max() <= 1.0)
    True
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return _uniform(math.sqrt(2.0 / max(1, calc_fan(shape)[0])), shape, dtype, rng)


@dataclass(frozen=True)
class HeNormal(_Initialiser):
    """A truncated normal variable of standard deviation sqrt(2 / fan_in), for ReLU. (He et al., 2015)

    `corrected=False` leaves 0.8796 of it, as numpy-ml does: see TruncatedNormal.

    >>> import numpy as np
    >>> from graphnn import nn
    >>> round(float(nn.HeNormal()((200, 200), np.dtype("f8"), np.random.default_rng(0)).std()), 2)
    0.1
    """

    corrected: bool = True

    def __post_init__(self) -> None:
        self._require_flag("corrected")

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return TruncatedNormal(0.0, math.sqrt(2.0 / max(1, calc_fan(shape)[0])), self.corrected)(shape, dtype, rng)


@dataclass(frozen=True)
class LecunUniform(_Initialiser):
    """U(-b, b) with b = sqrt(3 / fan_in), the variance 1 / fan_in. (LeCun et al., 1998)

    >>> import numpy as np
    >>> from graphnn import nn
    >>> bool(abs(nn.LecunUniform()((3, 9), np.dtype("f4"), np.random.default_rng(0))).max() <= 1.0)
    True
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return _uniform(math.sqrt(1.0 / max(1, calc_fan(shape)[0])), shape, dtype, rng)


@dataclass(frozen=True)
class LecunNormal(_Initialiser):
    """A truncated normal variable of standard deviation sqrt(1 / fan_in), which SELU wants. (LeCun et al., 1998)

    `corrected=False` leaves 0.8796 of it: see TruncatedNormal. With SELU: Klambauer et al., 2017.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(64, activation="selu", init="lecun_normal")
    """

    corrected: bool = True

    def __post_init__(self) -> None:
        self._require_flag("corrected")

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return TruncatedNormal(0.0, math.sqrt(1.0 / max(1, calc_fan(shape)[0])), self.corrected)(shape, dtype, rng)


def _uniform(std: float, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
    """Uniform around 0, of this standard deviation."""
    bound = math.sqrt(3.0) * std
    return rng.uniform(-bound, bound, shape).astype(dtype)


@dataclass(frozen=True)
class Orthogonal(_ByGain):
    """gain Q, with Q^T Q = 1 (Q Q^T = 1 where it is wider than high), Q the weight as a matrix (*kernel in, out).

    Q is uniform over all such matrices. `gain=None` is the gain of the layer's activation. (Saxe et al., 2014)

    >>> import numpy as np
    >>> from graphnn import nn
    >>> q = nn.Orthogonal()((5, 3), np.dtype("f8"), np.random.default_rng(0))
    >>> bool(np.allclose(q.T @ q, np.eye(3)))
    True
    """

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        calc_fan(shape)
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0.0, -1.0, 1.0)               # QR alone is not uniform (Mezzadri, 2007)
        return (self._scale * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ by name

BY_NAME: dict[str, type[_Initialiser]] = {
    "glorot_uniform": GlorotUniform, "glorot_normal": GlorotNormal, "he_uniform": HeUniform, "he_normal": HeNormal,
    "lecun_uniform": LecunUniform, "lecun_normal": LecunNormal, "normal": Normal, "std_normal": Normal,
    "truncated_normal": TruncatedNormal, "trunc_normal": TruncatedNormal, "orthogonal": Orthogonal, "constant": Constant,
    "zeros": Zeros, "ones": Ones,
}


def as_initialiser(init: Init, activation: Activation = None) -> Initializer:
    """The initialiser meant by an object, a string, a dictionary or a function (shape, dtype, rng) -> array.

    A gain that is left open becomes that of `activation`. Raises DescriptionError for unknown names and keys.
    """
    if isinstance(init, (str, Mapping)):
        init = make(init, BY_NAME, _Initialiser, "initialiser")
    if isinstance(init, type) or not callable(init):
        raise DescriptionError(f"{shown(init)} is no initialiser; give a name ({', '.join(BY_NAME)}) or a function "
                               "(shape, dtype, rng) -> array")
    if activation is None or not isinstance(init, _ByGain) or init.gain is not None:
        return init
    return replace(init, gain=calc_gain(activation))
