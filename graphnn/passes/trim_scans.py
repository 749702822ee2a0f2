"""One scan for a recurrence and its gradient's copy of it, and nothing in a scan that nobody reads.

The gradient of a scan writes the scan once more, with the values that the backward run reads among its results: these twins
become one. Carries, results, sequences and constants that then serve nothing disappear, such as the sums for the gradient of
a weight that is not asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import make_node
from graphnn.ir.ops import sizes
from graphnn.ir.ops.scan import Scan, walk_back
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies
from graphnn.passes.common_subexpressions import op_key


@also_in_bodies
def merge_scans(graph: Graph) -> Graph:
    """Scans of the same inputs whose bodies hand the same carries on become one scan with the results of all."""
    numbers: dict[Hashable, int] = {}
    twins: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Scan):
            op, number = node.op, _numbering(node.op.body, numbers)
            handed_on = tuple(number[value] for value in op.body.outputs[:op.carries])
            twins.setdefault((node.inputs, op.sequences, op.reverse, op.length, handed_on), []).append(node)
    groups = {node: group for group in twins.values() if len(group) > 1 for node in group}
    if not groups:
        return graph
    merged: dict[Node, tuple[Node, dict[int, int]]] = {}

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        group = groups.get(node)
        if group is None:
            return None
        op = node.op
        assert isinstance(op, Scan)
        if group[0] not in merged:
            body, places = _union([n.op.body for n in group if isinstance(n.op, Scan)], op.carries, numbers)
            union = Scan(body, op.carries, op.sequences, op.reverse, op.length)
            merged[group[0]] = make_node(union, inputs, node.loc), places
        made, places = merged[group[0]]
        number = _numbering(op.body, numbers)
        return (*made.outputs[:op.carries], *(made.outputs[places[number[v]]] for v in op.body.outputs[op.carries:]))

    return rewrite(graph, rule)


def _numbering(body: Graph, numbers: dict[Hashable, int]) -> dict[Value, int]:
    """A number for each value of the body: values of two bodies share it when they compute the same from the same inputs."""
    found = {value: numbers.setdefault(("input", i, value.type), len(numbers)) for i, value in enumerate(body.inputs)}
    for node in body.nodes:
        key = (op_key(node.op), tuple(found[value] for value in node.inputs))
        for i, value in enumerate(node.outputs):
            found[value] = numbers.setdefault((key, i), len(numbers))
    return found


def _union(bodies: Sequence[Graph], carries: int, numbers: dict[Hashable, int]) -> tuple[Graph, dict[int, int]]:
    """The first body with the steps' results of all; and at which place of its outputs the result of each number stands."""
    first = bodies[0]
    known = {number: value for value, number in _numbering(first, numbers).items()}
    outputs, places = list(first.outputs[:carries]), dict[int, int]()
    for body in bodies:
        number_of = _numbering(body, numbers)
        new = dict(zip(body.inputs, first.inputs, strict=True))
        for node in body.nodes:
            made = None
            for i, value in enumerate(node.outputs):
                if number_of[value] not in known:
                    made = made or make_node(node.op, tuple(new[v] for v in node.inputs), node.loc)
                    known[number_of[value]] = made.outputs[i]
                new[value] = known[number_of[value]]
        for value in body.outputs[carries:]:
            if number_of[value] not in places:
                places[number_of[value]] = len(outputs)
                outputs.append(new[value])
    return Graph.of(first.name, first.inputs, outputs), places


@also_in_bodies
def prune_scans(graph: Graph) -> Graph:
    """Scans without the carries, results, sequences and constants that serve nothing."""
    while True:                                         # a result may be unread only once a later scan is smaller
        smaller = _prune_once(graph)
        if smaller is graph:
            return graph
        graph = smaller


def _prune_once(graph: Graph) -> Graph:
    results, found = set(graph.results), False

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        nonlocal found
        if not isinstance(node.op, Scan):
            return None
        made = _pruned(node.op, inputs, [value in results or value in graph.uses for value in node.outputs], node)
        found |= made is not None
        return made

    smaller = rewrite(graph, rule)
    return smaller if found else graph


def _pruned(op: Scan, inputs: tuple[Value, ...], used: Sequence[bool], node: Node) -> tuple[Value, ...] | None:
    body, carries, end = op.body, op.carries, op.carries + op.sequences
    keep = set(i for i in range(carries) if used[i])
    steps = [i for i in range(carries, len(body.outputs)) if used[i]]
    while True:                                         # a carry that a needed one is made from is needed
        wanted = [body.outputs[i] for i in (*sorted(keep), *steps)]
        read = {n.output for n in walk_back(wanted, set()) if not n.inputs}
        more = keep | {i for i in range(carries) if body.inputs[i] in read}
        if more == keep:
            break
        keep = more
    kept_inputs = [i for i, value in enumerate(body.inputs) if (i in keep if i < carries else value in read)]
    kept_outputs = [*sorted(keep), *steps]
    if len(kept_inputs) == len(body.inputs) and len(kept_outputs) == len(body.outputs):
        return None
    smaller = Graph.of(body.name, [body.inputs[i] for i in kept_inputs], [body.outputs[i] for i in kept_outputs])
    new = Scan(smaller, len(keep), sum(carries <= i < end for i in kept_inputs), op.reverse, op.length)
    made = dict(zip(kept_outputs, make_node(new, tuple(inputs[i] for i in kept_inputs), node.loc).outputs, strict=True))
    # What nobody reads is given any value of its type; it is not part of the new graph.
    return tuple(made[i] if i in made else sizes.zeros_like(value) for i, value in enumerate(node.outputs))
