"""RBM: a restricted Boltzmann machine trained on data, by contrastive divergence or by chains that persist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import NumericsError, ShapeError, VerifyError
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import state
from graphnn.nn.arguments import as_count, as_flag, is_number
from graphnn.nn.data import Gatherer, check_batch_size, epoch_order, minibatches
from graphnn.nn.door import as_array, as_declared, check_finite
from graphnn.nn.history import History
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layers.rbm import RBM as Layer
from graphnn.nn.model import Input
from graphnn.nn.optimisers import Optimizer, as_optimiser
from graphnn.runtime.state import checked_seed
from graphnn.zoo.network import Network, Numbers, as_real

EXACT = 1 << 27
"""The most conditionals times hidden units that validation computes after an epoch: a fraction of a second."""


@dataclass(eq=False, repr=False)
class RBM(Network):
    """A model P(v) of binary visible units, or numbers in [0, 1] taken as probabilities, by `n_hidden` binary hidden units.

    The energy is E(v, h) = -v W h - b v - c h, so P(h = 1 | v) = sigmoid(v W + c) and P(v = 1 | h) = sigmoid(h W^T + b). Training
    goes down the gradient of -log P(v), whose part from the model is taken from Gibbs chains of `k` steps. Without `chains` these
    start at the examples of each batch, their visible units being probabilities (contrastive divergence, CD-k: Hinton, 2002).
    With `chains` so many go on from step to step, all their units drawn (persistent CD: Tieleman, 2008): slower to show its
    worth, but samples get better. All three gradients are means over the batch, and over the chains.

    `optimizer` has its learning rate, which may follow a schedule; `weight_decay` w adds w W to the gradient of W, biases do not
    decay. A training step is one compiled call. The number of visible units is that of the first data, or `n_visible`.
    `dtype` "f64" computes in double precision.

    `history` has the "loss", -log of the pseudo-likelihood in nats an example, estimated before each step by one random unit of
    each example, and "free_energy", the mean F(v) of examples: that of data held out should stay near it (Hinton, 2010).

    >>> import numpy as np
    >>> from graphnn import zoo
    >>> stripes = np.repeat(np.eye(2), 3, axis=1)[np.arange(100) % 2]
    >>> rbm = zoo.RBM(4, optimizer="sgd(lr=0.5)", backend="numpy")
    >>> rbm.fit(stripes, epochs=40, batch_size=10, verbose=False)["loss"][-1] < 1
    True
    >>> rbm.reconstruct([[1, 1, 0, 0, 0, 0]], sample=False).round()
    array([[1., 1., 1., 0., 0., 0.]], dtype=float32)
    """

    n_hidden: int = 256
    n_visible: int | None = None
    k: int = field(default=1, kw_only=True)
    chains: int = field(default=0, kw_only=True)
    optimizer: Optimizer | str | Mapping[str, Any] = field(default="sgd(lr=0.1)", kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    init: Init = field(default="normal(std=0.01)", kw_only=True)
    dtype: str = field(default="f32", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.n_hidden = as_count(self.n_hidden, "RBM: n_hidden")
        self.k, self.chains = as_count(self.k, "RBM: k"), as_count(self.chains, "RBM: chains", 0)
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise ShapeError(f"RBM: weight_decay is {self.weight_decay!r}; it must be a number, at least 0")
        self.weight_decay = float(self.weight_decay)
        self.optimizer = as_optimiser(self.optimizer)
        as_initialiser(self.init, "sigmoid")
        self.dtype = as_real(self.dtype, "RBM: dtype")
        self._draws = 0                                  # calls that drew without a seed of their own
        if self.n_visible is not None:
            self._build(as_count(self.n_visible, "RBM: n_visible"))

    # ------------------------------------------------------------------------------------------ graphs

    def _build(self, n_visible: int) -> None:
        self.n_visible = n_visible
        v = Input((n_visible,), name="v", dtype=self.dtype)
        layer = Layer(self.n_hidden, k=self.k, init=self.init, name="rbm")
        layer(v)
        h, unit = Input((self.n_hidden,), name="h", dtype=self.dtype), Input((), name="unit", dtype="i64")
        graphs = [
            self._step(layer, v),
            Graph.of("transform", [v], [layer(v)]),
            Graph.of("inverse_transform", [h], [layer.visible(h)]),
            Graph.of("free_energy", [v], [layer.free_energy(v)]),
            Graph.of("pseudo_likelihood", [v], [_pseudo_likelihood(layer, v)]),
            Graph.of("pseudo_likelihood_by_unit", [v, unit], [float(n_visible) * layer.log_conditional(v, unit)]),
            _gibbs("gibbs", layer, v, draw_visible=True),
            _gibbs("reconstruct", layer, v, draw_visible=False),
        ]
        self.add({graph.name: graph for graph in graphs})

    def _step(self, layer: Layer, v: Value) -> Graph:
        """v -> the loss and mean free energy before the step."""
        updates: list[tuple[Value, Value]] = []
        negative = None
        if self.chains:
            hidden = state("rbm/chains", (self.chains, self.n_hidden), zeros, dtype=v.dtype)
            after, negative = _advanced(layer, hidden, self.k)
            updates.append((hidden, after))
        params, grads = layer.contrastive_divergence(v, negative=negative)
        if self.weight_decay:
            grads[0] = grads[0] + self.weight_decay * params[0]
        loss = -ir.mean(layer.pseudo_log_likelihood(v))
        assert isinstance(self.optimizer, Optimizer)
        updates += self.optimizer.updates(params, grads, loss=loss)
        return Graph.of("step", [v], [loss, ir.mean(layer.free_energy(v))], updates=updates)

    # ------------------------------------------------------------------------------------------ training

    def fit(self, x: Any, *, epochs: int = 10, batch_size: int = 32, shuffle: bool = True, drop_last: bool = False,
            validation_data: Any = None, callbacks: Any = (), verbose: bool = True) -> History:
        """Train for `epochs` more epochs on examples x (N, n_visible), each number in [0, 1]; the history of all so far.

        Order and draws depend on the seed and on how far training is, alone. `validation_data` is more such examples, whose
        numbers are the history's "val_loss", exact unless N n_visible n_hidden is above 2**27, and "val_free_energy". Raises
        ShapeError, DTypeError or NumericsError for data that does not fit; nothing is trained then.
        """
        data, batch_size = self._examples_of(x, "x"), check_batch_size(batch_size)
        shuffle, drop_last = as_flag(shuffle, "RBM: shuffle"), as_flag(drop_last, "RBM: drop_last")
        count = len(data) - len(data) % batch_size if drop_last else len(data)
        if not count:
            raise ShapeError(f"RBM: drop_last leaves nothing: {len(data)} examples are less than a batch of {batch_size}")
        held_out = None if validation_data is None else self._examples_of(validation_data, "validation_data", data.shape[1])
        if self.n_visible is None:
            self._build(data.shape[1])
        step, gather = self["step"], Gatherer([data], batch_size)

        def run(epoch: int, done: int) -> Iterator[tuple[int, Numbers]]:
            order = epoch_order(len(data), seed=self.state.seed, epoch=epoch, shuffle=shuffle)[:count]
            for rows in minibatches(order[done * batch_size :], batch_size):
                loss, free = step(*gather.rows(rows))
                yield len(rows), {"loss": loss, "free_energy": free}

        validate: Callable[[], Numbers] | None = None if held_out is None else lambda: self._measured(held_out)
        return self._fit(run, epochs=epochs, examples=count, validate=validate, callbacks=callbacks, verbose=verbose)

    def evaluate(self, x: Any) -> dict[str, float]:
        """The "loss", -log of the exact pseudo-likelihood, and the "free_energy": means over the examples."""
        return self._measured(self._examples_of(x, "x"), at_most=None)

    def _measured(self, data: np.ndarray, at_most: int | None = EXACT) -> dict[str, float]:
        if at_most is None or data.size * self.n_hidden <= at_most:
            found = self._run("pseudo_likelihood", data)
        else:
            units = np.random.default_rng([self.state.seed, self.epoch]).integers(0, data.shape[1], len(data))
            found = self["pseudo_likelihood_by_unit"](data, units)
        return {"loss": -float(found.mean(dtype=np.float64)),
                "free_energy": float(self._run("free_energy", data).mean(dtype=np.float64))}

    # ------------------------------------------------------------------------------------------ looking at data

    def transform(self, x: Any) -> np.ndarray:
        """P(h = 1 | v) of the examples: (N, n_visible) -> (N, n_hidden)."""
        return self._run("transform", self._examples_of(x, "x"))

    def inverse_transform(self, h: Any) -> np.ndarray:
        """P(v = 1 | h) of hidden units: (N, n_hidden) -> (N, n_visible)."""
        return self.run("inverse_transform", h)

    def free_energy(self, x: Any) -> np.ndarray:
        """F(v) = -b v - sum_j softplus((v W + c)_j) of each example, (N,): P(v) is exp(-F(v)) up to a factor."""
        return self._run("free_energy", self._examples_of(x, "x"))

    def pseudo_likelihood(self, x: Any) -> np.ndarray:
        """sum_i log P(v_i | the other units) of each binary example, (N,), exactly: over all units (Besag, 1975).

        It is what scikit-learn's `BernoulliRBM.score_samples` estimates by one random unit.
        """
        return self._run("pseudo_likelihood", self._examples_of(x, "x"))

    @property
    def filters(self) -> np.ndarray:
        """What each hidden unit looks at: the weights, (n_hidden, n_visible)."""
        self._need("filters")
        return np.ascontiguousarray(self.state["rbm/weight"].T)

    # ------------------------------------------------------------------------------------------ drawing

    def gibbs(self, x: Any, steps: int = 1, *, seed: int | None = None) -> np.ndarray:
        """Visible units after `steps` of Gibbs sampling that starts at x, all units drawn: (N, n_visible) -> (N, n_visible) of
        0 and 1. With the same `seed` the same; without one, each call draws anew."""
        return self._chain("gibbs", x, steps, seed)[0]

    def sample(self, n: int, steps: int = 1000, *, seed: int | None = None, probabilities: bool = False) -> np.ndarray:
        """n draws from the model: `steps` of Gibbs sampling from noise, (n, n_visible) of 0 and 1, or the probabilities that the
        last visible units were drawn with, which make smoother pictures."""
        self._need("sample")
        n, seed = as_count(n, "RBM.sample: n"), self._seed(seed)
        noise = np.random.default_rng(seed).integers(0, 2, (n, self.n_visible or 0))
        return self._chain("gibbs", noise, steps, seed)[int(probabilities)]

    def reconstruct(self, x: Any, n_steps: int = 10, *, sample: bool = True, seed: int | None = None) -> np.ndarray:
        """x after `n_steps` of: draw hidden units, take the probabilities of the visible ones. Visible units drawn in the end,
        or with `sample=False` their probabilities: (N, n_visible) -> (N, n_visible)."""
        return self._chain("reconstruct", x, n_steps, seed)[int(not sample)]

    def _chain(self, graph: str, x: Any, steps: int, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        steps = as_count(steps, f"RBM.{graph}: {'n_steps' if graph == 'reconstruct' else 'steps'}")
        data = self._examples_of(x, "x")
        self._need(graph)
        return self[graph](data, np.array(self._seed(seed)), np.arange(steps))

    def _seed(self, seed: int | None) -> int:
        """The given seed; or one for this call, which follows from the network's and the number of calls before."""
        if seed is not None:
            return checked_seed(seed)
        self._draws += 1
        return int(np.random.SeedSequence([self.state.seed, self._draws]).generate_state(1, np.uint64)[0] >> 1)

    # ------------------------------------------------------------------------------------------ checks

    def _run(self, graph: str, data: np.ndarray) -> np.ndarray:
        self._need(graph)
        return self[graph](data)

    def _need(self, what: str) -> None:
        if self.n_visible is None:
            raise VerifyError(f"RBM: {what} before fit: how many visible units there are is not known yet",
                              hint="fit it first, or give n_visible")

    def _examples_of(self, x: Any, what: str, size: int | None = None) -> np.ndarray:
        """x as examples of the network's dtype. Raises for what is empty, of the wrong size, or outside [0, 1]."""
        wanted = self.n_visible if self.n_visible is not None else size
        data = as_array(x, f"RBM: {what}")
        if data.ndim > 2:
            raise ShapeError(f"RBM: {what} has shape {data.shape}; it must be (N, {'any' if wanted is None else wanted})",
                             hint="make a row of each example: x.reshape(len(x), -1)")
        data = as_declared(data, Input((wanted or "C",), name="v", dtype=self.dtype).type, f"RBM: {what}")
        if not data.size:
            raise ShapeError(f"RBM: {what} is empty, of shape {data.shape}")
        check_finite(data, f"RBM: {what}")
        if data.min() < 0 or data.max() > 1:
            place = tuple(np.argwhere((data < 0) | (data > 1))[0].tolist())
            raise NumericsError(f"RBM: {what} has {data[place]} at {list(place)}; units are between 0 and 1",
                                hint="scale the data: x / x.max()")
        return data


# ------------------------------------------------------------------------------------------------ in IR

def _advanced(layer: Layer, h: Value, k: int) -> tuple[Value, Value]:
    """The hidden units of chains after k steps of Gibbs sampling, and the visible units from which they were drawn."""
    def step(chain: tuple[Value, Value], _: None) -> tuple[tuple[Value, Value], None]:
        v = layer.sample_visible(chain[0])
        return (layer.sample_hidden(v), v), None

    v = layer.sample_visible(h)
    first = layer.sample_hidden(v), v
    return first if k == 1 else ir.scan(step, first, length=k - 1)[0]


def _pseudo_likelihood(layer: Layer, v: Value) -> Value:
    """sum_i log P(v_i | the other units): (N,)."""
    def add(total: Value, unit: Value) -> tuple[Value, None]:
        return total + layer.log_conditional(v, unit), None

    return ir.scan(add, ir.zeros((v.shape[0],), dtype=v.dtype), ir.arange(v.shape[1]))[0]


def _gibbs(name: str, layer: Layer, v: Value, *, draw_visible: bool) -> Graph:
    """v, a seed, the numbers of the steps -> visible units drawn in the end, and the probabilities that they were drawn with."""
    seed, steps = ir.placeholder("seed", "i64[]"), ir.placeholder("steps", "i64[S]")

    def drawn(p: Value, stream: int, step: Value) -> Value:
        return ir.cast(ir.less(ir.random_uniform(seed, step, p.shape, stream=stream, dtype=p.dtype), p), p.dtype)

    def sweep(v: Value, step: Value) -> Value:
        return layer.visible(drawn(layer(v), 0, step))

    def with_drawn(chain: tuple[Value, Value], step: Value) -> tuple[tuple[Value, Value], None]:
        p = sweep(chain[0], step)
        return (drawn(p, 1, step), p), None

    def with_probabilities(p: Value, step: Value) -> tuple[Value, None]:
        return sweep(p, step), None

    if draw_visible:
        outputs = ir.scan(with_drawn, (v, v), steps)[0]
    else:
        p = ir.scan(with_probabilities, v, steps)[0]
        outputs = drawn(p, 1, ir.constant(0)), p
    return Graph.of(name, [v, seed, steps], list(outputs))
