"""Dot products of a few rows with rows, all along memory, as vector LLVM IR: the other microkernel.

Where a product has few rows and its right operand is transposed, this reads each element once, where it lies.
"""

# pyright: basic, reportMissingParameterType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphnn.runtime.contraction import BYTES, ELEMENT, I64, declare, do_not_unroll, make_private


def dots_call(dtype: str, lanes: int, registers: int) -> Any:
    """An intrinsic `dots(rows, a, a_stride, b, b_stride, n, to)`: dot products of rows of A with rows of B, along memory.

    `rows` of A (1, 2 or 4) times as many rows of B as `dots_width` says, each of `n` elements; strides in bytes. The
    products are written to `to`, [row of A, row of B] without gaps.
    """
    vector = ir.VectorType(ELEMENT[dtype], lanes)
    suffix, align = f"v{lanes}{dtype}", BYTES[dtype]

    def emit_tile(function: Any, height: int, width: int) -> None:
        module = function.module
        a, a_stride, bb, b_stride, n, to = function.args
        b: Any = ir.IRBuilder(function.append_basic_block("entry"))
        fma = declare(module, f"llvm.fmuladd.{suffix}", vector, [vector] * 3)
        scalar_fma = declare(module, f"llvm.fmuladd.{dtype}", ELEMENT[dtype], [ELEMENT[dtype]] * 3)
        add = declare(module, f"llvm.vector.reduce.fadd.{suffix}", ELEMENT[dtype], [ELEMENT[dtype], vector])
        starts = [b.add(a, b.mul(a_stride, ir.Constant(I64, i))) for i in range(height)]
        starts += [b.add(bb, b.mul(b_stride, ir.Constant(I64, j))) for j in range(width)]

        def load(start: Any, offset: Any, kind: Any) -> Any:
            return b.load(b.inttoptr(b.add(start, offset), kind.as_pointer()), align=align)

        def loop(name: str, offset: Any, end: Any, sums: list[Any], step: int, kind: Any, multiply_add: Any) -> list[Any]:
            before, body, after = b.block, b.append_basic_block(name), b.append_basic_block(name + ".done")
            b.cbranch(b.icmp_unsigned("<", offset, end), body, after)
            b.position_at_end(body)
            at, phis = b.phi(I64), [b.phi(kind) for _ in sums]
            rows = [load(start, at, kind) for start in starts]
            new = [
                b.call(multiply_add, [rows[i], rows[height + j], phis[i * width + j]])
                for i in range(height)
                for j in range(width)
            ]
            following = b.add(at, ir.Constant(I64, step))
            branch = b.cbranch(b.icmp_unsigned("<", following, end), body, after)
            branch.set_metadata("llvm.loop", do_not_unroll(module))
            b.position_at_end(after)
            out = [b.phi(kind) for _ in sums]
            for phi, first, later in zip([at, *phis], [offset, *sums], [following, *new], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(later, body)
            for phi, first, later in zip(out, sums, new, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(later, body)
            return out

        size = BYTES[dtype]
        end = b.mul(n, ir.Constant(I64, size))
        whole = b.and_(end, ir.Constant(I64, -size * lanes))
        zeros = [ir.Constant(vector, [0.0] * lanes)] * (height * width)
        sums = loop("vectors", ir.Constant(I64, 0), whole, zeros, size * lanes, vector, fma)
        totals = [b.call(add, [ir.Constant(ELEMENT[dtype], -0.0), x], fastmath=("reassoc",)) for x in sums]
        totals = loop("rest", whole, end, totals, size, ELEMENT[dtype], scalar_fma)
        for i, total in enumerate(totals):
            b.store(total, b.inttoptr(b.add(to, ir.Constant(I64, i * size)), ELEMENT[dtype].as_pointer()), align=align)
        b.ret_void()

    @intrinsic
    def dots(typingctx, rows, a, a_stride, b, b_stride, n, to):
        def emit(context, builder, signature, arguments):
            done = builder.append_basic_block("dots.done")
            switch = builder.switch(arguments[0], done)
            for height in (1, 2, 4):
                case = builder.append_basic_block(f"dots.{height}")
                switch.add_case(ir.Constant(I64, height), case)
                builder.position_at_end(case)
                function = declare(builder.module, f"dots.{suffix}.{height}", ir.VoidType(), [I64] * 6)
                if not function.blocks:
                    make_private(function)
                    emit_tile(function, height, dots_width(height, registers))
                builder.call(function, arguments[1:])
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), emit

    return dots


def dots_width(height: int, registers: int) -> int:
    """How many rows of B meet `height` rows of A at once in `dots`: what fits the registers."""
    return max(w for w in (1, 2, 4, 8) if height * w + min(height, w) < registers)
