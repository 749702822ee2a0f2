"""Every figure that graphnn promises, measured here and now: `python -m bench`, or some: `python -m bench training predict`.

Sections run one after the other, each in a process of its own, so that nobody's threads or caches are in another's way.
Peers take turns with graphnn, and medians are compared. Ends with status 1 when a figure misses its goal.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.figures import Figure, table
from bench.sections import NAMES, measure
from graphnn.runtime import instruction_set
from graphnn.runtime.threads import threads


def in_new_process(name: str, count: int = 0) -> list[Figure]:
    """numpy's OpenBLAS reads its number of threads when it is loaded."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    if count:
        os.environ["OPENBLAS_NUM_THREADS"] = str(count)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(measure, name, count).result()
    finally:
        if count:
            os.environ.pop("OPENBLAS_NUM_THREADS")
            if before is not None:
                os.environ["OPENBLAS_NUM_THREADS"] = before


def machine() -> str:
    """One line about where this is measured, and how busy it is: a load above 1 that is not ours makes all figures worse."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    python = f"{platform.system()}, Python {platform.python_version()}"
    busy = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{cpu}, {threads()} threads, {instruction_set.current().name}, {python}{busy}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="every figure that graphnn promises")
    parser.add_argument("section", nargs="*", help=", ".join(NAMES))
    asked = parser.parse_args().section
    if unknown := [name for name in asked if name not in NAMES]:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(NAMES)}")
    print(machine(), flush=True)
    found: list[Figure] = []
    broken: list[str] = []
    for name in NAMES:
        if asked and name not in asked:
            continue
        for count in sorted({1, threads()}) if name == "matmul" else (0,):
            print(f"{name}", flush=True)
            start = time.perf_counter()
            try:
                found += in_new_process(name, count)
            except Exception as error:  # the others are still worth measuring
                hint = "; pip install -e '.[bench]'" if isinstance(error, ModuleNotFoundError) else ""
                broken.append(f"{name}: {type(error).__name__}: {error}{hint}")
                print(f"  failed: {broken[-1]}", flush=True)
            print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"\n{machine()}\n\n{table(found)}")
    missed = sum(figure.met is False for figure in found)
    print(f"\n{sum(figure.met is True for figure in found)} figures met, {missed} missed" + "".join(f"\n{b}" for b in broken))
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
