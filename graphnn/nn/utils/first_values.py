"""First values of weights as functions of a shape: those of the initialisers, for use outside of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.ops.inputs import Initializer
from graphnn.nn.arguments import is_whole
from graphnn.nn.initialisers import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    TruncatedNormal,
)

Shape = tuple[int, ...]


def glorot_uniform(shape: Shape, gain: float = 1.0, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). (Glorot & Bengio, 2010)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.glorot_uniform((3, 3, 4, 8), rng=np.random.default_rng(0)).shape
    (3, 3, 4, 8)
    """
    return _drawn(GlorotUniform(gain), shape, rng, dtype)


def glorot_normal(shape: Shape, gain: float = 1.0, corrected: bool = True, *, rng: np.random.Generator,
                  dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from a truncated normal of standard deviation gain sqrt(2 / (fan_in + fan_out)).

    `corrected=False` leaves 0.8796 of it, as numpy-ml does: see truncated_normal. (Glorot & Bengio, 2010)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> utils.glorot_normal((784, 10), rng=np.random.default_rng(0)).shape
    (784, 10)
    """
    return _drawn(GlorotNormal(gain, corrected), shape, rng, dtype)


def he_uniform(shape: Shape, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from U(-b, b) with b = sqrt(6 / fan_in), for ReLU. (He et al., 2015)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> bool(abs(utils.he_uniform((6, 10), rng=np.random.default_rng(0))).max() <= 1.0)
    True
    """
    return _drawn(HeUniform(), shape, rng, dtype)


def he_normal(shape: Shape, corrected: bool = True, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from a truncated normal of standard deviation sqrt(2 / fan_in), for ReLU.

    `corrected=False` leaves 0.8796 of it, as numpy-ml does: see truncated_normal. (He et al., 2015)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> round(float(utils.he_normal((200, 200), rng=np.random.default_rng(0)).std()), 2)
    0.1
    """
    return _drawn(HeNormal(corrected), shape, rng, dtype)


def lecun_uniform(shape: Shape, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from U(-b, b) with b = sqrt(3 / fan_in). (LeCun et al., 1998)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> bool(abs(utils.lecun_uniform((3, 10), rng=np.random.default_rng(0))).max() <= 1.0)
    True
    """
    return _drawn(LecunUniform(), shape, rng, dtype)


def lecun_normal(shape: Shape, corrected: bool = True, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) from a truncated normal of standard deviation sqrt(1 / fan_in), for SELU.

    `corrected=False` leaves 0.8796 of it: see truncated_normal. (LeCun et al., 1998)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> round(float(utils.lecun_normal((100, 200), rng=np.random.default_rng(0)).std()), 2)
    0.1
    """
    return _drawn(LecunNormal(corrected), shape, rng, dtype)


def orthogonal(shape: Shape, gain: float = 1.0, *, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """An array (*kernel, in, out) that is gain Q as a matrix (*kernel in, out): Q^T Q = 1, or Q Q^T = 1. (Saxe et al., 2014)

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> q = utils.orthogonal((5, 3), rng=np.random.default_rng(0))
    >>> bool(np.allclose(q.T @ q, np.eye(3)))
    True
    """
    return _drawn(Orthogonal(gain), shape, rng, dtype)


def truncated_normal(mean: float, std: float, shape: Shape, corrected: bool = False, *, rng: np.random.Generator,
                     dtype: Any = np.float64) -> np.ndarray:
    """An array of any shape from N(mean, std^2), drawn again where it is not within (mean - 2 std, mean + 2 std).

    That leaves a standard deviation of 0.8796 std. With `corrected` it is std: normal and bounds are wider by 1 / 0.8796.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> bool(abs(utils.truncated_normal(0.0, 0.5, (1000,), rng=np.random.default_rng(0))).max() < 1.0)
    True
    """
    return _drawn(TruncatedNormal(mean, std, corrected), shape, rng, dtype)


def _drawn(init: Initializer, shape: Any, rng: Any, dtype: Any) -> np.ndarray:
    if not isinstance(shape, (tuple, list)) or any(not is_whole(size) or size < 0 for size in shape):
        raise ShapeError(f"shape is {shape!r}; it must be a tuple of sizes, none negative")
    if not isinstance(rng, np.random.Generator):
        raise ShapeError(f"rng is {rng!r}; give a generator, as np.random.default_rng(0)")
    if np.dtype(dtype).kind != "f":
        raise DTypeError(f"dtype is {np.dtype(dtype)}; weights are real numbers, as float32")
    return init(tuple(int(size) for size in shape), np.dtype(dtype), rng)
