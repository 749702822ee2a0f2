"""The transpose of a square of elements in vector registers, as LLVM IR: what packing and turning matrices is made of."""

# pyright: basic, reportMissingParameterType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphnn.runtime.contraction import BYTES, ELEMENT, I32, I64


def transpose_call(dtype: str, lanes: int) -> Any:
    """An intrinsic `transpose(to, to_stride, source, source_stride)` of a square of lanes x lanes; strides in bytes."""
    element, align = ELEMENT[dtype], BYTES[dtype]
    vector = ir.VectorType(element, lanes)

    @intrinsic
    def transpose(typingctx, to, to_stride, source, source_stride):
        def emit(context, b, signature, arguments):
            to, to_stride, source, source_stride = arguments

            def at(base: Any, stride: Any, i: int) -> Any:
                return b.inttoptr(b.add(base, b.mul(stride, ir.Constant(I64, i))), vector.as_pointer())

            rows = [b.load(at(source, source_stride, i), align=align) for i in range(lanes)]
            for i, row in enumerate(_transposed(b, rows)):
                b.store(row, at(to, to_stride, i), align=align)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), emit

    return transpose


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """The transpose of a square in vectors."""
    lanes, rows = len(rows), list(rows)
    # Each step exchanges, between rows `step` apart, the blocks of `step` elements off the diagonal.
    step = lanes // 2
    while step:
        low = [j if not j & step else lanes + j - step for j in range(lanes)]
        high = [j + step if not j & step else lanes + j for j in range(lanes)]
        for i in range(lanes):
            if not i & step:
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = (
                    b.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, lanes), picks)) for picks in (low, high)
                )
        step //= 2
    return rows
