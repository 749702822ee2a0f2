"""The one codec of attribute values: what may stand in an op's field, and how it is bound, checked, written and read.

Attribute values are None, bool, int, float, str, DType, Dim, TensorType, `Array`, Graph (a body), Op (of an epilogue) and
tuples of these. Each has a literal in text (docs/text_format.md), and a tree of plain values in files (attribute_trees.py).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.errors import GraphnnError, VerifyError
from graphnn.ir.dims import MAX_SIZE, Dim, names_of
from graphnn.ir.graph import Graph
from graphnn.ir.types import MAX_ELEMENTS, DType, TensorType

if TYPE_CHECKING:
    from graphnn.ir.op import Op

MAX_NESTING = 16            # tuples in tuples, ops in ops
RESERVED = frozenset({"true", "false", "none", "inf", "nan", "array", "op", "size", *(t.value for t in DType)})


@dataclass(frozen=True)
class Array:
    """An immutable array as an attribute; equal when type and bits are equal."""

    data: np.ndarray = field(compare=False, repr=False)
    bits: bytes = field(init=False, repr=False)
    type: TensorType = field(init=False)

    def __post_init__(self) -> None:
        data = np.array(self.data, order="C", copy=True)
        data.flags.writeable = False
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "bits", data.tobytes())
        object.__setattr__(self, "type", TensorType.of(data))


def bind_attribute(value: Any, sizes: Mapping[str, int]) -> Any:
    """`value` with numbers for names; the same object when it names no size."""
    if isinstance(value, (Dim, TensorType)):
        return value.bind(sizes)
    if isinstance(value, tuple):
        bound = tuple(bind_attribute(item, sizes) for item in value)
        return bound if any(a is not b for a, b in zip(bound, value, strict=True)) else value
    if isinstance(value, Graph):
        from graphnn.ir.rewrite import bind_graph
        return bind_graph(value, sizes)
    bind = getattr(value, "bind", None)                 # an Op
    return bind(sizes) if bind is not None else value


# ------------------------------------------------------------------------------------------------ fields of ops

def written_attributes(op: Op) -> dict[str, Any]:
    """The attributes that text and files write: all that are part of the meaning, less those at their default."""
    defaults = _defaults(type(op))
    return {name: value for name, value in op.attributes().items()
            if name not in defaults or not _same(value, defaults[name])}


def build_op(name: str, attributes: Mapping[str, Any]) -> Op:
    """The op called `name` with these attributes; those left out take their default. Raises VerifyError naming what is wrong.

    Every value is checked against the declared type of its field, so that an op's rules never meet a kind of value that
    its author did not expect.
    """
    from graphnn.ir.op import Op

    cls = Op.registry.get(name)
    if cls is None:
        raise VerifyError(f"there is no op {name!r}", hint="import the module that defines it, or upgrade graphnn")
    check_kinds(cls, attributes)
    defaults = _defaults(cls)
    for attribute in field_kinds(cls):
        if attribute not in attributes and attribute not in defaults:
            raise VerifyError(f"{name} lacks the attribute {attribute!r}")
    try:
        return cls(**attributes)
    except GraphnnError as error:
        raise VerifyError(f"{name}: {error}") from error
    except (TypeError, ValueError, IndexError, OverflowError, ArithmeticError) as error:
        raise VerifyError(f"{name}: its attributes do not fit together: {error}") from error


def check_kinds(cls: type[Op], attributes: Mapping[str, Any]) -> None:
    """Raise VerifyError for an attribute that ops of this class do not have, or that is of another kind than declared."""
    kinds = field_kinds(cls)
    for attribute, value in attributes.items():
        if attribute not in kinds:
            raise VerifyError(f"{cls.name} has no attribute {attribute!r}; it has {', '.join(kinds) or 'none'}")
        if not _fits(value, kinds[attribute]):
            raise VerifyError(f"{cls.name}: {attribute} is {_kind_text(kinds[attribute])}, not {describe_value(value)}")


def bodies_of(op: Op) -> list[Graph]:
    """The graphs among the attributes of `op`, in tuples and inner ops too, with repeats."""
    from graphnn.ir.op import Op

    found: list[Graph] = []
    stack: list[Any] = list(op.attributes().values())
    while stack:
        value = stack.pop()
        if isinstance(value, Graph):
            found.append(value)
        elif isinstance(value, tuple):
            stack += value
        elif isinstance(value, Op):
            stack += value.attributes().values()
    return found


@cache
def field_kinds(cls: type[Op]) -> dict[str, Any]:
    """The declared type of each attribute, by name."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.compare}  # pyright: ignore[reportArgumentType]


@cache
def _defaults(cls: type[Op]) -> dict[str, Any]:
    found = {}
    for f in fields(cls):  # pyright: ignore[reportArgumentType]
        if f.default is not MISSING:
            found[f.name] = f.default
        elif f.default_factory is not MISSING:
            found[f.name] = f.default_factory()
    return found


def _same(a: Any, b: Any) -> bool:
    """Equal as written: 0, 0.0, -0.0 and False are four things."""
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float):
        return repr(a) == repr(b)
    return bool(a == b)


def _fits(value: Any, kind: Any) -> bool:
    """Whether `value` is of the declared type `kind`. A bool is no int; an int may stand where a float is declared."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(kind))
    if origin is tuple:
        options = typing.get_args(kind)
        if not isinstance(value, tuple):
            return False
        if len(options) == 2 and options[1] is ...:
            return all(_fits(item, options[0]) for item in value)
        return len(value) == len(options) and all(map(_fits, value, options))
    if origin is typing.Literal:
        return any(_same(value, option) for option in typing.get_args(kind))
    if kind is None or kind is type(None):
        return value is None
    if kind is Any:
        return True
    if kind is tuple:
        return isinstance(value, tuple)
    if kind is int:
        return type(value) is int
    if kind is float:
        return type(value) in (int, float)
    return isinstance(kind, type) and isinstance(value, kind)


def _kind_text(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and typing.get_origin(kind) is None else str(kind).replace("graphnn.ir.", "")


def describe_value(value: Any) -> str:
    """A short word for a value in an error message: hostile texts and files may hold long ones."""
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else text[:77] + "..."


# ------------------------------------------------------------------------------------------------ text

INLINE_ELEMENTS = 64        # arrays up to here are written as numbers, above as the hexadecimal of their bytes


def literal(value: Any, body_name: Callable[[Graph], str]) -> str:
    """How `value` is written in text; `body_name` gives the name that stands for a body."""
    from graphnn.ir.op import Op

    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float() | np.floating():
            return repr(float(value))
        case str():
            return quote(value)
        case DType() | TensorType():
            return str(value)
        case int() | Dim():
            return f"size({value})" if RESERVED.intersection(names_of(value)) else str(value)
        case tuple():
            items = [literal(item, body_name) for item in value]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        case Array():
            return _array_literal(value)
        case Graph():
            return f"@{body_name(value)}"
        case Op():
            written = attributes_text(value, body_name)
            return f"op({value.name})" + (f" {written}" if written else "")
    raise VerifyError(f"{describe_value(value)} cannot be an attribute: it has no form in text")


def attributes_text(op: Op, body_name: Callable[[Graph], str]) -> str:
    """`{axis=1, keepdims=true}`, or nothing when every attribute has its default."""
    written = [f"{name}={literal(value, body_name)}" for name, value in written_attributes(op).items()]
    return "{" + ", ".join(written) + "}" if written else ""


def quote(text: str) -> str:
    """A string in double quotes; anything but printable ASCII is escaped."""
    escaped = "".join(c if " " <= c <= "~" and c not in '"\\' else _escape(c) for c in text)
    return f'"{escaped}"'


def _escape(c: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(c)
    return short if short is not None else f"\\u{{{ord(c):x}}}"


def _array_literal(array: Array) -> str:
    if array.data.size > INLINE_ELEMENTS or _has_odd_nan(array.data):
        return f"array {array.type} 0x{_little_endian(array.data).tobytes().hex()}"
    if array.type.dtype is DType.bool:
        items = ["true" if x else "false" for x in array.data.flat]
    elif array.type.dtype is DType.f32:
        items = [_shortest(x) for x in array.data.flat]
    else:
        items = [repr(x.item()) for x in array.data.flat]
    return f"array {array.type} ({', '.join(items)})"


def _shortest(x: Any) -> str:
    text = str(x)                                       # NumPy gives the shortest text that reads back to the same float32
    text = text if any(c in text for c in ".en") else text + ".0"
    # It is read by way of float64; should the two roundings ever differ from one, all digits are written.
    same = np.float32(float(text)) == x or x != x
    return text if same else repr(float(x))


def _has_odd_nan(data: np.ndarray) -> bool:
    """Whether some NaN has other bits than the usual one, so that the word nan would lose them."""
    if data.dtype.kind != "f":
        return False
    nans = np.ascontiguousarray(data[np.isnan(data)])
    return nans.tobytes() != np.full(nans.shape, np.nan, data.dtype).tobytes()


def _little_endian(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<"))


def array_of_bytes(type: TensorType, raw: bytes | memoryview) -> Array:
    """The array with this static type and these little-endian bytes. Raises VerifyError when they do not match."""
    if not type.is_static or type.nbytes != len(raw):
        raise VerifyError(f"an array of type {type} has not {len(raw)} bytes")
    shape = typing.cast("tuple[int, ...]", type.shape)
    flat = np.frombuffer(raw, type.dtype.numpy.newbyteorder("<"))
    if type.dtype is DType.bool and bool((np.frombuffer(raw, np.uint8) > 1).any()):
        raise VerifyError("a bool array holds bytes other than 0 and 1")
    return Array(flat.astype(type.dtype.numpy, copy=False).reshape(shape))


# ------------------------------------------------------------------------------------------------ types that may be

def check_extent(type: TensorType) -> TensorType:
    """`type`, when its static sizes are such as a machine can hold. Raises VerifyError."""
    elements = 1
    for size in type.shape:
        if isinstance(size, int):
            if size > MAX_SIZE:
                raise VerifyError(f"the type {type} has a size above 2**40")
            elements *= max(size, 1)                    # an empty axis must not hide the others
    if elements > MAX_ELEMENTS:
        raise VerifyError(f"the type {type} has more than 2**44 elements")
    return type


def dtype_of(name: Any) -> DType:
    """The dtype with exactly this name: f32, f64, i32, i64 or bool."""
    if isinstance(name, str) and name in DType.__members__:
        return DType[name]
    raise VerifyError(f"{describe_value(name)} is no dtype; there are {', '.join(DType.__members__)}")
