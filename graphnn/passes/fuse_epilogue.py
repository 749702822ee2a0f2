"""Elementwise tails of matrix products and convolutions run on each output tile while it is in cache.

A contraction's result is seen as a matrix: all its axes but the last are rows, the last is columns. Its tail is made of the
elementwise nodes of the same shape that follow from it, whose other operands are known without it and can be read by the
tile: scalars, a row (a bias), a column, or a matrix of the same shape (a residual, an activation kept for the backward,
an optimiser's slots). Elementwise nodes of the full shape that only lead to the tail join it (`dy * (1 - y * y)`).

What the tail makes is returned when somebody else reads it, so pre-activation and activation may both be results. The tail
holds what leads to values that must be stored, because a contraction or another op that cannot fuse reads them, and goes on
as long as that stores no more: the mask `y > 0` of a relu is made where the backward uses it, from y, and what reductions
read is made in their kernels.

Nodes that lead to nothing but next values of states, as an optimiser's update after a weight's gradient, stay outside. In one
kernel with the gradient they were measured slower (784-512-512-10, Adam, by 10 %): an update streams seven matrices through
memory, best in long runs; and it could not write a state's memory, which holds the product while the tail runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Node, Value, collect
from graphnn.ir.iteration_space import fusible
from graphnn.ir.op import Fusion, make_node
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.groups import Group, by_depth, collapse, location, make_body
from graphnn.passes.sample_sizes import sample_nbytes

MAX_NODES = 32          # of one tail: kernels stay quick to compile
MAX_OPERANDS = 12       # beside the contraction's own

Shape = tuple[Size, ...]


@also_in_bodies
def fuse_epilogue(graph: Graph) -> Graph:
    """The graph with each contraction and its elementwise tail as one Epilogue."""
    index = _Index.of(graph)
    groups: list[Group] = []
    for node in graph.nodes:
        if node.op.fusion is not Fusion.CONTRACT or len(node.types) != 1:
            continue
        tail = index.tail(node)
        if tail:
            groups.append(_epilogue(node, tail, index))
            index.join(node, tail)
    return collapse(graph, groups)


def _epilogue(node: Node, tail: Sequence[Node], index: _Index) -> Group:
    inside = {node, *tail}
    results = by_depth([v for n in (node, *tail) for v in n.outputs if index.read_outside(v, inside)], inside)
    body, operands = make_body(tail, results, [node.output])
    takes = (*node.inputs, *operands[1:])
    op = Epilogue(node.op, len(node.inputs), body)

    def emit(new: Mapping[Value, Value]) -> Mapping[Value, Value]:
        made = make_node(op, tuple([new[value] for value in takes]), location(tail))
        return dict(zip(results, made.outputs, strict=True))

    return Group((node, *tail), takes, emit)


@dataclass
class _Index:
    """The graph as the growth of tails sees it. Sets of nodes are bit masks over positions."""

    graph: Graph
    position: dict[Node, int]
    results: set[Value]
    needed: set[Node]                           # what leads to more than updates
    below: list[int]                            # what depends on each node, epilogues made so far taken as one node each
    joined: int = 0                             # the nodes that are in an epilogue

    @classmethod
    def of(cls, graph: Graph) -> _Index:
        position = {node: i for i, node in enumerate(graph.nodes)}
        heavy = [value for node in graph.nodes if node.op.fusion in (Fusion.CONTRACT, Fusion.OPAQUE)
                 and not isinstance(node.op, Fused) for value in node.inputs]
        below = [0] * len(graph.nodes)
        for i in range(len(graph.nodes) - 1, -1, -1):
            for value in graph.nodes[i].outputs:
                for use in graph.uses.get(value, ()):
                    reader = position[use.node]
                    below[i] |= below[reader] | 1 << reader
        return cls(graph, position, set(graph.results), set(collect([*graph.outputs, *heavy])), below)

    def join(self, node: Node, tail: Sequence[Node]) -> None:
        """Note that these nodes are one node from now on."""
        members = [self.position[n] for n in (node, *tail)]
        bits = sum([1 << i for i in members])
        reach = bits
        for i in members:
            reach |= self.below[i]
        self.below = [mask | reach if mask & bits else mask for mask in self.below]
        for i in members:
            self.below[i] |= reach
        self.joined |= bits

    def readers(self, value: Value) -> list[Node]:
        return [use.node for use in self.graph.uses.get(value, ())]

    def read_outside(self, value: Value, inside: set[Node]) -> bool:
        return value in self.results or any(reader not in inside for reader in self.readers(value))

    def _is_below(self, value: Value, node: Node) -> bool:
        i = self.position.get(value.node)
        return i is not None and bool(self.below[self.position[node]] >> i & 1)

    def tail(self, node: Node) -> list[Node]:
        """The nodes to run as the epilogue of `node`, in order."""
        shape = node.output.shape
        inside: set[Node] = {node}
        heap = [self.position[reader] for reader in self.readers(node.output)]
        heapify(heap)
        while heap and len(inside) <= MAX_NODES:
            i = heappop(heap)
            candidate = self.graph.nodes[i]
            if candidate in inside or self.joined >> i & 1 or candidate not in self.needed or not _elementwise(candidate, shape):
                continue
            if all(v.node in inside or (_tile_operand(v, shape) and not self._is_below(v, node)) for v in candidate.inputs):
                inside.add(candidate)
                for reader in self.readers(candidate.output):
                    heappush(heap, self.position[reader])
        if len(inside) == 1:
            return []
        inside = self._worth(node, inside)
        self._pull_side_chains(node, inside)
        self._limit_operands(node, inside)
        tail = sorted(inside - {node}, key=self.position.__getitem__)
        results = [v for n in inside for v in n.outputs if self.read_outside(v, inside)]
        # The result's memory holds the contraction while its tail runs.
        return tail if any(value.dtype == node.output.dtype for value in results) else []

    def _worth(self, node: Node, found: set[Node]) -> set[Node]:
        """Of a tail: what leads to values that must be stored anyway, and what stores no more than would be stored without."""
        stored = [n for n in found if n is not node and (
            n.output in self.results or any(not fusible(reader) for reader in self.readers(n.output) if reader not in found))]
        inside = {node}
        stack = list(stored)
        while stack:
            n = stack.pop()
            if n not in inside:
                inside.add(n)
                stack += [value.node for value in n.inputs if value.node in found]
        for n in sorted(found - inside, key=self.position.__getitem__):
            reached = all(value.node in inside or value.node not in found for value in n.inputs)
            if reached and self._stored_bytes(inside | {n}) <= self._stored_bytes(inside):
                inside.add(n)
        return inside

    def _stored_bytes(self, inside: set[Node]) -> int:
        return sum([sample_nbytes(value.type) for n in inside for value in n.outputs if self.read_outside(value, inside)])

    def _pull_side_chains(self, node: Node, inside: set[Node]) -> None:
        """Take in full-size operands made by elementwise nodes that nobody else needs."""
        shape = node.output.shape
        stack = [value for n in sorted(inside - {node}, key=self.position.__getitem__) for value in n.inputs]
        while stack and len(inside) <= MAX_NODES:
            value = stack.pop()
            made = value.node
            if made in inside or not _elementwise(made, shape) or self._is_below(value, node):
                continue
            if self.joined >> self.position[made] & 1:
                continue
            if all(_tile_operand(v, shape) for v in made.inputs) and not self.read_outside(value, inside - {node}):
                inside.add(made)
                stack += made.inputs

    def _limit_operands(self, node: Node, inside: set[Node]) -> None:
        """Take the last nodes away until the tail has few enough operands."""
        while True:
            operands = {v for n in inside - {node} for v in n.inputs if v.node not in inside}
            if len(operands) <= MAX_OPERANDS:
                return
            last = max(inside - {node}, key=self.position.__getitem__)
            inside.discard(last)
            # What only led to it is no part of the tail any more.
            self._keep_connected(node, inside)

    def _keep_connected(self, node: Node, inside: set[Node]) -> None:
        """Leave in the tail what follows from the node, and what leads to that."""
        kept = {node}
        in_order = sorted(inside - {node}, key=self.position.__getitem__)
        for n in in_order:
            if any(value.node in kept for value in n.inputs):
                kept.add(n)
        for n in reversed(in_order):
            if any(reader in kept for reader in self.readers(n.output)):
                kept.add(n)
        inside &= kept


def _elementwise(node: Node, shape: Shape) -> bool:
    return node.op.fusion is Fusion.ELEMENTWISE and len(node.types) == 1 and node.types[0].shape == shape


def _tile_operand(value: Value, shape: Shape) -> bool:
    """Whether a tile can read it: a scalar, a row, a column or a matrix, in the shape seen as (all but the last, the last)."""
    mine = (1,) * (len(shape) - value.rank) + value.shape
    if mine[-1:] != shape[-1:] and mine[-1:] != (1,):
        return False
    return mine[:-1] == shape[:-1] or all(size == 1 for size in mine[:-1])
