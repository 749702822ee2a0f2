"""The loops of a fused body: axes of its space merged where all operands run on alike, and what each value depends on.

All of it follows from symbolic shapes, never from numbers, so that new sizes need no new kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphnn.ir.dims import Size, product
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.iteration_space import REDUCTIONS, Space, iteration_space, scalar_of
from graphnn.ir.op import describe
from graphnn.ir.ops import compare, functions, shaping
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.ops.reduce import LogSumExp, Max, Sum, reduced_shape
from graphnn.ir.ops.shaping import Expand, Reshape
from graphnn.ir.ops.sizes import Iota, SizeOf
from graphnn.ir.rewrite import rewrite
from graphnn.runtime.scalar_formulas import FORMULAS


@dataclass(frozen=True)
class Loop:
    """Neighbouring axes of the space run through as one: `size` elements."""

    size: Size
    reduced: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """A body ready to be written as loops. `varies` says in which loops a value changes, `level` after which reductions
    it is known (0: before any). Scalars are values that are numbers when a row is made."""

    body: Graph
    space: Space
    loops: tuple[Loop, ...]
    loop_of: dict[int, int]
    scalars: dict[Value, Value | SizeOf]
    varies: dict[Value, frozenset[int]] = field(default_factory=dict)
    level: dict[Value, int] = field(default_factory=dict)

    def has(self, value: Value) -> tuple[int, ...]:
        """The loops that an operand's memory has, in order."""
        return tuple(sorted({self.loop_of[axis] for axis in self.space.own(value)}))

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(i for i, loop in enumerate(self.loops) if not loop.reduced)

    @property
    def reduced(self) -> tuple[int, ...]:
        return tuple(i for i, loop in enumerate(self.loops) if loop.reduced)

    def is_full(self, value: Value) -> bool:
        """Whether a value has reduced axes."""
        return bool(self.space.own(value) & self.space.reduced)

    def folds(self, node: Node) -> bool:
        """Whether a node is a reduction that folds more than axes of size 1."""
        return isinstance(node.op, REDUCTIONS) and any(self.space.axes[node.inputs[0]][i] is not None for i in node.op.axes)

    @property
    def levels(self) -> int:
        """How many sweeps of reductions there are."""
        return max(self.level.values(), default=0)


def prepare(body: Graph) -> Graph:
    """The body in ops that have formulas: logsumexp and users' ops decomposed, names of sizes kept."""

    def rule(node: Node, inputs: tuple[Value, ...]) -> Value | tuple[Value, ...] | None:
        if isinstance(node.op, LogSumExp):
            return _logsumexp(node.op, *inputs)
        if isinstance(node.op, (*REDUCTIONS, Reshape, Expand, Iota, SizeOf, Constant)) or type(node.op) in FORMULAS:
            return None
        return node.op.decompose(*inputs)

    return rewrite(body, rule)


def _logsumexp(op: LogSumExp, x: Value) -> Value:
    # As its decomposition, but also over no elements: there the largest is -inf, and so is the result.
    if not op.axes:
        return x
    if any(x.shape[axis] == 0 for axis in op.axes):     # known to have no largest
        return functions.log(Sum(op.axes, op.keepdims).one(x))
    largest = Max(op.axes, True).one(x)
    shift = compare.where(compare.is_finite(largest), largest, 0.0)
    y = functions.log(Sum(op.axes, True).one(functions.exp(x - shift))) + shift
    return y if op.keepdims else shaping.reshape(y, reduced_shape(x.shape, op.axes, False))


def layout(body: Graph, scalars: Sequence[Value] = ()) -> Layout:
    """The layout of a body. `scalars` are inputs that will be numbers when rows are made."""
    body = prepare(body)
    space = iteration_space(body)
    if space is None:
        raise AssertionError(f"{body!r} is not one iteration space; the pass that made it broke the rule")
    numbers: dict[Value, Value | SizeOf] = {value: value for value in scalars}
    for node in body.nodes:
        if isinstance(node.op, SizeOf):
            numbers[node.output] = node.op
        elif scalar_of(node.outputs[0]) is not None:
            numbers[node.output] = node.output
    operands = [v for v in (*body.inputs, *body.outputs) if v not in numbers]
    loops, loop_of = _merge(space, operands, _indexed(space, body))
    made = Layout(body, space, loops, loop_of, numbers)
    for value in body.inputs:
        made.varies[value] = frozenset() if value in numbers else frozenset(made.has(value))
        made.level[value] = 0
    for node in body.nodes:
        _place(made, node)
    return made


def _indexed(space: Space, body: Graph) -> set[int]:
    """Axes whose index is itself a value: they stay loops of their own."""
    found: set[int] = set()
    for node in body.nodes:
        if isinstance(node.op, Iota) and (axis := space.axes[node.output][node.op.axis]) is not None:
            found.add(axis)
    return found


def _merge(space: Space, operands: Sequence[Value], indexed: set[int]) -> tuple[tuple[Loop, ...], dict[int, int]]:
    groups: list[list[int]] = []
    having = [frozenset(i for i, value in enumerate(operands) if axis in space.own(value)) for axis in range(len(space.sizes))]
    for axis in range(len(space.sizes)):
        if groups and axis not in indexed and (last := groups[-1][-1]) not in indexed and having[last] == having[axis] \
                and (last in space.reduced) == (axis in space.reduced):  # fmt: skip
            groups[-1].append(axis)
        else:
            groups.append([axis])
    loops = tuple(Loop(product([space.sizes[axis] for axis in group]), group[0] in space.reduced) for group in groups)
    return loops, {axis: i for i, group in enumerate(groups) for axis in group}


def _place(made: Layout, node: Node) -> None:
    op, value = node.op, node.outputs[0]
    varies = frozenset[int]().union(*(made.varies[v] for v in node.inputs))
    level = max((made.level[v] for v in node.inputs), default=0)
    if isinstance(op, Iota):
        axis = made.space.axes[value][op.axis]
        varies = frozenset() if axis is None else frozenset([made.loop_of[axis]])
    elif made.folds(node):
        varies -= frozenset(made.reduced)
        level += 1
    made.varies[value], made.level[value] = varies, level


def located(node: Node) -> list[str]:
    """Notes that say where a node came from."""
    return describe(tuple(value.type for value in node.inputs), node.loc)


def matrix_layout(body: Graph, shape: tuple[Size, ...], scalars: Sequence[Value] = ()) -> Layout:
    """The layout of an elementwise body on a matrix: all axes of `shape` but the last are its rows, the last its columns.

    Each operand has all axes of the rows or none, so that it is a matrix, a row, a column or a scalar.
    """
    made = layout(body, scalars)
    space, rank = made.space, len(shape)
    assert not space.reduced, "an epilogue folds nothing"
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    assert len(axes) == len(space.sizes), "an epilogue's space is the result of its contraction"
    loop_of = {i: int(axis == rank - 1) for i, axis in enumerate(axes)}
    rows = frozenset(i for i, loop in loop_of.items() if loop == 0)
    for value in body.inputs:
        assert space.own(value) & rows in (rows, frozenset()), f"{value!r} is no matrix, row, column or scalar"
    loops = (Loop(product(shape[:-1]), False), Loop(shape[-1], False))
    full = Layout(made.body, space, loops, loop_of, made.scalars)
    for value in full.body.inputs:
        full.varies[value] = frozenset() if value in full.scalars else frozenset(full.has(value))
        full.level[value] = 0
    for node in full.body.nodes:
        _place(full, node)
    return full
