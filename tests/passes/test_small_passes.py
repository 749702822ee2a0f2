"""Dead code, common subexpressions, constant folding and opened composites."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn import ir
from graphnn.ir.graph import Graph
from graphnn.ir.ops import index, random, reduce, shaping, sizes, slicing, softmax
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.ir.ops.scan import scan
from graphnn.ir.types import DType
from graphnn.passes.common_subexpressions import common_subexpressions
from graphnn.passes.dead_code import dead_code
from graphnn.passes.fold_constants import fold_constants
from graphnn.passes.open_composites import open_composites
from tests.passes.pictures import assert_becomes, assert_same_numbers, assert_stays, graph, ops, text

X = "%x: f32[N,4], %y: f32[N,4]"


# ------------------------------------------------------------------------------------------------ dead code


def test_what_no_result_needs_disappears_and_inputs_stay() -> None:
    before = graph(X, """
        %0 = tanh(%x) : f32[N,4]
        %1 = exp(%y) : f32[N,4]
        %2 = add(%1, %0) : f32[N,4]
        return %0""")
    unchanged = Graph(before.name, before.inputs, before.outputs, before.nodes)
    assert ops(dead_code(unchanged)) == ["tanh"]
    assert [value.name for value in dead_code(unchanged).inputs] == ["x", "y"]


def test_updates_are_results() -> None:
    assert_stays(dead_code, "%x: f32[4], state %s: f32[4]", """
        %0 = add(%s, %x) : f32[4]
        return %x
        update %s = %0""")


# ------------------------------------------------------------------------------------------------ common subexpressions


def test_equal_things_are_computed_once() -> None:
    assert_becomes(common_subexpressions, X, """
        %0 = add(%x, %y) : f32[N,4]
        %1 = tanh(%0) : f32[N,4]
        %2 = add(%y, %x) : f32[N,4]
        %3 = tanh(%2) : f32[N,4]
        %4 = sub(%1, %3) : f32[N,4]
        %5 = sub(%x, %y) : f32[N,4]
        %6 = sub(%y, %x) : f32[N,4]
        return %4, %5, %6""", """
        %0 = add(%x, %y) : f32[N,4]
        %1 = tanh(%0) : f32[N,4]
        %2 = sub(%1, %1) : f32[N,4]
        %3 = sub(%x, %y) : f32[N,4]
        %4 = sub(%y, %x) : f32[N,4]
        return %2, %3, %4""", exact=True)


def test_attributes_count() -> None:
    assert_stays(common_subexpressions, X, """
        %0 = sum(%x) {axes=(0,), keepdims=false} : f32[4]
        %1 = sum(%x) {axes=(0,), keepdims=true} : f32[1,4]
        return %0, %1""")


def test_zeros_of_either_sign_and_equal_numbers_of_other_types_stay_apart() -> None:
    x = placeholder("x", "f32[N]")
    pads = [slicing.pad(x, [(1, 0)], value) for value in (0.0, -0.0)]
    numbers = [constant(value) for value in (0.0, -0.0, 1, True, np.float64(1.0))]
    after = common_subexpressions(Graph.of("g", [x], [*pads, *numbers]))
    assert len(after.nodes) == 7


def test_random_numbers_are_shared_by_stream_alone() -> None:
    seed, step = placeholder("seed", "i64[]"), placeholder("step", "i64[]")
    draws = [random.RandomUniform((4,), stream, DType.f32).one(seed, step) for stream in (1, 1, 2)]
    after = common_subexpressions(Graph.of("g", [seed, step], draws))
    assert len(after.nodes) == 2
    assert after.outputs[0] == after.outputs[1] != after.outputs[2]


def test_bodies_are_compared_by_what_they_compute() -> None:
    xs = placeholder("xs", "f32[T,N]")
    first = [scan(lambda h, x: (ir.tanh(h + x), None), xs[0], xs)[0] for _ in range(2)]
    other, _ = scan(lambda h, x: (ir.sin(h + x), None), xs[0], xs)
    before = Graph.of("g", [xs], [*first, other])
    after = common_subexpressions(before)
    assert ops(after).count("scan") == 2
    assert_same_numbers(after, before, exact=True)


# ------------------------------------------------------------------------------------------------ constants


def test_what_depends_on_constants_alone_is_computed_now() -> None:
    assert_becomes(fold_constants, "%x: f32[N,2]", """
        %a = constant() {value=array f32[2] (1.0, 3.0)} : f32[2]
        %b = constant() {value=array f32[] (2.0)} : f32[]
        %0 = mul(%a, %b) : f32[2]
        %1 = sum(%0) {axes=(0,), keepdims=false} : f32[]
        %2 = add(%x, %0) : f32[N,2]
        %3 = add(%2, %1) : f32[N,2]
        return %3""", """
        %0 = constant() {value=array f32[2] (2.0, 6.0)} : f32[2]
        %1 = add(%x, %0) : f32[N,2]
        %2 = constant() {value=array f32[] (8.0)} : f32[]
        %3 = add(%1, %2) : f32[N,2]
        return %3""", exact=True)


def test_a_small_thing_is_not_blown_up_but_what_is_small_again_is_folded() -> None:
    wide = shaping.expand(constant(2.0), (1000, 1000))
    assert ops(fold_constants(Graph.of("g", [], [wide * 1.5]))) == ["expand", "mul"]
    small = reduce.sum(shaping.expand(constant(2.0), (10, 10)) * 1.5)
    (node,) = fold_constants(Graph.of("g", [], [small])).nodes
    assert node.op.name == "constant"
    assert node.op.numpy() == 300.0


def test_symbolic_sizes_random_numbers_and_range_checks_stay() -> None:
    seed = constant(np.int64(3))
    values = [sizes.size_of(placeholder("x", "f32[N]").shape[0]) + 1,
              random.RandomUniform((4,), 5, DType.f32).one(seed, seed),
              index.check_index(constant(np.int64(9)), 4)]
    before = Graph.of("g", [placeholder("x", "f32[N]")], values)
    assert fold_constants(before) is before


# ------------------------------------------------------------------------------------------------ composites


def test_softmax_alone_stays_and_beside_elementwise_work_opens() -> None:
    x = placeholder("x", "f32[N,6]")
    alone = Graph.of("g", [x], [softmax.softmax(x)])
    assert open_composites(alone) is alone
    before = Graph.of("g", [x], [softmax.softmax(x * 2.0), softmax.log_softmax(x) * 2.0])
    after = open_composites(before)
    assert not {"softmax", "log_softmax"} & set(ops(after))
    assert_same_numbers(after, before)


def test_a_one_hot_that_only_feeds_elementwise_work_is_a_comparison() -> None:
    x, ids = placeholder("x", "f32[N,3]"), placeholder("ids", "i64[N]")
    before = Graph.of("g", [x, ids], [index.one_hot(ids, 3) * x])
    after = open_composites(before)
    assert ops(after) == ["check_index", "reshape", "iota", "equal", "cast", "mul"]
    assert_same_numbers(after, before, exact=True)
    fed = Graph.of("g", [x, ids], [index.one_hot(ids, 3), index.one_hot(ids, 3) @ x.T])
    assert ops(open_composites(fed)).count("one_hot") == 2


@pytest.mark.parametrize("keepdims", [False, True])
def test_a_sum_over_more_axes_than_the_reduction_above_it_is_taken_in_two_steps(keepdims: bool) -> None:
    x = placeholder("x", "f64[N,6]")
    before = Graph.of("g", [x], [reduce.sum(x - reduce.max(x, 1, keepdims=True), keepdims=keepdims)])
    after = open_composites(before)
    assert ops(after)[:3] == ["max", "sub", "sum"]
    assert_same_numbers(after, before)
    assert text(open_composites(after)) == text(after)
