"""Descent along the gradient, with or without momentum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.nn.optimisers.optimiser import Optimizer, Rate, Updates


@dataclass(frozen=True)
class SGD(Optimizer):
    """v = momentum v + (1 - dampening) g;  p = p - lr v  (without momentum: p = p - lr g). With `nesterov`,
    p = p - lr (g + momentum v). The first step has v = g, whatever the dampening.

    Without momentum, weight decay and clipping, a step of an embedding costs what the rows cost that were looked up.

    Reference: Sutskever et al., 2013, in PyTorch's form (the learning rate stands outside the velocity).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> w = gnn.parameter("w", (3,))
    >>> (dw,) = gnn.gradients(gnn.sum(w * w), [w])
    >>> [(state.name, new.type) for state, new in nn.SGD(0.1, momentum=0.9).updates([w], [dw])]
    [('sgd/velocity/w', f32[3]), ('w', f32[3])]
    """

    lr: Rate = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("momentum", 0.0, 1.0)
        self._require_number("dampening", 0.0, None)
        self._require(self.dampening <= 1, f"dampening is {self.dampening!r}; it must be at most 1")
        self._require(not self.nesterov or (self.momentum > 0 and self.dampening == 0),
                      "nesterov needs a momentum, and no dampening")

    @property
    def counts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.dampening > 0

    def _counted_updates(self, step: Value, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        result: Updates = []
        for p, g in zip(params, grads, strict=True):
            change = g
            if self.momentum:
                v = self._slot(p, "velocity")
                fresh = g
                if self.dampening:
                    fresh = ir.where(ir.equal(step, 0), ir.constant(1.0, p.dtype), 1.0 - self.dampening) * g
                new_v = self.momentum * v + fresh
                result.append((v, new_v))
                change = g + self.momentum * new_v if self.nesterov else new_v
            result.append((p, p - ir.cast(lr, p.dtype) * change))
        return result
