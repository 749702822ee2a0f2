"""Sums and dot products of rows that lie anywhere in memory, as vector LLVM IR: the microkernels of tables of vectors.

Rows are given by an array of their addresses, so nothing is gathered first. They may have any length: whole vectors, then
short ones of 4 elements, then single elements.
"""

# pyright: basic, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphnn.runtime.contraction import BYTES, ELEMENT, I32, I64, declare, do_not_unroll, make_private

DOTS_AT_ONCE = 4
_SUMS_AT_ONCE = 4                   # vectors of the sum that are kept in registers, where the row is so long


def row_sums_call(dtype: str, lanes: int) -> Any:
    """An intrinsic `sums(to, factors, rows, count, n, add)`: to[:n] (+)= sum over j < count of factors[j] * rows[j][:n].

    `rows` is the address of `count` addresses; with `add` not 0 the sum starts from what `to` holds, else from 0.
    """

    def emit(function: Any) -> None:
        to, factors, rows, count, n, add = function.args
        b = _Emitter(function, dtype)
        end = b.mul(n, ir.Constant(I64, BYTES[dtype]))
        adding = b.icmp_signed("!=", add, ir.Constant(I64, 0))
        at: Any = ir.Constant(I64, 0)
        widths = ((lanes, _SUMS_AT_ONCE), *((width, 1) for width in _widths(lanes)))
        for width, many in widths:
            kind = b.kind(width)
            each = width * BYTES[dtype]
            places = [ir.Constant(I64, i * each) for i in range(many)]

            def piece(here: Any, _: Sequence[Any], kind: Any = kind, places: Any = places, each: int = each,
                      many: int = many) -> list[Any]:
                start = [b.select(adding, b.load_at(b.add(to, here), kind, place), b.zero(kind)) for place in places]

                def one(j: Any, totals: Sequence[Any]) -> list[Any]:
                    row = b.add(b.word(rows, j), here)
                    factor = b.spread(b.element(factors, j), kind)
                    return [b.fma(factor, b.load_at(row, kind, place), total)
                            for place, total in zip(places, totals, strict=True)]

                totals = b.loop(ir.Constant(I64, 0), count, 1, start, one)[1]
                for total, place in zip(totals, places, strict=True):
                    b.store_at(total, b.add(to, here), place)
                return []

            whole = b.sub(end, b.urem(b.sub(end, at), ir.Constant(I64, each * many)))
            at = b.loop(at, whole, each * many, [], piece)[0]
        b.ret_void()

    return _intrinsic(f"row_sums.v{lanes}{dtype}", 6, emit)


def row_dots_call(dtype: str, lanes: int) -> Any:
    """An intrinsic `dots(x, rows, n, to)`: the products of x[:n] with DOTS_AT_ONCE rows; `rows` is the address of their
    addresses."""

    def emit(function: Any) -> None:
        x, rows, n, to = function.args
        b = _Emitter(function, dtype)
        end = b.mul(n, ir.Constant(I64, BYTES[dtype]))
        starts = [b.word(rows, ir.Constant(I64, j)) for j in range(DOTS_AT_ONCE)]
        at: Any = ir.Constant(I64, 0)
        totals: list[Any] = [b.zero(b.kind(lanes))] * DOTS_AT_ONCE
        for width in _widths(lanes):
            kind = b.kind(width)
            totals = [b.folded(total, width) for total in totals]

            def piece(here: Any, totals: Sequence[Any], kind: Any = kind) -> list[Any]:
                left = b.load_at(b.add(x, here), kind)
                return [b.fma(left, b.load_at(b.add(row, here), kind), total)
                        for row, total in zip(starts, totals, strict=True)]

            each = width * BYTES[dtype]
            whole = b.sub(end, b.urem(b.sub(end, at), ir.Constant(I64, each)))
            at, totals = b.loop(at, whole, each, totals, piece)
        for j, total in enumerate(totals):
            b.store_at(total, to, ir.Constant(I64, j * BYTES[dtype]))
        b.ret_void()

    return _intrinsic(f"row_dots.v{lanes}{dtype}", 4, emit)


def _widths(lanes: int) -> tuple[int, ...]:
    return (lanes, 4, 1) if lanes > 4 else (lanes, 1) if lanes > 1 else (1,)


def _intrinsic(name: str, arity: int, emit_body: Callable[[Any], None]) -> Any:
    """An intrinsic of integers that calls one private function of the module."""

    def resolve(*given: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            function = declare(builder.module, name, ir.VoidType(), [I64] * arity)
            if not function.blocks:
                make_private(function)
                emit_body(function)
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * arity), emit

    if arity == 4:
        return intrinsic(lambda context, a, b, c, d: resolve())
    return intrinsic(lambda context, a, b, c, d, e, f: resolve())


class _Emitter(ir.IRBuilder):
    """The words in which the two functions are written."""

    def __init__(self, function: Any, dtype: str) -> None:
        super().__init__(function.append_basic_block("entry"))
        self.dtype, self.scalar = dtype, ELEMENT[dtype]

    def kind(self, width: int) -> Any:
        return self.scalar if width == 1 else ir.VectorType(self.scalar, width)

    def zero(self, kind: Any) -> Any:
        return ir.Constant(kind, 0.0 if kind == self.scalar else [0.0] * kind.count)

    def load_at(self, address: Any, kind: Any, offset: Any = None) -> Any:
        address = address if offset is None else self.add(address, offset)
        return self.load(self.inttoptr(address, kind.as_pointer()), align=BYTES[self.dtype])

    def store_at(self, value: Any, address: Any, offset: Any) -> None:
        self.store(value, self.inttoptr(self.add(address, offset), value.type.as_pointer()), align=BYTES[self.dtype])

    def word(self, start: Any, j: Any) -> Any:
        return self.load(self.gep(self.inttoptr(start, I64.as_pointer()), [j]), align=8)

    def element(self, start: Any, j: Any) -> Any:
        return self.load(self.gep(self.inttoptr(start, self.scalar.as_pointer()), [j]), align=BYTES[self.dtype])

    def spread(self, scalar: Any, kind: Any) -> Any:
        if kind == self.scalar:
            return scalar
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        name = self.dtype if x.type == self.scalar else f"v{x.type.count}{self.dtype}"
        return self.call(declare(self.module, f"llvm.fmuladd.{name}", x.type, [x.type] * 3), [x, y, z])

    def folded(self, total: Any, width: int) -> Any:
        """The sum of `total`'s lanes in the first `width` of them: the halves, added again and again."""
        while total.type != self.kind(width):
            half = total.type.count // 2
            if half == 1:
                low, high = (self.extract_element(total, ir.Constant(I32, i)) for i in range(2))
            else:
                low, high = (self.shuffle_vector(total, total, ir.Constant(ir.VectorType(I32, half),
                                                                           list(range(first, first + half))))
                             for first in (0, half))
            total = self.fadd(low, high)
        return total

    def loop(self, first: Any, end: Any, step: int, totals: Sequence[Any],
             body: Callable[..., list[Any]]) -> tuple[Any, list[Any]]:
        """`for at in range(first, end, step): totals = body(at, totals)`; where it ended, and the totals."""
        before, inside = self.block, self.append_basic_block("body")
        after = self.append_basic_block("after")
        self.cbranch(self.icmp_signed("<", first, end), inside, after)
        self.position_at_end(inside)
        at, phis = self.phi(I64), [self.phi(total.type) for total in totals]
        new = body(at, phis)
        following = self.add(at, ir.Constant(I64, step))
        again, last = self.cbranch(self.icmp_signed("<", following, end), inside, after), self.block
        again.set_metadata("llvm.loop", do_not_unroll(self.module))
        self.position_at_end(after)
        ended, found = self.phi(I64), [self.phi(total.type) for total in totals]
        for phi, start, later in zip([at, *phis], [first, *totals], [following, *new], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(later, last)
        for phi, start, later in zip([ended, *found], [first, *totals], [following, *new], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(later, last)
        return ended, found
