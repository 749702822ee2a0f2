"""FullyConnected: y = f(x W + b)."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_count, check_flags, require_float
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class FullyConnected(Layer):
    """y = f(x W + b), over the last axis of x of any rank: (..., in) -> (..., out_features).

    W is (in, out_features), first made by `init` (Glorot uniform, with the activation's gain); b is (out_features,), 0 at
    first, absent with `bias=False`. Raises ShapeError when out_features is not positive or x has no axes.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((784,), name="x")
    >>> str(nn.FullyConnected(10, activation="relu")(x).type)
    'f32[N,10]'
    """

    out_features: int
    activation: Activation = None
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.out_features = as_count(self.out_features, "FullyConnected: out_features")
        check_flags(self, "bias")
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, self.activation)

    def accepts(self, x: TensorType) -> None:
        if x.rank < 1:
            raise ShapeError(f"FullyConnected: x has no axes: {x}", hint="give it at least one axis of features")
        require_float(x, "FullyConnected")

    def build(self, x: TensorType) -> None:
        self.weight = self.param("weight", (x.shape[-1], self.out_features), self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_features,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        y = x @ self.weight
        return self._activate(y if self.offset is None else y + self.offset)
