"""Schedulers against closed forms and plain Python, on the host and inside the compiled step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError, VerifyError
from graphnn.nn.described import describe, to_dict
from graphnn.nn.optimisers import as_optimiser
from graphnn.nn.schedulers import BY_NAME, as_scheduler
from tests.nn.networks import BACKENDS, notes

STEPS = 400


def cosine(part: float, top: float, low: float) -> float:
    return low + (top - low) * (1 + math.cos(math.pi * part)) / 2


def warm_restarts(t: int, length: int, growth: int) -> float:
    while t >= length:
        t, length = t - length, length * growth
    return t / length


def one_cycle(t: int, top: float, steps: int, part: float, div: float, final: float, shape: Callable[..., float]) -> float:
    turn, low = part * steps - 1, top / div
    if t < turn:
        return shape(t / turn, low, top)
    return shape(min((t - turn) / (steps - 1 - turn), 1.0), top, low / final)


def line(part: float, start: float, end: float) -> float:
    return start + part * (end - start)


CLOSED: list[tuple[nn.Scheduler, Callable[[int], float]]] = [
    (nn.ConstantScheduler(0.3), lambda t: 0.3),
    (nn.ExponentialScheduler(), lambda t: 0.01 * 0.1 ** (t / 500)),
    (nn.ExponentialScheduler(0.5, stage_length=7, decay=0.9), lambda t: 0.5 * 0.9 ** (t / 7)),
    (nn.ExponentialScheduler(0.5, stage_length=7, staircase=True, decay=0.9), lambda t: 0.5 * 0.9 ** (t // 7)),
    (nn.NoamScheduler(), lambda t: 512 ** -0.5 * min((t + 1) ** -0.5, (t + 1) * 4000 ** -1.5)),
    (nn.NoamScheduler(64, 2.0, 100), lambda t: 2 * 64 ** -0.5 * min((t + 1) ** -0.5, (t + 1) * 100 ** -1.5)),
    (nn.StepScheduler(0.5, step_size=30), lambda t: 0.5 * 0.1 ** (t // 30)),
    (nn.StepScheduler(0.5, milestones=[200, 50, 51], decay=0.5),
     lambda t: 0.5 * 0.5 ** ((t >= 50) + (t >= 51) + (t >= 200))),
    (nn.StepScheduler(0.5, milestones=[]), lambda t: 0.5),
    (nn.CosineScheduler(0.5, steps=300, min_lr=0.1), lambda t: cosine(min(t / 300, 1), 0.5, 0.1)),
    (nn.CosineScheduler(0.5, steps=1), lambda t: 0.5 if t == 0 else 0.0),
    (nn.CosineScheduler(0.5, steps=30, restarts=True), lambda t: cosine(t % 30 / 30, 0.5, 0)),
    (nn.CosineScheduler(0.5, steps=3, restarts=True, growth=2), lambda t: cosine(warm_restarts(t, 3, 2), 0.5, 0)),
    (nn.CosineScheduler(0.5, steps=1, restarts=True, growth=3), lambda t: cosine(warm_restarts(t, 1, 3), 0.5, 0)),
    (nn.OneCycleScheduler(0.5, steps=350),
     lambda t: one_cycle(t, 0.5, 350, 0.3, 25, 1e4, lambda p, a, b: cosine(p, a, b))),
    (nn.OneCycleScheduler(0.5, steps=350, pct_start=0.25, div_factor=5, final_div_factor=10, anneal="linear"),
     lambda t: one_cycle(t, 0.5, 350, 0.25, 5, 10, line)),
    (nn.OneCycleScheduler(0.5, steps=2, pct_start=0.0), lambda t: 0.5 / 25e4 if t else cosine(1 / 2, 0.5, 0.5 / 25e4)),
    (nn.WarmUpScheduler(nn.ExponentialScheduler(0.5), steps=100, start_factor=0.2),
     lambda t: 0.5 * (0.2 + 0.8 * t / 100) if t < 100 else 0.5 * 0.1 ** ((t - 100) / 500)),
    (nn.WarmUpScheduler(0.25, steps=1), lambda t: 0.25 if t else 0.0),
]


def step_with(scheduler: Any, backend: str, dtype: str = "f64", name: str | None = None) -> gnn.Executable:
    """p = p - lr, with a loss that is given to each step."""
    p = gnn.parameter("p", (), lambda s, d, r: np.zeros(s, d), dtype=dtype)
    loss = gnn.placeholder("loss", f"{dtype}[]")
    updates = nn.SGD(scheduler, name=name).updates([p], [gnn.ones((), dtype)], loss)
    return gnn.compile(gnn.Graph.of("step", [loss], [loss * 1.0], updates=updates), backend=backend)


def used(step: gnn.Executable, losses: Sequence[float]) -> list[float]:
    """The learning rate by which p moves in each step, after a look that the state said so before."""
    rates: list[float] = []
    real = step.state["p"].dtype
    for loss in losses:
        before, told = float(step.state["p"]), float(step.state["sgd/lr"])
        step.state["p"] = np.zeros((), real)
        step(np.asarray(loss, real))
        rates.append(-float(step.state["p"]))
        assert rates[-1] == told
        step.state["p"] = np.asarray(before, real)
    return rates


@pytest.mark.parametrize(("scheduler", "form"), CLOSED, ids=[describe(s) for s, _ in CLOSED])
def test_closed_forms(scheduler: nn.Scheduler, form: Callable[[int], float]) -> None:
    expected = [form(t) for t in range(STEPS)]
    np.testing.assert_allclose(scheduler.rates(STEPS), expected, rtol=1e-12, atol=1e-17)
    assert scheduler.first == pytest.approx(expected[0], rel=1e-14)
    np.testing.assert_allclose(used(step_with(scheduler, "numpy"), [0.0] * 60), expected[:60], rtol=1e-12, atol=1e-17)
    assert as_scheduler(describe(scheduler)) == scheduler == as_scheduler(to_dict(scheduler))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("index", [3, 5, 7, 12, 14, 17])
def test_compiled_steps_follow_the_closed_forms(index: int, dtype: str) -> None:
    scheduler, form = CLOSED[index]
    step = step_with(scheduler, "numba", dtype)
    expected = [form(t) for t in range(250)]
    np.testing.assert_allclose(used(step, [0.0] * 250), expected, rtol=1e-12 if dtype == "f64" else 1e-6, atol=1e-17)
    assert step.state["sgd/step"] == 250


def test_every_scheduler_has_a_default_and_a_test() -> None:
    tested = {type(s) for s, _ in CLOSED} | {nn.KingScheduler, nn.ReduceOnPlateau}
    assert tested == set(BY_NAME.values())
    assert nn.NoamScheduler().first == pytest.approx(1.7469e-7, rel=1e-4)


# --------------------------------------------------------------------------------------- schedulers that look at the loss

def plateau(losses: Sequence[float], lr: float, mode: str = "min", factor: float = 0.1, patience: int = 10,
            threshold: float = 1e-4, relative: bool = True, cooldown: int = 0, min_lr: float = 0.0,
            eps: float = 1e-8) -> list[float]:
    """PyTorch's rule, written out: the rate before each step."""
    rates, best, bad, wait = [], math.inf if mode == "min" else -math.inf, 0, 0
    for loss in losses:
        rates.append(lr)
        if mode == "min":
            better = loss < (best * (1 - threshold) if relative else best - threshold)
        else:
            better = loss > (best * (1 + threshold) if relative else best + threshold)
        best, bad = (loss, 0) if better else (best, bad + 1)
        if wait > 0:
            wait, bad = wait - 1, 0
        if bad > patience:
            lower = max(lr * factor, min_lr)
            lr = lower if lr - lower > eps else lr
            wait, bad = cooldown, 0
    return rates


PLATEAUS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"patience": 3, "factor": 0.5, "cooldown": 4, "min_lr": 0.01}, {}),
    ({"patience": 0, "factor": 0.9, "eps": 0.02}, {}),
    ({"patience": 2, "factor": 0.5, "threshold": 0.05, "threshold_mode": "abs"}, {"relative": False}),
    ({"patience": 2, "factor": 0.5, "mode": "max", "threshold": 0.01}, {}),
    ({"patience": 2, "factor": 0.5, "mode": "max", "threshold": 0.01, "threshold_mode": "abs"}, {"relative": False}),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("arguments", "oracle"), PLATEAUS)
def test_plateau_is_pytorchs_rule(arguments: dict[str, Any], oracle: dict[str, Any], backend: str) -> None:
    rng = np.random.default_rng(3)
    losses = 1 / (1 + np.arange(150) / 10) + 0.05 * rng.normal(size=150)
    losses[70] = math.nan
    keys = {k: v for k, v in arguments.items() if k != "threshold_mode"}
    expected = plateau(losses.tolist(), 0.5, **keys, **oracle)
    assert len(set(expected)) > 2
    scheduler = nn.ReduceOnPlateau(0.5, **arguments)
    if backend == "numpy":
        np.testing.assert_allclose(scheduler.rates(150, losses), expected, rtol=1e-14)
        rule, lr, rates = scheduler.rule(), 0.5, []
        assert rule == nn.PlateauRule(**arguments)
        for loss in losses:
            rates.append(lr)
            lr = rule.update(float(loss), lr)
        np.testing.assert_allclose(rates, expected, rtol=1e-14)
    np.testing.assert_allclose(used(step_with(scheduler, backend), losses.tolist()), expected, rtol=1e-14)


def falls(losses: np.ndarray, times: np.ndarray) -> bool:
    """King's test of a line through points, with NumPy's least squares."""
    design = np.stack([np.ones_like(times), times], axis=1)
    (a, s), *_ = np.linalg.lstsq(design, losses, rcond=None)
    variance = np.sum((losses - a - s * times) ** 2) / max(len(losses) - 2, 1) / np.sum((times - times.mean()) ** 2)
    return 0.5 * (1 + math.erf(-s / math.sqrt(variance + np.finfo(float).eps) / math.sqrt(2))) >= 0.51


def king(losses: Sequence[float], lr: float, patience: int, decay: float) -> list[float]:
    rates, seen = [], []
    for loss in losses:
        rates.append(lr)
        seen.append(loss)
        window = np.array(seen[-patience - 1:])
        if len(window) == patience + 1 and np.isfinite(window).all():
            times = np.arange(patience + 1.0)
            low = window <= np.quantile(window, 0.9)
            if not falls(window, times) and not falls(window[low], times[low]):
                lr, seen = lr * decay, []
    return rates


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("patience", [2, 3, 20, 50])
def test_king_is_the_two_tests_written_out(patience: int, backend: str) -> None:
    rng = np.random.default_rng(patience)
    t = np.arange(400)
    losses = np.exp(-t / 20) + 0.05 * rng.normal(size=400) + 3 * (rng.random(400) < 0.03)
    losses[[90, 91, 300]] = math.nan, math.inf, math.inf
    expected = king(losses.tolist(), 0.5, patience, 0.9)
    assert len(set(expected)) > 2
    scheduler = nn.KingScheduler(0.5, patience, 0.9)
    np.testing.assert_allclose(used(step_with(scheduler, backend), losses.tolist()), expected, rtol=1e-13)


def test_king_fires_on_a_plateau_at_its_default_patience_and_not_on_a_descent() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=4000)
    step = step_with(nn.KingScheduler(), "numba")
    for loss in 1.0 - 1e-3 * np.arange(2500) + 0.1 * noise[:2500]:
        step(np.asarray(loss))
    assert step.state["sgd/lr"] == 0.01
    losses = 1.0 + 0.1 * noise[:2500]
    expected = king(losses.tolist(), 0.01, 1000, 0.99)
    # Each decay waits for 1001 losses of its own: it is no avalanche.
    assert len(set(expected)) in (2, 3)
    np.testing.assert_allclose(used(step_with(nn.KingScheduler(), "numba"), losses.tolist()), expected, rtol=1e-13)


def test_king_waits_for_new_losses_after_a_decay() -> None:
    rates = nn.KingScheduler(0.1, patience=20, decay=0.9).rates(64, [1.0] * 64)
    np.testing.assert_allclose(rates, [0.1 * 0.9 ** (t // 21) for t in range(64)])


def test_king_sees_no_descent_in_a_few_bad_batches() -> None:
    """Bad batches at the start look like a descent to the plain test; the robust one holds them out, and the plain keeps lr."""
    losses = np.full(21, 1.0)
    losses[:2] = 50.0
    assert nn.KingScheduler(0.1, patience=20).rates(22, [*losses, 1.0])[-1] == 0.1
    assert nn.KingScheduler(0.1, patience=20, decay=0.5).rates(24, [*losses, 1.0, 1.0, 1.0])[-1] == 0.05


def test_warm_up_keeps_a_plateaus_memory_fresh() -> None:
    inner = nn.ReduceOnPlateau(0.5, factor=0.5, patience=1)
    scheduler = nn.WarmUpScheduler(inner, steps=4)
    assert scheduler.needs_loss
    losses = [0.0, 0.0, 0.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    expected = [0.0, 0.125, 0.25, 0.375, *inner.rates(7, losses[4:])]
    np.testing.assert_allclose(scheduler.rates(11, losses), expected)
    assert expected[-1] < 0.5


# ------------------------------------------------------------------------------------------------ in use

def test_one_call_a_step_for_any_number_of_parameters() -> None:
    """numpy-ml calls a scheduler once for each parameter."""
    params = [gnn.parameter(f"p{i}", (2,), lambda s, d, r: np.ones(s, d)) for i in range(5)]
    loss = gnn.sum(gnn.stack(params))
    updates = nn.Adam(nn.KingScheduler(0.5, 3, 0.5)).updates(params, gnn.gradients(loss, params), loss)
    step = gnn.compile(gnn.Graph.of("step", [], [loss], updates=updates), backend="numpy")
    for _ in range(3):
        step()
    assert step.state["adam/step"] == 3
    assert np.isfinite(step.state["adam/losses"]).tolist() == [False, True, True, True]
    assert sorted(step.state["adam/ordered_losses"].tolist()) == step.state["adam/ordered_losses"].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheduler", ["king_scheduler(initial_lr=0.5, patience=5, decay=0.5)", "noam_scheduler(model_dim=8)",
                                       "reduce_on_plateau(initial_lr=0.5, patience=2, factor=0.5)",
                                       "warm_up_scheduler(scheduler=king_scheduler(patience=3), steps=7)"])
def test_resumed_bit_for_bit(scheduler: str, backend: str) -> None:
    losses = np.random.default_rng(5).normal(size=40)
    whole, first, second = (step_with(scheduler, backend, "f32") for _ in range(3))
    for loss in losses:
        whole(np.asarray(loss, np.float32))
    for loss in losses[:17]:
        first(np.asarray(loss, np.float32))
    for name, array in first.state.arrays().items():
        second.state[name] = array
    for loss in losses[17:]:
        second(np.asarray(loss, np.float32))
    assert {k: v.tobytes() for k, v in whole.state.arrays().items()} == {k: v.tobytes() for k, v in second.state.arrays().items()}


def test_a_rate_set_by_hand_is_what_a_plateau_multiplies() -> None:
    step = step_with(nn.ReduceOnPlateau(0.5, factor=0.5, patience=0), "numpy")
    step(np.ones(()))
    step.state["sgd/lr"] = 0.25
    step(np.ones(()))
    assert step.state["sgd/lr"] == 0.125


def test_optimisers_take_schedulers_as_strings_and_dictionaries() -> None:
    expected = nn.Adam(nn.ExponentialScheduler(0.1, decay=0.5))
    for lr in ("exponential_scheduler(initial_lr=0.1, decay=0.5)",
               {"name": "exponential_scheduler", "initial_lr": 0.1, "decay": 0.5}):
        assert nn.Adam(lr) == expected
        assert as_optimiser({"name": "adam", "lr": lr}) == expected
    assert as_optimiser("adam(lr=exponential_scheduler(initial_lr=0.1, decay=0.5))") == expected
    for way in (describe, to_dict):
        for lr in [*(s for s, _ in CLOSED), nn.KingScheduler(), nn.ReduceOnPlateau()]:
            assert as_optimiser(way(nn.SGD(lr))) == nn.SGD(lr)


bad: Any = nn


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.ExponentialScheduler(-1), ["initial_lr", "-1"]),
    (lambda: nn.ExponentialScheduler(stage_length=0), ["stage_length", "0"]),
    (lambda: nn.ExponentialScheduler(decay=0), ["decay", "0"]),
    (lambda: nn.NoamScheduler(0), ["model_dim", "0"]),
    (lambda: bad.NoamScheduler(warmup_steps=1.5), ["warmup_steps", "1.5"]),
    (lambda: nn.KingScheduler(patience=1), ["patience", "1"]),
    (lambda: nn.KingScheduler(decay=1.5), ["decay", "1.5"]),
    (lambda: nn.StepScheduler(), ["step_size", "milestones"]),
    (lambda: nn.StepScheduler(step_size=3, milestones=[3]), ["step_size", "milestones"]),
    (lambda: nn.StepScheduler(milestones=[-3]), ["milestones", "-3"]),
    (lambda: nn.CosineScheduler(growth=2), ["growth", "restarts"]),
    (lambda: nn.OneCycleScheduler(pct_start=1.0), ["pct_start", "1.0"]),
    (lambda: nn.OneCycleScheduler(anneal="sin"), ["anneal", "'sin'"]),
    (lambda: nn.WarmUpScheduler("slow"), ["slow"]),
    (lambda: nn.WarmUpScheduler(0.1, steps=0), ["steps", "0"]),
    (lambda: nn.ReduceOnPlateau(mode="low"), ["mode", "'low'"]),
    (lambda: nn.ReduceOnPlateau(factor=1.0), ["factor", "1.0"]),
    (lambda: nn.PlateauRule(threshold_mode="x"), ["threshold_mode", "'x'"]),
    (lambda: nn.ConstantScheduler(math.nan), ["lr", "nan"]),
    (lambda: as_scheduler("noam_scheduler(dim=3)"), ["dim", "model_dim"]),
    (lambda: as_scheduler(None), ["scheduler"]),
    (lambda: nn.SGD("fast"), ["SGD", "lr", "'fast'"])])
def test_bad_arguments(make: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)


def test_a_missing_loss_is_an_error() -> None:
    p, g = gnn.parameter("p", (3,)), gnn.placeholder("g", "f32[3]")
    with pytest.raises(VerifyError, match="KingScheduler looks at the loss"):
        nn.SGD("king_scheduler").updates([p], [g])
    with pytest.raises(ShapeError, match=r"the loss is f32\[3\]"):
        nn.SGD("king_scheduler").updates([p], [g], g)
    with pytest.raises(VerifyError, match="need as many losses"):
        nn.KingScheduler().rates(3)
