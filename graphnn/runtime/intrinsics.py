"""The vocabulary of pure kernels: all that a compiled kernel may say beyond plain arithmetic, comparisons and loops.

Importing this module imports Numba, so only kernel builders do it, inside their bodies. A kernel written with these
names compiles to an object that refers to nothing but `llvm.*` intrinsics and `ALLOWED_SYMBOLS`:

    def rows(dtype):
        from graphnn.runtime import intrinsics as k
        pointer, scalar = k.POINTER[dtype], k.SCALAR[dtype]

        def kernel(args, tile, scratch):
            x, y, n = pointer(args[0]), pointer(args[1]), args[2]
            slope = scalar(k.float_arg(args, 3))
            for i in range(n):
                y[i] = k.maximum(x[i] * slope, x[i])
                k.independent()          # last statement of a loop body: vectorise without alias checks
            return 0

        return kernel

Constants take the type of the first argument only inside these operations (`fma(x, 2.0, 1.0)` is float32 for a float32
`x`); in plain arithmetic Numba promotes, so write `scalar(2.0) * x`. Pointers have C semantics: no wraparound of
negative indices, no bounds. Functions shared by kernels are decorated with `@inline`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from graphnn.runtime.numba_assembly import inline as inline

_HARDWARE = ("fma", "floor", "ceil", "rint", "roundeven", "trunc", "sqrt", "fmod")
LIBM = frozenset(name + kind for name in (*_HARDWARE, "sin", "cos") for kind in ("", "f"))
"""What of libm kernels may call: sin and cos of huge arguments, and what LLVM calls where the hardware lacks it."""
ALLOWED_SYMBOLS = LIBM | {"memcpy", "memset", "memmove"}
"""Every external symbol an object may refer to. LLVM itself turns loops into the three memory functions."""

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
VOID = ir.VoidType()
LLVM_TYPE = {
    types.float32: F32, types.float64: F64, types.boolean: I1, types.uint8: I8, types.int8: I8,
    types.int32: I32, types.uint32: I32, types.int64: I64, types.uint64: I64,
}  # fmt: skip

Emit = Callable[..., Any]


def call_llvm(builder: ir.IRBuilder, name: str, result: Any, values: list[Any]) -> Any:
    """A call of the LLVM function `name`, declared in the module if it is not yet."""
    function_type = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), values)


def suffix(kind: Any) -> str:
    """How LLVM spells a scalar type in the name of an overloaded intrinsic."""
    return {F32: "f32", F64: "f64"}.get(kind) or f"i{kind.width}"


def _fixed(emit: Emit, result: types.Type, *arguments: types.Type) -> Any:
    """An intrinsic of fixed types; `emit(builder, *values)` returns its value (nothing for void)."""

    def generate(context, builder, signature, values):
        out = emit(builder, *values)
        return context.get_dummy_value() if result is types.void else out

    return _of_arity(len(arguments), lambda *given: (result(*arguments), generate))


def _generic(arity: int, emit: Emit, accepts: Callable[[Any], bool], result: Any = None, leading: int = 0) -> Any:
    """An intrinsic over the type of its first argument (after `leading` conditions), to which the others are cast."""

    def resolve(*given):
        kind = given[leading]
        if not accepts(kind):
            return None
        arguments = [types.boolean] * leading + [kind] * (arity - leading)

        def generate(context, builder, signature, values):
            return emit(builder, *values, kind) if emit in _TYPED else emit(builder, *values)

        return (result or kind)(*arguments), generate

    return _of_arity(arity, resolve)


_TYPED: set[Emit] = set()  # emitters that take the Numba type as their last argument (LLVM integers have no sign)


def _typed(emit: Emit) -> Emit:
    _TYPED.add(emit)
    return emit


def _of_arity(arity: int, resolve: Callable[..., Any]) -> Any:
    """Numba reads an intrinsic's parameters from its signature, so each number of them needs its own function."""
    names = ", ".join("abcdef"[:arity])
    scope: dict[str, Any] = {"resolve": resolve}
    exec(f"def op(context{', ' + names if names else ''}): return resolve({names})", scope)
    return intrinsic(scope["op"])


def _is_float(kind: Any) -> bool:
    return isinstance(kind, types.Float)


def _is_int(kind: Any) -> bool:
    return isinstance(kind, types.Integer)


def _is_number(kind: Any) -> bool:
    return isinstance(kind, types.Number | types.Boolean)


def _float_op(name: str, arity: int) -> Any:
    def emit(b, *v):
        return call_llvm(b, f"llvm.{name}.{suffix(v[0].type)}", v[0].type, list(v))

    return _generic(arity, emit, _is_float)


# Floating point, for float32 and float64 alike.
fma = _float_op("fma", 3)
"""a * b + c with one rounding everywhere (a libm call where the hardware has no fma)."""
fmuladd = _float_op("fmuladd", 3)
"""a * b + c, fused where that is faster."""
floor = _float_op("floor", 1)
ceil = _float_op("ceil", 1)
rint = _float_op("rint", 1)
"""Round half to even."""
trunc = _float_op("trunc", 1)
sqrt = _float_op("sqrt", 1)
fabs = _float_op("fabs", 1)
copysign = _float_op("copysign", 2)
minnum = _float_op("minnum", 2)
"""The smaller; of a number and a NaN the number."""
maxnum = _float_op("maxnum", 2)
is_nan = _generic(1, lambda b, a: b.fcmp_unordered("uno", a, a), _is_float, types.boolean)


def _extremum(comparison: str) -> Emit:
    def emit(b, x, y):
        # A NaN in x fails the comparison and stays. One min or max instruction if y is constant: the NaN test folds.
        best = b.select(b.fcmp_ordered(comparison, y, x), y, x)
        return b.select(b.fcmp_unordered("uno", y, y), y, best)

    return emit


minimum = _generic(2, _extremum("<"), _is_float)
"""Like np.minimum: a NaN in either gives NaN. Cheapest with the constant second."""
maximum = _generic(2, _extremum(">"), _is_float)
"""Like np.maximum: a NaN in either gives NaN. Cheapest with the constant second."""
select = _generic(3, lambda b, c, x, y: b.select(c, x, y), _is_number, leading=1)
"""`x if condition else y` without a branch; both are computed."""


# Integers.
def _signed_or_unsigned(signed: str, unsigned: str) -> Emit:
    return _typed(lambda b, *v: getattr(b, signed if v[-1].signed else unsigned)(*v[:-1]))


def _int_extremum(comparison: str) -> Emit:
    def emit(b, x, y, kind):
        compare = b.icmp_signed if kind.signed else b.icmp_unsigned
        return b.select(compare(comparison, x, y), x, y)

    return _typed(emit)


def _short_division(opname: str) -> Emit:
    def emit(b, x, y):
        # 64-bit division takes three times as long as 32-bit division on most CPUs; plans are known to fit.
        return b.zext(getattr(b, opname)(b.trunc(x, I32), b.trunc(y, I32)), I64)

    return emit


udiv = _generic(2, lambda b, x, y: b.udiv(x, y), _is_int)
"""Unsigned quotient, no test for zero: the caller knows that both are >= 0 and y > 0."""
urem = _generic(2, lambda b, x, y: b.urem(x, y), _is_int)
udiv32 = _fixed(_short_division("udiv"), types.int64, types.int64, types.int64)
"""Quotient of int64 values that both lie in [0, 2**32), faster than `udiv`."""
urem32 = _fixed(_short_division("urem"), types.int64, types.int64, types.int64)
imin = _generic(2, _int_extremum("<"), _is_int)
imax = _generic(2, _int_extremum(">"), _is_int)
iabs = _generic(1, lambda b, x: b.select(b.icmp_signed("<", x, x.type(0)), b.neg(x), x), _is_int)
ineg = _generic(1, lambda b, x: b.neg(x), _is_int)
shl = _generic(2, lambda b, x, n: b.shl(x, n), _is_int)
shr = _generic(2, _signed_or_unsigned("ashr", "lshr"), _is_int)
"""Arithmetic for signed types, logical for unsigned ones."""
lshr = _generic(2, lambda b, x, n: b.lshr(x, n), _is_int)
mul_low_u32 = _fixed(lambda b, x, y: b.mul(x, y), types.uint32, types.uint32, types.uint32)
mul_high_u32 = _fixed(
    lambda b, x, y: b.trunc(b.lshr(b.mul(b.zext(x, I64), b.zext(y, I64)), I64(32)), I32),
    types.uint32, types.uint32, types.uint32,
)  # fmt: skip
"""The upper half of the 64-bit product (Philox)."""
add_u32 = _fixed(lambda b, x, y: b.add(x, y), types.uint32, types.uint32, types.uint32)
"""Sum modulo 2**32 (Numba would widen it to 64 bits)."""
xor_u32 = _fixed(lambda b, x, y: b.xor(x, y), types.uint32, types.uint32, types.uint32)


# Conversions.
def _cast(target: Any) -> Any:
    to = LLVM_TYPE[target]

    def resolve(kind):
        if not _is_number(kind):
            return None
        source = LLVM_TYPE[kind]
        unsigned = isinstance(kind, types.Boolean) or (_is_int(kind) and not kind.signed)

        def generate(context, b, signature, values):
            x = values[0]
            if _is_float(kind) and _is_float(target):
                return x if source == to else (b.fpext(x, to) if to == F64 else b.fptrunc(x, to))
            if _is_float(target):
                return b.uitofp(x, to) if unsigned else b.sitofp(x, to)
            if _is_float(kind):
                # Saturating, and 0 for NaN: a plain fptosi is undefined out of range.
                name = f"llvm.fpto{'s' if target.signed else 'u'}i.sat.i{to.width}.{suffix(source)}"
                return call_llvm(b, name, to, [x])
            if source.width < to.width:
                return b.zext(x, to) if unsigned else b.sext(x, to)
            return b.trunc(x, to) if source.width > to.width else x

        return target(kind), generate

    return _of_arity(1, resolve)


def _truth() -> Any:
    def emit(b, x, kind):
        test = b.fcmp_unordered("!=", x, x.type(0.0)) if _is_float(kind) else b.icmp_unsigned("!=", x, x.type(0))
        return b.zext(test, I8)

    def resolve(kind):
        return (types.uint8(kind), lambda c, b, s, v: emit(b, v[0], kind)) if _is_number(kind) else None

    return _of_arity(1, resolve)


def _bitcast(source: types.Type, target: types.Type) -> Any:
    return _fixed(lambda b, x: b.bitcast(x, LLVM_TYPE[target]), target, source)


to_f32, to_f64 = _cast(types.float32), _cast(types.float64)
to_i32, to_i64 = _cast(types.int32), _cast(types.int64)
to_u32, to_u64 = _cast(types.uint32), _cast(types.uint64)
to_bool = _truth()
"""1 if x != 0 (NaN is true), else 0, as one byte."""
CAST = {"f32": to_f32, "f64": to_f64, "i32": to_i32, "i64": to_i64, "bool": to_bool}
"""dtype name -> conversion from any number; from floats to integers it saturates and gives 0 for NaN."""
f32_bits, f32_from_bits = _bitcast(types.float32, types.int32), _bitcast(types.int32, types.float32)
f64_bits, f64_from_bits = _bitcast(types.float64, types.int64), _bitcast(types.int64, types.float64)
BITS = {"f32": f32_bits, "f64": f64_bits}
FROM_BITS = {"f32": f32_from_bits, "f64": f64_from_bits}
SCALAR: dict[str, Any] = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "bool": np.uint8}
"""dtype name -> constructor to use in kernels for constants and for scalar arguments."""
NUMBA_TYPE = {
    "f32": types.float32, "f64": types.float64, "i32": types.int32, "i64": types.int64, "bool": types.uint8,
}  # fmt: skip
ITEMSIZE = {"f32": 4, "f64": 8, "i32": 4, "i64": 8, "bool": 1}


# Memory.
def _pointer(kind: types.Type) -> Any:
    target = LLVM_TYPE[kind].as_pointer()
    return _fixed(lambda b, address: b.inttoptr(address, target), types.CPointer(kind), types.int64)


f32_pointer, f64_pointer = _pointer(types.float32), _pointer(types.float64)
i32_pointer, i64_pointer = _pointer(types.int32), _pointer(types.int64)
u32_pointer, u8_pointer = _pointer(types.uint32), _pointer(types.uint8)
slots = i64_pointer
"""The argument slots at an address."""
POINTER: dict[str, Any] = {
    "f32": f32_pointer, "f64": f64_pointer, "i32": i32_pointer, "i64": i64_pointer, "bool": u8_pointer,
}  # fmt: skip
"""dtype name -> typed pointer from an int64 address."""


@intrinsic
def float_arg(context, args, index):
    """The float64 whose bits stand in slot `index`."""

    def generate(context, b, signature, values):
        return b.bitcast(b.load(b.gep(values[0], [values[1]]), align=8), F64)

    return types.float64(types.CPointer(types.int64), types.int64), generate


@intrinsic
def address_of(context, pointer, index):
    """The int64 address of `pointer[index]`."""
    if not isinstance(pointer, types.CPointer):
        return None
    return types.int64(pointer, types.int64), lambda c, b, s, v: b.ptrtoint(b.gep(v[0], [v[1]]), I64)


@intrinsic
def nontemporal_store(context, pointer, index, value):
    """`pointer[index] = value` past the caches, for a loop that starts at 0 with `pointer` 64-byte aligned.

    It declares an alignment of 64 because LLVM vectorises streaming stores only if the vector's alignment is known; the
    vector steps then keep it, and a scalar streaming store needs none. Before others may read: `store_fence()`.
    """
    if not isinstance(pointer, types.CPointer):
        return None

    def generate(context, b, signature, values):
        store = b.store(values[2], b.gep(values[0], [values[1]], inbounds=True), align=64)
        store.set_metadata("nontemporal", b.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype), generate


def _host() -> str:
    return llvm.get_process_triple().split("-")[0]


def _emit_store_fence(b):
    # Streaming stores are weakly ordered on x86; a release fence emits nothing there and would not order them.
    call_llvm(b, "llvm.x86.sse.sfence", VOID, []) if _host() in ("x86_64", "i686", "i386") else b.fence("release")


def _emit_pause(b):
    if _host() in ("x86_64", "i686", "i386"):
        call_llvm(b, "llvm.x86.sse2.pause", VOID, [])
    elif _host() in ("aarch64", "arm64"):
        call_llvm(b, "llvm.aarch64.hint", VOID, [I32(1)])  # 1 is YIELD


def _bytes(b, address):
    return b.inttoptr(address, I8.as_pointer())


def _words(b, address):
    return b.inttoptr(address, I64.as_pointer())


def _emit_assume_aligned(b, address, alignment):
    clear = b.icmp_unsigned("==", b.and_(address, b.sub(alignment, I64(1))), I64(0))
    call_llvm(b, "llvm.assume", VOID, [clear])


def _emit_prefetch(b, address):
    call_llvm(b, "llvm.prefetch.p0", VOID, [_bytes(b, address), I32(0), I32(3), I32(1)])  # read, keep, data


def _emit_memset0(b, address, count):
    call_llvm(b, "llvm.memset.p0.i64", VOID, [_bytes(b, address), I8(0), count, I1(0)])


def _emit_memcpy(b, to, source, count):
    call_llvm(b, "llvm.memcpy.p0.p0.i64", VOID, [_bytes(b, to), _bytes(b, source), count, I1(0)])


store_fence = _fixed(_emit_store_fence, types.void)
"""Makes this thread's streaming stores visible before its later stores."""
pause = _fixed(_emit_pause, types.void)
"""Tells the core that this thread spins."""
assume_aligned = _fixed(_emit_assume_aligned, types.void, types.int64, types.int64)
"""A promise that `address` is a multiple of `alignment`, a power of two. Breaking it is undefined."""
prefetch = _fixed(_emit_prefetch, types.void, types.int64)
memset0 = _fixed(_emit_memset0, types.void, types.int64, types.int64)
"""Zero `count` bytes at an address."""
memcpy = _fixed(_emit_memcpy, types.void, types.int64, types.int64, types.int64)
"""`memcpy(to, source, count)` of bytes that do not overlap."""


class _Distinct(ir.MDValue):
    """A metadata node that is never merged with an equal one; `itself` puts the node first among its operands."""

    def __init__(self, module: ir.Module, operands: list[Any], itself: bool = False) -> None:
        super().__init__(module, operands, str(len(module.metadata)))
        self.itself = itself

    def descr(self, buf: Any) -> None:
        operands = ([self] if self.itself else []) + list(self.operands)
        buf += ("distinct !{ " + ", ".join(op.get_reference() for op in operands) + " }", "\n")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@intrinsic
def independent(context):
    """Last statement of a `for ... in range(n)` body: no iteration reads or writes what another one writes.

    LLVM then vectorises the loop without comparing pointers at run time, however many there are. In place at the same
    index (an output that is an input) stays right. (LangRef: `llvm.loop.parallel_accesses`, `llvm.access.group`.)
    """

    def generate(context, b, signature, values):
        def branch(target):
            del b.branch  # only the jump that ends this body
            jump = b.branch(target)
            group = _Distinct(b.module, [])
            blocks = b.function.blocks
            for block in blocks[blocks.index(target) :]:
                for instruction in block.instructions:
                    if instruction.opname in ("load", "store") and _is_user_memory(instruction):
                        instruction.set_metadata("llvm.access.group", group)
            accesses = b.module.add_metadata(["llvm.loop.parallel_accesses", group])
            jump.set_metadata("llvm.loop", _Distinct(b.module, [accesses], itself=True))
            return jump

        b.branch = branch
        return context.get_dummy_value()

    return types.void(), generate


def _is_user_memory(access: Any) -> bool:
    """Whether a load or store goes through pointer arithmetic on a pointer, not to a local variable."""
    where = access.operands[-1]
    while isinstance(where, ir.CastInstr):
        where = where.operands[0]
    return isinstance(where, ir.GEPInstr) and not isinstance(where.operands[0], ir.AllocaInstr)


# Threads and calls, for the executor and for kernels with an epilogue.
load_acquire = _fixed(lambda b, address: b.load_atomic(_words(b, address), "acquire", 8), types.int64, types.int64)


def _emit_store_release(b, address, value):
    b.store_atomic(value, _words(b, address), "release", 8)


def _emit_compare_and_swap(b, address, expected, desired):
    return b.zext(b.extract_value(b.cmpxchg(_words(b, address), expected, desired, "acq_rel", "acquire"), 1), I64)


def _emit_call(b, function, args, *rest):
    kind = ir.FunctionType(I64, [I64.as_pointer()] + [I64] * len(rest))
    return b.call(b.inttoptr(function, kind.as_pointer()), [_words(b, args), *rest])


store_release = _fixed(_emit_store_release, types.void, types.int64, types.int64)
"""`store_release(address, value)`."""
atomic_add = _fixed(
    lambda b, address, n: b.atomic_rmw("add", _words(b, address), n, "acq_rel"), types.int64, types.int64, types.int64
)
"""Adds to the int64 at an address; returns what stood there before."""
compare_and_swap = _fixed(_emit_compare_and_swap, types.int64, types.int64, types.int64, types.int64)
"""`compare_and_swap(address, expected, desired)` -> 1 if it stored `desired`, else 0."""
call_kernel = _fixed(_emit_call, *[types.int64] * 5)
"""`call_kernel(function, args_address, tile, scratch)` -> the row kernel's code."""


@intrinsic
def call_epilogue(context, function, args, batch, row0, rows, col0, cols):
    """Call the epilogue at an address on one finished tile; returns its code."""
    return types.int64(*[types.int64] * 7), lambda c, b, s, v: _emit_call(b, *v)
