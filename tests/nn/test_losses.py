"""Losses and metrics against NumPy float64, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, GraphnnError, NumericsError, ShapeError
from graphnn.nn.losses import as_loss
from graphnn.nn.metrics import as_metric
from tests.nn.networks import BACKENDS, notes

RNG = np.random.default_rng(6)
REDUCE: dict[str, Any] = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}


def value_of(function: Any, prediction: np.ndarray, target: np.ndarray, backend: str = "numpy") -> np.ndarray:
    p = gnn.placeholder("p", gnn.TensorType.of(prediction))
    t = gnn.placeholder("t", gnn.TensorType.of(target))
    return gnn.compile(gnn.Graph.of("loss", [p, t], [function(p, t)]), backend=backend)(prediction, target)


def log_softmax(x: np.ndarray) -> np.ndarray:
    top = x.max(-1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_error(dtype: Any, reduction: str, backend: str) -> None:
    p, y = RNG.normal(size=(5, 3)).astype(dtype), RNG.normal(size=(5, 3)).astype(dtype)
    actual = value_of(nn.SquaredError(reduction), p, y, backend)
    np.testing.assert_allclose(actual, REDUCE[reduction]((p.astype(float) - y) ** 2), rtol=1e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (2, 3, 7)], ids=str)
def test_cross_entropy_of_ids_one_hot_and_soft_targets(shape: tuple[int, ...], reduction: str, backend: str) -> None:
    x = RNG.normal(size=shape) * 5
    ids = RNG.integers(0, shape[-1], shape[:-1])
    one_hot = np.eye(shape[-1])[ids]
    soft = RNG.dirichlet(np.ones(shape[-1]), shape[:-1])
    loss = nn.CrossEntropy(reduction)
    for target, meaning in ((ids, one_hot), (one_hot, one_hot), (soft, soft)):
        expected = REDUCE[reduction](-(meaning * log_softmax(x)).sum(-1))
        np.testing.assert_allclose(value_of(loss, x, target, backend), expected, rtol=1e-11, atol=1e-14)


def test_cross_entropy_of_probabilities() -> None:
    p = RNG.dirichlet(np.ones(4), 6)
    ids = RNG.integers(0, 4, 6)
    loss = nn.CrossEntropy(from_logits=False)
    np.testing.assert_allclose(value_of(loss, p, ids), -np.log(p[np.arange(6), ids]).mean(), rtol=1e-12)
    np.testing.assert_allclose(value_of(loss, p, np.eye(4)[ids]), -np.log(p[np.arange(6), ids]).mean(), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_0_train_on(dtype: type, backend: str) -> None:
    """What a float32 softmax gives for scores 200 apart: the loss is finite, and so are the gradients through the softmax."""
    scores, ids = np.array([[200.0, 0.0, 0.0], [0.0, 0.0, 0.0], [90.0, 0.0, 0.0]], dtype), np.array([1, 2, 1])
    for smoothing in (0.0, 0.1):
        for target in (ids, np.eye(3, dtype=dtype)[ids]):
            x, t = gnn.placeholder("x", gnn.TensorType.of(scores)), gnn.placeholder("t", gnn.TensorType.of(target))
            loss = nn.CrossEntropy("sum", from_logits=False, label_smoothing=smoothing)(gnn.softmax(x), t)
            graph = gnn.Graph.of("loss", [x, t], [loss, *gnn.gradients(loss, [x])])
            found, slopes = gnn.compile(graph, backend=backend)(scores, target)
            assert 150 < found < 300
            assert np.isfinite(slopes).all()
            np.testing.assert_allclose(slopes[1].sum(), 0, atol=1e-6)
    exact = value_of(nn.CrossEntropy("none", from_logits=False), np.eye(3, dtype=dtype), np.array([0, 0, 2]), backend)
    np.testing.assert_allclose(exact, [0, 100, 0])
    assert np.isnan(value_of(nn.CrossEntropy(from_logits=False), np.array([[2.0, -1.0]], dtype), np.array([1]), backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_cross_entropy_far_out_and_masked(backend: str) -> None:
    x = np.array([[1e4, 0.0, -1e4], [0.0, -np.inf, 1.0], [-np.inf, 2.0, -np.inf]])
    ids = np.array([1, 0, 1])
    expected = np.array([1e4, np.log1p(np.e), 0.0])
    each = nn.CrossEntropy("none")
    np.testing.assert_allclose(value_of(each, x, ids, backend), expected, rtol=1e-12)
    np.testing.assert_allclose(value_of(each, x, np.eye(3)[ids], backend), expected, rtol=1e-12)
    assert value_of(each, x, np.array([1, 1, 1]), backend)[1] == np.inf          # a class of probability 0

    def gradient(p: gnn.Value, t: gnn.Value) -> gnn.Value:
        return gnn.gradients(nn.CrossEntropy("sum")(p, t), [p])[0]

    soft = np.exp(log_softmax(x))
    for target in (ids, np.eye(3)[ids]):
        np.testing.assert_allclose(value_of(gradient, x, target, backend), soft - np.eye(3)[ids], atol=1e-14)


@pytest.mark.parametrize("reduction", sorted(REDUCE))
def test_gradients_of_losses(reduction: str) -> None:
    x, y = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    ids, soft = RNG.integers(0, 3, 4), RNG.dirichlet(np.ones(3), 4)
    gnn.check_gradients(nn.SquaredError(reduction), [x, y])
    gnn.check_gradients(nn.CrossEntropy(reduction), [x, ids])
    gnn.check_gradients(nn.CrossEntropy(reduction), [x, soft])
    gnn.check_gradients(nn.CrossEntropy(reduction, from_logits=False), [soft, ids])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [-1, 3, 10 ** 12])
def test_an_id_out_of_range_is_an_error_when_the_graph_runs(bad: int, backend: str) -> None:
    with pytest.raises(NumericsError, match="class"):
        value_of(nn.CrossEntropy(), np.zeros((2, 3)), np.array([0, bad]), backend)


def test_shapes_that_do_not_fit_are_errors_at_the_users_line() -> None:
    p = gnn.Input((3,), name="p")
    with pytest.raises(ShapeError, match=r"SquaredError: prediction f32\[N,3\] and target f32\[N,1\]"):
        nn.SquaredError()(p, gnn.Input((1,), name="y"))
    with pytest.raises(ShapeError, match=r"integer targets for f32\[N,3\] have shape \[N\], not i64\[N,3\]"):
        nn.CrossEntropy()(p, gnn.Input((3,), name="y", dtype="i64"))
    with pytest.raises(DTypeError, match=r"type f32\[N,3\], not f32\[N,4\]"):
        nn.CrossEntropy()(p, gnn.Input((4,), name="y"))
    with pytest.raises(ShapeError, match="no axis of classes"):
        nn.CrossEntropy()(gnn.sum(p), gnn.Input((), name="y", dtype="i64"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_metrics(backend: str) -> None:
    p = RNG.normal(size=(7, 4)).astype(np.float32)
    ids = RNG.integers(0, 4, 7)
    expected = np.mean(p.argmax(1) == ids)
    accuracy = as_metric("accuracy")
    np.testing.assert_allclose(value_of(accuracy, p, ids, backend), expected, rtol=1e-6)
    np.testing.assert_allclose(value_of(accuracy, p, np.eye(4, dtype=np.float32)[ids], backend), expected, rtol=1e-6)
    y = RNG.normal(size=(7, 4)).astype(np.float32)
    np.testing.assert_allclose(value_of(as_metric("mean_squared_error"), p, y, backend), ((p - y) ** 2).mean(), rtol=1e-5)


def test_losses_by_name() -> None:
    assert as_loss("cross_entropy") == nn.CrossEntropy()
    assert as_loss("cross_entropy(reduction='sum', from_logits=False)") == nn.CrossEntropy("sum", from_logits=False)
    assert as_loss("SquaredError") == nn.SquaredError()


@pytest.mark.parametrize(("given", "words"), [
    ("hinge", ["hinge", "squared_error", "cross_entropy"]), ("cross_entropy(sharp=1)", ["sharp", "reduction", "from_logits"]),
    ("cross_entropy(reduction='median')", ["reduction", "median", "mean, sum, none"]), ("cross_entropy(", ["name(key=value"]),
    ("cross_entropy(reduction=__import__('os'))", ["name(key=value"]), (3, ["int", "no loss"])], ids=str)
def test_descriptions_of_no_loss(given: Any, words: list[str]) -> None:
    with pytest.raises((GraphnnError, ValueError)) as caught:
        as_loss(given)
    assert isinstance(caught.value, GraphnnError)
    for word in words:
        assert word in notes(caught.value)
