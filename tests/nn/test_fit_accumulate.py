"""Gradient accumulation: k batches make the step of one k times as large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from tests.nn.networks import BACKENDS, bits, dense, examples

X, Y = examples(24)
W = np.random.default_rng(0).uniform(size=24)


def made(optimiser: str | nn.Optimizer, accumulate: int, loss: str = "cross_entropy", backend: str = "numpy") -> gnn.Model:
    return dense(backend, seed=6, dtype="f64").compile(optimiser, loss, ["accuracy"], accumulate=accumulate)


def own(model: gnn.Model) -> dict[str, np.ndarray]:
    return {name: array for name, array in model.state.arrays().items() if "/accumulated/" not in name}


def assert_same(one: gnn.Model, other: gnn.Model) -> None:
    a, b = own(one), own(other)
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_allclose(array, b[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("optimiser", "loss"), [("sgd(lr=0.1, momentum=0.9)", "cross_entropy"),
                                                 ("adam(lr=0.01)", "cross_entropy"),
                                                 ("sgd(lr=0.01)", "cross_entropy(reduction='sum')")])
def test_k_batches_are_one_of_k_times_the_size(optimiser: str, loss: str, backend: str) -> None:
    small, large = made(optimiser, 3, loss, backend), made(optimiser, 1, loss, backend)
    a = small.fit(X, Y, epochs=3, batch_size=4, shuffle=False, verbose=False)
    b = large.fit(X, Y, epochs=3, batch_size=12, shuffle=False, verbose=False)
    assert_same(small, large)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-9)
    if optimiser.startswith("adam"):
        assert small.state["adam/step"] == 6


@pytest.mark.parametrize("weight", [None, W], ids=["plain", "weighted"])
def test_unequal_batches_count_what_they_weigh_and_the_remainder_is_applied(weight: np.ndarray | None) -> None:
    """24 = 5 + 5 + 5 + 5 + 4 in accumulations of three: 15 and 9 examples."""
    small, large = made("adam(lr=0.01)", 3), made("adam(lr=0.01)", 1)
    small.fit(X, Y, sample_weight=weight, epochs=2, batch_size=5, shuffle=False, verbose=False)
    for _ in range(2):
        for rows in (slice(0, 15), slice(15, 24)):
            large.fit(X[rows], Y[rows], sample_weight=None if weight is None else weight[rows], shuffle=False, verbose=False)
    assert_same(small, large)
    assert not small.state["adam/accumulated/steps"]


def test_a_scheduler_sees_the_mean_loss_and_counts_updates() -> None:
    optimiser = nn.SGD("exponential_scheduler(initial_lr=0.1, decay=0.5, stage_length=1)")
    small, large = made(optimiser, 2), made(optimiser, 1)
    small.fit(X, Y, epochs=2, batch_size=6, shuffle=False, verbose=False)
    large.fit(X, Y, epochs=2, batch_size=12, shuffle=False, verbose=False)
    assert_same(small, large)
    assert small.state["sgd/step"] == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_stopped_within_an_accumulation_and_resumed(backend: str, tmp_path: Path) -> None:
    """A fit that is broken off keeps what it added up; the next one goes on with it."""
    parts = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]

    def broken() -> Iterator[Any]:
        yield from parts[:4]
        raise KeyError("lost")

    model, whole = made("adam(lr=0.01)", 3, backend=backend), made("adam(lr=0.01)", 3, backend=backend)
    with pytest.raises(KeyError):
        model.fit(broken(), verbose=False)
    assert model.state["adam/accumulated/steps"] == 1
    model.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend=backend)
    for one in (model, loaded):
        one.fit(parts[4:], verbose=False)
    whole.fit(parts, verbose=False)
    assert bits(model) == bits(loaded) == bits(whole)


def test_resumed_between_epochs_bit_for_bit(tmp_path: Path) -> None:
    whole, half = made("adam", 4), made("adam", 4)
    whole.fit(X, Y, epochs=4, batch_size=5, verbose=False)
    half.fit(X, Y, epochs=2, batch_size=5, verbose=False)
    half.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    loaded.fit(X, Y, epochs=2, batch_size=5, verbose=False)
    assert bits(loaded) == bits(whole)


def test_frozen_parameters_are_not_accumulated() -> None:
    model = made("adam(lr=0.01)", 2).freeze("fully_connected_1")
    before = model.state.arrays()
    model.fit(X, Y, batch_size=5, verbose=False)
    for name, array in before.items():
        if "fully_connected_1" in name:
            np.testing.assert_array_equal(model.state[name], array, err_msg=name)
    assert (model.state["fully_connected/weight"] != before["fully_connected/weight"]).any()


def test_losses_of_the_graph_and_several_outputs() -> None:
    def built(accumulate: int) -> gnn.Model:
        x = gnn.Input((4,), name="x", dtype="f64")
        layer = nn.FullyConnected(3, name="a")
        h = layer(x)
        model = gnn.Model(x, {"a": h, "b": nn.FullyConnected(2, name="b")(h)}, losses={"l2": gnn.mean(layer.weight ** 2)}, seed=1,
                          backend="numpy")
        return model.compile("sgd(lr=0.1)", ["cross_entropy", "squared_error"], accumulate=accumulate)

    small, large = built(2), built(1)
    small.fit(X, (Y, X[:, :2]), epochs=2, batch_size=8, shuffle=False, verbose=False)
    for _ in range(2):
        for rows in (slice(0, 16), slice(16, 24)):
            large.fit(X[rows], (Y[rows], X[rows, :2]), shuffle=False, verbose=False)
    assert_same(small, large)


def test_models_that_share_a_state_add_up_apart() -> None:
    def built(names: tuple[str, str], accumulate: int) -> tuple[gnn.Model, gnn.Model]:
        x = gnn.Input((4,), name="x", dtype="f64")
        h = nn.FullyConnected(4, name="body")(x)
        one = gnn.Model(x, nn.FullyConnected(3, name="one")(h), seed=1, backend="numpy")
        two = gnn.Model(x, nn.FullyConnected(3, name="two")(h), state=one.state, backend="numpy")
        for model, name in zip((one, two), names, strict=True):
            model.compile(nn.Adam(0.01, name=name), "cross_entropy", accumulate=accumulate)
        return one, two

    small, large = built(("first", "second"), 2), built(("first", "second"), 1)
    for _ in range(3):
        for model in small:
            model.fit(X, Y, batch_size=12, shuffle=False, verbose=False)
        for model in large:
            model.fit(X, Y, batch_size=24, shuffle=False, verbose=False)
    assert_same(small[0], large[0])


def test_compiling_again_forgets_what_was_added_up() -> None:
    model = made("adam", 3)
    names = set(model.state.names)
    assert "adam/accumulated/fully_connected/weight" in names
    model.compile("adam", "cross_entropy")
    assert not any("accumulated" in name for name in model.state.names)
