"""Objects that can be written down and made again, as a string or as a dictionary: what files and constructors take.

    adam(lr=noam_scheduler(model_dim=64), beta1=0.9)
    {"name": "adam", "lr": {"name": "noam_scheduler", "model_dim": 64}, "beta1": 0.9}

The grammar is a name, or name(key=value, ...); a value is a number, a string, True, False, None, a tuple, list or dictionary of
values, or another name(key=value, ...). Letter case, spaces, `_` and `-` in names do not matter. Nothing is evaluated.
The described classes are dataclasses. A constructor that takes another described object makes it from whichever of the three
it is given, by `make` (or its family's `as_...`): so a nested description reaches it as a string or a dictionary.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from graphnn.errors import GraphnnError
from graphnn.nn.arguments import shown
from graphnn.nn.layer import snake_case

T = TypeVar("T")
MAX_CHARACTERS = 100_000
MAX_DEPTH = 32
NUMBERS = {"inf": float("inf"), "nan": float("nan")}


class DescriptionError(GraphnnError, ValueError):
    """A string or dictionary that describes no object of the family asked for, or an object that neither can describe."""


def make(spec: Any, table: Mapping[str, type[T]], base: type, what: str) -> T:
    """The object meant by `spec`: one of class `base` itself, a string, or a dictionary with the kind under "name".

    Where an object has a name of its own, its dictionary has the kind under "kind". Raises DescriptionError naming what is
    unknown, and what there is.

    >>> from graphnn import nn
    >>> kinds = {"elu": nn.ELU}
    >>> make("ELU(alpha=0.5)", kinds, nn.Layer, "activation").alpha, make({"name": "elu"}, kinds, nn.Layer, "activation").alpha
    (0.5, 1.0)
    """
    if isinstance(spec, base):
        return spec
    if isinstance(spec, str):
        return read(spec, table, what)
    if isinstance(spec, Mapping):
        _require_bounded(spec, what)
        key = "kind" if "kind" in spec else "name"
        if not isinstance(spec.get(key), str):
            raise DescriptionError(f"{shown(spec)} describes no {what}: its kind stands under 'name', as in "
                                   f"{{'name': {next(iter(table))!r}}}")
        return _made(spec[key], {k: v for k, v in spec.items() if k != key}, table, what)
    given = f"the class {spec.__name__}" if isinstance(spec, type) else f"{type(spec).__name__} {shown(spec)}"
    raise DescriptionError(f"{given} is no {what}; give an object, a name, a string name(key=value, ...) or a dictionary",
                           hint=f"the names are {', '.join(sorted(table))}")


def read(text: str, table: Mapping[str, type[T]], what: str) -> T:
    """The object that `text` describes. Raises DescriptionError naming what is unknown.

    >>> from graphnn import nn
    >>> read("Leaky ReLU(alpha=0.3)", {"leaky_relu": nn.LeakyReLU}, "activation").alpha
    0.3
    """
    name, bracket, rest = text.strip().partition("(")
    _found(name, table, what)
    return _made(name, _arguments(text, rest) if bracket else {}, table, what)


def describe(thing: Any) -> str:
    """The string from which `read` makes an equal object: every argument in full, but a name that is None.

    >>> from graphnn import nn
    >>> describe(nn.ELU()), describe(nn.ReLU())
    ('elu(alpha=1.0)', 'relu')
    """
    arguments = ", ".join(f"{key}={_text(value)}" for key, value in _state(thing).items())
    name = snake_case(type(thing).__name__)
    return f"{name}({arguments})" if arguments else name


def to_dict(thing: Any) -> dict[str, Any]:
    """The dictionary from which `make` makes an equal object: strings, numbers, True, False, None and collections of them.

    >>> from graphnn import nn
    >>> to_dict(nn.ELU(0.5))
    {'name': 'elu', 'alpha': 0.5}
    """
    state = {key: _plain(value) for key, value in _state(thing).items()}
    return {"kind" if "name" in state else "name": snake_case(type(thing).__name__), **state}


def same_letters(name: str) -> str:
    """What names have in common that mean the same: "Leaky ReLU", "leaky_relu" and "LeakyReLU" are leakyrelu."""
    return re.sub(r"[\s_-]", "", name).lower()


def require_flags(thing: Any) -> None:
    """Raise DescriptionError unless all arguments whose default is True or False are one of them: "False" would be true."""
    for f in fields(thing):
        if isinstance(f.default, bool) and not isinstance(value := getattr(thing, f.name), (bool, np.bool_)):
            raise DescriptionError(f"{type(thing).__name__}: {f.name} is {shown(value)}; it is True or False")


# ------------------------------------------------------------------------------------------------ making

def _found(name: str, table: Mapping[str, type[T]], what: str) -> str:
    letters = same_letters(name)
    for key in table:
        if same_letters(key) == letters:
            return key
    raise DescriptionError(f"there is no {what} {name[:60]!r}; there are {', '.join(sorted(table))}")


def _made(name: str, arguments: Mapping[str, Any], table: Mapping[str, type[T]], what: str) -> T:
    key = _found(name, table, what)
    known = {f.name: f for f in fields(table[key]) if f.init}  # pyright: ignore[reportArgumentType]
    for argument in arguments:
        if argument not in known:
            raise DescriptionError(f"{key} has no argument {argument!r}; it has {', '.join(known)}")
    for f in known.values():
        if f.name not in arguments and f.default is MISSING and f.default_factory is MISSING:
            raise DescriptionError(f"{key} needs the argument {f.name!r}")
    return table[key](**arguments)


def _require_bounded(spec: Any, what: str) -> None:
    """Raise DescriptionError for a dictionary that is too deep (or inside itself) or too large."""
    stack, entries = [(spec, 0)], 0
    while stack:
        value, depth = stack.pop()
        if not isinstance(value, (Mapping, list, tuple)):
            continue
        entries += len(value)
        if depth > MAX_DEPTH or entries > MAX_CHARACTERS:
            raise DescriptionError(f"the dictionary of this {what} is deeper than {MAX_DEPTH} or has more than "
                                   f"{MAX_CHARACTERS} entries")
        stack += [(inner, depth + 1) for inner in (value.values() if isinstance(value, Mapping) else value)]


# ------------------------------------------------------------------------------------------------ reading

def _arguments(text: str, rest: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS:
        raise DescriptionError(f"{text[:60]!r}... has {len(text)} characters; a description has at most {MAX_CHARACTERS}")
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        # The first bracket may close early, as in "adam()(lr=1)" or "adam(), 3": what is left is no call of a name.
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        return _keywords(call, 0)
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError) as error:
        if isinstance(error, DescriptionError):
            raise
        raise DescriptionError(f"{text[:60]!r} is not of the form name(key=value, ...)") from None


def _keywords(call: ast.Call, depth: int) -> dict[str, Any]:
    assert not call.args
    assert all(k.arg is not None for k in call.keywords)
    return _each_once([str(k.arg) for k in call.keywords], [k.value for k in call.keywords], depth)


def _each_once(keys: list[Any], nodes: list[ast.expr], depth: int) -> dict[Any, Any]:
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise DescriptionError(f"{key!r} is given twice")
    return {key: _value(node, depth) for key, node in zip(keys, nodes, strict=True)}


def _value(node: ast.expr, depth: int) -> Any:
    """The value that an expression stands for. AssertionError for any other expression."""
    if depth > MAX_DEPTH:
        raise DescriptionError(f"the description is deeper than {MAX_DEPTH}")
    if isinstance(node, ast.Constant):
        assert node.value is None or isinstance(node.value, (bool, int, float, str))
        return node.value
    if isinstance(node, ast.UnaryOp):
        number = _value(node.operand, depth + 1)
        assert isinstance(node.op, (ast.USub, ast.UAdd))
        assert isinstance(number, (int, float))
        assert not isinstance(number, bool)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, (ast.Tuple, ast.List)):
        values = [_value(item, depth + 1) for item in node.elts]
        return tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _value(key, depth + 1) for key in node.keys]
        assert all(type(key) in (str, int) for key in keys)
        return _each_once(keys, node.values, depth + 1)
    if isinstance(node, ast.Name):
        if node.id.lower() in ("true", "false", "none", "null"):
            raise DescriptionError(f"{node.id} is no value; write True, False or None")
        return NUMBERS.get(node.id, node.id)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    inner = _keywords(node, depth + 1)
    return {"kind" if "name" in inner else "name": node.func.id, **inner}


# ------------------------------------------------------------------------------------------------ writing

def _state(thing: Any) -> dict[str, Any]:
    if not is_dataclass(thing) or isinstance(thing, type):
        raise DescriptionError(f"{shown(thing)} cannot be written: it is no object of graphnn with arguments")

    state = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init and f.compare}
    name = state.pop("name", None)
    return state if name is None else {**state, "name": name}                # a name of its own comes last


def _text(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)!r}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    return describe(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        values = [_plain(inner) for inner in value]
        return tuple(values) if isinstance(value, tuple) else values
    return to_dict(value)


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise DescriptionError(f"{shown(key)} cannot be written as a key; use a string or a whole number")
    return key
