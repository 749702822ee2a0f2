"""Lowering of matmul and convolutions: shapes become strides, and one microkernel does them all."""

from __future__ import annotations

from collections.abc import Sequence

from graphnn.ir.dims import numbers
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Op
from graphnn.ir.ops.conv import Conv2D, Conv2DInputGrad, Conv2DWeightGrad
from graphnn.ir.ops.linalg import MatMul
from graphnn.runtime.kernels.convolution import Convolution, conv2d_input_grad_rows, conv2d_rows, conv2d_weight_grad_rows
from graphnn.runtime.kernels.matmul import (
    Matrix,
    matmul_prepacked_rows,
    matmul_rows,
    pack_row,
    packing_serves,
    prepacked_nbytes,
)
from graphnn.runtime.kernels.tiling import Epilogue
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Address, Row

Shape = tuple[int, ...]


def contraction_rows(op: Op, at: Lowering, inputs: Sequence[Value], to: Address, epilogue: Epilogue | None = None) -> list[Row]:
    """The rows that compute a contraction `op` (sizes bound) on `inputs` into `to`, its epilogue on each finished tile."""
    dtype = str(inputs[0].dtype)
    left, right = (at.shape(value) for value in inputs)
    a, b = (at.address(value) for value in inputs)
    if isinstance(op, MatMul):
        return _matmul(op, dtype, at, left, right, a, b, to, epilogue, inputs[1] in at.fixed)
    if isinstance(op, Conv2D):
        v = _convolution(op, left, right)
        return conv2d_rows(dtype, at.isa, v, a, b, to, epilogue=epilogue, owner=at.node)
    if isinstance(op, Conv2DInputGrad):
        v = _convolution(op, numbers(op.input_shape), right)
        return conv2d_input_grad_rows(dtype, at.isa, v, a, b, to, epilogue=epilogue, owner=at.node)
    assert isinstance(op, Conv2DWeightGrad), f"{op.name} is no contraction"
    v = _convolution(op, left, numbers(op.kernel_shape))
    return conv2d_weight_grad_rows(dtype, at.isa, v, a, b, to, epilogue=epilogue, owner=at.node)


@lowers(MatMul, Conv2D, Conv2DInputGrad, Conv2DWeightGrad)
def contraction(node: Node, at: Lowering) -> list[Row]:
    return contraction_rows(at.op, at, node.inputs, at.address(node.output))


def _matmul(op: MatMul, dtype: str, at: Lowering, left: Shape, right: Shape, a: Address, b: Address, to: Address,
            epilogue: Epilogue | None, fixed: bool) -> list[Row]:
    m, k = left[-2:][::-1] if op.transpose_a else left[-2:]
    n = right[-2] if op.transpose_b else right[-1]
    rank = max(len(left), len(right)) - 2
    batch = tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(_padded(left, rank), _padded(right, rank), strict=True))
    first = _matrix(a, left, rank, op.transpose_a)
    second = _matrix(b, right, rank, op.transpose_b)
    result = _matrix(to, (*batch, m, n), rank, False)
    if fixed and rank == 0 and packing_serves(dtype, (m, k, n)):
        packed = at.scratch("right operand in panels", prepacked_nbytes(dtype, at.isa, k, n))
        at.before.append(pack_row(dtype, at.isa, k, n, second, packed))
        return matmul_prepacked_rows(dtype, at.isa, (m, k, n), first, packed, result, epilogue=epilogue, owner=at.node)
    return matmul_rows(dtype, at.isa, (m, k, n), first, second, result, batch=batch, epilogue=epilogue, owner=at.node)


def _padded(shape: Shape, rank: int) -> Shape:
    """The batch axes of a shape, with ones in front."""
    return (1,) * (rank - len(shape) + 2) + shape[:-2]


def _matrix(address: Address, shape: Shape, rank: int, transposed: bool) -> Matrix:
    """A contiguous operand by its strides; batch axes of size 1 repeat."""
    rows, cols = shape[-2:]
    strides: list[int] = []
    step = rows * cols
    for size in reversed(_padded(shape, rank)):
        strides.insert(0, 0 if size == 1 else step)
        step *= size
    matrix = Matrix(address, cols, 1, tuple(strides))
    return matrix.mT if transposed else matrix


def _convolution(op: Conv2D | Conv2DInputGrad | Conv2DWeightGrad, x: Shape, w: Shape) -> Convolution:
    n, h, width, channels = x
    kh, kw, _, cout = w
    top, bottom, before, after = numbers(op.padding)
    return Convolution(n, h, width, channels, kh, kw, cout, op.stride, op.dilation, (top, bottom, before, after), op.groups)
