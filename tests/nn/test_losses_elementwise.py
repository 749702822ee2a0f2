"""MeanAbsoluteError, Huber, BinaryCrossEntropy and KLDivergence against NumPy, with their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import NumericsError, ShapeError
from tests.nn.networks import BACKENDS
from tests.nn.test_losses_weighted import log_softmax, run

RNG = np.random.default_rng(17)
SHAPES = [(6, 4), (1, 1), (2, 3, 5), (7,)]
REDUCE: dict[str, Any] = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slope(loss: Any, x: np.ndarray, y: np.ndarray, backend: str = "numpy") -> np.ndarray:
    return run(lambda p, t: gnn.gradients(loss(p, t), [p])[0], x, y, backend=backend)


@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_errors_of_real_numbers(shape: tuple[int, ...], reduction: str) -> None:
    y = RNG.normal(size=shape)
    p = y + RNG.choice([-1.0, 1.0], shape) * RNG.uniform(0.05, 4.0, shape)        # finite differences stay off the kink
    d = np.abs(p - y)
    np.testing.assert_allclose(run(nn.MeanAbsoluteError(reduction), p, y), REDUCE[reduction](d), rtol=1e-12)
    gnn.check_gradients(nn.MeanAbsoluteError(reduction), [p, y])
    for delta in (0.3, 1.0, 2.5):
        expected = np.where(d <= delta, d ** 2 / 2, delta * (d - delta / 2))
        np.testing.assert_allclose(run(nn.Huber(reduction, delta), p, y), REDUCE[reduction](expected), rtol=1e-12)
        if (np.abs(d - delta) > 0.01).all():                     # away from the kink of the first derivative
            gnn.check_gradients(nn.Huber(reduction, delta), [p, y])


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_at_the_kinks(backend: str) -> None:
    x, y = np.array([2.0, -2.0, 0.0, 5.0, 1e300]), np.zeros(5)
    np.testing.assert_array_equal(slope(nn.Huber("sum", 2.0), x, y, backend), [2, -2, 0, 2, 2])
    np.testing.assert_array_equal(slope(nn.MeanAbsoluteError("sum"), x, y, backend), [1, -1, 0, 1, 1])
    np.testing.assert_allclose(slope(nn.BinaryCrossEntropy("sum"), x, y, backend), sigmoid(x), rtol=1e-15)
    assert run(nn.Huber("none", 2.0), x, y, backend=backend)[-1] == 2e300


@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize("pos_weight", [1.0, 3.5, "each"], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binary_cross_entropy(shape: tuple[int, ...], pos_weight: Any, reduction: str) -> None:
    x, y = RNG.normal(size=shape) * 3, RNG.uniform(0, 1, shape)
    y[0] = np.round(y[0])
    weight = RNG.uniform(0.5, 4, shape[-1]) if pos_weight == "each" else pos_weight
    p = sigmoid(x)
    expected = REDUCE[reduction](-(weight * y * np.log(p) + (1 - y) * np.log(1 - p)))
    for from_logits, given in ((True, x), (False, p)):
        loss = nn.BinaryCrossEntropy(reduction, from_logits, weight)
        np.testing.assert_allclose(run(loss, given, y), expected, rtol=1e-10)
        gnn.check_gradients(loss, [given if from_logits else RNG.uniform(0.3, 0.7, shape), y])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_far_out(dtype: Any, backend: str) -> None:
    x = np.array([-50.0, 50.0, -1e4, 1e4, 0.0], dtype)
    one, none = np.ones(5, dtype), np.zeros(5, dtype)
    loss = nn.BinaryCrossEntropy("none")
    np.testing.assert_allclose(run(loss, x, one, backend=backend), [50, np.exp(-50), 1e4, 0, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(run(loss, x, none, backend=backend), [np.exp(-50), 50, 0, 1e4, np.log(2)], rtol=1e-6)
    summed = nn.BinaryCrossEntropy("sum")
    np.testing.assert_allclose(slope(summed, x, one, backend), [-1, -np.exp(-50), -1, 0, -0.5], rtol=1e-6, atol=1e-20)
    # Probabilities of exactly 0 and 1: the logarithm counts as -100 and has no slope.
    p = np.array([0.0, 1.0, 0.0, 1.0, 0.5], dtype)
    y = np.array([0.0, 1.0, 1.0, 0.0, 0.5], dtype)
    certain = nn.BinaryCrossEntropy("none", from_logits=False)
    np.testing.assert_allclose(run(certain, p, y, backend=backend), [0, 0, 100, 100, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slope(nn.BinaryCrossEntropy("sum", False), p, y, backend), [1, -1, 0, 0, 0], atol=1e-7)
    # 1 / p would overflow.
    assert np.isfinite(slope(nn.BinaryCrossEntropy("sum", False), np.full(5, 1e-40, dtype), one, backend)).all()
    # No probabilities: that shows.
    assert np.isnan(run(certain, np.array([-0.1, 1.1, -3.0, 3.0, np.nan], dtype), p, backend=backend)).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_divergence(reduction: str, shape: tuple[int, ...]) -> None:
    x, logs = RNG.normal(size=shape), log_softmax(RNG.normal(size=shape))
    y = np.exp(log_softmax(RNG.normal(size=shape)))
    reduce = {**REDUCE, "batchmean": lambda each: each.sum() / len(each)}[reduction]
    forms = {"logits": (x, log_softmax(x)), "log_probabilities": (logs, logs), "probabilities": (np.exp(logs), logs)}
    for form, (given, log_p) in forms.items():
        expected = reduce(y * (np.log(y) - log_p))
        np.testing.assert_allclose(run(nn.KLDivergence(reduction, form), given, y), expected, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(run(nn.KLDivergence(reduction, form, True), given, np.log(y)), expected, rtol=1e-9, atol=1e-14)
        point = RNG.uniform(0.4, 0.9, shape) if form == "probabilities" else given
        gnn.check_gradients(nn.KLDivergence(reduction, form), [point, RNG.uniform(0.4, 0.9, shape)])
        gnn.check_gradients(nn.KLDivergence(reduction, form, True), [point, RNG.normal(size=shape)])
    if reduction == "batchmean":
        sample = RNG.uniform(0, 2, shape[0])
        each = (y * (np.log(y) - logs)).reshape(shape[0], -1).sum(1)
        actual = run(nn.KLDivergence(reduction), logs, y, sample)
        np.testing.assert_allclose(actual, (each * sample).sum() / sample.sum(), rtol=1e-9)
        np.testing.assert_allclose(run(nn.KLDivergence(reduction).terms, logs, y), [each.sum(), shape[0]], rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_divergence_of_nothing_is_0(backend: str) -> None:
    p, y = np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    for form, given in (("probabilities", p), ("log_probabilities", np.array([[-np.inf, 0.0], [np.log(0.5), np.log(0.5)]]))):
        loss = nn.KLDivergence("none", form)
        np.testing.assert_allclose(run(loss, given, y, backend=backend), [[0, 0], [0, np.log(2)]], atol=1e-15)
        assert np.isfinite(slope(nn.KLDivergence("sum", form), given, y, backend)).all()


def test_targets_that_are_no_probabilities() -> None:
    loss = nn.BinaryCrossEntropy()
    p = gnn.TensorType.parse("f32[N,1]")
    loss.check_targets(p, np.array([[0.0], [1.0]], np.float32))
    for bad in (-1.0, 1.5, np.nan):
        with pytest.raises(NumericsError, match=rf"the target {bad} at \[1, 0\]"):
            loss.check_targets(p, np.array([[0.0], [bad]], np.float32))


@pytest.mark.parametrize("loss", [nn.MeanAbsoluteError(), nn.Huber(), nn.BinaryCrossEntropy(), nn.KLDivergence()],
                         ids=lambda loss: type(loss).__name__)
def test_targets_of_another_shape(loss: nn.Loss) -> None:
    with pytest.raises(ShapeError, match=rf"{type(loss).__name__}: prediction f32\[N,3\] and target f32\[N,1\] differ"):
        loss(gnn.Input((3,), name="p"), gnn.Input((1,), name="y"))


def test_the_divergence_of_a_number_has_no_batch() -> None:
    p = gnn.sum(gnn.Input((3,), name="p"))
    with pytest.raises(ShapeError, match="batchmean"):
        nn.KLDivergence("batchmean")(p, p)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "huber(delta=0.5)", {"name": "mean_absolute_error"}], ids=str)
def test_three_steps_by_name(loss: Any) -> None:
    x = RNG.normal(size=(8, 3)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    features = gnn.Input((3,), name="x")
    model = gnn.Model(features, nn.FullyConnected(1)(features), name="probe", backend="numpy")
    model.compile(nn.SGD(0.1), loss)
    history = [model.fit(x, y, batch_size=8, epochs=1, verbose=False)["loss"][-1] for _ in range(4)]
    assert history == sorted(history, reverse=True)
    assert history[-1] < history[0]
