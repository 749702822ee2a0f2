"""to_networkx: a graph for networkx's algorithms. networkx is imported when this is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphnn.inspect.cards import colour_of
from graphnn.inspect.figures import layer_of, node_bytes, try_flops
from graphnn.ir.graph import Graph, role_of

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph) -> networkx.MultiDiGraph[Any]:
    """The graph as a MultiDiGraph whose vertices are nodes (and inputs) and whose edges are the reads of values.

    Vertices are numbers in order of execution and carry `op`, `name`, `types`, `layer`, `backward`, `place`, `role` (None for
    nodes), `kind` (how it can be fused), `flops`, `bytes` and `node`. Edges carry `value`, `type`, `output` (which of the
    maker) and `input` (which of the reader). The graph's `outputs` and `updates` are lists of vertices.

    >>> from graphnn.ir import placeholder, tanh
    >>> x = placeholder("x", "f32[N]")
    >>> sorted(to_networkx(Graph.of("g", [x], [tanh(x) + x])).edges())
    [(0, 1), (0, 2), (1, 2)]
    """
    import networkx

    nodes = [*(value.node for value in graph.inputs), *graph.nodes]
    number = {node: i for i, node in enumerate(nodes)}
    made: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph(
        name=graph.name, outputs=[number[value.node] for value in graph.outputs],
        updates=[(number[state.node], number[new.node]) for state, new in graph.updates],
    )
    for node, i in number.items():
        role = role_of(node)
        made.add_node(
            i, op=node.op.name, name=node.outputs[0].name if role else node.op.name, types=tuple(map(str, node.types)),
            layer=layer_of(node), backward=node.loc.backward, place=str(node.loc), role=role,
            kind="input" if role else colour_of(node), flops=try_flops(node), bytes=node_bytes(node), node=node,
        )
    for node in graph.nodes:
        for position, value in enumerate(node.inputs):
            made.add_edge(number[value.node], number[node], value=value, type=str(value.type), output=value.index, input=position)
    return made
