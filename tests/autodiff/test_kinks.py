"""Derivatives where finite differences do not apply: at kinks, ties, zeros and infinities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphnn.autodiff import gradients
from graphnn.ir.graph import Value
from graphnn.ir.ops import arithmetic, composed, functions, reduce, softmax
from graphnn.ir.ops.inputs import placeholder
from tests.helpers import run

INF, NAN = np.inf, np.nan


def derivative(f: Callable[[Value], Value], at: object, order: int = 1) -> list[float]:
    """The order-th derivative of sum(f(x)) by each element of x."""
    x = placeholder("x", f"f64[{len(np.asarray(at))}]")
    y = reduce.sum(f(x))
    for k in range(order):
        (dx,) = gradients(y, [x])
        y = reduce.sum(dx) if k + 1 < order else dx
    return run(y, x=np.asarray(at, np.float64)).tolist()


def test_relu_and_abs_have_derivative_0_at_0() -> None:
    assert derivative(functions.relu, [-1.0, 0.0, -0.0, 2.0, INF]) == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert derivative(functions.abs, [-1.0, 0.0, 2.0]) == [-1.0, 0.0, 1.0]


def test_two_that_tie_get_half_each() -> None:
    a, b = placeholder("a", "f64[3]"), placeholder("b", "f64[3]")
    rising, falling = [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]
    for f, da, db in ((arithmetic.maximum, rising, falling), (arithmetic.minimum, falling, rising)):
        got = run(gradients(reduce.sum(f(a, b)), [a, b]), a=[1.0, 2.0, 3.0], b=[2.0, 2.0, 2.0])
        assert got[0].tolist() == da
        assert got[1].tolist() == db


@pytest.mark.parametrize("f", [reduce.max, lambda x: -reduce.min(-x)])
def test_elements_that_tie_share_equally(f: Callable[[Value], Value]) -> None:
    assert derivative(f, [1.0, 3.0, 3.0, 0.0, 3.0]) == pytest.approx([0.0, 1 / 3, 1 / 3, 0.0, 1 / 3])


def test_clip_passes_the_ends() -> None:
    assert derivative(lambda x: composed.clip(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert derivative(lambda x: composed.clip(x, high=1.0), [-2.0, 2.0]) == [1.0, 0.0]


BASES = [-2.0, -1.0, 0.0, 0.5, 3.0]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0, -2.0])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_powers_of_any_base(exponent: float, as_tensor: bool) -> None:
    bases = [b for b in BASES if b or exponent >= 0]

    def f(x: Value) -> Value:
        return arithmetic.Pow().one(x, x * 0.0 + exponent) if as_tensor else x ** exponent

    with np.errstate(all="ignore"):
        x = np.array(bases)
        first = exponent * x ** (exponent - 1) if exponent else x * 0
        second = exponent * (exponent - 1) * x ** (exponent - 2) if exponent not in (0.0, 1.0) else x * 0
    if not as_tensor:
        assert derivative(f, bases) == pytest.approx(first.tolist())
        assert derivative(f, bases, 2) == pytest.approx(second.tolist())
    else:
        assert derivative(f, bases) == pytest.approx(first.tolist())


def test_powers_by_the_exponent() -> None:
    a, b = placeholder("a", "f64[5]"), placeholder("b", "f64[5]")
    (db,) = gradients(reduce.sum(a ** b), [b])
    assert run(db, a=[2.0, 0.0, 0.0, -2.0, 1.0], b=[3.0, 2.0, 0.0, 2.0, 5.0]) == pytest.approx([8 * np.log(2), 0, 0, 0, 0])


def test_mixed_second_derivative_of_a_power_at_exponent_0() -> None:
    a, b = placeholder("a", "f64[]"), placeholder("b", "f64[]")
    (da,) = gradients(a ** b, [a])
    (dadb,) = gradients(da, [b])
    assert run(dadb, a=4.0, b=0.0) == 0.25
    (daa,) = gradients(da, [a])
    assert run([da, daa], a=0.0, b=0.0) == (0.0, 0.0)
    assert run([da, daa], a=0.0, b=1.0) == (1.0, 0.0)
    assert run([da, daa], a=0.0, b=2.0) == (0.0, 2.0)


def test_products_with_zeros() -> None:
    assert derivative(reduce.prod, [2.0, 0.0, 3.0]) == [0.0, 6.0, 0.0]
    assert derivative(reduce.prod, [0.0, 0.0, 3.0]) == [0.0, 0.0, 0.0]
    assert derivative(reduce.prod, [0.0, 0.0, 3.0], 2) == [3.0, 3.0, 0.0]     # sum over j of the product of the others


def test_softplus_is_smooth_at_0_and_linear_far_out() -> None:
    assert derivative(composed.softplus, [-800.0, 0.0, 50.0, 800.0]) == [0.0, 0.5, 1.0, 1.0]
    assert derivative(composed.softplus, [0.0], 2) == [0.25]
    assert derivative(composed.log_sigmoid, [-800.0, 0.0, 800.0]) == [1.0, 0.5, 0.0]


def test_a_length_has_derivative_0_at_0() -> None:
    assert derivative(reduce.norm, [0.0, 0.0]) == [0.0, 0.0]
    assert derivative(reduce.norm, [3.0, 4.0]) == pytest.approx([0.6, 0.8])


def test_logsumexp_of_infinities() -> None:
    x = placeholder("x", "f64[2]")
    y = reduce.logsumexp(x)
    assert run(y, x=[-INF, -INF]) == -INF
    assert run(y, x=[INF, 0.0]) == INF
    assert run(y, x=[1000.0, 1000.0]) == pytest.approx(1000 + np.log(2))
    assert derivative(reduce.logsumexp, [-INF, -INF]) == [0.0, 0.0]
    assert derivative(reduce.logsumexp, [-INF, 0.0]) == [0.0, 1.0]


def test_softmax_far_out() -> None:
    assert derivative(lambda x: softmax.log_softmax(x)[0], [1e4, 0.0]) == [0.0, 0.0]
    assert derivative(lambda x: softmax.softmax(x)[0], [-INF, 0.0, 0.0]) == [0.0, 0.0, 0.0]


def test_sigmoid_and_tanh_far_out() -> None:
    assert derivative(functions.sigmoid, [-1000.0, 1000.0]) == [0.0, 0.0]
    assert derivative(functions.tanh, [-1000.0, 1000.0]) == [0.0, 0.0]


def test_a_mean_over_a_symbolic_axis() -> None:
    x = placeholder("x", "f64[N,2]")
    (dx,) = gradients(reduce.mean(x), [x])
    assert run(dx, x, x=np.zeros((3, 2))).tolist() == [[1 / 6] * 2] * 3
