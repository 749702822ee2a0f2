"""Which bodies can be one kernel: the space a body iterates over, and the rule that a fusion pass must keep.

A body is fusible when `iteration_space(body)` finds its space:

1. **Nodes.** Elementwise ops (fusion class ELEMENTWISE, one output); `Sum`, `Max`, `Min`, `Prod`, `LogSumExp`; `Expand`;
   `Reshape` that only adds or removes axes of static size 1; `Iota`; `SizeOf`; `Constant` of one element. No transpose.
2. **Space.** Follow each axis whose size is not the static 1 through the body: elementwise ops align operands from the
   right as NumPy does, reductions drop axes, reshapes and expands move them. Axes that meet are one axis of the space. No
   value may have the same axis twice (`x + x.T`), and some value must have all axes; its order of axes is the order of the
   space, and all other values keep that order.
3. **Reductions.** All reductions of a body fold the same set of axes, the `reduced` ones; the others are `kept`. There may be
   several, and reductions of what follows from reductions (softmax, layer norm, their gradients). An operand of a
   reduction has all reduced axes. Between and after them any elementwise work, on kept axes alone or broadcast back.
4. **Outputs.** Each has all axes of the space, or all kept ones and no reduced one. So a value that does not depend on all
   kept axes (a function of a bias alone) may be computed inside but not returned.

Anything of the sort is right in any order and number of nodes. What is *worth* fusing is the pass's own choice; kernels stay
quick to compile up to about 40 nodes and 24 operands. Values computed from few axes are computed once for these, not at every
element. In a reduction body with full-size outputs, inputs are read once from memory and then again from cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphnn.ir.dims import Dim, Size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import Fusion
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.ops.reduce import LogSumExp, Max, Min, Prod, Sum
from graphnn.ir.ops.shaping import Expand, Reshape
from graphnn.ir.ops.sizes import Iota, SizeOf

CHUNKS = "#chunks"
"""The name of the number of parts in which a reduction is computed: a name that no graph can have."""
CHUNKS_SIZE = Dim((((CHUNKS,), 1),))
"""That number as a size. Axes of this size are one axis, though nothing else lets them meet."""
REDUCTIONS = (Sum, Max, Min, Prod, LogSumExp)
Axes = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Space:
    """The axes a body runs over, and where each value's own axes lie among them (None: an axis of size 1)."""

    sizes: tuple[Size, ...]
    reduced: frozenset[int]
    axes: dict[Value, Axes]

    def own(self, value: Value) -> frozenset[int]:
        """The axes of the space that a value has."""
        return frozenset(axis for axis in self.axes[value] if axis is not None)

    @cached_property
    def kept(self) -> frozenset[int]:
        return frozenset(range(len(self.sizes))) - self.reduced


def fusible(node: Node) -> bool:
    """Whether a node may stand in a body at all (rule 1)."""
    op = node.op
    if isinstance(op, Reshape):
        return _reshape_pairs(node.inputs[0].shape, op.shape) is not None
    if isinstance(op, Constant):
        return op.value.data.size == 1
    if isinstance(op, (*REDUCTIONS, Expand, Iota, SizeOf)):
        return True
    return op.fusion is Fusion.ELEMENTWISE and len(node.types) == 1


def iteration_space(body: Graph) -> Space | None:
    """The space of a body, or None when it is not fusible."""
    if not all(fusible(node) for node in body.nodes):
        return None
    try:
        return _Unifier(body).space()
    except _NotFusibleError:
        return None


class _NotFusibleError(Exception):
    pass


def _reshape_pairs(old: tuple[Size, ...], new: tuple[Size, ...]) -> list[tuple[int, int]] | None:
    """Which axis of the old shape is which of the new one; None when more changes than axes of size 1."""
    before = [i for i, size in enumerate(old) if size != 1]
    after = [i for i, size in enumerate(new) if size != 1]
    if [old[i] for i in before] != [new[i] for i in after]:
        return None
    return list(zip(before, after, strict=True))


class _Unifier:
    """Union-find over (value, axis): which axes are one axis of the space."""

    def __init__(self, body: Graph) -> None:
        self.body = body
        self.parent: list[int] = []
        self.size: list[Size] = []
        self.mine: dict[Value, list[int | None]] = {}
        self.folded: list[tuple[Node, frozenset[int]]] = []
        self.chunks: int | None = None
        for value in body.inputs:
            self.add(value)
            if value not in body.uses and value not in body.outputs:     # nobody reads it: its axes are no part of the space
                self.mine[value] = [None] * value.rank
        for node in body.nodes:
            self.visit(node)

    def add(self, value: Value) -> list[int | None]:
        mine: list[int | None] = []
        for size in value.shape:
            if size == 1:
                mine.append(None)
                continue
            mine.append(len(self.parent))
            self.parent.append(len(self.parent))
            self.size.append(size)
            if size == CHUNKS_SIZE:
                self.join(self.chunks, mine[-1])
                self.chunks = mine[-1]
        self.mine[value] = mine
        return mine

    def find(self, axis: int) -> int:
        while self.parent[axis] != axis:
            self.parent[axis] = self.parent[self.parent[axis]]
            axis = self.parent[axis]
        return axis

    def join(self, a: int | None, b: int | None) -> None:
        if a is None or b is None:
            return
        a, b = self.find(a), self.find(b)
        if a != b:
            if self.size[a] != self.size[b]:
                raise _NotFusibleError
            self.parent[b] = a

    def visit(self, node: Node) -> None:
        op, output = node.op, self.add(node.outputs[0])
        if isinstance(op, REDUCTIONS):
            mine = self.mine[node.inputs[0]]
            rest = [axis for i, axis in enumerate(mine) if i not in op.axes]
            left = [axis for i, axis in enumerate(output) if i not in op.axes] if op.keepdims else output
            for a, b in zip(rest, left, strict=True):
                self.join(a, b)
            self.folded.append((node, frozenset(a for i in op.axes if (a := mine[i]) is not None)))
        elif isinstance(op, Reshape):
            pairs = _reshape_pairs(node.inputs[0].shape, op.shape)
            assert pairs is not None, "fusible() said that this reshape only adds and removes axes of size 1"
            for a, b in pairs:
                self.join(self.mine[node.inputs[0]][a], output[b])
        else:                                           # elementwise and expand: aligned from the right
            for value in node.inputs:
                mine = self.mine[value]
                for k in range(1, len(mine) + 1):
                    self.join(mine[-k], output[-k])

    def space(self) -> Space:
        roots = {v: [None if a is None else self.find(a) for a in mine] for v, mine in self.mine.items()}
        lists = [list(dict.fromkeys(a for a in mine if a is not None)) for mine in roots.values()]
        order: list[int] = max(lists, key=len, default=[])
        number = {root: i for i, root in enumerate(order)}
        axes: dict[Value, Axes] = {}
        for value, mine in roots.items():
            if any(a is not None and a not in number for a in mine):
                raise _NotFusibleError
            axes[value] = tuple(None if a is None else number[a] for a in mine)
            own = [a for a in axes[value] if a is not None]
            if own != sorted(set(own)):
                raise _NotFusibleError
        reduced = self._reduced(number)
        space = Space(tuple(self.size[root] for root in order), reduced, axes)
        everything = frozenset(range(len(order)))
        for value in self.body.outputs:
            if space.own(value) not in (everything, space.kept):
                raise _NotFusibleError
        return space

    def _reduced(self, number: dict[int, int]) -> frozenset[int]:
        found = {frozenset(number[self.find(a)] for a in folded) for _, folded in self.folded}
        found.discard(frozenset())                      # a sum over axes of size 1 folds nothing
        if len(found) > 1:
            raise _NotFusibleError
        return next(iter(found), frozenset())


def scalar_of(value: Value) -> np.generic | None:
    """The number a value is, when it is a constant of one element."""
    op = value.node.op
    if not isinstance(op, Constant) or op.value.data.size != 1:
        return None
    return op.value.data.dtype.type(op.value.data.item())
