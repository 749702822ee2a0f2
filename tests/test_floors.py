"""A floor imports only floors to its left:

    errors <- ir <- {autodiff, passes, files, inspect} <- runtime <- nn <- {zoo, sklearn} <- cli
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "graphnn"
FLOORS = {"errors": 0, "version": 0, "ir": 1, "autodiff": 2, "passes": 2, "files": 2, "inspect": 2, "runtime": 3,
          "nn": 4, "zoo": 5, "sklearn": 5, "cli": 6}
HEAVY = ("numba", "llvmlite", "networkx", "matplotlib", "rich", "torch", "onnx", "onnxruntime", "sklearn", "scipy", "mpi4py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported, anywhere in the file, as a full name; relative imports do not occur."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            yield node.module or "", node.lineno
            if node.module == "graphnn":
                yield from ((f"graphnn.{alias.name}", node.lineno) for alias in node.names)


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and p.name != "__main__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_floor_imports_only_floors_to_its_left(path: Path) -> None:
    here = floor_of(path)
    assert here in FLOORS, f"{here} is no floor"
    for name, line in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "graphnn" or len(parts) < 2 or parts[1] == here:
            continue
        there = parts[1]
        assert there in FLOORS, f"line {line}: {name} is on no floor"
        assert FLOORS[there] < FLOORS[here], f"line {line}: {here} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if floor_of(p) == "ir"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_ground_floor_imports_numpy_alone(path: Path) -> None:
    for name, line in imports(ast.parse(path.read_text(encoding="utf-8"))):
        top = name.split(".")[0]
        assert top in ("graphnn", "numpy", "__future__") or top in sys.stdlib_module_names, f"line {line}: {name}"


def test_importing_graphnn_imports_no_heavy_package() -> None:
    code = ("import sys, graphnn, graphnn.ir, graphnn.autodiff, graphnn.passes, graphnn.files, graphnn.inspect, graphnn.nn; "
            f"print([m for m in {HEAVY!r} if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.strip() == "[]"
