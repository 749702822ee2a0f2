"""simplify: each rule as a picture, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn import ir
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops.inputs import placeholder
from graphnn.passes.simplify import TABLE, simplify
from tests.passes.pictures import assert_becomes, assert_stays

X = "%x: f32[N,4], %y: f32[N,4]"


@pytest.mark.parametrize("c", ["0.0", "-0.0"])
def test_adding_zero_does_nothing(c: str) -> None:
    assert_becomes(simplify, X, f"""
        %c = constant() {{value=array f32[] ({c})}} : f32[]
        %0 = add(%x, %c) : f32[N,4]
        %1 = add(%c, %0) : f32[N,4]
        %2 = sub(%1, %c) : f32[N,4]
        return %2""", "return %x")


def test_zero_minus_x_is_minus_x() -> None:
    assert_becomes(simplify, X, """
        %c = constant() {value=array f32[] (0.0)} : f32[]
        %0 = sub(%c, %x) : f32[N,4]
        return %0""", """
        %0 = neg(%x) : f32[N,4]
        return %0""")


def test_multiplying_by_one_or_minus_one_is_no_multiplication() -> None:
    assert_becomes(simplify, X, """
        %one = constant() {value=array f32[] (1.0)} : f32[]
        %minus = constant() {value=array f32[] (-1.0)} : f32[]
        %0 = mul(%x, %one) : f32[N,4]
        %1 = mul(%minus, %0) : f32[N,4]
        %2 = div(%1, %one) : f32[N,4]
        return %2""", """
        %0 = neg(%x) : f32[N,4]
        return %0""", exact=True)


def test_dividing_by_a_power_of_two_is_a_multiplication() -> None:
    assert_becomes(simplify, X, """
        %c = constant() {value=array f32[] (8.0)} : f32[]
        %0 = div(%x, %c) : f32[N,4]
        return %0""", """
        %c = constant() {value=array f32[] (0.125)} : f32[]
        %0 = mul(%x, %c) : f32[N,4]
        return %0""", exact=True)


def test_dividing_by_another_number_stays_since_its_inverse_is_rounded() -> None:
    assert_stays(simplify, X, """
        %c = constant() {value=array f32[] (3.0)} : f32[]
        %0 = div(%x, %c) : f32[N,4]
        return %0""")


def test_nothing_that_would_lose_a_nan_is_done() -> None:
    assert_stays(simplify, X, """
        %c = constant() {value=array f32[] (0.0)} : f32[]
        %0 = mul(%x, %c) : f32[N,4]
        %1 = sub(%x, %x) : f32[N,4]
        %2 = div(%x, %x) : f32[N,4]
        return %0, %1, %2""")


def test_two_roundings_are_not_made_one() -> None:
    assert_stays(simplify, X, """
        %a = constant() {value=array f32[] (2.5)} : f32[]
        %0 = mul(%x, %a) : f32[N,4]
        %b = constant() {value=array f32[] (3.0)} : f32[]
        %1 = mul(%0, %b) : f32[N,4]
        return %1""")


def test_signs_cancel() -> None:
    assert_becomes(simplify, X, """
        %0 = neg(%x) : f32[N,4]
        %1 = neg(%0) : f32[N,4]
        %2 = neg(%y) : f32[N,4]
        %3 = sub(%1, %2) : f32[N,4]
        %4 = add(%3, %2) : f32[N,4]
        %5 = mul(%0, %2) : f32[N,4]
        %6 = abs(%0) : f32[N,4]
        return %4, %5, %6""", """
        %0 = add(%x, %y) : f32[N,4]
        %1 = sub(%0, %y) : f32[N,4]
        %2 = mul(%x, %y) : f32[N,4]
        %3 = abs(%x) : f32[N,4]
        return %1, %2, %3""", exact=True)


def test_minus_a_difference_is_the_other_difference() -> None:
    assert_becomes(simplify, X, """
        %0 = sub(%x, %y) : f32[N,4]
        %1 = neg(%0) : f32[N,4]
        return %1""", """
        %0 = sub(%y, %x) : f32[N,4]
        return %0""", exact=True)


def test_squares_are_products_and_first_powers_nothing() -> None:
    assert_becomes(simplify, X, """
        %one = constant() {value=array f32[] (1.0)} : f32[]
        %two = constant() {value=array f32[] (2.0)} : f32[]
        %0 = pow(%x, %one) : f32[N,4]
        %1 = pow(%0, %two) : f32[N,4]
        return %1""", """
        %0 = mul(%x, %x) : f32[N,4]
        return %0""")


def test_known_conditions_choose_now() -> None:
    assert_becomes(simplify, X, """
        %t = constant() {value=array bool[] (true)} : bool[]
        %0 = where(%t, %x, %y) : f32[N,4]
        %1 = less(%x, %y) : bool[N,4]
        %2 = logical_not(%1) : bool[N,4]
        %3 = logical_and(%2, %t) : bool[N,4]
        %4 = where(%3, %0, %y) : f32[N,4]
        %5 = where(%3, %x, %x) : f32[N,4]
        %6 = logical_not(%3) : bool[N,4]
        return %4, %5, %6""", """
        %0 = less(%x, %y) : bool[N,4]
        %1 = where(%0, %y, %x) : f32[N,4]
        return %1, %x, %0""", exact=True)


def test_casts_that_lose_nothing_disappear_and_others_stay() -> None:
    assert_becomes(simplify, "%x: f32[N], %i: i64[N]", """
        %0 = cast(%x) {dtype=f64} : f64[N]
        %1 = cast(%0) {dtype=f32} : f32[N]
        %2 = cast(%i) {dtype=f32} : f32[N]
        %3 = cast(%2) {dtype=i64} : i64[N]
        return %1, %3""", """
        %0 = cast(%i) {dtype=f32} : f32[N]
        %1 = cast(%0) {dtype=i64} : i64[N]
        return %x, %1""", exact=True)


def test_stretched_operands_of_elementwise_ops_are_not_stretched() -> None:
    assert_becomes(simplify, "%x: f32[N,4], %b: f32[4]", """
        %0 = expand(%b) {shape=(N, 4)} : f32[N,4]
        %1 = add(%x, %0) : f32[N,4]
        %2 = reshape(%b) {shape=(1, 4)} : f32[1,4]
        %3 = mul(%1, %2) : f32[N,4]
        return %3""", """
        %0 = add(%x, %b) : f32[N,4]
        %1 = mul(%0, %b) : f32[N,4]
        return %1""", exact=True)


def test_when_all_operands_are_stretched_the_result_is() -> None:
    assert_becomes(simplify, "%a: f32[4], %b: f32[4], %x: f32[N,4]", """
        %0 = expand(%a) {shape=(N, 4)} : f32[N,4]
        %1 = expand(%b) {shape=(N, 4)} : f32[N,4]
        %2 = mul(%0, %1) : f32[N,4]
        %3 = tanh(%2) : f32[N,4]
        return %3""", """
        %0 = mul(%a, %b) : f32[4]
        %1 = tanh(%0) : f32[4]
        %2 = expand(%1) {shape=(N, 4)} : f32[N,4]
        return %2""", exact=True)


def test_views_merge() -> None:
    assert_becomes(simplify, "%x: f32[N,6]", """
        %0 = reshape(%x) {shape=(N, 2, 3)} : f32[N,2,3]
        %1 = reshape(%0) {shape=(N, 3, 2)} : f32[N,3,2]
        %2 = transpose(%1) {perm=(1, 2, 0)} : f32[3,2,N]
        %3 = transpose(%2) {perm=(2, 0, 1)} : f32[N,3,2]
        %4 = flip(%3) {axes=(1,)} : f32[N,3,2]
        %5 = flip(%4) {axes=(1,)} : f32[N,3,2]
        return %5""", """
        %0 = reshape(%x) {shape=(N, 3, 2)} : f32[N,3,2]
        return %0""", exact=True)


def test_a_transpose_of_axes_of_size_one_is_a_reshape() -> None:
    assert_becomes(simplify, "%x: f32[N,1,4]", """
        %0 = transpose(%x) {perm=(1, 0, 2)} : f32[1,N,4]
        return %0""", """
        %0 = reshape(%x) {shape=(1, N, 4)} : f32[1,N,4]
        return %0""", exact=True)


def test_transposed_operands_become_flags() -> None:
    assert_becomes(simplify, "%x: f32[4,N], %w: f32[3,4]", """
        %0 = transpose(%x) {perm=(1, 0)} : f32[N,4]
        %1 = transpose(%w) {perm=(1, 0)} : f32[4,3]
        %2 = matmul(%0, %1) {transpose_a=false, transpose_b=false} : f32[N,3]
        return %2""", """
        %0 = matmul(%x, %w) {transpose_a=true, transpose_b=true} : f32[N,3]
        return %0""")


def test_the_sum_over_a_stretched_axis_is_a_product() -> None:
    assert_becomes(simplify, "%b: f32[4]", """
        %0 = expand(%b) {shape=(7, 4)} : f32[7,4]
        %1 = sum(%0) {axes=(0,), keepdims=false} : f32[4]
        return %1""", """
        %c = constant() {value=array f32[] (7.0)} : f32[]
        %0 = mul(%b, %c) : f32[4]
        return %0""")


def test_a_reshape_after_a_reduction_is_keepdims() -> None:
    assert_becomes(simplify, "%x: f32[N,4]", """
        %0 = sum(%x) {axes=(1,), keepdims=false} : f32[N]
        %1 = reshape(%0) {shape=(N, 1)} : f32[N,1]
        return %1""", """
        %0 = sum(%x) {axes=(1,), keepdims=true} : f32[N,1]
        return %0""", exact=True)


def test_pieces_of_a_whole_are_the_whole() -> None:
    assert_becomes(simplify, "%x: f32[N,6]", """
        %0, %1 = split(%x) {axis=1, sizes=(2, 4)} : f32[N,2], f32[N,4]
        %2 = concat(%0, %1) {axis=1} : f32[N,6]
        %3 = slice(%2) {starts=(0, 0), stops=(N, 3), steps=(1, 1)} : f32[N,3]
        %4 = slice(%2) {starts=(0, 3), stops=(N, 6), steps=(1, 1)} : f32[N,3]
        %5 = concat(%3, %4) {axis=1} : f32[N,6]
        return %5""", "return %x", exact=True)


def test_a_slice_within_one_part_of_a_concat_reads_that_part() -> None:
    assert_becomes(simplify, "%x: f32[N,4], %y: f32[N,2]", """
        %0 = concat(%x, %y) {axis=1} : f32[N,6]
        %1 = slice(%0) {starts=(0, 4), stops=(N, 6), steps=(1, 1)} : f32[N,2]
        %2 = slice(%0) {starts=(0, 1), stops=(N, 3), steps=(1, 1)} : f32[N,2]
        return %1, %2""", """
        %0 = slice(%x) {starts=(0, 1), stops=(N, 3), steps=(1, 1)} : f32[N,2]
        return %y, %0""", exact=True)


def test_the_gradients_of_slices_are_put_side_by_side_instead_of_added() -> None:
    assert_becomes(simplify, "%x: f32[N,4], %y: f32[N,2]", """
        %0 = pad(%y) {low=(0, 4), high=(0, 0), value=0.0} : f32[N,6]
        %1 = pad(%x) {low=(0, 0), high=(0, 2), value=0.0} : f32[N,6]
        %2 = add(%0, %1) : f32[N,6]
        return %2""", """
        %0 = concat(%x, %y) {axis=1} : f32[N,6]
        return %0""", exact=True)


def test_gradients_of_many_slices_are_one_concat_in_whatever_order_they_come() -> None:
    assert_becomes(simplify, "%a: f32[N,2], %b: f32[N,3], %c: f32[N,1]", """
        %0 = pad(%c) {low=(0, 5), high=(0, 4), value=0.0} : f32[N,10]
        %1 = pad(%a) {low=(0, 0), high=(0, 8), value=0.0} : f32[N,10]
        %2 = pad(%b) {low=(0, 2), high=(0, 5), value=0.0} : f32[N,10]
        %3 = add(%0, %1) : f32[N,10]
        %4 = add(%3, %2) : f32[N,10]
        return %4""", """
        %0 = concat(%a, %b, %c) {axis=1} : f32[N,6]
        %1 = pad(%0) {low=(0, 0), high=(0, 4), value=0.0} : f32[N,10]
        return %1""", exact=True)


def test_pads_that_overlap_or_leave_a_gap_are_added() -> None:
    assert_stays(simplify, "%a: f32[N,2], %b: f32[N,3]", """
        %0 = pad(%a) {low=(0, 0), high=(0, 8), value=0.0} : f32[N,10]
        %1 = pad(%b) {low=(0, 3), high=(0, 4), value=0.0} : f32[N,10]
        %2 = add(%0, %1) : f32[N,10]
        %3 = pad(%b) {low=(0, 1), high=(0, 6), value=0.0} : f32[N,10]
        %4 = add(%0, %3) : f32[N,10]
        return %2, %4""")


def test_padding_and_cutting_off_again_does_nothing() -> None:
    assert_becomes(simplify, "%x: f32[N,4]", """
        %0 = pad(%x) {low=(1, 2), high=(0, 3), value=0.0} : f32[N+1,9]
        %1 = slice(%0) {starts=(1, 2), stops=(N+1, 6), steps=(1, 1)} : f32[N,4]
        return %1""", "return %x", exact=True)


def test_infinities_and_nan_pass_every_rule_of_arithmetic() -> None:
    x = placeholder("x", "f64[N]")
    y = ir.neg(ir.neg(x * 1.0 + 0.0) / 4.0) - ir.neg(x)
    graph = Graph.of("g", [x], [y, x * 0.0, x - x])
    array = np.array([np.inf, -np.inf, np.nan, 0.0, 1.5, 1e-310, 1e308])
    for a, b in zip(interpret(simplify(graph), [array]).outputs, interpret(graph, [array]).outputs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_rule_is_for_an_op_that_exists() -> None:
    from graphnn.ir.op import Op

    assert set(TABLE) <= set(Op.registry)
