"""recompute: what later kernels can make from what is stored anyway is not stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops import reduce
from graphnn.ir.ops.inputs import parameter, placeholder
from graphnn.passes.pipeline import DEFAULT, Pipeline
from graphnn.passes.recompute import recompute
from tests.passes.pictures import assert_same_numbers, assert_stays, text

X = placeholder("x", "f64[N,64]")
WITHOUT = Pipeline(tuple(transform for transform in DEFAULT.passes if transform is not recompute))


def dense(x: Value, name: str) -> Value:
    return x @ parameter(f"w{name}", (64, 64), dtype="f64") + parameter(f"b{name}", (64,), dtype="f64")


def network(activation: Callable[[Value], Value]) -> Graph:
    h = activation(dense(X, "1"))
    out = dense(h, "2")
    loss = reduce.sum(out * out)
    return Graph.of("g", [X], [loss, *gradients(loss, [X])])


def wide_results(graph: Graph, op: str) -> list[int]:
    """How many matrices each node of this op returns."""
    return [sum(kind.rank == 2 and kind.shape[1] == 64 for kind in node.types) for node in graph.nodes if node.op.name == op]


def treated(before: Graph) -> Graph:
    alone = recompute(before)
    assert_same_numbers(alone, before)
    assert text(recompute(alone)) == text(alone)
    after = DEFAULT(before)
    assert_same_numbers(after, before)
    return after


def test_a_gelu_keeps_its_operand_alone_for_the_backward() -> None:
    before = network(ir.gelu)
    assert wide_results(WITHOUT(before), "epilogue")[0] > 2
    assert wide_results(treated(before), "epilogue")[0] == 2, "the activation for the product, its operand for the backward"


@pytest.mark.parametrize("activation", [ir.tanh, ir.sigmoid, ir.relu])
def test_what_has_its_derivative_in_its_result_keeps_nothing_more(activation: Callable[[Value], Value]) -> None:
    assert wide_results(treated(network(activation)), "epilogue")[0] == 1


def test_a_layer_norm_keeps_the_mean_and_deviation_of_each_row() -> None:
    def norm(x: Value) -> Value:
        centred = x - reduce.mean(x, -1, keepdims=True)
        return centred * ir.rsqrt(reduce.mean(centred * centred, -1, keepdims=True) + 1e-5)

    after = treated(network(norm))
    forward = next(node for node in after.nodes if node.op.name == "fused")
    assert sorted(str(kind) for kind in forward.types) == ["f64[N,1]", "f64[N,1]", "f64[N,64]"]


def test_what_is_read_in_its_own_stage_stays() -> None:
    assert_stays(recompute, "%x: f64[N,64]", """
        %0 = tanh(%x) : f64[N,64]
        %1 = exp(%0) : f64[N,64]
        %2 = mul(%0, %1) : f64[N,64]
        return %2""")


def test_what_would_need_two_large_values_is_stored() -> None:
    y = placeholder("y", "f64[N,64]")
    between = ir.tanh(ir.sin(X) * ir.sin(y))
    graph = Graph.of("g", [X, y], [ir.exp(dense(between, "1")) * (X * y)])
    assert text(recompute(graph)) == text(graph)


def test_long_chains_are_not_computed_twice() -> None:
    z = X
    for _ in range(8):
        z = ir.exp(ir.neg(z * z))
    graph = Graph.of("g", [X], [ir.sin(dense(ir.cos(z), "1")) * z])
    assert text(recompute(graph)) == text(graph)


def test_results_are_read_where_they_are_stored() -> None:
    y = ir.tanh(X)
    graph = Graph.of("g", [X], [y, ir.exp(dense(y, "1")) * y])
    assert text(recompute(graph)) == text(graph)
