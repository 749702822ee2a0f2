"""The multiply-add peak of this machine: a loop that touches registers alone, on one thread and on all.

    python -m bench.peak
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from graphnn.runtime import instruction_set
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.row import Kernel
from graphnn.runtime.table import Table
from graphnn.runtime.threads import threads

_SUMS = 24  # independent sums: more than latency times units of any current core, no more than fit the registers


def multiply_adds(dtype: str, lanes: int, sums: int):
    """Kernel builder: `sums` vectors, each multiplied and added to args[0] times."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    from graphnn.runtime.contraction import ELEMENT, I64

    vector = ir.VectorType(ELEMENT[dtype], lanes)

    @intrinsic
    def loop(typingctx, steps, scratch):
        def emit(context, b, signature, arguments):
            fma = ir.Function(b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}{dtype}")
            # Read from memory, so that nothing can be computed beforehand.
            start = b.load(b.inttoptr(arguments[1], vector.as_pointer()), align=64)
            before, body, after = b.block, b.append_basic_block("body"), b.append_basic_block("after")
            b.branch(body)
            b.position_at_end(body)
            count = b.phi(I64)
            phis = [b.phi(vector) for _ in range(sums)]
            new = [b.call(fma, [start, start, phi]) for phi in phis]
            following = b.add(count, ir.Constant(I64, 1))
            for phi, first, later in zip([count, *phis], [ir.Constant(I64, 0), *[start] * sums], [following, *new], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(later, body)
            b.cbranch(b.icmp_signed("<", following, arguments[0]), body, after)
            b.position_at_end(after)
            for i, value in enumerate(new):
                b.store(value, b.gep(b.inttoptr(arguments[1], vector.as_pointer()), [ir.Constant(I64, i)]), align=64)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    def kernel(args, tile, scratch):
        loop(args[0], scratch)
        return 0

    return kernel


def peak_table(dtype: str = "f32", count: int = 1, steps: int = 20_000) -> tuple[Table, float]:
    """A table that does nothing but multiply and add on `count` threads, and how many billions of operations it does."""
    isa = instruction_set.current()
    lanes = isa.lanes(dtype)
    sums = min(_SUMS, isa.registers - 4)
    kernel = Kernel.of("bench.peak:multiply_adds", dtype=dtype, lanes=lanes, sums=sums)
    rows = np.array([[addresses([kernel])[0], 0, count]], np.int64)
    table = Table(rows, np.array([steps], np.int64), scratch_bytes=64 * (sums + 1))
    return table, 2 * sums * lanes * steps * count / 1e9


def peak_gflops(dtype: str = "f32", count: int = 1) -> float:
    """Billions of floating-point operations a second of `count` threads, the median of some runs."""
    table, work = peak_table(dtype, count, 200_000)
    table.run(count)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        table.run(count)
        times.append(time.perf_counter() - start)
    return work / statistics.median(times)


def main() -> None:
    isa = instruction_set.current()
    print(f"multiply-add peak, {isa.name}")
    for dtype in ("f32", "f64"):
        for count in sorted({1, threads()}):
            print(f"  {dtype}  {count} thread{'s' if count > 1 else ' '}  {peak_gflops(dtype, count):7.1f} GFLOP/s")


if __name__ == "__main__":
    main()
