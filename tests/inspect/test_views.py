"""The networkx view and the text diff."""

from __future__ import annotations

import networkx

from graphnn import ir
from graphnn.inspect.differences import diff
from graphnn.inspect.networkx_view import to_networkx
from graphnn.ir.graph import Graph
from graphnn.ir.loc import scope
from tests.inspect.networks import network, training


def test_vertices_and_edges_are_nodes_and_reads() -> None:
    graph = training()
    view = to_networkx(graph)
    assert view.number_of_nodes() == len(graph.inputs) + len(graph.nodes)
    assert view.number_of_edges() == sum(len(node.inputs) for node in graph.nodes)
    assert networkx.is_directed_acyclic_graph(view)
    for i, data in view.nodes(data=True):
        assert [tuple(map(str, data["node"].types)), data["node"].op.name] == [data["types"], data["op"]], i
    assert {data["role"] for _, data in view.nodes(data=True)} == {None, "input", "param", "state"}
    assert len(view.graph["updates"]) == len(graph.updates)


def test_algorithms_of_networkx_see_the_graph() -> None:
    view = to_networkx(network())
    (output,) = view.graph["outputs"]
    longest = networkx.dag_longest_path(networkx.DiGraph(view))
    assert view.nodes[longest[-1]]["op"] == "matmul"
    assert longest[-1] == output
    assert {view.nodes[i]["name"] for i in networkx.ancestors(view, output)} >= {"image", "conv2d/weight", "conv2d", "max_pool2d"}


def test_a_value_read_twice_has_two_edges() -> None:
    x = ir.placeholder("x", "f32[N]")
    assert to_networkx(Graph.of("g", [x], [x * x])).number_of_edges(0, 1) == 2


def part(more: bool) -> Graph:
    x = ir.placeholder("x", "f32[N,3]")
    with scope("first"):
        h = ir.tanh(x)
        h = ir.exp(h) if more else h
    with scope("second"):
        y = ir.sqrt(h * h)
    return Graph.of("g", [x], [y])


def test_equal_graphs_do_not_differ() -> None:
    assert diff(part(True), part(True)) == ""


def test_one_node_more_changes_its_own_line_and_its_readers() -> None:
    changed = [line for line in diff(part(False), part(True)).splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        "-%second/mul = mul(%first/tanh, %first/tanh) : f32[N,3]",
        "+%first/exp = exp(%first/tanh) : f32[N,3]",
        "+%second/mul = mul(%first/exp, %first/exp) : f32[N,3]",
    ]
