"""Layers of several inputs: their sum, their product, or one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_axis
from graphnn.nn.layer import Layer


class Merge(Layer):
    """Base of layers that are called on several values, or on one list of them."""

    def __call__(self, *inputs: Value | Sequence[Value]) -> Value:
        """Apply the layer: `layer(a, b)` or `layer([a, b])`."""
        first = inputs[0] if inputs else ()
        values = tuple(first) if len(inputs) == 1 and isinstance(first, (list, tuple)) else inputs
        if not values:
            raise ShapeError(f"{type(self).__name__} is called on no values; give it at least one")
        return super().__call__(*values)  # pyright: ignore[reportArgumentType]  (the base says which is no Value)


@dataclass(eq=False)
class Add(Merge):
    """y = f(x1 + x2 + ...), broadcast as in NumPy: (..., C), (..., C), ... -> (..., C).

    The gradient of an input that was broadcast is summed back to its shape. Raises ShapeError when the shapes do not
    broadcast, DTypeError when the dtypes differ. The shortcut of residual networks (He et al., 2016).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((8,), name="x")
    >>> str(nn.Add("relu")(x, nn.FullyConnected(8)(x)).type)
    'f32[N,8]'
    """

    activation: Activation = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate = as_activation(self.activation)

    def call(self, *inputs: Value) -> Value:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return self._activate(total)


@dataclass(eq=False)
class Multiply(Merge):
    """y = f(x1 * x2 * ...), broadcast as in NumPy: (..., C), (..., C), ... -> (..., C).

    The gradient by each input is the product of the others, without a division: zeros do no harm. Raises ShapeError when the
    shapes do not broadcast, DTypeError when the dtypes differ. The gate of highway networks (Srivastava et al., 2015).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, gate = gnn.Input((4, 8), name="x"), gnn.Input((4, 1), name="gate")
    >>> str(nn.Multiply()(x, gate).type)
    'f32[N,4,8]'
    """

    activation: Activation = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate = as_activation(self.activation)

    def call(self, *inputs: Value) -> Value:
        total = inputs[0]
        for x in inputs[1:]:
            total = total * x
        return self._activate(total)


@dataclass(eq=False)
class Concatenate(Merge):
    """y = f([x1, x2, ...]) joined along `axis`, where sizes may differ: (..., A), (..., B) -> (..., A + B).

    Raises ShapeError when the other sizes differ or `axis` is none. Joins the branches of Inception (Szegedy et al., 2015).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, y = gnn.Input(("T", 3), name="x"), gnn.Input(("T", 5), name="y")
    >>> str(nn.Concatenate()(x, y).type)
    'f32[N,T,8]'
    """

    axis: int = -1
    activation: Activation = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.axis = as_axis(self.axis, "Concatenate: axis")
        self._activate = as_activation(self.activation)

    def call(self, *inputs: Value) -> Value:
        return self._activate(ir.concat(list(inputs), self.axis))
