"""Model files: what is saved is loaded, the same content gives the same bytes, and what cannot be saved says why."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphnn.ir.ops  # noqa: F401  fills the registry
from graphnn.errors import DTypeError, FileFormatError, ShapeError, VerifyError
from graphnn.files import ModelFile, load_file, read_header, save_file, verify_file
from graphnn.files.graph_tree import GraphWriter
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.loc import Loc
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops.functions import tanh
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state
from graphnn.ir.text import parse_graph, print_graph
from graphnn.ir.types import TensorType
from tests.files.corpus import data_of, header_of, rich, save, tiny

FILES = {"rich": rich, "tiny": tiny, "empty": lambda: ModelFile({}, {})}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_saved_is_loaded_and_saves_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    file = FILES[kind]()
    raw = save(tmp_path / "a.gnn", file)
    again = load_file(tmp_path / "a.gnn")
    assert save(tmp_path / "b.gnn", again) == raw
    assert list(again.graphs) == sorted(file.graphs)
    for key, graph in file.graphs.items():
        assert print_graph(again.graphs[key]) == print_graph(graph)
        assert again.graphs[key].name == graph.name
    assert list(again.arrays) == sorted(file.arrays)
    for name, array in file.arrays.items():
        got = again.arrays[name]
        assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert not got.flags.writeable
        assert got.ctypes.data % 64 == 0 or got.size == 0
    assert repr(again.meta) == repr(sorted_maps(file.meta))
    assert repr(again.train) == repr(sorted_maps(file.train))


def sorted_maps(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: sorted_maps(tree[key]) for key in sorted(tree)}
    return [sorted_maps(item) for item in tree] if isinstance(tree, list) else tree


def test_the_graphs_of_a_file_share_their_inputs_and_bodies(tmp_path: Path) -> None:
    save(tmp_path / "a.gnn", rich())
    graphs = load_file(tmp_path / "a.gnn").graphs
    assert graphs["infer"].input("head/w") == graphs["train"].input("head/w")
    assert graphs["infer"].input("x") == graphs["train"].input("x")
    epilogue, outer = graphs["infer"].nodes[0].op, graphs["infer"].nodes[1].op
    inner = outer.body.nodes[0].op  # pyright: ignore[reportAttributeAccessIssue]
    assert inner.body is epilogue.body  # pyright: ignore[reportAttributeAccessIssue]


def test_a_loaded_graph_means_the_same(tmp_path: Path) -> None:
    file = rich()
    save(tmp_path / "a.gnn", file)
    again = load_file(tmp_path / "a.gnn")
    x = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    feeds = {"x": x, "rate": np.float32(0.5), **file.arrays}
    for key in ("infer", "train"):
        mine = {value.name: np.asarray(feeds[value.name]) for value in file.graphs[key].inputs}
        one, two = interpret(file.graphs[key], mine), interpret(again.graphs[key], mine)
        for a, b in zip([*one.outputs, *one.updates.values()], [*two.outputs, *two.updates.values()], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(Op.registry))
def test_every_sample_of_every_op_survives_a_file(tmp_path: Path, name: str) -> None:
    graphs = {}
    for i, sample in enumerate(Op.registry[name].samples()):
        types = [TensorType.of(array) for array in sample.inputs]
        if sample.symbolic:
            types = [TensorType.parse(f"{t.dtype}[{s}]") for t, s in zip(types, sample.symbolic, strict=True)]
        inputs = [placeholder(f"x{j}", type) for j, type in enumerate(types)]
        graphs[f"g{i}"] = Graph.of("g", inputs, make_node(sample.op, tuple(inputs)).outputs)
    raw = save(tmp_path / "a.gnn", ModelFile(graphs, {}))
    again = load_file(tmp_path / "a.gnn")
    assert save(tmp_path / "b.gnn", again) == raw
    for key, graph in graphs.items():
        assert print_graph(again.graphs[key]) == print_graph(graph)


def test_the_order_of_the_caller_s_maps_does_not_matter(tmp_path: Path) -> None:
    file = rich()

    def turned(tree: object) -> object:
        return {k: turned(tree[k]) for k in reversed(tree)} if isinstance(tree, dict) else tree

    other = ModelFile(turned(file.graphs), turned(file.arrays), turned(file.train), turned(file.meta))  # pyright: ignore
    assert save(tmp_path / "a.gnn", file) == save(tmp_path / "b.gnn", other)


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    program = "import sys; from tests.files.corpus import *; print(hashlib.sha256(save(sys.argv[1], rich())).hexdigest())"
    digests = set()
    for seed in ("0", "1", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program, str(tmp_path / seed)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_places_are_kept_without_folders(tmp_path: Path) -> None:
    x = placeholder("x", "f32[3]")
    node = make_node(tanh(x).node.op, (x,), Loc("/home/someone/secret/net.py", 12, "build", "enc/0", True))
    raw = save(tmp_path / "a.gnn", ModelFile({"g": Graph.of("g", [x], node.outputs)}, {}))
    assert b"someone" not in raw
    assert str(tmp_path).encode() not in raw
    loc = load_file(tmp_path / "a.gnn").graphs["g"].nodes[0].loc
    assert loc == Loc("net.py", 12, "build", "enc/0", True)


def test_large_constants_are_stored_once_among_the_tensors(tmp_path: Path) -> None:
    table = np.arange(1000, dtype=np.float64)
    graph = Graph.of("g", [], [constant(table), constant(table), constant(table[:3]), constant(-table)])
    save(tmp_path / "a.gnn", ModelFile({"g": graph}, {}))
    header = read_header(tmp_path / "a.gnn")
    assert [(t.name, t.role, t.nbytes) for t in header.tensors] == [("#0", "const", 8000), ("#1", "const", 8000)]
    again = load_file(tmp_path / "a.gnn").graphs["g"]
    for a, b in zip(interpret(graph, []).outputs, interpret(again, []).outputs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("data", [
    np.arange(12, dtype=">f4").reshape(3, 4), np.arange(24, dtype=np.float32)[::2].reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
], ids=["big", "strided", "fortran"])
def test_an_array_is_stored_by_value_whatever_its_layout(tmp_path: Path, data: np.ndarray) -> None:
    save_file(tmp_path / "a.gnn", arrays={"a": data})
    got = load_file(tmp_path / "a.gnn").arrays["a"]
    np.testing.assert_array_equal(got, data)
    assert got.dtype == np.float32
    save_file(tmp_path / "b.gnn", arrays={"a": np.array(data, np.float32, order="C")})
    assert (tmp_path / "a.gnn").read_bytes() == (tmp_path / "b.gnn").read_bytes()


def test_numpy_numbers_and_tuples_become_plain(tmp_path: Path) -> None:
    save_file(tmp_path / "a.gnn", meta={"a": np.float32(0.5), "b": (np.int64(3), np.bool_(True)), "c": (1 << 64) - 1})
    assert load_file(tmp_path / "a.gnn").meta == {"a": 0.5, "b": [3, True], "c": (1 << 64) - 1}


# ------------------------------------------------------------------------------------------------ mapping

@pytest.mark.parametrize("mmap", [True, False])
def test_old_views_keep_the_old_contents_when_the_file_is_replaced(tmp_path: Path, mmap: bool) -> None:
    path = tmp_path / "a.gnn"
    save_file(path, arrays={"a": np.arange(100)})
    old = load_file(path, mmap=mmap).arrays["a"]
    assert old.ctypes.data % 64 == 0
    assert not old.flags.writeable
    save_file(path, arrays={"a": old + 1})
    np.testing.assert_array_equal(old, np.arange(100))
    np.testing.assert_array_equal(load_file(path, mmap=mmap).arrays["a"], np.arange(1, 101))


def test_a_large_file_is_mapped_and_its_arrays_are_checked_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.gnn"
    save_file(path, arrays={"a": np.zeros(64 << 17), "b": np.ones(3)})            # 64 MB and a little
    with path.open("r+b") as file:
        file.seek(-65, os.SEEK_END)
        file.write(b"\x01")
    arrays = load_file(path).arrays
    assert arrays["a"].base is not None
    np.testing.assert_array_equal(arrays["b"], np.ones(3))
    with pytest.raises(FileFormatError, match="checksum of the tensor 'a'"):
        verify_file(path)
    with pytest.raises(FileFormatError, match="checksum of the tensor 'a'"):
        load_file(path, mmap=False)


# ------------------------------------------------------------------------------------------------ what a file says of itself

def test_the_header_tells_what_is_in_a_file(tmp_path: Path) -> None:
    raw = save(tmp_path / "a.gnn", rich())
    header = read_header(tmp_path / "a.gnn")
    assert header.file_bytes == len(raw)
    assert header.version == (1, 0)
    assert {(t.name, t.role) for t in header.tensors} == {
        ("head/w", "param"), ("head/b", "param"), ("step", "state"), ("mask", "state"), ("slots/m", "array"), ("table", "array"),
        ("#0", "const")}
    assert header.graphs == {key: len(graph.nodes) for key, graph in rich().graphs.items()}
    assert header.meta is not None
    assert header.meta["labels"] == ["a", "b"]
    assert verify_file(tmp_path / "a.gnn").file_bytes == header.file_bytes
    assert math.isnan(header.train["history"]["loss"][1])  # pyright: ignore[reportOptionalSubscript]


def test_header_and_data_account_for_every_byte(tmp_path: Path) -> None:
    raw = save(tmp_path / "a.gnn", rich())
    assert len(raw) % 64 == 0
    assert set(header_of(raw)) == {"ir", "meta", "tensors", "train"}
    assert len(data_of(raw)) == sum(-(-t[4] // 64) * 64 for t in header_of(raw)["tensors"])


# ------------------------------------------------------------------------------------------------ what cannot be saved

def test_graphs_that_disagree_about_a_param_cannot_share_a_file(tmp_path: Path) -> None:
    one = Graph.of("g", [], [parameter("w", (2,))])
    for other in (Graph.of("g", [], [parameter("w", (3,))]), Graph.of("g", [], [state("w", (2,))])):
        with pytest.raises(VerifyError, match="different 'w'"):
            save_file(tmp_path / "a.gnn", graphs={"a": one, "b": other})


def test_inputs_of_one_name_may_differ_from_graph_to_graph(tmp_path: Path) -> None:
    inputs = {"a": placeholder("x", "f32[N]"), "b": placeholder("x", "f32[2,N]")}
    graphs = {key: Graph.of("g", [x], [tanh(x)]) for key, x in inputs.items()}
    save_file(tmp_path / "a.gnn", graphs=graphs)
    again = load_file(tmp_path / "a.gnn").graphs
    assert [str(again[n].inputs[0].type) for n in "ab"] == ["f32[N]", "f32[2,N]"]


@pytest.mark.parametrize(("arrays", "error", "message"), [
    ({"w": np.zeros((2, 3), np.float32)}, ShapeError, r"'w' is f32\[2,3\], declared f32\[2,2\]"),
    ({"w": np.zeros((2, 2))}, DTypeError, "'w' is f64"),
    ({"w": np.zeros((2, 2), complex)}, DTypeError, "complex128"),
    ({"a b": np.zeros(2)}, VerifyError, "'a b' cannot name"),
    ({"a\u212b": np.zeros(2)}, VerifyError, "normal form C"),
    ({"n" * 2000: np.zeros(2)}, VerifyError, "2000 characters"),
])
def test_an_array_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        save_file(tmp_path / "a.gnn", graphs=tiny().graphs, arrays=arrays)
    assert os.listdir(tmp_path) == []


nested: list = []
nested.append(nested)


@pytest.mark.parametrize("meta", [
    {"a": object()}, {"a": {1: 2}}, {"a": np.zeros(3)}, {"a": b"bytes"}, {"a": 1 << 64}, {"a": nested}, {"a": {1, 2}},
    {"a": "x" * (1 << 19)}, {"a": "\ud800"}, {"\ud800": 1}, {"a": 1j},
], ids=range(11))
def test_what_is_no_plain_data_is_refused_by_name(tmp_path: Path, meta: dict) -> None:
    with pytest.raises(VerifyError, match=r"meta|written"):
        save_file(tmp_path / "a.gnn", meta=meta)
    assert os.listdir(tmp_path) == []


def test_a_header_too_large_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="at most"):
        save_file(tmp_path / "a.gnn", meta={str(i): "x" * 200_000 for i in range(90)})
    assert os.listdir(tmp_path) == []


def test_an_attribute_of_the_wrong_kind_is_found_when_saving(tmp_path: Path) -> None:
    x = placeholder("x", "f32[3,3]")
    cls = Op.registry["sum"]
    graph = Graph.of("g", [x], make_node(cls(axes=(1,), keepdims=0), (x,)).outputs)  # pyright: ignore[reportCallIssue]
    with pytest.raises(VerifyError, match="sum: keepdims is bool, not int 0"):
        save_file(tmp_path / "a.gnn", graphs={"g": graph})


def test_bodies_that_unfold_to_too_much_are_refused_when_saving(tmp_path: Path) -> None:
    lines = ["graph g(%x: f32[3]) {", "  %0 = fused(%x) {body=@b0}", "  return %0", "}"]
    for i in range(11):
        inner = f"fused(%p) {{body=@b{i + 1}}}" if i < 10 else "tanh(%p)"
        lines += [f"graph @b{i}(%p: f32[3]) {{", *(f"  %{j} = {inner}" for j in range(2)), "  return %1", "}"]
    graph = parse_graph("\n".join(lines))
    many = {f"g{i}": graph for i in range(2)}
    save_file(tmp_path / "a.gnn", graphs=many)
    load_file(tmp_path / "a.gnn")
    more = "".join(f"  %n{j} = fused(%x) {{body=@b0}}\n" for j in range(3))
    wide = "\n".join(lines).replace("  return %0", more + "  return %0", 1)
    with pytest.raises(VerifyError, match="unfolded"):
        save_file(tmp_path / "b.gnn", graphs={"g": parse_graph(wide)})


def test_equal_bodies_are_one_row_of_the_table() -> None:
    writer = GraphWriter()
    assert len(writer.tree(rich().graphs)["bodies"]) == 2


# ------------------------------------------------------------------------------------------------ compatibility

GOLDEN = Path(__file__).parent / "golden"
GRAPH = """\
graph head(%x: f32[N,3], param %w: f32[3,4], state %step: i64[]) {
  %0 = matmul(%x, %w) : f32[N,4]                               # net.py:3 fc
  %1 = fused(%0) {body=@act} : f32[N,4]                        # net.py:3 fc
  %2 = slice(%1) {starts=(0, 0), stops=(N, 4), steps=(2, 1)} : f32[(N+1)//2,4]
  %3 = constant() {value=array i64[] (1)} : i64[]
  %4 = add(%step, %3) : i64[]                                  # net.py:9
  return %1, %2
  update %step = %4
}
graph @act(%p: f32[N,4]) {
  %0 = tanh(%p) : f32[N,4]
  %1 = constant() {value=array f32[] (0.1)} : f32[]
  %2 = mul(%0, %1) : f32[N,4]                                  # net.py:4 fc (backward)
  return %2
}"""


def test_a_file_of_format_1_0_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    """The golden file was written once and is never written again: a change that fails here breaks users' files."""
    file = ModelFile({"main": parse_graph(GRAPH)}, {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "step": np.array(5)},
                     {"epoch": 2, "loss": [0.5, 0.25]}, {"labels": ["a", "b", "c", "d"]})
    raw = (GOLDEN / "format_1_0.gnn").read_bytes()
    again = load_file(GOLDEN / "format_1_0.gnn")
    assert save(tmp_path / "a.gnn", again) == raw
    assert save(tmp_path / "b.gnn", file) == raw
    assert str(again.graphs["main"]) == str(file.graphs["main"])
    x = np.arange(9, dtype=np.float32).reshape(3, 3) / 8
    got = interpret(again.graphs["main"], {"x": x, **again.arrays})
    np.testing.assert_allclose(got.outputs[0], 0.1 * np.tanh(x @ file.arrays["w"]), rtol=1e-6)
    np.testing.assert_array_equal(got.outputs[1], got.outputs[0][::2])
    assert got.updates["step"] == 6


def test_the_second_reader_of_the_format_s_description_reads_the_golden_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "file_format.md").read_text(encoding="utf-8")
    blocks = text.split("```python\n")
    spec: dict = {}
    exec(blocks[-1].partition("```")[0], spec)
    save(tmp_path / "rich.gnn", rich())
    for path in (GOLDEN / "format_1_0.gnn", tmp_path / "rich.gnn"):
        tree, arrays = spec["read_gnn"](path)
        assert repr(tree) == repr(header_of(path.read_bytes()))
        for name, array in load_file(path).arrays.items():
            np.testing.assert_array_equal(arrays[name], array)
