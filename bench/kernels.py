"""The kernels' figures, from bench.matmul, bench.convolution and bench.elementwise, which print every case when run alone.

    python -m bench matmul convolution elementwise empty_row
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from statistics import mean, median

import numpy as np

from bench.figures import Figure, at_least, at_most
from bench.training import threads_text


def matmul(count: int) -> Iterator[Figure]:
    """numpy's threads were set when it was imported, by OPENBLAS_NUM_THREADS."""
    from bench.matmul import compare

    ratios = compare("f32", count)
    what = f"float32 matmul, 12 shapes and their transposes, {threads_text(count)}, against numpy"
    yield at_least(f"{what}: geometric mean", math.exp(mean(map(math.log, ratios))), 1.15)
    yield at_least(f"{what}: least", min(ratios), 0.95)


def convolution() -> Iterator[Figure]:
    from bench.convolution import CASES, part_of_peak, tables
    from graphnn.runtime.threads import threads

    for count in sorted({1, threads()}):
        for name, v, goals in CASES:
            work = 2 * v.n * v.oh * v.ow * v.cout * v.kh * v.kw * v.cin_g / 1e9
            found, _bound = tables(v)
            for table, goal, what in zip(found, goals, ("forward", "input gradient", "weight gradient"), strict=True):
                if goal is None:
                    continue
                reached, rate = part_of_peak(table, work, count)
                yield at_least(f"convolution {name}: {what}, {threads_text(count)}, part of the multiply-add peak",
                               100 * reached, 100 * goal, f"{rate:.0f} GFLOP/s", form="{:.0f} %")


def elementwise() -> Iterator[Figure]:
    from bench.elementwise import Bound, node_of, ratio
    from graphnn import ir
    from graphnn.ir.ops.inputs import constant, placeholder
    from graphnn.runtime.memory import aligned_array
    from graphnn.runtime.threads import threads

    x, a, b, shape = placeholder("x", "f32[N,C]"), constant(1.5), constant(0.25), (4096, 4096)
    array, target = aligned_array(shape, np.dtype(np.float32)), aligned_array(shape, np.dtype(np.float32))
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    bound = Bound(node_of([ir.tanh(x * a + b) * ir.sigmoid(x) + x], [x]), [array])
    for _ in range(3):
        bound.run(threads())
        np.copyto(target, array)
    faster, ours, copy = ratio(lambda: bound.run(threads()), lambda: np.copyto(target, array), 31)
    yield at_least("fused tanh(ax+b)*sigmoid(x)+x, 4096x4096, all threads, against numpy.copyto", faster, 1.0,
                   f"{ours:.1f} ms; {copy:.1f}")


def nothing():
    """Kernel builder: does nothing."""

    def kernel(args, tile, scratch):
        return 0

    return kernel


def empty_row() -> Iterator[Figure]:
    """Many rows less few rows, so that the call from Python drops out."""
    from graphnn.runtime.kernel_store import addresses
    from graphnn.runtime.row import Kernel
    from graphnn.runtime.table import Table

    entry = addresses([Kernel.of("bench.kernels:nothing")])[0]
    few, many = (Table(np.array([[entry, 0, 1]] * rows, np.int64), np.zeros(1, np.int64), cost_ns=0) for rows in (10, 1010))
    found = []
    for _ in range(200):
        moments = [time.perf_counter_ns()]
        for table in (few, many):
            table.run(1)
            moments.append(time.perf_counter_ns())
        found.append((moments[2] - moments[1] - (moments[1] - moments[0])) / 1000)
    yield at_most("a row of an empty kernel, serial", median(found), 50.0, form="{:.1f} ns")
