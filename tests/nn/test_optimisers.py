"""Optimisers against plain NumPy, over several steps, in both precisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError, VerifyError
from graphnn.nn.described import describe, to_dict
from graphnn.nn.optimisers import BY_NAME, as_optimiser
from tests.nn.networks import BACKENDS, bits, dense, examples, notes

STEPS = 60
SHAPES = {"a/weight": (3, 5), "b": (1,), "c": ()}
Params = dict[str, np.ndarray]


def sgd(p: Params, grads: list[Params], lr: float, momentum: float = 0.0, nesterov: bool = False,
        dampening: float = 0.0) -> Params:
    velocity = {k: np.zeros_like(v) for k, v in p.items()}
    for t, g in enumerate(grads):
        for k in p:
            velocity[k] = momentum * velocity[k] + (1 - dampening if t else 1) * g[k]
            p[k] = p[k] - lr * (g[k] + momentum * velocity[k] if nesterov else velocity[k])
    return p


def adagrad(p: Params, grads: list[Params], lr: float = 0.01, eps: float = 1e-10) -> Params:
    total = {k: np.zeros_like(v) for k, v in p.items()}
    for g in grads:
        for k in p:
            total[k] = total[k] + g[k] ** 2
            p[k] = p[k] - lr * g[k] / (np.sqrt(total[k]) + eps)
    return p


def rmsprop(p: Params, grads: list[Params], lr: float = 0.01, decay: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
            centered: bool = False) -> Params:
    v, m, b = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(3))
    for g in grads:
        for k in p:
            v[k] = decay * v[k] + (1 - decay) * g[k] ** 2
            m[k] = decay * m[k] + (1 - decay) * g[k]
            b[k] = momentum * b[k] + g[k] / (np.sqrt(v[k] - m[k] ** 2 if centered else v[k]) + eps)
            p[k] = p[k] - lr * b[k]
    return p


def adam(p: Params, grads: list[Params], lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
         amsgrad: bool = False, decoupled: float = 0.0) -> Params:
    m, v, top = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(3))
    for t, g in enumerate(grads, 1):
        for k in p:
            m[k] = beta1 * m[k] + (1 - beta1) * g[k]
            v[k] = beta2 * v[k] + (1 - beta2) * g[k] ** 2
            top[k] = np.maximum(top[k], v[k]) if amsgrad else v[k]
            p[k] = p[k] * (1 - lr * decoupled) - lr * (m[k] / (1 - beta1 ** t)) / (np.sqrt(top[k] / (1 - beta2 ** t)) + eps)
    return p


CASES = [
    (nn.SGD(0.1), lambda p, g: sgd(p, g, 0.1)),
    (nn.SGD(0.1, momentum=0.9), lambda p, g: sgd(p, g, 0.1, 0.9)),
    (nn.SGD(0.03, momentum=0.7, nesterov=True), lambda p, g: sgd(p, g, 0.03, 0.7, True)),
    (nn.SGD(0.03, momentum=0.7, dampening=0.3), lambda p, g: sgd(p, g, 0.03, 0.7, dampening=0.3)),
    (nn.AdaGrad(), lambda p, g: adagrad(p, g)),
    (nn.AdaGrad(0.1, eps=1e-3), lambda p, g: adagrad(p, g, 0.1, 1e-3)),
    (nn.RMSProp(), lambda p, g: rmsprop(p, g)),
    (nn.RMSProp(0.001, decay=0.9, eps=1e-7), lambda p, g: rmsprop(p, g, 0.001, 0.9, 1e-7)),
    (nn.RMSProp(decay=0.9, eps=1e-2, momentum=0.8), lambda p, g: rmsprop(p, g, 0.01, 0.9, 1e-2, 0.8)),
    (nn.RMSProp(eps=1e-2, momentum=0.8, centered=True), lambda p, g: rmsprop(p, g, 0.01, 0.99, 1e-2, 0.8, True)),
    (nn.Adam(), lambda p, g: adam(p, g)),
    (nn.Adam(0.1, beta1=0.5, beta2=0.9, eps=1e-3), lambda p, g: adam(p, g, 0.1, 0.5, 0.9, 1e-3)),
    (nn.Adam(beta2=0.8, amsgrad=True), lambda p, g: adam(p, g, beta2=0.8, amsgrad=True)),
    (nn.AdamW(), lambda p, g: adam(p, g, decoupled=0.01)),
    (nn.AdamW(0.1, weight_decay=0.3), lambda p, g: adam(p, g, 0.1, decoupled=0.3)),
]


def step_of(optimiser: nn.Optimizer, dtype: str, backend: str) -> gnn.Executable:
    """A step that takes the gradients as inputs."""
    params = [gnn.parameter(k, shape, lambda s, d, rng: rng.normal(size=s).astype(d), dtype=dtype)
              for k, shape in SHAPES.items()]
    grads = [gnn.placeholder(f"g{i}", p.type) for i, p in enumerate(params)]
    graph = gnn.Graph.of("step", grads, [gnn.sum(grads[0])], updates=optimiser.updates(params, grads))
    return gnn.compile(graph, backend=backend)


def some_grads(dtype: str = "f64", *, steps: int = STEPS, decades: int = 4) -> list[Params]:
    """Sizes from 1e-4 to 1e4: an eps at the wrong place shows with the small ones."""
    rng, real = np.random.default_rng(1), np.dtype(np.float32 if dtype == "f32" else np.float64)
    return [{k: np.asarray(rng.normal(size=s) * 10.0 ** rng.integers(-decades, decades + 1)).astype(real)
             for k, s in SHAPES.items()} for _ in range(steps)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("optimiser", "oracle"), CASES, ids=[describe(o) for o, _ in CASES])
def test_steps_are_those_of_numpy(optimiser: nn.Optimizer, oracle: Any, dtype: str, backend: str) -> None:
    step = step_of(optimiser, dtype, backend)
    real = np.dtype(np.float32 if dtype == "f32" else np.float64)
    grads = some_grads(dtype)
    expected = oracle({k: step.state[k].astype(np.float64) for k in SHAPES},
                      [{k: x.astype(np.float64) for k, x in g.items()} for g in grads])
    for g in grads:
        step(*g.values())
    for k in SHAPES:
        assert step.state[k].dtype == real
        scale = max(float(np.abs(g[k]).max()) for g in grads)
        if dtype == "f32":
            np.testing.assert_allclose(step.state[k], expected[k], rtol=5e-6, atol=2e-6 * scale if scale > 10 else 5e-6)
        else:
            np.testing.assert_allclose(step.state[k], expected[k], rtol=1e-11, atol=1e-14 * scale)


# ------------------------------------------------------------------------------------------------ decay, clips, groups

def trained(optimiser: nn.Optimizer, grads: list[Params], backend: str = "numpy") -> tuple[Params, Params]:
    """The parameters before and after steps in f64."""
    step = step_of(optimiser, "f64", backend)
    before = {k: step.state[k] for k in SHAPES}
    for g in grads:
        step(*g.values())
    return before, {k: step.state[k] for k in SHAPES}


def assert_equal(found: Params, expected: Params) -> None:
    for k, x in expected.items():
        np.testing.assert_allclose(found[k], x, rtol=1e-12, atol=1e-15, err_msg=k)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["sgd", "adagrad", "rmsprop", "adam"])
def test_weight_decay_is_part_of_the_gradient(kind: str, backend: str) -> None:
    grads = some_grads(decades=0)
    before, after = trained(as_optimiser({"name": kind, "lr": 0.1, "weight_decay": 0.2}), grads, backend)
    plain = step_of(as_optimiser({"name": kind, "lr": 0.1}), "f64", "numpy")
    assert_equal({k: plain.state[k] for k in SHAPES}, before)
    for g in grads:
        plain(*(g[k] + 0.2 * plain.state[k] for k in SHAPES))
    assert_equal(after, {k: plain.state[k] for k in SHAPES})


def clipped(g: Params, value: float = np.inf, norm: float = np.inf, whole: float = np.inf) -> Params:
    g = {k: np.clip(x, -value, value) for k, x in g.items()}
    g = {k: x * min(1.0, norm / np.linalg.norm(x)) for k, x in g.items()}
    total = np.sqrt(sum(np.sum(x ** 2) for x in g.values()))
    return {k: x * min(1.0, whole / total) for k, x in g.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("arguments", "limits"), [
    ({"clip_value": 0.5}, {"value": 0.5}), ({"clip_norm": 0.7}, {"norm": 0.7}), ({"clip_global_norm": 1.5}, {"whole": 1.5}),
    ({"clip_value": 1.0, "clip_norm": 1.5, "clip_global_norm": 1.7}, {"value": 1.0, "norm": 1.5, "whole": 1.7})])
def test_clips(arguments: dict[str, Any], limits: dict[str, float], backend: str) -> None:
    grads = some_grads(decades=0)
    before, after = trained(nn.SGD(0.1, weight_decay=0.2, **arguments), grads, backend)
    for g in grads:
        small = clipped(g, **limits)
        before = {k: p - 0.1 * (small[k] + 0.2 * p) for k, p in before.items()}
    assert_equal(after, before)


def test_a_gradient_within_the_limit_or_zero_is_left_as_it_is() -> None:
    grads = [{k: np.full(s, 0.25) for k, s in SHAPES.items()}, {k: np.zeros(s) for k, s in SHAPES.items()}]
    _, after = trained(nn.SGD(0.1, clip_norm=5.0, clip_global_norm=5.0), grads)
    _, expected = trained(nn.SGD(0.1), grads)
    for k in SHAPES:
        np.testing.assert_array_equal(after[k], expected[k])


@pytest.mark.parametrize("backend", BACKENDS)
def test_norms_of_huge_gradients_do_not_overflow(backend: str) -> None:
    step = step_of(nn.SGD(1.0, clip_global_norm=1.0), "f32", backend)
    before = step.state["b"]
    step(*(np.full(s, 1e30, np.float32) for s in SHAPES.values()))
    np.testing.assert_allclose(step.state["b"], before - 1 / np.sqrt(17), rtol=1e-6)


GROUPS: dict[str, Any] = {"a": {"lr_scale": 0.5}, "?": {"weight_decay": 0.3, "momentum": 0.8},
                          "b": {"lr": 0.025, "clip_norm": 0.1}}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [GROUPS, [{"params": k, **v} for k, v in GROUPS.items()]])
def test_groups(groups: Any, backend: str) -> None:
    grads = some_grads(decades=0)
    before, after = trained(nn.SGD(0.1, weight_decay=0.2, clip_global_norm=2.0, groups=groups), grads, backend)
    velocity = {k: np.zeros(s) for k, s in SHAPES.items()}
    momentum, decay, rate = {"b": 0.8, "c": 0.8}, {"b": 0.3, "c": 0.3}, {"a/weight": 0.05, "b": 0.025}
    for g in grads:
        g = clipped(g | {"b": clipped({"b": g["b"]}, norm=0.1)["b"]}, whole=2.0)
        for k in SHAPES:
            velocity[k] = momentum.get(k, 0.0) * velocity[k] + g[k] + decay.get(k, 0.2) * before[k]
            before[k] = before[k] - rate.get(k, 0.1) * velocity[k]
    assert_equal(after, before)


def test_a_group_follows_the_scheduler_and_the_rate_set_by_hand() -> None:
    ones = [{k: np.ones(s) for k, s in SHAPES.items()}] * 3
    halving = nn.StepScheduler(1.0, step_size=1, decay=0.5)
    before, after = trained(nn.SGD(halving, groups={"b": {"lr_scale": 0.1}}), ones)
    np.testing.assert_allclose(before["b"] - after["b"], 0.175, rtol=1e-12)
    np.testing.assert_allclose(before["c"] - after["c"], 1.75, rtol=1e-12)
    step = step_of(nn.SGD(1.0, groups={"b": {"lr": 0.1}}), "f64", "numpy")
    before = step.state["b"]
    step.state["sgd/lr"] = 0.5
    step(*ones[0].values())
    np.testing.assert_allclose(before - step.state["b"], 0.05, rtol=1e-12)


def test_a_later_pattern_wins_and_no_decay_on_biases() -> None:
    grads = some_grads(decades=0)
    _, after = trained(nn.AdamW(weight_decay=0.5, groups={"*": {"weight_decay": 0.1}, "a/*": {"weight_decay": 0}}), grads)
    _, decayed = trained(nn.AdamW(weight_decay=0.1), grads)
    _, plain = trained(nn.Adam(), grads)
    assert_equal(after, {"a/weight": plain["a/weight"], "b": decayed["b"], "c": decayed["c"]})


def test_a_pattern_that_fits_nothing_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="'d' fits none of the 3 parameters"):
        step_of(nn.SGD(groups={"d": {"lr_scale": 0.5}}), "f32", "numpy")


# ------------------------------------------------------------------------------------------------ states, names, files

EVERY: list[nn.Optimizer] = [
    *(o for o, _ in CASES),
    nn.Adam("king_scheduler(initial_lr=0.1, patience=4, decay=0.5)", groups={"fully*": {"beta1": 0.5}, "*": {"lr_scale": 0.5}},
            clip_global_norm=1.0),
]


@pytest.mark.parametrize("optimiser", EVERY, ids=map(describe, EVERY))
def test_saved_training_goes_on_bit_for_bit(optimiser: nn.Optimizer, tmp_path: Any) -> None:
    x, y = examples(40)
    whole, half = (dense() for _ in range(2))
    with catch_warnings():
        simplefilter("ignore")
        for model in (whole, half):
            model.compile(optimiser, "cross_entropy").fit(x, y, epochs=2, batch_size=7, verbose=False)
        half.save(tmp_path / "half.gnn")
        resumed = gnn.load(tmp_path / "half.gnn", backend="numpy")
    for model in (whole, resumed):
        model.fit(x, y, epochs=2, batch_size=7, verbose=False)
    assert bits(whole) == bits(resumed)


@pytest.mark.parametrize("optimiser", EVERY, ids=map(describe, EVERY))
def test_described(optimiser: nn.Optimizer) -> None:
    assert as_optimiser(describe(optimiser)) == optimiser
    assert as_optimiser(to_dict(optimiser)) == optimiser
    assert as_optimiser(describe(replace(optimiser, name="critic"))) == replace(optimiser, name="critic")


def test_every_optimiser_is_tested() -> None:
    assert {type(o) for o, _ in CASES} == set(BY_NAME.values())


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


bad: Any = nn


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.SGD(-0.1), ["SGD", "lr", "-0.1"]), (lambda: nn.SGD(float("nan")), ["lr", "nan"]),
    (lambda: nn.Adam("fast"), ["lr", "'fast'"]), (lambda: nn.Adam(True), ["lr", "True"]),
    (lambda: nn.SGD(0.1, momentum=1.0), ["momentum", "1.0"]),
    (lambda: nn.SGD(0.1, nesterov=True), ["nesterov", "momentum"]), (lambda: nn.Adam(beta1=1.5), ["beta1", "1.5"]),
    (lambda: bad.Adam(beta2="x"), ["beta2", "'x'"]), (lambda: nn.Adam(eps=-1), ["eps", "-1"]),
    (lambda: nn.Adam(name="a b"), ["name", "'a b'"]),
    (lambda: nn.SGD(momentum=0.5, dampening=1.5), ["dampening", "1.5"]),
    (lambda: nn.SGD(momentum=0.5, dampening=0.5, nesterov=True), ["nesterov", "dampening"]),
    (lambda: nn.RMSProp(decay=1.0), ["decay", "1.0"]), (lambda: nn.AdaGrad(eps=-1), ["eps", "-1"]),
    (lambda: nn.AdamW(weight_decay=-1), ["AdamW", "weight_decay", "-1"]), (lambda: nn.SGD(clip_norm=0), ["clip_norm", "0"]),
    (lambda: nn.SGD(clip_value=-1), ["clip_value", "-1"]), (lambda: bad.SGD(clip_global_norm="x"), ["clip_global_norm", "'x'"]),
    (lambda: nn.SGD(groups={"b": {"rate": 1}}), ["'b'", "'rate'", "lr_scale", "momentum"]),
    (lambda: nn.SGD(groups={"b": {"momentum": 2}}), ["'b'", "momentum", "2"]),
    (lambda: nn.SGD(groups={"b": {"lr_scale": -1}}), ["'b'", "lr_scale", "-1"]),
    (lambda: nn.SGD("noam_scheduler", groups={"b": {"lr": 1}}), ["'b'", "lr", "lr_scale"]),
    (lambda: nn.SGD(groups={"b": {"clip_global_norm": 1}}), ["'b'", "clip_global_norm"]),
    (lambda: bad.SGD(groups={"b": 0.5}), ["groups", "'b'", "0.5"]), (lambda: bad.SGD(groups="b"), ["groups", "'b'"]),
    (lambda: nn.SGD(groups=[{"lr_scale": 1}]), ["groups", "params"]),
    (lambda: as_optimiser("lion"), ["lion", "sgd", "adam"]), (lambda: as_optimiser("adam(rate=1)"), ["rate", "lr"]),
    (lambda: as_optimiser("adam(lr=1"), ["name(key=value"]), (lambda: as_optimiser(None), ["None", "optimizer"])])
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


def test_models_that_share_a_state_and_an_optimiser_s_name_are_refused() -> None:
    """The second would take over the first's learning rate and count of steps, whatever it was compiled with."""
    x = gnn.Input((2,), name="x")
    h = nn.FullyConnected(3, name="body")(x)
    one = gnn.Model(x, nn.FullyConnected(1, name="one")(h), backend="numpy").compile(nn.Adam(0.5), "squared_error")
    two = gnn.Model(x, nn.FullyConnected(1, name="two")(h), state=one.state, backend="numpy")
    before = bits(one)
    with pytest.raises(VerifyError, match=r"'adam/.*' already") as caught:
        two.compile(nn.Adam(0.25), "squared_error")
    assert "names of their own" in notes(caught.value)
    assert bits(one) == before
    two.compile(nn.Adam(0.25, name="second"), "squared_error")
    with pytest.raises(VerifyError, match="already"):
        one.compile(nn.SGD(name="second"), "squared_error")
    assert (one.state["adam/lr"], one.state["second/lr"]) == (0.5, 0.25)
    one.compile(nn.Adam(0.125), "squared_error")
    two.compile("sgd(lr=0.75)", "squared_error")
    assert (one.state["adam/lr"], one.state["sgd/lr"]) == (0.125, 0.75)
    assert not [name for name in one.state.names if name.startswith("second/")]
