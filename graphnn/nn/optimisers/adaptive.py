"""Optimisers that divide each element of the gradient by its own usual size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from graphnn import ir
from graphnn.ir.graph import Value
from graphnn.nn.optimisers.optimiser import Optimizer, Rate, Updates


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """s = s + g^2;  p = p - lr g / (sqrt(s) + eps).

    Reference: Duchi et al., 2011.

    >>> from graphnn import nn
    >>> nn.AdaGrad().lr, nn.AdaGrad().eps
    (0.01, 1e-10)
    """

    lr: Rate = 0.01
    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("eps", 0.0, None)

    @property
    def label(self) -> str:
        return self.name or "adagrad"

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        result: Updates = []
        for p, g in zip(params, grads, strict=True):
            s = self._slot(p, "sum")
            new_s = s + g * g
            result += [(s, new_s), (p, p - ir.cast(lr, p.dtype) * g / (ir.sqrt(new_s) + self.eps))]
        return result


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """v = decay v + (1 - decay) g^2;  p = p - lr g / (sqrt(v) + eps).

    With `centered`, v - m^2 stands for v under the root, m = decay m + (1 - decay) g: the variance. With `momentum`,
    b = momentum b + g / (sqrt(v) + eps);  p = p - lr b.

    References: Tieleman & Hinton, 2012; Graves, 2013 (centered).

    >>> from graphnn import nn
    >>> nn.RMSProp(decay=0.9).decay
    0.9
    """

    lr: Rate = 0.01
    decay: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("decay", 0.0, 1.0)
        self._require_number("eps", 0.0, None)
        self._require_number("momentum", 0.0, 1.0)

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        result: Updates = []
        for p, g in zip(params, grads, strict=True):
            v = self._slot(p, "v")
            new_v = spread = self.decay * v + (1.0 - self.decay) * (g * g)
            result.append((v, new_v))
            if self.centered:
                m = self._slot(p, "m")
                new_m = self.decay * m + (1.0 - self.decay) * g
                result.append((m, new_m))
                # Never below 0, as a variance is, but for rounding.
                spread = ir.maximum(new_v - new_m * new_m, 0.0)
            change = g / (ir.sqrt(spread) + self.eps)
            if self.momentum:
                b = self._slot(p, "velocity")
                change = self.momentum * b + change
                result.append((b, change))
            result.append((p, p - ir.cast(lr, p.dtype) * change))
        return result


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps), t = 1, 2, ...

    With `amsgrad` the largest v so far stands under the root.

    References: Kingma & Ba, 2015; Reddi et al., 2018 (AMSGrad).

    >>> from graphnn import nn
    >>> nn.Adam("noam_scheduler(model_dim=64)", beta2=0.98).lr
    NoamScheduler(model_dim=64, scale_factor=1.0, warmup_steps=4000)
    """

    counts: ClassVar[bool] = True

    lr: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("beta1", 0.0, 1.0)
        self._require_number("beta2", 0.0, 1.0)
        self._require_number("eps", 0.0, None)

    def _counted_updates(self, step: Value, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        # The corrections are made in f64: 1 - b2^t loses half of f32's digits in the first steps.
        t, wide = ir.cast(step + 1, "f64"), ir.cast(lr, "f64")
        correct1, correct2 = 1.0 - ir.pow(self.beta1, t), 1.0 - ir.pow(self.beta2, t)
        rate, root = wide / correct1, ir.sqrt(correct2)
        result: Updates = []
        for p, g in zip(params, grads, strict=True):
            m, v = self._slot(p, "m"), self._slot(p, "v")
            new_m = self.beta1 * m + (1.0 - self.beta1) * g
            new_v = largest = self.beta2 * v + (1.0 - self.beta2) * (g * g)
            result += [(m, new_m), (v, new_v)]
            if self.amsgrad:
                top = self._slot(p, "v_max")
                largest = ir.maximum(top, new_v)
                result.append((top, largest))
            # sqrt(v / c) = sqrt(v) / sqrt(c): the division by a number is a product with its inverse.
            bottom = ir.sqrt(largest) * ir.cast(1.0 / root, p.dtype) + self.eps
            kept = p
            if self.decoupled and self.weight_decay:
                kept = ir.cast(1.0 - self.weight_decay * wide, p.dtype) * p
            result.append((p, kept - ir.cast(rate, p.dtype) * new_m / bottom))
        return result


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with a weight decay that goes past the moments: p = (1 - lr weight_decay) p, then Adam's step.

    Reference: Loshchilov & Hutter, 2019.

    >>> from graphnn import nn
    >>> nn.AdamW(groups={"*/bias": {"weight_decay": 0.0}}).weight_decay
    0.01
    """

    decoupled: ClassVar[bool] = True

    weight_decay: float = field(default=0.01, kw_only=True)
