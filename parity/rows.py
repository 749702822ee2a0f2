"""The rows of the table, each made in whichever process: a case, its worst errors, what is off."""

from __future__ import annotations

from importlib import import_module
from traceback import format_exception
from warnings import filterwarnings

import torch

import graphnn as gnn
from parity.harness import CASES, TOLERANCE, run

FAMILIES = ("activations", "layers", "images", "recurrent", "modules", "losses", "optimisers", "schedulers")


def load() -> None:
    """Fill CASES; in each process, which then runs in one thread."""
    torch.set_num_threads(1)
    gnn.set_threads(1)
    filterwarnings("ignore", "Sparse invariant checks are implicitly disabled")
    filterwarnings("ignore", "reduction: .mean. divides")                           # KLDivergence: that is what is compared
    for family in FAMILIES:
        import_module(f"parity.{family}")


def row(number: int) -> tuple[str, int]:
    """(the case's row of the table, how many of its dtypes are off)."""
    case, cells, notes, failures = CASES[number], [], [], []
    for dtype in ("f64", "f32"):
        try:
            found = run(case, dtype)
        except Exception as failure:                     # the others are compared all the same
            failures += format_exception(failure)
            notes.append(f"{dtype} FAILED: {type(failure).__name__}")
            continue
        cells.append(f"{found.worst:9.1e}")
        if dtype == "f32":
            cells.append(f"{found.their_worst:9.1e} {found.again or '':6}")
        if not found.worst <= TOLERANCE[dtype]:
            notes.append(f"{dtype} OFF: {found.where}")
    return "".join(failures) + f"  {case.name:40} {' '.join(cells)}  {'; '.join(notes)}".rstrip(), len(notes)
