"""Dropout: noise in training, nothing in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import as_probability, check_flags, require_float, shown
from graphnn.nn.layer import Layer


def dropped(x: Value, p: float, seed: Value, step: Value, *, stream: int, whole: tuple[int, ...] = ()) -> Value:
    """x with each element 0 with probability p, else x / (1 - p). Along the axes `whole` all elements share their fate."""
    shape = [1 if axis in whole else size for axis, size in enumerate(x.shape)]
    kept = ir.random_bernoulli(seed, step, shape, 1.0 - p, stream=stream)
    return ir.where(kept, x * (1.0 / (1.0 - p)), 0.0)


@dataclass(eq=False)
class Dropout(Layer):
    """In training y = x m / (1 - p), where each m is 0 with probability p and 1 otherwise; y = x in evaluation.

    The gradient passes the same mask. `spatial` drops whole channels of (N, ..., C), the same at every place of an example.
    With `layer`, dropout is applied to all inputs of that layer: `Dropout(0.5, FullyConnected(10))(x)` is
    `FullyConnected(10)(Dropout(0.5)(x))`; keywords of the call (`lengths=`, `mask=`) go to the layer as they are. Masks depend
    on the model's seed, the layer's name and the number of training steps alone, for any number of threads. Raises ShapeError
    unless 0 <= p < 1. (Srivastava et al., 2014; spatial: Tompson et al., 2015)

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((1000,), name="x")
    >>> graph = gnn.Graph.of("drop", [x], [nn.Dropout(0.25)(x)])
    >>> ones = np.ones((1, 1000), np.float32)
    >>> np.unique(gnn.compile(graph, training=True, backend="numpy")(ones))
    array([0.       , 1.3333334], dtype=float32)
    >>> np.unique(gnn.compile(graph, backend="numpy")(ones))
    array([1.], dtype=float32)
    """

    p: float = 0.5
    layer: Layer | None = None
    spatial: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.p = as_probability(self.p, "Dropout: p")
        check_flags(self, "spatial")
        if self.layer is not None and not isinstance(self.layer, Layer):
            raise ShapeError(f"Dropout: layer is {shown(self.layer)}; it must be a layer, or None")

    def call(self, *inputs: Value, **options: Value) -> Any:
        noisy = [self._drop(x) for x in inputs]
        if self.layer is not None:
            return self.layer(*noisy, **options)
        if len(noisy) != 1 or options:
            raise ShapeError(f"Dropout takes one value, not {len(noisy) + len(options)}")
        return noisy[0]

    def _drop(self, x: Value) -> Value:
        require_float(x.type, "Dropout")
        if self.spatial and x.rank < 3:
            raise ShapeError(f"Dropout: spatial takes (N, ..., C) with an axis of places, not {x.type}")
        if self.p == 0.0:
            return x
        whole = tuple(range(1, x.rank - 1)) if self.spatial else ()
        seed, step = self.randomness()
        noisy = dropped(x, self.p, seed, step, stream=self.stream(), whole=whole)
        return ir.by_mode(training=self.advance(noisy), evaluation=x)
