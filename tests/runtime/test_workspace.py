"""Workspaces: constant addresses are settled once, poison reaches what is free and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn.errors import NumericsError
from graphnn.ir.graph import Graph
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.runtime.plan import Program, bind
from graphnn.runtime.state import State
from graphnn.runtime.workspace import Workspace
from tests.runtime.cases import CASES, mlp_adam


def workspace_of(graph: Graph, **sizes: int) -> Workspace:
    state = State()
    exe = gnn.compile(graph, state=state)
    return Workspace(bind(Program(exe.graph), sizes), state)


def chain(columns: int) -> Graph:
    x = placeholder("x", f"f32[N,{columns}]")
    a = gnn.softmax(x)
    return Graph.of("chain", [x], [gnn.softmax(gnn.softmax(a) + x)])


def test_two_workspaces_of_a_plan_share_constants_and_state_and_nothing_else() -> None:
    c = constant(np.arange(2000, dtype="f4"))
    x = placeholder("x", "f32[N,2000]")
    state = State()
    exe = gnn.compile(Graph.of("plus", [x], [gnn.softmax(gnn.softmax(x) + c)]), state=state)
    plan = bind(Program(exe.graph), {"N": 2})
    one, two = Workspace(plan, state), Workspace(plan, state)
    assert not np.shares_memory(one.arena, two.arena)
    a, b = (np.random.default_rng(i).normal(size=(2, 2000)).astype("f4") for i in range(2))
    first = one.run([a])[0].copy()
    two.run([b])
    np.testing.assert_array_equal(one.run([a])[0], first)


def test_a_wrong_plan_is_found_by_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of plans rest on this: a buffer that ends too early shows."""
    graph = chain(64)
    work = workspace_of(graph, N=8)
    x = np.random.default_rng(0).normal(size=(8, 64)).astype("f4")
    good = work.run_poisoned([x])[0].copy()
    np.testing.assert_array_equal(good, work.run([x])[0])
    buffers = work.plan.buffers
    early = {end - 1: list(found) for end, found in buffers.freed_after.items()}
    monkeypatch.setitem(buffers.__dict__, "freed_after", early)
    assert np.isnan(work.run_poisoned([x])[0]).any()


@pytest.mark.parametrize("name", CASES)
def test_every_buffer_lies_in_the_arena_and_live_ones_apart(name: str) -> None:
    case = CASES[name]()
    exe = gnn.compile(case.graph)
    exe.prepare(*case.arrays(np.random.default_rng(0), 9))
    buffers = exe.plan.buffers
    placed = [(buffers.slots[b.root].offset, buffers.nbytes[b.root], b.start, b.end) for b in buffers.life.buffers]
    for i, (offset, nbytes, start, end) in enumerate(placed):
        assert offset % 64 == 0
        assert offset + nbytes <= buffers.arena
        for other, size, begin, until in placed[:i]:
            apart = offset + nbytes <= other or other + size <= offset or end < begin or until < start
            assert apart or not nbytes or not size


def test_rows_cost_something_and_times_are_taken() -> None:
    case = mlp_adam()
    exe = gnn.compile(case.graph)
    arrays = case.arrays(np.random.default_rng(0), 32)
    plan, times = exe.profile(*arrays)
    assert plan is exe.plan
    assert len(times) == len(plan.rows) == len(plan.row_nodes)
    assert plan.cost_ns > 0
    assert (times >= 0).all()
    assert exe.state["adam/step"] == 1, "a profiled step is a step"
    assert exe.profile(*arrays, runs=3)[1].shape == times.shape
    assert exe.state["adam/step"] == 4
    with pytest.raises(NumericsError, match="profile: runs is 0"):
        exe.profile(*arrays, runs=0)
