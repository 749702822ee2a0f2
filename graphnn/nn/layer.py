"""Layer: what has parameters and writes IR when called. No layer has a backward: gradients come from the graph.

A layer is a dataclass: its fields are its arguments. `accepts` looks at the types of the inputs, `build` makes parameters on
the first call, `call` writes the mathematics. Calling one layer twice shares its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from graphnn.errors import GraphnnError, ShapeError, VerifyError
from graphnn.ir.dims import Size
from graphnn.ir.graph import IDENTIFIER, Graph, Node, Value, role_of
from graphnn.ir.loc import current_scope, here, scope
from graphnn.ir.op import describe
from graphnn.ir.ops.inputs import Initializer, parameter, state
from graphnn.ir.ops.modes import with_update
from graphnn.ir.types import DType, TensorType
from graphnn.nn.arguments import shown

T = TypeVar("T")


@dataclass(eq=False)
class Layer:
    """Base of all layers. `name` is the layer's part of the path on its nodes and parameters; by default the class's name
    in lower case, numbered when the network has several. A given name is never changed: two layers of one name whose
    parameters meet in a graph are an error."""

    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not (isinstance(self.name, str) and IDENTIFIER.match(self.name)):
            raise VerifyError(f"{shown(self.name)} cannot name a layer; use letters, digits, _ . / -")
        self.parameters: list[Value] = []                # trainable values, in order of making; those of layers inside too
        self.states: list[Value] = []
        self._draws: tuple[Value, Value] | None = None
        self._streams = 0
        self._path: str | None = None
        self.built_for: tuple[TensorType, ...] | None = None       # the inputs of the first call
        self._begun: list[tuple[Layer, Sequence[Value]]] = []      # layers first called while this one is, and on what

    def accepts(self, *types: TensorType) -> None:
        """Raise unless the layer takes inputs of these types. Asked in every call, before `build`."""

    def build(self, *types: TensorType) -> None:
        """Make the parameters for inputs of these types. Nothing to do for a layer without parameters."""

    def call(self, *inputs: Value, **options: Any) -> Value:
        """The layer's mathematics, in IR."""
        raise NotImplementedError(f"{type(self).__name__}.call")

    def __call__(self, *inputs: Value, **options: Any) -> Value:
        """Apply the layer to symbolic values; makes its parameters on the first call. Keywords (a mask) go to `call`."""
        return self.within(self.call, *inputs, **options)

    def within(self, work: Callable[..., T], *inputs: Value, **options: Any) -> T:
        """work(*inputs, **options) as a part of this layer: its parameters are made before, its name stands on the nodes.
        Options are values or None."""
        given = (*inputs, *(value for value in options.values() if value is not None))
        kind = type(self).__name__
        if "_begun" not in vars(self):
            raise VerifyError(f"{kind} was not made as a layer is", hint="call super().__post_init__() in its __post_init__, or "
                                                                         "super().__init__() in its __init__")
        for value in given:
            if not isinstance(value, Value):
                several = isinstance(value, (tuple, list))
                raise VerifyError(f"{kind} is called on a {type(value).__name__}, not on a symbolic value",
                                  hint="give its values one by one: layer(*values)" if several else
                                       "make one with gnn.Input, or run a compiled model on arrays")
        try:
            signature(work).bind(*inputs, **options)
        except TypeError as error:
            types = ", ".join(str(value.type) for value in given)
            raise VerifyError(f"{kind} is called on {types or 'nothing'}: {error}") from None
        before = self._path, self.built_for, [*self.parameters], [*self.states], self._draws, self._streams
        self._path = path = _take_path(self._path, self.name, snake_case(kind), given)
        types = tuple(value.type for value in inputs)
        around = _around.get()
        token = _around.set(self)
        with scope(path.removeprefix(f"{current_scope()}/") if current_scope() else path) as full:
            try:
                self.accepts(*types)
                if self.built_for is None:
                    self.build(*types)
                    self.built_for = types
                result = work(*inputs, **options)
            except BaseException as error:
                if isinstance(error, GraphnnError):
                    error.locate("", describe(tuple(value.type for value in given), here()))
                    error.__notes__ = [f"{note} ({kind})" if note == f"  layer     {full}" else note for note in error.__notes__]
                for layer, inner in self._begun:         # as if none of them had been called
                    layer._forget(inner)
                if before[0] is None:
                    _give_back(path, given)
                self._path, self.built_for, self.parameters, self.states, self._draws, self._streams = before
                raise
            finally:
                begun, self._begun = self._begun, []
                _around.reset(token)
        if around is not None:
            around._begun += [*begun, *([(self, given)] if before[0] is None else [])]
            around.parameters += [value for value in self.parameters if value not in around.parameters]
            around.states += [value for value in self.states if value not in around.states]
        return result

    def _forget(self, inputs: Sequence[Value]) -> None:
        """Be as before the first call, which was on these values."""
        if self._path is not None:
            _give_back(self._path, inputs)
        self._path = self.built_for = self._draws = None
        self.parameters, self.states, self._streams = [], [], 0

    def param(self, label: str, shape: Sequence[Size], init: Initializer, *, dtype: DType = DType.f32) -> Value:
        """A new trainable value named after this layer. Its sizes must be numbers."""
        for axis, size in enumerate(shape):
            if not isinstance(size, int):
                raise ShapeError(f"the size {size} on axis {axis} of the parameter {label!r} is symbolic",
                                 hint="parameters need numbers; give this axis a size in gnn.Input")
        value = parameter(f"{self._path}/{label}", shape, init, dtype=dtype)
        self.parameters.append(value)
        return value

    def require_same_sizes(self, x: TensorType, count: int) -> None:
        """Raise ShapeError unless the last `count` axes of x are those of the first call: parameters may broadcast."""
        if self.built_for is not None and x.shape[x.rank - count:] != (sizes := self.built_for[0].shape[-count:]):
            raise ShapeError(f"{type(self).__name__} has parameters for last axes of {', '.join(map(str, sizes))}, not for {x}",
                             hint="one layer has one set of parameters; make another for other sizes")

    def state(self, label: str, shape: Sequence[Size], init: Initializer, *, dtype: DType = DType.f32) -> Value:
        """A new value that runs keep but training does not optimise."""
        value = state(f"{self._path}/{label}", shape, init, dtype=dtype)
        self.states.append(value)
        return value

    def randomness(self) -> tuple[Value, Value]:
        """(seed, step) for random ops: states of this layer, made at the first call. The seed follows from the state's seed and
        the layer's name. Advance the step with `advance`, or each training step draws the same numbers."""
        if self._draws is None:
            self._draws = (self.state("seed", (), _any_seed, dtype=DType.i64), self.state("step", (), _nought, dtype=DType.i64))
        return self._draws

    def advance(self, y: Value) -> Value:
        """y; and after a training step this layer's random ops draw other numbers."""
        _, step = self.randomness()
        return with_update(y, step, step + 1)

    def stream(self) -> int:
        """A number for `stream=` of a random op: a new one at each use, so that a layer called twice draws twice."""
        self._streams += 1
        return self._streams - 1


def _any_seed(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2**63, shape, dtype)


def _nought(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> np.ndarray:
    return np.zeros(shape, dtype)


# The layer whose `build` or `call` is running: it has the parameters of the layers that it calls.
_around: ContextVar[Layer | None] = ContextVar("graphnn_layer", default=None)


# Before a word; between an abbreviation and a word; before an abbreviation of three letters or more (ReLU is one word).
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z]{2})(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z]{3})")


def snake_case(name: str) -> str:
    """FullyConnected -> fully_connected, Conv2D -> conv2d, ReLU -> relu, LSTMCell -> lstm_cell, BernoulliVAE -> bernoulli_vae."""
    return _WORD_STARTS.sub("_", name).lower()


# The paths taken in each network, by the inputs it grows from: names belong to a model, never to the process.
_taken: WeakKeyDictionary[Node, set[str]] = WeakKeyDictionary()
_origins: WeakKeyDictionary[Node, frozenset[Node]] = WeakKeyDictionary()


def _take_path(path: str | None, name: str | None, kind: str, inputs: Sequence[Value]) -> str:
    """The path of a layer, free in the networks of `inputs` unless it is settled (`path`) or given (`name`); now taken there."""
    networks = _networks_of(inputs)
    taken = set[str]().union(*(_taken.get(network, ()) for network in networks))
    if path is None:
        outer = current_scope()
        wanted = path = f"{outer}/{name or kind}" if outer else name or kind
        number = 0
        while name is None and path in taken:
            number += 1
            path = f"{wanted}_{number}"
    taken.add(path)
    for network in networks:                             # networks that meet in a layer share their names from here on
        _taken[network] = taken
    return path


def keep_paths(graph: Graph) -> None:
    """Let layers called on values of this graph have other paths than the layers it has: a graph from a file brings its own."""
    paths = {node.loc.scope for node in graph.nodes} | {value.name.rpartition("/")[0] for value in graph.inputs}
    parts = [path.split("/") for path in paths if path]
    taken = {"/".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    for value in graph.by_role("input"):
        _taken.setdefault(value.node, set()).update(taken)


def _give_back(path: str, inputs: Sequence[Value]) -> None:
    for network in _networks_of(inputs):
        _taken[network].discard(path)


def _networks_of(values: Sequence[Value]) -> frozenset[Node]:
    """The inputs that values depend on: what tells one network from another."""
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = [value.node for value in values]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if role_of(node) == "input":
            found.add(node)
        elif node in _origins:
            found |= _origins[node]
        else:
            stack.extend(value.node for value in node.inputs)
    result = frozenset(found)
    if len(values) == 1 and values[0].node not in result:   # an input that led to itself here would never be freed
        _origins[values[0].node] = result
    return result
