"""AliasSampler: its tables are the distribution exactly; its draws follow it, on the host and in graphs."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn.errors import GraphnnError, NumericsError, ShapeError
from graphnn.nn.sampling import AliasSampler
from tests.nn.networks import BACKENDS

RNG = np.random.default_rng(19)


def drawn(sampler: AliasSampler, shape: tuple[Any, ...], steps: int = 1, backend: str = "numpy", *, seed: int = 5) -> np.ndarray:
    """Draws of several steps, stacked."""
    seeds, step = gnn.placeholder("seed", "i64[]"), gnn.placeholder("step", "i64[]")
    draw = gnn.compile(gnn.Graph.of("draw", [seeds, step], [sampler.draw(seeds, step, shape, stream=3)]), backend=backend)
    return np.stack([draw(np.asarray(seed), np.asarray(t)) for t in range(steps)])


def assert_follows(ids: np.ndarray, probabilities: np.ndarray) -> None:
    """Pearson's chi-square stays within six deviations of its mean; classes of probability 0 never come."""
    counts = np.bincount(ids.ravel(), minlength=probabilities.size)
    assert counts.size == probabilities.size
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities[possible] * ids.size
    freedom = possible.sum() - 1
    assert ((counts[possible] - expected) ** 2 / expected).sum() <= freedom + 6 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_the_tables_are_the_distribution(n: int) -> None:
    for power in (0, 1, 8):
        p = RNG.random(n) ** power
        p[RNG.random(n) < 0.3] = 0
        p[RNG.integers(n)] = 1
        p /= p.sum()
        sampler = AliasSampler(p)
        height, alias = sampler.tables["height"], sampler.tables["alias"]
        assert ((height >= 0) & (height <= 1)).all()
        found = (height + np.bincount(alias, 1 - height, n)) / n
        np.testing.assert_allclose(found, p, atol=1e-12)
        assert (found[p == 0] == 0).all()


@pytest.mark.parametrize("p", [[0.5, 0.0, 0.3, 0.2], [1.0], [0.0, 1.0], [0.25] * 4, [0.9, 0.05, 0.05, 0.0, 0.0]], ids=str)
def test_draws_follow_the_distribution(p: list[float]) -> None:
    sampler = AliasSampler(p)
    ids = sampler.sample(20_000, np.random.default_rng(1))
    assert ids.dtype == np.int64
    assert_follows(ids, sampler.probabilities)
    assert_follows(drawn(sampler, (100, 200)), sampler.probabilities)


@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_without_replacement_are_those_of_an_urn(backend: str) -> None:
    """Each ordered draw comes as often as the product of the probabilities among those still in the urn says."""
    p = np.array([0.4, 0.0, 0.3, 0.2, 0.1])
    sampler = AliasSampler(p, replacement=False)
    expected = np.zeros((5, 5, 5))
    for a, b, c in permutations((0, 2, 3, 4), 3):
        expected[a, b, c] = p[a] * p[b] / (1 - p[a]) * p[c] / (1 - p[a] - p[b])
    np.testing.assert_allclose(expected.sum(), 1)
    for ids in (drawn(sampler, (3,), 1500, backend), np.stack([sampler.sample(3, RNG) for _ in range(1500)])):
        assert ids.shape == (1500, 3)
        assert_follows(np.ravel_multi_index(tuple(ids.T), (5, 5, 5)), expected.ravel())


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 101])
def test_all_classes_can_be_drawn(n: int) -> None:
    p = RNG.dirichlet(np.ones(n))
    sampler = AliasSampler(p, replacement=False)
    np.testing.assert_array_equal(np.sort(drawn(sampler, (n,))[0]), np.arange(n))
    np.testing.assert_array_equal(np.sort(sampler.sample(n, RNG)), np.arange(n))


@pytest.mark.parametrize("replacement", [True, False])
def test_draws_of_both_back_ends_are_equal_and_steps_differ(replacement: bool) -> None:
    p = RNG.dirichlet(np.ones(1000))
    sampler = AliasSampler(p, replacement=replacement)
    ids = drawn(sampler, (20,), 3, "numba")
    np.testing.assert_array_equal(ids, drawn(sampler, (20,), 3))
    assert len({row.tobytes() for row in ids}) == 3
    assert (drawn(sampler, (20,), 3, seed=6) != ids).any()
    if not replacement:
        assert all(len(set(row.tolist())) == 20 for row in ids)


def test_a_symbolic_number_of_draws() -> None:
    x, seed, step = gnn.Input((), name="x"), gnn.constant(1), gnn.constant(0)
    ids = AliasSampler([0.5, 0.5]).draw(seed, step, (x.shape[0], 3), stream=0)
    draw = gnn.compile(gnn.Graph.of("draw", [x], [ids, x]), backend="numpy")
    assert draw(np.zeros(7, np.float32))[0].shape == (7, 3)


@pytest.mark.parametrize(("bad", "words"), [
    ([0.5, 0.6], "sum to 1.1"), ([1.5, -0.5], "class 1 is -0.5"), ([np.nan, 1.0], "class 0 is nan"), ([], "one number a class"),
    ([[1.0]], "one number a class"), ("half", "one number a class"), ([0.0, 0.0], "sum to 0"), ([np.inf, 1], "class 0 is inf")],
    ids=str)
def test_numbers_that_are_no_distribution(bad: Any, words: str) -> None:
    with pytest.raises(NumericsError, match=words):
        AliasSampler(bad)


def test_more_different_classes_than_there_are_is_an_error_never_a_hang() -> None:
    sampler = AliasSampler([0.5, 0.0, 0.5], replacement=False)
    seed, step = gnn.constant(1), gnn.constant(0)
    for attempt in (lambda: sampler.sample(3, RNG), lambda: sampler.draw(seed, step, (3,), stream=0)):
        with pytest.raises(NumericsError, match="cannot draw 3 different classes: only 2 of 3"):
            attempt()
    with pytest.raises(ShapeError, match=r"shape \(count,\)"):
        sampler.draw(seed, step, (2, 1), stream=0)
    with pytest.raises(GraphnnError, match="count is -1"):
        sampler.sample(-1, RNG)
    assert sampler.sample(0, RNG).shape == (0,)
