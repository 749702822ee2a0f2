"""The words of generated kernels beyond the intrinsics: how loops are vectorised, and how lanes are folded.

Imports Numba: only `fused_body.build` does so. A loop over elements is written as strips of `LANES` elements, whose
length LLVM knows, and a tail that is one loop under a mask. So a body is compiled twice and no element is left to scalar
code. Reductions keep `LANES` partial results in memory and fold them pairwise at the end: the same order, and the same
result, on every instruction set.
"""

# pyright: reportMissingParameterType=false

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphnn.runtime import instruction_set
from graphnn.runtime import intrinsics as k

LANES = 64


def _loop_end(*hints: tuple[str, Any]) -> Any:
    """Like `intrinsics.independent`, with LLVM's hints for the loop it ends."""

    @intrinsic
    def end(context):
        def generate(context, b, signature, values):
            def branch(target):
                del b.branch
                jump = b.branch(target)
                group = k._Distinct(b.module, [])
                blocks = b.function.blocks
                for block in blocks[blocks.index(target) :]:
                    for instruction in block.instructions:
                        if instruction.opname in ("load", "store") and k._is_user_memory(instruction):
                            instruction.set_metadata("llvm.access.group", group)
                accesses = b.module.add_metadata(["llvm.loop.parallel_accesses", group])
                notes = [b.module.add_metadata([name, value]) for name, value in hints]
                jump.set_metadata("llvm.loop", k._Distinct(b.module, [accesses, *notes], itself=True))
                return jump

            b.branch = branch
            return context.get_dummy_value()

        return types.void(), generate

    return end


_YES, _ONE = ir.IntType(1)(1), ir.IntType(32)(1)
_VECTORISE = ("llvm.loop.vectorize.enable", _YES)
_strip = _loop_end(_VECTORISE)
# A long chain of operations on one vector fills the schedulers of a core with work that waits; four chains side by side
# take turns (15 % on tanh times sigmoid). It needs the 32 registers of AVX-512.
_interleaved = _loop_end(_VECTORISE, ("llvm.loop.interleave.count", ir.IntType(32)(4)))
_masked = _loop_end(_VECTORISE, ("llvm.loop.vectorize.predicate.enable", _YES), ("llvm.loop.interleave.count", _ONE))
_plain = _loop_end(_VECTORISE, ("llvm.loop.interleave.count", _ONE))


def _fold(word: str, dtype: str) -> Any:
    """`fold(pointer)`: LANES elements combined pairwise, the upper half with the lower half each time."""
    scalar = k.LLVM_TYPE[k.NUMBA_TYPE[dtype]]
    is_float = dtype in ("f32", "f64")

    def combine(b, x, y):
        if word == "Sum":
            return b.fadd(x, y) if is_float else b.add(x, y)
        if word == "Prod":
            return b.fmul(x, y) if is_float else b.mul(x, y)
        sign = ">" if word == "Max" else "<"
        if not is_float:
            return b.select(b.icmp_signed(sign, x, y), x, y)
        best = b.select(b.fcmp_ordered(sign, y, x), y, x)
        return b.select(b.fcmp_unordered("uno", y, y), y, best)

    @intrinsic
    def fold(context, pointer):
        if not isinstance(pointer, types.CPointer):
            return None

        def generate(context, b, signature, values):
            vector = ir.VectorType(scalar, LANES)
            x = b.load(b.bitcast(values[0], vector.as_pointer()), align=64)
            lanes = LANES
            while lanes > 1:
                lanes //= 2
                index = [ir.Constant(ir.VectorType(k.I32, lanes), list(range(s, s + lanes))) for s in (0, lanes)]
                undefined = ir.Constant(x.type, ir.Undefined)
                x = combine(b, *(b.shuffle_vector(x, undefined, i) for i in index))
            return b.extract_element(x, k.I32(0))

        return pointer.dtype(pointer), generate

    return fold


def _integer_division(opname: str) -> Any:
    """Python's quotient ("sdiv") or remainder ("srem") of two integers of one type; 0 for the divisor 0, and no trap for
    the smallest number by -1."""

    @intrinsic
    def divide(context, x, y):
        def generate(context, b, signature, values):
            x, y = values
            zero, one, minus = x.type(0), x.type(1), x.type(-1)
            is_zero, is_minus = b.icmp_signed("==", y, zero), b.icmp_signed("==", y, minus)
            safe = b.select(b.or_(is_zero, is_minus), one, y)
            quotient, rest = b.sdiv(x, safe), b.srem(x, safe)
            wrong = b.and_(b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, safe), zero))
            if opname == "srem":
                return b.select(b.or_(is_zero, is_minus), zero, b.select(wrong, b.add(rest, safe), rest))
            down = b.select(wrong, b.sub(quotient, one), quotient)
            return b.select(is_zero, zero, b.select(is_minus, b.neg(x), down))

        return x(x, x), generate

    return divide


_INTRINSICS = """
    select minimum maximum imin imax ineg iabs fabs floor ceil rint sqrt shl shr udiv urem address_of float_arg
    nontemporal_store store_fence to_f32 to_f64 to_i32 to_i64 to_bool
"""


def vocabulary() -> dict[str, Any]:
    """Every name that generated source may use. `strip()` ends a loop over the LANES elements of a strip, `tail()` one over
    fewer; their iterations are independent."""
    # A masked loop needs masks for elements of every size; without them LLVM would branch at each element.
    wide = instruction_set.current().name == "avx512"
    return {**_words(), "strip": _interleaved if wide else _strip, "tail": _masked if wide else _plain}


@cache
def _words() -> dict[str, Any]:
    from graphnn.runtime import vector_math

    names: dict[str, Any] = {name: getattr(k, name) for name in _INTRINSICS.split()}
    names |= dict(k.SCALAR)
    names |= {f"p_{dtype}": pointer for dtype, pointer in k.POINTER.items()}
    names |= {"u8": np.uint8, "bool": bool, "inf": float("inf"), "LANES": LANES}
    for word in ("Sum", "Prod", "Max", "Min"):
        names |= {f"fold_{word}_{dtype}": _fold(word, dtype) for dtype in ("f32", "f64", "i32", "i64")}
    floordiv, mod = _integer_division("sdiv"), _integer_division("srem")
    names |= {"floordiv_i32": floordiv, "floordiv_i64": floordiv, "mod_i32": mod, "mod_i64": mod}
    for word, function in vector_math.FUNCTIONS.items():
        names |= {f"{word}_f32": function, f"{word}_f64": function}
    return names
