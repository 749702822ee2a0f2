"""Remove what no result needs: nodes, and the outputs of fused groups and scans that nobody reads."""

from __future__ import annotations

from graphnn.ir.graph import Graph, collect, role_of


def dead_code(graph: Graph) -> Graph:
    """The graph without the nodes that neither an output nor an update needs. Inputs stay: they are the graph's signature.

    A CheckIndex is no root: it hands its ids on, so it lives as long as what reads them.
    """
    needed = set(collect(graph.results))
    nodes = tuple(node for node in graph.nodes if node in needed)
    if len(nodes) == len(graph.nodes):
        return graph
    assert all(role_of(node) is None for node in nodes)
    return Graph(graph.name, graph.inputs, graph.outputs, nodes, graph.updates)
