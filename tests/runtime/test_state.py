"""State: what initialisers make, sharing, writing and dropping arrays, and fair turns between readers and writers."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import graphnn as gnn
from graphnn import errors
from graphnn.ir.graph import Graph
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.runtime.state import State
from tests.runtime.cases import bits, mlp_adam, normal, zeros


def counter(name: str = "c", shape: tuple[int, ...] = (4,)) -> Graph:
    c = state(name, shape, zeros)
    return Graph.of("count", [], [c], updates=[(c, c + 1.0)])


def reader(name: str = "c", shape: tuple[int, ...] = (4,)) -> Graph:
    x = placeholder("x", "f32[]")
    return Graph.of("read", [x], [state(name, shape, zeros) + x])


ZERO = np.array(0, np.float32)


# ------------------------------------------------------------------------------------------ first values


def test_a_seed_decides_the_first_values() -> None:
    graph = mlp_adam().graph
    same = [gnn.compile(graph, seed=5).state.arrays() for _ in range(2)]
    other = gnn.compile(graph, seed=6).state.arrays()
    assert all(same[0][name].tobytes() == same[1][name].tobytes() for name in same[0])
    for name in ("w0", "w1", "w2"):
        assert same[0][name].tobytes() != other[name].tobytes()
    assert same[0]["w0"].ravel()[:5].tobytes() != same[0]["w1"].ravel()[:5].tobytes(), "each name has its own numbers"


def test_first_values_depend_on_seed_and_name_alone() -> None:
    a, b = parameter("a", (3, 4), normal), parameter("b", (5,), normal)
    both = gnn.compile(Graph.of("both", [], [a, b])).state
    late = gnn.compile(Graph.of("b", [], [b])).state
    gnn.compile(Graph.of("a", [], [a]), state=late)
    assert both["a"].tobytes() == late["a"].tobytes()
    assert both["b"].tobytes() == late["b"].tobytes()


def test_the_default_seed() -> None:
    graph = mlp_adam().graph
    before = gnn.compile(graph).state
    assert before.seed == 0
    try:
        gnn.seed(9)
        after = gnn.compile(graph).state
        assert after.seed == 9
        assert after["w0"].tobytes() == gnn.compile(graph, seed=9).state["w0"].tobytes() != before["w0"].tobytes()
    finally:
        gnn.seed(0)
    for bad in (-1, 1 << 63, 1.5, "1", True, None):
        with pytest.raises(errors.VerifyError, match="is no seed"):
            gnn.seed(bad)  # pyright: ignore[reportArgumentType]


def test_what_cannot_be_initialised_is_named_and_leaves_nothing_behind() -> None:
    kept = State()
    good, bare = parameter("good", (2,), zeros), parameter("bare", (2,))
    with pytest.raises(errors.VerifyError, match="'bare' has no value and no initialiser"):
        gnn.compile(Graph.of("g", [], [good + bare]), state=kept)
    symbolic = placeholder("w", "f32[N]", "param", zeros)
    with pytest.raises(errors.ShapeError, match="symbolic type f32\\[N\\]"):
        gnn.compile(Graph.of("g", [], [good, symbolic * 2.0]), state=kept)
    crooked = parameter("crooked", (2,), lambda shape, dtype, rng: np.zeros(3, dtype))
    with pytest.raises(errors.ShapeError, match="the initialiser of 'crooked' gave shape \\(3,\\)"):
        gnn.compile(Graph.of("g", [], [good + crooked]), state=kept)
    assert kept.names == ()


# ------------------------------------------------------------------------------------------ sharing


@pytest.mark.parametrize("backends", [("numba", "numba"), ("numba", "numpy"), ("numpy", "numba")])
def test_executables_share_a_state(backends: tuple[str, str]) -> None:
    count = gnn.compile(counter(), backend=backends[0])
    read = gnn.compile(reader(), state=count.state, backend=backends[1])
    for i in range(3):
        np.testing.assert_array_equal(read(ZERO), [i] * 4)
        np.testing.assert_array_equal(count(), [i] * 4)
    assert count.state["c"].tolist() == [3] * 4


def test_a_clash_of_types_is_an_error_and_changes_nothing() -> None:
    kept = gnn.compile(counter()).state
    wide = [state(name, (4,), zeros, dtype="f64") for name in ("c", "new")]
    for other in (counter(shape=(5,)), Graph.of("g", [], [wide[0] + wide[1]])):
        with pytest.raises(errors.VerifyError, match="the state has 'c' as f32\\[4\\], the graph"):
            gnn.compile(other, state=kept)
    assert kept.names == ("c",)


def test_threads_that_compile_at_once_get_the_same_arrays() -> None:
    kept = State()
    start = threading.Barrier(8)

    def work() -> None:
        exe = gnn.compile(counter(), state=kept, backend="numpy")
        start.wait()
        compiled = gnn.compile(counter("d"), state=kept, backend="numpy")
        for _ in range(50):
            exe()
            compiled()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept["c"].tolist() == kept["d"].tolist() == [400] * 4


# ------------------------------------------------------------------------------------------ writing, dropping


def test_arrays_are_copies() -> None:
    exe = gnn.compile(counter())
    for array in (exe.state["c"], exe.state.arrays()["c"]):
        array[...] = 77
    assert exe().tolist() == [0] * 4
    given = np.full(4, 5, np.float32)
    exe.state["c"] = given
    given[...] = 0
    assert exe().tolist() == [5] * 4


def test_update_writes_all_or_nothing() -> None:
    a, b = state("a", (2,), zeros), state("b", (), zeros, dtype="i64")
    exe = gnn.compile(Graph.of("g", [], [a, b]))
    exe.state.update({"a": [1, 2], "b": 7})
    assert [x.tolist() for x in exe()] == [[1, 2], 7]
    for bad, error, message in (
        ({"a": np.zeros(2), "b": np.zeros(2, int)}, errors.ShapeError, "'b' has shape \\(\\), not \\(2,\\)"),
        ({"a": np.zeros(2), "b": 1.5}, errors.DTypeError, "'b' is int64; float64 cannot"),
        ({"a": np.zeros(2), "z": 1}, errors.VerifyError, "the state has no 'z'; it has a, b"),
        ({"a": np.zeros(2), "b": "text"}, errors.DTypeError, "'b' is int64"),
    ):
        with pytest.raises(error, match=message):
            exe.state.update(bad)
    assert [x.tolist() for x in exe()] == [[1, 2], 7]
    with pytest.raises(errors.VerifyError, match="no 'z'"):
        _ = exe.state["z"]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_arrays_dropped_under_living_executables(backend: str) -> None:
    exe = gnn.compile(counter(), backend=backend)
    other = gnn.compile(counter("kept"), state=exe.state, backend=backend)
    exe()
    other()
    with pytest.raises(errors.VerifyError, match="no 'nothing'"):
        exe.state.drop(["c", "nothing"])
    assert "c" in exe.state
    exe.state.drop(["c"])
    assert exe.state.names == ("kept",)
    for _ in range(2):
        with pytest.raises(errors.VerifyError, match="the state has no 'c'; it has kept"):
            exe()
    assert other().tolist() == [1] * 4
    again = gnn.compile(counter(), state=exe.state, backend=backend)
    assert again().tolist() == [0] * 4
    assert exe().tolist() == [1] * 4, "it runs on the new array, not on the one that was forgotten"
    assert again.state["c"].tolist() == [2] * 4


def test_a_dropped_name_may_come_back_with_another_type() -> None:
    exe = gnn.compile(counter())
    exe()
    exe.state.drop(["c"])
    gnn.compile(counter(shape=(6,)), state=exe.state)
    with pytest.raises(errors.VerifyError, match=r"'c' as f32\[6\] by now, this graph as f32\[4\]"):
        exe()


def test_restored_arrays_are_what_a_graph_finds() -> None:
    kept = State()
    kept.restore({"c": np.arange(4, dtype="f4")})
    exe = gnn.compile(counter(), state=kept)
    assert exe().tolist() == [0, 1, 2, 3]
    with pytest.raises(errors.VerifyError, match="'c' as f32\\[4\\]"):
        gnn.compile(counter(shape=(2,)), state=kept)


def test_a_pickle_or_copy_has_arrays_of_its_own() -> None:
    state = State(5)
    state.restore({"b": np.arange(3.0), "a": np.array(2)})
    for other in (pickle.loads(pickle.dumps(state)), copy.copy(state), copy.deepcopy(state)):
        assert (other.seed, other.names) == (5, ("b", "a"))
        other["b"] = [7, 8, 9]
        assert state["b"].tolist() == [0, 1, 2]
        assert other["b"].tolist() == [7, 8, 9]
        assert other["a"] == 2


def test_a_resumed_run_is_bit_identical() -> None:
    case = mlp_adam()
    rng = np.random.default_rng(0)
    batches = [case.arrays(rng, 6) for _ in range(6)]
    whole = gnn.compile(case.graph)
    for batch in batches:
        whole(*batch)
    first = gnn.compile(case.graph)
    for batch in batches[:3]:
        first(*batch)
    kept = State()
    kept.restore(first.state.arrays())
    second = gnn.compile(case.graph, state=kept)
    for batch in batches[3:]:
        second(*batch)
    assert bits((), second) == bits((), whole)


# ------------------------------------------------------------------------------------------ turns


def started(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_readers_run_side_by_side_and_keep_writers_out() -> None:
    kept = State()
    inside, order = threading.Barrier(2), []
    go = threading.Event()

    def read() -> None:
        with kept.reading():
            inside.wait(10)                             # passes only when both are inside
            go.wait(10)
            order.append("read")

    def write() -> None:
        with kept.writing():
            order.append("write")

    readers = [started(read) for _ in range(2)]
    while len(kept._readers) < 2:
        pass
    writer = started(write)
    while not kept._queue:
        pass
    go.set()
    for thread in (*readers, writer):
        thread.join(10)
    assert order == ["read", "read", "write"]


def test_a_writer_who_waits_goes_before_new_readers_and_they_before_the_next_writer() -> None:
    kept = State()
    order: list[str] = []

    def taking(name: str, turn) -> threading.Thread:
        def work() -> None:
            with turn():
                order.append(name)
        before = (kept._queue, len(kept._waiting))
        thread = started(work)
        while (kept._queue, len(kept._waiting)) == before:
            pass
        return thread

    me = object()
    kept.begin_read(me)
    threads = [taking("writer 1", kept.writing), taking("reader 1", kept.reading), taking("writer 2", kept.writing),
               taking("reader 2", kept.reading)]
    kept.end_read(me)
    for thread in threads:
        thread.join(10)
    assert sorted(order[1:3]) == ["reader 1", "reader 2"]
    assert {order[0], order[3]} == {"writer 1", "writer 2"}
    assert is_free(kept)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("turn", ["reading", "writing"])
@pytest.mark.parametrize("step", ["begin", "end"])
def test_an_interrupt_at_any_point_leaves_the_others_their_turn(
    monkeypatch: pytest.MonkeyPatch, step: str, turn: str, waits: bool,
) -> None:
    """Before and after a turn begins and ends, and while it is waited for."""
    name = f"{step}_{turn.replace('reading', 'read').replace('writing', 'write')}"
    for late in (False, True):
        kept = State()
        other = object()
        if waits and step == "begin":
            kept.begin_write(other)
            monkeypatch.setattr(kept._turn, "wait", _interrupt)
        method = getattr(kept, name)

        def interrupted(me: object, method=method, late: bool = late) -> None:
            if late:
                method(me)
            _interrupt()

        if not waits:
            monkeypatch.setattr(kept, name, interrupted)
        if not waits or step == "begin":
            with pytest.raises(KeyboardInterrupt), getattr(kept, turn)():
                pass
        monkeypatch.undo()
        if waits and step == "begin":
            kept.end_write(other)
        with kept.writing():
            pass
        assert is_free(kept)


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def is_free(kept: State) -> bool:
    return kept._writer is None and not kept._readers and not kept._waiting and not kept._queue


def test_an_error_inside_gives_the_turn_back() -> None:
    kept = State()
    for turn in (kept.reading, kept.writing):
        with pytest.raises(ZeroDivisionError), turn():
            raise ZeroDivisionError
    with kept.writing():
        pass
