"""Rewiring: which entries go, where new ones come, and that the compiled kernel does the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn import ir
from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.ops.rewire import Rewire, distinct
from graphnn.ir.ops.sparse import sorted_pattern
from tests.runtime.lowered import Failed, run_op

RNG = np.random.default_rng(5)


def numbers(up: int, down: int, seed: int = 3, step: int = 4) -> tuple[np.ndarray, ...]:
    return np.array([up, down]), np.array(seed, np.int64), np.array(step, np.int64)


def drawn_pattern(m: int, k: int, entries: int) -> np.ndarray:
    return sorted_pattern(*np.divmod(RNG.choice(m * k, entries, replace=False), k))


def places(pattern: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(pattern[0].tolist(), pattern[1].tolist(), strict=True))


def test_the_weakest_of_each_sign_go_and_as_many_new_ones_come() -> None:
    m, k, entries = 40, 30, 300
    pattern, values = drawn_pattern(m, k, entries), RNG.normal(0.2, 1.0, entries)
    x = [gnn.parameter("v", (entries,), dtype="f64"), ir.constant(pattern), ir.constant(3), ir.constant(4)]
    outputs = ir.rewire(x[0], x[1], (m, k), 0.3, x[2], x[3])
    after, origin = gnn.compile(gnn.Graph.of("rewire", [x[0]], list(outputs)), backend="numpy", state=holding(v=values))()

    positive, negative = values[values >= 0], values[values < 0]
    go_up, go_down = int(0.3 * len(positive)), int(0.3 * len(negative))
    gone = set(np.sort(positive)[:go_up]) | set(np.sort(negative)[-go_down:])
    kept = [i for i in range(entries) if values[i] not in gone]
    assert sorted(origin[origin >= 0]) == kept
    assert (origin < 0).sum() == go_up + go_down                            # the density is as it was
    assert len(places(after)) == entries
    for j, i in enumerate(origin):
        if i >= 0:                                                          # a kept entry is where it was
            assert tuple(after[:2, j]) == tuple(pattern[:2, i])
    assert len(places(after) - places(pattern)) > 0.5 * (go_up + go_down)
    again = sorted_pattern(after[0], after[1])
    np.testing.assert_array_equal(after, again)                             # rows, then columns; and the order by columns


def holding(**arrays: np.ndarray) -> gnn.State:
    state = gnn.State()
    state.restore(arrays)
    return state


def test_new_places_are_drawn_uniformly_from_all_that_no_kept_entry_has() -> None:
    pattern = sorted_pattern(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]))
    values, runs = np.array([5.0, 1.0, 2.0, -7.0]), 4000
    counts = np.zeros((3, 3))
    for step in range(runs):
        after, origin = Rewire(3, 3, 0).numpy(values, pattern, *numbers(2, 0, step=step))
        assert (origin < 0).sum() == 2
        for j in np.flatnonzero(origin < 0):
            counts[after[0, j], after[1, j]] += 1
    free = np.ones((3, 3), bool)
    free[0, 0] = free[2, 2] = False                                         # the two entries that stay
    assert not counts[~free].any()
    expected = runs * 2 / 7
    assert np.abs(counts[free] - expected).max() < 5 * np.sqrt(expected), counts


def test_floyds_draw_gives_every_pair_alike() -> None:
    counts = np.zeros((5, 5))
    for step in range(5000):
        a, b = sorted(distinct(5, 2, 1, step, 0))
        counts[a, b] += 1
    found = counts[np.triu_indices(5, 1)]
    assert np.abs(found - 500).max() < 5 * np.sqrt(500), counts
    assert sorted(distinct(7, 7, 0, 0, 0)) == list(range(7))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("m", "k", "entries"), [(1, 1, 1), (200, 300, 3000), (50_000, 70_000, 900), (30, 20, 600), (1, 500, 77)])
def test_the_kernel_does_the_same_to_the_bit(dtype: str, m: int, k: int, entries: int) -> None:
    spread = sorted_pattern(RNG.permutation(m)[:entries], RNG.integers(0, k, entries)) if m * k > 10**6 else None
    pattern = drawn_pattern(m, k, entries) if spread is None else spread
    values = np.round(RNG.normal(size=entries), 2).astype(dtype)            # many are equal
    for up, down in ((0, 0), (entries // 7, entries // 5), (entries, entries)):
        for step in (0, 2**50 + 1):
            expected = Rewire(m, k, 9).numpy(values, pattern, *numbers(up, down, -77, step))
            actual = run_op(Rewire(m, k, 9), values, pattern, *numbers(up, down, -77, step))
            for a, b in zip(actual, expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_full_matrix_keeps_its_places() -> None:
    pattern = sorted_pattern(*np.nonzero(np.ones((4, 5))))
    after, origin = Rewire(4, 5, 0).numpy(RNG.normal(size=20), pattern, *numbers(3, 3))
    np.testing.assert_array_equal(after, pattern)
    assert (origin < 0).sum() == 6


@pytest.mark.parametrize(("part", "place", "wrong"), [(0, 3, -1), (0, 3, 30), (1, 0, 20), (1, 5, -2**31), (0, 9, 0)])
def test_a_damaged_pattern_is_refused(part: int, place: int, wrong: int) -> None:
    pattern = drawn_pattern(30, 20, 100)
    pattern[part, place] = wrong
    values = np.ones(100, np.float32)
    with pytest.raises(NumericsError, match="pattern"):
        Rewire(30, 20, 0).numpy(values, pattern, *numbers(2, 2))
    with pytest.raises(Failed, match="1"):
        run_op(Rewire(30, 20, 0), values, pattern, *numbers(2, 2))


def test_one_place_twice_is_refused() -> None:
    pattern = sorted_pattern(np.array([0, 1, 1]), np.array([0, 1, 1]))
    with pytest.raises(NumericsError, match="stands twice"):
        Rewire(2, 2, 0).numpy(np.ones(3), pattern, *numbers(1, 0))
    with pytest.raises(Failed, match="1"):
        run_op(Rewire(2, 2, 0), np.ones(3), pattern, *numbers(1, 0))


def test_types_are_checked() -> None:
    pattern, values, seed = ir.constant(np.zeros((3, 2), np.int32)), ir.constant([1.0, 2.0]), ir.constant(0)
    with pytest.raises(DTypeError, match=r"pattern i32\[3,E\]"):
        ir.rewire(values, ir.cast(pattern, "i64"), (2, 2), 0.3, seed, seed)
    with pytest.raises(ShapeError, match=r"i32\[3,2\]"):
        ir.rewire(values, pattern[:2], (2, 2), 0.3, seed, seed)
    with pytest.raises(DTypeError, match="f32 or f64"):
        Rewire(2, 2, 0)(seed, pattern, ir.constant(np.zeros(2, np.int64)), seed, seed)
    with pytest.raises(DTypeError, match=r"i64\[2\]"):
        Rewire(2, 2, 0)(values, pattern, seed, seed, seed)
    x = gnn.Input((2,), name="x")
    with pytest.raises(ShapeError, match=r"i32\[3,3\]"):
        ir.sparse_matmul(ir.constant([1.0, 2.0, 3.0]), pattern, x, 2)
    with pytest.raises(DTypeError, match="dtypes differ"):
        ir.sparse_matmul(ir.constant([1.0, 2.0], "f64"), pattern, x, 2)
    with pytest.raises(ShapeError, match="two axes"):
        ir.sparse_matmul(values, pattern, gnn.Input((2, 2), name="x"), 2)
    with pytest.raises(ShapeError, match="last sizes differ"):
        ir.sampled_matmul(pattern, x, gnn.Input((3,), name="z"))
