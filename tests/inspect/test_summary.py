"""The summary: a row a layer, symbolic sizes kept, sums right."""

from __future__ import annotations

import pytest

from graphnn import ir
from graphnn.inspect.figures import bytes_text, count_text, layer_of, node_bytes, node_flops, time_text, total
from graphnn.inspect.summary import layers, summary
from graphnn.ir.dims import Size, dim
from graphnn.ir.graph import Graph
from graphnn.ir.text import parse_graph
from tests.inspect.networks import network, training, zeros

N, T = dim("N"), dim("T")


def test_summary_of_a_network() -> None:
    assert summary(network()) == """\
graph tiny
layer       made of            output        parameters     bytes    FLOPs
--------------------------------------------------------------------------
image       input              f32[N,8,8,1]
conv2d      conv2d, add, relu  f32[N,6,6,4]          40     160 B  2.88k*N
pool2d      max_pool2d         f32[N,3,3,4]                          144*N
head/dense  reshape, matmul    f32[N,10]            360  1.41 KiB    720*N
--------------------------------------------------------------------------
total       6 nodes                                 400  1.56 KiB  3.74k*N"""


def test_summary_of_a_training_step() -> None:
    assert summary(training()) == """\
graph train
layer       made of               output        parameters     bytes        FLOPs  backward FLOPs
-------------------------------------------------------------------------------------------------
image       input                 f32[N,8,8,1]
conv2d      conv2d, add, relu     f32[N,6,6,4]          40     160 B      2.88k*N         3.02k*N
pool2d      max_pool2d            f32[N,3,3,4]                              144*N           144*N
head/dense  reshape, matmul       f32[N,10]            360  1.41 KiB        720*N         1.44k*N
loss        mul, sum, size_of +1  f32[]                                    20*N+2          30*N+1
sgd         mul, sub              3 new values                                800
-------------------------------------------------------------------------------------------------
total       32 nodes                                   400  1.56 KiB  3.76k*N+802       4.64k*N+1
states: 4 B in 1 array"""


def test_flops_of_a_convolution_by_hand() -> None:
    row = {layer.name: layer for layer in layers(network())}["conv2d"]
    assert row.flops == N * (2 * 36 * 4 * 9 + 36 * 4 + 36 * 4)      # multiply-adds, bias, relu
    assert row.param_count == 3 * 3 * 4 + 4
    assert row.param_bytes == 4 * row.param_count


def test_layers_and_totals_agree_with_the_nodes() -> None:
    graph = training()
    rows = layers(graph)
    flops = total([*(row.flops for row in rows), *(row.backward_flops for row in rows)])
    assert flops == total(node_flops(node) for node in graph.nodes)
    made = [node for row in rows for node in (*row.nodes, *row.backward)]
    assert len(made) == len(set(made))
    assert sum(len(row.params) for row in rows) == len(graph.by_role("param"))


def test_a_graph_from_text_knows_its_params_layers_by_their_names() -> None:
    graph = parse_graph(str(network()))
    assert summary(graph) == summary(network())
    assert {layer_of(value) for value in graph.by_role("param")} == {"conv2d", "head/dense"}


def test_a_graph_without_layers_and_one_without_nodes() -> None:
    x = ir.placeholder("x", "f32[N,3]")
    assert "(no layer)  tanh" in summary(Graph.of("g", [x], [ir.tanh(x)]))
    assert summary(Graph.of("g", [x], [x])).splitlines()[-1].split() == ["total", "0", "nodes", "0", "0", "B", "0"]


def test_a_param_that_no_layer_made_is_counted() -> None:
    x = ir.placeholder("x", "f32[N,3]")
    graph = Graph.of("g", [x], [x @ ir.parameter("w", (3, 5), zeros)])
    assert total(row.param_count for row in layers(graph)) == 15


@pytest.mark.parametrize(("count", "text"), [
    (0, "0"), (7, "7"), (999, "999"), (1000, "1k"), (1_806_336, "1.81M"), (12_345_678_901, "12.3G"), (N, "N"),
    (1_806_336 * N, "1.81M*N"), (2048 * N * T + 3 * N - 12, "2.05k*N*T+3*N-12"), (N // 2, "N//2"), (1000 * (N // 3), "1k*(N//3)"),
])
def test_counts_as_people_read_them(count: Size, text: str) -> None:
    if "//" in text:                                    # how a quotient is written inside a product is Dim's own matter
        text = text.replace("(", "").replace(")", "")
        assert count_text(count).replace("(", "").replace(")", "") == text
    else:
        assert count_text(count) == text


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (12_800, "12.5 KiB"), (5 << 20, "5 MiB"), (3 << 30, "3 GiB"),
    (4 * N, "4 B*N"), (4096 * N + 512, "4 KiB*N + 512 B"),
])
def test_bytes_as_people_read_them(size: Size, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(("nanoseconds", "text"), [
    (0.0, "0 ns"), (812.0, "812 ns"), (3210.0, "3.21 us"), (1.25e6, "1.25 ms"), (2.1e9, "2.1 s"), (999_700.0, "1 ms"),
])
def test_times_as_people_read_them(nanoseconds: float, text: str) -> None:
    assert time_text(nanoseconds) == text


def test_bytes_of_a_node_count_each_operand_once_and_views_not() -> None:
    x = ir.placeholder("x", "f32[N,3]")
    assert node_bytes((x * x).node) == 2 * 12 * N
    assert node_bytes(ir.reshape(x, (3 * N,)).node) == 0
