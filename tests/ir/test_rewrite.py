"""Rewriting, inlining and binding: what is kept, what changes, where new nodes say they come from."""

from __future__ import annotations

import numpy as np

from graphnn.ir.dims import dim
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import functions, reduce, shaping
from graphnn.ir.ops.inputs import placeholder, state
from graphnn.ir.ops.slicing import split
from graphnn.ir.rewrite import bind_graph, inline, rewrite
from graphnn.ir.verify import verify


def tanh_to_sigmoid(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    return functions.sigmoid(*inputs) if node.op.name == "tanh" else None


def test_a_rule_replaces_nodes_and_keeps_the_rest() -> None:
    x = placeholder("x", "f64[3]")
    first = functions.exp(x)
    before = Graph.of("g", [x], [functions.tanh(first) + first])
    after = rewrite(before, tanh_to_sigmoid)
    verify(after)
    assert [n.op.name for n in after.nodes] == ["exp", "sigmoid", "add"]
    assert after.nodes[0] is before.nodes[0]
    assert after.nodes[1].loc == before.nodes[1].loc


def test_a_rule_that_keeps_all_returns_the_same_nodes() -> None:
    x = placeholder("x", "f64[3]")
    graph = Graph.of("g", [x], [functions.tanh(x)])
    assert rewrite(graph, lambda node, inputs: None).nodes == graph.nodes


def test_a_node_with_several_outputs_is_replaced_by_several_values() -> None:
    x = placeholder("x", "f64[4]")
    a, b = split(x, 2)

    def halves(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        return (inputs[0][:2], inputs[0][2:]) if node.op.name == "split" else None

    after = rewrite(Graph.of("g", [x], [a - b]), halves)
    assert "split" not in [n.op.name for n in after.nodes]
    assert interpret(after, {"x": np.array([1.0, 2.0, 3.0, 5.0])}).outputs[0].tolist() == [-2.0, -3.0]


def test_updates_are_rewritten_and_unused_inputs_stay() -> None:
    x, unused, s = placeholder("x", "f64[]"), placeholder("unused", "f64[]"), state("s", (), dtype="f64")
    graph = Graph.of("g", [x, unused], [], updates={s: functions.tanh(x)})
    after = rewrite(graph, tanh_to_sigmoid)
    assert after.inputs == graph.inputs
    assert interpret(after, {"x": np.array(0.0), "unused": np.array(0.0), "s": np.array(0.0)}).updates["s"] == 0.5


def test_inline_applies_a_graph_to_values() -> None:
    x, y = placeholder("x", "f64[2]"), placeholder("y", "f64[2]")
    body = Graph.of("body", [x], [x * x, functions.neg(x)])
    squared, negative = inline(body, [y + 1.0])
    result = interpret(Graph.of("g", [y], [squared + negative]), {"y": np.array([1.0, 2.0])}).outputs[0]
    assert result.tolist() == [2.0, 6.0]


def test_bind_puts_numbers_for_names_everywhere() -> None:
    N = dim("N")
    x = placeholder("x", "f32[N,4]")
    graph = Graph.of("g", [x], [reduce.mean(shaping.reshape(x, (2 * N, 2)), 0)])
    bound = bind_graph(graph, {"N": 3})
    verify(bound)
    assert not bound.size_names
    assert all(t.is_static for n in bound.nodes for t in n.types)
    assert bind_graph(bound, {}) is bound
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert interpret(bound, [data]).outputs[0].tolist() == interpret(graph, [data]).outputs[0].tolist() == [5.0, 6.0]
