"""Activations: layers without parameters, and the names under which other layers take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import is_whole
from graphnn.nn.described import DescriptionError
from graphnn.nn.layer import Layer, snake_case


@dataclass(eq=False)
class Identity(Layer):
    """f(x) = x."""

    def call(self, x: Value) -> Value:
        return x


@dataclass(eq=False)
class ReLU(Layer):
    """f(x) = max(x, 0); the derivative at 0 is 0."""

    def call(self, x: Value) -> Value:
        return ir.relu(x)


@dataclass(eq=False)
class Tanh(Layer):
    """f(x) = tanh(x)."""

    def call(self, x: Value) -> Value:
        return ir.tanh(x)


@dataclass(eq=False)
class Sigmoid(Layer):
    """f(x) = 1 / (1 + exp(-x)), without overflow for any x."""

    def call(self, x: Value) -> Value:
        return ir.sigmoid(x)


@dataclass(eq=False)
class Softmax(Layer):
    """f(x) = exp(x) / sum(exp(x)) along `axis`; the maximum is subtracted first, so no finite x overflows."""

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.axis):
            raise ShapeError(f"Softmax: axis is {self.axis!r}; it must be a whole number, negative from the end")

    def call(self, x: Value) -> Value:
        return ir.softmax(x, self.axis)


Activation = str | Layer | Callable[[Value], Value] | None
BY_NAME: dict[str, type[Layer]] = {"identity": Identity, "relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softmax": Softmax}


def as_activation(activation: Activation) -> Callable[[Value], Value]:
    """The function meant by a name ("relu"), a layer, a function of a Value, or None (identity)."""
    if activation is None:
        return lambda x: x
    if isinstance(activation, str):
        if activation not in BY_NAME:
            raise DescriptionError(f"there is no activation {activation!r}; there are {', '.join(sorted(BY_NAME))}")
        return BY_NAME[activation]().call
    if not callable(activation):
        raise DescriptionError(f"{activation!r} is no activation; give a name ({', '.join(sorted(BY_NAME))}), a layer, "
                               "a function of a Value, or None")
    return activation.call if isinstance(activation, Layer) else activation


def activation_name(activation: Activation) -> str:
    """The name by which initialisers choose their gain."""
    if isinstance(activation, str):
        return activation
    return "identity" if activation is None else snake_case(type(activation).__name__)
