"""hoist_from_scan: work that needs no carry leaves the loop."""

from __future__ import annotations

import pytest

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops import index, reduce
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.scan import Scan, scan
from graphnn.passes.hoist_from_scan import hoist_from_scan
from graphnn.passes.pipeline import DEFAULT
from graphnn.passes.trim_scans import merge_scans, prune_scans
from tests.passes.pictures import assert_same_numbers, ops, text

XS, H, W, U, B = (placeholder(name, kind) for name, kind in (
    ("xs", "f64[T,N,3]"), ("h0", "f64[N,4]"), ("w", "f64[3,4]"), ("u", "f64[4,4]"), ("b", "f64[4]")))
ALL = [XS, H, W, U, B]


def hoist(before: Graph) -> Graph:
    after = hoist_from_scan(before)
    assert_same_numbers(after, before)
    assert text(hoist_from_scan(after)) == text(after)
    return after


def loops(graph: Graph) -> list[Scan]:
    return [node.op for node in graph.nodes if isinstance(node.op, Scan)]


def recurrence(reverse: bool = False) -> tuple[Value, Value]:
    def step(h: Value, x: Value) -> tuple[Value, Value]:
        new = ir.tanh(x @ W + h @ U + B)
        return new, new * 2.0

    return scan(step, H, XS, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_product_of_the_inputs_is_one_product_over_all_steps(reverse: bool) -> None:
    after = hoist(Graph.of("g", ALL, list(recurrence(reverse))))
    assert ops(after) == ["matmul", "scan"]
    assert ops(loops(after)[0].body).count("matmul") == 1


def test_what_depends_on_constants_alone_is_computed_once() -> None:
    last, _ = scan(lambda h, x: (ir.tanh(h @ (U * ir.exp(U)) + B * 2.0), None), H, XS)
    after = hoist(Graph.of("g", ALL, [last]))
    assert "exp" not in ops(loops(after)[0].body)
    assert ops(loops(after)[0].body) == ["matmul", "add", "tanh"]


def test_elementwise_work_on_slices_stays_inside_where_it_is_fused() -> None:
    ys = placeholder("ys", "f64[T,N,4]")
    last, _ = scan(lambda h, y: (ir.tanh(h @ U) * ir.exp(y), None), H, ys)
    before = Graph.of("g", [ys, H, U], [last])
    assert hoist(before) is before


def test_a_result_that_needs_no_carry_is_no_result_of_the_loop() -> None:
    last, ys = scan(lambda h, x: (ir.tanh(h @ U), ir.exp(x)), H, XS)
    after = hoist(Graph.of("g", ALL, [last, ys]))
    assert sorted(ops(after)) == ["exp", "scan"]
    assert len(loops(after)[0].body.outputs) == 1


def test_an_embedding_and_its_range_check_leave_the_loop_with_the_product() -> None:
    ids, table = placeholder("ids", "i64[T,N]"), placeholder("table", "f64[3,3]")
    last, _ = scan(lambda h, i: (ir.tanh(index.gather(table, i) @ W + h @ U), None), H, ids)
    after = hoist(Graph.of("g", [ids, table, H, W, U], [last]))
    assert ops(after) == ["check_index", "gather", "matmul", "scan"]


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_weights_are_one_product_after_the_loop(reverse: bool) -> None:
    last, ys = recurrence(reverse)
    loss = reduce.sum(last) + reduce.sum(ys * ys)
    before = prune_scans(merge_scans(Graph.of("g", ALL, [loss, *gradients(loss, ALL)])))
    after = hoist(before)
    backward = loops(after)[-1]
    assert backward.carries == 1, "the sums of the gradients of w, u and b are no carries any more"
    assert ops(backward.body).count("matmul") == 1, "only the product that hands the cotangent back is left"
    full = DEFAULT(before)
    assert_same_numbers(full, before)


def test_a_sum_that_is_read_on_the_way_stays_a_carry() -> None:
    last, _ = scan(lambda c, x: ((c[0] + x, c[1] * c[0]), None), (XS[0], XS[1]), XS)
    before = Graph.of("g", [XS], list(last))
    assert hoist(before) is before


def test_a_sum_whose_steps_are_results_stays_a_carry() -> None:
    total, sums = scan(lambda c, x: (c + reduce.sum(x, 0), c), XS[0, 0], XS)
    before = Graph.of("g", [XS], [total, sums])
    assert hoist(before) is before


def test_a_loop_of_no_steps_gives_what_it_was_given() -> None:
    from graphnn.ir.interpret import interpret

    last, ys = recurrence()
    loss = reduce.sum(last)
    before = Graph.of("g", ALL, [last, ys, *gradients(loss, ALL)])
    after = DEFAULT(before)
    import numpy as np

    arrays = [np.ones([{"T": 0, "N": 2}.get(str(s), s) for s in value.shape]) for value in ALL]
    for a, b in zip(interpret(after, arrays).outputs, interpret(before, arrays).outputs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_loops_in_loops_are_treated_too() -> None:
    def outer(h: Value, x: Value) -> tuple[Value, Value]:
        last, _ = scan(lambda c, y: (ir.tanh(c + y @ ir.exp(W)), None), h, XS)
        return last, ir.exp(x)

    last, ys = scan(outer, H, XS)
    after = hoist(Graph.of("g", ALL, [last, ys]))
    (loop,) = loops(after)
    (inner,) = loops(loop.body)
    assert "matmul" not in ops(inner.body)
    assert "matmul" not in ops(loop.body), "the inner product needs no carry of the outer loop either"
