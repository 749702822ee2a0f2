"""Layers that only change shapes."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Flatten(Layer):
    """All axes after the first as one: (N, ...) -> (N, product of the others).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Flatten()(gnn.Input((4, 4, 8), name="x")).type)
    'f32[N,128]'
    """

    def call(self, x: Value) -> Value:
        return ir.reshape(x, (x.shape[0], product(x.shape[1:])))
