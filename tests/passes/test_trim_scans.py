"""Scans that are twins become one; what nobody reads leaves them."""

from __future__ import annotations

import numpy as np

from graphnn.autodiff import gradients
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import functions, reduce
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.scan import Scan, scan
from graphnn.ir.verify import verify
from graphnn.passes.trim_scans import merge_scans, prune_scans

RNG = np.random.default_rng(0)


def scans(graph):
    return [node.op for node in graph.nodes if isinstance(node.op, Scan)]


def same_results(graph, *passes):
    arrays = [RNG.normal(size=[3 if str(s) == "N" else 5 if str(s) == "T" else s for s in v.shape]) for v in graph.inputs]
    expected = interpret(graph, arrays).outputs
    for transform in passes:
        graph = transform(graph)
        verify(graph)
    for a, b in zip(interpret(graph, arrays).outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    return graph


def recurrence(**options):
    h0, xs, w = placeholder("h0", "f64[N,3]"), placeholder("xs", "f64[T,N,3]"), placeholder("w", "f64[3,3]")
    last, steps = scan(lambda h, x: (h1 := functions.tanh(h @ w + x), h1 * 2.0), h0, xs, **options)
    return [h0, xs, w], last, steps


def test_a_recurrence_and_its_gradient_are_two_scans():
    inputs, last, steps = recurrence()
    loss = reduce.sum(last) + reduce.sum(steps)
    graph = Graph.of("g", inputs, [loss, *gradients(loss, inputs)])
    assert len(scans(graph)) == 3
    assert len(scans(same_results(graph, merge_scans))) == 2


def test_gradients_of_gradients_share_their_forward_runs():
    inputs, last, _ = recurrence()
    (dw,) = gradients(reduce.sum(last), [inputs[2]])
    second = gradients(reduce.sum(functions.sin(dw)), inputs)
    graph = Graph.of("g", inputs, [last, dw, *second])
    before = len(scans(graph))
    after = scans(same_results(graph, merge_scans, prune_scans, merge_scans))
    assert len(after) < before
    assert sum(not op.reverse and op.body.inputs[0].name == "carry0" for op in after) <= 2


def test_inside_the_segments_of_a_checkpointed_scan_too():
    inputs, last, _ = recurrence(checkpoint=2)
    same_results(Graph.of("g", inputs, [last, *gradients(reduce.sum(last), inputs)]), merge_scans, prune_scans)


def test_twins_with_bodies_of_their_own_are_found_by_structure():
    inputs, _, _ = recurrence()
    h0, xs, w = inputs
    def run(k):
        return scan(lambda h, x: (h1 := functions.tanh(h @ w + x), h1 * k), h0, xs)
    (a, p), (b, q) = run(2.0), run(3.0)
    graph = same_results(Graph.of("g", inputs, [a, p, b, q]), merge_scans)
    (op,) = scans(graph)
    assert len(op.body.outputs) == 3
    assert sum(node.op.name == "matmul" for node in op.body.nodes) == 1


def test_scans_that_run_the_other_way_are_no_twins():
    inputs, forwards, _ = recurrence()
    h0, xs, w = inputs
    backwards, _ = scan(lambda h, x: (functions.tanh(h @ w + x), None), h0, xs, reverse=True)
    assert len(scans(same_results(Graph.of("g", inputs, [forwards, backwards]), merge_scans))) == 2


def test_sums_for_gradients_that_are_not_asked_for_disappear():
    inputs, last, _ = recurrence()
    (dx,) = gradients(reduce.sum(last), [inputs[1]])
    graph = same_results(Graph.of("g", inputs, [dx]), merge_scans, prune_scans)
    backward = next(op for op in scans(graph) if op.reverse)
    assert (backward.carries, len(backward.body.outputs)) == (1, 2)
    forward = next(op for op in scans(graph) if not op.reverse)
    assert len(forward.body.outputs) == 2                                   # the carry, and tanh for the gradient


def test_a_carry_that_only_feeds_itself_disappears_and_one_that_feeds_another_stays():
    x, start = placeholder("x", "f64[T,3]"), placeholder("start", "f64[3]")
    def step(carry, v):
        a, b, c = carry
        return (a + b, b * 2.0 + v, c + v), None
    (a, _, _), _ = scan(step, (start, start, start), x)
    (op,) = scans(same_results(Graph.of("g", [x, start], [a]), prune_scans))
    assert (op.carries, op.sequences) == (2, 1)


def test_nothing_to_do_changes_nothing():
    inputs, last, steps = recurrence()
    graph = Graph.of("g", inputs, [last, steps])
    for transform in (merge_scans, prune_scans):
        assert transform(graph).nodes == graph.nodes
