"""Random numbers: Philox4x32-10 over the element's index, the step and a key made of seed and stream (ir/ops/philox.py).

A tile makes a fixed range of elements; the key is made anew in each tile, which costs as much as one block. Four words of a
block are next to each other in the result, so LLVM makes vectors of blocks and interleaves their words on the way out.
"""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false, reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Callable
from math import factorial, pi, prod
from typing import Any

import numpy as np

from graphnn.ir.graph import Node
from graphnn.ir.ops import philox
from graphnn.ir.ops.random import FoldSeed, RandomBernoulli, RandomBits, RandomIntegers, RandomNormal, RandomOp, RandomUniform
from graphnn.runtime.lowering import Lowering, lowers
from graphnn.runtime.row import Arg, Kernel, Row

TILE = 1 << 13              # elements; a whole number of blocks
_BUILDERS = "graphnn.runtime.kernels.random"


@lowers(RandomBits, RandomUniform, RandomNormal, RandomBernoulli, RandomIntegers)
def random_rows(node: Node, at: Lowering) -> list[Row]:
    op, (seed, step), y = at.op, node.inputs, node.output
    assert isinstance(op, RandomOp)
    n = prod(at.shape(y))
    if n == 0:
        return []
    extra: tuple[Arg, ...] = (0, 0)
    if isinstance(op, RandomBernoulli):
        extra = (max(0, op.threshold - 1), int(op.threshold > 0))          # word <= limit, as the threshold may be 2**32
    if isinstance(op, RandomIntegers):
        low = at.bind(op.low)
        extra = (low, at.bind(op.high) - low)
    kernel = Kernel.of(f"{_BUILDERS}:draw", kind=op.name.removeprefix("random_"), dtype=str(y.dtype))
    args = (at.address(seed), at.address(step), at.address(y), n, op.stream, *extra)
    return [Row(kernel, args, -(-n // TILE), thread_scratch=64)]


@lowers(FoldSeed)
def fold_rows(node: Node, at: Lowering) -> list[Row]:
    seed, data = node.inputs
    return [Row(Kernel.of(f"{_BUILDERS}:fold"), (at.address(seed), at.address(data), at.address(node.output)))]


# ------------------------------------------------------------------------------------------------ kernels


def generator() -> tuple[Any, Any]:
    """`block(c0, c1, c2, c3, k0, k1)` and `key(seed, data, purpose)`, for kernels."""
    from graphnn.runtime import intrinsics as k

    m0, m1 = (np.uint32(m) for m in philox.MULTIPLIERS)
    w0, w1 = (np.uint32(w) for w in philox.WEYL)
    fold_word = np.uint32(philox.FOLD)

    @k.inline
    def turn(c0, c1, c2, c3, k0, k1):
        return (k.xor_u32(k.xor_u32(k.mul_high_u32(m1, c2), c1), k0), k.mul_low_u32(m1, c2),
                k.xor_u32(k.xor_u32(k.mul_high_u32(m0, c0), c3), k1), k.mul_low_u32(m0, c0))

    @k.inline
    def two_turns(c0, c1, c2, c3, k0, k1):
        c0, c1, c2, c3 = turn(c0, c1, c2, c3, k0, k1)
        k0, k1 = k.add_u32(k0, w0), k.add_u32(k1, w1)
        c0, c1, c2, c3 = turn(c0, c1, c2, c3, k0, k1)
        return c0, c1, c2, c3, k.add_u32(k0, w0), k.add_u32(k1, w1)

    @k.inline
    def block(c0, c1, c2, c3, k0, k1):
        c0, c1, c2, c3, k0, k1 = two_turns(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = two_turns(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = two_turns(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = two_turns(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = two_turns(c0, c1, c2, c3, k0, k1)
        return c0, c1, c2, c3

    @k.inline
    def key(seed, data, purpose):
        low, high = k.to_u32(data), k.to_u32(k.lshr(data, 32))
        a, b, _, _ = block(low, high, purpose, fold_word, k.to_u32(seed), k.to_u32(k.lshr(seed, 32)))
        return a, b

    return block, key


def fold() -> Callable[..., int]:
    """args: seed, data, result."""
    from graphnn.runtime import intrinsics as k

    _, key = generator()
    purpose = np.uint32(1)

    def kernel(args, tile, scratch):
        a, b = key(k.i64_pointer(args[0])[0], k.i64_pointer(args[1])[0], purpose)
        result = k.u32_pointer(args[2])
        result[0], result[1] = a, b                    # little-endian, like every host that kernels run on
        return 0

    return kernel


def _cos_sin_turn(dtype: str) -> Any:
    """`cos_sin(u)` for u in [0, 1): cos and sin of 2 pi u, exact near their zeros."""
    from graphnn.runtime import intrinsics as k

    scalar = k.SCALAR[dtype]
    terms = 6 if dtype == "f32" else 10                 # Taylor's; below half an ulp up to pi / 4
    s = [scalar((-1) ** i / factorial(2 * i + 1)) for i in range(terms)]
    c = [scalar((-1) ** i / factorial(2 * i)) for i in range(terms)]
    half_pi, half, one, four = scalar(pi / 2), scalar(0.5), scalar(1.0), scalar(4.0)
    s0, s1, s2, s3, s4, s5, c0, c1, c2, c3, c4, c5 = *s[:6], *c[:6]
    s6, s7, s8, s9, c6, c7, c8, c9 = (*s[6:], *c[6:]) if terms == 10 else (scalar(0.0),) * 8

    @k.inline
    def cos_sin(u):
        t = four * u
        quarter = k.floor(t)
        t = t - quarter                                 # exact
        far = t > half
        a = k.select(far, one - t, t) * half_pi
        z = a * a
        if dtype == "f32":
            p, q = k.fma(s5, z, s4), k.fma(c5, z, c4)
        else:
            p = k.fma(k.fma(k.fma(k.fma(k.fma(s9, z, s8), z, s7), z, s6), z, s5), z, s4)
            q = k.fma(k.fma(k.fma(k.fma(k.fma(c9, z, c8), z, c7), z, c6), z, c5), z, c4)
        p = k.fma(k.fma(k.fma(p, z, s3), z, s2), z, s1)
        q = k.fma(k.fma(k.fma(k.fma(q, z, c3), z, c2), z, c1), z, c0)
        near_sin, near_cos = k.fma(a * z, p, a * s0), q
        sin, cos = k.select(far, near_cos, near_sin), k.select(far, near_sin, near_cos)
        odd = (quarter == one) | (quarter == scalar(3.0))
        x, y = k.select(odd, sin, cos), k.select(odd, cos, sin)
        x = k.select((quarter == one) | (quarter == scalar(2.0)), -x, x)
        return x, k.select(quarter > scalar(1.5), -y, y)

    return cos_sin


def draw(kind: str, dtype: str) -> Callable[..., int]:
    """args: seed, step, y, count, stream, then of bernoulli: limit, whether any; of integers: low, how many."""
    from graphnn.runtime import intrinsics as k
    from graphnn.runtime import vector_math

    block, key = generator()
    pointer, size, cast = k.POINTER[dtype], k.ITEMSIZE[dtype], k.CAST[dtype]
    wide = dtype == "f64" or kind == "integers"
    words = 2 if wide else 1                            # 32-bit words an element
    in_block = 4 // words
    tile_blocks = TILE // in_block
    zero = np.uint32(0)
    log = vector_math.FUNCTIONS["log"]
    cos_sin = _cos_sin_turn("f64" if wide else "f32")

    @k.inline
    def unit(a, b):
        """k * 2**-24 of the word a, or k * 2**-53 of the words a (low) and b (high)."""
        if wide:
            return (k.to_f64(b) * 2097152.0 + k.to_f64(k.lshr(a, 11))) * 1.1102230246251565e-16
        return k.to_f32(k.to_i32(k.lshr(a, 8))) * np.float32(5.9604644775390625e-08)

    step_up = np.float64(1.1102230246251565e-16) if wide else np.float32(5.9604644775390625e-08)
    minus_two = np.float64(-2.0) if wide else np.float32(-2.0)

    @k.inline
    def pair(u, v):
        r = k.sqrt(minus_two * log(u + step_up))
        cos, sin = cos_sin(v)
        return r * cos, r * sin

    @k.inline
    def integer(a, b, low, span):
        many = k.to_u64(span)
        upper = k.lshr(k.to_u64(b) * many + k.lshr(k.to_u64(a) * many, 32), 32)
        return cast(k.to_i64(upper) + low)

    @k.inline
    def write(y, at, a, b, c, d, x0, x1):
        if kind == "bits":
            y[at], y[at + 1], y[at + 2], y[at + 3] = k.to_i32(a), k.to_i32(b), k.to_i32(c), k.to_i32(d)
        elif kind == "bernoulli":
            limit, some = k.to_u32(x0), x1 != 0
            y[at], y[at + 1] = k.to_bool((a <= limit) & some), k.to_bool((b <= limit) & some)
            y[at + 2], y[at + 3] = k.to_bool((c <= limit) & some), k.to_bool((d <= limit) & some)
        elif kind == "integers":
            y[at], y[at + 1] = integer(a, b, x0, x1), integer(c, d, x0, x1)
        elif kind == "uniform":
            if wide:
                y[at], y[at + 1] = unit(a, b), unit(c, d)
            else:
                y[at], y[at + 1], y[at + 2], y[at + 3] = unit(a, a), unit(b, b), unit(c, c), unit(d, d)
        elif wide:
            y[at], y[at + 1] = pair(unit(a, b), unit(c, d))
        else:
            y[at], y[at + 1] = pair(unit(a, a), unit(b, b))
            y[at + 2], y[at + 3] = pair(unit(c, c), unit(d, d))

    def kernel(args, tile, scratch):
        k0, k1 = key(k.i64_pointer(args[0])[0], args[4], zero)
        step = k.i64_pointer(args[1])[0]
        step_low, step_high = k.to_u32(step), k.to_u32(k.lshr(step, 32))
        x0, x1 = args[5], args[6]
        count = k.imin(TILE, args[3] - tile * TILE)
        first, whole = tile * tile_blocks, k.udiv(count, in_block)
        y = pointer(args[2] + tile * TILE * size)
        for i in range(whole):
            index = first + i
            a, b, c, d = block(k.to_u32(index), k.to_u32(k.lshr(index, 32)), step_low, step_high, k0, k1)
            write(y, i * in_block, a, b, c, d, x0, x1)
            k.independent()
        left = count - whole * in_block
        if left > 0:
            rest, index = pointer(scratch), first + whole
            a, b, c, d = block(k.to_u32(index), k.to_u32(k.lshr(index, 32)), step_low, step_high, k0, k1)
            write(rest, 0, a, b, c, d, x0, x1)
            for l in range(left):
                y[whole * in_block + l] = rest[l]
        return 0

    return kernel
