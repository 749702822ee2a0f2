"""Values, nodes, graphs, locations: what is collected, what is refused, what errors say."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.errors import DTypeError, GraphnnError, ShapeError, VerifyError
from graphnn.ir.graph import Graph, Value, collect, role_of
from graphnn.ir.loc import at, scope
from graphnn.ir.op import Op
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state


def test_a_graph_collects_its_nodes_each_after_its_inputs() -> None:
    x, w = placeholder("x", "f32[N,3]"), parameter("w", (3, 2))
    h = x @ w
    y = h * h + h
    graph = Graph.of("g", [x], [y])
    assert [node.op.name for node in graph.nodes] == ["matmul", "mul", "add"]
    assert graph.inputs == (x, w)
    assert graph.by_role("param") == (w,)
    assert graph.input("w") == w
    assert graph.size_names == ("N",)
    assert [use.node.op.name for use in graph.uses[h]] == ["mul", "mul", "add"]
    assert [use.position for use in graph.uses[h]] == [0, 1, 1]


def test_inputs_come_in_the_order_user_inputs_params_states() -> None:
    count, w, x = state("count", ()), parameter("w", ()), placeholder("x", "f32[]")
    graph = Graph.of("g", [x], [x * count * w], updates={count: count + 1.0})
    assert [v.name for v in graph.inputs] == ["x", "w", "count"]
    assert graph.results == (*graph.outputs, graph.updates[0][1])


def test_an_updated_state_that_nothing_reads_is_an_input_too() -> None:
    s, x = state("s", ()), placeholder("x", "f32[]")
    assert Graph.of("g", [x], [], updates=[(s, x)]).inputs == (x, s)


def test_what_cannot_be_a_graph() -> None:
    x, y, s = placeholder("x", "f32[2]"), placeholder("y", "f32[2]"), state("s", ())
    with pytest.raises(VerifyError, match="reads the input 'y', which is not among its inputs: 'x'"):
        Graph.of("g", [x], [x + y])
    with pytest.raises(VerifyError, match="is no input"):
        Graph.of("g", [x, x + 1.0], [x])
    with pytest.raises(VerifyError, match="cannot name a graph"):
        Graph.of("no spaces", [x], [x])
    with pytest.raises(VerifyError, match="it is no param or state"):
        Graph.of("g", [x], [x], updates={x: x})
    with pytest.raises(VerifyError, match="has type"):
        Graph.of("g", [x], [x], updates={s: x})
    with pytest.raises(VerifyError, match="updated twice"):
        Graph.of("g", [x], [x], updates=[(s, s), (s, s + 1.0)])
    with pytest.raises(VerifyError, match="it has x"):
        Graph.of("g", [x], [x]).input("z")


def test_values_are_equal_by_identity() -> None:
    x = placeholder("x", "f32[2]")
    a, b = x + 1.0, x + 1.0
    assert a == Value(a.node, 0)
    assert a != b
    assert len({a, b, a}) == 2
    assert role_of(x) == "input"
    assert role_of(a) is None


def test_a_value_is_no_truth_value_and_no_sequence() -> None:
    x = placeholder("x", "f32[2]")
    with pytest.raises(VerifyError, match="where"):
        bool(x > 0.0)
    with pytest.raises(VerifyError, match="cannot iterate"):
        list(x)


def test_deep_graphs_do_not_meet_pythons_stack() -> None:
    x = y = placeholder("x", "f64[]")
    for _ in range(5000):
        y = y + 1.0
    assert len(Graph.of("deep", [x], [y]).nodes) == 10000
    assert collect([y])[0] is x.node


def test_locations_name_the_users_line_and_layer() -> None:
    x = placeholder("x", "f32[2]")
    with scope("classifier"), scope("head"):
        y = x + 1.0
    assert y.node.loc.scope == "classifier/head"
    assert y.node.loc.file == __file__
    assert y.node.loc.function == "test_locations_name_the_users_line_and_layer"
    with at(y.node.loc, backward=True):
        d = x * 2.0
    assert d.node.loc.backward
    assert d.node.loc.line == y.node.loc.line
    assert str(d.node.loc).endswith("classifier/head (backward)")


def test_an_error_says_what_where_and_what_to_do() -> None:
    x, w = placeholder("x", "f32[N,128]"), parameter("w", (64, 10))
    with scope("classifier/head"), pytest.raises(ShapeError) as caught:
        x @ w
    notes = "\n".join(caught.value.__notes__)
    assert str(caught.value) == "matmul: inner sizes differ: 128 on the left, 64 on the right"
    assert "operands  f32[N,128], f32[64,10]" in notes
    assert "layer     classifier/head" in notes
    assert f"called at {__file__}" in notes
    assert notes.endswith("hint      the right operand's first size must equal the left operand's last")


def test_an_operand_that_is_no_value() -> None:
    x = placeholder("x", "f32[2]")
    with pytest.raises(DTypeError, match="str is no operand"):
        x + "y"
    with pytest.raises(DTypeError, match="ndarray is no Value"):
        Op.registry["add"]()(x, np.zeros(2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match="does not take 1 operands"):
        Op.registry["add"]()(x)


def test_two_ops_of_one_name_are_refused() -> None:
    with pytest.raises(VerifyError, match="two ops are named 'add'"):
        class Mine(Op):
            name = "add"


def test_inputs_check_their_names_and_roles() -> None:
    for wrong in ("", "2x", "a b"):
        with pytest.raises(VerifyError, match="cannot name an input"):
            placeholder(wrong, "f32[]")
    with pytest.raises(VerifyError, match="role"):
        placeholder("x", "f32[]", "weight")


def test_constants_take_the_dtype_that_users_expect() -> None:
    assert str(constant(1.5).type) == "f32[]"
    assert str(constant([1, 2]).type) == "i64[2]"
    assert str(constant(np.zeros(3)).type) == "f64[3]"
    assert str(constant(True).type) == "bool[]"
    assert str(constant(1, "f64").type) == "f64[]"
    with pytest.raises(GraphnnError):
        constant("text")
    with pytest.raises(GraphnnError):
        constant(object())


def test_a_constant_does_not_see_later_writes() -> None:
    a = np.zeros(2)
    c = constant(a)
    a[0] = 7
    assert c.node.op.value.data[0] == 0  # pyright: ignore[reportAttributeAccessIssue]
