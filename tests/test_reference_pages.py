"""docs/reference/ is what the docstrings say, and holds all that is public."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn")                           # one of the pages

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = runpy.run_path(str(DOCS / "make_reference.py"))


def test_the_pages_are_up_to_date() -> None:
    pages = MADE["pages"]()
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
    assert set(there) == set(pages), "run `make docs`"
    for name, text in pages.items():
        assert there[name] == text, f"docs/reference/{name} is out of date: run `make docs`"


def test_everything_public_is_on_one_page() -> None:
    shown = [thing for title, *_ in MADE["FAMILIES"] for thing in MADE["members"](title).values()]
    for home in ("gnn", "gnn.errors", "nn", "nn.utils", "zoo"):
        for name, thing in MADE["public"](home):
            if thing.__module__.startswith("graphnn."):
                assert shown.count(thing) == 1, f"{name} is on {shown.count(thing)} pages"


def test_everything_on_a_page_has_a_docstring_of_its_own() -> None:
    for title, *_ in MADE["FAMILIES"]:
        members = MADE["members"](title)
        assert members, f"{title} shows nothing"
        for name, thing in members.items():
            assert thing.__doc__, f"{name} has no docstring"
            assert not thing.__doc__.startswith(f"{MADE['short'](name)}("), f"{name} has the docstring that dataclass writes"
