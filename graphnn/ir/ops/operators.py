"""What + - * / ** @ < [] on values write. Values stand on a lower floor than ops, so the table is filled from here."""

from __future__ import annotations

from graphnn.ir.graph import OPERATORS
from graphnn.ir.ops import arithmetic, compare, functions, indexing, linalg

OPERATORS.update(
    add=arithmetic.add, sub=arithmetic.sub, mul=arithmetic.mul, div=arithmetic.div, pow=arithmetic.pow,
    neg=functions.neg, abs=functions.abs,
    matmul=linalg.matmul, matrix_transpose=linalg.matrix_transpose,
    less=compare.less, less_equal=compare.less_equal,
    getitem=indexing.getitem,
)
