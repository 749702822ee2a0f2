"""Choose the execution order with the smallest peak of live memory, among a few good ones.

The best order is NP-hard to find. Four cheap orders are made and their peaks simulated for sample sizes: the order given,
a forward greedy (run what frees most), a backward greedy (from the results: run last what needs least), and a depth-first
walk that visits the hungriest operand first (Sethi and Ullman, 1970). All are deterministic: ties go by the given order.

Two rules come before memory, as extra edges:
- every reader of an old state value runs before the node that makes its next value, so that it can be written in place;
- range checks run before any next value of a state is made, so that a call that fails leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from graphnn.ir.graph import Graph, Node, Value
from graphnn.passes.bodies import also_in_bodies, bodies
from graphnn.passes.sample_sizes import sample_nbytes


@also_in_bodies
def schedule(graph: Graph) -> Graph:
    """The graph with its nodes in an order of small peak memory."""
    if len(graph.nodes) < 2:
        return graph
    while True:
        problem = _Problem.of(graph)
        given = problem.topological(range(len(graph.nodes)))
        candidates = [given, problem.forward_greedy(), problem.backward_greedy(), problem.depth_first()]
        # The first of equals wins, and the given order comes first: so the loop ends, and a second run changes nothing.
        best = min(candidates, key=problem.cost)
        if best == list(range(len(graph.nodes))):
            return graph
        nodes = graph.nodes
        graph = Graph(graph.name, graph.inputs, graph.outputs, tuple([nodes[i] for i in best]), graph.updates)


def peak_bytes(graph: Graph, sizes: Mapping[str, int]) -> int:
    """The largest sum of live bytes over the execution of `graph`, its inputs not counted."""
    return _Problem.of(graph, sizes).cost(list(range(len(graph.nodes))))[0]


@dataclass
class _Problem:
    """The graph as numbers: nodes by position, buffers (values that share memory) by number."""

    successors: list[list[int]]
    predecessors: list[list[int]]
    made: list[list[int]]               # the buffers each node makes
    read: list[list[int]]               # the buffers each node reads, once each; inputs of the graph left out
    size: list[int]                     # bytes of each buffer
    kept: set[int]                      # buffers that live to the end
    readers: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph, sizes: Mapping[str, int] | None = None) -> _Problem:
        position = {node: i for i, node in enumerate(graph.nodes)}
        count = len(graph.nodes)
        buffer: dict[Value, int] = {}
        problem = cls([[] for _ in range(count)], [[] for _ in range(count)], [], [], [], set())
        for node in graph.nodes:
            i = position[node]
            for producer in dict.fromkeys(value.node for value in node.inputs):
                if producer in position:
                    problem._edge(position[producer], i)
            problem.read.append(list(dict.fromkeys(buffer[value] for value in node.inputs if value in buffer)))
            made: list[int] = []
            for value in node.outputs:
                if node.op.view_of is not None:             # shares the memory of its operand
                    source = node.inputs[node.op.view_of]
                    if source in buffer:
                        buffer[value] = buffer[source]
                    continue
                buffer[value] = len(problem.size)
                made.append(len(problem.size))
                problem.size.append(sample_nbytes(value.type if sizes is None else value.type.bind(sizes)))
            problem.made.append(made)
        problem.kept = {buffer[value] for value in graph.results if value in buffer}
        problem.readers = [[] for _ in problem.size]
        for i, read in enumerate(problem.read):
            for b in read:
                problem.readers[b].append(i)
        problem._order_state_writes(graph, position)
        return problem

    def _edge(self, first: int, then: int) -> None:
        self.successors[first].append(then)
        self.predecessors[then].append(first)

    def _order_state_writes(self, graph: Graph, position: Mapping[Node, int]) -> None:
        checks = [position[node] for node in graph.nodes if checks_range(node)]
        writers: dict[int, None] = {}
        for state, new in graph.updates:
            if new.node not in position:
                continue
            writer = position[new.node]
            writers[writer] = None
            for use in graph.uses.get(state, ()):
                self._before(position[use.node], writer)
        for check in checks:
            for writer in writers:
                self._before(check, writer)

    def _before(self, first: int, then: int) -> None:
        """Ask for an order, unless it is there already or would close a circle."""
        if first == then or then in self.successors[first]:
            return
        stack, seen = [then], {then}
        while stack:
            for successor in self.successors[stack.pop()]:
                if successor == first:
                    return
                if successor not in seen:
                    seen.add(successor)
                    stack.append(successor)
        self._edge(first, then)

    def cost(self, order: Sequence[int]) -> tuple[int, int]:
        """The peak of live bytes over `order`, then the sum of live bytes over all steps."""
        left = [len(readers) for readers in self.readers]
        live = peak = total = 0
        for i in order:
            for b in self.made[i]:
                live += self.size[b]
            peak = max(peak, live)
            total += live
            for b in self.read[i]:
                left[b] -= 1
                if left[b] == 0 and b not in self.kept:
                    live -= self.size[b]
            for b in self.made[i]:
                if left[b] == 0 and b not in self.kept:
                    live -= self.size[b]
        return peak, total

    def topological(self, preference: Sequence[int]) -> list[int]:
        """The order nearest to `preference` that obeys all edges."""
        rank = [0] * len(self.made)
        for place, i in enumerate(preference):
            rank[i] = place
        waits = [len(p) for p in self.predecessors]
        heap = [(rank[i], i) for i in range(len(waits)) if waits[i] == 0]
        heap.sort()
        order: list[int] = []
        while heap:
            _, i = heappop(heap)
            order.append(i)
            for successor in self.successors[i]:
                waits[successor] -= 1
                if waits[successor] == 0:
                    heappush(heap, (rank[successor], successor))
        assert len(order) == len(waits), "the graph has a circle"
        return order

    def forward_greedy(self) -> list[int]:
        """From the inputs on, always the node that leaves the least memory live."""
        left = [len(readers) for readers in self.readers]
        waits = [len(p) for p in self.predecessors]
        done = [False] * len(waits)

        def growth(i: int) -> int:
            made = sum([self.size[b] for b in self.made[i] if left[b] or b in self.kept])
            return made - sum([self.size[b] for b in self.read[i] if left[b] == 1 and b not in self.kept])

        heap = [(growth(i), i) for i in range(len(waits)) if waits[i] == 0]
        heap.sort()
        order: list[int] = []
        while heap:
            score, i = heappop(heap)
            if done[i] or score != growth(i):           # an entry from before its score changed
                continue
            done[i] = True
            order.append(i)
            for b in self.read[i]:
                left[b] -= 1
                if left[b] == 1:                         # its last reader now frees it
                    for reader in self.readers[b]:
                        if not done[reader] and waits[reader] == 0:
                            heappush(heap, (growth(reader), reader))
            for successor in self.successors[i]:        # after `left`, which their growth depends on
                waits[successor] -= 1
                if waits[successor] == 0:
                    heappush(heap, (growth(successor), successor))
        return order

    def backward_greedy(self) -> list[int]:
        """From the results back, always the node whose going back in time leaves the least memory live."""
        live = [b in self.kept for b in range(len(self.size))]
        waits = [len(s) for s in self.successors]
        done = [False] * len(waits)

        def growth(i: int) -> int:
            needed = sum([self.size[b] for b in self.read[i] if not live[b]])
            return needed - sum([self.size[b] for b in self.made[i] if live[b]])

        heap = [(growth(i), -i) for i in range(len(waits)) if waits[i] == 0]
        heap.sort()
        order: list[int] = []
        while heap:
            score, i = heappop(heap)
            i = -i
            if done[i] or score != growth(i):
                continue
            done[i] = True
            order.append(i)
            for b in self.read[i]:
                if not live[b]:
                    live[b] = True
                    for reader in self.readers[b]:
                        if not done[reader] and waits[reader] == 0:
                            heappush(heap, (growth(reader), -reader))
            for predecessor in self.predecessors[i]:    # after `live`, which their growth depends on
                waits[predecessor] -= 1
                if waits[predecessor] == 0:
                    heappush(heap, (growth(predecessor), -predecessor))
        order.reverse()
        return order

    def depth_first(self) -> list[int]:
        """Each node just before its first reader; of its operands, the one whose making needs most memory first."""
        need = [0] * len(self.made)                      # a lower bound of the peak while the node's value is made
        for i in self.topological(range(len(self.made))):
            own = sum([self.size[b] for b in self.made[i]])
            need[i] = max([own + sum([self.size[b] for b in self.read[i]]), *[need[p] for p in self.predecessors[i]]])
        order: list[int] = []
        seen = [False] * len(self.made)
        roots = [i for i in range(len(self.made)) if not self.successors[i]]
        for root in roots:
            stack = [(root, False)]
            while stack:
                i, ready = stack.pop()
                if ready:
                    order.append(i)
                elif not seen[i]:
                    seen[i] = True
                    stack.append((i, True))
                    for p in sorted(self.predecessors[i], key=lambda p: (need[p], -p)):
                        if not seen[p]:
                            stack.append((p, False))
        return order


def checks_range(node: Node) -> bool:
    """Whether a run may end at this node: it checks ids, or a node of its body does."""
    return node.op.may_fail or any(checks_range(inner) for body in bodies(node.op).values() for inner in body.nodes)
