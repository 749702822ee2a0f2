"""Layer: what has parameters and writes IR when called. No layer has a backward: gradients come from the graph.

A layer is a dataclass: its fields are its arguments. `build` makes parameters on the first call, when the type of the input
is known; `call` writes the mathematics. Calling one layer twice shares its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.dims import Size
from graphnn.ir.graph import IDENTIFIER, Node, Value, role_of
from graphnn.ir.loc import current_scope, scope
from graphnn.ir.ops.inputs import Initializer, parameter, state
from graphnn.ir.types import DType, TensorType


@dataclass(eq=False)
class Layer:
    """Base of all layers. `name` is the layer's part of the path on its nodes and parameters; by default the class's name
    in lower case, numbered when the network has several."""

    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not IDENTIFIER.match(self.name):
            raise VerifyError(f"{self.name!r} cannot name a layer; use letters, digits, _ . / -")
        self.parameters: list[Value] = []                # trainable values, in order of making
        self.states: list[Value] = []
        self._path: str | None = None
        self._built_for: tuple[TensorType, ...] | None = None

    def build(self, *types: TensorType) -> None:
        """Make the parameters for inputs of these types. Nothing to do for a layer without parameters."""

    def call(self, *inputs: Value) -> Value:
        """The layer's mathematics, in IR."""
        raise NotImplementedError(f"{type(self).__name__}.call")

    def __call__(self, *inputs: Value) -> Value:
        """Apply the layer to symbolic values; makes its parameters on the first call."""
        for value in inputs:
            if not isinstance(value, Value):
                raise VerifyError(f"{type(self).__name__} is called on a {type(value).__name__}, not on a symbolic value",
                                  hint="make one with gnn.Input, or run a compiled model on arrays")
        if self._path is None:
            self._path = _free_path(self.name or snake_case(type(self).__name__), inputs)
        with scope(self._path.removeprefix(f"{current_scope()}/") if current_scope() else self._path):
            types = tuple(value.type for value in inputs)
            if self._built_for is None:
                self.build(*types)
                self._built_for = types
            return self.call(*inputs)

    def param(self, label: str, shape: Sequence[Size], init: Initializer, *, dtype: DType = DType.f32) -> Value:
        """A new trainable value named after this layer. Its sizes must be numbers."""
        for axis, size in enumerate(shape):
            if not isinstance(size, int):
                raise ShapeError(f"the size {size} on axis {axis} of the parameter {label!r} is symbolic",
                                 hint="parameters need numbers; give this axis a size in gnn.Input")
        value = parameter(f"{self._path}/{label}", shape, init, dtype=dtype)
        self.parameters.append(value)
        return value

    def state(self, label: str, shape: Sequence[Size], init: Initializer, *, dtype: DType = DType.f32) -> Value:
        """A new value that runs keep but training does not optimise."""
        value = state(f"{self._path}/{label}", shape, init, dtype=dtype)
        self.states.append(value)
        return value


def snake_case(name: str) -> str:
    """FullyConnected -> fully_connected, Conv2D -> conv2d."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


# The paths taken in each network, by the input it grows from: names belong to a model, never to the process.
_taken: WeakKeyDictionary[Node, set[str]] = WeakKeyDictionary()
_origin: WeakKeyDictionary[Node, Node] = WeakKeyDictionary()


def _free_path(name: str, inputs: Sequence[Value]) -> str:
    outer = current_scope()
    path = f"{outer}/{name}" if outer else name
    origins = {origin for value in inputs if (origin := _network_of(value)) is not None}
    taken = set[str]().union(*(_taken.setdefault(origin, set()) for origin in origins))
    free, number = path, 0
    while free in taken:
        number += 1
        free = f"{path}_{number}"
    for origin in origins:
        _taken[origin].add(free)
    return free


def _network_of(value: Value) -> Node | None:
    """The first input that a value depends on: what tells one network from another."""
    visited: list[Node] = []
    stack = [value.node]
    seen: set[Node] = set()
    found: Node | None = None
    while stack:
        node = stack.pop()
        if node in _origin or role_of(node) == "input":
            found = _origin.get(node, node)
            break
        if node in seen:
            continue
        seen.add(node)
        visited.append(node)
        stack.extend(v.node for v in reversed(node.inputs))
    if found is not None:
        _origin[value.node] = found
    return found
