"""Plans against the NumPy meanings; the buffer plan against poisoned memory; kernels are bound to any sizes and any threads."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn.runtime.state import State
from tests.random_graphs import random_arrays, random_graph
from tests.runtime.cases import CASES, as_tuple, bits, both, conv_adam, embedding, mlp_adam, rnn_sgd


def assert_like(actual: object, expected: object) -> None:
    for a, b in zip(as_tuple(actual), as_tuple(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        unit = 2e-5 if b.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(a, b, rtol=unit, atol=unit)


@pytest.mark.parametrize("name", CASES)
def test_results_and_states_are_those_of_numpy_step_after_step(name: str) -> None:
    case = CASES[name]()
    compiled, oracle = both(case)
    rng = np.random.default_rng(1)
    for n in (5, 5, 1, 33, 5):
        arrays = case.arrays(rng, n)
        before = [a.copy() for a in arrays]
        assert_like(compiled(*arrays), oracle(*arrays))
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="an input was written")
        for key, array in oracle.state.arrays().items():
            assert_like(compiled.state[key], array)


@pytest.mark.parametrize("name", CASES)
def test_memory_that_the_plan_calls_free_may_hold_anything(name: str) -> None:
    case = CASES[name]()
    plain, _ = both(case)
    poisoned, _ = both(case)
    rng = np.random.default_rng(2)
    for n in (4, 1, 17):
        arrays = case.arrays(rng, n)
        assert bits(plain(*arrays), plain) == bits(tuple(poisoned.run_poisoned(*arrays)), poisoned)


@pytest.mark.parametrize("seed", range(6, 60, 9))
def test_memory_of_random_graphs_too(seed: int) -> None:
    graph = random_graph(seed, gnn.f32)
    arrays = random_arrays(graph, seed)
    exes = []
    for _ in range(2):
        kept = State()
        kept.restore({v.name: arrays[v.name] for v in (*graph.by_role("param"), *graph.by_role("state"))})
        exes.append(gnn.compile(graph, state=kept))
    given = [arrays[v.name] for v in graph.by_role("input")]
    assert bits(exes[0](*given), exes[0]) == bits(tuple(exes[1].run_poisoned(*given)), exes[1])


@pytest.mark.parametrize("name", CASES)
def test_the_arena_is_little_more_than_the_largest_live_set(name: str) -> None:
    case = CASES[name]()
    exe = both(case)[0]
    for n in (1, 7, 64):
        exe.prepare(*case.arrays(np.random.default_rng(0), n))
        buffers = exe.plan.buffers
        assert buffers.lower_bound <= buffers.arena <= 1.05 * buffers.lower_bound


@pytest.mark.parametrize("case", [mlp_adam, conv_adam, rnn_sgd, embedding])
def test_parameters_and_slots_are_updated_in_place(case) -> None:
    exe = both(case())[0]
    exe.prepare(*case().arrays(np.random.default_rng(0), 8))
    life = exe.plan.buffers.life
    assert not life.first_copies
    assert not [slot for _, slot in life.last_copies if slot.kind == "state"]


@pytest.mark.parametrize("name", CASES)
def test_arrays_need_not_lie_on_cache_lines(name: str) -> None:
    """Callers' arrays are aligned to their elements and no better."""
    case = CASES[name]()
    straight, shifted = both(case)[0], both(case)[0]
    for n in (6, 300):
        arrays = case.arrays(np.random.default_rng(4), n)
        expected = as_tuple(straight(*arrays))
        targets = tuple(_shifted(np.full_like(a, 77)) for a in expected)
        for a in targets:
            a[...] = 0
        results = shifted(*map(_shifted, arrays), out=targets)
        assert bits(results, shifted) == bits(expected, straight)


def _shifted(array: np.ndarray) -> np.ndarray:
    raw = np.empty(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + array.itemsize
    moved = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


@pytest.mark.parametrize("case", [lambda: mlp_adam(sizes=(300, 257, 190, 10)), conv_adam, rnn_sgd, embedding],
                         ids=["mlp", "conv", "rnn", "embedding"])
def test_any_number_of_threads_gives_the_same_bits(case) -> None:
    built = case()
    arrays = built.arrays(np.random.default_rng(5), 333)
    found = []
    try:
        for count in (1, 2, 3, 4):
            gnn.set_threads(count)
            exe = both(built)[0]
            exe(*arrays)
            assert exe.plan.cost_ns > 10_000, "too small to be shared by threads"
            found.append(bits(exe(*arrays), exe))
    finally:
        gnn.set_threads(None)
    assert found[1:] == found[:1] * 3


def test_empty_batches_where_the_graph_allows_them() -> None:
    for name in ("odd_results", "old_values", "shared_new_value"):
        case = CASES[name]()
        compiled, oracle = both(case)
        arrays = case.arrays(np.random.default_rng(0), 0)
        assert_like(compiled(*arrays), oracle(*arrays))
        for key, array in oracle.state.arrays().items():
            assert_like(compiled.state[key], array)


def test_new_sizes_make_new_plans_and_no_new_kernels() -> None:
    case = mlp_adam()
    exe = both(case)[0]
    rng = np.random.default_rng(0)
    exe(*case.arrays(rng, 5))
    kernels = set(exe.plan.kernels)
    before = gnn.kernels_compiled()
    for n in (1, 2, 6, 31, 64, 200):
        exe(*case.arrays(rng, n))
        assert exe.plan.sizes == {"N": n}
        kernels |= set(exe.plan.kernels)
    assert gnn.kernels_compiled() - before <= len(kernels)     # variants by tile shape, never by size
    again = gnn.kernels_compiled()
    for n in (3, 7, 30, 63, 199):
        exe(*case.arrays(rng, n))
    assert gnn.kernels_compiled() == again


def test_a_plan_can_be_read() -> None:
    exe = both(rnn_sgd())[0]
    exe.prepare(np.zeros((5, 2, 3), "f4"))
    assert repr(exe.plan).startswith("<Plan of rnn for ")
    lines = str(exe.plan).splitlines()
    assert len(lines) == 1 + len(exe.plan.rows)
    assert any("loop 5 times" in line for line in lines)
    assert any("f32[4,4]" in line for line in lines)
