"""`python -m parity [name ...]`: compare every building block that PyTorch has; exit status 1 when one is off."""

from __future__ import annotations

import sys
import time
from importlib import import_module

import torch

from parity.harness import CASES, RUNS, run

FAMILIES = ("layers",)


def main(wanted: list[str]) -> int:
    torch.set_num_threads(1)
    for family in FAMILIES:
        import_module(f"parity.{family}")
    cases = [case for case in CASES if not wanted or any(word.lower() in (case.name.lower(), case.family) for word in wanted)]
    if not cases:
        print(f"there is no {' '.join(wanted)}; there are {', '.join(case.name for case in CASES)}")
        return 2
    print(f"worst relative errors against PyTorch {torch.__version__} over {RUNS} random problems each, outputs and gradients\n")
    print(f"{'':32} {'float64':>9} {'float32':>9}")
    bad, family, started = 0, "", time.perf_counter()
    for case in cases:
        if case.family != family:
            family = case.family
            print(family)
        cells, notes = [], []
        for dtype in ("f64", "f32"):
            worst, where = run(case, dtype)
            cells.append(f"{worst:9.1e}")
            if not worst <= case.tolerance[dtype]:
                bad += 1
                notes.append(f"{dtype} OFF (at most {case.tolerance[dtype]:.0e}): {where}")
        if case.why:
            notes.append(case.why)
        print(f"  {case.name:30} {' '.join(cells)}  {'; '.join(notes)}", flush=True)
    print(f"\n{len(cases)} compared in {time.perf_counter() - started:.0f} s; {bad or 'none'} off")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
