"""Executable: a compiled graph that runs on arrays. It knows graphs, arrays and a state; no layers, no losses."""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError, VerifyError
from graphnn.ir.dims import numbers
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import run_nodes
from graphnn.ir.types import TensorType, bind_sizes
from graphnn.runtime.plan import Plan, Program, bind
from graphnn.runtime.state import State
from graphnn.runtime.workspace import Workspace

KEPT_PLANS = 8                     # bindings of sizes kept: a batch, its remainder, a few lengths
_KEPT_WORKSPACES = 64              # idle ones a plan: as many as ever ran it at once

_shape = operator.attrgetter("shape")

Out = Sequence[np.ndarray | None] | None
Shapes = tuple[tuple[int, ...], ...]


class Engine(Protocol):
    """What runs a graph on checked arrays: compiled kernels, or NumPy."""

    def run(self, arrays: Sequence[np.ndarray], out: Out) -> list[np.ndarray]: ...
    def lower(self, shapes: Shapes) -> None: ...


class Executable:
    """A compiled graph, made by `gnn.compile`. Call it with arrays, in order or by name; several outputs come as a tuple.

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
        for array, dtype in zip(arrays, self._dtypes):  # noqa: B905  (as many as names; strict costs as much as the loop)
            if type(array) is not np.ndarray or array.dtype is not dtype:
                arrays = self._checked(arrays)
                break
        targets = None if out is None else self._targets(out, arrays)
        state, me = self.state, object()
        try:
            if self._writes:
                state.begin_write(me)
                results = self._engine.run(arrays, targets)
                state.end_write(me)
            else:
                state.begin_read(me)
                results = self._engine.run(arrays, targets)
                state.end_read(me)
        except BaseException:                            # wherever an interrupt came, the state is let go
            state.settle(me)
            raise
        return results[0] if self._single else tuple(results)

    def lower(self, **sizes: int) -> Executable:
        """Make the plan for these sizes now, so that the first call need not. Sizes by name: `lower(N=64)`."""
        wanted = set(self.graph.size_names)
        if wanted != set(sizes):
            missing, extra = ", ".join(sorted(wanted - set(sizes))), ", ".join(sorted(set(sizes) - wanted))
            raise ShapeError(f"lower: the size {missing} is missing" if missing else
                             f"lower: there is no size {extra}; the sizes are {', '.join(sorted(wanted)) or 'numbers'}")
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
                raise ShapeError(f"lower: the size {name} is {size!r}; give a whole number")
        types = [value.type.bind({name: int(size) for name, size in sizes.items()}) for value in self._inputs]
        self._engine.lower(tuple(numbers(t.shape) for t in types))
        return self

    def prepare(self, *arrays: np.ndarray) -> Executable:
        """As `lower`, for the sizes of these arrays. Nothing is run."""
        self._engine.lower(tuple(array.shape for array in self._checked(self._gather(arrays, {}))))
        return self

    def profile(self, *args: np.ndarray, runs: int = 1, **named: np.ndarray) -> tuple[Plan, np.ndarray]:
        """Timed runs: the plan, and for each of its rows the median of its nanoseconds. State is updated as by so many calls."""
        if not isinstance(self._engine, PlanEngine):
            raise VerifyError('backend="numpy" has no rows to time', hint='compile with backend="numba"')
        if not isinstance(runs, int) or runs < 1:
            raise NumericsError(f"profile: runs is {runs!r}; give a whole number from 1")
        arrays = self._checked(self._gather(args, named))
        with self.state.writing():
            return self._engine.run_timed(arrays, runs)

    def run_poisoned(self, *args: np.ndarray) -> list[np.ndarray]:
        """A run in which all memory that the plan calls free is filled with NaNs: shows a wrong plan. Slow."""
        assert isinstance(self._engine, PlanEngine), "only plans have memory to poison"
        with self.state.writing():
            return self._engine.run_poisoned(self._checked(self._gather(args, {})))

    def __reduce__(self) -> Any:
        raise TypeError("an executable cannot be pickled or copied; save the model, or its graph and state, and compile it there")

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
        for i, (target, value) in enumerate(zip(targets, self.graph.outputs, strict=True)):
            if target is None:
                continue
            expected = value.type.bind(sizes)
            if not isinstance(target, np.ndarray) or TensorType.of(target) != expected:
                raise ShapeError(f"out: expected an array {expected}, got {_described(target)}")
            if not (target.flags.c_contiguous and target.flags.writeable and target.flags.aligned):
                raise ShapeError("out: the array must be writeable, aligned and C-contiguous")
            if any(np.may_share_memory(target, array) for array in arrays):
                raise VerifyError("out: the array overlaps an input", hint="give an array of its own")
            if any(other is not None and np.may_share_memory(target, other) for other in targets[:i]):
                raise VerifyError("out: two of the arrays overlap", hint="give each output an array of its own")
        return targets


def _described(array: Any) -> str:
    return str(TensorType.of(array)) if isinstance(array, np.ndarray) else type(array).__name__


class _Binding:
    """A plan, and the workspaces that wait for the next call."""

    def __init__(self, plan: Plan, dropped: int) -> None:
        self.plan, self.dropped = plan, dropped
        self.idle: list[Workspace] = []

    def take(self, state: State) -> Workspace:
        """A workspace for one run, to be put back to the idle ones after it."""
        try:
            return self.idle.pop()                       # one step, so that two threads never take the same
        except IndexError:
            return Workspace(self.plan, state)

    def put_back(self, workspace: Workspace) -> None:
        if len(self.idle) < _KEPT_WORKSPACES:
            self.idle.append(workspace)


class PlanEngine:
    """Runs plans: one a binding of sizes, with a workspace for each thread that runs it at once."""

    def __init__(self, program: Program, state: State) -> None:
        self.program, self.state = program, state
        self.last: Plan | None = None
        self._inputs = program.graph.by_role("input")
        self._bindings: dict[Shapes, _Binding] = {}
        self.renew_lock()
        _all_engines.add(self)

    def renew_lock(self) -> None:
        self._lock = threading.Lock()                    # one thread binds at a time

    def run(self, arrays: Sequence[np.ndarray], out: Out) -> list[np.ndarray]:
        shapes = tuple(map(_shape, arrays))
        binding = self._bindings.get(shapes)
        if binding is None or binding.dropped != self.state.dropped:
            binding = self._bind(shapes)
        elif binding.plan is not self.last:
            self._touch(shapes, binding)
        workspace = binding.take(self.state)
        try:
            return workspace.run(arrays, out)
        finally:
            binding.put_back(workspace)

    def run_timed(self, arrays: Sequence[np.ndarray], runs: int) -> tuple[Plan, np.ndarray]:
        binding = self._bind(tuple(array.shape for array in arrays))
        workspace = binding.take(self.state)
        try:
            return binding.plan, np.median([workspace.run_timed(arrays)[1] for _ in range(runs)], axis=0)
        finally:
            binding.put_back(workspace)

    def run_poisoned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        plan = self._bind(tuple(array.shape for array in arrays)).plan
        return Workspace(plan, self.state).run_poisoned(arrays)

    def lower(self, shapes: Shapes) -> None:
        binding = self._bind(shapes)
        if not binding.idle:
            binding.idle.append(Workspace(binding.plan, self.state))

    def _bind(self, shapes: Shapes) -> _Binding:
        """The binding of these shapes: the one kept, or a new one in place of the one used longest ago."""
        with self._lock:
            binding = self._bindings.pop(shapes, None)
            if binding is None:
                names = [value.name for value in self._inputs]
                sizes = bind_sizes([value.type for value in self._inputs], shapes, names)
                binding = _Binding(bind(self.program, sizes), self.state.dropped)
            elif binding.dropped != self.state.dropped:  # its workspaces hold arrays that the state may have forgotten
                binding = _Binding(binding.plan, self.state.dropped)
            self._bindings[shapes] = binding             # the one used last stands last
            while len(self._bindings) > KEPT_PLANS:
                del self._bindings[next(iter(self._bindings))]
            self.last = binding.plan
            return binding

    def _touch(self, shapes: Shapes, binding: _Binding) -> None:
        """Note that a binding is in use; not worth waiting for a thread that binds."""
        if self._lock.acquire(blocking=False):
            try:
                if self._bindings.pop(shapes, None) is not None:
                    self._bindings[shapes] = binding
            finally:
                self._lock.release()
        self.last = binding.plan


_all_engines: weakref.WeakSet[PlanEngine] = weakref.WeakSet()


def _in_child() -> None:
    """A fork may come while another thread binds: the child, in which that thread is not, starts with free locks."""
    for engine in _all_engines:
        engine.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


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
            feeds[value] = self.state.array_in_place(value)
        values = run_nodes(graph, feeds, sizes)
        outputs = [values[value] if out is None or out[i] is None else _filled(out[i], values[value])
                   for i, value in enumerate(graph.outputs)]
        # A result may be a view of an input, a constant or a state: the caller gets an array of their own.
        outputs = [array if out is not None and array is out[i] else array.copy() for i, array in enumerate(outputs)]
        new = [(state, values[value].copy()) for state, value in graph.updates]
        for state, array in new:
            self.state.array_in_place(state)[...] = array
        return outputs


def _filled(target: np.ndarray | None, array: np.ndarray) -> np.ndarray:
    assert target is not None
    target[...] = array
    return target
