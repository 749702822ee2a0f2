"""docs/reference/ is what the docstrings say, and holds every building block of graphnn.nn."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import graphnn as gnn
from graphnn import nn

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = runpy.run_path(str(DOCS / "make_reference.py"))


def test_the_pages_are_up_to_date() -> None:
    pages = MADE["pages"]()
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
    assert set(there) == set(pages), "run `make docs`"
    for name, text in pages.items():
        assert there[name] == text, f"docs/reference/{name} is out of date: run `make docs`"


def test_every_building_block_is_on_a_page() -> None:
    shown = {thing for _, module, home, _ in MADE["FAMILIES"] for thing in MADE["members"](module, home).values()}
    apart = {nn.Layer, nn.History, gnn.Model}
    for name, thing in vars(nn).items():
        if inspect.isclass(thing) and thing.__module__.startswith("graphnn.nn"):
            assert thing in shown | apart, f"nn.{name} is on no page"


def test_every_building_block_has_a_docstring_of_its_own() -> None:
    for _, module, home, _ in MADE["FAMILIES"]:
        members = MADE["members"](module, home)
        assert members, f"{module} shows nothing"
        for name, thing in members.items():
            assert thing.__doc__, f"{home}.{name} has no docstring"
            assert not thing.__doc__.startswith(f"{name}("), f"{home}.{name} has the docstring that dataclass writes"
