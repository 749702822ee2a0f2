"""Recurrence: meaning, capture of values from outside, gradients to order two, what is kept, checkpoints, errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn.ir.ops  # noqa: F401  (fills the operators)
from graphnn.autodiff import check_gradients, gradients
from graphnn.errors import ShapeError
from graphnn.ir.graph import Graph, collect
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import functions, linalg, random, reduce, sizes
from graphnn.ir.ops.inputs import constant, parameter, placeholder
from graphnn.ir.ops.scan import Scan, scan
from graphnn.ir.verify import verify

RNG = np.random.default_rng(3)


def run(inputs, outputs, arrays):
    graph = Graph.of("g", inputs, outputs)
    verify(graph)
    return interpret(graph, arrays).outputs


def scans(outputs):
    return [node.op for node in collect(outputs) if isinstance(node.op, Scan)]


def rnn(h0, xs, w, b, **options):
    return scan(lambda h, x: (h1 := functions.tanh(x @ w + h @ w + b), h1), h0, xs, **options)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("steps", [0, 1, 6, 7])
def test_an_rnn_is_the_loop(reverse, checkpoint, steps):
    h0, xs, w, b = (placeholder(n, t) for n, t in (("h0", "f64[N,3]"), ("xs", "f64[T,N,3]"), ("w", "f64[3,3]"), ("b", "f64[3]")))
    h, hs = rnn(h0, xs, w, b, reverse=reverse, checkpoint=checkpoint)
    assert [str(v.type) for v in (h, hs)] == ["f64[N,3]", "f64[T,N,3]"]
    arrays = [RNG.normal(size=s) for s in ((2, 3), (steps, 2, 3), (3, 3), (3,))]
    last, stacked = run([h0, xs, w, b], [h, hs], arrays)
    state, expected = arrays[0], np.zeros((steps, 2, 3))
    for t in range(steps)[::-1 if reverse else 1]:
        state = expected[t] = np.tanh(arrays[1][t] @ arrays[2] + state @ arrays[2] + arrays[3])
    np.testing.assert_allclose(last, state)
    np.testing.assert_allclose(stacked, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", [0, 2])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_gradients_of_an_rnn_to_order_two(reverse, checkpoint, steps):
    arrays = [RNG.normal(size=s) * 0.5 for s in ((2, 2), (steps, 2, 2), (2, 2), (2,))]
    check_gradients(lambda h0, xs, w, b: rnn(h0, xs, w, b, reverse=reverse, checkpoint=checkpoint), arrays, order=2)


def test_gradients_of_an_lstm_with_two_carries():
    def lstm(h0, c0, xs, w, u):
        def step(state, x):
            h, c = state
            gates = x @ w + h @ u
            i, f, o, g = (gates[:, k * 2:(k + 1) * 2] for k in range(4))
            c = functions.sigmoid(f) * c + functions.sigmoid(i) * functions.tanh(g)
            h = functions.sigmoid(o) * functions.tanh(c)
            return (h, c), h
        (h, c), hs = scan(step, (h0, c0), xs)
        return [h, c, hs]
    check_gradients(lstm, [RNG.normal(size=s) * 0.5 for s in ((2, 2), (2, 2), (3, 2, 3), (3, 8), (2, 8))], order=2)


def test_several_sequences_and_no_carry():
    def f(a, b, k):
        (), (p, q) = scan(lambda _, x: ((), (x[0] * x[1] * k, functions.exp(x[1]))), (), (a, b))
        return [p, q]
    check_gradients(f, [RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2)), RNG.normal(size=(2,))], order=2)


def test_a_loop_without_sequences_over_a_symbolic_length():
    x, t = placeholder("x", "f64[3]"), placeholder("t", "f64[T]")
    last, none = scan(lambda c, _: (c * 2.0, None), x, length=t.shape[0])
    assert none is None
    (out,) = run([x, t], [last], [np.ones(3), np.zeros(5)])
    np.testing.assert_array_equal(out, [32.0] * 3)


def test_a_gradient_that_only_flows_through_a_later_carry():
    """c1 gets its cotangent from c0 of the step after, which alone reaches the result."""
    def f(a, b):
        (last, _), _ = scan(lambda c, _: ((c[0] * c[1], functions.sin(c[1])), None), (a, b), length=3)
        return last
    check_gradients(f, [RNG.normal(size=(2,)), RNG.normal(size=(2,))], order=2)


def test_integer_carries_and_sequences_have_no_gradient():
    a, ids = placeholder("a", "f64[3]"), placeholder("ids", "i64[T]")
    (total, count), _ = scan(lambda c, i: ((c[0] * a + a, c[1] + i), None), (a, constant(0, "i64")), ids)
    (d,) = gradients(reduce.sum(total), [a])
    out = run([a, ids], [total, count, d], [np.array([1.0, 2, 3]), np.array([4, 5])])
    np.testing.assert_allclose(out[0], [3, 14, 39])
    assert out[1] == 9
    np.testing.assert_allclose(out[2], [1 + 2 + 3, 3 * 4 + 2 * 2 + 1, 3 * 9 + 2 * 3 + 1])


def test_work_that_does_not_vary_is_captured_as_one_constant():
    w, x = parameter("w", (2, 2), dtype="f64"), placeholder("x", "f64[T,2]")
    big = linalg.matmul(w, w)
    last, _ = scan(lambda c, v: (c @ big * 0.5 + v, None), sizes.zeros((2,), "f64"), x)
    (op,) = scans([last])
    assert [v.name for v in op.body.inputs] == ["carry0", "x0", "k0"]
    assert sum(node.op.name == "matmul" for node in op.body.nodes) == 1
    assert last.node.inputs[2] is big or last.node.inputs[2] == big


def test_the_gradient_keeps_only_what_it_reads():
    """For h' = tanh(h @ w + x) that is h, for w, and h', for tanh: no sum, no product."""
    h0, xs, w = placeholder("h0", "f64[N,3]"), placeholder("xs", "f64[T,N,3]"), placeholder("w", "f64[3,3]")
    last, _ = scan(lambda h, x: (functions.tanh(h @ w + x), None), h0, xs)
    dh0, dw = gradients(reduce.sum(last), [h0, w])
    forward, longer, backward = sorted(scans([last, dh0, dw]), key=lambda op: (op.reverse, len(op.body.outputs)))
    assert len(forward.body.outputs) == 1
    assert {v.node.op.name for v in longer.body.outputs[1:]} == {"tanh", "input"}
    assert (backward.carries, backward.sequences, backward.reverse) == (2, 2, True)


def test_checkpoints_keep_the_carries_between_segments():
    h0, xs, w = placeholder("h0", "f64[2,3]"), placeholder("xs", "f64[12,2,3]"), placeholder("w", "f64[3,3]")
    last, _ = scan(lambda h, x: (functions.tanh(h @ w + x), None), h0, xs, checkpoint=4)
    (dw,) = gradients(reduce.sum(last), [w])
    stacks = [str(t) for node in collect([dw]) if isinstance(node.op, Scan) for t in node.types[node.op.carries:] if t.rank == 3]
    assert stacks == ["f64[3,2,3]"]                                         # three segments of four steps; nothing of twelve


def test_random_numbers_differ_from_step_to_step_and_not_between_ways_to_run():
    seed, step = constant(1, "i64"), constant(2, "i64")
    zero = sizes.zeros((), "f32")
    def draw(c, _):
        return c, random.random_uniform(seed, step, (4,), stream=3)
    _, plain = scan(draw, zero, length=6)
    _, again = scan(draw, zero, length=6, checkpoint=4)
    _, backwards = scan(draw, zero, length=6, reverse=True)
    a, b, c = run([], [plain, again, backwards], [])
    assert len(np.unique(a)) == 24
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    outside = random.random_uniform(seed, step, (4,), stream=3)             # a mask made outside is the same at each step
    _, same = scan(lambda c, _: (c, outside * (c + 1.0)), zero, length=3)
    (s,) = run([], [same], [])
    np.testing.assert_array_equal(s[0], s[2])


def test_scans_nest():
    def f(x, w):
        def outer(c, row):
            inner, _ = scan(lambda d, v: (functions.tanh(d * w + v * c), None), c, row)
            return inner, inner
        return scan(outer, w * 0.1, x)
    check_gradients(f, [RNG.normal(size=(3, 2, 2)), RNG.normal(size=(2,))], order=2)


def test_errors_say_what_is_wrong():
    h, xs = placeholder("h", "f32[N,3]"), placeholder("xs", "f32[T,N,3]")
    with pytest.raises(ShapeError, match=r"the carry 0 goes in as f32\[N,3\] and comes out as f32\[N\]"):
        scan(lambda c, x: (reduce.sum(c, 1), None), h, xs)
    with pytest.raises(ShapeError, match="T and U steps"):
        scan(lambda c, x: (c, None), h, (xs, placeholder("u", "f32[U,3]")))
    with pytest.raises(ShapeError, match="how many steps"):
        scan(lambda c, x: (c, None), h)
    with pytest.raises(ShapeError, match="returns"):
        scan(lambda c, x: c, h, xs)
    with pytest.raises(ShapeError, match="1 carries go in and 2 come out"):
        scan(lambda c, x: ((c, c), None), h, xs)
    with pytest.raises(ShapeError, match="no time axis"):
        scan(lambda c, x: (c, None), h, constant(1.0))
    with pytest.raises(ShapeError, match="checkpoint"):
        scan(lambda c, x: (c, None), h, xs, checkpoint=-1)
    with pytest.raises(ShapeError, match="give a value"):
        scan(lambda c, x: (c, None), 3.0, xs)
