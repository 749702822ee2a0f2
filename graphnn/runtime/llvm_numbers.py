"""LLVM values with Python's operators, so that a formula reads like mathematics while it emits instructions.

A `Number` holds a builder and a scalar value: float32, float64, an integer or a condition. `x * x + 1.0` emits a multiply
and an add in x's type. Nothing is reassociated or fused behind the reader's back; `muladd` may fuse, `fma` does.
Emitting directly costs microseconds, where a function typed and lowered by Numba costs tens of milliseconds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphnn.runtime.intrinsics import F32, F64, I32, I64, call_llvm, suffix

_INT_OF = {F32: I32, F64: I64}
_FLOAT_OF = {I32: F32, I64: F64}
_FLOATS = (F32, F64)
Operand = Any  # a Number of the same type, or a Python constant


class Number:
    """An LLVM scalar in a builder."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def is_float(self) -> bool:
        return self.value.type in _FLOATS

    def of(self, constant: Operand) -> Any:
        """The LLVM value of an operand; a constant takes this number's type."""
        return constant.value if isinstance(constant, Number) else ir.Constant(self.value.type, constant)

    def constant(self, constant: float) -> Number:
        """A constant of this number's type."""
        return Number(self.builder, self.of(constant))

    def _emit(self, opname: str, *operands: Any) -> Number:
        return Number(self.builder, getattr(self.builder, opname)(*operands))

    def _binary(self, other: Operand, opname: str) -> Number:
        return self._emit(("f" if self.is_float else "") + opname, self.value, self.of(other))

    def _reversed(self, other: Operand, opname: str) -> Number:
        return self._emit(("f" if self.is_float else "") + opname, self.of(other), self.value)

    def __add__(self, other: Operand) -> Number:
        return self._binary(other, "add")

    def __sub__(self, other: Operand) -> Number:
        return self._binary(other, "sub")

    def __mul__(self, other: Operand) -> Number:
        return self._binary(other, "mul")

    def __truediv__(self, other: Operand) -> Number:
        return self._binary(other, "div")

    def __radd__(self, other: Operand) -> Number:
        return self._reversed(other, "add")

    def __rsub__(self, other: Operand) -> Number:
        return self._reversed(other, "sub")

    def __rmul__(self, other: Operand) -> Number:
        return self._reversed(other, "mul")

    def __rtruediv__(self, other: Operand) -> Number:
        return self._reversed(other, "div")

    def __neg__(self) -> Number:
        return self._emit("fneg" if self.is_float else "neg", self.value)

    def __and__(self, other: Operand) -> Number:
        return self._emit("and_", self.value, self.of(other))

    def __or__(self, other: Operand) -> Number:
        return self._emit("or_", self.value, self.of(other))

    def __xor__(self, other: Operand) -> Number:
        return self._emit("xor", self.value, self.of(other))

    def __lshift__(self, count: Operand) -> Number:
        return self._emit("shl", self.value, self.of(count))

    def __rshift__(self, count: Operand) -> Number:
        """A logical shift."""
        return self._emit("lshr", self.value, self.of(count))

    def _compare(self, sign: str, other: Operand) -> Number:
        return self._emit("fcmp_ordered" if self.is_float else "icmp_unsigned", sign, self.value, self.of(other))

    def __lt__(self, other: Operand) -> Number:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Number:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Number:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Number:
        return self._compare(">=", other)

    def equals(self, other: Operand) -> Number:
        """False where either is NaN."""
        return self._compare("==", other)

    def where(self, yes: Operand, no: Operand) -> Number:
        """`yes` where this condition holds, else `no`; at least one of them is a Number."""
        like = yes if isinstance(yes, Number) else no
        return self._emit("select", self.value, like.of(yes), like.of(no))

    @property
    def bits(self) -> Number:
        """This float's bits as an integer."""
        return self._emit("bitcast", self.value, _INT_OF[self.value.type])

    @property
    def from_bits(self) -> Number:
        """The float of these bits."""
        return self._emit("bitcast", self.value, _FLOAT_OF[self.value.type])

    def widened(self) -> Number:
        """This float32 as float64, or this 32-bit integer as an unsigned 64-bit one."""
        return self._emit("fpext", self.value, F64) if self.is_float else self._emit("zext", self.value, I64)

    def narrowed(self) -> Number:
        """This float64 rounded to float32, or the lower half of this 64-bit integer."""
        return self._emit("fptrunc", self.value, F32) if self.is_float else self._emit("trunc", self.value, I32)


def _call(name: str, first: Number, *rest: Operand) -> Number:
    values = [first.value, *(first.of(operand) for operand in rest)]
    kind = first.value.type
    return Number(first.builder, call_llvm(first.builder, f"llvm.{name}.{suffix(kind)}", kind, values))


def fma(x: Number, y: Operand, z: Operand) -> Number:
    """x * y + z, rounded once; where the hardware cannot, libm does."""
    return _call("fma", x, y, z)


def muladd(x: Number, y: Operand, z: Operand) -> Number:
    """x * y + z, fused where that is fast."""
    return _call("fmuladd", x, y, z)


def absolute(x: Number) -> Number:
    return _call("fabs", x)


def copysign(x: Number, sign: Number) -> Number:
    return _call("copysign", x, sign)


def rint(x: Number) -> Number:
    return _call("rint", x)


def sqrt(x: Number) -> Number:
    return _call("sqrt", x)


def at_least(x: Number, bound: float) -> Number:
    """max(x, bound) for a constant; NaN stays NaN."""
    return (x < bound).where(bound, x)


def at_most(x: Number, bound: float) -> Number:
    """min(x, bound) for a constant; NaN stays NaN."""
    return (x > bound).where(bound, x)


def polynomial(x: Number, coefficients: tuple[float, ...]) -> Number:
    """The sum of coefficients[i] * x**i."""
    total = muladd(x, coefficients[-1], coefficients[-2])
    for c in reversed(coefficients[:-2]):
        total = muladd(total, x, c)
    return total


def two_sum(large: Number, small: Number) -> tuple[Number, Number]:
    """The rounded sum and its error, if |large| >= |small| or large is 0 (Dekker)."""
    total = large + small
    return total, small - (total - large)


def any_two_sum(x: Number, y: Number) -> tuple[Number, Number]:
    """The rounded sum and its error, whichever is larger (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def two_product(x: Number, y: Operand) -> tuple[Number, Number]:
    """The rounded product and its error."""
    product = x * y
    return product, fma(x, y, -product)
