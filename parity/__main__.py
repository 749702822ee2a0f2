"""`python -m parity [name ...]`: compare every building block that PyTorch has; exit status 1 when one is off."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from traceback import print_exception
from warnings import filterwarnings

import torch

from parity.harness import CARRIED, CASES, RUNS, TOLERANCE, run

FAMILIES = ("activations", "layers", "images", "recurrent", "modules", "losses", "optimisers", "schedulers")


def main(wanted: list[str]) -> int:
    torch.set_num_threads(1)
    filterwarnings("ignore", "Sparse invariant checks are implicitly disabled")
    filterwarnings("ignore", "reduction: .mean. divides")                           # KLDivergence: that is what is compared
    for family in FAMILIES:
        import_module(f"parity.{family}")
    names = [word.lower() for word in wanted]
    cases = [case for case in CASES if not names or case.family in names or case.name.split(" ")[0].lower() in names]
    if not cases:
        print(f"there is no {' '.join(wanted)}; there are {', '.join([*FAMILIES, *(case.name for case in CASES)])}")
        return 2
    print(f"Worst relative errors over {RUNS} random problems each and dtype, of outputs and all gradients: at most\n"
          f"{TOLERANCE['f64']:.0e} in float64 and {TOLERANCE['f32']:.0e} in float32. The truth is PyTorch {torch.__version__} in "
          f"float64\non the same numbers; the third column is PyTorch's own float32. Problems that it cannot solve\n"
          f"to {CARRIED:.0e} are drawn again; the last column counts them.\n")
    print(f"{'':42} {'float64':>9} {'float32':>9} {'PyTorch':>9} {'again':>6}")
    bad, family, started = 0, "", time.perf_counter()
    for case in cases:
        if case.family != family:
            family = case.family
            print(family)
        cells, notes = [], []
        for dtype in ("f64", "f32"):
            try:
                found = run(case, dtype)
            except Exception as failure:                 # the others are compared all the same
                print_exception(failure)
                bad += 1
                notes.append(f"{dtype} FAILED: {type(failure).__name__}")
                continue
            cells.append(f"{found.worst:9.1e}")
            if dtype == "f32":
                cells.append(f"{found.their_worst:9.1e} {found.again or '':6}")
            if not found.worst <= TOLERANCE[dtype]:
                bad += 1
                notes.append(f"{dtype} OFF: {found.where}")
        print(f"  {case.name:40} {' '.join(cells)}  {'; '.join(notes)}".rstrip(), flush=True)
    print(f"\n{len(cases)} compared in {time.perf_counter() - started:.0f} s; {bad or 'none'} off")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
