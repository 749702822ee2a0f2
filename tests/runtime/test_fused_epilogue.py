"""Elementwise tails of contractions: matrices, rows, columns and scalars as operands, several results, any batches."""

import numpy as np
import pytest

from graphnn import ir
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.op import make_node
from graphnn.ir.ops.conv import Conv2D
from graphnn.ir.ops.fused import Epilogue
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.ir.ops.linalg import MatMul
from graphnn.ir.types import TensorType
from tests.runtime.rows_by_hand import Bench


def check(op, types, tail, shapes):
    """`tail` makes the results from the contraction's and the other operands; the first two types are the contraction's."""
    operands = [placeholder(f"a{i}", text) for i, text in enumerate(types)]
    made = op.infer(*(v.type for v in operands[:2]))[0]
    inner = [placeholder(f"i{i}", kind) for i, kind in enumerate([made, *map(TensorType.parse, types[2:])])]
    node = make_node(Epilogue(op, 2, Graph.of("body", inner, tail(*inner))), tuple(operands))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(v.dtype.numpy) for v, shape in zip(operands, shapes, strict=True)]
    expected = interpret(Graph.of("whole", node.inputs, node.outputs), arrays).outputs
    for actual, wanted in zip(Bench(node, arrays).run(lambda tiles: reversed(tiles)), expected, strict=True):
        assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (33, 17, 50), (1, 40, 30), (70, 3, 1), (300, 64, 200)])
def test_bias_and_activation(n, k, m):
    check(MatMul(), ["f32[N,K]", "f32[K,M]", "f32[M]"], lambda c, b: [ir.tanh(c + b)], [(n, k), (k, m), (m,)])


def test_several_results_with_operands_of_every_shape():
    types = ["f32[N,K]", "f32[K,M]", "f32[M]", "f32[N,1]", "f32[N,M]", "f32[]"]

    def tail(c, row, column, full, one):
        return [c + row, ir.less(c * column, full), ir.relu(c) * one]

    check(MatMul(), types, tail, [(33, 17), (17, 50), (50,), (33, 1), (33, 50), ()])


def test_only_a_mask_is_wanted():
    check(MatMul(), ["f32[N,K]", "f32[K,M]"], lambda c: [ir.less(c, constant(0.25))], [(9, 5), (5, 70)])


@pytest.mark.parametrize(("rows", "inner"), [(5, 4), (1, 40), (1, 700)])
@pytest.mark.parametrize("right", ["f32[B,H,K,M]", "f32[B,1,K,M]", "f32[K,M]"])
def test_batches_joined_wholly_partly_or_not(right, rows, inner):
    shape = {"f32[B,H,K,M]": (2, 3, inner, 6), "f32[B,1,K,M]": (2, 1, inner, 6), "f32[K,M]": (inner, 6)}[right]
    types = ["f32[B,H,N,K]", right, "f32[B,H,N,M]", "f32[B,H,N,1]"]
    shapes = [(2, 3, rows, inner), shape, (2, 3, rows, 6), (2, 3, rows, 1)]
    check(MatMul(), types, lambda c, x, y: [c * x + y], shapes)
    types[1], shapes[1] = right.replace("K,M", "M,K"), (*shape[:-2], 6, inner)
    check(MatMul(False, True), types, lambda c, x, y: [c * x + y], shapes)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_with_bias_and_relu(groups):
    op = Conv2D((1, 1), (1, 1, 1, 1), (1, 1), groups)
    types = ["f32[N,H,W,4]", f"f32[3,3,{4 // groups},6]", "f32[6]", "f32[N,H,W,6]"]
    shapes = [(2, 7, 5, 4), (3, 3, 4 // groups, 6), (6,), (2, 7, 5, 6)]
    check(op, types, lambda c, b, x: [ir.relu(c + b), ir.relu(c + b) + x], shapes)
