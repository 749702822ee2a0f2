"""Every layer, module, loss, optimiser and scheduler is compared with PyTorch by `make parity`, or it is said here why not."""

from __future__ import annotations

import ast
from pathlib import Path

from graphnn import nn

PARITY = Path(__file__).parent.parent / "parity"
FAMILIES = ("activations", "layers", "modules", "losses", "optimisers", "schedulers")

NOT_IN_PYTORCH = {
    "Cell": "the base of cells; compared as Recurrent",
    "KingScheduler": "PyTorch has no such scheduler; tests/nn/test_schedulers.py has it in NumPy",
    "Loss": "the base of losses",
    "Optimizer": "the base of optimisers",
    "Scheduler": "the base of schedulers",
}


def compared() -> dict[str, list[str]]:
    """The names that each file of parity/ registers. PyTorch need not be installed: the text is read."""
    found: dict[str, list[str]] = {}
    for path in sorted(PARITY.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "parity":
                family, name = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
                found.setdefault(str(family), []).append(str(name).split(" ")[0])
                assert family == path.stem, f"{path.name} registers {name} with {family}"
    return found


def building_blocks() -> set[str]:
    """The public classes of the families."""
    inside = tuple(f"graphnn.nn.{family}" for family in FAMILIES)
    return {name for name, kind in vars(nn).items() if isinstance(kind, type) and kind.__module__.startswith(inside)}


def test_every_building_block_is_compared_or_said_not_to_be() -> None:
    names = {name for names in compared().values() for name in names}
    missing = building_blocks() - names - set(NOT_IN_PYTORCH)
    assert not missing, f"neither in parity/ nor in NOT_IN_PYTORCH: {sorted(missing)}"


def test_what_is_compared_exists_and_is_not_said_to_be_missing() -> None:
    names = {name for names in compared().values() for name in names}
    assert names <= building_blocks()
    assert set(NOT_IN_PYTORCH) <= building_blocks()
    assert not names & set(NOT_IN_PYTORCH)


def test_every_family_is_run() -> None:
    for node in ast.parse((PARITY / "rows.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FAMILIES":
            assert sorted(ast.literal_eval(node.value)) == sorted(compared())
            return
    raise AssertionError("parity/rows.py has no FAMILIES")
