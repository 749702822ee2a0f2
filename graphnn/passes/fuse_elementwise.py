"""Elementwise nodes, the reductions among them, and what only stretches or reshapes between them become one kernel.

Which groups can be one kernel is a rule of structure (graphnn/ir/iteration_space.py). Which are worth it is decided here, by
memory traffic: at first every node is a group; then, again and again, the two groups whose union saves most bytes become
one, when the rule allows it. A union saves the reading of every value that one makes and the other reads, its writing when
nobody else reads it, and one of two readings of a value that both read (so siblings join too). A union must be convex: no
way from one part to the other may lead through a node outside, or the kernel would wait for itself.

Nodes that only stretch, add axes of size 1 or count (`expand`, `reshape`, `iota`, `size_of`) belong to no group: each group
has its own copy of those it reads through, so that a broadcast is never stored. Constants of one element stay outside, as
operands: numbers become arguments of kernels, and equal bodies with other numbers share one kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.iteration_space import fusible, iteration_space
from graphnn.ir.op import make_node
from graphnn.ir.ops.fused import Fused
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.groups import Group, by_depth, collapse, location, make_body
from graphnn.passes.sample_sizes import sample_nbytes

MAX_NODES = 40          # of one body, and
MAX_OPERANDS = 24       # of one kernel: beyond these, compiling takes long and registers run out

COPIED = frozenset({"expand", "reshape", "iota", "size_of"})


@also_in_bodies
def fuse_elementwise(graph: Graph) -> Graph:
    """The graph with groups of elementwise nodes and reductions as Fused nodes."""
    search = _Search(graph)
    search.run()
    return collapse(graph, search.groups())


@dataclass(eq=False)
class _Part:
    """A group while groups grow. Sets of nodes are bit masks over positions."""

    members: list[int]                      # positions, sorted
    bits: int
    below: int                              # all that depends on it, directly or not
    reads: dict[Value, None] = field(default_factory=dict)      # from outside, in order of first use
    makes: list[Value] = field(default_factory=list)


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.results = set(graph.results)
        self.joins = [fusible(node) and node.op.name not in COPIED and node.op.name != "constant" for node in self.nodes]
        self.copied = [node.op.name in COPIED and fusible(node) for node in self.nodes]
        self.sources: list[tuple[Value, ...]] = [self._sources(i) for i in range(len(self.nodes))]
        self.readers = self._readers()
        self.part_of: list[_Part | None] = [None] * len(self.nodes)
        self.parts: dict[int, _Part] = {}
        self._first_parts()

    # -------------------------------------------------------------------------------------------- the graph

    def _sources(self, i: int) -> tuple[Value, ...]:
        """What node i reads, copied nodes looked through; all its inputs when it cannot join a group."""
        node = self.nodes[i]
        if not self.joins[i]:
            return node.inputs
        found: dict[Value, None] = {}
        stack = list(reversed(node.inputs))
        while stack:
            value = stack.pop()
            if self._is_copied(value):
                stack += reversed(value.node.inputs)
            else:
                found[value] = None
        return tuple(found)

    def _is_copied(self, value: Value) -> bool:
        i = self.position.get(value.node)
        return i is not None and self.copied[i]

    def _readers(self) -> dict[Value, list[int]]:
        """Who reads each value; a copied node only when somebody outside of all groups needs it."""
        readers: dict[Value, list[int]] = {}
        for i in range(len(self.nodes) - 1, -1, -1):
            if self.copied[i]:
                output = self.nodes[i].outputs[0]
                if output not in self.results and output not in readers:
                    continue
            for value in self.sources[i]:
                readers.setdefault(value, []).append(i)
        return readers

    def _first_parts(self) -> None:
        below = [0] * len(self.nodes)
        for i in range(len(self.nodes) - 1, -1, -1):
            for value in self.nodes[i].outputs:
                for reader in self.readers.get(value, ()):
                    below[i] |= below[reader] | 1 << reader
            part = _Part([i], 1 << i, below[i])
            if self.joins[i]:
                part.reads = dict.fromkeys(self.sources[i])
                part.makes = [self.nodes[i].outputs[0]]
            self.part_of[i] = part
            self.parts[id(part)] = part

    def _part(self, i: int) -> _Part:
        part = self.part_of[i]
        assert part is not None, "every node is in a part"
        return part

    # -------------------------------------------------------------------------------------------- the search

    def run(self) -> None:
        """Unite the best pair until no pair is left."""
        heap: list[tuple[int, int, int]] = []
        pairs: dict[tuple[int, int], tuple[_Part, _Part]] = {}

        def offer(a: _Part, b: _Part) -> None:
            if a.members[0] > b.members[0]:
                a, b = b, a
            key = (a.members[0], b.members[0])
            saved = self._saved(a, b)
            if saved and pairs.get(key) != (a, b):
                pairs[key] = (a, b)
                heap.append((-saved, *key))

        for i, joins in enumerate(self.joins):
            if joins:
                for other in self._neighbours(self._part(i)):
                    offer(self._part(i), other)
        heapify(heap)
        while heap:
            saved, first, second = heappop(heap)
            a, b = pairs[first, second]
            if self.part_of[first] is not a or self.part_of[second] is not b or -saved != self._saved(a, b):
                continue
            if not self._convex(a, b) or not self._valid(a, b):
                continue
            union = self._unite(a, b)
            before = len(heap)
            for other in self._neighbours(union):
                offer(union, other)
            added = heap[before:]
            del heap[before:]
            for item in added:
                heappush(heap, item)

    def _neighbours(self, part: _Part) -> list[_Part]:
        """The parts that it could unite with: what it reads from, what reads it, and what reads the same."""
        found: dict[int, _Part] = {}

        def add(i: int) -> None:
            other = self._part(i)
            if self.joins[i] and other is not part:
                found[other.members[0]] = other

        for value in part.reads:
            made = self.position.get(value.node)
            if made is not None:
                add(made)
            if sample_nbytes(value.type) > 64:
                for reader in self.readers[value]:
                    add(reader)
        for value in part.makes:
            for reader in self.readers.get(value, ()):
                add(reader)
        return list(found.values())

    def _saved(self, a: _Part, b: _Part) -> int:
        """Bytes that are not read or written any more when two parts become one."""
        both = a.bits | b.bits
        total = 0
        for reader, maker in ((a, b), (b, a)):
            for value in reader.reads:
                if value in maker.reads:
                    total += sample_nbytes(value.type) if reader is a and sample_nbytes(value.type) > 64 else 0
                elif self.position.get(value.node, -1) >= 0 and maker.bits >> self.position[value.node] & 1:
                    total += sample_nbytes(value.type) * (1 if self._read_outside(value, both) else 2)
        return total

    def _read_outside(self, value: Value, bits: int) -> bool:
        return value in self.results or any(not bits >> reader & 1 for reader in self.readers.get(value, ()))

    def _convex(self, a: _Part, b: _Part) -> bool:
        for start, end in ((a, b), (b, a)):
            if not start.below & end.bits:
                continue
            for value in start.makes:
                for reader in self.readers.get(value, ()):
                    other = self._part(reader)
                    if other is not start and other is not end and other.below & end.bits:
                        return False
        return True

    def _valid(self, a: _Part, b: _Part) -> bool:
        members = sorted(a.members + b.members)
        nodes, reads, makes = self._body(members)
        if len(nodes) > MAX_NODES or len(reads) > MAX_OPERANDS:
            return False
        return iteration_space(Graph("group", tuple(reads), tuple(makes), tuple(nodes))) is not None

    def _body(self, members: Sequence[int]) -> tuple[list[Node], list[Value], list[Value]]:
        """The nodes of a body in order, copies included, what it reads, and what it gives."""
        inside = set(members)
        reads: dict[Value, None] = {}
        stack = list(members)
        while stack:
            for value in self.nodes[stack.pop()].inputs:
                i = self.position.get(value.node)
                if i is not None and (i in inside or self.copied[i]):
                    if i not in inside:
                        inside.add(i)
                        stack.append(i)
                else:
                    reads[value] = None
        bits = sum([1 << i for i in members])
        makes = [v for i in members for v in self.nodes[i].outputs if self._read_outside(v, bits)]
        return [self.nodes[i] for i in sorted(inside)], list(reads), makes

    def _unite(self, a: _Part, b: _Part) -> _Part:
        bits = a.bits | b.bits
        union = _Part(sorted(a.members + b.members), bits, (a.below | b.below) & ~bits)
        outside = len(self.nodes)                       # the position of inputs: in no part
        union.reads = dict.fromkeys([v for v in (*a.reads, *b.reads) if not bits >> self.position.get(v.node, outside) & 1])
        union.makes = [v for v in (*a.makes, *b.makes) if self._read_outside(v, bits)]
        del self.parts[id(a)], self.parts[id(b)]
        reach = union.below | bits
        for part in self.parts.values():
            if part.below & bits:
                part.below |= reach
        self.parts[id(union)] = union
        for i in union.members:
            self.part_of[i] = union
        return union

    # -------------------------------------------------------------------------------------------- the result

    def groups(self) -> list[Group]:
        found = []
        for part in sorted(self.parts.values(), key=lambda part: part.members[0]):
            if self.joins[part.members[0]]:
                nodes, _, makes = self._body(part.members)
                if sum([node.op.name != "reshape" for node in nodes]) > 1:
                    found.append(self._group(part, nodes, makes))
        return found

    def _group(self, part: _Part, nodes: Sequence[Node], makes: Sequence[Value]) -> Group:
        results = by_depth(makes, set(nodes))
        body, operands = make_body(nodes, results)
        op, place = Fused(body), location([self.nodes[i] for i in part.members])

        def emit(new: Mapping[Value, Value]) -> Mapping[Value, Value]:
            made = make_node(op, tuple([new[value] for value in operands]), place)
            return dict(zip(results, made.outputs, strict=True))

        return Group([self.nodes[i] for i in part.members], operands, emit)
