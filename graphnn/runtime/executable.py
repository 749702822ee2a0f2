"""Executable: a compiled graph that runs on arrays. It knows graphs, arrays and a state; no layers, no losses."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphnn.errors import DTypeError, ShapeError, VerifyError
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import run_nodes
from graphnn.ir.types import TensorType, bind_sizes
from graphnn.runtime.plan import Plan, Program, bind
from graphnn.runtime.state import State
from graphnn.runtime.workspace import Workspace

KEPT_PLANS = 8                     # bindings of sizes kept: a batch, its remainder, a few lengths
_KEPT_WORKSPACES = 64              # idle ones a plan: as many as ever ran it at once

Out = Sequence[np.ndarray | None] | None
Shapes = tuple[tuple[int, ...], ...]


class Engine(Protocol):
    """What runs a graph on checked arrays: compiled kernels, or NumPy."""

    def run(self, arrays: Sequence[np.ndarray], out: Out) -> list[np.ndarray]: ...
    def lower(self, shapes: Shapes) -> None: ...


class Executable:
    """A compiled graph. Call it with arrays, in order or by name; several outputs come as a tuple.

    Arrays must have the declared dtype and fit the declared shape. Results belong to the caller. `out=` takes an array
    (or one per output) to write into.
    """

    def __init__(self, source: Graph, graph: Graph, state: State, engine: Engine, backend: str) -> None:
        self.source, self.graph, self.state, self.backend = source, graph, state, backend
        self._engine = engine
        self._inputs = graph.by_role("input")
        self._names = tuple(value.name for value in self._inputs)
        self._dtypes = tuple(value.dtype.numpy for value in self._inputs)
        self._writes = bool(graph.updates)
        self._single = len(graph.outputs) == 1

    @property
    def plan(self) -> Plan:
        """The plan that ran last (backend "numba")."""
        if not isinstance(self._engine, PlanEngine) or self._engine.last is None:
            raise VerifyError("there is no plan yet", hint="call the executable, or its lower(sizes), first")
        return self._engine.last

    def __call__(self, *args: np.ndarray, out: Any = None, **named: np.ndarray) -> Any:
        arrays = args if not named and len(args) == len(self._names) else self._gather(args, named)
        for array, dtype in zip(arrays, self._dtypes, strict=True):
            if type(array) is not np.ndarray or array.dtype is not dtype:
                arrays = self._checked(arrays)
                break
        targets = None if out is None else self._targets(out, arrays)
        if self._writes:
            with self.state.writing():
                results = self._engine.run(arrays, targets)
        else:
            self.state.begin_read()
            try:
                results = self._engine.run(arrays, targets)
            finally:
                self.state.end_read()
        return results[0] if self._single else tuple(results)

    def lower(self, **sizes: int) -> Executable:
        """Make the plan for these sizes now, so that the first call need not. Sizes by name: `lower(N=64)`."""
        missing = set(self.graph.size_names) - set(sizes)
        if missing:
            raise ShapeError(f"lower: the size {', '.join(sorted(missing))} is missing")
        types = [value.type.bind(sizes) for value in self._inputs]
        self._engine.lower(tuple(tuple(int(s) for s in t.shape) for t in types))  # pyright: ignore[reportArgumentType]
        return self

    def prepare(self, *arrays: np.ndarray) -> Executable:
        """As `lower`, for the sizes of these arrays. Nothing is run."""
        self._engine.lower(tuple(array.shape for array in arrays))
        return self

    def profile(self, *args: np.ndarray, **named: np.ndarray) -> tuple[Plan, np.ndarray]:
        """One timed run: the plan, and the nanoseconds of each of its rows. State is updated as by a call."""
        if not isinstance(self._engine, PlanEngine):
            raise VerifyError('backend="numpy" has no rows to time', hint='compile with backend="numba"')
        arrays = self._checked(self._gather(args, named))
        with self.state.writing():
            return self._engine.run_timed(arrays)

    def run_poisoned(self, *args: np.ndarray) -> list[np.ndarray]:
        """A run in which all memory that the plan calls free is filled with NaNs: shows a wrong plan. Slow."""
        assert isinstance(self._engine, PlanEngine), "only plans have memory to poison"
        with self.state.writing():
            return self._engine.run_poisoned(self._checked(args))

    def __repr__(self) -> str:
        return f"<Executable {self.graph.name}: {len(self.graph.nodes)} nodes, backend {self.backend}>"

    # ------------------------------------------------------------------------------------------ the door

    def _gather(self, args: Sequence[np.ndarray], named: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        if len(args) > len(self._names):
            raise VerifyError(f"{self.graph.name} takes {len(self._names)} arrays ({', '.join(self._names)}), not {len(args)}")
        given = dict(zip(self._names, args, strict=False))
        for name, array in named.items():
            if name not in self._names:
                raise VerifyError(f"{self.graph.name} has no input {name!r}; its inputs are {', '.join(self._names) or 'none'}")
            if name in given:
                raise VerifyError(f"{self.graph.name}: the input {name!r} is given twice")
            given[name] = array
        missing = [name for name in self._names if name not in given]
        if missing:
            raise VerifyError(f"{self.graph.name}: the input {missing[0]!r} is missing; "
                              f"its inputs are {', '.join(f'{v.name}: {v.type}' for v in self._inputs)}")
        return tuple(given[name] for name in self._names)

    def _checked(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        result: list[np.ndarray] = []
        for array, value in zip(arrays, self._inputs, strict=True):
            array = np.asarray(array)
            if array.dtype != value.dtype.numpy:
                raise DTypeError(f"{self.graph.name}: input {value.name!r} is {array.dtype}, declared {value.type}",
                                 hint=f"convert it: array.astype({str(value.dtype.numpy)!r})")
            result.append(array)
        return tuple(result)

    def _targets(self, out: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        targets = list(out) if isinstance(out, (tuple, list)) else [out]
        if len(targets) != len(self.graph.outputs):
            raise VerifyError(f"out: {self.graph.name} has {len(self.graph.outputs)} outputs, not {len(targets)}")
        sizes = bind_sizes([v.type for v in self._inputs], [a.shape for a in arrays], self._names)
        for target, value in zip(targets, self.graph.outputs, strict=True):
            if target is None:
                continue
            expected = value.type.bind(sizes)
            if not isinstance(target, np.ndarray) or TensorType.of(target) != expected:
                raise ShapeError(f"out: expected an array {expected}, got {_described(target)}")
            if not (target.flags.c_contiguous and target.flags.writeable and target.flags.aligned):
                raise ShapeError("out: the array must be writeable, aligned and C-contiguous")
            if any(np.may_share_memory(target, array) for array in arrays):
                raise VerifyError("out: the array overlaps an input", hint="give an array of its own")
        return targets


def _described(array: Any) -> str:
    return str(TensorType.of(array)) if isinstance(array, np.ndarray) else type(array).__name__


class PlanEngine:
    """Runs plans: one a binding of sizes, with a workspace for each thread that runs it at once."""

    def __init__(self, program: Program, state: State) -> None:
        self.program, self.state = program, state
        self.last: Plan | None = None
        self._inputs = program.graph.by_role("input")
        self._idle: dict[Shapes, list[Workspace]] = {}
        self._plans: dict[Shapes, Plan] = {}
        self._binding = threading.Lock()

    def run(self, arrays: Sequence[np.ndarray], out: Out) -> list[np.ndarray]:
        shapes = tuple([array.shape for array in arrays])
        idle = self._idle.get(shapes) or []
        try:
            workspace = idle.pop()                       # one step, so that two threads never take the same
        except IndexError:
            workspace = None
        if workspace is None:
            workspace = self._new_workspace(shapes)
            idle = self._idle.setdefault(shapes, [])
        try:
            return workspace.run(arrays, out)
        finally:
            if len(idle) < _KEPT_WORKSPACES:
                idle.append(workspace)

    def run_timed(self, arrays: Sequence[np.ndarray]) -> tuple[Plan, np.ndarray]:
        workspace = self._new_workspace(tuple(array.shape for array in arrays))
        _, times = workspace.run_timed(arrays)
        return workspace.plan, times

    def run_poisoned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._new_workspace(tuple(array.shape for array in arrays)).run_poisoned(arrays)

    def lower(self, shapes: Shapes) -> None:
        workspace = self._new_workspace(shapes)
        self._idle[shapes].append(workspace)

    def _new_workspace(self, shapes: Shapes) -> Workspace:
        with self._binding:
            plan = self._plans.pop(shapes, None) or self._bind(shapes)
            self._plans[shapes] = plan                   # the one used last stands last
            self._idle.setdefault(shapes, [])
            while len(self._plans) > KEPT_PLANS:
                oldest = next(iter(self._plans))
                del self._plans[oldest]
                self._idle.pop(oldest, None)
            self.last = plan
            return Workspace(plan, self.state)

    def _bind(self, shapes: Shapes) -> Plan:
        names = [value.name for value in self._inputs]
        return bind(self.program, bind_sizes([value.type for value in self._inputs], shapes, names))

    def __getstate__(self) -> None:
        raise TypeError("compiled code cannot be pickled; save the model and load it there")


class NumpyEngine:
    """Runs a graph with the NumPy meanings of its ops: slow, needs no compiler, and is the oracle of the other one."""

    def __init__(self, graph: Graph, state: State) -> None:
        self.graph, self.state = graph, state

    def lower(self, shapes: Shapes) -> None:
        """There is nothing to prepare."""

    def run(self, arrays: Sequence[np.ndarray], out: Out) -> list[np.ndarray]:
        graph = self.graph
        user = graph.by_role("input")
        sizes = bind_sizes([v.type for v in user], [a.shape for a in arrays], [v.name for v in user])
        feeds = dict(zip(user, arrays, strict=True))
        for value in (*graph.by_role("param"), *graph.by_role("state")):
            feeds[value] = self.state.array_in_place(value.name)
        values = run_nodes(graph, feeds, sizes)
        outputs = [values[value] if out is None or out[i] is None else _filled(out[i], values[value])
                   for i, value in enumerate(graph.outputs)]
        # A result may be a view of an input, a constant or a state: the caller gets an array of their own.
        outputs = [array if out is not None and array is out[i] else array.copy() for i, array in enumerate(outputs)]
        new = [(state.name, values[value].copy()) for state, value in graph.updates]
        for name, array in new:
            self.state.array_in_place(name)[...] = array
        return outputs


def _filled(target: np.ndarray | None, array: np.ndarray) -> np.ndarray:
    assert target is not None
    target[...] = array
    return target
