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
from heapq import heappop, heappush

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.iteration_space import fusible, iteration_space
from graphnn.ir.op import make_node
from graphnn.ir.ops.fused import Fused
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.groups import Group, by_depth, collapse, location, make_body
from graphnn.passes.sample_sizes import sample_nbytes

MAX_NODES = 40          # of one body, and
MAX_OPERANDS = 24       # of one kernel: beyond these, compiling takes long and registers run out
NEGLIGIBLE = 64         # bytes: that two kernels read the same number is no reason to unite them

COPIED = frozenset({"expand", "reshape", "iota", "size_of"})


@also_in_bodies
def fuse_elementwise(graph: Graph) -> Graph:
    """The graph with groups of elementwise nodes and reductions as Fused nodes."""
    search = _Search(graph)
    search.run()
    return collapse(graph, search.groups())


@dataclass(eq=False)
class _Part:
    """A group while groups grow. Values go by their numbers; sets of nodes are bit masks over positions."""

    members: list[int]                      # positions, sorted
    bits: int
    below: int                              # all that depends on it, directly or not
    reads: dict[int, None] = field(default_factory=dict)        # from outside, in order of first use
    makes: list[int] = field(default_factory=list)


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.values: list[Value] = []
        self.maker: list[int] = []                      # the position of the node that makes a value; -1 for an input
        self.nbytes: list[int] = []
        number = self._number_values()
        self.inputs = [tuple([number[value] for value in node.inputs]) for node in self.nodes]
        self.outputs = [tuple([number[value] for value in node.outputs]) for node in self.nodes]
        self.is_result = [False] * len(self.values)
        for value in graph.results:
            self.is_result[number[value]] = True
        self.joins = [fusible(node) and node.op.name not in COPIED and node.op.name != "constant" for node in self.nodes]
        self.copied = [node.op.name in COPIED and fusible(node) for node in self.nodes]
        self.sources = [self._sources(i) for i in range(len(self.nodes))]
        self.readers = self._readers()
        self.part_of: list[_Part] = []
        self.parts: dict[int, _Part] = {}
        self._first_parts()

    # -------------------------------------------------------------------------------------------- the graph

    def _number_values(self) -> dict[Value, int]:
        number: dict[Value, int] = {}

        def add(value: Value, maker: int) -> None:
            number[value] = len(self.values)
            self.values.append(value)
            self.maker.append(maker)
            self.nbytes.append(sample_nbytes(value.type))

        for value in self.graph.inputs:
            add(value, -1)
        for i, node in enumerate(self.nodes):
            for value in node.outputs:
                add(value, i)
        return number

    def _sources(self, i: int) -> tuple[int, ...]:
        """What node i reads, copied nodes looked through; all its inputs when it cannot join a group."""
        if not self.joins[i]:
            return self.inputs[i]
        found: dict[int, None] = {}
        stack = list(reversed(self.inputs[i]))
        while stack:
            value = stack.pop()
            maker = self.maker[value]
            if maker >= 0 and self.copied[maker]:
                stack += reversed(self.inputs[maker])
            else:
                found[value] = None
        return tuple(found)

    def _readers(self) -> list[list[int]]:
        """Who reads each value; a copied node only when somebody outside of all groups needs it."""
        readers: list[list[int]] = [[] for _ in self.values]
        for i in range(len(self.nodes) - 1, -1, -1):
            if self.copied[i]:
                (output,) = self.outputs[i]
                if not self.is_result[output] and not readers[output]:
                    continue
            for value in dict.fromkeys(self.sources[i]):
                readers[value].append(i)
        return readers

    def _first_parts(self) -> None:
        below = [0] * len(self.nodes)
        for i in range(len(self.nodes) - 1, -1, -1):
            for value in self.outputs[i]:
                for reader in self.readers[value]:
                    below[i] |= below[reader] | 1 << reader
        for i in range(len(self.nodes)):
            part = _Part([i], 1 << i, below[i])
            if self.joins[i]:
                part.reads = dict.fromkeys(self.sources[i])
                part.makes = list(self.outputs[i])
            self.part_of.append(part)
            self.parts[id(part)] = part

    # -------------------------------------------------------------------------------------------- the search

    def run(self) -> None:
        """Unite the best pair until no pair is left."""
        heap: list[tuple[int, int, int]] = []
        pairs: dict[tuple[int, int], tuple[_Part, _Part]] = {}

        def offer(a: _Part, b: _Part) -> None:
            if a.members[0] > b.members[0]:
                a, b = b, a
            key = (a.members[0], b.members[0])
            if pairs.get(key) == (a, b):
                return
            saved = self._saved(a, b)
            if saved:
                pairs[key] = (a, b)
                heappush(heap, (-saved, *key))

        for i, joins in enumerate(self.joins):
            if joins:
                for other in self._neighbours(self.part_of[i]):
                    offer(self.part_of[i], other)
        while heap:
            saved, first, second = heappop(heap)
            a, b = pairs[first, second]
            if self.part_of[first] is not a or self.part_of[second] is not b or -saved != self._saved(a, b):
                continue
            if not self._convex(a, b) or not self._valid(a, b):
                continue
            union = self._unite(a, b)
            for other in self._neighbours(union):
                offer(union, other)

    def _neighbours(self, part: _Part) -> list[_Part]:
        """The parts that it could unite with: what it reads from, what reads it, and what reads the same."""
        found: dict[int, _Part] = {}

        def add(i: int) -> None:
            other = self.part_of[i]
            if self.joins[i] and other is not part:
                found[other.members[0]] = other

        for value in part.reads:
            if self.maker[value] >= 0:
                add(self.maker[value])
            if self.nbytes[value] > NEGLIGIBLE:
                for reader in self.readers[value]:
                    add(reader)
        for value in part.makes:
            for reader in self.readers[value]:
                add(reader)
        return list(found.values())

    def _saved(self, a: _Part, b: _Part) -> int:
        """Bytes that are not read or written any more when two parts become one."""
        both = a.bits | b.bits
        total = 0
        for value in a.reads.keys() & b.reads.keys():
            if self.nbytes[value] > NEGLIGIBLE:
                total += self.nbytes[value]
        for reader, maker in ((a, b), (b, a)):
            for value in maker.makes:
                if value in reader.reads:
                    total += self.nbytes[value] * (1 if self._read_outside(value, both) else 2)
        return total

    def _read_outside(self, value: int, bits: int) -> bool:
        return self.is_result[value] or any([not bits >> reader & 1 for reader in self.readers[value]])

    def _convex(self, a: _Part, b: _Part) -> bool:
        for start, end in ((a, b), (b, a)):
            if not start.below & end.bits:
                continue
            for value in start.makes:
                for reader in self.readers[value]:
                    other = self.part_of[reader]
                    if other is not start and other is not end and other.below & end.bits:
                        return False
        return True

    def _valid(self, a: _Part, b: _Part) -> bool:
        nodes, reads, makes = self._body(sorted(a.members + b.members))
        if len(nodes) > MAX_NODES or len(reads) > MAX_OPERANDS:
            return False
        return iteration_space(Graph("group", tuple(reads), tuple(makes), tuple(nodes))) is not None

    def _body(self, members: Sequence[int]) -> tuple[list[Node], list[Value], list[Value]]:
        """The nodes of a body in order, copies included, what it reads, and what it gives."""
        inside = set(members)
        reads: dict[int, None] = {}
        stack = list(members)
        while stack:
            for value in self.inputs[stack.pop()]:
                i = self.maker[value]
                if i >= 0 and (i in inside or self.copied[i]):
                    if i not in inside:
                        inside.add(i)
                        stack.append(i)
                else:
                    reads[value] = None
        bits = sum([1 << i for i in members])
        makes = [self.values[v] for i in members for v in self.outputs[i] if self._read_outside(v, bits)]
        return [self.nodes[i] for i in sorted(inside)], [self.values[v] for v in reads], makes

    def _unite(self, a: _Part, b: _Part) -> _Part:
        bits = a.bits | b.bits
        union = _Part(sorted(a.members + b.members), bits, (a.below | b.below) & ~bits)
        union.reads = dict.fromkeys([v for v in (*a.reads, *b.reads) if self.maker[v] < 0 or not bits >> self.maker[v] & 1])
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
