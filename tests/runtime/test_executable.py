"""Calling executables: results belong to the caller, bad calls change nothing, many threads and processes call at once."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import weakref

import numpy as np
import pytest

import graphnn as gnn
from graphnn import errors
from graphnn.ir.attrs import bodies_of
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.runtime import executable
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State
from tests.runtime.cases import Case, bits, both, elementwise_chain, embedding, mlp_adam, normal, zeros


class Subclass(np.ndarray):
    """A user's own kind of array."""


def affine(dtype: str = "f32") -> Graph:
    """x @ w + b for any batch."""
    x = placeholder("x", f"{dtype}[N,5]")
    w, b = parameter("w", (5, 3), normal, dtype=dtype), parameter("b", (3,), zeros, dtype=dtype)
    return Graph.of("affine", [x], [x @ w + b])


def two_inputs() -> Graph:
    x, y = placeholder("x", "f32[N,4]"), placeholder("y", "f32[N]")
    return Graph.of("pair", [x, y], [gnn.sum(x, 1) + y, x * 2.0])


def wide(columns: int) -> Executable:
    x = placeholder("x", f"f32[N,{columns}]")
    return gnn.compile(Graph.of("wide", [x], [gnn.exp(x), gnn.sum(x, 1)]))


# ------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize("columns", [4, 900, 40_000], ids=["staged", "allocated", "pooled"])
def test_results_stay_as_they_were_over_later_calls(columns: int) -> None:
    exe = wide(columns)
    kept, expected = [], []
    for i in range(12):
        x = np.full((3, columns), i / 8, np.float32)
        kept.append(exe(x))
        expected.append((np.exp(x), x.sum(1)))
        if i == 6:
            kept[2] = (kept[2][0][1:, ::2], kept[2][1])    # a view keeps the whole alive
            expected[2] = (expected[2][0][1:, ::2], expected[2][1])
    for found, wanted in zip(kept, expected, strict=True):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("columns", [4, 900, 40_000])
def test_results_can_be_written_and_do_not_reach_the_inputs(columns: int) -> None:
    x = placeholder("x", f"f32[{columns}]")
    w = parameter("w", (columns,), normal)
    for backend in executable_backends():
        exe = gnn.compile(Graph.of("same", [x], [x, gnn.reshape(x, (2, columns // 2)), w]), backend=backend)
        given = np.arange(columns, dtype=np.float32)
        before = exe.state["w"]
        for result in exe(given):
            assert result.flags.writeable
            result[...] = -1
        np.testing.assert_array_equal(given, np.arange(columns))
        np.testing.assert_array_equal(exe.state["w"], before)


def executable_backends() -> tuple[str, ...]:
    return ("numba", "numpy")


def test_one_output_is_an_array_and_several_are_a_tuple() -> None:
    x = np.ones((2, 5), np.float32)
    single = gnn.compile(affine())(x)
    assert isinstance(single, np.ndarray)
    assert single.shape == (2, 3)
    several = gnn.compile(two_inputs())(np.ones((2, 4), np.float32), np.ones(2, np.float32))
    assert isinstance(several, tuple)
    assert [a.shape for a in several] == [(2,), (2, 4)]
    nothing = gnn.compile(Graph.of("none", [], [], updates=[(c := state("c", (), zeros, dtype="i64"), c + 1)]))
    assert nothing() == ()
    assert nothing.state["c"] == 1


@pytest.mark.parametrize("make", [
    lambda x: x[:, ::2], lambda x: np.asfortranarray(x[:, :5]), lambda x: x[::-1, 5:],
    lambda x: np.broadcast_to(x[:1, :5], (7, 5)), lambda x: _locked(x[:, :5].copy()), lambda x: _misaligned(x[:, :5]),
    lambda x: x[:, :5].view(Subclass),
], ids=["strided", "fortran", "backwards", "broadcast", "read-only", "misaligned", "subclass"])
@pytest.mark.parametrize("rows", [7, 2000])
def test_any_memory_layout_is_read(make, rows: int) -> None:
    exe = gnn.compile(affine())
    base = np.random.default_rng(0).normal(size=(rows, 10)).astype(np.float32)
    x = make(base)
    plain = np.array(x, np.float32, order="C", subok=False)
    np.testing.assert_array_equal(exe(x), exe(plain))


def _locked(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _misaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


# ------------------------------------------------------------------------------------------ out=


@pytest.mark.parametrize("backend", executable_backends())
@pytest.mark.parametrize("rows", [2, 3000])
def test_out_is_written_and_returned(backend: str, rows: int) -> None:
    exe = gnn.compile(two_inputs(), backend=backend)
    x, y = np.random.default_rng(0).normal(size=(rows, 4)).astype("f4"), np.ones(rows, "f4")
    expected = exe(x, y)
    first, second = np.full(rows, 9, "f4"), np.full((rows, 4), 9, "f4")
    result = exe(x, y, out=(first, second))
    assert result[0] is first
    assert result[1] is second
    assert bits(result) == bits(expected)
    partly = exe(x, y, out=(None, second))
    assert partly[0] is not first
    assert partly[1] is second
    single = gnn.compile(affine(), backend=backend)
    x5, target = np.ones((rows, 5), "f4"), np.empty((rows, 3), "f4")
    assert single(x5, out=target) is target
    assert single(x5, out=[target]) is target
    np.testing.assert_array_equal(target, single(x5))


def test_out_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    exe = gnn.compile(two_inputs())
    x, y = np.ones((3, 4), "f4"), np.ones(3, "f4")
    good = np.zeros((3, 4), "f4")
    bad = [np.zeros(3, "f8"), np.zeros(4, "f4"), np.zeros((3, 1), "f4"), [0.0, 0.0, 0.0], "text", np.zeros(6, "f4")[::2],
           _locked(np.zeros(3, "f4")), _misaligned(np.zeros(3, "f4")), y]
    for target in bad:
        with pytest.raises((errors.ShapeError, errors.DTypeError, errors.VerifyError), match="out"):
            exe(x, y, out=(target, good))
    with pytest.raises(errors.VerifyError, match="2 outputs, not 1"):
        exe(x, y, out=good)
    with pytest.raises(errors.VerifyError, match="overlaps an input"):
        exe(x, y, out=(None, x))
    shared = np.zeros(12, "f4")
    with pytest.raises(errors.VerifyError, match="two of the arrays overlap"):
        exe(x, y, out=(shared[:3], shared.reshape(3, 4)))
    assert not good.any()
    assert not shared.any()
    np.testing.assert_array_equal(exe(x, y)[0], np.full(3, 5, "f4"))


# ------------------------------------------------------------------------------------------ bad calls


@pytest.mark.parametrize("backend", executable_backends())
def test_inputs_missing_extra_and_twice(backend: str) -> None:
    exe = gnn.compile(two_inputs(), backend=backend)
    x, y = np.ones((3, 4), "f4"), np.ones(3, "f4")
    assert bits(exe(x=x, y=y)) == bits(exe(y=y, x=x)) == bits(exe(x, y=y)) == bits(exe(x, y))
    for args, named, message in (
        ((x,), {}, r"'y' is missing.*x: f32\[N,4\], y: f32\[N\]"), ((), {}, "'x' is missing"),
        ((x, y, y), {}, r"takes 2 arrays \(x, y\), not 3"),
        ((x, y), {"x": x}, "'x' is given twice"), ((x, y), {"z": x}, "no input 'z'; its inputs are x, y"),
        ((x,), {"z": y}, "no input 'z'"),
    ):
        with pytest.raises(errors.VerifyError, match=message):
            exe(*args, **named)


@pytest.mark.parametrize("backend", executable_backends())
def test_wrong_dtypes_and_shapes(backend: str) -> None:
    exe = gnn.compile(two_inputs(), backend=backend)
    x, y = np.ones((3, 4), "f4"), np.ones(3, "f4")
    for bad in (x.astype("f8"), x.astype("i8"), x.astype(">f4"), x.tolist(), None, x.astype("f2"), x.astype(object)):
        with pytest.raises(errors.DTypeError, match=r"input 'x'.*declared f32\[N,4\]"):
            exe(bad, y)
    for a, b, message in (
        (x[:, :3].copy(), y, r"'x'.*axis 1 is 3, declared f32\[N,4\]"), (x[0], y, "'x' has 1 axes"),
        (x[None], y, "'x' has 3 axes"), (x, y[:2], r"'y' has shape \(2,\).*N = 3"), (x, y[:, None], "'y' has 2 axes"),
    ):
        with pytest.raises(errors.ShapeError, match=message):
            exe(a, b)
    assert exe(x, y)[0].tolist() == [5.0] * 3


def test_an_empty_batch() -> None:
    exe, oracle = (gnn.compile(two_inputs(), backend=backend) for backend in executable_backends())
    x, y = np.ones((0, 4), "f4"), np.ones(0, "f4")
    assert [a.shape for a in exe(x, y)] == [a.shape for a in oracle(x, y)] == [(0,), (0, 4)]
    weights = gnn.compile(affine())
    assert weights(np.ones((0, 5), "f4")).shape == (0, 3)


@pytest.mark.parametrize(("case", "inputs"), [(embedding, 0), (lambda: mlp_adam(sizes=(7, 300, 64, 5)), 1)],
                         ids=["embedding", "mlp"])
@pytest.mark.parametrize("rows", [6, 5000])
def test_a_call_that_fails_leaves_every_state_as_it_was(case, inputs: int, rows: int) -> None:
    built: Case = case()
    for backend in executable_backends():
        exe = gnn.compile(built.graph, state=State(1), backend=backend)
        twin = gnn.compile(built.graph, state=State(1), backend=backend)
        good = built.arrays(np.random.default_rng(0), rows)
        exe(*good)
        twin(*good)
        before = bits((), exe)
        for wrong in (-1, 20, 1 << 40, -(1 << 62)):
            bad = [a.copy() for a in good]
            bad[inputs][rows // 2] = wrong
            with pytest.raises(errors.NumericsError):
                exe(*bad)
            assert bits((), exe) == before
        assert bits(exe(*good), exe) == bits(twin(*good), twin)


@pytest.mark.parametrize("pipeline", [None, lambda graph: graph], ids=["passes", "no-passes"])
def test_states_written_by_loops_that_check_ids_stay_too(pipeline) -> None:
    """The check is inside of a loop whose last carry is the next value of a state; and there may be no schedule at all."""
    ids = placeholder("ids", "i64[T,2]")
    table, a, b = parameter("table", (6, 3), normal), state("a", (2, 3), zeros), state("b", (3,), zeros)

    def step(h: Value, x: Value) -> tuple[Value, Value]:
        h = h * 0.5 + gnn.gather(table, x)
        return h, h

    last, _ = gnn.scan(step, gnn.gather(table, ids[0]), ids)
    graph = Graph.of("loop", [ids], [], updates=[(a, last), (b, b + 1.0), (table, table * 0.5)])
    exe = gnn.compile(graph, **({"pipeline": pipeline} if pipeline else {}))
    good = np.array([[0, 1], [2, 3], [4, 5]])
    exe(good)
    before = bits((), exe)
    for row in range(3):
        bad = good.copy()
        bad[row, 1] = 6
        with pytest.raises(errors.NumericsError):
            exe(bad)
        assert bits((), exe) == before
    exe(good)
    assert float(exe.state["b"][0]) == 2


def test_many_threads_that_fail_leave_the_state_too() -> None:
    case = embedding()
    exe = gnn.compile(case.graph)
    good = case.arrays(np.random.default_rng(0), 700)
    exe(*good)
    before = bits((), exe)
    bad = good[0].copy()
    bad[:, 1] = 99
    failed = _in_threads(8, lambda i: [_fails(exe, bad, good[1]) for _ in range(20)])
    assert failed == [[True] * 20] * 8
    assert bits((), exe) == before
    try:
        gnn.set_threads(4)
        for _ in range(20):
            assert _fails(exe, bad, good[1])
    finally:
        gnn.set_threads(None)
    assert bits((), exe) == before
    exe(*good)


def _fails(exe: Executable, *arrays: np.ndarray) -> bool:
    try:
        exe(*arrays)
    except errors.NumericsError:
        return True
    return False


def test_a_failure_names_the_op_and_the_line() -> None:
    ids = placeholder("ids", "i64[N]")
    table = parameter("table", (4, 2), normal)
    exe = gnn.compile(Graph.of("look", [ids], [gnn.gather(table, ids)]))
    with pytest.raises(errors.NumericsError) as caught:
        exe(np.array([0, 9]))
    assert "test_executable.py" in "".join(caught.value.__notes__)


# ------------------------------------------------------------------------------------------ plans


def test_more_sizes_than_plans_are_kept() -> None:
    exe = gnn.compile(affine())
    oracle = gnn.compile(affine(), state=exe.state, backend="numpy")
    for n in [*range(1, 3 * executable.KEPT_PLANS), *range(1, 12), 3, 3]:
        x = np.random.default_rng(n).normal(size=(n, 5)).astype("f4")
        np.testing.assert_allclose(exe(x), oracle(x), rtol=1e-5, atol=1e-6)
        assert exe.plan.sizes == {"N": n}
    assert len(exe._engine._bindings) == executable.KEPT_PLANS


def test_the_plan_used_again_and_again_is_kept() -> None:
    exe = gnn.compile(affine())
    exe.lower(N=64)
    batch = exe.plan
    for n in range(1, 40):
        exe(np.ones((64, 5), "f4"))
        assert exe.plan is batch
        exe(np.ones((n, 5), "f4"))
    exe(np.ones((64, 5), "f4"))
    assert exe.plan is batch


def test_lower_and_prepare() -> None:
    exe = gnn.compile(affine())
    with pytest.raises(errors.VerifyError, match="no plan yet"):
        _ = exe.plan
    with pytest.raises(errors.ShapeError, match="the size N is missing"):
        exe.lower()
    with pytest.raises(errors.ShapeError, match="no size M; the sizes are N"):
        exe.lower(N=3, M=4)
    for bad in (-1, 2.5, "3", True, None, 1 << 62):
        with pytest.raises(errors.ShapeError, match="the size N is"):
            exe.lower(N=bad)
    exe.lower(N=np.int64(7))
    assert exe.lower(N=3) is exe
    plan = exe.plan
    exe(np.ones((3, 5), "f4"))
    assert exe.plan is plan
    assert exe.prepare(np.ones((6, 5), "f4")) is exe
    assert exe.plan.sizes == {"N": 6}
    with pytest.raises(errors.DTypeError):
        exe.prepare(np.ones((6, 5)))
    with pytest.raises(errors.VerifyError, match="'x' is missing"):
        exe.prepare()
    step = gnn.compile(mlp_adam().graph)
    before = bits((), step)
    step.prepare(*mlp_adam().arrays(np.random.default_rng(0), 4))
    assert bits((), step) == before, "preparing runs nothing"


def test_an_op_without_a_kernel_is_named_with_its_line() -> None:
    from graphnn.runtime import lowering

    exe = gnn.compile(affine())
    rules = dict(lowering._rules())
    try:
        lowering._RULES.clear()
        with pytest.raises(errors.UnsupportedError, match='no compiled kernel for the op') as caught:
            exe(np.ones((3, 5), "f4"))
    finally:
        lowering._RULES.update(rules)
    assert "test_executable.py" in "".join(caught.value.__notes__)
    assert 'backend="numpy"' in "".join(caught.value.__notes__)
    assert exe(np.ones((3, 5), "f4")).shape == (3, 3)
    with pytest.raises(errors.UnsupportedError, match="there is no backend 'cuda'"):
        gnn.compile(affine(), backend="cuda")


def test_graphs_of_executables_that_are_gone_are_gone_too() -> None:
    """Kernels are made once a body, and what was made lives as long as the body: no longer."""
    def run() -> list[weakref.ref[Graph]]:
        x = placeholder("x", "f32[N,4]")
        shares = gnn.tanh(x * 2.0) / gnn.sum(gnn.exp(x), 1, keepdims=True)
        exe = gnn.compile(Graph.of("scaled", [x], [shares, gnn.tanh(x @ x.T)]))
        exe(np.ones((3, 4), np.float32))
        return [weakref.ref(body) for node in exe.graph.nodes for body in bodies_of(node.op)]

    left = run()
    assert left
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)


def test_executables_cannot_be_pickled_or_copied() -> None:
    for backend in executable_backends():
        exe = gnn.compile(affine(), backend=backend)
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                attempt(exe)


def test_float64_graphs_compute_in_float64() -> None:
    case = elementwise_chain("f64")
    exe, oracle = both(case)
    x, y = (a * 1e-9 + 1 for a in case.arrays(np.random.default_rng(0), 50))
    for a, b in zip(exe(x, y), oracle(x, y), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-14)


# ------------------------------------------------------------------------------------------ threads and processes


def _in_threads(count: int, work) -> list:
    """What `work(i)` returns in each thread; the first error if one fails."""
    results: list = [None] * count
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def body(i: int) -> None:
        try:
            start.wait()
            results[i] = work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


@pytest.mark.parametrize("rows", [3, 400], ids=["serial", "parallel"])
def test_sixteen_threads_call_one_executable(rows: int) -> None:
    exe = gnn.compile(Graph.of("net", [x := placeholder("x", "f32[N,24]")],
                               [gnn.softmax(gnn.tanh(x @ parameter("w", (24, 40), normal)) @ parameter("v", (40, 7), normal))]))
    given = [np.random.default_rng(i).normal(size=(rows + i % 3, 24)).astype("f4") for i in range(16)]
    expected = [exe(x).tobytes() for x in given]

    def work(i: int) -> bool:
        kept = [exe(given[(i + k) % 16]) for k in range(200)]
        return all(a.tobytes() == expected[(i + k) % 16] for k, a in enumerate(kept))

    assert _in_threads(16, work) == [True] * 16


def test_first_calls_from_many_threads_at_once() -> None:
    exe = gnn.compile(affine())
    weights = exe.state.arrays()
    results = _in_threads(12, lambda i: [exe(np.full((1 + (i + k) % 11, 5), 1.0, "f4"))[0] for k in range(30)])
    for rows in results:
        for row in rows:
            np.testing.assert_allclose(row, weights["w"].sum(0) + weights["b"], rtol=1e-5, atol=1e-6)


def test_a_prediction_never_sees_half_an_update() -> None:
    """Training adds 1 to every element of two large states; whoever reads must find one number everywhere."""
    n = 40_000
    a, b, x = state("a", (n,), zeros), state("b", (n,), zeros), placeholder("x", "f32[1]")
    kept = State()
    train = gnn.compile(Graph.of("train", [], [gnn.sum(a)], updates=[(a, a + 1.0), (b, b + 1.0)]), state=kept)
    look = gnn.compile(Graph.of("look", [x], [gnn.min(a) + x, gnn.max(a) + x, gnn.min(b) + x, gnn.max(b) + x]), state=kept)
    zero = np.zeros(1, "f4")

    def work(i: int) -> object:
        if i == 0:
            for _ in range(300):
                train()
            return None
        seen = [np.concatenate(look(zero)) for _ in range(100)]
        assert all(np.ptp(row) == 0 for row in seen)
        values = [float(row[0]) for row in seen]
        assert values == sorted(values)
        copied = kept.arrays()
        assert np.ptp(np.concatenate([copied["a"], copied["b"]])) == 0
        return None

    _in_threads(5, work)
    assert float(kept["a"][0]) == 300


def test_many_threads_train_and_no_update_is_lost() -> None:
    c, x = state("c", (), zeros, dtype="i64"), placeholder("x", "i64[]")
    exe = gnn.compile(Graph.of("count", [x], [c], updates=[(c, c + x)]))
    _in_threads(8, lambda i: [exe(np.array(i)) for _ in range(200)])
    assert exe.state["c"] == 200 * sum(range(8))


def _child(exe: Executable, predict: Executable, arrays: tuple[np.ndarray, ...], queue) -> None:
    gnn.set_threads(3)
    first = predict(arrays[0]).tobytes()
    for _ in range(3):
        exe(*arrays)
    queue.put((first, bits((), exe)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_predicts_and_trains() -> None:
    case = mlp_adam(sizes=(64, 200, 50, 5))
    exe = gnn.compile(case.graph)
    x = placeholder("x", "f32[N,64]")
    predict = gnn.compile(Graph.of("predict", [x], [gnn.tanh(x @ parameter("w0", (64, 200)))]), state=exe.state)
    arrays = case.arrays(np.random.default_rng(0), 500)
    exe(*arrays)
    gnn.set_threads(3)
    stop = threading.Event()

    def crowd() -> None:
        while not stop.is_set():
            predict(arrays[0])

    threads = [threading.Thread(target=crowd) for _ in range(3)]
    try:
        predict(arrays[0])
        for thread in threads:
            thread.start()
        context = multiprocessing.get_context("fork")
        found = []
        for _ in range(3):
            queue = context.SimpleQueue()
            child = context.Process(target=_child, args=(exe, predict, arrays, queue))
            child.start()
            found.append(queue.get())
            child.join(30)
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            if thread.ident:
                thread.join()
        gnn.set_threads(None)
    expected = predict(arrays[0]).tobytes()
    for _ in range(3):
        exe(*arrays)
    assert found == [(expected, bits((), exe))] * 3


# ------------------------------------------------------------------------------------------ interruptions and garbage


@pytest.mark.parametrize("updates", [False, True])
def test_an_interrupt_leaves_usable_locks(monkeypatch: pytest.MonkeyPatch, updates: bool) -> None:
    from graphnn.runtime.workspace import Workspace

    case = mlp_adam()
    exe = gnn.compile(case.graph)
    predict = gnn.compile(affine(), state=exe.state)
    chosen, arrays = (exe, case.arrays(np.random.default_rng(0), 5)) if updates else (predict, (np.ones((4, 5), "f4"),))
    chosen(*arrays)
    run = Workspace.run

    def interrupted(*args: object) -> object:
        run(*args)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chosen(*arrays)
    results = _in_threads(4, lambda i: (exe(*case.arrays(np.random.default_rng(0), 5)), predict(np.ones((4, 5), "f4"))))
    assert len(results) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="no timer of CPU time on this system")
@pytest.mark.parametrize("sizes", [(7, 5), (64, 200, 50, 5)], ids=["serial", "parallel"])
def test_interrupts_at_many_places(sizes: tuple[int, ...]) -> None:
    """Each comes somewhere in a call; afterwards state and workers are free, and training goes on from whole steps."""
    from graphnn.runtime import threads

    case = mlp_adam(sizes=sizes)
    exe = gnn.compile(case.graph)
    predict = gnn.compile(affine(), state=exe.state)
    arrays = case.arrays(np.random.default_rng(0), 100)
    exe(*arrays)
    predict(np.ones((4, 5), "f4"))
    rng = np.random.default_rng(0)
    previous = signal.signal(signal.SIGVTALRM, _raise_interrupt)
    gnn.set_threads(3)
    try:
        for _ in range(60):
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, rng.uniform(1e-6, 5e-4))
                while True:
                    exe(*arrays)
                    predict(np.ones((4, 5), "f4"))
            except KeyboardInterrupt:
                pass
            assert not exe.state._readers
            assert exe.state._writer is None
            assert threads._pool is None or not threads._pool._taken
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        gnn.set_threads(None)
    steps = int(exe.state["adam/step"])
    twin = gnn.compile(case.graph)
    for _ in range(steps):
        twin(*arrays)
    assert bits((), twin) == [exe.state[name].tobytes() for name in sorted(twin.state.names)]


def _raise_interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_nothing_is_left_of_executables_that_are_let_go() -> None:
    def once() -> list[weakref.ref]:
        case = mlp_adam()
        exe = gnn.compile(case.graph)
        exe(*case.arrays(np.random.default_rng(0), 5))
        exe.run_poisoned(*case.arrays(np.random.default_rng(0), 5))
        binding = next(iter(exe._engine._bindings.values()))
        return [weakref.ref(o) for o in (exe, exe.state, exe._engine, binding.idle[0], binding.plan, exe.graph)]

    refs = [ref for _ in range(3) for ref in once()]
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


def test_values_of_all_dtypes_go_through() -> None:
    inputs = [placeholder(f"x{i}", f"{kind}[N]") for i, kind in enumerate(("f32", "f64", "i32", "i64", "bool"))]
    outputs: list[Value] = [inputs[0] + 1.0, inputs[1] * 2.0, inputs[2] - 3, inputs[3] * 4, gnn.logical_not(inputs[4]), *inputs]
    for backend in executable_backends():
        exe = gnn.compile(Graph.of("kinds", inputs, outputs), backend=backend)
        for n in (1, 7, 20_000):
            arrays = [(np.arange(n) % 5).astype(v.dtype.numpy) for v in inputs]
            found = exe(*arrays)
            wanted = [arrays[0] + 1, arrays[1] * 2, arrays[2] - 3, arrays[3] * 4, ~arrays[4], *arrays]
            for a, b in zip(found, wanted, strict=True):
                assert (a.dtype, a.tolist()) == (b.dtype, b.tolist())
