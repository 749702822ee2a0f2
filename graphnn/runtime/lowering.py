"""From nodes to rows: what a lowering rule sees, and the table of rules.

A rule is `@lowers(OpClass)` over `def rule(node, at) -> list[Row]`. It is given the node, and `at`, a `Lowering`: the op and
the shapes with sizes bound to numbers, the addresses of values, scratch. The choice of a kernel variant may depend on the
symbolic types of the node (`node.inputs[0].shape`), so that new sizes never need a new kernel; the numbers go into the row.
`kernels/__init__.py` is the explicit list of the modules that register rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module

import numpy as np

from graphnn.errors import GraphnnError, ShapeError, UnsupportedError
from graphnn.ir.dims import Size, bind_size
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Op, describe
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.ops.inputs import Constant
from graphnn.runtime import instruction_set
from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.row import Address, Instruction, Row, Scratch

LoweringRule = Callable[[Node, "Lowering"], Sequence[Instruction]]
_RULES: dict[type[Op], LoweringRule] = {}

STREAM_BYTES = 8 << 20      # a result larger than this leaves the cache before anyone reads it


def lowers(*ops: type[Op]) -> Callable[[LoweringRule], LoweringRule]:
    """Register the rule that lowers nodes of these ops."""

    def register(rule: LoweringRule) -> LoweringRule:
        for op in ops:
            assert op not in _RULES, f"two lowering rules for {op.name}"
            _RULES[op] = rule
        return rule

    return register


def _rules() -> dict[type[Op], LoweringRule]:
    """All rules: importing the kernels registers theirs."""
    import_module("graphnn.runtime.kernels")
    return _RULES


class Constants:
    """The arrays of constants, where kernels can read them. Those of a scan's body join as they are met."""

    def __init__(self, values: Sequence[Value]) -> None:
        self.arrays: list[np.ndarray] = []
        self._index: dict[Value, int] = {}
        for value in values:
            self.address(value)

    def address(self, value: Value) -> Address:
        if value not in self._index:
            op = value.node.op
            assert isinstance(op, Constant), "only constants have arrays"
            self._index[value] = len(self.arrays)
            self.arrays.append(np.ascontiguousarray(op.value.data))
        return Address(("constant", self._index[value]))


@dataclass
class Lowering:
    """One node with its sizes bound, as a lowering rule sees it."""

    node: Node
    sizes: Mapping[str, int]
    places: Mapping[Value, Address]
    next_reads: frozenset[Value]
    constants: Constants
    inner: dict[int, Node] = field(default_factory=dict)     # by id of a row: the node of a loop's body that it belongs to
    fixed: frozenset[Value] = frozenset()                    # what is the same on each of the many trips of the loop around it
    before: list[Row] = field(default_factory=list)          # rows that run once, before that loop

    @cached_property
    def op(self) -> Op:
        """The node's op, with numbers for names."""
        return self.node.op.bind(self.sizes)

    @property
    def isa(self) -> InstructionSet:
        return instruction_set.current()

    def bind(self, size: Size) -> int:
        return bind_size(size, self.sizes)

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of a value, in numbers."""
        return tuple(bind_size(size, self.sizes) for size in value.shape)

    def address(self, value: Value) -> Address:
        """Where a value's buffer begins; views share the buffer of what they view."""
        return self.places[value]

    def same_buffer(self, a: Value, b: Value) -> bool:
        """Whether the plan lets two values share their memory: an update in place."""
        return self.places[a] == self.places[b]

    def constant(self, value: Value) -> np.ndarray | None:
        """The array of a value that is known now, else None."""
        op = value.node.op
        return op.value.data if isinstance(op, Constant) else None

    def streams(self, value: Value) -> bool:
        """Whether a result is too large to stay in cache and not read by the next node: write it past the cache."""
        elements = 1
        for size in self.shape(value):
            elements *= size
        return elements * value.dtype.itemsize > STREAM_BYTES and value not in self.next_reads

    def scratch(self, name: str, nbytes: int) -> Address:
        """Memory that lives while this node's rows run, 64-byte aligned."""
        return Address(Scratch(self.node, name, nbytes))


def lower(at: Lowering) -> Sequence[Instruction]:
    """The rows of a node. Raises UnsupportedError, naming op and line, when there is no kernel for it."""
    rule = _rules().get(type(at.node.op))
    if rule is None:
        error = UnsupportedError(f"no compiled kernel for the op {at.node.op.name!r}",
                                 hint='compile with backend="numpy", or write the op in terms of others (decompose)')
        error.locate("", describe(tuple(value.type for value in at.node.inputs), at.node.loc))
        raise error
    try:
        _check_bound(at)
        return rule(at.node, at)
    except GraphnnError as error:              # such as a slice beyond an axis: only numbers show it
        named = at.op.producer if isinstance(at.op, Epilogue) else at.op
        error.locate(f"{named.name}: ", describe(tuple(value.type for value in at.node.inputs), at.node.loc))
        raise


def _check_bound(at: Lowering) -> None:
    """Raise what the op's type rule has to say about numbers, once they stand for names: kernels rely on it."""
    node = at.node
    if isinstance(node.op, Fused) or (at.op is node.op and all(v.type.is_static for v in node.inputs)):
        return                                          # groups: of ops whose rules accept any sizes, or see kernels/fused.py
    if isinstance(at.op, Epilogue):                     # the body is such a group; the size of a convolution is not any
        at.op.producer.infer(*(value.type.bind(at.sizes) for value in node.inputs[:at.op.producer_inputs]))
        return
    made = at.op.infer(*(value.type.bind(at.sizes) for value in node.inputs))
    expected = tuple(t.bind(at.sizes) for t in node.types)
    if made != expected:
        raise ShapeError(f"gives {', '.join(map(str, made))} for these sizes, the graph has {', '.join(map(str, expected))}")


def has_rule(op: Op) -> bool:
    """Whether a compiled kernel exists for the op."""
    return type(op) in _rules()
