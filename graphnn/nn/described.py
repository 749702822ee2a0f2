"""Objects that can be written as a string and read back: "adam(lr=0.001)". Losses, optimisers and metrics are so stored.

The grammar is a name and keyword literals: name, or name(key=value, ...). Unknown names and keys are errors.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from graphnn.errors import GraphnnError
from graphnn.nn.layer import snake_case

T = TypeVar("T")


class DescriptionError(GraphnnError, ValueError):
    """A string that describes no loss, optimiser or metric."""


def describe(thing: Any) -> str:
    """The string from which `read` makes an equal object: every field in full."""
    assert is_dataclass(thing), "described objects are dataclasses"
    arguments = ", ".join(f"{f.name}={getattr(thing, f.name)!r}" for f in fields(thing) if f.init and f.compare)
    return f"{snake_case(type(thing).__name__)}({arguments})"


def read(text: str, table: Mapping[str, type[T]], what: str) -> T:
    """The object that `text` describes. Raises DescriptionError naming what is unknown."""
    name, bracket, rest = text.strip().partition("(")
    key = snake_case(name.strip())
    if key not in table:
        raise DescriptionError(f"there is no {what} {name!r}; there are {', '.join(sorted(table))}")
    arguments = _arguments(text, rest) if bracket else {}
    known = {f.name: f for f in fields(table[key]) if f.init}  # pyright: ignore[reportArgumentType]
    for argument in arguments:
        if argument not in known:
            raise DescriptionError(f"{key} has no argument {argument!r}; it has {', '.join(known)}")
    for f in known.values():
        if f.name not in arguments and f.default is MISSING and f.default_factory is MISSING:
            raise DescriptionError(f"{key} needs the argument {f.name!r}")
    return table[key](**arguments)


def _arguments(text: str, rest: str) -> dict[str, Any]:
    if len(text) > 1000 or not rest.endswith(")"):
        raise DescriptionError(f"{text[:60]!r} is not of the form name(key=value, ...)")
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        assert isinstance(call, ast.Call)
        assert not call.args
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, AssertionError, RecursionError):
        raise DescriptionError(f"{text[:60]!r} is not of the form name(key=value, ...)") from None
