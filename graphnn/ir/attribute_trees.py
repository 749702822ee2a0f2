"""Attribute values as trees of plain values, for files (docs/file_format.md): `to_tree` and its inverse `from_tree`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphnn.errors import VerifyError
from graphnn.ir.attrs import (
    MAX_NESTING,
    Array,
    build_op,
    check_extent,
    check_kinds,
    describe_value,
    dtype_of,
    written_attributes,
)
from graphnn.ir.dims import MAX_SIZE, Dim, parse_size
from graphnn.ir.graph import Graph
from graphnn.ir.types import DType, TensorType

if TYPE_CHECKING:
    from graphnn.ir.op import Op


class TreeWriter(Protocol):
    """What the tree of an attribute needs from the file around it: numbers for bodies, ops and large arrays."""

    def body_id(self, body: Graph) -> int: ...
    def op_id(self, name: str) -> int: ...
    def array_tree(self, array: Array) -> Any: ...


class TreeReader(Protocol):
    """The inverse of TreeWriter. Each raises VerifyError for what is not there."""

    def body(self, number: Any) -> Graph: ...
    def op_name(self, number: Any) -> str: ...
    def array(self, tree: Any) -> Array: ...


def to_tree(value: Any, writer: TreeWriter) -> Any:
    """`value` as None, bool, int, float, str, a list (a tuple) or a map of one key (all else)."""
    from graphnn.ir.op import Op

    match value:
        case None | bool():
            return value
        case str():
            return _plain(value)
        case float() | np.floating():
            return math.nan if math.isnan(value) else float(value)
        case DType():
            return {"dtype": value.value}
        case TensorType():
            return {"type": [value.dtype.value, shape_tree(value)]}
        case int():
            if not -(1 << 63) <= value < 1 << 64:
                raise VerifyError(f"the attribute {value} does not fit 64 bits")
            return value
        case Dim():
            return {"size": str(value)}
        case tuple():
            return [to_tree(item, writer) for item in value]
        case Array():
            return {"array": writer.array_tree(value)}
        case Graph():
            return {"body": writer.body_id(value)}
        case Op():
            return {"op": [writer.op_id(value.name), attributes_tree(value, writer)]}
    raise VerifyError(f"{describe_value(value)} cannot be an attribute: it has no form in files")


def from_tree(tree: Any, reader: TreeReader, depth: int = 0) -> Any:
    """The inverse of `to_tree`. Raises VerifyError for anything else."""
    if tree is None or isinstance(tree, (bool, int, float)):
        return tree
    if isinstance(tree, str):
        return _plain(tree)
    if depth > MAX_NESTING:
        raise VerifyError(f"attributes are nested more than {MAX_NESTING} deep")
    if isinstance(tree, list):
        return tuple(from_tree(item, reader, depth + 1) for item in tree)
    if not isinstance(tree, dict) or len(tree) != 1:
        raise VerifyError(f"{describe_value(tree)} stands for no attribute")
    ((kind, content),) = tree.items()
    match kind, content:
        case "dtype", str():
            return dtype_of(content)
        case "size", str():
            size = parse_size(content)
            if isinstance(size, int) or str(size) != content:
                raise VerifyError(f"the size {content[:40]!r} is not in normal form")
            return size
        case "type", [str() as dtype, list() as shape]:
            return type_of_tree(dtype, shape)
        case "array", _:
            return reader.array(content)
        case "body", _:
            return reader.body(content)
        case "op", [number, attributes]:
            return build_op(reader.op_name(number), read_attributes(attributes, reader, depth + 1))
    raise VerifyError(f"{describe_value(tree)} stands for no attribute")


def _plain(text: str) -> str:
    """`text`, which may come to stand in an error message on a terminal. Raises VerifyError for control characters."""
    if not text.isprintable():
        raise VerifyError(f"the attribute {describe_value(text)} has characters that cannot be printed")
    return text


def attributes_tree(op: Op, writer: TreeWriter) -> dict[str, Any] | None:
    """The written attributes as a map in the order of names, or None when there are none."""
    written = written_attributes(op)
    check_kinds(type(op), written)                       # else a file would be written that cannot be read
    return {name: to_tree(written[name], writer) for name in sorted(written)} or None


def read_attributes(tree: Any, reader: TreeReader, depth: int = 0) -> dict[str, Any]:
    """The inverse of `attributes_tree`."""
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not tree or len(tree) > 256:
        raise VerifyError(f"{describe_value(tree)} is no map of attributes")
    return {name: from_tree(value, reader, depth) for name, value in tree.items()}


def shape_tree(type: TensorType) -> list[int | str]:
    """A shape with text for sizes that depend on names."""
    return [size if isinstance(size, int) else str(size) for size in type.shape]


def type_of_tree(dtype: Any, shape: Any) -> TensorType:
    """The inverse of dtype and `shape_tree`. Raises VerifyError or ShapeError."""
    sizes = []
    if not isinstance(shape, list):
        raise VerifyError(f"{describe_value(shape)} is no shape")
    for size in shape:
        if isinstance(size, str):
            parsed = parse_size(size)
            if isinstance(parsed, int) or str(parsed) != size:
                raise VerifyError(f"the size {size[:40]!r} is not in normal form")
            sizes.append(parsed)
        elif type(size) is int and 0 <= size <= MAX_SIZE:
            sizes.append(size)
        else:
            raise VerifyError(f"{describe_value(size)} is no size")
    return check_extent(TensorType(dtype_of(dtype), tuple(sizes)))
