"""`python -m parity [name ...]`: compare every building block that PyTorch has; exit status 1 when one is off."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

import graphnn as gnn
from parity.harness import CARRIED, CASES, RUNS, TOLERANCE
from parity.rows import FAMILIES, load, row


def main(wanted: list[str]) -> int:
    processes = gnn.threads()
    load()
    names = [word.lower() for word in wanted]
    numbers = [i for i, case in enumerate(CASES)
               if not names or case.family in names or case.name.split(" ")[0].lower() in names]
    if not numbers:
        print(f"there is no {' '.join(wanted)}; there are {', '.join([*FAMILIES, *(case.name for case in CASES)])}")
        return 2
    print(f"Worst relative errors over {RUNS} random problems each and dtype, of outputs and all gradients: at most\n"
          f"{TOLERANCE['f64']:.0e} in float64 and {TOLERANCE['f32']:.0e} in float32. The truth is PyTorch {torch.__version__} in "
          f"float64\non the same numbers; the third column is PyTorch's own float32. Problems that it cannot solve\n"
          f"to {CARRIED:.0e} are drawn again; the last column counts them.\n")
    print(f"{'':42} {'float64':>9} {'float32':>9} {'PyTorch':>9} {'again':>6}")
    bad, family, started = 0, "", time.perf_counter()
    with ProcessPoolExecutor(min(processes, len(numbers)), get_context("spawn"), load) as workers:
        for number, (text, off) in zip(numbers, workers.map(row, numbers), strict=True):
            if CASES[number].family != family:
                family = CASES[number].family
                print(family)
            print(text, flush=True)
            bad += off
    print(f"\n{len(numbers)} compared in {time.perf_counter() - started:.0f} s; {bad or 'none'} off")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
