"""RBM against sums over all states, and its gradients against those of the free energy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from tests.nn.networks import BACKENDS

RNG = np.random.default_rng(15)
DTYPES = [("numpy", "f64"), ("numba", "f32")]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def all_states(size: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=size)))


def filled(exe: gnn.Executable) -> tuple[np.ndarray, ...]:
    """Random W, b, c, set there."""
    found: list[np.ndarray] = []
    for label in ("weight", "visible_bias", "hidden_bias"):
        name = f"rbm/{label}"
        if name in exe.state.names:
            exe.state[name] = RNG.normal(size=exe.state[name].shape)
            found.append(exe.state[name].astype(np.float64))
    return tuple(found)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 2e-5 if actual.dtype == np.float32 else 1e-12
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("backend", "dtype"), DTYPES)
@pytest.mark.parametrize(("visible", "hidden"), [(5, 3), (1, 1)])
def test_probabilities_and_energies(visible: int, hidden: int, backend: str, dtype: str) -> None:
    v, h = gnn.Input((visible,), name="v", dtype=dtype), gnn.Input((hidden,), name="h", dtype=dtype)
    rbm = nn.RBM(hidden)
    graph = gnn.Graph.of("rbm", [v, h], [rbm(v), rbm.visible(h), rbm.energy(v, h), rbm.free_energy(v)])
    exe = gnn.compile(graph, backend=backend)
    w, b, c = filled(exe)
    for n in (4, 1):
        x, y = ((RNG.uniform(size=(n, size)) < 0.5).astype("f4" if dtype == "f32" else "f8") for size in (visible, hidden))
        p, q, energy, free = exe(x, y)
        states = all_states(hidden)
        boltzmann = np.exp(np.einsum("ni,ij,sj->ns", x, w, states) + (x @ b)[:, None] + states @ c)       # exp(-E) of each h
        close(energy, -(np.einsum("ni,ij,nj->n", x, w, y) + x @ b + y @ c))
        close(p, boltzmann @ states / boltzmann.sum(1, keepdims=True))
        close(free, -np.log(boltzmann.sum(1)))
        close(q, sigmoid(y @ w.T + b))


def test_gradients_of_contrastive_divergence_lower_the_free_energy_of_data() -> None:
    """With the negative samples given, they are those of mean F(v) - mean F(v'): descent, summed over no batch axis."""
    v, other = gnn.Input((4,), name="v", dtype="f64"), gnn.Input((4,), name="other", dtype="f64")
    rbm = nn.RBM(3)
    params, grads = rbm.contrastive_divergence(v, negative=other)
    assert [p.name for p in params] == ["rbm/weight", "rbm/visible_bias", "rbm/hidden_bias"]
    assert [str(g.type) for g in grads] == ["f64[4,3]", "f64[4]", "f64[3]"]
    expected = gnn.gradients(gnn.mean(rbm.free_energy(v)) - gnn.mean(rbm.free_energy(other)), params)
    exe = gnn.compile(gnn.Graph.of("cd", [v, other], [*grads, *expected]), backend="numpy")
    filled(exe)
    for n in (5, 1):
        found = exe(RNG.uniform(size=(n, 4)), RNG.uniform(size=(n, 4)))
        for actual, wanted in zip(found[:3], found[3:], strict=True):
            close(actual, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 3])
def test_contrastive_divergence_of_a_chain_without_chance(k: int, backend: str) -> None:
    """Weights so large that every probability of the chain is 0 or 1: the formula can be followed step by step."""
    v = gnn.Input((4,), name="v")
    params, grads = nn.RBM(3, k=k).contrastive_divergence(v)
    exe = gnn.compile(gnn.Graph.of("cd", [v], grads, updates=[(p, p) for p in params]), backend=backend)
    rng = np.random.default_rng(3)
    w, b, c = (5000.0 * rng.normal(size=exe.state[p.name].shape) for p in params)
    for p, array in zip(params, (w, b, c), strict=True):
        exe.state[p.name] = array
    x = (rng.uniform(size=(6, 4)) < 0.5).astype(np.float32)
    p = model_p = sigmoid(np.clip(x @ w + c, -500, 500))
    model = x
    for _ in range(k):
        model = sigmoid(np.clip(model_p.round() @ w.T + b, -500, 500))
        model_p = sigmoid(np.clip(model @ w + c, -500, 500))
    for _ in range(3):
        found = exe(x)
        for actual, expected in zip(found, [(model.T @ model_p - x.T @ p) / 6, (model - x).mean(0), (model_p - p).mean(0)],
                                    strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_one_step_is_right_on_average() -> None:
    """40,000 copies of one example: the batch mean is the expectation over all hidden states, which can be written out."""
    v = gnn.Input((3,), name="v", dtype="f64")
    params, grads = nn.RBM(2).contrastive_divergence(v)
    exe = gnn.compile(gnn.Graph.of("cd", [v], grads, updates=[(p, p) for p in params]), backend="numpy")
    w, b, c = filled(exe)
    x = np.array([1.0, 0.0, 1.0])
    p, states = sigmoid(x @ w + c), all_states(2)
    chance = np.prod(np.where(states == 1, p, 1 - p), axis=1)
    model = sigmoid(states @ w.T + b)
    model_p = sigmoid(model @ w + c)
    expected = [np.einsum("s,si,sj->ij", chance, model, model_p) - np.outer(x, p), chance @ model - x, chance @ model_p - p]
    first = exe(np.tile(x, (40_000, 1)))
    for actual, wanted in zip(first, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=5 * 0.5 / 200)
    second = exe(np.tile(x, (40_000, 1)))
    assert (first[0] != second[0]).any()                 # the next step draws other numbers
    exe.state["rbm/step"] = np.array(0)
    np.testing.assert_array_equal(exe(np.tile(x, (40_000, 1)))[0], first[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_are_binary_and_as_likely_as_said(backend: str) -> None:
    v, h = gnn.Input((2,), name="v"), gnn.Input((3,), name="h")
    rbm = nn.RBM(3)
    outputs = [rbm.sample_hidden(v), rbm(v), rbm.sample_visible(h), rbm.visible(h), rbm.reconstruct(v, 4, sample=True),
               rbm.reconstruct(v, 4)]
    exe = gnn.compile(gnn.Graph.of("samples", [v, h], outputs), backend=backend, training=True)
    filled(exe)
    x, y = np.ones((20_000, 2), np.float32), np.tile(np.array([1, 0, 1], np.float32), (20_000, 1))
    hidden, p, visible, q, drawn, chance = exe(x, y)
    for sample, likely in ((hidden, p), (visible, q), (drawn, chance)):
        assert set(np.unique(sample)) <= {0.0, 1.0}
        np.testing.assert_allclose(sample.mean(0), likely.mean(0), atol=0.025)
    again = exe(x, y)
    assert (again[0] != hidden).any()


def test_long_chains_reach_the_distribution_of_the_model() -> None:
    """Where visible units are sampled too, Gibbs sampling leaves P(v) ~ exp(-F(v)); here by the exact transition matrix."""
    v, h = gnn.Input((2,), name="v", dtype="f64"), gnn.Input((2,), name="h", dtype="f64")
    rbm = nn.RBM(2)
    exe = gnn.compile(gnn.Graph.of("gibbs", [v, h], [rbm(v), rbm.visible(h), rbm.free_energy(v)]), backend="numpy")
    filled(exe)
    states = all_states(2)
    p, q, free = exe(states, states)

    def transitions(p: np.ndarray) -> np.ndarray:
        return np.prod(np.where(states[None] == 1, p[:, None], 1 - p[:, None]), axis=2)

    stationary = np.exp(-free) / np.exp(-free).sum()
    np.testing.assert_allclose(stationary @ transitions(p) @ transitions(q), stationary, rtol=1e-12)


def test_pseudo_log_likelihood_is_that_of_one_unit_given_the_others() -> None:
    v = gnn.Input((3,), name="v", dtype="f64")
    rbm = nn.RBM(2)
    graph = gnn.Graph.of("pll", [v], [rbm.pseudo_log_likelihood(v), rbm.free_energy(v)])
    exe = gnn.compile(graph, backend="numpy", training=True)
    filled(exe)
    x = np.tile(np.array([1.0, 0.0, 1.0]), (3000, 1))
    free = [exe(np.abs(x[:1] - flip))[1][0] for flip in np.concatenate([np.zeros((1, 3)), np.eye(3)])]
    possible = 3 * np.log(sigmoid(np.array(free[1:]) - free[0]))
    found = exe(x)[0]
    near = np.abs(found[:, None] - possible).argmin(1)
    np.testing.assert_allclose(found, possible[near], rtol=1e-9)
    assert (np.bincount(near, minlength=3) > 850).all()


def test_it_learns_and_is_saved(tmp_path: Path) -> None:
    """Two patterns: after some steps they have the lowest free energy of all states, and noisy ones are mended."""
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], np.float32)
    v, rbm = gnn.Input((6,), name="v"), nn.RBM(4)
    params, grads = rbm.contrastive_divergence(v)
    before = gnn.compile(gnn.Graph.of("step", [v], [gnn.mean(rbm.free_energy(v))],
                                      updates=nn.SGD(0.5, momentum=0.5).updates(params, grads)), backend="numpy")
    for _ in range(300):
        before(np.tile(patterns, (10, 1)))
    model = gnn.Model(v, [rbm.free_energy(v), rbm.reconstruct(v, 3)], state=before.state, backend="numpy")
    free, _ = model.predict(all_states(6))
    best = all_states(6)[np.argsort(free)[:2]]
    assert sorted(best.tolist()) == sorted(patterns.tolist())
    _, mended = model.predict(np.array([[1, 1, 0, 0, 0, 0]]))
    assert mended.round().tolist() == [patterns[0].tolist()]
    model.save(tmp_path / "rbm.gnn")
    for a, b in zip(gnn.load(tmp_path / "rbm.gnn").predict(patterns), model.predict(patterns), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_it_is_a_layer_and_its_nodes_have_its_name() -> None:
    v, rbm = gnn.Input((4,), name="v", dtype="f64"), nn.RBM(2, name="dreams")

    def f(x: gnn.Value, *weights: gnn.Value) -> list[gnn.Value]:
        rbm = nn.RBM(2)
        rbm(x)
        rbm.weight, rbm.visible_bias, rbm.hidden_bias = weights
        return [rbm(x), rbm.free_energy(x), rbm.energy(x, rbm(x))]

    gnn.check_gradients(f, [RNG.uniform(size=size) for size in ((2, 4), (4, 2), (4,), (2,))])
    graph = gnn.Graph.of("g", [v], [rbm(v)])
    assert [p.name for p in rbm.parameters] == ["dreams/weight", "dreams/visible_bias", "dreams/hidden_bias"]
    assert all(node.loc.scope == "dreams" for node in graph.nodes if node.inputs)
    given = nn.RBM(2, in_features=4)
    assert str(given.visible(gnn.Input((2,), name="h")).type) == "f32[N,4]"
    assert str(given(gnn.Input((4,), name="v")).type) == "f32[N,2]"


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: nn.RBM(0), ShapeError, "RBM: out_features is 0"), (lambda: nn.RBM(2, k=0), ShapeError, "RBM: k is 0"),
    (lambda: nn.RBM(2, in_features=-1), ShapeError, "RBM: in_features is -1"), (lambda: nn.RBM(2, init="x"), ValueError, "'x'"),
    (lambda: nn.RBM(2)(gnn.Input((3, 4), name="v")), ShapeError, r"visible units as \(N, C\)"),
    (lambda: nn.RBM(2)(gnn.Input((4,), name="v", dtype="i64")), DTypeError, "real numbers"),
    (lambda: nn.RBM(2).visible(gnn.Input((2,), name="h")), ShapeError, "how many visible units"),
    (lambda: nn.RBM(2, in_features=3)(gnn.Input((4,), name="v")), ShapeError, "inner sizes differ"),
    (lambda: nn.RBM(2).reconstruct(gnn.Input((4,), name="v"), 0), ShapeError, "reconstruct: steps is 0"),
    (lambda: nn.RBM(2).contrastive_divergence(gnn.Input((4,), name="v"), 0), ShapeError, "contrastive_divergence: k is 0")])
def test_bad_arguments(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
