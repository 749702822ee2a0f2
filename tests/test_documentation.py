"""What the documentation shows runs: the Python blocks of README.md and docs/*.md, and the examples in docstrings.

A page is one program: its blocks run in order and share their names, in an empty folder. A block that cannot run in a test
(it needs a terminal, or hours) starts with ```python no-run. Set-up that readers need not see may stand in an HTML comment; it
runs too.
"""

from __future__ import annotations

import doctest
import importlib
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphnn.ir.op import Op

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```python[ ]*(?P<mark>[^\n]*)\n(?P<code>.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
NO_RUN = "no-run"


def pages() -> list[Path]:
    return [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """The line, mark and code of each Python block."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield text.count("\n", 0, found.start("code")) + 1, found["mark"].strip(), found["code"]


def documented_modules() -> list[str]:
    found = [path for path in sorted((ROOT / "graphnn").rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in found]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_of_pages_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(Op, "registry", {**Op.registry})       # a page may show an op of its own
    program = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, program.__name__, program)     # dataclasses look their module up
    for line, mark, code in blocks(page):
        assert mark in ("", NO_RUN), f"{page.name}:{line}: a block is marked {mark!r}; the only mark is {NO_RUN}"
        if mark == NO_RUN:
            compile(code, f"{page.name}", "exec")                    # it is Python, at least
            continue
        # Empty lines in front, so that errors name the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), program.__dict__)


def test_there_are_pages_and_examples() -> None:
    assert any(list(blocks(page)) for page in pages())
    assert documented_modules()


@pytest.mark.parametrize("name", documented_modules())
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "graphnn.sklearn":
        pytest.importorskip("sklearn", minversion="1.6")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
