"""Rewiring of SparseEvolution layers: between epochs by a callback, at any time by a graph, or as part of a training step.

(Mocanu et al., Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network science,
2018)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnn import ir
from graphnn.errors import VerifyError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Value, role_of
from graphnn.ir.loc import scope
from graphnn.ir.ops.inputs import state as state_value
from graphnn.ir.ops.sparse import SparseMatMul
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count
from graphnn.nn.callbacks import BY_NAME, Callback
from graphnn.nn.layers.sparse_evolution import SparseEvolution
from graphnn.runtime.compile import compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State

if TYPE_CHECKING:
    from graphnn.nn.model import Model

Updates = list[tuple[Value, Value]]


@dataclass(frozen=True)
class _Sparse:
    """What of a network is a sparse weight (rows, columns)."""

    weight: Value
    pattern: Value
    zeta: Value
    fresh: Value
    draws: Value
    shape: tuple[Size, Size]

    @property
    def path(self) -> str:
        return self.weight.name.rpartition("/")[0]


def rewired(layers: SparseEvolution | Sequence[SparseEvolution], updates: Sequence[tuple[Value, Value]]) -> Updates:
    """The updates of a training step that rewires these layers after it, all in one graph.

    States named after a layer's weight, `<optimiser>/<slot>/<weight>`, are 0 for its new entries.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> layer = nn.SparseEvolution(3)
    >>> y = layer(gnn.Input((4,), name="x"))
    >>> (grad,) = gnn.gradients(gnn.mean(y * y), [layer.weight])
    >>> updates = nn.rewired(layer, nn.SGD(0.1, momentum=0.9).updates([layer.weight], [grad]))
    >>> [state.name for state, _ in updates]
    ['sgd/velocity/sparse_evolution/weight', 'sparse_evolution/weight', 'sparse_evolution/pattern']
    """
    chosen = [layers] if isinstance(layers, SparseEvolution) else list(layers)
    found = [_Sparse(a.weight, a.pattern, a.share, a.fresh, a.draws, (a.out_features, a.in_features)) for a in chosen]
    new = dict(updates)
    params = [state for state in new if role_of(state) == "param"] + [sparse.weight for sparse in found]
    for sparse in found:
        _rewire(sparse, new, [state for state in new if _is_slot(state, sparse.weight, params)])
    return list(new.items())


def rewiring(graph: Graph, state: State, *, frozen: Collection[str] = ()) -> Graph:
    """A graph that rewires the sparse weights of a network but those named in `frozen`, and with them its optimiser's states in
    `state`.

    It takes no inputs; its output i64[layers] is how many entries of each weight are new. Compile it with the same state and
    call it between training steps. The layers are found by their ops, so `graph` may come from a file. Raises VerifyError when
    there are none.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((20,), name="x")
    >>> model = gnn.Model(x, nn.SparseEvolution(30, epsilon=2)(x))
    >>> gnn.compile(nn.rewiring(model.graph, model.state), state=model.state)()
    array([29])
    """
    every = _sparse_weights(graph)
    found = [sparse for sparse in every if sparse.weight.name not in frozen]
    if not every:
        raise VerifyError(f"{graph.name!r} has no sparse weights to rewire", hint="nn.SparseEvolution makes some")
    new: dict[Value, Value] = {}
    counts: list[Value] = []
    params = graph.by_role("param")
    inside = {value.name for value in graph.inputs}
    slots = [state_value(name, array.shape, dtype=str(TensorType.of(array).dtype)) for name, array in state.arrays().items()
             if name not in inside]
    for sparse in found:
        counts.append(_rewire(sparse, new, [slot for slot in slots if _is_slot(slot, sparse.weight, params)]))
    outputs = ir.stack(counts) if counts else ir.zeros((0,), dtype="i64")
    return Graph.of("rewiring", [], [outputs], updates=list(new.items()))


def _sparse_weights(graph: Graph) -> list[_Sparse]:
    by_name = {value.name: value for value in graph.inputs}
    found: dict[Value, _Sparse] = {}
    for node in graph.nodes:
        if not isinstance(node.op, SparseMatMul) or node.op.transposed:
            continue
        weight, pattern, x = node.inputs
        if role_of(weight) != "param" or role_of(pattern) != "state":
            continue
        path = weight.name.rpartition("/")[0]
        others = [by_name.get(f"{path}/{label}") for label in ("zeta", "fresh", "draws")]
        if None not in others:
            zeta, fresh, draws = (value for value in others if value is not None)
            found[weight] = _Sparse(weight, pattern, zeta, fresh, draws, (node.op.size, x.shape[0]))
    return list(found.values())


def _is_slot(state: Value, weight: Value, params: Sequence[Value]) -> bool:
    """Whether a state belongs to this weight: it is named after it, and after no parameter with a longer name."""
    if role_of(state) != "state" or state.type != weight.type or not state.name.endswith(f"/{weight.name}"):
        return False
    return not any(len(other.name) > len(weight.name) and state.name.endswith(f"/{other.name}") for other in params)


def _rewire(sparse: _Sparse, new: dict[Value, Value], slots: Sequence[Value]) -> Value:
    """Rewire what the weight and its slots become; how many entries are new, i64[]."""
    with scope(sparse.path):
        weight, seed = new.get(sparse.weight, sparse.weight), ir.constant(0)
        entries, many = weight.shape[0], sparse.fresh.shape[0]
        pattern, origin = ir.rewire(weight, sparse.pattern, sparse.shape, sparse.zeta, seed, sparse.draws, stream=0)
        chosen = ir.random_integers(seed, sparse.draws, (entries,), 0, many, stream=1, dtype="i32")
        stays, old = ir.greater_equal(origin, 0), ir.maximum(origin, 0)
        new[sparse.weight] = ir.where(stays, ir.gather(weight, old), ir.gather(sparse.fresh, chosen))
        for slot in slots:
            new[slot] = ir.where(stays, ir.gather(new.get(slot, slot), old), 0.0)
        new[sparse.pattern] = pattern
        return ir.sum(ir.cast(ir.logical_not(stays), "i64"))


@dataclass
class Rewire(Callback):
    """Rewires the SparseEvolution layers of a model that are not frozen, before every `every`-th epoch but the first; call it
    to do so at once.

    What is new is then trained before anyone looks at it. Of a model that is loaded and trained on, the layers are rewired as
    they would have been without the stop. Raises ShapeError when `every` is not positive. (Mocanu et al., 2018)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((20,), name="x")
    >>> model = gnn.Model(x, nn.SparseEvolution(30, epsilon=2)(x))
    >>> nn.Rewire()(model)
    29
    """

    every: int = 1

    def __post_init__(self) -> None:
        self.every = as_count(self.every, "Rewire: every")
        self._made: tuple[Graph, State, tuple[object, ...], Executable] | None = None

    def on_epoch_begin(self, model: Model, epoch: int) -> None:
        if epoch > 1 and (epoch - 1) % self.every == 0:
            self(model)

    def __call__(self, model: Model) -> int:
        """Rewire now; how many entries are new. Raises VerifyError for a model without sparse layers."""
        made, names = self._made, (model.state.names, model.frozen)
        if made is None or made[0] is not model.graph or made[1] is not model.state or made[2] != names:
            exe = compile_graph(rewiring(model.graph, model.state, frozen=model.frozen), state=model.state, backend=model.backend)
            made = self._made = (model.graph, model.state, names, exe)
        return int(made[3]().sum())


BY_NAME["rewire"] = Rewire
