"""Matrix products in the executor against numpy's (OpenBLAS, `out=`): ratios of medians, the two taking turns.

    python -m bench.matmul [--dtype f64] [--threads 1 2]

numpy's threads are set by OPENBLAS_NUM_THREADS before it is imported, so each number of threads is a process of its own.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SHAPES = [
    (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048),
    (128, 784, 512), (32, 128, 512), (1, 512, 512), (256, 64, 10), (1000, 37, 129), (512, 128, 784),
]  # fmt: skip
# Both transposes: of the left operand and of the right one.
TRANSPOSES = [(False, False), (True, False), (False, True)]


# OpenBLAS's threads go on spinning after a product, which would take a core from whoever comes next: seen for 0.1 s and more.
_REST = 0.3
_WARM, _MEASURED = 0.01, 0.02


def taking_turns(ours: Callable[[], object], theirs: Callable[[], object], *, turns: int = 3) -> tuple[float, float]:
    """Median times of a call of two functions that take turns: a rest, some calls to wake threads, then timed ones."""
    times: list[list[float]] = [[], []]
    for _ in range(turns):
        for side, function in enumerate((ours, theirs)):
            time.sleep(_REST)
            begin = now = time.perf_counter()
            while now - begin < _WARM:
                function()
                now = time.perf_counter()
            found: list[float] = []
            while now - begin < _WARM + _MEASURED or len(found) < 3:
                before = now
                function()
                now = time.perf_counter()
                found.append(now - before)
            times[side].append(statistics.median(found))
    return statistics.median(times[0]), statistics.median(times[1])


def compare(dtype: str, threads: int) -> list[float]:
    """Print a line for each shape and transpose; returns the ratios, theirs by ours."""
    import numpy as np

    from graphnn.runtime import instruction_set
    from graphnn.runtime.kernels.matmul import Matrix, matmul_rows
    from tests.runtime.rows_on_arrays import Rows, address, aligned

    rng = np.random.default_rng(0)
    isa = instruction_set.current()
    print(f"{dtype}, {threads} thread{'s' if threads > 1 else ''}, {isa.name}: GFLOP/s of graphnn and of numpy {np.__version__}")
    ratios = []
    for m, k, n in SHAPES:
        for left, right in TRANSPOSES:
            a, b = aligned((k, m) if left else (m, k), dtype, rng), aligned((n, k) if right else (k, n), dtype, rng)
            c, out = aligned((m, n), dtype, 0.0), aligned((m, n), dtype, 0.0)
            first, second = Matrix(address(a), a.shape[1], 1), Matrix(address(b), b.shape[1], 1)
            rows = matmul_rows(
                dtype, isa, (m, k, n), first.mT if left else first, second.mT if right else second,
                Matrix(address(c), n, 1), owner="bench",
            )  # fmt: skip
            bound = Rows(rows)
            table = bound.table(cost_ns=2 * m * k * n / 40 + 100)
            x, y = a.T if left else a, b.T if right else b
            ours, theirs = taking_turns(lambda t=table: t.run(threads), lambda x=x, y=y, out=out: np.matmul(x, y, out=out))
            assert np.allclose(c, out, atol=1e-2), "the products differ"
            work = 2 * m * k * n / 1e9
            ratios.append(theirs / ours)
            name = f"{m}x{k}x{n}" + (" A transposed" if left else " B transposed" if right else "")
            print(f"  {name:28} {work / ours:7.0f} {work / theirs:7.0f}   {theirs / ours:5.2f}x", flush=True)
    mean = math.exp(statistics.mean(map(math.log, ratios)))
    print(f"  geometric mean {mean:.2f}x, least {min(ratios):.2f}x")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description="matrix products against numpy")
    parser.add_argument("--dtype", default="f32", choices=["f32", "f64"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for threads in options.threads:
        if os.environ.get("OPENBLAS_NUM_THREADS") == str(threads) and len(options.threads) == 1:
            compare(options.dtype, threads)
            continue
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
        again = [sys.executable, "-m", "bench.matmul", "--dtype", options.dtype, "--threads", str(threads)]
        subprocess.run(again, env=environment, check=True)


if __name__ == "__main__":
    main()
