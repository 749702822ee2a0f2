"""State: the arrays that runs keep: parameters, running statistics, optimiser slots, the step count, the random seed.

Executables share a state by being compiled with the same one. A call that updates it holds it alone; calls that only read
it run side by side. Turns are fair: a writer who waits holds new readers back, and the readers who wait go before the next
writer, so that neither an endless training nor a crowd of predictions starves the other.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from graphnn.errors import DTypeError, ShapeError, VerifyError
from graphnn.ir.dims import numbers
from graphnn.ir.graph import Graph, Value, role_of
from graphnn.ir.ops.inputs import Input
from graphnn.ir.types import TensorType
from graphnn.runtime.memory import aligned_array

_default_seed = 0


def seed(number: int) -> None:
    """Every state made from now on starts from `number`, unless `compile(seed=)` says otherwise. The default is 0."""
    global _default_seed
    _default_seed = checked_seed(number)


def checked_seed(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < 1 << 63:
        raise VerifyError(f"{number!r} is no seed; use an integer from 0 to 2**63 - 1")
    return int(number)


class State:
    """Arrays by name. Each is made by its value's initialiser, from a generator that depends on seed and name alone.

    `state[name]` is a copy, `state[name] = array` writes in place, `state.names` lists them.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((2,), name="x")
    >>> model = gnn.Model(x, nn.FullyConnected(1)(x))
    >>> model.state.names
    ('fully_connected/weight', 'fully_connected/bias')
    >>> model.state["fully_connected/bias"] = [0.5]
    >>> model.state["fully_connected/bias"]
    array([0.5], dtype=float32)
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = _default_seed if seed is None else checked_seed(seed)
        self._arrays: dict[str, np.ndarray] = {}
        self._types: dict[str, TensorType] = {}
        self.dropped = 0                                 # how often arrays were forgotten: plans that hold some are stale
        self._renew_locks()
        _all_states.add(self)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._writer: object = None                      # the call inside that writes
        self._readers: set[object] = set()               # the calls inside that read
        self._waiting: set[object] = set()               # readers that wait
        self._queue = 0                                  # writers that wait

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        """A copy of the array with this name."""
        with self.reading():
            return self._array(name).copy()

    def __setitem__(self, name: str, array: object) -> None:
        self.update({name: array})

    def update(self, arrays: Mapping[str, object]) -> None:
        """Write arrays in place, all or none. Raises for an unknown name, a wrong shape or a wrong kind of number."""
        with self.writing():
            checked = {name: self._fitting(name, array) for name, array in arrays.items()}
            for name, array in checked.items():
                self._arrays[name][...] = array

    def arrays(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Copies of all arrays, or of those named, as they are at one moment."""
        with self.reading():
            return {name: self._array(name).copy() for name in (tuple(self._arrays) if names is None else names)}

    def add(self, graph: Graph) -> None:
        """Make room and first values for the params and states of a graph that this state lacks."""
        values = [v for v in graph.inputs if role_of(v) != "input"]
        made = {value.name: self._first_value(value) for value in values if value.name not in self._arrays}
        with self.writing():
            for value in values:
                known = self._types.get(value.name)
                if known is not None and known != value.type:
                    raise VerifyError(f"the state has {value.name!r} as {known}, the graph {graph.name!r} as {value.type}",
                                      hint="give the layer another name, or compile with a state of its own")
            for value in values:                         # another thread may have added it since: then its array stands
                if value.name not in self._arrays:
                    self._arrays[value.name], self._types[value.name] = made[value.name], value.type

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over arrays from a file, under names that this state does not have yet."""
        made: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            assert name not in self._arrays, f"{name!r} is in the state already"
            made[name] = aligned_array(array.shape, array.dtype)
            made[name][...] = array
        with self.writing():
            self._arrays.update(made)
            self._types.update({name: TensorType.of(array) for name, array in made.items()})

    def __reduce__(self) -> tuple[object, ...]:
        """A pickle or copy has copies of the arrays; no executable shares it."""
        return _restored, (self.seed, self.arrays())

    def drop(self, names: Iterable[str]) -> None:
        """Forget arrays: an optimiser's slots when a model gets another optimiser. All or none; unknown names are errors."""
        names = list(dict.fromkeys(names))
        with self.writing():
            for name in names:
                self._array(name)
            for name in names:
                del self._arrays[name], self._types[name]
            self.dropped += bool(names)

    def _first_value(self, value: Value) -> np.ndarray:
        op = value.node.op
        assert isinstance(op, Input)
        if not value.type.is_static:
            raise ShapeError(f"the {op.role} {op.label!r} has the symbolic type {value.type}; a state's sizes are numbers")
        if op.init is None:
            raise VerifyError(f"the {op.role} {op.label!r} has no value and no initialiser",
                              hint="compile with state= a state that has it, or give it init=")
        digest = hashlib.sha256(f"{self.seed}/{op.label}".encode()).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        shape = numbers(value.shape)
        first = np.asarray(op.init(shape, value.dtype.numpy, generator))
        if first.shape != shape:
            raise ShapeError(f"the initialiser of {op.label!r} gave shape {first.shape}, the type is {value.type}")
        array = aligned_array(shape, value.dtype.numpy)
        array[...] = first
        return array

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise VerifyError(f"the state has no {name!r}; it has {', '.join(self._arrays) or 'nothing'}")
        return self._arrays[name]

    def _fitting(self, name: str, array: object) -> np.ndarray:
        target, given = self._array(name), np.asarray(array)
        if given.shape != target.shape:
            raise ShapeError(f"{name!r} has shape {target.shape}, not {given.shape}")
        if not np.can_cast(given.dtype, target.dtype, "same_kind"):
            raise DTypeError(f"{name!r} is {target.dtype}; {given.dtype} cannot be stored in it")
        return given

    def array_in_place(self, value: Value) -> np.ndarray:
        """The state's own array for a param or state of a graph: the same object until it is dropped."""
        array = self._array(value.name)
        known = self._types[value.name]
        if known != value.type:                          # dropped, and made again for another graph
            raise VerifyError(f"the state has {value.name!r} as {known} by now, this graph as {value.type}",
                              hint="compile the graph again, with a state of its own")
        return array

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the state alone."""
        me = object()
        try:
            self.begin_write(me)
            yield
            self.end_write(me)
        except BaseException:
            self.settle(me)
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers out."""
        me = object()
        try:
            self.begin_read(me)
            yield
            self.end_read(me)
        except BaseException:
            self.settle(me)
            raise

    # A call is an object of its own, so that after an interrupt at any point `settle` knows what is left to undo.

    def begin_write(self, me: object) -> None:
        with self._lock:
            if self._writer is not None or self._readers:
                self._queue += 1
                try:
                    while self._writer is not None or self._readers:
                        self._turn.wait()
                finally:
                    self._queue -= 1
            self._writer = me

    def end_write(self, me: object) -> None:
        with self._lock:
            self._writer = None
            if self._waiting or self._queue:
                self._readers |= self._waiting           # those who waited for this writer are inside from now on
                self._waiting.clear()
                self._turn.notify_all()

    def begin_read(self, me: object) -> None:
        with self._lock:
            if self._writer is None and not self._queue:
                self._readers.add(me)
                return
            self._waiting.add(me)
            while me not in self._readers:
                if self._writer is None and not self._queue:    # the writer ahead gave up
                    self._readers.add(me)
                    self._waiting.discard(me)
                else:
                    self._turn.wait()

    def end_read(self, me: object) -> None:
        with self._lock:
            self._readers.discard(me)
            if not self._readers and self._queue:
                self._turn.notify_all()

    def settle(self, me: object) -> None:
        """End what a call began that did not come to its end."""
        with self._lock:
            if self._writer is me:
                self._writer = None
            self._waiting.discard(me)
            self._readers.discard(me)
            if self._writer is None:
                self._readers |= self._waiting
                self._waiting.clear()
            self._turn.notify_all()


def _restored(seed: int, arrays: Mapping[str, np.ndarray]) -> State:
    state = State(seed)
    state.restore(arrays)
    return state


_all_states: weakref.WeakSet[State] = weakref.WeakSet()


def _in_child() -> None:
    """A fork may come while another thread holds a state: the child, in which that thread is not, starts with free locks."""
    for state in _all_states:
        state._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
