"""RBM: a restricted Boltzmann machine of binary visible and hidden units, and contrastive divergence, which trains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, require_float
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class RBM(Layer):
    """P(h = 1 | v) = sigmoid(v W + c) of hidden units: v (N, C) in [0, 1] -> (N, out_features).

    The energy of a state is E(v, h) = -v W h - b v - c h; P(v = 1 | h) = sigmoid(h W^T + b). W is `weight` (C, out_features), b
    `visible_bias` (C,), c `hidden_bias` (out_features,), both 0 at first. C is that of the first v, or `in_features`.
    It is trained by `contrastive_divergence`, of `k` steps unless told otherwise. Methods take and give symbolic values as calls
    do. What is sampled depends on the model's seed, the layer's name and the number of training steps. Smolensky, 1986;
    Hinton, "Training products of experts by minimizing contrastive divergence", 2002.

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> v, rbm = gnn.Input((6,), name="v"), nn.RBM(3)
    >>> params, grads = rbm.contrastive_divergence(v)
    >>> updates = nn.SGD(0.1).updates(params, grads)
    >>> step = gnn.compile(gnn.Graph.of("step", [v], [gnn.mean(rbm.free_energy(v))], updates=updates), backend="numpy")
    >>> step(np.eye(6, dtype=np.float32)).shape
    ()
    """

    out_features: int
    k: int = 1
    in_features: int | None = None
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.out_features = as_count(self.out_features, "RBM: out_features")
        self.k = as_count(self.k, "RBM: k")
        self.in_features = None if self.in_features is None else as_count(self.in_features, "RBM: in_features")
        self._first = as_initialiser(self.init, "sigmoid")

    def build(self, v: TensorType) -> None:
        require_float(v, "RBM")
        size = v.shape[-1] if self.in_features is None and v.rank else self.in_features or 0
        self.weight = self.param("weight", (size, self.out_features), self._first, dtype=v.dtype)
        self.visible_bias = self.param("visible_bias", (size,), zeros, dtype=v.dtype)
        self.hidden_bias = self.param("hidden_bias", (self.out_features,), zeros, dtype=v.dtype)

    def call(self, v: Value) -> Value:
        if v.rank != 2:
            raise ShapeError(f"RBM takes visible units as (N, C), not {v.type}")
        return ir.sigmoid(v @ self.weight + self.hidden_bias)

    def visible(self, h: Value) -> Value:
        """P(v = 1 | h) = sigmoid(h W^T + b): h (N, out_features) -> (N, C)."""
        return self._of_hidden(self._visible, h)

    def sample_hidden(self, v: Value) -> Value:
        """Hidden units drawn given v: 1 with P(h = 1 | v), else 0."""
        return self.within(lambda v: self.advance(self._drawn(self.call(v))), v)

    def sample_visible(self, h: Value) -> Value:
        """Visible units drawn given h: 1 with P(v = 1 | h), else 0."""
        return self._of_hidden(lambda h: self.advance(self._drawn(self._visible(h))), h)

    def energy(self, v: Value, h: Value) -> Value:
        """E(v, h) = -v W h - b v - c h of each example: (N,)."""
        return self.within(lambda v, h: -(ir.sum((v @ self.weight + self.hidden_bias) * h, -1) + v @ self.visible_bias), v, h)

    def free_energy(self, v: Value) -> Value:
        """F(v) = -b v - sum_j softplus((v W + c)_j) of each example, (N,): P(v) is exp(-F(v)) up to a factor."""
        return self.within(self._free_energy, v)

    def pseudo_log_likelihood(self, v: Value) -> Value:
        """An estimate of the log-likelihood of each binary example given its own other units, (N,): C log P(v_i | others) for one
        random unit i, P(v_i | others) being sigmoid(F(v with v_i flipped) - F(v)). (Besag, 1975)"""
        return self.within(self._pseudo_log_likelihood, v)

    def log_conditional(self, v: Value, unit: Value) -> Value:
        """log P(v_i | the other units) of each binary example, (N,), where i is `unit`: one number, or (N,) of them."""
        return self.within(lambda v: self._log_conditional(v, unit), v)

    def reconstruct(self, v: Value, steps: int = 10, *, sample: bool = False) -> Value:
        """P(v = 1) after `steps` of Gibbs sampling from v, or visible units drawn from it: (N, C) -> (N, C)."""
        steps = as_count(steps, "RBM.reconstruct: steps")

        def work(v: Value) -> Value:
            found = self._chain(v, steps)
            return self.advance(self._drawn(found) if sample else found)

        return self.within(work, v)

    def contrastive_divergence(self, v: Value, k: int | None = None, *,
                               negative: Value | None = None) -> tuple[list[Value], list[Value]]:
        """(parameters, gradients) that lower the loss -log P(v), approximately: for an optimiser's `updates`.

        With p = P(h = 1 | v), v' = P(v = 1) after k steps of Gibbs sampling from v, and p' = P(h = 1 | v'):
        dW = (v'^T p' - v^T p) / N,  db = mean(v' - v),  dc = mean(p' - p) over the batch. Hidden units are sampled in all but the
        last step, visible ones are not. `negative` takes the place of v': the ends of chains that persist, in any number
        (Tieleman, 2008).
        """
        steps = self.k if k is None else as_count(k, "RBM.contrastive_divergence: k")

        def work(v: Value, negative: Value | None = None) -> list[Value]:
            model = self._chain(v, steps) if negative is None else negative
            weight, visible, hidden = (after - before for after, before in zip(self._means(model), self._means(v), strict=True))
            return [self.advance(weight) if negative is None else weight, visible, hidden]

        grads = self.within(work, v, negative=negative)
        return [self.weight, self.visible_bias, self.hidden_bias], grads

    def _of_hidden(self, work: Callable[[Value], Value], h: Value) -> Value:
        if self.built_for is None and self.in_features is None:
            raise ShapeError("RBM does not know how many visible units it has", hint="give in_features, or call it on v first")
        return self.within(work, h)

    def _visible(self, h: Value) -> Value:
        return ir.sigmoid(h @ ir.matrix_transpose(self.weight) + self.visible_bias)

    def _drawn(self, p: Value) -> Value:
        """1 with probability p, else 0."""
        seed, step = self.randomness()
        u = ir.random_uniform(seed, step, p.shape, stream=self.stream(), dtype=p.dtype)
        return ir.cast(ir.less(u, p), p.dtype)

    def _chain(self, v: Value, steps: int) -> Value:
        """P(v = 1) after steps of: draw h given v, take P(v = 1 | h) for v."""
        def step(v: Value, _: None) -> tuple[Value, None]:
            return self._visible(self._drawn(self.call(v))), None

        return step(v, None)[0] if steps == 1 else ir.scan(step, v, length=steps)[0]

    def _means(self, v: Value) -> tuple[Value, Value, Value]:
        """The means over the examples of v_i p_j, v_i and p_j, where p = P(h = 1 | v)."""
        p, count = self.call(v), ir.maximum(ir.size_of(v.shape[0], v.dtype), 1.0)
        return ir.matrix_transpose(v) @ p / count, ir.sum(v, 0) / count, ir.sum(p, 0) / count

    def _free_energy(self, v: Value) -> Value:
        return -(v @ self.visible_bias + ir.sum(ir.softplus(v @ self.weight + self.hidden_bias), -1))

    def _pseudo_log_likelihood(self, v: Value) -> Value:
        (n, size), (seed, step) = v.shape, self.randomness()
        unit = ir.random_integers(seed, step, (n,), 0, size, stream=self.stream())
        return self.advance(ir.size_of(size, v.dtype) * self._log_conditional(v, unit))

    def _log_conditional(self, v: Value, unit: Value) -> Value:
        x, z = ir.sum(v * ir.one_hot(unit, v.shape[1], v.dtype), -1), v @ self.weight + self.hidden_bias
        change = 1.0 - 2.0 * x                           # what a flip adds to v_i
        flipped = z + ir.expand_dims(change, 1) * ir.gather(self.weight, unit)
        return ir.log_sigmoid(ir.sum(ir.softplus(z) - ir.softplus(flipped), -1) - change * ir.gather(self.visible_bias, unit))
