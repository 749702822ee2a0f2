"""Optimisers against plain NumPy, over several steps, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError, VerifyError
from graphnn.nn.described import describe
from graphnn.nn.optimisers import as_optimiser
from tests.nn.networks import BACKENDS, notes

STEPS = 7
SHAPES = {"a/weight": (3, 5), "b": (1,), "c": ()}
Params = dict[str, np.ndarray]


def sgd(p: Params, grads: list[Params], lr: float, momentum: float = 0.0, nesterov: bool = False) -> Params:
    velocity = {k: np.zeros_like(v) for k, v in p.items()}
    for g in grads:
        for k in p:
            velocity[k] = momentum * velocity[k] + g[k]
            p[k] = p[k] - lr * (g[k] + momentum * velocity[k] if nesterov else velocity[k])
    return p


def adam(p: Params, grads: list[Params], lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Params:
    m, v = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(2))
    for t, g in enumerate(grads, 1):
        for k in p:
            m[k] = beta1 * m[k] + (1 - beta1) * g[k]
            v[k] = beta2 * v[k] + (1 - beta2) * g[k] ** 2
            p[k] = p[k] - lr * (m[k] / (1 - beta1 ** t)) / (np.sqrt(v[k] / (1 - beta2 ** t)) + eps)
    return p


CASES = [
    (nn.SGD(0.1), lambda p, g: sgd(p, g, 0.1)),
    (nn.SGD(0.1, momentum=0.9), lambda p, g: sgd(p, g, 0.1, 0.9)),
    (nn.SGD(0.03, momentum=0.7, nesterov=True), lambda p, g: sgd(p, g, 0.03, 0.7, True)),
    (nn.Adam(), lambda p, g: adam(p, g)),
    (nn.Adam(0.1, beta1=0.5, beta2=0.9, eps=1e-3), lambda p, g: adam(p, g, 0.1, 0.5, 0.9, 1e-3)),
]


def step_of(optimiser: nn.Optimizer, dtype: str, backend: str) -> gnn.Executable:
    """A step that takes the gradients as inputs."""
    params = [gnn.parameter(k, shape, lambda s, d, rng: rng.normal(size=s).astype(d), dtype=dtype)
              for k, shape in SHAPES.items()]
    grads = [gnn.placeholder(f"g{i}", p.type) for i, p in enumerate(params)]
    graph = gnn.Graph.of("step", grads, [gnn.sum(grads[0])], updates=optimiser.updates(params, grads))
    return gnn.compile(graph, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("optimiser", "oracle"), CASES, ids=[str(o) for o, _ in CASES])
def test_steps_are_those_of_numpy(optimiser: nn.Optimizer, oracle: Any, dtype: str, backend: str) -> None:
    step = step_of(optimiser, dtype, backend)
    rng = np.random.default_rng(1)
    # Sizes from 1e-4 to 1e4: an eps at the wrong place shows with the small ones.
    real = np.dtype(np.float32 if dtype == "f32" else np.float64)
    grads = [{k: np.asarray(rng.normal(size=s) * 10.0 ** rng.integers(-4, 5)).astype(real) for k, s in SHAPES.items()}
             for _ in range(STEPS)]
    expected = oracle({k: step.state[k].astype(np.float64) for k in SHAPES},
                      [{k: x.astype(np.float64) for k, x in g.items()} for g in grads])
    for g in grads:
        step(*g.values())
    for k in SHAPES:
        assert step.state[k].dtype == real
        scale = max(float(np.abs(g[k]).max()) for g in grads)
        if dtype == "f32":
            np.testing.assert_allclose(step.state[k], expected[k], rtol=2e-6, atol=1e-6 * scale)
        else:
            np.testing.assert_allclose(step.state[k], expected[k], rtol=1e-12, atol=1e-15 * scale)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_learning_rate_is_a_state(backend: str) -> None:
    step = step_of(nn.SGD(0.5), "f32", backend)
    g = [np.ones(shape, np.float32) for shape in SHAPES.values()]
    before = step.state["b"]
    step(*g)
    np.testing.assert_allclose(step.state["b"], before - 0.5)
    step.state["sgd/lr"] = 0.25
    step(*g)
    np.testing.assert_allclose(step.state["b"], before - 0.75, rtol=1e-6)


def test_adam_counts_its_steps() -> None:
    step = step_of(nn.Adam(), "f32", "numpy")
    for _ in range(3):
        step(*(np.ones(shape, np.float32) for shape in SHAPES.values()))
    assert step.state["adam/step"] == 3
    assert set(step.state.names) == {*SHAPES, "adam/lr", "adam/step", *(f"adam/{s}/{k}" for s in "mv" for k in SHAPES)}


def test_optimisers_that_share_a_state_have_names_of_their_own() -> None:
    """As a critic's and a generator's steps."""
    g = gnn.placeholder("g", "f32[3]")
    state = gnn.State()
    steps: list[gnn.Executable] = []
    for who, lr in (("critic", 0.5), ("generator", 0.25)):
        p = gnn.parameter(f"{who}/p", (3,), lambda s, d, r: np.zeros(s, d))
        updates = nn.Adam(lr, name=who).updates([p], [g])
        steps.append(gnn.compile(gnn.Graph.of(who, [g], [gnn.sum(g)], updates=updates), state=state, backend="numpy"))
    for _ in range(2):
        steps[0](np.ones(3, np.float32))
    steps[1](np.ones(3, np.float32))
    assert (state["critic/step"], state["generator/step"]) == (2, 1)
    np.testing.assert_allclose(state["critic/p"], -1.0, rtol=1e-6)
    np.testing.assert_allclose(state["generator/p"], -0.25, rtol=1e-6)
    assert as_optimiser(describe(nn.Adam(0.5, name="critic"))) == nn.Adam(0.5, name="critic")


def test_by_name() -> None:
    assert as_optimiser("adam") == nn.Adam()
    assert as_optimiser("sgd(lr=0.5, momentum=0.25)") == nn.SGD(0.5, momentum=0.25)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.SGD(-0.1), ["SGD", "lr", "-0.1"]), (lambda: nn.SGD(float("nan")), ["lr", "nan"]),
    (lambda: nn.Adam("fast"), ["lr", "'fast'"]), (lambda: nn.Adam(True), ["lr", "True"]),
    (lambda: nn.SGD(0.1, momentum=1.0), ["momentum", "1.0"]),
    (lambda: nn.SGD(0.1, nesterov=True), ["nesterov", "momentum"]), (lambda: nn.Adam(beta1=1.5), ["beta1", "1.5"]),
    (lambda: nn.Adam(beta2="x"), ["beta2", "'x'"]), (lambda: nn.Adam(eps=-1), ["eps", "-1"]),
    (lambda: nn.Adam(name="a b"), ["name", "'a b'"]),
    (lambda: as_optimiser("lion"), ["lion", "sgd", "adam"]), (lambda: as_optimiser("adam(rate=1)"), ["rate", "lr"]),
    (lambda: as_optimiser("adam(lr=1"), ["name(key=value"]), (lambda: as_optimiser(None), ["NoneType", "optimizer"])])
def test_bad_arguments(make: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in notes(caught.value)


def test_gradients_that_do_not_fit() -> None:
    p = gnn.parameter("p", (3,))
    with pytest.raises(ShapeError, match=r"gradient of 'p' is f32\[4\], the parameter f32\[3\]"):
        nn.SGD().updates([p], [gnn.placeholder("g", "f32[4]")])
    with pytest.raises(ShapeError, match="1 parameters and 0 gradients"):
        nn.SGD().updates([p], [])


def test_two_optimisers_of_one_kind_clash_in_one_graph() -> None:
    p, q = gnn.parameter("p", (3,), lambda s, d, r: np.zeros(s, d)), gnn.parameter("q", (3,), lambda s, d, r: np.zeros(s, d))
    g = gnn.placeholder("g", "f32[3]")
    updates = [*nn.SGD().updates([p], [g]), *nn.SGD().updates([q], [g])]
    with pytest.raises(VerifyError, match="two inputs are named 'sgd/lr'"):
        gnn.compile(gnn.Graph.of("step", [g], [gnn.sum(g)], updates=updates))
