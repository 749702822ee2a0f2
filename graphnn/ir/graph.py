"""Values, nodes and graphs. All frozen: a pass makes a new graph.

The DAG is the values, which remember their node; a `Graph` is a cut through it: inputs, outputs, and the nodes between in
execution order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphnn.errors import VerifyError
from graphnn.ir.dims import Size, names_of
from graphnn.ir.loc import Loc
from graphnn.ir.types import DType, TensorType

if TYPE_CHECKING:
    from graphnn.ir.op import Op

IDENTIFIER = re.compile(r"[A-Za-z_][\w./-]*\Z")
ROLES = ("input", "param", "state")

OPERATORS: dict[str, Callable[..., Any]] = {}      # what + - * / ... write; filled by ir/ops/operators.py


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One application of an op. Compared by identity."""

    op: Op
    inputs: tuple[Value, ...]
    types: tuple[TensorType, ...]
    loc: Loc

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(Value(self, i) for i in range(len(self.types)))

    @property
    def output(self) -> Value:
        """The only output."""
        assert len(self.types) == 1, f"{self.op.name} has {len(self.types)} outputs"
        return self.outputs[0]

    def __repr__(self) -> str:
        return f"<Node {self.op.name} : {', '.join(map(str, self.types))}>"


@dataclass(frozen=True, repr=False)
class Value:
    """A tensor in a graph: one output of a node. `==` is identity; use `equal(a, b)` to compare elements."""

    node: Node
    index: int = 0

    # NumPy must not take a Value for a sequence: array + value has to call Value.__radd__.
    __array_ufunc__ = None

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.node is other.node and self.index == other.index

    @property
    def type(self) -> TensorType:
        return self.node.types[self.index]

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def name(self) -> str:
        """The name of an input, else the name of its op."""
        return getattr(self.node.op, "label", self.node.op.name)

    def __repr__(self) -> str:
        return f"<Value {self.name} : {self.type}>"

    def __bool__(self) -> bool:
        raise VerifyError("a Value has no truth value: it is a tensor that does not exist yet",
                          hint="use where(condition, a, b) to choose by element")

    def __iter__(self) -> Any:
        raise VerifyError(f"cannot iterate over the symbolic {self.type}", hint="use split, or slice with x[i]")

    def __add__(self, other: Any) -> Value: return OPERATORS["add"](self, other)
    def __radd__(self, other: Any) -> Value: return OPERATORS["add"](other, self)
    def __sub__(self, other: Any) -> Value: return OPERATORS["sub"](self, other)
    def __rsub__(self, other: Any) -> Value: return OPERATORS["sub"](other, self)
    def __mul__(self, other: Any) -> Value: return OPERATORS["mul"](self, other)
    def __rmul__(self, other: Any) -> Value: return OPERATORS["mul"](other, self)
    def __truediv__(self, other: Any) -> Value: return OPERATORS["div"](self, other)
    def __rtruediv__(self, other: Any) -> Value: return OPERATORS["div"](other, self)
    def __pow__(self, other: Any) -> Value: return OPERATORS["pow"](self, other)
    def __rpow__(self, other: Any) -> Value: return OPERATORS["pow"](other, self)
    def __matmul__(self, other: Any) -> Value: return OPERATORS["matmul"](self, other)
    def __rmatmul__(self, other: Any) -> Value: return OPERATORS["matmul"](other, self)
    def __neg__(self) -> Value: return OPERATORS["neg"](self)
    def __abs__(self) -> Value: return OPERATORS["abs"](self)
    def __lt__(self, other: Any) -> Value: return OPERATORS["less"](self, other)
    def __le__(self, other: Any) -> Value: return OPERATORS["less_equal"](self, other)
    def __gt__(self, other: Any) -> Value: return OPERATORS["less"](other, self)
    def __ge__(self, other: Any) -> Value: return OPERATORS["less_equal"](other, self)
    def __getitem__(self, index: Any) -> Value: return OPERATORS["getitem"](self, index)

    @property
    def T(self) -> Value:
        """The matrix transpose: the last two axes swapped."""
        return OPERATORS["matrix_transpose"](self)


@dataclass(frozen=True)
class Use:
    """Where a value is read: which input of which node."""

    node: Node
    position: int


Updates = Sequence[tuple[Value, Value]]


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """Inputs, outputs and the nodes between, in execution order; `updates` pairs each state with its next value.

    Made by `Graph.of`, or by `Graph.parse` from text; `print(graph)` shows the text.

    >>> import graphnn as gnn
    >>> x = gnn.Input((3,), name="x")
    >>> graph = gnn.Graph.of("norms", [x], [gnn.sqrt(gnn.sum(x * x, axis=-1))])
    >>> graph
    <Graph norms: 1 inputs, 3 nodes, 1 outputs>
    >>> [node.op.name for node in graph.nodes], graph.outputs[0].type
    (['mul', 'sum', 'sqrt'], f32[N])
    """

    name: str
    inputs: tuple[Value, ...]                            # user inputs first, then params, then states
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]                              # input nodes excluded
    updates: tuple[tuple[Value, Value], ...] = ()

    @classmethod
    def of(cls, name: str, inputs: Sequence[Value], outputs: Sequence[Value], *,
           updates: Updates | Mapping[Value, Value] = ()) -> Graph:
        """The graph that computes `outputs` and `updates` from `inputs`; params and states it reads are found by itself.

        Raises VerifyError when an output depends on an input that is not listed.
        """
        if not IDENTIFIER.match(name):
            raise VerifyError(f"{name!r} cannot name a graph; use letters, digits, _ . / -")
        pairs = tuple(updates.items() if isinstance(updates, Mapping) else updates)
        for state, new in pairs:
            if role_of(state) not in ("param", "state"):
                raise VerifyError(f"{state!r} cannot be updated: it is no param or state")
            if state.type != new.type:
                raise VerifyError(f"the update of {state.name!r} has type {new.type}, the state {state.type}")
        if len({state for state, _ in pairs}) != len(pairs):
            raise VerifyError("a state is updated twice")
        roots = [*outputs, *(new for _, new in pairs)]
        nodes = collect(roots)
        found = [node.output for node in nodes if role_of(node) is not None]
        listed = set(inputs)
        for value in found:
            if role_of(value) == "input" and value not in listed:
                raise VerifyError(f"the graph {name!r} reads the input {value.name!r}, which is not among its inputs: "
                                  f"{', '.join(repr(v.name) for v in inputs) or 'none'}")
        for value in inputs:
            if role_of(value) is None:
                raise VerifyError(f"{value!r} is no input; make inputs with gnn.Input")
        extra = [v for v in found if v not in listed] + [s for s, _ in pairs if s not in listed and s not in found]
        ordered = (*inputs, *(v for v in extra if role_of(v) == "param"), *(v for v in extra if role_of(v) == "state"))
        return cls(name, tuple(ordered), tuple(outputs), tuple(n for n in nodes if role_of(n) is None), pairs)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or copy has the fields alone, not what was found out about the graph since."""
        return Graph, (self.name, self.inputs, self.outputs, self.nodes, self.updates)

    @cached_property
    def uses(self) -> Mapping[Value, tuple[Use, ...]]:
        """Where each value is read by a node (outputs and updates are not uses)."""
        found: dict[Value, list[Use]] = {}
        for node in self.nodes:
            for position, value in enumerate(node.inputs):
                found.setdefault(value, []).append(Use(node, position))
        return {value: tuple(uses) for value, uses in found.items()}

    @cached_property
    def results(self) -> tuple[Value, ...]:
        """Outputs and next values of states: all that must be computed."""
        return (*self.outputs, *(new for _, new in self.updates))

    @cached_property
    def size_names(self) -> tuple[str, ...]:
        """The symbolic sizes of the inputs, in order of appearance."""
        return tuple(dict.fromkeys(n for value in self.inputs for size in value.shape for n in names_of(size)))

    def by_role(self, role: str) -> tuple[Value, ...]:
        """The inputs with this role: input, param or state."""
        return tuple(value for value in self.inputs if role_of(value) == role)

    def input(self, name: str) -> Value:
        """The input, param or state with this name."""
        for value in self.inputs:
            if value.name == name:
                return value
        raise VerifyError(f"the graph {self.name!r} has no input {name!r}; it has {', '.join(v.name for v in self.inputs)}")

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs>"

    def __str__(self) -> str:
        from graphnn.ir.text import print_graph  # text reads graphs, and a graph prints as its text
        return print_graph(self)

    @staticmethod
    def parse(text: str) -> Graph:
        """The graph written in the text format (docs/text_format.md): the inverse of str."""
        from graphnn.ir.text import parse_graph
        return parse_graph(text)


def role_of(item: Value | Node) -> str | None:
    """"input", "param" or "state" for an input node or its value, else None."""
    node = item.node if isinstance(item, Value) else item
    return getattr(node.op, "role", None)


def collect(roots: Iterable[Value]) -> list[Node]:
    """The nodes that `roots` depend on, each after its inputs. Iterative: unrolled networks are deeper than Python's stack."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        if root.node in seen:
            continue
        seen.add(root.node)
        stack: list[tuple[Node, int]] = [(root.node, 0)]
        while stack:
            node, position = stack.pop()
            for i in range(position, len(node.inputs)):
                producer = node.inputs[i].node
                if producer not in seen:
                    seen.add(producer)
                    stack.append((node, i + 1))
                    stack.append((producer, 0))
                    break
            else:
                order.append(node)
    return order
