"""Damaged, foreign, too new and malicious files: every one is a FileFormatError that says what is wrong, and nothing else."""

from __future__ import annotations

import os
import random
import resource
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import graphnn.files.model_file
from graphnn.errors import FileFormatError, GraphnnError
from graphnn.files import ModelFile, load_file, read_header, save_file, verify_file
from graphnn.files.header import scan
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.text import parse_graph, print_graph
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify
from tests.files.corpus import Slot, assemble, data_of, header_of, mutate, rich, save, tiny


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "slot.gnn")


def refusal(slot: Slot, raw: bytes) -> str:
    with pytest.raises(FileFormatError) as caught:
        slot.load(raw)
    assert str(slot.path) in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ accidents

@pytest.mark.parametrize("make", [tiny, rich])
def test_every_truncation_and_every_longer_file_is_refused(tmp_path: Path, slot: Slot, make) -> None:
    raw = save(tmp_path / "a.gnn", make())
    for length in range(len(raw)):
        refusal(slot, raw[:length])
    for extra in (b"\0", b"\0" * 64, raw):
        assert "longer" in refusal(slot, raw + extra)


def test_every_flipped_bit_is_refused(tmp_path: Path, slot: Slot) -> None:
    raw = bytearray(save(tmp_path / "a.gnn", tiny()))
    reasons: Counter[str] = Counter()
    slot.load(bytes(raw))
    for bit in range(8 * len(raw)):
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileFormatError) as caught:
            slot.load(bytes(raw))
        reasons[str(caught.value).partition(": ")[2][:30]] += 1
        raw[bit // 8] ^= 1 << bit % 8
    assert reasons["not a graphnn model file"] == 64
    assert reasons["the checksum of the tensor 'w'"] == 8 * 16
    assert reasons["the padding after the tensor '"] == 8 * 48


def test_random_bytes_and_other_formats_are_foreign(slot: Slot) -> None:
    rng = random.Random(0)
    npy = b"\x93NUMPY" + bytes(200)
    for raw in (b"", b"\x89GNN", b"PK\x03\x04" + bytes(100), b"\x80\x04\x95", b'{"a": 1}', npy, rng.randbytes(500)):
        assert "not a graphnn model file" in refusal(slot, raw)
    assert "zip" in refusal(slot, b"PK\x03\x04" + bytes(100))


def test_what_is_no_plain_file_is_refused_and_what_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="plain file"):
        load_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="plain file"):
        load_file(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "none.gnn")


def test_no_descriptor_is_left_open_by_a_refusal(slot: Slot) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for raw in (b"", b"\x89GNN\r\n\x1a\n" + bytes(56), assemble({}, b"")):
        refusal(slot, raw)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------------ newer and stranger writers

def parts() -> dict:
    ir = {"bodies": [], "graphs": {}, "inputs": [], "ops": [], "opset": 1, "places": []}
    return {"ir": ir, "tensors": []}


def test_the_smallest_file_is_read_and_a_newer_minor_format_too(slot: Slot) -> None:
    assert slot.load(assemble(parts(), b"")).graphs == {}
    assert slot.load(assemble(parts(), b"", minor=7)).graphs == {}


@pytest.mark.parametrize(("fields", "message"), [
    ({"major": 2}, "format 2.0"), ({"major": 0}, "format 0"), ({"features": 4}, "features 0x4"),
    ({"header_len": 1 << 63}, "claims"), ({"header_len": 1 << 24}, "damaged"), ({"header_len": 0}, "damaged"),
    ({"data_off": 1 << 63}, "damaged"), ({"data_off": 64}, "damaged"),
    ({"file_len": 1 << 63}, "cut off"), ({"file_len": 64}, "longer"),
])
def test_a_preamble_out_of_range_says_so(slot: Slot, fields: dict[str, int], message: str) -> None:
    assert message in refusal(slot, assemble(parts(), b"", **fields))


def test_too_new_says_upgrade(slot: Slot) -> None:
    with pytest.raises(FileFormatError) as caught:
        slot.load(assemble(parts(), b"", major=9))
    assert caught.value.hint == "upgrade graphnn"


def changed(change, make=rich) -> bytes:
    """A file whose header was changed by `change`, with the checksum made to fit."""
    with tempfile.TemporaryDirectory() as folder:
        raw = save(Path(folder) / "a.gnn", make())
    tree = header_of(raw)
    change(tree)
    return assemble(tree, data_of(raw))


def put(path: list, key: object, value: object):
    """A change that sets one entry of the header."""
    def change(tree: dict) -> None:
        at: Any = tree
        for step in path:
            at = at[step]
        at[key] = value
    return change


NODE = ["ir", "graphs", "infer", 2, 0]
TENSORS = ["tensors"]
X = ["ir", "inputs", 0]


CHANGES = {
    "unknown op": (put(["ir", "ops"], 0, "frobnicate"), "no op str 'frobnicate'"),
    "input as an op": (put(["ir", "ops"], 0, "input"), "no op str 'input'"),
    "newer ops": (put(["ir"], "opset", 2), "version int 2"),
    "unknown part": (put([], "zeal", 1), "unknown parts: zeal"),
    "missing part": (lambda t: t.pop("tensors"), "lacks a part"),
    "unknown attribute": (put([*NODE, 1], "x", 1), "no attribute 'x'"),
    "wrong kind": (put([*NODE, 1], "producer_inputs", "2"), "producer_inputs is int"),
    "value of a later node": (put([*NODE, 2], 0, 5), "is no number of a value"),
    "negative value": (put([*NODE, 2], 0, -1), "is no number of a value"),
    "bool as value": (put([*NODE, 2], 0, False), "is no number of a value"),
    "output out of range": (put(["ir", "graphs", "infer", 3], 0, 1 << 40), "is no number of a value"),
    "operand of the wrong shape": (put([*NODE, 2], 1, 2), "graph 'infer', node 0: epilogue"),
    "body of itself": (lambda t: t["ir"]["bodies"][0][2].append([0, {"body": {"body": 0}}, [0, 1], 0]), "body 0, node 2"),
    "input twice": (lambda t: next(r for r in t["ir"]["inputs"] if r[0] == "rate").__setitem__(0, "x"), "two inputs are named"),
    "state updated twice": (lambda t: t["ir"]["graphs"]["train"][4].append(t["ir"]["graphs"]["train"][4][0]), "updated twice"),
    "input updated": (put(["ir", "graphs", "train", 4, 0], 0, 0), "cannot be updated"),
    "graph name": (put(["ir", "graphs", "infer"], 0, "a b"), "cannot name a graph"),
    "graph key": (put(["ir", "graphs"], "../../x y", ["g", [], [], [], []]), "cannot name a graph of a file"),
    "role": (put(X, 1, "root"), "no role"),
    "size 2**41": (put(X, 3, [1 << 41]), "no size"),
    "2**80 elements": (put(X, 3, [1 << 40, 1 << 40]), "2**44"),
    "0 x 2**80": (put(X, 3, [0, 1 << 40, 1 << 40]), "2**44"),
    "negative size": (put(X, 3, [-1]), "no size"),
    "bool as size": (put(X, 3, [True]), "no size"),
    "float as size": (put(X, 3, [3.0]), "no size"),
    "rank 17": (put(X, 3, [1] * 17), "at most 16 axes"),
    "size not normal": (put(X, 3, ["1*N"]), "normal form"),
    "size bomb": (put(X, 3, ["*".join(f"(a{i}+b{i})" for i in range(40))]), "a size has"),
    "terminal escape": (put(["ir", "places", 0], 3, "\x1b[2J"), "plain form"),
    "folder in a place": (put(["ir", "places", 0], 0, "/etc/passwd"), "plain form"),
    "unused op": (lambda t: t["ir"]["ops"].append("sin"), "canonical"),
    "unused input": (lambda t: t["ir"]["inputs"].append(["u", "input", "f32", [], 0]), "canonical"),
    "unused body": (lambda t: t["ir"]["bodies"].append(["u", [], [], [], []]), "canonical"),
    "default written": (put(["ir", "graphs", "infer", 2, 4], 1, {"transpose_a": False}), "canonical"),
    "tensors swapped": (lambda t: t["tensors"].reverse(), "stands at"),
    "name twice": (lambda t: t["tensors"][2].__setitem__(0, t["tensors"][1][0]), "out of order"),
    "overlap": (lambda t: t["tensors"][2].__setitem__(3, t["tensors"][1][3]), "stands at"),
    "hole": (lambda t: t["tensors"][2].__setitem__(3, t["tensors"][2][3] + 64), "stands at"),
    "offset wrap": (put(["tensors", 2], 3, (1 << 64) - 64), "stands at"),
    "negative offset": (put(["tensors", 0], 3, -64), "stands at"),
    "bytes wrap": (put(["tensors", 2], 4, (1 << 64) - 1), "cannot have"),
    "shape against bytes": (put(["tensors", 2], 2, [3, 5]), "cannot have"),
    "dtype against bytes": (put(["tensors", 2], 1, "f64"), "cannot have"),
    "unknown dtype": (put(["tensors", 2], 1, "f16"), "no dtype"),
    "empty tensor elsewhere": (lambda t: next(r for r in t["tensors"] if r[4] == 0).__setitem__(3, 0), "stands at"),
    "tensor renamed": (put(["tensors", 2], 0, "head/ww"), "is param"),
    "constant missing": (put(["tensors", 0], 0, "#7"), "not #0"),
    "tensor beyond the file": (lambda t: t["tensors"].append(["zz", "f32", [1 << 30], 448, 1 << 32, bytes(32), "array"]),
                               "beyond"),
    "short checksum": (put(["tensors", 0], 5, b"x"), "32 bytes"),
    "meta is a list": (put([], "meta", [1]), "meta is no map"),
    "keys out of order": (put([], "meta", {"b": 1, "a": 2}), "canonical"),
    "bytes in meta": (put([], "meta", {"b": b"x"}), "meta.b holds a bytes"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_wrong_header_says_what_and_where(slot: Slot, kind: str) -> None:
    change, message = CHANGES[kind]
    assert message in refusal(slot, changed(change))


def test_the_unchanged_header_is_accepted(slot: Slot) -> None:
    slot.load(changed(lambda tree: None))


def test_bool_bytes_other_than_0_and_1_are_refused_even_unverified(slot: Slot) -> None:
    def change(tree: dict) -> None:
        tree["tensors"] = [["a", "bool", [2], 0, 2, bytes(32), "array"]]
        tree["ir"] = parts()["ir"]
    raw = assemble(header_of(changed(change)), b"\x02\x01".ljust(64, b"\0"))
    with pytest.raises(FileFormatError, match="other than 0 and 1"):
        slot.load(raw, mmap=True, verify=False)


# ------------------------------------------------------------------------------------------------ bombs

def with_meta(packed: bytes) -> bytes:
    """A header whose metadata is these bytes."""
    good = msgpack.packb(parts())
    assert good is not None
    return bytes([good[0] + 1]) + good[1:] + msgpack.packb("meta") + packed  # pyright: ignore[reportOperatorIssue]


BOMBS = {
    "a million empty lists": with_meta(b"\x81\xa1a\xdd" + struct.pack(">I", 10**6) + b"\x90" * 10**6),
    "a million empty maps": with_meta(b"\x81\xa1a\xdd" + struct.pack(">I", 10**6) + b"\x80" * 10**6),
    "a list of 2**32": with_meta(b"\x81\xa1a\xdd\xff\xff\xff\xff"),
    "a map of 2**32": with_meta(b"\xdf\xff\xff\xff\xff"),
    "a string of 2**32": with_meta(b"\x81\xa1a\xdb\xff\xff\xff\xff"),
    "bytes of 2**32": with_meta(b"\x81\xa1a\xc6\xff\xff\xff\xff"),
    "lists 1025 deep": with_meta(b"\x81\xa1a" + b"\x91" * 1025 + b"\xc0"),
    "lists a million deep": with_meta(b"\x81\xa1a" + b"\x91" * 10**6 + b"\xc0"),
    "lists of 2**31 in lists of 2**31": with_meta(b"\x81\xa1a" + b"\xdd\x80\x00\x00\x00" * 5),
    "an extension": with_meta(b"\x81\xa1a\xd4\x01\x00"),
    "a timestamp": with_meta(b"\x81\xa1a\xd6\xff\x00\x00\x00\x00"),
    "a half-length float": with_meta(b"\x81\xa1a\xca\x00\x00\x00\x00"),
    "the unused byte": with_meta(b"\x81\xa1a\xc1"),
    "a long form of a short int": with_meta(b"\x81\xa1a\xcc\x05"),
    "a long form of a short string": with_meta(b"\x81\xa1a\xd9\x01b"),
    "a key twice": with_meta(b"\x82\xa1a\x01\xa1a\x02"),
    "a part twice": with_meta(b"\x80")[:1] + with_meta(b"\x80")[1:] + b"\x00",
    "an integer key": with_meta(b"\x81\x01\x02"),
    "broken UTF-8": with_meta(b"\x81\xa1a\xa1\xff"),
    "a lone surrogate": with_meta(b"\x81\xa1a\xa3\xed\xa0\x80"),
    "bytes after the map": with_meta(b"\x80") + b"\xc0",
    "an unfinished map": with_meta(b"\x81\xa1a"),
    "an odd NaN": with_meta(b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01"),
    "no map": b"\x90",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_without_room_for_it(slot: Slot, kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(slot, assemble(BOMBS[kind], b""))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024                              # KiB


def test_a_million_nodes_that_are_not_there_are_refused(slot: Slot) -> None:
    tree = parts()
    tree["ir"]["graphs"]["g"] = ["g", [], [0] * 1_000_000, [], []]
    assert "a node is int 0" in refusal(slot, assemble(tree, b""))


def test_bodies_that_unfold_to_a_billion_nodes_are_refused(slot: Slot) -> None:
    tree = parts()
    ir = tree["ir"]
    ir["ops"], ir["places"] = ["tanh", "fused"], [["", 0, "", "", False]]
    inputs = [["p", "input", "f32", [3], 0]]
    ir["bodies"].append(["b", inputs, [[0, None, [0], 0]], [1], []])
    for i in range(15):
        ir["bodies"].append([f"b{i}", inputs, [[1, {"body": {"body": i}}, [0], 0]] * 8, [1], []])
    ir["inputs"] = inputs
    ir["graphs"]["g"] = ["g", [0], [[1, {"body": {"body": 15}}, [0], 0]], [1], []]
    assert "unfold" in refusal(slot, assemble(tree, b""))


def test_a_symbolic_size_that_doubles_with_every_node_is_refused(slot: Slot) -> None:
    tree = parts()
    ir = tree["ir"]
    ir["ops"], ir["places"] = ["slice", "concat"], [["", 0, "", "", False]]
    ir["inputs"] = [["x", "input", "f32", ["N"], 0]]
    nodes = []
    for i in range(200):                                  # v -> concat(v, v[::i+2])
        stops = {"stops": [{"size": "N"}], "starts": [0], "steps": [i + 2]}
        nodes += [[0, {k: stops[k] for k in sorted(stops)}, [0], 0], [1, {"axis": 0}, [2 * i, 2 * i + 1], 0]]
    ir["graphs"]["g"] = ["g", [0], nodes, [400], []]
    assert "names and calls" in refusal(slot, assemble(tree, b""))


def test_the_scan_agrees_with_msgpack_about_where_values_end() -> None:
    rng = random.Random(5)

    def tree(depth: int) -> object:
        kind = rng.randrange(9 if depth < 6 else 7)
        if kind < 7:
            return (None, True, rng.randrange(-1 << 63, 1 << 64), rng.random(), "x" * rng.choice((0, 31, 32, 255, 256, 70000)),
                    b"y" * rng.choice((0, 64)), rng.randrange(-40, 200))[kind]
        many = rng.choice((0, 1, 15, 16, 20))
        return [tree(depth + 1) for _ in range(many)] if kind == 7 else {str(i): tree(depth + 1) for i in range(many)}

    for _ in range(60):
        packed = msgpack.packb(tree(0))
        assert packed is not None
        scan(packed)
        for wrong in (packed + b"\xc0", packed[:-1]):
            with pytest.raises(FileFormatError):
                scan(wrong)


# ------------------------------------------------------------------------------------------------ mutations

@pytest.mark.parametrize(("make", "count", "seed"), [(tiny, 17000, 1), (rich, 4000, 2)], ids=["tiny", "rich"])
def test_mutated_headers_are_refused_or_are_whole_models(tmp_path: Path, slot: Slot, make, count: int, seed: int) -> None:
    raw = save(tmp_path / "a.gnn", make())
    data, rng, outcomes = data_of(raw), random.Random(seed), Counter()
    packed = msgpack.packb(header_of(raw))
    assert packed is not None
    done = 0
    while done < count:
        if rng.random() < 0.2:                            # bytes of the header, not its tree
            at = rng.randrange(len(packed))
            damaged = assemble(packed[:at] + rng.randbytes(rng.choice((1, 1, 2))) + packed[at + rng.choice((0, 1, 2)):], data)
        else:
            tree = header_of(raw)
            try:
                mutate(tree, rng)
                damaged = assemble(tree, data)
            except (ValueError, OverflowError, RecursionError):
                continue                                  # a tree in itself, or numbers msgpack cannot write
        done += 1
        try:
            file = slot.load(damaged)
        except FileFormatError:
            outcomes["refused"] += 1
            continue
        outcomes["accepted"] += 1
        if outcomes["accepted"] % 7 == 0:
            assert save(tmp_path / "again.gnn", file) == damaged
            for graph in file.graphs.values():
                verify(graph)
                assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)
    assert outcomes["refused"] > 0.8 * count
    assert outcomes["accepted"] > 0.005 * count


def test_mutated_graphs_of_every_op_are_refused_or_run(tmp_path: Path, slot: Slot) -> None:
    """What the verifier lets through, the reference interpreter runs: no rule of an op accepts what its meaning cannot do."""
    files: dict[str, list[bytes]] = {}
    for name, cls in sorted(Op.registry.items()):
        for sample in list(cls.samples())[:12]:
            types = [TensorType.of(array) for array in sample.inputs]
            if sample.symbolic:
                types = [TensorType.parse(f"{t.dtype}[{s}]") for t, s in zip(types, sample.symbolic, strict=True)]
            inputs = tuple(placeholder(f"x{i}", type) for i, type in enumerate(types))
            graph = Graph.of("g", inputs, make_node(sample.op, inputs).outputs)
            files.setdefault(name, []).append(save(tmp_path / "a.gnn", ModelFile({"g": graph}, {})))
    rng, numbers, outcomes = random.Random(7), np.random.default_rng(7), Counter()
    for _ in range(4000):
        raw = rng.choice(files[rng.choice(list(files))])
        tree = header_of(raw)
        try:
            mutate(tree, rng)
            damaged = assemble(tree, data_of(raw))
        except (ValueError, OverflowError, RecursionError):
            continue
        try:
            graphs = slot.load(damaged).graphs.values()
        except FileFormatError as error:
            assert "not a valid model" not in str(error)  # noqa: PT017
            outcomes["refused"] += 1
            continue
        for graph in graphs:
            try:
                sizes = {name: rng.randrange(6) for name in graph.size_names}
                values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]
                if any(value.type.bind(sizes).elements > 5000 for value in values):  # pyright: ignore[reportOperatorIssue]
                    continue
                types = [value.type.bind(sizes) for value in graph.inputs]
                interpret(graph, [np.asarray(numbers.normal(size=t.shape) * 2).astype(t.dtype.numpy) for t in types])  # pyright: ignore
                outcomes["ran"] += 1
            except GraphnnError:                          # an id out of range, a size that cannot be
                outcomes["said why"] += 1
    assert outcomes["refused"] > 2500
    assert outcomes["ran"] > 100


def test_an_error_that_nobody_foresaw_is_still_a_file_format_error(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = changed(lambda tree: None, tiny)
    for error in (ZeroDivisionError("x"), RecursionError("x"), KeyError("x"), MemoryError("x"), AssertionError("x")):
        def fail(*_: object, error: Exception = error) -> None:
            raise error
        monkeypatch.setattr(graphnn.files.model_file, "GraphReader", fail)
        assert type(error).__name__ in refusal(slot, raw)


def test_all_readers_refuse_alike(slot: Slot) -> None:
    for raw in (b"", assemble({}, b""), assemble(BOMBS["a list of 2**32"], b"")):
        for reader in (read_header, verify_file, load_file):
            with pytest.raises(FileFormatError):
                slot.load(raw, reader)


def test_read_header_does_not_touch_tensors(tmp_path: Path) -> None:
    save_file(tmp_path / "a.gnn", arrays={"a": np.zeros(100)})
    raw = bytearray((tmp_path / "a.gnn").read_bytes())
    raw[-100] ^= 1
    (tmp_path / "a.gnn").write_bytes(raw)
    assert read_header(tmp_path / "a.gnn").tensors[0].nbytes == 800
    with pytest.raises(FileFormatError, match="checksum"):
        verify_file(tmp_path / "a.gnn")
