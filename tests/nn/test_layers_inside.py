"""Layers made of layers: names nest, and the outer layer has the parameters of those inside."""

from __future__ import annotations

from dataclasses import dataclass

import graphnn as gnn
from graphnn import nn


@dataclass(eq=False)
class Residual(nn.Layer):
    """x + W2 relu(W1 x), by two layers and a scale of its own."""

    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.first = nn.FullyConnected(self.width, activation="relu", bias=False)

    def build(self, x: gnn.TensorType) -> None:
        self.second = nn.FullyConnected(int(str(x.shape[-1])), bias=False)
        self.scale = self.param("scale", (), lambda shape, dtype, rng: rng.uniform(size=shape).astype(dtype))

    def call(self, x: gnn.Value) -> gnn.Value:
        return x + self.scale * self.second(self.first(x))


NAMES = ["residual/scale", "residual/fully_connected/weight", "residual/fully_connected_1/weight"]


def test_a_layer_has_the_parameters_of_those_inside_once() -> None:
    layer = Residual(4)
    x = gnn.Input((3,), name="x")
    layer(layer(x))
    assert [value.name for value in layer.parameters] == NAMES


def test_so_has_a_layer_two_floors_up_and_a_sibling_has_not() -> None:
    @dataclass(eq=False)
    class Twice(nn.Layer):
        def build(self, x: gnn.TensorType) -> None:
            self.inside = Residual(2)

        def call(self, x: gnn.Value) -> gnn.Value:
            return self.inside(x)

    x = gnn.Input((3,), name="x")
    outer, sibling = Twice(), nn.FullyConnected(1)
    sibling(outer(x))
    assert [value.name for value in outer.parameters] == [f"twice/{name}" for name in NAMES]
    assert [value.name for value in sibling.parameters] == ["fully_connected/weight", "fully_connected/bias"]
