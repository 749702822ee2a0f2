"""fuse_elementwise: what becomes one kernel, and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Node
from graphnn.ir.iteration_space import iteration_space
from graphnn.ir.ops import index, reduce, shaping, softmax
from graphnn.ir.ops.fused import Fused
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.passes.common_subexpressions import common_subexpressions
from graphnn.passes.fold_constants import fold_constants
from graphnn.passes.fuse_elementwise import MAX_NODES, fuse_elementwise
from graphnn.passes.open_composites import open_composites
from graphnn.passes.pipeline import Pipeline
from graphnn.passes.simplify import simplify
from tests.passes.pictures import assert_becomes, assert_same_numbers, assert_stays, graph, ops, text

X = "%x: f32[N,4], %y: f32[N,4]"
clean = Pipeline((fold_constants, simplify, open_composites, common_subexpressions))


def fused(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if isinstance(node.op, Fused)]


def inside(node: Node) -> list[str]:
    assert isinstance(node.op, Fused)
    return [made.op.name for made in node.op.body.nodes]


def fuse(graph: Graph) -> Graph:
    """The graph after the pass; the numbers are the same and every body keeps the structural rule."""
    after = fuse_elementwise(graph)
    assert_same_numbers(after, graph)
    assert text(fuse_elementwise(after)) == text(after)
    for node in fused(after):
        assert isinstance(node.op, Fused)
        assert iteration_space(node.op.body) is not None
    return after


def test_a_chain_becomes_one_kernel_with_canonical_names() -> None:
    after = fuse(graph(X, """
        %0 = add(%x, %y) : f32[N,4]
        %1 = tanh(%0) : f32[N,4]
        %2 = mul(%1, %x) : f32[N,4]
        return %2"""))
    assert text(after) == """\
graph g(%x: f32[N,4], %y: f32[N,4]) {
  %0 = fused(%x, %y) {body=@body} : f32[N,4]
  return %0
}
graph @body(%a0: f32[N,4], %a1: f32[N,4]) {
  %0 = add(%a0, %a1) : f32[N,4]
  %1 = tanh(%0) : f32[N,4]
  %2 = mul(%1, %a0) : f32[N,4]
  return %2
}"""


def test_one_node_alone_stays_itself() -> None:
    assert_stays(fuse_elementwise, X, """
        %0 = add(%x, %y) : f32[N,4]
        return %0""")


def test_numbers_stay_outside_as_operands_so_that_other_numbers_need_no_other_kernel() -> None:
    x = placeholder("x", "f32[N]")
    after = fuse(Graph.of("g", [x], [ir.tanh(x * 0.5) + 1.0, ir.exp(ir.tanh((x - 1.0) * 0.25) + 3.0)]))
    assert all("constant" not in inside(node) for node in fused(after))


def test_a_value_used_twice_is_returned_and_read_from_registers() -> None:
    after = fuse(graph(X, """
        %0 = add(%x, %y) : f32[N,4]
        %1 = tanh(%0) : f32[N,4]
        return %0, %1"""))
    (node,) = fused(after)
    assert len(node.types) == 2


def test_siblings_that_read_the_same_large_value_join() -> None:
    x = placeholder("x", "f32[N,64]")
    after = fuse(Graph.of("g", [x], [ir.tanh(x), ir.exp(x)]))
    assert ops(after) == ["fused"]


def test_strangers_do_not_join() -> None:
    x, y = placeholder("x", "f32[N,64]"), placeholder("y", "f32[N,64]")
    graph = Graph.of("g", [x, y], [ir.tanh(x), ir.exp(y)])
    assert fuse_elementwise(graph) is graph or ops(fuse_elementwise(graph)) == ["tanh", "exp"]


def test_no_way_from_a_group_to_itself_leads_through_a_node_outside() -> None:
    after = fuse(graph("%x: f32[N,4], %w: f32[4,4]", """
        %0 = tanh(%x) : f32[N,4]
        %1 = exp(%0) : f32[N,4]
        %2 = matmul(%1, %w) {transpose_a=false, transpose_b=false} : f32[N,4]
        %3 = add(%2, %0) : f32[N,4]
        %4 = mul(%3, %1) : f32[N,4]
        return %4"""))
    assert ops(after) == ["fused", "matmul", "fused"]


def test_what_is_stretched_is_never_stored() -> None:
    after = fuse(graph("%x: f32[N,4], %b: f32[4], %c: f32[N]", """
        %0 = tanh(%b) : f32[4]
        %1 = expand(%b) {shape=(N, 4)} : f32[N,4]
        %2 = reshape(%c) {shape=(N, 1)} : f32[N,1]
        %3 = add(%x, %1) : f32[N,4]
        %4 = mul(%3, %2) : f32[N,4]
        return %4, %0"""))
    assert sorted(ops(after)) == ["fused", "tanh"]


def test_a_stretched_value_that_a_matmul_needs_is_stored_for_it_alone() -> None:
    after = fuse(graph("%x: f32[N,4], %b: f32[4], %w: f32[4,3]", """
        %0 = expand(%b) {shape=(N, 4)} : f32[N,4]
        %1 = matmul(%0, %w) {transpose_a=false, transpose_b=false} : f32[N,3]
        %2 = add(%x, %0) : f32[N,4]
        %3 = tanh(%2) : f32[N,4]
        return %1, %3"""))
    assert sorted(ops(after)) == ["expand", "fused", "matmul"]


def test_a_softmax_with_its_gradient_is_one_kernel_over_rows() -> None:
    x, dy = placeholder("x", "f64[N,6]"), placeholder("dy", "f64[N,6]")
    y = softmax.softmax(x * 0.5)
    (dx,) = gradients(y, [x], dy)
    after = fuse(clean(Graph.of("g", [x, dy], [dx])))
    assert ops(after) == ["fused"]


def test_softmax_cross_entropy_forward_and_backward_reads_the_logits_once() -> None:
    x, labels = placeholder("x", "f64[N,6]"), placeholder("labels", "i64[N]")
    loss = ir.neg(reduce.mean(reduce.sum(softmax.log_softmax(x) * index.one_hot(labels, 6, "f64"), -1)))
    after = fuse(clean(Graph.of("g", [x, labels], [loss, *gradients(loss, [x])])))
    assert ops(after) == ["check_index", "fused", "fused"]
    rows, mean = fused(after)
    assert [str(kind) for kind in rows.types] == ["f64[N]", "f64[N,6]"]
    assert [str(kind) for kind in mean.types] == ["f64[]"]


def test_a_layer_norm_is_one_kernel() -> None:
    x, scale, shift = placeholder("x", "f64[N,6]"), parameter("scale", (6,), dtype="f64"), parameter("shift", (6,), dtype="f64")
    centred = x - reduce.mean(x, -1, keepdims=True)
    y = centred * ir.rsqrt(reduce.mean(centred * centred, -1, keepdims=True) + 1e-5) * scale + shift
    assert ops(fuse(clean(Graph.of("g", [x], [y])))) == ["fused"]


def test_a_bias_gradient_and_its_whole_adam_update_are_one_kernel() -> None:
    dy = placeholder("dy", "f64[N,6]")
    p, m, v = parameter("p", (6,), dtype="f64"), state("m", (6,), dtype="f64"), state("v", (6,), dtype="f64")
    g = reduce.sum(dy * 2.0, 0)
    m2, v2 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    updates = [(p, p - 0.1 * m2 / (ir.sqrt(ir.abs(v2)) + 1e-8)), (m, m2), (v, v2)]
    after = fuse(clean(Graph.of("g", [dy], [], updates=updates)))
    assert ops(after) == ["fused"]
    assert len(fused(after)[0].types) == 3


def test_equal_updates_of_several_params_share_one_body() -> None:
    pairs = []
    for name, shape in (("a", (6,)), ("b", (6,)), ("c", (6,))):
        p, m, g = (parameter(name, shape), state(f"{name}/m", shape), placeholder(f"{name}g", "f32[6]"))
        m2 = 0.9 * m + g
        pairs.append((g, [(p, p - 0.1 * m2), (m, m2)]))
    before = Graph.of("g", [g for g, _ in pairs], [], updates=[u for _, us in pairs for u in us])
    after = fuse(common_subexpressions(before))
    bodies = {text(node.op.body) for node in fused(after) if isinstance(node.op, Fused)}
    assert len(fused(after)) == 3
    assert len(bodies) == 1


def test_reductions_over_different_axes_are_different_kernels() -> None:
    x = placeholder("x", "f64[N,6]")
    y = ir.tanh(x)
    after = fuse(Graph.of("g", [x], [reduce.sum(y, 0), reduce.sum(y, 1)]))
    assert len(after.nodes) == 2


def test_a_value_and_its_transpose_are_not_one_body() -> None:
    x = placeholder("x", "f64[4,4]")
    after = fuse(Graph.of("g", [x], [ir.exp(ir.tanh(x) + shaping.transpose(ir.tanh(x)))]))
    assert "transpose" in ops(after)


def test_long_chains_are_cut() -> None:
    x = placeholder("x", "f64[N]")
    y = x
    for i in range(3 * MAX_NODES):
        y = ir.sin(y) if i % 2 else y + x
    after = fuse(Graph.of("g", [x], [y]))
    assert 3 <= len(fused(after)) <= 6
    assert all(len(inside(node)) <= MAX_NODES for node in fused(after))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_scalars_fuse_among_themselves(dtype: str) -> None:
    t = placeholder("t", f"{dtype}[]")
    after = fuse(Graph.of("g", [t], [1.0 - ir.pow(0.9, t), 1.0 - ir.pow(0.99, t)]))
    assert len(after.nodes) <= 2 + len([n for n in after.nodes if n.op.name == "constant"])


def test_bodies_inside_scans_fuse_too() -> None:
    from graphnn.ir.ops.scan import Scan, scan

    xs = placeholder("xs", "f64[T,N]")
    last, _ = scan(lambda h, x: (ir.tanh(h * 0.5 + x), None), xs[0], xs)
    after = fuse(Graph.of("g", [xs], [last]))
    (node,) = [node for node in after.nodes if isinstance(node.op, Scan)]
    assert isinstance(node.op, Scan)
    assert ops(node.op.body) == ["fused"]


def test_the_place_of_a_fused_node_is_that_of_its_last_part() -> None:
    x = placeholder("x", "f64[N]")
    a = ir.tanh(x)
    b = ir.exp(a)
    (node,) = fuse_elementwise(Graph.of("g", [x], [b])).nodes
    assert node.loc == b.node.loc != a.node.loc


def test_gradients_of_fused_graphs_are_those_of_their_parts() -> None:
    x = placeholder("x", "f64[N]")
    before = Graph.of("g", [x], [reduce.sum(ir.tanh(x * x))])
    after = fuse_elementwise(before)
    grads = [Graph.of("d", [x], gradients(g.outputs[0], [x])) for g in (before, after)]
    assert_same_numbers(grads[1], grads[0])
    assert np.isfinite(1.0)
    assert_becomes(fuse_elementwise, "%x: f64[N]", "return %x", "return %x")
