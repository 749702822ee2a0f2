"""What does not depend on a recurrence leaves its loop; the results stay what they were."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.autodiff import gradients
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import functions, reduce, shaping, slicing
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.scan import Scan, scan
from graphnn.ir.verify import verify
from graphnn.passes.hoist_from_scan import hoist_from_scan
from graphnn.passes.trim_scans import merge_scans, prune_scans

SIZES = {"N": 3, "T": 5}


def same_results(graph, *passes, steps=5):
    rng = np.random.default_rng(0)
    sizes = {**SIZES, "T": steps}
    arrays = [rng.normal(size=[sizes.get(str(s), s) for s in v.shape]) * 0.5 for v in graph.inputs]
    expected = interpret(graph, arrays).outputs
    for transform in passes:
        graph = transform(graph)
        verify(graph)
    for a, b in zip(interpret(graph, arrays).outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    return graph


def bodies(graph):
    return [node.op.body for node in graph.nodes if isinstance(node.op, Scan)]


def count(body, name):
    return sum(node.op.name == name for node in body.nodes)


def lstm():
    shapes = {"xs": "f64[T,N,4]", "h0": "f64[N,3]", "c0": "f64[N,3]", "w": "f64[4,12]", "u": "f64[3,12]", "b": "f64[12]"}
    values = [placeholder(name, shape) for name, shape in shapes.items()]
    xs, h0, c0, w, u, b = values
    def step(state, x):
        h, c = state
        i, f, o, g = slicing.split(x @ w + h @ u + b, 4, 1)
        c = functions.sigmoid(f) * c + functions.sigmoid(i) * functions.tanh(g)
        h = functions.sigmoid(o) * functions.tanh(c)
        return (h, c), h
    (h, c), hs = scan(step, (h0, c0), xs)
    return values, reduce.sum(h * h) + reduce.sum(c) + reduce.sum(hs * hs)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_an_lstm_keeps_one_product_a_step_in_each_direction(steps):
    values, loss = lstm()
    graph = Graph.of("g", values, [loss, *gradients(loss, values)])
    after = same_results(graph, merge_scans, prune_scans, hoist_from_scan, steps=steps)
    assert [count(body, "matmul") for body in bodies(after)] == [1, 1]     # h @ u, and its gradient for h
    assert sum(node.op.name == "matmul" for node in after.nodes) == 4       # x @ w, and the gradients of x, w and u
    forward, backward = (node.op for node in after.nodes if isinstance(node.op, Scan))
    assert (forward.carries, backward.carries) == (2, 2)                    # no sums for the weights and the bias


def test_products_of_a_network_on_the_inputs_leave_together():
    xs, a, b, h = (placeholder(n, t) for n, t in (("xs", "f64[T,N,4]"), ("a", "f64[4,5]"), ("b", "f64[5,3]"), ("h", "f64[N,3]")))
    last, _ = scan(lambda c, x: (functions.tanh(c + functions.tanh(x @ a) @ b), None), h, xs)
    after = same_results(Graph.of("g", [xs, a, b, h], [last]), hoist_from_scan)
    assert [count(body, "matmul") for body in bodies(after)] == [0]


def test_a_product_that_is_only_a_result_leaves():
    xs, u, v, h = (placeholder(n, t) for n, t in (("xs", "f64[T,N,3]"), ("u", "f64[3,3]"), ("v", "f64[3,7]"), ("h", "f64[N,3]")))
    last, ys = scan(lambda c, x: (d := functions.tanh(c @ u + x), d @ v), h, xs)
    after = same_results(Graph.of("g", [xs, u, v, h], [last, ys]), hoist_from_scan)
    assert [count(body, "matmul") for body in bodies(after)] == [1]


def test_results_that_do_not_depend_on_the_carry_leave():
    xs, k, h = (placeholder(n, t) for n, t in (("xs", "f64[T,3]"), ("k", "f64[2,3]"), ("h", "f64[3]")))
    last, ys = scan(lambda c, x: (c + x, functions.exp(x) * k), h, xs)
    after = same_results(Graph.of("g", [xs, k, h], [last, ys]), hoist_from_scan)
    assert not any(count(body, "exp") for body in bodies(after))


def test_vectors_and_reverse_and_views_inside():
    xs, w, h = (placeholder(n, t) for n, t in (("xs", "f64[T,4]"), ("w", "f64[2,3]"), ("h", "f64[3]")))
    def step(c, x):
        part = shaping.transpose(shaping.reshape(x, (2, 2)))[0:1, :]
        return functions.tanh(c + shaping.reshape(part @ w, (3,))), shaping.expand(part, (3, 2))
    last, ys = scan(step, h, xs, reverse=True)
    graph = Graph.of("g", [xs, w, h], [last, ys, *gradients(reduce.sum(last) + reduce.sum(ys * ys), [xs, w, h])])
    same_results(graph, merge_scans, prune_scans, hoist_from_scan)


def test_second_order_and_checkpoints_and_nested_scans_stay_right():
    values, loss = lstm()
    first = gradients(loss, values[3:5])
    second = gradients(reduce.sum(first[0] * first[0]) + reduce.sum(functions.sin(first[1])), values)
    same_results(Graph.of("g", values, [loss, *first, *second]), merge_scans, prune_scans, hoist_from_scan, prune_scans)
    xs, w, h = (placeholder(n, t) for n, t in (("xs", "f64[T,N,3]"), ("w", "f64[3,3]"), ("h", "f64[N,3]")))
    last, _ = scan(lambda c, x: (functions.tanh(c @ w + x @ w), None), h, xs, checkpoint=2)
    graph = Graph.of("g", [xs, w, h], [last, *gradients(reduce.sum(last), [xs, w, h])])
    same_results(graph, merge_scans, prune_scans, hoist_from_scan)


def test_a_recurrence_with_nothing_to_move_stays():
    xs, u, h = (placeholder(n, t) for n, t in (("xs", "f64[T,N,3]"), ("u", "f64[3,3]"), ("h", "f64[N,3]")))
    last, ys = scan(lambda c, x: (d := functions.tanh(c @ u + x) * 2.0, d), h, xs)
    graph = Graph.of("g", [xs, u, h], [last, ys])
    assert hoist_from_scan(graph).nodes == graph.nodes
