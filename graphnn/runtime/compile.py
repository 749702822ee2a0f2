"""compile: a graph becomes an Executable. Passes, then kernels (backend "numba"), or the interpreter (backend "numpy")."""

from __future__ import annotations

from graphnn.errors import UnsupportedError, VerifyError
from graphnn.ir.attrs import bodies_of
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.modes import resolve_modes, trains
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.rewrite import rewrite
from graphnn.ir.verify import verify
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.check_ids import check_ids
from graphnn.passes.pipeline import DEFAULT, Pass
from graphnn.runtime.executable import Executable, NumpyEngine, PlanEngine
from graphnn.runtime.lowering import has_rule
from graphnn.runtime.plan import Program
from graphnn.runtime.state import State

BACKENDS = ("numba", "numpy")


def check_backend(backend: str) -> None:
    """Raise UnsupportedError for a back end that there is not."""
    if backend not in BACKENDS:
        raise UnsupportedError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")


def compile_graph(
    graph: Graph, *, state: State | None = None, seed: int | None = None, backend: str = "numba",
    training: bool | None = None, pipeline: Pass = DEFAULT,
) -> Executable:
    """An executable of `graph`: `exe(x=..., y=...)` runs it.

    `state` holds params and states; executables share them by being given the same one. Without it a new state is made
    from the initialisers and `seed` (default `gnn.seed`, 0). `backend="numba"` runs compiled kernels, `backend="numpy"` the
    NumPy meanings. `training` says how layers that differ between training and evaluation (Dropout, BatchNorm1D) run and
    whether their states are updated; by default a graph that updates a parameter trains, any other evaluates. `pipeline` is any
    Graph -> Graph.

    Raises VerifyError for a graph that is not well formed or does not fit the state, PassError when a pass fails,
    UnsupportedError for an op without a kernel (at the first call, when sizes are known).

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> x = gnn.Input((), name="x")
    >>> double = gnn.compile(gnn.Graph.of("double", [x], [x + x]))
    >>> double(x=np.array([1, 2, 3], np.float32)).tolist()
    [2.0, 4.0, 6.0]
    """
    check_backend(backend)
    verify(graph)
    graph = resolve_modes(graph, trains(graph) if training is None else training)
    if state is None:
        state = State(seed)
    if backend == "numpy":
        state.add(graph)
        return Executable(graph, graph, state, NumpyEngine(graph, state), backend)
    optimised = pipeline(check_ids(open_ops(graph)))
    state.add(graph)                                     # last: a graph that does not compile leaves no arrays behind
    return Executable(graph, optimised, state, PlanEngine(Program(optimised), state), backend)


def open_ops(graph: Graph) -> Graph:
    """The graph with ops that no kernel lowers, such as users' own, written in others by their `decompose`.

    Groups too: those of passes keep the rules of their kernels, those of a file may be anything.
    """
    graph = _open_once(graph)
    while _has_groups(graph):                           # there was one in a group
        graph = _open_once(graph)
    return graph


@also_in_bodies
def _open_once(graph: Graph) -> Graph:
    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if _has_kernel(node):
            return None
        made = node.op.decompose(*inputs)
        if made is not None and tuple(value.type for value in made) != node.types:
            raise VerifyError(f"{node.op.name}: decompose gives {', '.join(str(v.type) for v in made)}, "
                              f"infer says {', '.join(map(str, node.types))}")
        return made

    return graph if all(map(_has_kernel, graph.nodes)) else rewrite(graph, rule)


def _has_kernel(node: Node) -> bool:
    return has_rule(node.op) and not isinstance(node.op, (Fused, Epilogue))


def _has_groups(graph: Graph) -> bool:
    return any(isinstance(node.op, (Fused, Epilogue)) or any(map(_has_groups, bodies_of(node.op))) for node in graph.nodes)
