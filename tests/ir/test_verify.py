"""The verifier: each way in which a graph can be ill formed is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphnn.errors import VerifyError
from graphnn.ir.graph import Graph, Node
from graphnn.ir.ops import functions
from graphnn.ir.ops.arithmetic import Add
from graphnn.ir.ops.fused import Fused
from graphnn.ir.ops.inputs import placeholder, state
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify

X = placeholder("x", "f32[N,3]")
Y = functions.exp(X)
Z = functions.tanh(Y)
GOOD = Graph.of("good", [X], [Z])


def test_a_good_graph_verifies() -> None:
    verify(GOOD)


def test_a_value_read_before_it_is_made() -> None:
    with pytest.raises(VerifyError, match="tanh reads a f32\\[N,3\\] of exp before it is made"):
        verify(replace(GOOD, nodes=GOOD.nodes[::-1]))


def test_a_node_that_stands_twice() -> None:
    with pytest.raises(VerifyError, match="exp stands twice"):
        verify(replace(GOOD, nodes=(GOOD.nodes[0], *GOOD.nodes)))


def test_a_result_that_is_not_made() -> None:
    with pytest.raises(VerifyError, match="is not made"):
        verify(replace(GOOD, nodes=GOOD.nodes[:1]))


def test_a_type_that_the_rule_does_not_give() -> None:
    lying = Node(Add(), (X, X), (TensorType.parse("f32[N,4]"),), Y.node.loc)
    with pytest.raises(VerifyError, match="its rule gives"):
        verify(Graph("lying", (X,), lying.outputs, (lying,)))


def test_a_rule_that_refuses_the_operands() -> None:
    other = placeholder("other", "i64[3]")
    wrong = Node(Add(), (X, other), (X.type,), Y.node.loc)
    with pytest.raises(VerifyError, match="dtypes differ"):
        verify(Graph("wrong", (X, other), wrong.outputs, (wrong,)))


def test_two_inputs_of_one_name() -> None:
    twin = placeholder("x", "f32[2]")
    with pytest.raises(VerifyError, match="two inputs are named 'x'"):
        verify(Graph.of("twins", [X, twin], [Y]))


def test_an_input_that_is_none() -> None:
    with pytest.raises(VerifyError, match="is made by exp"):
        verify(Graph("g", (Y,), (Y,), ()))
    with pytest.raises(VerifyError, match="stands among the nodes"):
        verify(Graph("g", (), (X,), (X.node,)))


def test_updates_that_do_not_fit() -> None:
    s = state("s", ())
    for updates in (((X, X),), ((s, X),), ((s, s), (s, s))):
        with pytest.raises(VerifyError, match="updated"):
            verify(Graph("g", (X, s), (), (), updates))


def test_bodies_are_verified_too() -> None:
    body = replace(GOOD, nodes=GOOD.nodes[:1], name="body")
    fused = Node(Fused(body), (X,), (Z.type,), Y.node.loc)
    with pytest.raises(VerifyError, match="body: the result"):
        verify(Graph("outer", (X,), fused.outputs, (fused,)))
