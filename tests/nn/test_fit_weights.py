"""Sample and class weights: weighted means divide by the sum of weights, in a step and over an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError
from graphnn.nn.data import epoch_order, minibatches
from tests.nn.networks import BACKENDS, bits, notes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4))
IDS = np.argmax(X[:, :3], 1)
REAL = RNG.normal(size=(23, 2))
W = RNG.uniform(size=23) * (RNG.uniform(size=23) > 0.3)


def linear(out: int = 2, backend: str = "numpy", *, seed: int = 4) -> gnn.Model:
    x = gnn.Input((4,), name="x", dtype="f64")
    return gnn.Model(x, nn.FullyConnected(out, name="d")(x), seed=seed, backend=backend)


def logs(model: gnn.Model, x: np.ndarray) -> np.ndarray:
    z = x @ model.state["d/weight"] + model.state["d/bias"]
    return z - np.log(np.exp(z).sum(1, keepdims=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_gradient_descent_is_written_out(reduction: str, backend: str) -> None:
    """Three epochs with batches of unequal weight and a short last one."""
    model = linear(backend=backend)
    w, b = model.state["d/weight"], model.state["d/bias"]
    model.compile(nn.SGD(0.05), nn.SquaredError(reduction), "mean_squared_error")
    history = model.fit(X, REAL, sample_weight=W, epochs=3, batch_size=5, verbose=False)
    for epoch in range(3):
        whole = 0.0
        for rows in minibatches(epoch_order(23, seed=4, epoch=epoch), 5):
            error, weight = X[rows] @ w + b - REAL[rows], W[rows, None]
            whole += (weight * error ** 2).sum()
            d = 2 * weight * error / (2 * weight.sum() if reduction == "mean" else 1)
            w, b = w - 0.05 * X[rows].T @ d, b - 0.05 * d.sum(0)
        assert history["loss"][epoch] == pytest.approx(whole / W.sum() / (2 if reduction == "mean" else 1), rel=1e-10)
        assert history["mean_squared_error"][epoch] == pytest.approx(whole / W.sum() / 2, rel=1e-10)
    np.testing.assert_allclose(model.state["d/weight"], w, rtol=1e-10)
    np.testing.assert_allclose(model.state["d/bias"], b, rtol=1e-10)


def test_whole_weights_are_repetitions() -> None:
    count = np.arange(23) % 3
    weighted, repeated = linear(3), linear(3)
    for model in (weighted, repeated):
        model.compile(nn.SGD(0.3), "cross_entropy", ["accuracy", "f1(average='macro')"])
    a = weighted.fit(X, IDS, sample_weight=count, batch_size=23, shuffle=False, verbose=False)
    b = repeated.fit(np.repeat(X, count, 0), np.repeat(IDS, count), batch_size=100, shuffle=False, verbose=False)
    assert a.last() == pytest.approx(b.last(), rel=1e-10)
    np.testing.assert_allclose(weighted.state["d/weight"], repeated.state["d/weight"], rtol=1e-9)


@pytest.mark.parametrize("batch_size", [4, 23])
def test_history_is_over_all_weights_whatever_the_batches(batch_size: int) -> None:
    model = linear(3).compile(nn.SGD(0.0), "cross_entropy", ["accuracy"])
    history = model.fit(X, IDS, sample_weight=W, batch_size=batch_size, validation_data=(X, IDS, W), verbose=False)
    own = -logs(model, X)[np.arange(23), IDS]
    right = logs(model, X).argmax(1) == IDS
    expected = {"loss": (W * own).sum() / W.sum(), "accuracy": (W * right).sum() / W.sum()}
    assert model.evaluate(X, IDS, sample_weight=W, batch_size=batch_size) == pytest.approx(expected, rel=1e-10)
    assert history.last() == pytest.approx(expected | {f"val_{k}": v for k, v in expected.items()}, rel=1e-10)


def test_ignored_ids_count_for_nothing_over_an_epoch() -> None:
    ids = np.where(np.arange(23) % 4 == 0, -100, IDS)
    kept = ids >= 0
    model = linear(3).compile(nn.SGD(0.0), "cross_entropy", ["accuracy"])
    history = model.fit(X, ids, batch_size=5, shuffle=False, verbose=False)
    assert history.last() == pytest.approx(model.evaluate(X[kept], IDS[kept]), rel=1e-10)


def test_a_batch_without_weight_changes_nothing_and_is_no_nan() -> None:
    model = linear().compile(nn.SGD(0.1), "squared_error")
    before = bits(model)
    history = model.fit(X, REAL, sample_weight=np.zeros(23), batch_size=5, verbose=False)
    assert history["loss"] == [0.0]
    assert bits(model) == before


def test_weights_of_entries() -> None:
    """(N, T): one number for each step of each sequence."""
    x = gnn.Input(("T", 4), name="x", dtype="f64")
    model = gnn.Model(x, nn.FullyConnected(3, name="d")(x), backend="numpy").compile(nn.SGD(0.0), "cross_entropy")
    data, ids = RNG.normal(size=(6, 5, 4)), RNG.integers(0, 3, (6, 5))
    mask = RNG.uniform(size=(6, 5)) > 0.4
    own = -np.take_along_axis(logs(model, data.reshape(30, 4)), ids.reshape(30, 1), 1)[:, 0].reshape(6, 5)
    for weight in (mask, mask.astype(np.float32), mask.tolist()):
        found = model.fit(data, ids, sample_weight=weight, batch_size=4, verbose=False)["loss"][-1]
        assert found == pytest.approx(own[mask].mean(), rel=1e-10)
    each = np.arange(6.0)
    expected = (own.mean(1) * each).sum() / each.sum()
    assert model.evaluate(data, ids, sample_weight=each)["loss"] == pytest.approx(expected, rel=1e-10)
    numbers = RNG.uniform(size=(23, 2))
    model = linear().compile("sgd", "squared_error")
    error = (X @ model.state["d/weight"] - REAL) ** 2
    assert model.evaluate(X, REAL, sample_weight=numbers)["loss"] == pytest.approx(np.average(error, weights=numbers), rel=1e-10)


@pytest.mark.parametrize("targets", ["ids", "one-hot"])
@pytest.mark.parametrize("with_samples", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_class_weights_multiply_sample_weights_in_the_training_loss_alone(targets: str, with_samples: bool, backend: str) -> None:
    if backend == "numba" and not with_samples:
        return
    model = linear(3, backend).compile(nn.SGD(0.5), "cross_entropy", ["accuracy"])
    w = model.state["d/weight"]
    p = np.exp(logs(model, X))
    own, right = -logs(model, X)[np.arange(23), IDS], p.argmax(1) == IDS
    each = np.array([1.0, 0.25, 5.0])[IDS] * (W if with_samples else 1)
    y = IDS if targets == "ids" else np.eye(3)[IDS]
    sample = W if with_samples else None
    history = model.fit(X, y, sample_weight=sample, class_weight={2: 5, 1: 0.25}, batch_size=23, verbose=False)
    assert history["loss"][0] == pytest.approx((each * own).sum() / each.sum(), rel=1e-10)
    assert history["accuracy"][0] == pytest.approx(np.average(right, weights=sample), rel=1e-10)
    gradient = X.T @ ((p - np.eye(3)[IDS]) * each[:, None]) / each.sum()
    np.testing.assert_allclose(model.state["d/weight"], w - 0.5 * gradient, rtol=1e-8)


def test_class_weights_of_one_score() -> None:
    yes = (X[:, :1] > 0).astype(np.float64)
    model = linear(1).compile(nn.SGD(0.0), "binary_cross_entropy")
    z = X @ model.state["d/weight"] + model.state["d/bias"]
    own = np.log1p(np.exp(z)) - yes * z
    each = np.where(yes > 0, 4.0, 1.0)
    found = model.fit(X, yes, class_weight={1: 4.0}, batch_size=6, verbose=False)["loss"][0]
    assert found == pytest.approx((each * own).sum() / each.sum(), rel=1e-10)


def test_weights_by_output() -> None:
    x = gnn.Input((4,), name="x", dtype="f64")
    model = gnn.Model(x, {"a": nn.FullyConnected(3)(x), "b": nn.FullyConnected(2)(x)}, backend="numpy")
    model.compile(nn.SGD(0.0), ["cross_entropy", "squared_error"])
    plain = model.evaluate(X, (IDS, REAL))
    both = model.fit(X, (IDS, REAL), sample_weight=W, verbose=False).last()
    one = model.fit(X, (IDS, REAL), sample_weight={"a": W}, verbose=False).last()
    assert one["a_loss"] == pytest.approx(both["a_loss"])
    assert one["b_loss"] == pytest.approx(plain["b_loss"])
    assert both["b_loss"] != pytest.approx(plain["b_loss"])
    classes = model.fit(X, (IDS, REAL), class_weight={"a": {0: 3.0}}, verbose=False).last()
    assert classes["b_loss"] == pytest.approx(plain["b_loss"])
    assert classes["a_loss"] != pytest.approx(plain["a_loss"])


@pytest.mark.parametrize(("arguments", "words"), [
    ({"sample_weight": W[:20]}, ["x 23", "sample_weight 20"]), ({"sample_weight": -W}, ["sample_weight", "not negative"]),
    ({"sample_weight": np.where(W > 0.5, np.nan, W)}, ["sample_weight", "nan"]),
    ({"sample_weight": 2.0}, ["sample_weight", "()"]),
    ({"sample_weight": np.ones((23, 2))}, ["sample_weight", "(23, 2)", "(23,)"]),
    ({"sample_weight": ["a"] * 23}, ["sample_weight"]),
    ({"sample_weight": {"x": W}}, ["'x'", "the outputs with a loss are d"]), ({"class_weight": [1, 2]}, ["[1, 2]", "dictionary"]),
    ({"class_weight": {3: 1.0}}, ["class 3", "0 to 2"]), ({"class_weight": {0: -1}}, ["0", "-1"]),
    ({"class_weight": {"a": 1.0}}, ["'a'"]), ({"class_weight": {0: "x"}}, ["'x'"]),
    ({"class_weight": {0.0: 1.0}}, ["class 0.0", "0 to 2"]),
], ids=range(13))
def test_weights_that_do_not_fit(arguments: dict[str, Any], words: list[str]) -> None:
    model = linear(3).compile("adam", "cross_entropy")
    before = bits(model)
    with pytest.raises(GraphnnError) as caught:
        model.fit(X, IDS, verbose=False, **arguments)
    for word in words:
        assert word in notes(caught.value)
    assert bits(model) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_drop_last(backend: str) -> None:
    model = linear(backend=backend).compile(nn.SGD(0.1), "squared_error")
    steps: list[int] = []

    class Count:
        def on_batch_end(self, model: gnn.Model, step: int, numbers: dict[str, float]) -> None:
            steps.append(step)

    model.fit(X, REAL, batch_size=10, drop_last=True, verbose=False, callbacks=[Count()])
    assert steps == [1, 2]
    same = linear(backend=backend).compile(nn.SGD(0.1), "squared_error")
    rows = epoch_order(23, seed=4, epoch=0)[:20]
    history = same.fit(X[rows], REAL[rows], batch_size=10, shuffle=False, verbose=False)
    assert bits(same) == bits(model)
    assert history["loss"] == model.history["loss"]
    with pytest.raises(GraphnnError, match="drop_last leaves nothing"):
        model.fit(X, REAL, drop_last=True, verbose=False)
