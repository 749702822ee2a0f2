"""Model files for the tests: small, and together holding everything a file can hold. And the tools that damage them."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from graphnn.files import ModelFile, load_file, save_file
from graphnn.files.container import aligned
from graphnn.ir.graph import Graph
from graphnn.ir.loc import scope
from graphnn.ir.ops.functions import tanh
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state
from graphnn.ir.ops.linalg import MatMul, matmul
from graphnn.ir.text import parse_graph


def tail() -> Graph:
    p, q = placeholder("p", "f32[N,4]"), placeholder("q", "f32[4]")
    return Graph.of("tail", [p, q], [tanh(p + q)])


def rich() -> ModelFile:
    """Two graphs with shared params, bodies in bodies, an epilogue, constants small and large, every dtype, odd shapes."""
    x, rate = placeholder("x", "f32[N,3]"), placeholder("rate", "f32[]")
    w, b, step = parameter("head/w", (3, 4)), parameter("head/b", (4,)), state("step", dtype="i64")
    with scope("head"):
        h = Epilogue(MatMul(transpose_a=False, transpose_b=False), 2, tail()).one(x, w, b)
        p, q = placeholder("p", "f32[N,4]"), placeholder("q", "f32[4]")
        y = Fused(Graph.of("outer", [p, q], [Fused(tail()).one(p, q)])).one(h, b)
    table = constant(np.arange(20, dtype=np.float32).reshape(5, 4))
    infer = Graph.of("infer", [x], [y, matmul(table, y.T)])
    train = Graph.of("train", [x, rate], [y], updates=[(w, w * rate), (step, step + 1)])
    cuts = parse_graph("""graph cuts(%a: f64[2*N+1,3], state %mask: bool[3]) {
        %0, %1 = split(%a) {axis=1, sizes=(1, 2)}
        %2 = slice(%0) {starts=(0, 0), stops=(2*N+1, 1), steps=(2, 1)}
        %3 = constant() {value=array f64[3] (nan, -0.0, inf)}
        return %1, %2, %mask, %3
    }""")
    rng = np.random.default_rng(0)
    arrays = {"head/w": rng.normal(size=(3, 4)).astype(np.float32), "head/b": np.zeros(4, np.float32), "step": np.array(7),
              "mask": np.array([True, False, True]), "slots/m": np.zeros((0, 5)), "table": np.arange(5, dtype=np.int32)}
    return ModelFile({"infer": infer, "train": train, "cuts": cuts}, arrays,
                     {"epoch": 3, "history": {"loss": [1.5, float("nan"), 1], "lr": []}, "best": None, "done": False},
                     {"labels": ["a", "b"], "description": "é, and a\nnew line", "x-own": {"k": [1, [2, {"z": -1}]]}})


def tiny() -> ModelFile:
    """One graph, one param: for tests that try every bit."""
    graph = parse_graph("graph g(%x: f32[N,2], param %w: f32[2,2]) {\n  %0 = matmul(%x, %w)  # m.py:3 fc\n  return %0\n}")
    return ModelFile({"g": graph}, {"w": np.eye(2, dtype=np.float32)}, None, {"k": 1})


def save(path: str | Path, file: ModelFile) -> bytes:
    save_file(path, graphs=file.graphs, arrays=file.arrays, train=file.train, meta=file.meta)
    return Path(path).read_bytes()


def header_of(raw: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<Q", raw, 16)
    return msgpack.unpackb(raw[64:64 + length], raw=False)


def data_of(raw: bytes) -> bytes:
    return raw[struct.unpack_from("<Q", raw, 24)[0]:]


def assemble(header: dict[str, Any] | bytes, data: bytes, **fields: int) -> bytes:
    """A file with this header and right lengths and checksum, however wrong the header; `fields` override the preamble's."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    assert packed is not None
    at = aligned(64 + len(packed))
    values = {"major": 1, "minor": 0, "features": 0, "header_len": len(packed), "data_off": at, "file_len": at + len(data)}
    values |= fields
    start = b"\x89GNN\r\n\x1a\n" + struct.pack("<HHIQQQ", *values.values())
    return (start + hashlib.sha256(start + packed).digest()[:24] + packed).ljust(at, b"\0") + data


class Slot:
    """A file whose bytes are replaced quickly many times over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def load(self, raw: bytes, loader: Callable[..., Any] = load_file, **options: Any) -> Any:
        os.pwrite(self.descriptor, raw, 0)
        os.ftruncate(self.descriptor, len(raw))
        return loader(self.path, **options)


# ------------------------------------------------------------------------------------------------ mutations

ODD = (0, 1, 2, 3, 5, 31, 32, -1, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 1, -(1 << 63), True, False, None,
       0.0, -0.0, 1.5, float("inf"), float("nan"), "", "x", "N", "2*N", "N//0", "(((", "\x1b[2J", "é", "f32", "add", "../x",
       b"", b"\0" * 32, [], [0], [[]], {}, {"size": "N"}, {"size": "1"}, {"dtype": "f64"}, {"body": 0}, {"body": 9},
       {"op": [0, None]}, {"array": ["f32", [2], b"\0" * 8]}, {"array": 0}, {"type": ["f32", ["N"]]}, {"x": 1, "y": 2})


def places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key, item in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        found.append((tree, key))
        if isinstance(item, (dict, list)):
            places(item, found)
    return found


def mutate(tree: dict[str, Any], rng: random.Random) -> None:
    """Change one to three things of a header, in place: mostly such as keep it close to a right one."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spots = places(tree, [])
        if not spots:
            return
        container, key = rng.choice(spots)
        old = container[key]
        match rng.randrange(8):
            case 0 if type(old) is int:
                container[key] = old + rng.choice((-1, 1, 2, 64, -64, 1 << 20))
            case 1:
                container[key] = rng.choice(ODD)
            case 2 if isinstance(container, list):
                container.pop(key)
            case 2:
                del container[key]
            case 3 if isinstance(container, list):
                container.insert(key, old)
            case 4:
                other, where = rng.choice(spots)
                container[key], other[where] = other[where], old
            case 5 if isinstance(old, list):
                rng.shuffle(old)
            case 6 if isinstance(container, dict):
                container[rng.choice(("x", "axis", "body", "a", ""))] = container.pop(key)
            case 7 if isinstance(old, str):
                container[key] = rng.choice((old + "x", old[:-1], old.upper(), rng.choice(ODD)))
            case _:
                other, where = rng.choice(spots)
                container[key] = other[where]
