"""Convolutions in the executor, as parts of the measured multiply-add peak.

    python -m bench.convolution [--threads 1 2]
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.matmul import taking_turns
from bench.peak import peak_table
from graphnn.runtime import instruction_set
from graphnn.runtime.kernels.convolution import (
    Convolution,
    conv2d_input_grad_rows,
    conv2d_rows,
    conv2d_weight_grad_rows,
)
from graphnn.runtime.table import Table
from tests.runtime.rows_on_arrays import Rows, address, aligned

# Sizes, and the parts of the peak to reach: forward, input gradient, weight gradient.
CASES = [
    ("8x56x56x64 -> 64, 3x3", Convolution(8, 56, 56, 64, 3, 3, 64, padding=(1, 1, 1, 1)), (0.80, 0.80, 0.75)),
    ("8x28x28x128 -> 128, 3x3", Convolution(8, 28, 28, 128, 3, 3, 128, padding=(1, 1, 1, 1)), (0.80, 0.80, 0.75)),
    ("64x28x28x32 -> 64, 3x3", Convolution(64, 28, 28, 32, 3, 3, 64, padding=(1, 1, 1, 1)), (0.80, 0.80, 0.75)),
    ("1x224x224x3 -> 64, 7x7 / 2", Convolution(1, 224, 224, 3, 7, 7, 64, (2, 2), padding=(3, 3, 3, 3)), (0.5, None, 0.5)),
]


def tables(v: Convolution, dtype: str = "f32") -> tuple[list[Table], list[Rows]]:
    """Forward, input gradient and weight gradient, ready to run."""
    rng = np.random.default_rng(0)
    isa = instruction_set.current()
    x, w = aligned((v.n, v.h, v.w, v.cin), dtype, rng), aligned((v.kh, v.kw, v.cin_g, v.cout), dtype, rng)
    dy = aligned((v.n, v.oh, v.ow, v.cout), dtype, rng)
    y, dx, dw = (aligned(like.shape, dtype, 0.0) for like in (dy, x, w))
    plans = ((conv2d_rows, x, w, y), (conv2d_input_grad_rows, dy, w, dx), (conv2d_weight_grad_rows, x, dy, dw))
    bound = [Rows(plan(dtype, isa, v, address(a), address(b), address(c), owner="bench")) for plan, a, b, c in plans]
    return [rows.table() for rows in bound], bound


def part_of_peak(table: Table, work: float, threads: int) -> tuple[float, float]:
    """The rate of a table as a part of the multiply-add peak, the two taking turns; and its rate in GFLOP/s."""
    peak, peak_work = peak_table("f32", threads)
    ours, best = taking_turns(lambda: table.run(threads), lambda: peak.run(threads))
    return (work / ours) / (peak_work / best), work / ours


def main() -> None:
    parser = argparse.ArgumentParser(description="convolutions against the multiply-add peak")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    for threads in parser.parse_args().threads:
        print(f"f32, {threads} thread{'s' if threads > 1 else ''}: parts of the multiply-add peak, and GFLOP/s")
        for name, v, goals in CASES:
            work = 2 * v.n * v.oh * v.ow * v.cout * v.kh * v.kw * v.cin_g / 1e9
            parts = []
            found, _bound = tables(v)
            for table, goal, what in zip(found, goals, ("forward", "input grad", "weight grad"), strict=True):
                reached, rate = part_of_peak(table, work, threads)
                parts.append(f"{what} {100 * reached:3.0f} % {rate:4.0f}" + (f" (goal {100 * goal:.0f} %)" if goal else ""))
            print(f"  {name:28} " + "  ".join(parts), flush=True)


if __name__ == "__main__":
    main()
