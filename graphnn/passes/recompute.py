"""Compute again instead of storing: elementwise values that a later kernel can make from what it reads or what is stored anyway.

A matrix product, a pool, a gather ends a *stage*; elementwise work and reductions that follow it belong to the next one. What is
read in a later stage than its own must be stored until then. Backward passes read much of the forward's elementwise work:
of a gelu `z / 2 * (1 + erf(z / sqrt 2))` they want z, both factors and the argument of erf. Only z is worth storing: the others
cost a few instructions where they are read, and two trips to memory each when they are stored.

A value that crosses stages is computed again when it can be made by few elementwise ops from
- values that are stored anyway: inputs, results, what ops that do not fuse read or make, and other values that cross;
- values that are small beside it, such as the mean and deviation of each row, which are stored instead of it.
Of several values of one stage that all follow from a sum of products with a bias, the earliest is stored for all of them.
"""

from __future__ import annotations

from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.iteration_space import fusible
from graphnn.ir.op import Fusion, make_node
from graphnn.ir.rewrite import replace_results
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.sample_sizes import sample_nbytes

MAX_COST = 24           # elementary operations that one value may cost a second time
MAX_LEAVES = 1          # large values that are read for it: two would cost what they save
SMALL = 8               # a value is small beside one that has so many times its bytes
COST = {"exp": 6, "expm1": 6, "log": 6, "log1p": 6, "tanh": 8, "sigmoid": 8, "erf": 8, "sin": 8, "cos": 8, "pow": 16,
        "div": 3, "sqrt": 3, "rsqrt": 3, "expand": 0, "reshape": 0}
COPIED = frozenset({"expand", "reshape", "iota", "size_of"})


@also_in_bodies
def recompute(graph: Graph) -> Graph:
    """The graph in which later stages compute again what is cheaper to compute than to store."""
    stages = _Stages(graph)
    again = stages.choose()
    return stages.rewritten(again) if again else graph


class _Stages:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.results = set(graph.results)
        self.stage: dict[Node, int] = {}
        for node in graph.nodes:
            self.stage[node] = max([self._after(value) for value in node.inputs], default=0)
        self.available = {value for node in graph.nodes for value in node.outputs if self._stored_anyway(value)}

    def _after(self, value: Value) -> int:
        """The stage of what reads `value`, as far as this value decides."""
        node = value.node
        if role_of(node) is not None or node.op.name == "constant":
            return 0
        return self.stage[node] + (not fusible(node))

    def _readers(self, value: Value) -> list[Node]:
        return [use.node for use in self.graph.uses.get(value, ())]

    def _stored_anyway(self, value: Value) -> bool:
        node = value.node
        if value in self.results or node.op.name == "constant":
            return True
        if node.op.fusion is Fusion.CONTRACT:               # its tail may take its place
            return any(reader.op.fusion is not Fusion.ELEMENTWISE for reader in self._readers(value))
        return not fusible(node) or any(not fusible(reader) for reader in self._readers(value))

    # -------------------------------------------------------------------------------------------- what to compute again

    def choose(self) -> dict[Value, None]:
        """The values to be computed again in later stages, in order."""
        crossing = [node.outputs[0] for node in self.graph.nodes if self._crosses(node)]
        again: dict[Value, None] = {}
        for value in crossing:
            sources = self._sources(value)
            if sources is None:
                root = self._root(value)
                follow = [v for v in crossing if v != root and self._follows(v, root)] if root is not None else []
                if root is not None and len(follow) > 1:
                    self.available.add(root)
                    sources = self._sources(value)
            if sources is None or value.node.op.fusion is not Fusion.ELEMENTWISE:
                self.available.add(value)
            elif value not in self.available:
                again[value] = None
        return again

    def _crosses(self, node: Node) -> bool:
        if not fusible(node) or node.op.name in COPIED or node.op.name == "constant" or node.outputs[0] in self.available:
            return False
        return any(self.stage[reader] > self.stage[node] for reader in self._readers(node.outputs[0]))

    def _is_given(self, value: Value, beside: Value) -> bool:
        return (role_of(value) is not None or value in self.available
                or SMALL * sample_nbytes(value.type) <= sample_nbytes(beside.type))

    def _sources(self, value: Value) -> list[Value] | None:
        """The large values that `value` can be made of by few elementwise ops; None when it cannot."""
        cost = 0
        leaves: dict[Value, None] = {}
        seen = {value}
        stack = [value]
        while stack:
            made = stack.pop().node
            if made.op.fusion is not Fusion.ELEMENTWISE and made.op.name not in COPIED:
                return None
            cost += COST.get(made.op.name, 1)
            if cost > MAX_COST:
                return None
            for source in made.inputs:
                if source in seen:
                    continue
                seen.add(source)
                if not self._is_given(source, value):
                    stack.append(source)
                elif SMALL * sample_nbytes(source.type) > sample_nbytes(value.type):
                    leaves[source] = None
        return list(leaves) if len(leaves) <= MAX_LEAVES else None

    def _root(self, value: Value) -> Value | None:
        """The earliest elementwise value above `value`: what a contraction's tail begins with."""
        while True:
            missing = [v for v in value.node.inputs if not self._is_given(v, value)]
            if len(missing) != 1 or value.node.op.fusion is not Fusion.ELEMENTWISE:
                return None
            if missing[0].node.op.fusion is Fusion.CONTRACT:
                return value
            value = missing[0]

    def _follows(self, value: Value, root: Value) -> bool:
        stack, seen = [value], {value}
        while stack:
            for source in stack.pop().node.inputs:
                if source == root:
                    return True
                if source not in seen and self.stage.get(source.node) == self.stage[root.node] and fusible(source.node):
                    seen.add(source)
                    stack.append(source)
        return False

    # -------------------------------------------------------------------------------------------- the new graph

    def rewritten(self, again: dict[Value, None]) -> Graph:
        new: dict[Value, Value] = {value: value for value in self.graph.inputs}
        # Each reader has copies of its own: shared ones would tie kernels together. Within one kernel equal nodes become one.
        copies: dict[tuple[Value, Node], Value] = {}

        def copy(value: Value, reader: Node, beside: Value) -> Value:
            if value not in again and self._is_given(value, beside):
                return new[value]
            key = value, reader
            if key not in copies:
                inputs = tuple([copy(source, reader, beside) for source in value.node.inputs])
                copies[key] = make_node(value.node.op, inputs, value.node.loc).outputs[value.index]
            return copies[key]

        for node in self.graph.nodes:
            stage = self.stage[node]
            inputs = tuple([copy(value, node, value) if value in again and self.stage[value.node] < stage and fusible(node)
                            else new[value] for value in node.inputs])
            kept = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            new.update(zip(node.outputs, kept.outputs, strict=True))
        return replace_results(self.graph, new)
