"""Graphs from strangers, compiled and run: within their buffers, to the interpreter's result or a GraphnnError (SECURITY.md).

The mutants are those of hostile.py, which runs for hours by hand; below are the graphs that it, or somebody's thoughts, broke
something with.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphnn as gnn
from graphnn.errors import GraphnnError, NumericsError, ShapeError, VerifyError
from graphnn.ir.graph import Graph
from graphnn.runtime.state import State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made by mprotect")


def test_mutants_run_within_their_buffers_to_the_result_of_the_interpreter() -> None:
    from tests.runtime import hostile

    findings, outcomes = hostile.watched(900_000_000, 60, "few_bases")
    assert findings == []
    assert outcomes["ran strictly"] + outcomes["ran"] > 25


def results(text: str, *arrays: np.ndarray, **state: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """What the graph gives compiled, in guarded memory, and interpreted."""
    from tests.runtime.guard_pages import guarded

    def run(backend: str, inputs: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        held = State()
        held.restore(state)
        found = gnn.compile(Graph.parse(text), state=held, backend=backend)(*inputs)
        return found if isinstance(found, tuple) else (found,)

    with guarded() as memory:
        compiled = run("numba", [memory.copy(x) for x in arrays])
        memory.check()
    return [compiled, run("numpy", list(arrays))]


def refusals(text: str, *arrays: np.ndarray) -> list[str]:
    """Why the graph does not run, compiled and interpreted."""
    found: list[str] = []
    for backend in ("numba", "numpy"):
        with pytest.raises(GraphnnError) as caught:
            gnn.compile(Graph.parse(text), backend=backend)(*arrays)
        found.append(str(caught.value))
    return found


def test_a_fused_body_that_no_pass_would_make() -> None:
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    compiled, plain = results("""graph g(%x: f32[3,3]) {
        %0, %1 = fused(%x) {body=@body}
        return %0, %1
    }
    graph @body(%a: f32[3,3]) {
        %0 = transpose(%a) {perm=(1, 0)}
        %1 = add(%a, %0)
        %2 = sum(%1) {axes=(0,), keepdims=false}
        return %1, %2
    }""", x)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_an_epilogue_that_no_pass_would_make() -> None:
    rng = np.random.default_rng(1)
    x, w, r = (rng.normal(size=s).astype(np.float32) for s in ((5, 4), (4, 7), (3, 5, 7)))
    compiled, plain = results("""graph g(%x: f32[N,4], %w: f32[4,7], %r: f32[3,N,7]) {
        %0, %1 = epilogue(%x, %w, %r) {producer=op(matmul), producer_inputs=2, body=@body}
        return %0, %1
    }
    graph @body(%y: f32[N,7], %r: f32[3,N,7]) {
        %0 = sum(%y) {axes=(1,), keepdims=false}
        %1 = add(%y, %r)
        return %0, %1
    }""".replace("op(matmul)", "op(matmul) {transpose_a=false, transpose_b=false}"), x, w, r)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_only_contractions_have_epilogues() -> None:
    with pytest.raises(VerifyError, match="split is no contraction"):
        Graph.parse("""graph g(%x: f32[4]) {
            %0 = epilogue(%x) {producer=op(split) {axis=0, sizes=(2, 2)}, producer_inputs=1, body=@body}
            return %0
        }
        graph @body(%a: f32[2], %b: f32[2]) {
            %0 = add(%a, %b)
            return %0
        }""")


@pytest.mark.parametrize(("shape", "axis"), [("chunks__,64", 0), ("64,chunks__", 1)])
def test_no_size_has_a_name_that_kernels_use(shape: str, axis: int) -> None:
    x = np.random.default_rng(2).normal(size=(1500, 64) if axis == 0 else (64, 1500)).astype(np.float32)
    text = f"graph g(%x: f32[{shape}]) {{\n %0 = sum(%x) {{axes=({axis},), keepdims=false}}\n return %0\n}}"
    compiled, plain = results(text, x)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [
    "%0 = gather(%table, %ids) {axis=0}",
    "%0 = one_hot(%ids) {depth=4, dtype=f32}",
    "%9 = constant() {value=array f32[2,4] (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)}\n"
    "%0 = scatter_add(%table, %ids, %9) {axis=0}",
    "%9 = first_equal(%ids) {size=4}\n %0 = cast(%9) {dtype=f32}",
])
def test_ids_that_nothing_checks_are_checked_before_any_state_is_written(step: str) -> None:
    text = f"""graph g(%ids: i64[2], param %table: f32[4,4], state %steps: f32[]) {{
        {step}
        %1 = constant() {{value=array f32[] (1.0)}}
        %2 = add(%steps, %1)
        %3 = add(%table, %1)
        return %0
        update %steps = %2
        update %table = {'%0' if 'scatter_add' in step else '%3'}
    }}"""
    for backend in ("numba", "numpy"):
        state = State()
        state.restore({"table": np.ones((4, 4), np.float32), "steps": np.zeros((), np.float32)})
        run = gnn.compile(Graph.parse(text), state=state, backend=backend)
        for ids in ([0, 4], [-1, 0], [np.iinfo(np.int64).min, 0], [0, np.iinfo(np.int64).max]):
            with pytest.raises(NumericsError):
                run(np.array(ids))
            assert state["steps"] == 0
            assert (state["table"] == 1).all()
        run(np.array([0, 3]))
        assert state["steps"] == 1


def test_the_largest_of_nothing_is_an_error_and_what_does_not_need_it_is_none() -> None:
    empty = np.zeros((0, 3), np.float32)
    for message in refusals("graph g(%x: f32[N,3]) {\n %0 = max(%x) {axes=(0,), keepdims=false}\n return %0\n}", empty):
        assert "axis 0 of size 0 has no largest" in message
    tail = " %1 = exp(%0)\n %2 = add(%1, %x)\n return %2\n}"
    text = "graph g(%x: f32[N,3]) {\n %0 = min(%x) {axes=(0,), keepdims=true}\n" + tail.replace("%x", "%0")
    for message in refusals(text, empty):
        assert "axis 0 of size 0 has no largest" in message
    for y in results("graph g(%x: f32[N,M]) {\n %0 = softmax(%x) {axis=1}\n" + tail, empty.T.copy()):
        assert y[0].shape == (3, 0)
    for y in results("graph g(%x: f32[3,0]) {\n %0 = logsumexp(%x) {axes=(1,), keepdims=false}\n return %0\n}", empty.T.copy()):
        assert (y[0] == -np.inf).all()


def test_attributes_that_are_wrong_for_some_sizes_only() -> None:
    text = """graph g(%x: f32[N,H,W,2]) {
        %0 = avg_pool2d(%x) {kernel=(2, 2), stride=(2, 2), padding=(0, 1, 0, min(N,2)), count_include_pad=false}
        return %0
    }"""
    for message in refusals(text, np.zeros((3, 4, 4, 2), np.float32)):
        assert "padding 2 is not smaller than the kernel" in message
    a, b = results(text, np.ones((1, 4, 4, 2), np.float32))
    np.testing.assert_array_equal(a[0], b[0])
    with pytest.raises(ShapeError, match="does not lie within"):
        gnn.compile(Graph.parse("graph g(%x: f32[N]) {\n %0 = slice(%x) {starts=(0,), stops=(5,), steps=(1,)}\n return %0\n}"))(
            np.zeros(3, np.float32))


def test_sizes_beyond_memory_with_an_empty_axis_beside_them() -> None:
    """Such arrays cost nothing and may be passed."""
    long = np.zeros((1 << 31, 0), np.float32)
    for message in refusals("graph g(%x: f32[N,0]) {\n %0 = size_of() {size=N, dtype=i32}\n return %0\n}", long):
        assert "the size 2147483648 does not fit an i32" in message
    with pytest.raises(VerifyError, match="the size 3000000000 does not fit an i32"):
        Graph.parse("graph g() {\n %0 = size_of() {size=3000000000, dtype=i32}\n return %0\n}")
    for y in results("graph g(%x: f32[N,0]) {\n %0 = iota() {shape=(N,0), axis=0, dtype=i64}\n return %0\n}", long):
        assert y[0].shape == long.shape
    static = "graph g(%x: f32[]) {\n %0 = iota() {shape=(1099511627776,0), axis=0, dtype=i64}\n %1 = add(%0, %0)\n return %1\n}"
    for y in results(static, np.zeros((), np.float32)):
        assert y[0].shape == (1 << 40, 0)
    text = "graph g(%i: i64[K]) {\n %0 = one_hot(%i) {depth=1099511627776, dtype=f32}\n return %0\n}"
    for y in results(text, np.zeros(0, np.int64)):
        assert y[0].shape == (0, 1 << 40)
    wide = """graph g(%x: f32[N,0]) {
        %0 = iota() {shape=(0,N,N), axis=0, dtype=i32}
        %1 = transpose(%0) {perm=(2,0,1)}
        return %1
    }"""
    with pytest.raises(ShapeError, match=r"more than 2\*\*44"):
        gnn.compile(Graph.parse(wide))(long)


def test_streams_of_random_ops_fit_their_kernels() -> None:
    for stream in (-1, 1 << 63):
        with pytest.raises(VerifyError, match="a stream id is"):
            Graph.parse(f"""graph g(%v: f32[E], %p: i32[3,E], %m: i64[2], %s: i64[]) {{
                %0, %1 = rewire(%v, %p, %m, %s, %s) {{rows=3, columns=3, stream={stream}}}
                return %0
            }}""")


def test_a_matrix_that_is_rewired_has_sizes_that_its_pattern_can_hold() -> None:
    for columns in ("9223372036854775807", "4294967296", "-1"):
        with pytest.raises(VerifyError, match="the matrix has the sizes"):
            Graph.parse(f"""graph g(%v: f32[E], %p: i32[3,E], %m: i64[2], %s: i64[]) {{
                %0, %1 = rewire(%v, %p, %m, %s, %s) {{rows=3, columns={columns}, stream=1}}
                return %0
            }}""")


def test_word_vectors_stay_as_they_are_when_a_word_a_window_or_a_target_is_out_of_range() -> None:
    text = """graph g(%w: i32[N], %l: i32[N], %r: i32[N], %t: i32[N,2],
                      param %a: f32[4,3], param %b: f32[5,3], param %c: f32[5]) {
        %0 = constant() {value=array f32[] (0.1)}
        %1 = expand(%0) {shape=(N, 2)}
        %2, %3, %4, %5 = word_vector_steps(%a, %b, %c, %c, %w, %l, %r, %t, %1, %0)
            {chunk=4, window=18446744073709551615, pooled=false, biased=true, whole=false}
        return %5
        update %a = %2
        update %b = %3
        update %c = %4
    }""".replace("\n            {chunk", " {chunk")
    n = 3000
    words, ones = np.arange(n, dtype=np.int32) % 4, np.ones(n, np.int32)
    left, right, targets = ones.copy(), ones.copy(), np.zeros((n, 2), np.int32)
    left[0] = right[-1] = 0

    def changed(array: np.ndarray, value: int) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[-2] = value
        return array

    for backend in ("numba", "numpy"):
        state = State()
        state.restore({"a": np.ones((4, 3), np.float32), "b": np.ones((5, 3), np.float32), "c": np.ones(5, np.float32)})
        run = gnn.compile(Graph.parse(text), state=state, backend=backend)
        for wrong in ((changed(words, 4), left, right, targets), (changed(words, -2), left, right, targets),
                      (words, changed(left, n), right, targets), (words, left, changed(right, 2), targets),
                      (words, left, changed(right, -1), targets), (words, left, right, changed(targets, 5)),
                      (changed(words, -1), left, right, targets)):
            with pytest.raises(NumericsError, match=r"outside|beyond|out of range"):
                run(*wrong)
            assert all((array == 1).all() for array in state.arrays().values())


@pytest.mark.parametrize("pool", [
    "max_pool2d(%x) {kernel=(3, 3), stride=(1, 1), padding=(2, 2, 1, 1)}",
    "avg_pool2d(%x) {kernel=(3, 3), stride=(1, 1), padding=(2, 2, 1, 1), count_include_pad=true}",
    "avg_pool2d(%x) {kernel=(3, 3), stride=(1, 1), padding=(2, 2, 1, 1), count_include_pad=false}",
])
def test_windows_of_padding_alone(pool: str) -> None:
    with pytest.raises(VerifyError, match="a window would hold no element"):
        Graph.parse(f"graph g(%x: f32[N,0,W,C]) {{\n %0 = {pool}\n return %0\n}}")
    for shape in ((2, 0, 5, 2), (1, 0, 3, 1)):
        for message in refusals(f"graph g(%x: f32[N,H,W,C]) {{\n %0 = {pool}\n return %0\n}}", np.zeros(shape, np.float32)):
            assert "a window would hold no element" in message


@pytest.mark.parametrize("op", ["check_index(%i) {low=18446744073709551615, high=5, what=\"class\"}",
                                "check_index(%i) {low=0, high=9223372036854775808, what=\"class\"}",
                                "first_equal(%i) {size=18446744073709551615}"])
def test_limits_of_ids_beyond_their_kernels(op: str) -> None:
    with pytest.raises(VerifyError, match=r"limits up to 2\*\*40"):
        Graph.parse(f"graph g(%i: i64[N]) {{\n %0 = {op}\n return %0\n}}")


def test_descriptions_with_numbers_beyond_floats() -> None:
    for number in (10**400, -10**400, float("inf"), float("nan")):
        with pytest.raises(GraphnnError, match="weight_decay"):
            gnn.nn.SGD(0.1, weight_decay=number)
    with pytest.raises(ShapeError, match="an integer of more than 64 bits"):
        gnn.nn.FullyConnected(10**400)


def test_products_of_any_number_of_empty_matrices_take_no_time() -> None:
    a, b = np.zeros((1 << 40, 1, 0, 3), np.float32), np.zeros((2, 3, 4), np.float32)
    text = """graph g(%a: f32[A,1,N,3], %b: f32[2,3,4]) {
        %0 = matmul(%a, %b) {transpose_a=false, transpose_b=false}
        return %0
    }"""
    for y in results(text, a, b):
        assert y[0].shape == (1 << 40, 2, 0, 4)
