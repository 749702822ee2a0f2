"""Optimisers: the next value of each parameter, written in IR, so that a whole training step is one compiled graph.

The learning rate is a state, `<name>/lr`: set it between steps without compiling again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import IDENTIFIER, Value
from graphnn.ir.loc import scope
from graphnn.ir.ops.inputs import state
from graphnn.ir.types import DType
from graphnn.nn.arguments import is_number
from graphnn.nn.described import DescriptionError, read
from graphnn.nn.initialisers import Filled, zeros
from graphnn.nn.layer import snake_case

Updates = list[tuple[Value, Value]]


@dataclass(frozen=True)
class Optimizer:
    """Base of optimisers. `lr` is the first learning rate. `name` is the first part of the names of its states, by default
    the class's name in lower case; optimisers that share a state (a critic's and a generator's) need names of their own."""

    lr: float
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._require(self.name is None or (isinstance(self.name, str) and IDENTIFIER.match(self.name) is not None),
                      f"name is {self.name!r}; use letters, digits, _ . / -")
        self._require_number("lr", 0.0, None)

    @property
    def label(self) -> str:
        """The first part of the names of this optimiser's states."""
        return self.name or snake_case(type(self).__name__)

    def updates(self, params: Sequence[Value], grads: Sequence[Value], loss: Value | None = None) -> Updates:
        """Pairs (state, next value) for the parameters and the optimiser's own states. `loss` is needed by schedulers that
        look at it.

        Raises ShapeError when the gradients do not fit the parameters.
        """
        if len(params) != len(grads):
            raise ShapeError(f"{self.label}: {len(params)} parameters and {len(grads)} gradients")
        for param, grad in zip(params, grads, strict=True):
            if param.type != grad.type:
                raise ShapeError(f"{self.label}: the gradient of {param.name!r} is {grad.type}, the parameter {param.type}")
        with scope(self.label):
            # As exact as the parameters need it.
            dtype = DType.f64 if any(param.dtype is DType.f64 for param in params) else DType.f32
            lr = state(f"{self.label}/lr", (), Filled(self.lr), dtype=dtype)
            return self._updates(lr, params, grads)

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        raise NotImplementedError(f"{type(self).__name__}._updates")

    def _slot(self, param: Value, label: str) -> Value:
        """A state of the parameter's type, 0 at first."""
        return state(f"{self.label}/{label}/{param.name}", param.shape, zeros, dtype=param.dtype)

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_number(self, name: str, low: float, below: float | None) -> None:
        value = getattr(self, name)
        wanted = f"a number, at least {low:g}" + ("" if below is None else f" and below {below:g}")
        self._require(is_number(value) and value >= low and (below is None or value < below),
                      f"{name} is {value!r}; it must be {wanted}")


@dataclass(frozen=True)
class SGD(Optimizer):
    """v = momentum v + g;  p = p - lr v  (without momentum: p = p - lr g). With `nesterov`, p = p - lr (g + momentum v).

    Reference: Sutskever et al., 2013, in PyTorch's form (the learning rate stands outside the velocity).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> w = gnn.parameter("w", (3,))
    >>> (dw,) = gnn.gradients(gnn.sum(w * w), [w])
    >>> [(state.name, new.type) for state, new in nn.SGD(0.1, momentum=0.9).updates([w], [dw])]
    [('sgd/velocity/w', f32[3]), ('w', f32[3])]
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("momentum", 0.0, 1.0)
        self._require(self.momentum > 0 or not self.nesterov, "nesterov needs a momentum")

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        result: Updates = []
        for p, g in zip(params, grads, strict=True):
            step = g
            if self.momentum:
                v = self._slot(p, "velocity")
                new_v = self.momentum * v + g
                result.append((v, new_v))
                step = g + self.momentum * new_v if self.nesterov else new_v
            result.append((p, p - ir.cast(lr, p.dtype) * step))
        return result


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).

    Reference: Kingma & Ba, 2015.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("beta1", 0.0, 1.0)
        self._require_number("beta2", 0.0, 1.0)
        self._require_number("eps", 0.0, None)

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        step = state(f"{self.label}/step", (), zeros, dtype=DType.i64)
        new_step = step + 1
        # The corrections are made in f64: 1 - b2^t loses half of f32's digits in the first steps.
        t = ir.cast(new_step, "f64")
        correct1, correct2 = 1.0 - ir.pow(self.beta1, t), 1.0 - ir.pow(self.beta2, t)
        rate, root = ir.cast(lr, "f64") / correct1, ir.sqrt(correct2)
        result: Updates = [(step, new_step)]
        for p, g in zip(params, grads, strict=True):
            m, v = self._slot(p, "m"), self._slot(p, "v")
            new_m = self.beta1 * m + (1.0 - self.beta1) * g
            new_v = self.beta2 * v + (1.0 - self.beta2) * (g * g)
            # sqrt(v / c) = sqrt(v) / sqrt(c): the division by a number is a product with its inverse.
            bottom = ir.sqrt(new_v) * ir.cast(1.0 / root, p.dtype) + self.eps
            result += [(m, new_m), (v, new_v), (p, p - ir.cast(rate, p.dtype) * new_m / bottom)]
        return result


BY_NAME: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}


def as_optimiser(optimizer: Optimizer | str) -> Optimizer:
    """The optimiser meant by an object or a string such as "adam(lr=0.001)"."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return read(optimizer, BY_NAME, "optimizer")
    raise DescriptionError(f"{type(optimizer).__name__} is no optimizer; give nn.Adam() or a name: {', '.join(BY_NAME)}")
