"""fuse_epilogue: which elementwise tails run on a contraction's tiles."""

from __future__ import annotations

import pytest

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops import conv, reduce, shaping
from graphnn.ir.ops.fused import Epilogue
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.passes.common_subexpressions import common_subexpressions
from graphnn.passes.dead_code import dead_code
from graphnn.passes.fold_constants import fold_constants
from graphnn.passes.fuse_epilogue import MAX_OPERANDS, fuse_epilogue
from graphnn.passes.pipeline import Pipeline
from graphnn.passes.simplify import simplify
from tests.passes.pictures import assert_same_numbers, assert_stays, graph, ops, text

clean = Pipeline((fold_constants, simplify, common_subexpressions, dead_code))


def fuse(before: Graph) -> Graph:
    after = fuse_epilogue(before)
    assert_same_numbers(after, before)
    assert text(fuse_epilogue(after)) == text(after)
    return after


def epilogues(graph: Graph) -> list[tuple[Node, list[str]]]:
    return [(node, [made.op.name for made in node.op.body.nodes]) for node in graph.nodes if isinstance(node.op, Epilogue)]


def dense(x: Value, name: str = "", out: int = 4) -> Value:
    width = x.shape[-1]
    return x @ parameter(f"w{name}", (width, out), dtype="f64") + parameter(f"b{name}", (out,), dtype="f64")


def test_bias_and_activation_join_their_matmul() -> None:
    after = fuse(graph("%x: f32[N,4], %w: f32[4,3], %b: f32[3]", """
        %0 = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[N,3]
        %1 = add(%0, %b) : f32[N,3]
        %2 = tanh(%1) : f32[N,3]
        return %2"""))
    assert text(after) == """\
graph g(%x: f32[N,4], %w: f32[4,3], %b: f32[3]) {
  %0 = epilogue(%x, %w, %b) {producer=op(matmul), producer_inputs=2, body=@body} : f32[N,3]
  return %0
}
graph @body(%a0: f32[N,3], %a1: f32[3]) {
  %0 = add(%a0, %a1) : f32[N,3]
  %1 = tanh(%0) : f32[N,3]
  return %1
}"""


def test_a_matmul_without_a_tail_stays_a_matmul() -> None:
    assert_stays(fuse_epilogue, "%x: f32[N,4], %w: f32[4,3]", """
        %0 = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[N,3]
        return %0""")


def test_pre_activation_and_activation_are_both_results_when_both_are_read() -> None:
    x = placeholder("x", "f64[N,4]")
    z = dense(x)
    after = fuse(Graph.of("g", [x], [z, ir.exp(z)]))
    ((node, inside),) = epilogues(after)
    assert inside == ["add", "exp"]
    assert len(node.types) == 2


def test_the_raw_product_is_a_result_when_somebody_else_reads_it() -> None:
    x = placeholder("x", "f64[N,4]")
    raw = x @ parameter("w", (4, 4), dtype="f64")
    ((node, _),) = epilogues(fuse(Graph.of("g", [x], [raw, ir.exp(raw)])))
    assert len(node.types) == 2


# Of a batch of matrices, what has rows but no batch would have to be read once a batch.
@pytest.mark.parametrize(("shape", "joins"), [
    ("", True), ("4", True), ("1,4", True), ("B,N,4", True), ("B,N,1", True),
    ("N,1", False), ("N,4", False), ("B,1,4", False), ("B,1,1", False), ("1,N,1", False)])
def test_operands_are_scalars_rows_columns_or_matrices(shape: str, joins: bool) -> None:
    x, w, b = placeholder("x", "f64[B,N,4]"), parameter("w", (4, 4), dtype="f64"), placeholder("b", f"f64[{shape}]")
    after = fuse(Graph.of("g", [x, b], [ir.tanh(x @ w + b)]))
    assert (ops(after) == ["epilogue"]) is joins


def test_a_residual_joins_and_what_depends_on_the_product_otherwise_does_not() -> None:
    x = placeholder("x", "f64[N,4]")
    y = ir.tanh(dense(x)) + x
    assert ops(fuse(Graph.of("g", [x], [y]))) == ["epilogue"]
    z = dense(x)
    centred = ir.tanh(z - reduce.mean(z, -1, keepdims=True))
    assert epilogues(fuse(Graph.of("g", [x], [centred])))[0][1] == ["add"]


def test_of_two_products_one_takes_the_other_as_an_operand() -> None:
    x = placeholder("x", "f64[N,4]")
    a, b = dense(x, "1"), dense(x, "2")
    after = fuse(Graph.of("g", [x], [ir.tanh(a + b), ir.sin(a - b)]))
    assert len(epilogues(after)) >= 1
    assert len(after.nodes) < 8


def test_the_mask_of_a_relu_is_made_where_the_backward_needs_it() -> None:
    x = placeholder("x", "f64[N,4]")
    h = ir.relu(dense(x, "1"))
    out = dense(h, "2")
    loss = reduce.sum(out * out)
    after = fuse(clean(Graph.of("g", [x], [loss, *gradients(loss, [x])])))
    forward, *rest = [inside for _, inside in epilogues(after)]
    assert forward == ["add", "relu"]
    assert "less" not in forward
    assert any(inside[:1] == ["less"] for inside in rest)


def test_the_derivative_of_tanh_joins_the_product_that_it_multiplies() -> None:
    x, dy = placeholder("x", "f64[N,4]"), placeholder("dy", "f64[N,4]")
    y = ir.tanh(dense(x, "1"))
    (dx,) = gradients(dense(y, "2"), [x], dy)
    after = fuse(clean(Graph.of("g", [x, dy], [y, dx])))
    assert len(after.nodes) - sum(node.op.name == "constant" for node in after.nodes) == 3


def test_an_optimiser_update_does_not_join_the_weight_gradient() -> None:
    x, dy, w = placeholder("x", "f64[N,4]"), placeholder("dy", "f64[N,4]"), parameter("w", (4, 4), dtype="f64")
    m = state("m", (4, 4), dtype="f64")
    m2 = 0.9 * m + x.T @ dy
    before = clean(Graph.of("g", [x, dy], [], updates=[(w, w - 0.1 * m2), (m, m2)]))
    assert not epilogues(fuse(before))


def test_convolutions_and_their_input_gradients_take_tails() -> None:
    x, k, b = placeholder("x", "f64[N,6,6,2]"), parameter("k", (3, 3, 2, 3), dtype="f64"), parameter("b", (3,), dtype="f64")
    h = ir.relu(conv.conv2d(ir.tanh(x), k, padding="same") + b)
    loss = reduce.sum(h * h)
    before = clean(Graph.of("g", [x], [loss, *gradients(loss, [x])]))
    made = {node.op.producer.name for node, _ in epilogues(fuse(before)) if isinstance(node.op, Epilogue)}
    assert made == {"conv2d", "conv2d_input_grad"}


def test_too_many_operands_are_cut_off() -> None:
    x = placeholder("x", "f64[N,4]")
    others = [placeholder(f"y{i}", "f64[N,4]") for i in range(MAX_OPERANDS + 5)]
    y = x @ parameter("w", (4, 4), dtype="f64")
    for other in others:
        y = ir.tanh(y + other)
    after = fuse_epilogue(before := Graph.of("g", [x, *others], [y]))
    assert_same_numbers(after, before)
    ((node, _),) = epilogues(after)
    assert len(node.inputs) == 2 + MAX_OPERANDS


def test_a_side_chain_goes_with_the_node_that_it_leads_to() -> None:
    x = placeholder("x", "f64[N,4]")
    others = [placeholder(f"y{i}", "f64[N,4]") for i in range(MAX_OPERANDS - 1)]
    y = x @ parameter("w", (4, 4), dtype="f64")
    for other in others:
        y = ir.tanh(y + other)
    side, mask = placeholder("s", "f64[N,4]"), placeholder("m", "bool[N,4]")
    last = ir.where(mask, y, ir.exp(ir.sin(side) * ir.cos(side)))        # the mask is one operand too many
    after = fuse_epilogue(before := Graph.of("g", [x, *others, side, mask], [last]))
    assert_same_numbers(after, before)
    ((_, inside),) = epilogues(after)
    assert not {"sin", "cos", "exp"} & set(inside)


def test_an_operand_that_is_also_the_products_input_stays_its_input() -> None:
    x, z = placeholder("x", "f64[N,4]"), placeholder("z", "f64[N,4]")
    a = 0.2 * x
    after = fuse(Graph.of("g", [x, z], [a + ir.tanh(a @ parameter("w", (4, 4), dtype="f64") + z)]))
    assert ops(after) == ["mul", "epilogue"]


def test_other_shapes_do_not_join() -> None:
    x = placeholder("x", "f64[N,4]")
    y = ir.tanh(shaping.reshape(dense(x), ("N", 2, 2)))
    assert epilogues(fuse(Graph.of("g", [x], [y])))[0][1] == ["add"]
