"""SparseEvolution: a dense layer of which a fixed number of weights exist, and where they are evolves in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.ops.modes import with_update
from graphnn.ir.ops.sparse import sorted_pattern
from graphnn.ir.types import DType, TensorType
from graphnn.nn.activations import Activation, ActivationLayer, Softmax, as_activation
from graphnn.nn.arguments import as_count, as_probability, check_flags, is_number, require_float, shown
from graphnn.nn.initialisers import Constant, Init, as_initialiser, zeros
from graphnn.nn.layer import Layer
from graphnn.runtime.state import State

DTypeOf = np.dtype[np.generic]

FRESH = 4096
"""How many numbers of its initialiser a layer keeps, from which entries that rewiring adds take their first values."""


@dataclass(eq=False)
class SparseEvolution(Layer):
    """y = f(x (W * M) + b), over the last axis of x of any rank: (..., in) -> (..., out_features), M a sparse mask that evolves.

    M is first drawn as an Erdos-Renyi graph: each weight is there with p = min(1, epsilon (in + out) / (in out)), and exactly
    round(p in out) are. Only these are stored, `weight` [entries], and multiplied; memory and time go with them. `init` gives
    their first values, its fans being the mean numbers of entries at a neuron; b is 0 at first, absent with `bias=False`.

    `nn.Rewire` rewires between epochs, `nn.rewiring` and `nn.rewired` by a graph of your own: of the n weights >= 0 the
    floor(zeta n) closest to 0 go, and so of those < 0; as many come, at places drawn uniformly from all that have no weight
    then, those just left included, with new values, and 0 in the optimiser's states. Their number never changes. All draws
    depend on the model's seed, the layer's name and the number of training steps alone.

    Raises ShapeError when out_features or epsilon is not positive, no weight would exist, or zeta is outside [0, 1].
    (Mocanu et al., 2018)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> layer = nn.SparseEvolution(1000, epsilon=20, activation="relu")
    >>> str(layer(gnn.Input((784,), name="x")).type), layer.entries, round(layer.density, 4)
    ('f32[N,1000]', 35680, 0.0455)
    """

    out_features: int
    zeta: float = 0.3
    epsilon: float = 20.0
    activation: Activation = None
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.out_features = as_count(self.out_features, "SparseEvolution: out_features")
        self.zeta = as_probability(self.zeta, "SparseEvolution: zeta", closed=True)
        if not is_number(self.epsilon) or self.epsilon <= 0:
            raise ShapeError(f"SparseEvolution: epsilon is {shown(self.epsilon)}; it must be a number, greater than 0")
        check_flags(self, "bias")
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, self.activation)

    def accepts(self, x: TensorType) -> None:
        if x.rank < 1 or not isinstance(x.shape[-1], int):
            raise ShapeError(f"SparseEvolution: x is {x}; its last axis must be a number of features")
        require_float(x, "SparseEvolution")
        self.require_same_sizes(x, 1)

    def build(self, x: TensorType) -> None:
        assert isinstance(x.shape[-1], int), "else x is not accepted"
        self.in_features = x.shape[-1]
        places = self.in_features * self.out_features
        self.entries = min(places, round(self.epsilon * (self.in_features + self.out_features)))
        if places and not self.entries:
            raise ShapeError(f"SparseEvolution: at epsilon {self.epsilon:g} none of {places} weights exists",
                             hint=f"one weight takes epsilon {1 / (self.in_features + self.out_features):.1g}")
        draw = _Places(self.out_features, self.in_features)
        values = _Entries(self._first, self.in_features, self.out_features, self.entries)
        self.weight = self.param("weight", (self.entries,), values, dtype=x.dtype)
        self.pattern = self.state("pattern", (3, self.entries), draw, dtype=DType.i32)
        self.share = self.state("zeta", (), Constant(self.zeta), dtype=DType.f64)
        self.draws = self.state("draws", (), _start, dtype=DType.i64)
        self.fresh = self.state("fresh", (FRESH,), values, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_features,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        # Features first: each entry then multiplies neighbouring numbers, and the transposes of layers in a row cancel.
        rows = x if x.rank == 2 else ir.reshape(x, (product(x.shape[:-1]), self.in_features))
        z = ir.sparse_matmul(self.weight, self.pattern, ir.matrix_transpose(rows), self.out_features)
        if self.offset is not None:
            z = z + ir.expand_dims(self.offset, 1)
        whole = _elementwise(self.activation, self._activate)
        y = ir.matrix_transpose(self._activate(z) if whole else z)
        y = y if x.rank == 2 else ir.reshape(y, (*x.shape[:-1], self.out_features))
        y = y if whole else self._activate(y)
        # What rewiring needs is part of the network, and so of its file.
        for kept, after in ((self.share, self.share), (self.fresh, self.fresh), (self.draws, self.draws + 1)):
            y = with_update(y, kept, after)
        return y

    # ------------------------------------------------------------------------------------------ looking inside

    @property
    def density(self) -> float:
        """The share of weights that exist."""
        return self.entries / (self.in_features * self.out_features)

    def mask(self, state: State) -> np.ndarray:
        """M as bool (in, out) in this state."""
        rows, columns, _ = state[self.pattern.name]
        mask = np.zeros((self.in_features, self.out_features), bool)
        mask[columns, rows] = True
        return mask

    def dense_weight(self, state: State) -> np.ndarray:
        """W * M as an array (in, out) in this state."""
        rows, columns, _ = state[self.pattern.name]
        values = state[self.weight.name]
        dense = np.zeros((self.in_features, self.out_features), values.dtype)
        dense[columns, rows] = values
        return dense


def _elementwise(activation: Activation, function: object) -> bool:
    """Whether an activation is known to treat each number alone, so that the order of axes does not matter to it."""
    owner = getattr(function, "__self__", None)
    return activation is None or (isinstance(owner, ActivationLayer) and not isinstance(owner, Softmax))


def _start(shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
    """Where a layer begins to count its draws: far from where another does, so that they share no numbers."""
    return rng.integers(0, 1 << 62, shape, dtype)


@dataclass(frozen=True)
class _Places:
    """Draws a pattern: as many different places of a (rows, columns) matrix as the shape (3, entries) says, all alike."""

    rows: int
    columns: int

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        count, places = shape[1], self.rows * self.columns
        if 2 * count > places:
            found = rng.permutation(places)[:count]
        else:
            found = np.empty(0, np.int64)
            while len(found) < count:                    # the first `count` different ones of a sequence of draws
                drawn = np.concatenate((found, rng.integers(0, places, count - len(found))))
                found = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        return sorted_pattern(*np.divmod(found, max(1, self.columns)))


@dataclass(frozen=True)
class _Entries:
    """Numbers of an initialiser for dense weights, drawn for the part of the layer that exists: as many inputs and outputs as
    a neuron has entries on the average."""

    init: Initializer
    inputs: int
    outputs: int
    entries: int

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        fan_in = max(1, round(self.entries / self.outputs))
        fan_out = max(1, round(self.entries / max(1, self.inputs)))
        blocks = -(-shape[0] // (fan_in * fan_out))
        drawn = [np.asarray(self.init((fan_in, fan_out), dtype, rng)).reshape(-1) for _ in range(blocks)]
        return np.concatenate([np.empty(0, dtype), *drawn])[:shape[0]]
