"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, numbers, product
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import shaping
from graphnn.ir.ops.broadcasting import unbroadcast
from graphnn.ir.ops.operands import Operand, located, operands, require_float, require_same_dtype
from graphnn.ir.types import TensorType, broadcast_shapes


@dataclass(frozen=True)
class MatMul(Op):
    """The matrix product over the last two axes, either operand transposed first; axes before them broadcast."""

    name = "matmul"
    fusion = Fusion.CONTRACT
    transpose_a: bool = False
    transpose_b: bool = False

    def infer(self, a: TensorType, b: TensorType) -> Types:
        require_float(a, b)
        require_same_dtype(a, b)
        if a.rank < 2 or b.rank < 2:
            raise ShapeError("takes two axes or more on each side", hint="the function matmul takes one axis too")
        rows, inner, other, columns = self.sizes(a, b)
        if inner != other:
            raise ShapeError(f"inner sizes differ: {inner} on the left, {other} on the right",
                             hint=None if self.transpose_a or self.transpose_b else
                             "the right operand's first size must equal the left operand's last")
        return (a.of_shape((*broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns)),)

    def sizes(self, a: TensorType, b: TensorType) -> tuple[Size, Size, Size, Size]:
        """Rows, inner size on the left and on the right, columns."""
        rows, inner = a.shape[-2:][::-1] if self.transpose_a else a.shape[-2:]
        other, columns = b.shape[-2:][::-1] if self.transpose_b else b.shape[-2:]
        return rows, inner, other, columns

    def numpy(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left = np.swapaxes(a, -1, -2) if self.transpose_a else a
        right = np.swapaxes(b, -1, -2) if self.transpose_b else b
        (made,) = self.infer(TensorType.of(a), TensorType.of(b))
        if made.elements == 0:                          # NumPy would go through all matrices, of which there may be any number
            return np.empty(numbers(made.shape), a.dtype)
        return np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(a.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        a, b = node.inputs
        da = (MatMul(self.transpose_b, True).one(b, dy) if self.transpose_a else
              MatMul(False, not self.transpose_b).one(dy, b))
        if a.rank > 2 and b.rank == 2 and not self.transpose_a:
            # One tall product instead of a batch of products that would be summed.
            a = shaping.reshape(a, (product(a.shape[:-1]), a.shape[-1]))
            dy = shaping.reshape(dy, (product(dy.shape[:-1]), dy.shape[-1]))
        db = (MatMul(True, self.transpose_a).one(dy, a) if self.transpose_b else
              MatMul(not self.transpose_a, False).one(a, dy))
        return unbroadcast(da, node.inputs[0].type), unbroadcast(db, b.type)

    def flops(self, *inputs: TensorType) -> Size:
        return 2 * self.infer(*inputs)[0].elements * self.sizes(*inputs)[1]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(12)
        for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
            def operands(rows: int, inner: int, columns: int, batch_a: tuple[int, ...] = (), batch_b: tuple[int, ...] = (),
                         ta: bool = ta, tb: bool = tb) -> tuple[np.ndarray, np.ndarray]:
                a = rng.normal(size=(*batch_a, *((inner, rows) if ta else (rows, inner))))
                b = rng.normal(size=(*batch_b, *((columns, inner) if tb else (inner, columns))))
                return a, b
            left = "K,N" if ta else "N,K"
            right = "M,K" if tb else "K,M"
            op = cls(ta, tb)
            yield Sample(op, operands(3, 5, 7), (left, right))
            yield Sample(op, operands(1, 1, 1), (left, right))
            yield Sample(op, operands(17, 33, 9), (left, right))
            yield Sample(op, operands(3, 4, 1), (left, right))
            yield Sample(op, operands(1, 4, 3), (left, right))
            yield Sample(op, operands(3, 4, 5, (2,)), (f"B,{left}", right))
            yield Sample(op, operands(3, 4, 5, (), (2,)), (left, f"B,{right}"))
            yield Sample(op, operands(2, 3, 4, (2, 1), (3,)), (f"B,1,{left}", f"H,{right}"))
            yield Sample(op, operands(2, 3, 4, (2, 3), (2, 3)), (f"B,H,{left}", f"B,H,{right}"))
            yield Sample(op, operands(3, 0, 2), (left, right))
            yield Sample(op, operands(0, 3, 2), (left, right))


@located
def matmul(a: Operand, b: Operand) -> Value:
    """a @ b, as in NumPy: matrices, batches of matrices that broadcast, and vectors."""
    left, right = operands(a, b)
    if left.rank == 0 or right.rank == 0:
        raise ShapeError("takes tensors of one axis or more", hint="use * for numbers")
    matrix = MatMul().one(left if left.rank > 1 else shaping.reshape(left, (1, left.shape[0])),
                          right if right.rank > 1 else shaping.reshape(right, (right.shape[0], 1)))
    shape = matrix.shape
    if right.rank == 1:
        shape = shape[:-1]
    if left.rank == 1:
        shape = (*shape[:-2], shape[-1]) if right.rank > 1 else shape[:-1]
    return shaping.reshape(matrix, shape)


@located
def matrix_transpose(x: Value) -> Value:
    """x with its last two axes exchanged."""
    if x.rank < 2:
        raise ShapeError(f"{x.type} is no matrix")
    return shaping.swapaxes(x, -1, -2)
