"""Model files: graphs, arrays, training state and metadata in one `.gnn` file, and back. Never code.

    save_file("digits.gnn", graphs={"infer": graph}, arrays=state_by_name, meta={"labels": ["0", "1"]})
    file = load_file("digits.gnn")          # file.graphs, file.arrays, file.train, file.meta

What load gives, save writes again byte for byte. A file that is damaged, foreign, too new or malicious is a FileFormatError.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from graphnn.errors import DTypeError, FileFormatError, GraphnnError, ShapeError, VerifyError
from graphnn.files import container
from graphnn.files.atomic import PathLike, write_atomically
from graphnn.files.graph_tree import GraphReader, GraphWriter, check_name, little_endian
from graphnn.files.header import by_bytes, pack_header, plain_tree, unpack_header
from graphnn.ir.attribute_trees import type_of_tree
from graphnn.ir.attrs import Array, array_of_bytes, describe_value
from graphnn.ir.graph import Graph
from graphnn.ir.types import DType, TensorType

KEYS = ("ir", "meta", "tensors", "train")


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds. The arrays are read-only views of the file's bytes."""

    graphs: dict[str, Graph]
    arrays: dict[str, np.ndarray]
    train: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None


@dataclass(frozen=True)
class TensorEntry:
    """One row of the tensor table: where an array is and what its bytes must hash to. Constants are named #0, #1, ..."""

    name: str
    type: TensorType
    offset: int
    nbytes: int
    sha256: bytes = field(repr=False)
    role: str

    def row(self) -> list[Any]:
        return [self.name, self.type.dtype.value, list(self.type.shape), self.offset, self.nbytes, self.sha256, self.role]


@dataclass(frozen=True)
class Header:
    """What a file says of itself: read without touching tensors, and without building graphs."""

    version: tuple[int, int]
    file_bytes: int
    header_bytes: int
    tensors: tuple[TensorEntry, ...]
    graphs: dict[str, int]                               # the number of nodes of each graph
    train: dict[str, Any] | None
    meta: dict[str, Any] | None


# ------------------------------------------------------------------------------------------------ saving

def save_file(path: PathLike, *, graphs: Mapping[str, Graph] | None = None, arrays: Mapping[str, np.ndarray] | None = None,
              train: Mapping[str, Any] | None = None, meta: Mapping[str, Any] | None = None) -> None:
    """Write a model file. The file is replaced in one step: when anything fails, the old one is intact.

    `arrays` are the params and states of the graphs by name, and any others; params without an array are allowed. `train` and
    `meta` are maps of numbers, strings, lists and maps. The same content gives the same bytes, on any machine.
    """
    writer = GraphWriter()
    ir = writer.tree(graphs or {})
    roles = {name: role for name, role, _ in writer.inputs if role != "input"}
    declared = {name: type for name, role, type in writer.inputs if role != "input"}
    data: dict[str, np.ndarray] = {}
    for name, array in (arrays or {}).items():
        data[check_name(name, "an array")] = _checked(name, np.asarray(array), declared.get(name))
    for number, constant in enumerate(writer.arrays):
        data[f"#{number}"] = little_endian(constant.data)
    entries, views, at = [], [], 0
    for name in sorted(data, key=by_bytes):
        view = _bytes_of(data[name])
        role = "const" if name.startswith("#") else roles.get(name, "array")
        entries.append(TensorEntry(name, TensorType.of(data[name]), at, len(view), hashlib.sha256(view).digest(), role))
        views.append(view)
        at += container.aligned(len(view))
    header = _header(ir, entries, dict(train) if train is not None else None, dict(meta) if meta is not None else None)
    try:
        head = container.pack(header, at)
        container.unpack(head[:container.PREAMBLE_BYTES], len(head) + at)
    except FileFormatError as error:
        raise VerifyError(str(error), hint=error.hint) from None
    write_atomically(path, container.chunks(head, views))


def _header(ir: dict[str, Any], entries: list[TensorEntry], train: dict[str, Any] | None, meta: dict[str, Any] | None) -> bytes:
    tree: dict[str, Any] = {"ir": ir}
    if meta is not None:
        tree["meta"] = plain_tree(meta, "meta")
    tree["tensors"] = [entry.row() for entry in entries]
    if train is not None:
        tree["train"] = plain_tree(train, "train")
    return pack_header(tree)


def _checked(name: str, array: np.ndarray, declared: TensorType | None) -> np.ndarray:
    """`array` in the form it has in a file. Raises ShapeError or DTypeError when the graphs declare it otherwise."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    actual = TensorType.of(array)
    if declared is not None:
        if actual.dtype != declared.dtype:
            raise DTypeError(f"the array {name!r} is {actual}, declared {declared}")
        if not _matches(actual, declared):
            raise ShapeError(f"the array {name!r} is {actual}, declared {declared}")
    return little_endian(array)


def _matches(actual: TensorType, declared: TensorType) -> bool:
    return actual.dtype == declared.dtype and actual.rank == declared.rank and all(
        not isinstance(size, int) or size == is_ for size, is_ in zip(declared.shape, actual.shape, strict=True))


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


# ------------------------------------------------------------------------------------------------ loading

def load_file(path: PathLike, *, mmap: bool | Literal["auto"] = "auto", verify: bool | Literal["auto"] = "auto") -> ModelFile:
    """The content of a model file. Raises FileFormatError for every bad one, and OSError when it cannot be read.

    Files above 64 MB are mapped into memory, smaller ones copied; `mmap` decides otherwise. A mapped file must not be cut off by
    others while it is in use; replacing it, as save_file does, is harmless. The checksum of the header is always checked,
    those of the arrays unless the file is mapped; `verify` decides otherwise.
    """
    with _located(path), container.FileReader(path) as reader:
        tree = _parts(unpack_header(reader.header))
        entries = _entries(tree["tensors"], reader.data_bytes)
        mapped = reader.preamble.file_bytes > container.MAP_ABOVE if mmap == "auto" else mmap
        data = reader.data(mapped=mapped)
        arrays: dict[str, np.ndarray] = {}
        constants: dict[str, Array] = {}
        for entry in entries:
            raw = data[entry.offset:entry.offset + entry.nbytes]
            if entry.role == "const" or (not mapped if verify == "auto" else verify):
                _check_bytes(entry, raw, data[entry.offset + entry.nbytes:container.aligned(entry.offset + entry.nbytes)])
            if entry.role == "const":
                constants[entry.name] = array_of_bytes(entry.type, raw.data)
            else:
                arrays[entry.name] = _view(entry, raw)
        if any(f"#{i}" not in constants for i in range(len(constants))):
            raise FileFormatError("the constants among the tensors are not #0, #1, ...")
        graphs = GraphReader(tree["ir"], [constants[f"#{i}"] for i in range(len(constants))]).graphs
        _check_canonical(reader.header, graphs, entries, tree.get("train"), tree.get("meta"))
        return ModelFile(graphs, arrays, tree.get("train"), tree.get("meta"))


def read_header(path: PathLike) -> Header:
    """What a file says of itself, in the time that reading its header takes. The header's checksum is checked, not its graphs."""
    with _located(path), container.FileReader(path) as reader:
        tree = _parts(unpack_header(reader.header))
        rows = tree["ir"].get("graphs") if isinstance(tree["ir"], dict) else None
        if not isinstance(rows, dict) or not all(isinstance(row, list) and len(row) == 5 and isinstance(row[2], list)
                                                 for row in rows.values()):
            raise FileFormatError("the part graphs is no map of graphs")
        return Header((container.MAJOR, reader.preamble.minor), reader.preamble.file_bytes, reader.preamble.header_bytes,
                      tuple(_entries(tree["tensors"], reader.data_bytes)), {key: len(row[2]) for key, row in rows.items()},
                      tree.get("train"), tree.get("meta"))


def verify_file(path: PathLike) -> Header:
    """The header of a file, of which every byte was checked: checksums, padding, graphs and types. Raises FileFormatError."""
    load_file(path, verify=True)
    return read_header(path)


@contextmanager
def _located(path: PathLike) -> Iterator[None]:
    """Every error but the system's own leaves as one FileFormatError that names the file."""
    name = os.fspath(path)
    try:
        yield
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error}", hint=error.hint) from error.__cause__
    except GraphnnError as error:
        raise FileFormatError(f"{name}: {error}", hint=error.hint) from error
    except OSError:
        raise
    except Exception as error:                           # whatever a hostile file provokes in an op's rule
        raise FileFormatError(f"{name}: not a valid model ({type(error).__name__}: {str(error)[:200]})") from error


def _parts(tree: dict[str, Any]) -> dict[str, Any]:
    if not {"ir", "tensors"} <= set(tree) <= set(KEYS):
        unknown = sorted(set(tree) - set(KEYS))
        message = f"the header has unknown parts: {', '.join(unknown)[:80]}" if unknown else "the header lacks a part"
        raise FileFormatError(message, hint="the file may come from a newer graphnn")
    for key in ("train", "meta"):
        if key in tree and not isinstance(tree[key], dict):
            raise FileFormatError(f"the part {key} is no map")
    return tree


def _entries(rows: Any, data_bytes: int) -> list[TensorEntry]:
    """The tensor table, which must account for every byte of the tensor section in order."""
    if not isinstance(rows, list):
        raise FileFormatError("the part tensors is no list")
    entries: list[TensorEntry] = []
    at = 0
    last = b""
    for row in rows:
        if not isinstance(row, list) or len(row) != 7:
            raise FileFormatError(f"{describe_value(row)} is no row of the tensor table")
        name, dtype, shape, offset, nbytes, sha256, role = row
        if not isinstance(name, str) or role not in ("param", "state", "array", "const"):
            raise FileFormatError(f"{describe_value(name)} with role {describe_value(role)} is no tensor")
        if (role == "const") != name.startswith("#"):
            raise FileFormatError(f"the tensor {name[:80]!r} has role {role}")
        if role != "const":
            check_name(name, "an array")
        if entries and by_bytes(name) <= last:
            raise FileFormatError(f"the tensor {name[:80]!r} is out of order, or there twice")
        last = by_bytes(name)
        type = type_of_tree(dtype, shape)
        if not type.is_static or type_of(nbytes) is not int or type.nbytes != nbytes:
            raise FileFormatError(f"the tensor {name[:80]!r} of type {type} cannot have {describe_value(nbytes)} bytes")
        if type_of(offset) is not int or offset != at:
            raise FileFormatError(f"the tensor {name[:80]!r} stands at {describe_value(offset)}, not at {at}")
        if not isinstance(sha256, bytes) or len(sha256) != 32:
            raise FileFormatError(f"the checksum of {name[:80]!r} has not 32 bytes")
        at += container.aligned(nbytes)
        if at > data_bytes:
            raise FileFormatError(f"the tensor {name[:80]!r} reaches beyond the end of the file")
        entries.append(TensorEntry(name, type, offset, nbytes, sha256, cast("str", role)))
    if at != data_bytes:
        raise FileFormatError(f"{data_bytes - at} bytes after the last tensor belong to none")
    return entries


type_of = type                                           # `type` is a tensor's type in this module's rows


def _check_bytes(entry: TensorEntry, raw: np.ndarray, padding: np.ndarray) -> None:
    if hashlib.sha256(raw.data).digest() != entry.sha256:
        raise FileFormatError(f"the checksum of the tensor {entry.name!r} does not match: the file is damaged")
    if padding.any():
        raise FileFormatError(f"the padding after the tensor {entry.name!r} is not zero: the file is damaged")


def _view(entry: TensorEntry, raw: np.ndarray) -> np.ndarray:
    if entry.type.dtype is DType.bool and raw.size and int(raw.max()) > 1:
        raise FileFormatError(f"the bool tensor {entry.name!r} holds bytes other than 0 and 1")
    stored = raw.view(entry.type.dtype.numpy.newbyteorder("<"))
    array = stored.astype(entry.type.dtype.numpy, copy=False).reshape(cast("tuple[int, ...]", entry.type.shape))
    array.flags.writeable = False
    return array


def _check_canonical(header: bytes, graphs: dict[str, Graph], entries: list[TensorEntry], train: Any, meta: Any) -> None:
    """Write what was understood, and compare: so there is one file for one content, and nothing in it that was not understood."""
    writer = GraphWriter()
    ir = writer.tree(graphs, verified=True)
    declared = {name: (role, type) for name, role, type in writer.inputs if role != "input"}
    for entry in entries:
        role, type = declared.get(entry.name, ("const" if entry.role == "const" else "array", entry.type))
        if role != entry.role or not _matches(entry.type, type):
            raise FileFormatError(f"the tensor {entry.name!r} is {entry.role} {entry.type}; the graphs declare {role} {type}")
    if len(writer.arrays) != sum(entry.role == "const" for entry in entries):
        raise FileFormatError("a constant among the tensors is not used")
    if _header(ir, entries, train, meta) != header:
        raise FileFormatError("the header is not in canonical form")


__all__ = ["Header", "ModelFile", "TensorEntry", "load_file", "read_header", "save_file", "verify_file"]
