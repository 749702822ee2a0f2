"""Gradients as values, and the check of gradients: that it passes what is right and names what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest

from graphnn.autodiff import check_gradients, gradients, training_graph
from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import casting, compare, functions, index, linalg, reduce, slicing, softmax
from graphnn.ir.ops.inputs import parameter, placeholder
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify
from tests.helpers import run


def test_the_gradient_of_a_sum_of_squares() -> None:
    x = placeholder("x", "f64[N]")
    (dx,) = gradients(reduce.sum(x * x), [x])
    assert dx.type == x.type
    assert run(dx, x=[1.0, -2.0]).tolist() == [2.0, -4.0]


def test_gradients_are_zeros_where_no_path_leads() -> None:
    x, y = placeholder("x", "f64[2]"), placeholder("y", "f32[N,3]")
    dx, dy = gradients(reduce.sum(x), [x, y])
    assert dy.type == y.type
    ones, zeros = run([dx, dy], y, y=np.ones((2, 3), np.float32))
    assert ones.tolist() == [1.0, 1.0]
    assert zeros.tolist() == [[0.0] * 3] * 2
    (zero,) = gradients(reduce.sum(x), [placeholder("s", "f64[]")])
    assert run(zero) == 0.0


def test_a_tensor_needs_its_cotangent() -> None:
    x, d = placeholder("x", "f64[3]"), placeholder("d", "f64[3]")
    with pytest.raises(ShapeError, match=r"differentiates a number, not f64\[3\]"):
        gradients(x * x, [x])
    with pytest.raises(ShapeError, match="d_of is"):
        gradients(x * x, [x], d[:2])
    (dx,) = gradients(x * x, [x], d)
    assert run(dx, x=[1.0, 2.0, 3.0], d=[1.0, 10.0, 100.0]).tolist() == [2.0, 40.0, 600.0]


def test_only_floats_have_gradients() -> None:
    x, i = placeholder("x", "f64[]"), placeholder("i", "i64[]")
    with pytest.raises(DTypeError, match="has no gradient"):
        gradients(i, [x])
    with pytest.raises(DTypeError, match="cannot differentiate by 'i'"):
        gradients(x, [i])


def test_gradients_by_values_in_the_middle() -> None:
    x = placeholder("x", "f64[]")
    h = functions.exp(x)
    dh, dx = gradients(h * h * 3.0, [h, x])
    assert run([dh, dx], x=0.0) == (6.0, 6.0)


def test_third_derivatives() -> None:
    x = placeholder("x", "f64[]")
    y = functions.sin(x) * x
    for _ in range(3):
        (y,) = gradients(y, [x])
    assert run(y, x=0.7) == pytest.approx(-3 * np.sin(0.7) - 0.7 * np.cos(0.7))      # (x sin x)''' = -3 sin x - x cos x


def test_the_penalty_of_a_gradients_norm() -> None:
    """The term of WGAN-GP: its gradient by the weights goes through a gradient by the inputs."""
    w, x = placeholder("w", "f64[4,3]"), placeholder("x", "f64[2,4]")

    def penalty(w: Value, x: Value) -> Value:
        score = reduce.sum(functions.tanh(linalg.matmul(x, w)))
        (dx,) = gradients(score, [x])
        return reduce.mean((reduce.norm(dx, 1) - 1.0) ** 2)

    rng = np.random.default_rng(0)
    check_gradients(penalty, [rng.normal(size=(4, 3)), rng.normal(size=(2, 4))])
    assert gradients(penalty(w, x), [w])[0].type == w.type


def test_a_training_step_is_one_graph() -> None:
    x, y = placeholder("x", "f64[N,2]"), placeholder("y", "f64[N]")
    w = parameter("w", (2,), dtype="f64")
    error = x @ w - y
    loss = reduce.mean(error * error)
    step = training_graph("step", [x, y], loss, [w], lambda ps, gs: [(p, p - 0.1 * g) for p, g in zip(ps, gs, strict=True)],
                          outputs=[error])
    verify(step)
    features, targets = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -4.0])
    result = interpret(step, {"x": features, "y": targets, "w": np.zeros(2)})
    assert result.outputs[0] == 10.0
    assert result.outputs[1].tolist() == [-2.0, 4.0]
    assert result.updates["w"] == pytest.approx([0.2, -0.4])


# ------------------------------------------------------------------------------------------------ the check

def test_a_network_of_many_ops_is_right_to_order_two() -> None:
    rng = np.random.default_rng(1)

    def network(x: Value, w: Value, b: Value, labels: Value) -> Value:
        h = functions.tanh(linalg.matmul(x, w) + b)
        log_p = softmax.log_softmax(slicing.concat([h, functions.sigmoid(h)], 1))
        picked = log_p * index.one_hot(labels, 6, "f64")
        return reduce.mean(reduce.sum(picked, 1)) + reduce.logsumexp(h) + reduce.variance(h)

    check_gradients(network, [rng.normal(size=(4, 5)), rng.normal(size=(5, 3)), rng.normal(size=3), np.array([0, 5, 2, 2])])


@dataclass(frozen=True)
class Wrong(Op):
    """x * x with a gradient that is right, or wrong at order one or two."""

    name = "wrong_for_a_test"
    fusion = Fusion.ELEMENTWISE
    at: int

    def infer(self, x: TensorType) -> Types:
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x * x

    def grad(self, node: Node, dy: Value) -> Cotangents:
        (x,) = node.inputs
        if self.at == 1:
            return (dy * x,)
        return (dy * 2.0 * (casting.stop_gradient(x) if self.at == 2 else x),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return ()


def test_a_wrong_gradient_is_named() -> None:
    x = np.array([[1.0, 2.0], [3.0, -4.0]])
    check_gradients(lambda a: Wrong(0).one(a), [x])
    with pytest.raises(NumericsError, match=r"the order-1 derivative by input 1 \(f64\[2,2\]\)"):
        check_gradients(lambda a, b: functions.exp(a * 0.1) + Wrong(1).one(b), [x, x])
    check_gradients(lambda a: Wrong(2).one(a), [x], order=1)
    with pytest.raises(NumericsError, match="the order-2 derivative by input 0"):
        check_gradients(lambda a: Wrong(2).one(a), [x])


def test_a_graph_with_several_outputs_and_integers_is_checked() -> None:
    x, ids = placeholder("x", "f64[4,2]"), placeholder("ids", "i64[3]")
    rows = index.gather(x, ids)
    graph = Graph.of("g", [x, ids], [rows * rows, reduce.sum(x), reduce.argmax(x)])
    check_gradients(graph, [np.random.default_rng(2).normal(size=(4, 2)), np.array([3, 3, 0])], order=3)


def test_a_check_of_nothing_is_refused() -> None:
    with pytest.raises(DTypeError, match="nothing of dtype float"):
        check_gradients(lambda i: i + 1, [np.array([1, 2])])
    with pytest.raises(DTypeError, match="nothing of dtype float"):
        check_gradients(lambda x: compare.less(x, 0.0), [np.array([1.0, 2.0])])
    with pytest.raises(DTypeError, match=r"output 0 is f32"):
        check_gradients(lambda x: casting.cast(x, "f32"), [np.array([1.0, 2.0])])
