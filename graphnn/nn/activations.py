"""Activations: layers without parameters, and the names under which other layers take them.

At a corner, where two pieces of a function meet, the derivative is that of the piece of lower x (ReLU'(0) = 0), unless the
function says otherwise. None overflows where its value does not, nor do its derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.composed import GELU_IS_LINEAR
from graphnn.nn.arguments import as_axis, check_word, is_number, shown
from graphnn.nn.described import DescriptionError, describe, make
from graphnn.nn.layer import Layer, snake_case

# Klambauer et al., 2017: with them, mean 0 and variance 1 are kept.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# Below the first tanh(log(1 + exp(x))) is 0, from the second on it is 1, in float64; so are their derivatives.
MISH_IS_ZERO, MISH_IS_LINEAR = -1000.0, 40.0


class ActivationLayer(Layer):
    """Base of activations: str() is the text by which other layers take it, as "elu(alpha=0.5)"."""

    def __str__(self) -> str:
        return describe(self)

    def _number(self, argument: str) -> float:
        value: Any = getattr(self, argument)
        if not is_number(value):
            raise ShapeError(f"{type(self).__name__}: {argument} is {shown(value)}; it must be a finite number")
        return float(value)


@dataclass(eq=False)
class Identity(ActivationLayer):
    """f(x) = x.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Identity()(gnn.Input((3,), name="x")).type)
    'f32[N,3]'
    """

    def call(self, x: Value) -> Value:
        return x


@dataclass(eq=False)
class ReLU(ActivationLayer):
    """f(x) = max(x, 0); the derivative at 0 is 0.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="relu")
    >>> layer = nn.FullyConnected(8, activation=nn.ReLU())                # the same
    """

    def call(self, x: Value) -> Value:
        return ir.relu(x)


@dataclass(eq=False)
class Tanh(ActivationLayer):
    """f(x) = tanh(x).

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="tanh")
    """

    def call(self, x: Value) -> Value:
        return ir.tanh(x)


@dataclass(eq=False)
class Sigmoid(ActivationLayer):
    """f(x) = 1 / (1 + exp(-x)), without overflow for any x.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Sigmoid()(gnn.Input((3,), name="x")).type)
    'f32[N,3]'
    """

    def call(self, x: Value) -> Value:
        return ir.sigmoid(x)


@dataclass(eq=False)
class Softmax(ActivationLayer):
    """f(x) = exp(x) / sum(exp(x)) along `axis`; the maximum is subtracted first, so no finite x overflows.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Softmax(axis=-1)(gnn.Input((3,), name="x")).type)
    'f32[N,3]'
    """

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.axis = as_axis(self.axis, "Softmax: axis")

    def call(self, x: Value) -> Value:
        return ir.softmax(x, self.axis)


@dataclass(eq=False)
class Affine(ActivationLayer):
    """f(x) = slope x + intercept.

    >>> from graphnn import nn
    >>> str(nn.Affine(2.0))
    'affine(slope=2.0, intercept=0.0)'
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.slope, self.intercept = self._number("slope"), self._number("intercept")

    def call(self, x: Value) -> Value:
        return x * self.slope + self.intercept


@dataclass(eq=False)
class LeakyReLU(ActivationLayer):
    """f(x) = x for x > 0, else alpha x; f'(0) = alpha. (Maas et al., 2013)

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="leaky_relu(alpha=0.3)")  # as in numpy-ml
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha = self._number("alpha")

    def call(self, x: Value) -> Value:
        return ir.where(ir.greater(x, 0.0), x, x * self.alpha)


@dataclass(eq=False)
class ELU(ActivationLayer):
    """f(x) = x for x > 0, else alpha (exp(x) - 1); f'(0) = f''(0) = alpha. (Clevert et al., 2016)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.FullyConnected(3, activation="elu(alpha=0.5)")(gnn.Input((2,), name="x")).type)
    'f32[N,3]'
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha = self._number("alpha")

    def call(self, x: Value) -> Value:
        positive = ir.greater(x, 0.0)
        return ir.where(positive, x, self.alpha * ir.expm1(ir.where(positive, 0.0, x)))


@dataclass(eq=False)
class SELU(ActivationLayer):
    """f(x) = scale x for x > 0, else scale alpha (exp(x) - 1), with scale 1.0507 and alpha 1.6733; f'(0) = scale alpha.

    (Klambauer et al., 2017)

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="selu", init="lecun_normal")
    """

    def call(self, x: Value) -> Value:
        return SELU_SCALE * ELU(SELU_ALPHA).call(x)


@dataclass(eq=False)
class Exponential(ActivationLayer):
    """f(x) = exp(x).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Exponential()(gnn.Input((3,), name="x")).type)
    'f32[N,3]'
    """

    def call(self, x: Value) -> Value:
        return ir.exp(x)


@dataclass(eq=False)
class SoftPlus(ActivationLayer):
    """f(x) = log(1 + exp(x)), without overflow for any x.

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="softplus")
    """

    def call(self, x: Value) -> Value:
        return ir.softplus(x)


@dataclass(eq=False)
class HardSigmoid(ActivationLayer):
    """f(x) = slope x + intercept, kept within [0, 1]; by default x / 6 + 1/2. The derivative is 0 at both corners.

    >>> from graphnn import nn
    >>> layer = nn.HardSigmoid(slope=0.2)            # as in numpy-ml
    """

    slope: float = 1.0 / 6.0
    intercept: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.slope, self.intercept = self._number("slope"), self._number("intercept")

    def call(self, x: Value) -> Value:
        line = x * self.slope + self.intercept
        return ir.where(ir.less_equal(line, 0.0), 0.0, ir.where(ir.greater_equal(line, 1.0), 1.0, line))


@dataclass(eq=False)
class GELU(ActivationLayer):
    """f(x) = x P(x), P the normal distribution function: x / 2 (1 + erf(x / sqrt(2))). (Hendrycks & Gimpel, 2016)

    With `approximate="tanh"`, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); "none" is exact.

    >>> from graphnn import nn
    >>> str(nn.GELU("tanh"))
    "gelu(approximate='tanh')"
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self, "approximate", "none", "tanh")

    def call(self, x: Value) -> Value:
        if self.approximate == "none":
            return ir.gelu(x)
        # (1 + tanh(u)) / 2 = sigmoid(2 u) = 1 - sigmoid(-2 u): of negative numbers, derivatives lose no digits.
        positive = ir.greater(x, 0.0)
        z = ir.clip(x, -GELU_IS_LINEAR, GELU_IS_LINEAR)                     # its powers overflow for no x
        twice_u = math.sqrt(8.0 / math.pi) * (z + 0.044715 * (z * z * z))
        rest = ir.sigmoid(ir.where(positive, -twice_u, twice_u))
        return x * ir.where(positive, 1.0 - rest, rest)


@dataclass(eq=False)
class SiLU(ActivationLayer):
    """f(x) = x / (1 + exp(-x)), also called swish. (Elfwing et al., 2018)

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="silu")
    """

    def call(self, x: Value) -> Value:
        return ir.silu(x)


@dataclass(eq=False)
class Mish(ActivationLayer):
    """f(x) = x tanh(log(1 + exp(x))). (Misra, 2020)

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="mish")
    """

    def call(self, x: Value) -> Value:
        # tanh(log(1 + e)) = n / (n + 2) = 1 - r for n = e (e + 2), r = 2 / (n + 2): nothing overflows, and no digits are lost
        # where it is nearly 1.
        e = ir.exp(ir.clip(x, MISH_IS_ZERO, MISH_IS_LINEAR))
        n = e * (e + 2.0)
        r = 2.0 / (n + 2.0)
        return x * ir.where(ir.greater(x, 0.0), 1.0 - r, 0.5 * (n * r))


@dataclass(eq=False)
class HardSwish(ActivationLayer):
    """f(x) = x times x / 6 + 1/2 kept within [0, 1]; f'(-3) = 0 and f'(3) = 1. (Howard et al., 2019)

    >>> from graphnn import nn
    >>> layer = nn.FullyConnected(8, activation="hard_swish")
    """

    def call(self, x: Value) -> Value:
        inner = x * (x * (1.0 / 6.0) + 0.5)
        return ir.where(ir.less_equal(x, -3.0), 0.0, ir.where(ir.greater_equal(x, 3.0), x, inner))


Activation = str | Mapping[str, Any] | Layer | Callable[[Value], Value] | None
BY_NAME: dict[str, type[Layer]] = {snake_case(kind.__name__): kind for kind in (
    Identity, ReLU, Tanh, Sigmoid, Softmax, Affine, LeakyReLU, ELU, SELU, Exponential, SoftPlus, HardSigmoid, GELU, SiLU, Mish,
    HardSwish)}


def read_activation(spec: str | Mapping[str, Any]) -> Layer:
    """The activation that a text or dictionary names: "relu", "elu(alpha=0.5)", {"name": "elu", "alpha": 0.5}.

    "LeakyReLU", "leaky_relu" and "Leaky ReLU" are one name. Raises DescriptionError for names and keys that there are not.
    """
    layer = make(spec, BY_NAME, Layer, "activation")
    if layer.name is not None:
        raise DescriptionError(f"{spec!r}: an activation inside of another layer has no name of its own")
    return layer


def _identity(x: Value) -> Value:                        # a function with a name: layers can be pickled
    return x


def as_activation(activation: Activation) -> Callable[[Value], Value]:
    """The function meant by a text, a dictionary, a layer, a function of a Value, or None (identity).

    Raises DescriptionError for anything else.
    """
    if activation is None:
        return _identity
    if isinstance(activation, (str, Mapping)):
        return read_activation(activation).call
    if isinstance(activation, type) or not callable(activation):
        raise DescriptionError(f"{shown(activation)} is no activation; give a name ({', '.join(sorted(BY_NAME))}), a layer, "
                               "a function of a Value, or None")
    return activation.call if isinstance(activation, Layer) else activation
