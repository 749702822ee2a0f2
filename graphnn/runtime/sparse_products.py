"""The microkernels of sparse products, as vector LLVM IR: sums of scaled rows, and dot products of a row with rows that lie
anywhere.

Both are told where rows lie by a list of byte offsets, which the kernel around them has checked.
"""

# pyright: basic, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphnn.runtime.contraction import BYTES, ELEMENT, I32, I64, declare, do_not_unroll, make_private

SUMS_VECTORS = 8
"""The widest piece of a sum of rows that stays in registers."""
DOT_ROWS = 4
"""How many rows a row is multiplied with at once."""


def _splat(b: Any, scalar: Any, kind: ir.VectorType) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _load(b: Any, address: Any, kind: Any, align: int) -> Any:
    return b.load(b.inttoptr(address, kind.as_pointer()), align=align)


def _loop(b: Any, name: str, start: Any, end: Any, step: int, carried: list[Any], body: Callable[..., list[Any]]) -> list[Any]:
    """`for at in range(start, end, step): carried = body(at, carried)`; what is carried after it."""
    before, inside, after = b.block, b.append_basic_block(name), b.append_basic_block(f"{name}.done")
    b.cbranch(b.icmp_signed("<", start, end), inside, after)
    b.position_at_end(inside)
    at, phis = b.phi(I64), [b.phi(value.type) for value in carried]
    new = body(at, phis)
    following = b.add(at, ir.Constant(I64, step))
    b.cbranch(b.icmp_signed("<", following, end), inside, after).set_metadata("llvm.loop", do_not_unroll(b.module))
    for phi, first, later in zip([at, *phis], [start, *carried], [following, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, inside)
    b.position_at_end(after)
    out = [b.phi(value.type) for value in carried]
    for phi, first, later in zip(out, carried, new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, inside)
    return out


def sums_call(dtype: str, lanes: int) -> Any:
    """An intrinsic `sums(to, rows, offsets, factors, count, n, accumulate)`: to[0:n] (+)= sum over e < count of
    factors[e] * (the n elements at rows + offsets[e]).

    `offsets` is the address of int64 byte offsets, `factors` that of elements.
    """
    element, size = ELEMENT[dtype], BYTES[dtype]

    def emit_piece(function: Any, vectors: int, width: int) -> None:
        """The function of a piece of `vectors` vectors of `width` elements."""
        module = function.module
        to, rows, offsets, factors, count, accumulate = function.args
        b: Any = ir.IRBuilder(function.append_basic_block("entry"))
        kind = ir.VectorType(element, width)
        fma = declare(module, f"llvm.fmuladd.v{width}{dtype}", kind, [kind] * 3)
        zeros = [ir.Constant(kind, [0.0] * width)] * vectors
        places = [ir.Constant(I64, i * width * size) for i in range(vectors)]
        start, old, begin = b.block, b.append_basic_block("old"), b.append_basic_block("begin")
        b.cbranch(b.icmp_signed("!=", accumulate, ir.Constant(I64, 0)), old, begin)
        b.position_at_end(old)
        found = [_load(b, b.add(to, place), kind, size) for place in places]
        b.branch(begin)
        b.position_at_end(begin)
        sums = [b.phi(kind) for _ in places]
        for phi, zero, value in zip(sums, zeros, found, strict=True):
            phi.add_incoming(zero, start)
            phi.add_incoming(value, old)

        def add(at: Any, carried: list[Any]) -> list[Any]:
            row = b.add(rows, _load(b, b.add(offsets, b.mul(at, ir.Constant(I64, 8))), I64, 8))
            factor = _load(b, b.add(factors, b.mul(at, ir.Constant(I64, size))), element, size)
            scale = _splat(b, factor, kind)
            return [b.call(fma, [scale, _load(b, b.add(row, place), kind, size), total])
                    for place, total in zip(places, carried, strict=True)]

        for place, total in zip(places, _loop(b, "entries", ir.Constant(I64, 0), count, 1, sums, add), strict=True):
            b.store(total, b.inttoptr(b.add(to, place), kind.as_pointer()), align=size)
        b.ret_void()

    pieces = [(v, lanes) for v in (8, 4, 2, 1) if v <= SUMS_VECTORS]
    width = lanes // 2
    while width:
        pieces.append((1, width))
        width //= 2

    @intrinsic
    def sums(typingctx, to, rows, offsets, factors, count, n, accumulate):
        def emit(context, builder, signature, arguments):
            to, rows, offsets, factors, count, n, accumulate = arguments
            b = builder
            done: Any = ir.Constant(I64, 0)
            for vectors, width in pieces:               # from the widest down: the last takes what is left, one by one
                name = f"sums.{dtype}.{vectors}x{width}"
                function = declare(b.module, name, ir.VoidType(), [I64] * 6)
                if not function.blocks:
                    make_private(function)
                    emit_piece(function, vectors, width)
                step = vectors * width

                def piece(at: Any, carried: list[Any], function: Any = function) -> list[Any]:
                    moved = b.mul(at, ir.Constant(I64, size))
                    b.call(function, [b.add(to, moved), b.add(rows, moved), offsets, factors, count, accumulate])
                    return carried

                whole = b.sub(b.sub(n, done), b.and_(b.sub(n, done), ir.Constant(I64, step - 1)))
                end = b.add(done, whole)
                _loop(b, f"piece.{step}", done, end, step, [], piece)
                done = end
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), emit

    return sums


def dots_call(dtype: str, lanes: int) -> Any:
    """An intrinsic `dots(to, a, b, offsets, n)`: to[i] = dot product of the n elements at `a` and those at b + offsets[i],
    for i < DOT_ROWS; `offsets` is the address of int64 byte offsets."""
    element, size = ELEMENT[dtype], BYTES[dtype]
    kind = ir.VectorType(element, lanes)

    def emit_dots(function: Any) -> None:
        module = function.module
        to, a, rows, offsets, n = function.args
        b: Any = ir.IRBuilder(function.append_basic_block("entry"))
        fma = declare(module, f"llvm.fmuladd.v{lanes}{dtype}", kind, [kind] * 3)
        scalar_fma = declare(module, f"llvm.fmuladd.{dtype}", element, [element] * 3)
        add = declare(module, f"llvm.vector.reduce.fadd.v{lanes}{dtype}", element, [element, kind])
        starts = [b.add(rows, _load(b, b.add(offsets, ir.Constant(I64, 8 * i)), I64, 8)) for i in range(DOT_ROWS)]

        def terms(kind: Any, multiply_add: Any) -> Callable[..., list[Any]]:
            def step(at: Any, carried: list[Any]) -> list[Any]:
                left = _load(b, b.add(a, at), kind, size)
                return [b.call(multiply_add, [left, _load(b, b.add(start, at), kind, size), total])
                        for start, total in zip(starts, carried, strict=True)]
            return step

        end = b.mul(n, ir.Constant(I64, size))
        whole = b.and_(end, ir.Constant(I64, -size * lanes))
        zeros = [ir.Constant(kind, [0.0] * lanes)] * DOT_ROWS
        sums = _loop(b, "vectors", ir.Constant(I64, 0), whole, size * lanes, zeros, terms(kind, fma))
        totals = [b.call(add, [ir.Constant(element, -0.0), x], fastmath=("reassoc",)) for x in sums]
        totals = _loop(b, "rest", whole, end, size, totals, terms(element, scalar_fma))
        for i, total in enumerate(totals):
            b.store(total, b.inttoptr(b.add(to, ir.Constant(I64, i * size)), element.as_pointer()), align=size)
        b.ret_void()

    @intrinsic
    def dots(typingctx, to, a, b, offsets, n):
        def emit(context, builder, signature, arguments):
            function = declare(builder.module, f"sampled_dots.{dtype}", ir.VoidType(), [I64] * 5)
            if not function.blocks:
                make_private(function)
                emit_dots(function)
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return dots
