"""docs/defaults.md says what is so: an argument in the column graphnn stands with its default, and those that give numpy-ml's
values are there."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphnn import nn

PAGE = Path(__file__).parent.parent / "docs" / "defaults.md"
BASES: dict[str, list[type]] = {"loss": [nn.Loss], "optimiser": [nn.Optimizer]}
ARGUMENT = r"(\w+)=([^=]+)"


def rows() -> Iterator[tuple[list[type], list[str]]]:
    """(the classes that a row is about, its cells), of the tables with a column of arguments."""
    named = head = ""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 6:
            named = head = ""
            continue
        head, named = head or cells[0], cells[0] or named
        kinds = [getattr(nn, name) for name in re.findall(r"`(\w+)`", named)]
        yield kinds or (BASES.get(head, []) if named == "all" else []), cells


def arguments(cell: str) -> Iterator[tuple[str, object]]:
    """(argument, value) of what stands in a cell as `argument=value, ...`."""
    for snippet in re.findall("`([^`]*)`", cell):
        parts = [re.fullmatch(ARGUMENT, part) for part in re.split(r", (?=\w+=)", snippet)]
        for part in parts if all(parts) else ():
            assert part is not None
            yield part[1], 1.0 / 6.0 if part[2] == "1/6" else ast.literal_eval(part[2])


def parameters(kinds: list[type], argument: str) -> list[inspect.Parameter]:
    """The parameter of this name of the classes that have it, which at least one of them does."""
    found = [signature[argument] for kind in kinds if argument in (signature := inspect.signature(kind).parameters)]
    assert found, f"none of {[kind.__name__ for kind in kinds]} has an argument {argument!r}"
    return found


CELLS = [(kinds, cells) for kinds, cells in rows() if kinds]


def test_the_page_is_read() -> None:
    assert sum(len(list(arguments(cells[2]))) for _, cells in CELLS) > 100
    assert sum(len(list(arguments(cells[-1]))) for _, cells in CELLS) > 10


@pytest.mark.parametrize(("kinds", "cells"), CELLS, ids=lambda part: part[0].__name__ if isinstance(part[0], type) else part[1])
def test_arguments_stand_with_their_defaults(kinds: list[type], cells: list[str]) -> None:
    for argument, value in arguments(cells[2]):
        for parameter in parameters(kinds, argument):
            assert parameter.default == value, f"{argument} is {parameter.default!r}"
    for argument, _ in arguments(cells[-1]):
        parameters(kinds, argument)
