"""Loops: carries, sequences, nests and both directions, against NumPy's loop; the table does not grow with the length."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.ir.ops.scan import Scan
from graphnn.runtime.state import State
from tests.runtime.cases import as_tuple, bits, checkpointed, normal, rnn_sgd, swapping_scan, zeros


def check(graph: Graph, *arrays: np.ndarray, unit: float = 1e-5) -> None:
    """Results and states like NumPy's; poisoned memory changes no bit."""
    exe, poisoned = gnn.compile(graph, state=State(2)), gnn.compile(graph, state=State(2))
    oracle = gnn.compile(graph, state=State(2), backend="numpy")
    for _ in range(2):
        found = as_tuple(exe(*arrays))
        for a, b in zip(found, as_tuple(oracle(*arrays)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=unit, atol=unit)
        for name in oracle.state.names:
            np.testing.assert_allclose(exe.state[name], oracle.state[name], rtol=unit, atol=unit)
        assert bits(tuple(poisoned.run_poisoned(*arrays)), poisoned) == bits(found, exe)


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_a_sum_that_runs_along(reverse: bool, steps: int) -> None:
    x = placeholder("x", "f32[T,3]")
    total, sums = gnn.scan(lambda t, v: (t + v, t + v), gnn.zeros((3,)), x, reverse=reverse)
    graph = Graph.of("cumulative", [x], [total, sums])
    given = rand(steps, 3)
    check(graph, given)
    expected = np.cumsum(given[::-1], 0)[::-1] if reverse else np.cumsum(given, 0)
    np.testing.assert_allclose(gnn.compile(graph)(given)[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [swapping_scan, checkpointed, rnn_sgd])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_any_number_of_steps(make, steps: int) -> None:
    case = make()
    arrays = [rand(steps, *a.shape[1:]) if a.ndim == 3 else a for a in case.arrays(np.random.default_rng(0), 2)]
    check(case.graph, *arrays, unit=2e-5)


def test_the_table_does_not_grow_with_the_length() -> None:
    case = rnn_sgd()
    exe = gnn.compile(case.graph)
    rows = []
    for steps in (2, 10, 1000):                          # a sum over many steps may take a row more
        exe.prepare(rand(steps, 2, 3))
        rows.append(len(exe.plan.rows))
    assert max(rows) - min(rows) < 5


def test_a_long_loop_has_the_right_numbers() -> None:
    x = placeholder("x", "f64[T]")
    last, _ = gnn.scan(lambda h, v: (h * 0.5 + v, None), gnn.zeros((), "f64"), x)
    given = np.random.default_rng(0).normal(size=10_000)
    wanted = 0.0
    for v in given:
        wanted = wanted * 0.5 + v
    assert gnn.compile(Graph.of("long", [x], [last]))(given) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize("inner_reverse", [False, True])
@pytest.mark.parametrize("outer_reverse", [False, True])
def test_loops_in_loops(outer_reverse: bool, inner_reverse: bool) -> None:
    """Addresses step in both loops; the inner carry starts again at each trip of the outer one."""
    x, w = placeholder("x", "f32[S,T,2,4]"), parameter("w", (4, 4), normal)

    def outer(h: Value, plane: Value) -> tuple[Value, tuple[Value, Value]]:
        def inner(k: Value, row: Value) -> tuple[Value, Value]:
            k = gnn.tanh(k @ w + row)
            return k, k * h

        last, rows = gnn.scan(inner, h * 0.5, plane, reverse=inner_reverse)
        return h + last, (rows, last)

    last, (rows, ends) = gnn.scan(outer, x[0, 0], x, reverse=outer_reverse)
    loss = gnn.sum(rows * rows) + gnn.sum(ends)
    (grad,) = gnn.gradients(loss, [w])
    graph = Graph.of("nested", [x], [last, rows, ends, loss], updates=[(w, w - 0.01 * grad)])
    for shape in ((3, 4, 2, 4), (1, 1, 2, 4), (2, 5, 2, 4)):
        check(graph, 0.5 * rand(*shape), unit=3e-5)


def test_three_loops_deep() -> None:
    x = placeholder("x", "f32[A,B,C]")

    def over(depth: int, h: Value, part: Value) -> Value:
        if depth == 0:
            return gnn.sin(h) + part
        return gnn.scan(lambda k, v: (over(depth - 1, k, v), None), h, part)[0]

    check(Graph.of("deep", [x], [over(3, gnn.sum(x) * 0.0, x)]), rand(3, 4, 5))


def test_several_loops_over_one_sequence_and_a_loop_over_a_loops_results() -> None:
    x = placeholder("x", "f32[T,2,3]")
    start = x[0] * 0.0
    forward, ys = gnn.scan(lambda h, v: ((h + v) * 0.5, h), start, x)
    backward, zs = gnn.scan(lambda h, v: ((h - v) * 0.5, h), start, x, reverse=True)
    both, ws = gnn.scan(lambda h, v: (h * 0.9 + v[0] * v[1], h), forward + backward, (ys, zs))
    check(Graph.of("both", [x], [both, ws, ys, gnn.stack([forward, backward])]), rand(6, 2, 3))


def test_the_last_carry_is_the_next_value_of_a_state() -> None:
    """The loop may write into the state's own memory only when nobody needs the old value."""
    x = placeholder("x", "f32[T,3]")
    a, b, c = (state(name, (3,), normal) for name in "abc")
    moved, seen = gnn.scan(lambda h, v: (h * 0.5 + v, h), a, x)                     # starts from the old value
    fresh, _ = gnn.scan(lambda h, v: (h + v * b, None), gnn.zeros((3,)), x)         # reads the old value at each step
    other, _ = gnn.scan(lambda h, v: (h - v, None), gnn.ones((3,)), x)              # has nothing to do with it
    check(Graph.of("kept", [x], [seen, a, c], updates=[(a, moved), (b, fresh), (c, other)]), rand(5, 3))


def test_integer_and_bool_carries_and_constants_of_the_body() -> None:
    x = placeholder("x", "i64[T,2]")

    def step(carry: tuple[Value, ...], v: Value) -> tuple[tuple[Value, ...], Value]:
        count, most, odd = carry
        most = gnn.maximum(most, v)
        return (count + 1, most, gnn.logical_or(odd, gnn.equal(v, 3))), most + gnn.constant(np.array([10, 20]))

    (count, most, odd), ys = gnn.scan(
        step, (gnn.constant(0), x[0], gnn.equal(x[0], 3)), x)
    graph = Graph.of("kinds", [x], [count, most, odd, ys])
    given = np.array([[1, 5], [4, 2], [2, 3]])
    check(graph, given)
    assert [a.tolist() for a in gnn.compile(graph)(given)] == [3, [4, 5], [False, True], [[11, 25], [14, 25], [14, 25]]]


def test_work_in_the_body_that_is_large_enough_for_threads() -> None:
    x, w = placeholder("x", "f32[T,N,150]"), parameter("w", (150, 150), normal)
    last, ys = gnn.scan(lambda h, v: ((n := gnn.tanh((h @ w) * 0.2 + v)), gnn.sum(n, 0)), x[0], x)
    loss = gnn.mean(last * last) + gnn.mean(ys)
    (grad,) = gnn.gradients(loss, [w])
    graph = Graph.of("large", [x], [loss, ys], updates=[(w, w - 0.1 * grad)])
    given = rand(4, 130, 150)
    found = []
    try:
        for count in (1, 2, 3, 4):
            gnn.set_threads(count)
            exe = gnn.compile(graph)
            exe(given)
            found.append(bits(exe(given), exe))
    finally:
        gnn.set_threads(None)
    assert found[1:] == found[:1] * 3


def test_a_failure_inside_of_a_loop_names_the_op_and_the_line() -> None:
    """The ids follow from the carry, so that no pass can check them before the loop."""
    steps, table = placeholder("steps", "i64[T]"), parameter("table", (4, 2), zeros)

    def step(at: Value, by: Value) -> tuple[Value, Value]:
        at = at + by
        return at, gnn.gather(table, at)

    _, found = gnn.scan(step, gnn.constant(0), steps)
    exe = gnn.compile(Graph.of("walk", [steps], [found]))
    assert "scan" in [node.op.name for node in exe.graph.nodes]
    exe(np.array([0, 3, -1]))
    for bad in ([0, 4], [-1], [1, 1, 1, 7, 1]):
        with pytest.raises(gnn.errors.NumericsError, match="check_index: an id lies outside") as caught:
            exe(np.array(bad))
        assert "test_scan_lowering.py" in "".join(caught.value.__notes__)
    exe(np.array([], np.int64))


def test_two_loops_that_share_one_body_have_scratch_of_their_own() -> None:
    """The body's sum is staged in scratch; where that lies differs, as one of the loops runs inside of another."""
    n = "f32[300,300]"
    h, w = placeholder("h", n), placeholder("w", n)
    shared = Scan(Graph.of("shared", [h, w], [gnn.tanh((h @ w) * 0.05) + gnn.mean(h * h)]), 1, 0, False, 3)
    a, k = placeholder("a", n), placeholder("k", n)
    p, q, r = (f(a) @ k * 0.05 for f in (gnn.cos, gnn.sin, gnn.tanh))       # live while the inner loop runs
    inner = shared.one(gnn.sin(p + q + r), k)
    outer = Graph.of("outer", [a, k], [gnn.sin(inner + p + q + r)])
    x, v = placeholder("x", n), placeholder("v", n)
    one = Scan(outer, 1, 0, False, 2).one(x, v)
    graph = Graph.of("twice", [x, v], [one, shared.one(one, v)])
    given = rand(300, 300), rand(300, 300, seed=1)
    exe, oracle = gnn.compile(graph, pipeline=lambda g: g), gnn.compile(graph, backend="numpy")
    for found, wanted in zip(exe(*given), oracle(*given), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert exe.plan.scratch > 0


@pytest.mark.parametrize(("batch", "width", "steps", "packs"), [(12, 40, 6, True), (20, 64, 5, True), (12, 40, 2, False),
                                                                (3, 40, 6, False)])
def test_a_matrix_that_many_steps_multiply_with_is_packed_once(batch: int, width: int, steps: int, packs: bool) -> None:
    x, w = placeholder("x", f"f32[T,N,{width}]"), placeholder("w", f"f32[{width},{width}]")
    last, _ = gnn.scan(lambda h, v: (gnn.tanh(h @ w + v), None), gnn.zeros(("N", width)), x)
    graph = Graph.of("rnn", [x, w], [last, *gnn.gradients(gnn.sum(last * last), [x, w])])
    given = rand(steps, batch, width), rand(width, width, seed=1) * 0.1
    check(graph, *given, unit=1e-4)
    exe = gnn.compile(graph)
    exe.prepare(*given)
    assert any(kernel.builder.endswith(":pack") for kernel in exe.plan.kernels) is packs
