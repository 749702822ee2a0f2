"""The text format: what is printed reads back to the same, and what is wrong is named with its line and column."""

from __future__ import annotations

import math
from operator import add, mul, sub

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnn.ir.ops  # noqa: F401  fills the registry
from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.attrs import Array, literal, written_attributes
from graphnn.ir.dims import ceildiv, dim, dim_max, dim_min, floordiv, parse_size
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.loc import Loc, scope
from graphnn.ir.op import Op, Sample, make_node
from graphnn.ir.ops.functions import tanh
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.ir.ops.inputs import Constant, constant, parameter, placeholder, state
from graphnn.ir.ops.linalg import MatMul, matmul
from graphnn.ir.text import parse_graph, print_graph
from graphnn.ir.text_parser import _Parser
from graphnn.ir.types import DType, TensorType


def round_trip(graph: Graph) -> Graph:
    """The graph read back, having checked that it prints alike, with and without places."""
    again = parse_graph(print_graph(graph))
    assert print_graph(again) == print_graph(graph)
    bare = print_graph(graph, locations=False)
    assert print_graph(parse_graph(bare), locations=False) == bare
    return again


def graph_of(sample: Sample) -> Graph:
    """A graph of one node, with the symbolic sizes of the sample when it has any."""
    types = [TensorType.of(array) for array in sample.inputs]
    if sample.symbolic:
        types = [TensorType.parse(f"{t.dtype}[{s}]") for t, s in zip(types, sample.symbolic, strict=True)]
    inputs = [placeholder(f"x{i}", t) for i, t in enumerate(types)]
    return Graph.of("g", inputs, make_node(sample.op, tuple(inputs)).outputs)


@pytest.mark.parametrize("name", sorted(Op.registry))
def test_every_sample_of_every_op_round_trips(name: str) -> None:
    for sample in Op.registry[name].samples():
        graph = graph_of(sample)
        again = round_trip(graph)
        assert again.nodes[0].types == graph.nodes[0].types
        assert print_graph(again, locations=False) == print_graph(graph, locations=False)
        for attribute, value in written_attributes(sample.op).items():
            read = getattr(again.nodes[0].op, attribute)
            assert isinstance(value, Graph) or (read == value and type(read) is type(value)) or value != value


def mlp() -> Graph:
    x = placeholder("x", "f32[N,784]")
    w, b, step = parameter("head/w", (784, 10)), parameter("head/b", (10,)), state("step", dtype=DType.i64)
    with scope("head"):
        y = tanh(matmul(x, w) + b)
    return Graph.of("mlp", [x], [y], updates=[(step, step + 1)])


def test_a_graph_reads_as_it_is_written() -> None:
    assert print_graph(mlp(), locations=False) == """\
graph mlp(%x: f32[N,784], param %head/w: f32[784,10], param %head/b: f32[10], state %step: i64[]) {
  %0 = matmul(%x, %head/w) : f32[N,10]
  %1 = add(%0, %head/b) : f32[N,10]
  %2 = tanh(%1) : f32[N,10]
  %3 = constant() {value=array i64[] (1)} : i64[]
  %4 = add(%step, %3) : i64[]
  return %2
  update %step = %4
}"""


def test_places_are_printed_and_read_back() -> None:
    graph = mlp()
    line = print_graph(graph).splitlines()[1]
    assert "  # test_text.py:" in line
    assert line.endswith(" head")
    loc = round_trip(graph).nodes[0].loc
    assert (loc.file, loc.scope, loc.backward) == ("test_text.py", "head", False)
    assert loc.line == graph.nodes[0].loc.line


@pytest.mark.parametrize("loc", [
    Loc("/home/u/a b.py", 3, "f", "enc/0"), Loc("", 0, "", "layer only"), Loc("<stdin>", 1), Loc("x.py", 7, "", "", True),
    Loc("C:\\m\\n.py", 7, "", "s", True), Loc("odd:na#me.py", 2),
    Loc("a\x1b[31m.py", 2, "", "s\nreturn %0"), Loc(backward=True), Loc(),
])
def test_any_place_prints_stably(loc: Loc) -> None:
    x = placeholder("x", "f32[3]")
    node = make_node(tanh(x).node.op, (x,), loc)
    text = print_graph(Graph.of("g", [x], node.outputs))
    assert print_graph(parse_graph(text)) == text
    assert text.isascii()
    assert "\x1b" not in text
    assert "home" not in text
    assert len(text.splitlines()) == 4


def test_the_text_of_a_graph_means_the_same() -> None:
    graph = parse_graph("""
        graph g(%x: f64[N,3], param %w: f64[3,2]) {   # spacing and comments are free; types may be left out
          %h = matmul(%x, %w)
          %a, %b = split(%h) {axis=1, sizes=(1, 1)} : f64[N,1], f64[N,1]
          return %b, %a
        }""")
    x, w = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2)
    b, a = interpret(graph, {"x": x, "w": w}).outputs
    np.testing.assert_array_equal(np.hstack([a, b]), x @ w)
    assert graph.nodes[0].loc == Loc()
    assert str(graph) == str(Graph.parse(str(graph)))


def test_str_and_parse_are_inverse_and_keep_input_order_and_dead_nodes() -> None:
    text = """\
graph g(state %s: f32[], %b: f32[2], %unused: f32[3], param %a: f32[2]) {
  %0 = tanh(%b) : f32[2]
  %1 = tanh(%a) : f32[2]
  return %b, %1, %1
  update %s = %s
}"""
    assert str(parse_graph(text)) == text
    empty = "graph nothing() {\n  return\n}"
    assert str(parse_graph(empty)) == empty


# ------------------------------------------------------------------------------------------------ bodies

def body(name: str = "add_tanh", type: str = "f32[N,10]") -> Graph:
    p, q = placeholder("p0", type), placeholder("p1", "f32[10]")
    return Graph.of(name, [p, q], [tanh(p + q)])


def test_bodies_are_named_and_equal_ones_share_a_name() -> None:
    x, b = placeholder("x", "f32[N,10]"), placeholder("b", "f32[10]")
    y = Fused(body()).one(x, b)
    z = Fused(body("other_name")).one(y, b)
    inner = Graph.of("outer", list(body().inputs), [])
    p, q = placeholder("p", "f32[N,10]"), placeholder("q", "f32[10]")
    inner = Graph.of("outer", [p, q], [Fused(body()).one(p, q)])
    v = Fused(inner).one(z, b)
    text = print_graph(Graph.of("g", [x, b], [v]), locations=False)
    assert text == """\
graph g(%x: f32[N,10], %b: f32[10]) {
  %0 = fused(%x, %b) {body=@add_tanh} : f32[N,10]
  %1 = fused(%0, %b) {body=@add_tanh} : f32[N,10]
  %2 = fused(%1, %b) {body=@outer} : f32[N,10]
  return %2
}
graph @add_tanh(%p0: f32[N,10], %p1: f32[10]) {
  %0 = add(%p0, %p1) : f32[N,10]
  %1 = tanh(%0) : f32[N,10]
  return %1
}
graph @outer(%p: f32[N,10], %q: f32[10]) {
  %0 = fused(%p, %q) {body=@add_tanh} : f32[N,10]
  return %0
}"""
    again = parse_graph(text)
    assert print_graph(again, locations=False) == text
    assert again.nodes[0].op == again.nodes[1].op


def test_different_bodies_of_one_name_get_numbers() -> None:
    x, b = placeholder("x", "f32[N,10]"), placeholder("b", "f32[10]")
    p = placeholder("p", "f32[N,10]")
    other = Graph.of("add_tanh", [p], [tanh(p)])
    graph = Graph.of("g", [x, b], [Fused(other).one(Fused(body()).one(x, b))])
    assert "body=@add_tanh_1" in print_graph(round_trip(graph))


def test_an_epilogue_names_its_producer() -> None:
    x, w, b = placeholder("x", "f32[N,4]"), placeholder("w", "f32[10,4]"), placeholder("b", "f32[10]")
    y = Epilogue(MatMul(transpose_a=False, transpose_b=True), 2, body()).one(x, w, b)
    graph = Graph.of("g", [x, w, b], [y])
    assert "{producer=op(matmul) {transpose_b=true}, producer_inputs=2, body=@add_tanh}" in print_graph(graph)
    again = round_trip(graph)
    arrays = [np.random.default_rng(0).normal(size=s).astype("f4") for s in ((3, 4), (10, 4), (10,))]
    np.testing.assert_array_equal(interpret(again, arrays).outputs[0], interpret(graph, arrays).outputs[0])


# ------------------------------------------------------------------------------------------------ literals

def read(text: str) -> object:
    parser = _Parser(text)
    value = parser.literal(0)
    assert parser.at_end(), text[parser.at:]
    return value


def no_body(graph: Graph) -> str:
    raise AssertionError(graph)


N, T = dim("N"), dim("T")
VALUES = [None, True, False, 0, -1, 1 << 63, -(1 << 63), 0.0, -0.0, 1.5, 1e16, 1e-300, 5e-324, math.inf, -math.inf,
          "", 'a "b" \\ c\n\t\x00é\u2028😀', DType.f32, DType.bool, TensorType.parse("f32[N,784]"), TensorType.parse("i64[]"),
          TensorType.parse("f64[min(N,2),(N+1)//2]"), N, 2 * N * T + 1, -N, 3 - N, floordiv(N + 1, 2), floordiv(N + 1, 2) * T,
          dim_min(N, dim_max(T - 1, 0)), ceildiv(N, 4) + 1, dim("true"), dim("f32") + 1, dim("size"), dim("inf") * 2,
          (), (1,), (1, 2, 3), (N,), ((1, 2), (), ("x",)), (floordiv(N + 1, 2), floordiv(N, 2)), (None, True, 1.0, 1)]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_literal_reads_back_to_the_same_value_and_kind(value: object) -> None:
    text = literal(value, no_body)
    again = read(text)
    assert again == value
    assert type(again) is type(value)
    assert literal(again, no_body) == text


def test_nan_reads_back() -> None:
    assert math.isnan(read("nan"))  # pyright: ignore[reportArgumentType]
    assert literal(math.nan, no_body) == "nan"


sizes = st.recursive(
    st.integers(0, 50) | st.sampled_from([N, T, dim("min"), dim("true")]),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "//", "min", "max"]), inner, inner), max_leaves=7)


def built(tree: object) -> object:
    if not isinstance(tree, tuple):
        return tree
    operator, left, right = tree
    a, b = built(left), built(right)
    if operator == "//":
        return floordiv(a, b) if not isinstance(b, int) or b > 0 else a  # pyright: ignore[reportArgumentType]
    return {"+": add, "-": sub, "*": mul, "min": dim_min, "max": dim_max}[operator](a, b)


@given(sizes)
@settings(max_examples=300, deadline=None)
def test_any_size_reads_back(tree: object) -> None:
    size = built(tree)
    assert read(literal(size, no_body)) == size
    assert parse_size(str(size)) == size


@given(st.text(max_size=30))
def test_any_string_reads_back(text: str) -> None:
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        return
    assert read(literal(text, no_body)) == text


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=500, deadline=None)
def test_any_float32_reads_back_bit_for_bit(bits: int) -> None:
    array = Array(np.array([bits], np.uint32).view(np.float32))
    assert read(literal(array, no_body)) == array


@pytest.mark.parametrize("data", [
    np.array(1.5), np.array([0.1, -0.0, np.inf, -np.inf, np.nan, 5e-324]), np.array([0.1, 1e-45, 3e38, 16777216.0], np.float32),
    np.array([-(1 << 63), (1 << 63) - 1]), np.array([[True], [False]]), np.zeros((0, 3), np.float32), np.zeros((2, 0), bool),
    np.arange(200, dtype=np.int32), np.random.default_rng(0).normal(size=(9, 9)),
], ids=lambda a: f"{a.dtype}{a.shape}")
def test_an_array_reads_back_bit_for_bit(data: np.ndarray) -> None:
    array = Array(data)
    again = read(literal(array, no_body))
    assert again == array
    graph = round_trip(Graph.of("g", [], [constant(data)]))
    op = graph.nodes[0].op
    assert isinstance(op, Constant)
    assert op.value == array


def test_a_big_endian_or_strided_array_prints_like_its_copy() -> None:
    data = np.arange(300, dtype=np.float32)[::-2]
    assert literal(Array(data), no_body) == literal(Array(data.copy()), no_body)


# ------------------------------------------------------------------------------------------------ errors

WRONG = [
    ("grph g() { return }", 1, 1, "expected graph"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x) : f32[4]\n  return %0\n}", 2, 19, "tanh gives f32[3]; the text says f32[4]"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x) : f64[3]\n  return %0\n}", 2, 19, "tanh gives f32[3]; the text says f64[3]"),
    ("graph g(%x: f32[3]) {\n  %0 = tnah(%x)\n  return %0\n}", 2, 8, "no op 'tnah'"),
    ("graph g(%x: f32[3]) {\n  %0 = input() {label=\"a\"}\n  return %0\n}", 2, 8, "no op 'input'"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x) {speed=3}\n  return %0\n}", 2, 8, "no attribute 'speed'"),
    ("graph g(%x: f32[3,3]) {\n  %0 = sum(%x) {keepdims=true}\n  return %0\n}", 2, 8, "lacks the attribute 'axes'"),
    ("graph g(%x: f32[3,3]) {\n  %0 = sum(%x) {axes=1, keepdims=true}\n  return %0\n}", 2, 8, "axes is"),
    ("graph g(%x: f32[3,3]) {\n  %0 = sum(%x) {axes=(1,), axes=(1,), keepdims=true}\n  return %0\n}", 2, 8, "given twice"),
    ("graph g(%x: f32[3,3]) {\n  %0 = sum(%x) {axes=(true,), keepdims=true}\n  return %0\n}", 2, 8, "not tuple (True,)"),
    ("graph g(%x: f32[3,3]) {\n  %0 = sum(%x) {axes=(7,), keepdims=true}\n  return %0\n}", 2, 8, "sum"),
    ("graph g(%x: f32[3]) {\n  %0 = add(%x, %y)\n  return %0\n}", 2, 16, "%y is not defined"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x, %x)\n  return %0\n}", 2, 8, "does not take 2"),
    ("graph g(%x: f32[3]) {\n  %x = tanh(%x)\n  return %x\n}", 2, 3, "%x is defined twice"),
    ("graph g(%x: f32[3], %x: f32[3]) { return }", 1, 21, "%x is defined twice"),
    ("graph g(%x: f32[3]) {\n  %0, %1 = tanh(%x)\n  return %0\n}", 2, 12, "has 1 outputs, not 2"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x) : f32[3], f32[3]\n  return %0\n}", 2, 19, "2 types are written"),
    ("graph g(%x: f32[3]) {\n  %0 = tanh(%x) : f32[3]\n}", 3, 1, "no return"),
    ("graph g(%x: f32[3]) {\n  return %x\n  return %x\n}", 3, 9, "second return"),
    ("graph g(%x: f32[3]) {\n  return %x\n  update %x = %x\n}", 1, 1, "cannot be updated"),
    ("graph g(%x: f99[3]) { return }", 1, 13, "f99"),
    ("graph g(%x: f16[3]) { return }", 1, 13, "reserved"),
    ("graph g(%x: f32[-3]) { return }", 1, 13, "negative"),
    ("graph g(%x: f32[1099511627777]) { return }", 1, 13, "2**40"),
    ("graph g(%x: f32[0,1099511627776,1099511627776]) { return }", 1, 13, "2**44"),
    ("graph g(%x: f32[3]) { return %x", 1, 32, "found the end"),
    ("graph g(%x: f32[3]) { return %x } more", 1, 35, "expected a body"),
    ("graph g(%x: f32[3]) {\n  %0 = fused(%x) {body=@b}\n  return %0\n}", 2, 25, "no body @b"),
    ("graph g(%x: f32[3]) { return %x }\ngraph @b() { return }", 2, 1, "@b is not used"),
    ("graph g(%x: f32[3]) {\n  %0 = fused(%x) {body=@b}\n  return %0\n}\ngraph @b(%p: f32[3]) {\n  %0 = fused(%p) {body=@b}\n"
     "  return %0\n}", 6, 25, "@b contains itself"),
    ("graph g() {\n  %0 = constant() {value=array f32[2] (1.0)}\n  return\n}", 2, 32, "2 elements; 1 are written"),
    ("graph g() {\n  %0 = constant() {value=array i32[1] (1.5)}\n  return\n}", 2, 40, "an element of i32"),
    ("graph g() {\n  %0 = constant() {value=array i32[1] (99999999999)}\n  return\n}", 2, 32, "no i32[1]"),
    ("graph g() {\n  %0 = constant() {value=array bool[1] 0x02}\n  return\n}", 2, 32, "other than 0 and 1"),
    ("graph g() {\n  %0 = constant() {value=array f32[N] (1.0)}\n  return\n}", 2, 32, "static type"),
    ("graph g() {\n  %0 = constant() {value=3}\n  return\n}", 2, 8, "value is Array"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), WRONG, ids=[w[3] for w in WRONG])
def test_an_error_names_line_and_column(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        parse_graph(text)
    assert str(caught.value).startswith(f"line {line}, column {column}: "), str(caught.value)
    assert message in str(caught.value)


def test_a_wrong_shape_names_the_rule_that_it_breaks() -> None:
    with pytest.raises(VerifyError, match=r"line 2, column 8: matmul: inner sizes differ"):
        parse_graph("graph g(%x: f32[N,3], %w: f32[4,2]) {\n  %0 = matmul(%x, %w)\n  return %0\n}")


deep = "(" * 5000
HOSTILE = [
    f"graph g(%x: f32[3]) {{ %0 = sum(%x) {{axes={deep}}} return }}",
    f"graph g(%x: f32[3]) {{ %0 = sum(%x) {{axes={deep}1{')' * 5000}}} return }}",
    f"graph g(%x: f32[{deep}N]) {{ return }}",
    f"graph g(%x: f32[{'(A+B)*(C+D)*' * 30}2]) {{ return }}",
    "graph g(%x: f32[" + "*".join(f"(a{i}+b{i})" for i in range(40)) + "]) { return }",
    f"graph g(%x: f32[{'9' * 5000}]) {{ return }}",
    f"graph g(%x: f32[{','.join('1' * 17)}]) {{ return }}",
    f"graph g() {{ %0 = constant() {{value={'9' * 100000}}} return }}",
    "graph g() { %0 = constant() {value=array f32[1099511627776] 0x00} return }",
    "graph g() { %0 = constant() {value=array f32[1099511627776] (1.0)} return }",
    "graph g() { return }\n" + "".join(f"graph @b{i}() {{ return }}\n" for i in range(1000)),
    "\x00\x01", "", "#", '"', "graph g(%x: f32[3]) { %0 = tanh(%x) {a=\"\\u{110000}\"} return }",
    "graph g(%x: f32[3]) { %0 = epilogue(%x) {producer=" + "op(epilogue) {producer=" * 3000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_as_such(text: str) -> None:
    with pytest.raises(VerifyError):
        parse_graph(text)


def chain(levels: int) -> str:
    """A text whose bodies each use the next one twice."""
    lines = ["graph g(%x: f32[3]) {", "  %0 = fused(%x) {body=@b0}", "  return %0", "}"]
    for i in range(levels):
        inner = f"fused(%p) {{body=@b{i + 1}}}" if i + 1 < levels else "tanh(%p)"
        lines += [f"graph @b{i}(%p: f32[3]) {{", f"  %0 = {inner}", f"  %1 = {inner}", "  return %1", "}"]
    return "\n".join(lines)


def test_bodies_that_unfold_to_too_much_are_refused() -> None:
    round_trip(parse_graph(chain(6)))
    with pytest.raises(VerifyError, match="nested more than"):
        parse_graph(chain(40))
    many = "\n".join(f"  %n{i} = fused(%x) {{body=@b0}}" for i in range(70))
    with pytest.raises(VerifyError, match="bodies counted at each use"):
        parse_graph(chain(14).replace("  return %0", many + "\n  return %0", 1))


def test_sizes_that_double_at_every_node_are_refused() -> None:
    size: object = N
    with pytest.raises(ShapeError, match="names and calls"):  # noqa: PT012
        for _ in range(60):
            size = size + floordiv(size, 2) * T  # pyright: ignore[reportOperatorIssue]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_text_is_read_or_refused_with_a_verify_error(data: st.DataObject) -> None:
    text = print_graph(mlp())
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from(["", "%", "(", ")", "{", "}", "N", "0", "-1", ":", ",", "@b", '"', "\n", "f64[2]", "# x"]))
    damaged = text[:at] + new + text[at + data.draw(st.integers(0, 4)):]
    try:
        graph = parse_graph(damaged)
    except VerifyError as error:
        assert str(error).startswith("line ")  # noqa: PT017
    else:
        assert parse_graph(print_graph(graph)).size_names == graph.size_names


def test_a_value_is_not_a_literal() -> None:
    with pytest.raises(VerifyError, match="cannot be an attribute"):
        literal(np.int64(3), no_body)
    assert isinstance(mlp().outputs[0], Value)
