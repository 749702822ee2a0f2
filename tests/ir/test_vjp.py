"""The backward walk: which cotangents reach which values."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.graph import Graph
from graphnn.ir.ops import casting, functions, reduce
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.ir.ops.slicing import split
from graphnn.ir.vjp import vjp
from tests.helpers import run

ONE = constant(1.0, "f64")


def test_paths_that_meet_are_added() -> None:
    x = placeholder("x", "f64[]")
    (dx,) = vjp([x * x + 3.0 * x], [ONE], [x])
    assert dx is not None
    assert run(dx, x=2.0) == 7.0


def test_no_path_gives_none() -> None:
    x, y = placeholder("x", "f64[]"), placeholder("y", "f64[]")
    assert vjp([x * 2.0], [ONE], [y]) == (None,)
    assert vjp([x * 2.0], [None], [x]) == (None,)
    assert vjp([casting.stop_gradient(x)], [ONE], [x]) == (None,)
    assert vjp([functions.sign(x)], [ONE], [x]) == (None,)


def test_a_value_by_itself_and_by_what_it_leads_to() -> None:
    x = placeholder("x", "f64[]")
    h = functions.exp(x)
    dx, dh = vjp([h * h], [ONE], [x, h])
    assert dx is not None
    assert dh is not None
    assert run([dx, dh], x=0.0) == (2.0, 2.0)
    assert vjp([h], [ONE], [h]) == (ONE,)


def test_outputs_of_one_node_that_are_not_used_count_as_zero() -> None:
    x = placeholder("x", "f64[3]")
    a, _, c = split(x, 3)
    (dx,) = vjp([reduce.sum(a * 2.0 + c * 5.0)], [ONE], [x])
    assert dx is not None
    assert run(dx, x=np.zeros(3)).tolist() == [2.0, 0.0, 5.0]


def test_several_outputs_bring_their_cotangents_together() -> None:
    x, d = placeholder("x", "f64[2]"), placeholder("d", "f64[2]")
    (dx,) = vjp([x * 2.0, x * 3.0, x], [d, d, None], [x])
    assert dx is not None
    assert run(dx, d=[1.0, 10.0]).tolist() == [5.0, 50.0]


def test_backward_nodes_name_the_forward_line() -> None:
    x = placeholder("x", "f64[]")
    y = functions.tanh(x)
    (dx,) = vjp([y], [ONE], [x])
    assert dx is not None
    made = [n for n in Graph.of("g", [x], [dx]).nodes if n.loc.backward]
    assert made
    assert {n.loc.line for n in made} == {y.node.loc.line}


def test_a_cotangent_of_another_type_is_a_bug_of_ours() -> None:
    x = placeholder("x", "f64[2]")
    with pytest.raises(AssertionError, match="cotangent"):
        vjp([x * 2.0], [ONE], [x])
