"""The outputs of a model and their names; and arguments that are given for all outputs, or for each by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphnn.errors import VerifyError
from graphnn.ir.graph import IDENTIFIER, Value, role_of

Outputs = Value | Sequence[Value] | Mapping[str, Value]


def named_outputs(outputs: Outputs) -> dict[str, Value]:
    """Outputs by name: the mapping's names; else the path of the layer that made it, where no other has that; else output_i."""
    if isinstance(outputs, Mapping):
        return named_values(outputs, "output")
    values = given_values(outputs)
    if not values:
        raise VerifyError("the model has no outputs")
    paths = ["" if role_of(value) else value.node.loc.scope for value in values]
    names = [path if path and paths.count(path) == 1 else f"output_{i}" for i, path in enumerate(paths)]
    return dict(zip(names, values, strict=True))


def given_values(given: Value | Sequence[Value]) -> tuple[Value, ...]:
    """The values that are given, one or a sequence. Raises VerifyError for what is neither."""
    values = tuple(given) if isinstance(given, Iterable) and not isinstance(given, Value) else (given,)
    if wrong := [value for value in values if not isinstance(value, Value)]:
        raise VerifyError(f"{type(wrong[0]).__name__} {wrong[0]!r} is no symbolic value",
                          hint="gnn.Input makes one, and layers others")
    return values


def named_values(values: Any, what: str) -> dict[str, Value]:
    """A mapping of names to symbolic values, checked. Raises VerifyError naming what is wrong."""
    if not isinstance(values, Mapping):
        raise VerifyError(f"{type(values).__name__} {values!r} is no mapping from the name of each {what} to its value")
    for name, value in values.items():
        if not isinstance(name, str) or not IDENTIFIER.match(name):
            raise VerifyError(f"{name!r} cannot name {what} values; use letters, digits, _ . / -")
        if not isinstance(value, Value):
            raise VerifyError(f"the {what} {name!r} is a {type(value).__name__}, not a symbolic value")
    if what == "output" and not values:
        raise VerifyError("the model has no outputs")
    return dict(values)


def is_by_name(given: Any, names: Sequence[str]) -> bool:
    """Whether an argument is a mapping by output name, and not one that describes a thing, as {"name": "cross_entropy"} does."""
    if not isinstance(given, Mapping):
        return False
    return set(given) <= set(names) or not isinstance(given.get("kind", given.get("name")), str)


def for_each_output(given: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """What an argument says of each output, by name: the outputs that it does not mention are left out.

    `given` is a mapping by output name, a sequence of as many as there are outputs, or one thing for all. Raises VerifyError
    naming what is unknown.
    """
    if is_by_name(given, names):
        unknown = [key for key in given if key not in names]
        if unknown:
            raise VerifyError(f"{what} is given for {unknown[0]!r}; the names are {', '.join(names)}")
        return {name: given[name] for name in names if name in given}
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise VerifyError(f"{what} has {len(given)} items; there are {len(names)} names: {', '.join(names)}")
        return dict(zip(names, given, strict=True))
    return dict.fromkeys(names, given)
