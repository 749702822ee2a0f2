"""Weights in losses: class weights, ignored ids, label smoothing, sample weights; terms that add up over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.nn.described import DescriptionError, describe, to_dict
from graphnn.nn.losses import BY_NAME, Loss, as_loss
from tests.nn.networks import BACKENDS, notes

RNG = np.random.default_rng(16)
SHAPES = [(6, 4), (1, 1), (2, 3, 5), (7, 2)]


def run(function: Callable[..., Any], *arrays: np.ndarray, backend: str = "numpy") -> Any:
    values = [gnn.placeholder(f"x{i}", gnn.TensorType.of(a)) for i, a in enumerate(arrays)]
    made = function(*values)
    return gnn.compile(gnn.Graph.of("f", values, made if isinstance(made, tuple) else [made]), backend=backend)(*arrays)


def log_softmax(x: np.ndarray) -> np.ndarray:
    top = x.max(-1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))


def entries(logs: np.ndarray, target: np.ndarray, weight: np.ndarray, smoothing: float,
            ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's definition: the weighted loss of each entry, and what it counts in the mean."""
    classes = logs.shape[-1]
    if target.dtype.kind == "f":
        y = (1 - smoothing) * target + smoothing / classes
        return -(weight * y * logs).sum(-1), np.ones(logs.shape[:-1])
    kept = target != ignore
    ids = np.where(kept, target, 0)
    y = (1 - smoothing) * np.eye(classes)[ids] + smoothing / classes
    return -(weight * y * logs).sum(-1) * kept, weight[ids] * kept


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
def test_cross_entropy_with_every_option(shape: tuple[int, ...], smoothing: float, weighted: bool, from_logits: bool) -> None:
    classes = shape[-1]
    x = RNG.normal(size=shape) * 3
    logs = log_softmax(x)
    x = x if from_logits else np.exp(logs)
    ids = RNG.integers(0, classes, shape[:-1])
    ids[RNG.random(ids.shape) < 0.3] = -7
    weight = RNG.uniform(0.1, 3.0, classes) if weighted else np.ones(classes)
    for target in (ids, RNG.dirichlet(np.ones(classes), shape[:-1])):
        each, counts = entries(logs, target, weight, smoothing, -7)
        given: Any = {"from_logits": from_logits, "weight": weight if weighted else None, "label_smoothing": smoothing,
                      "ignore_index": -7}
        expected = {"none": each, "sum": each.sum(), "mean": each.sum() / counts.sum() if counts.sum() else 0.0}
        for reduction, value in expected.items():
            actual = run(nn.CrossEntropy(reduction, **given), x, target)
            np.testing.assert_allclose(actual, value, rtol=1e-10, atol=1e-13)
        # Sample weights multiply both sums.
        sample = RNG.uniform(0, 2, shape[0]).reshape(-1, *(1 for _ in shape[2:]))
        total, count = run(nn.CrossEntropy(**given).terms, x, target, sample.reshape(-1))
        np.testing.assert_allclose(total, (each * sample).sum(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(count, (counts * sample).sum(), rtol=1e-12, atol=1e-14)
        point = x if from_logits else RNG.uniform(0.4, 0.9, shape)                   # finite differences need room below p
        gnn.check_gradients(lambda v, target=target, given=given: nn.CrossEntropy(**given)(v, gnn.constant(target)), [point])


def test_a_class_weight_of_0_leaves_the_class_out_but_its_smoothing_counts() -> None:
    x, ids = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0, 1])
    loss = nn.CrossEntropy(weight=(0.0, 2.0))
    np.testing.assert_allclose(run(loss, x, ids), -log_softmax(x)[1, 1])
    smooth = nn.CrossEntropy("sum", weight=(0.0, 2.0), label_smoothing=0.5)
    logs = log_softmax(x)
    np.testing.assert_allclose(run(smooth, x, ids), -2 * (0.25 * logs[0, 1] + 0.75 * logs[1, 1]))


def test_the_default_ignored_id_is_pytorchs() -> None:
    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(run(nn.CrossEntropy(), x, np.array([2, -100, -100])), -log_softmax(x)[0, 2])
    with pytest.raises(NumericsError, match="class"):
        run(nn.CrossEntropy(ignore_index=None), x, np.array([2, -100, 0]))
    padded = run(nn.CrossEntropy("none", ignore_index=0), x, np.array([2, 0, 0]))
    np.testing.assert_allclose(padded, [-log_softmax(x)[0, 2], 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_entries_without_weight_give_0_and_no_gradient(backend: str) -> None:
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    nothing = np.full(3, -100)

    def both(p: gnn.Value, y: gnn.Value) -> tuple[gnn.Value, ...]:
        loss = nn.CrossEntropy()(p, y)
        return loss, gnn.gradients(loss, [p])[0]

    loss, slope = run(both, x, nothing, backend=backend)
    assert loss == 0.0
    np.testing.assert_array_equal(slope, 0.0)
    for one in BY_NAME.values():
        zeros = np.zeros(3, np.float32)
        y = RNG.dirichlet(np.ones(4), 3).astype(np.float32)
        assert run(one(), -y, y, zeros) == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_logits_in_float32(backend: str) -> None:
    x = np.array([[1e30, -1e30, 0.0], [-3e38, 3e38, 1.0], [88.0, -200.0, 5.0]], np.float32)
    ids = np.array([0, 1, 1])
    np.testing.assert_allclose(run(nn.CrossEntropy("none"), x, ids, backend=backend), [0.0, 0.0, 288.0], atol=1e-6)
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    binary = run(nn.BinaryCrossEntropy("none"), x, y, backend=backend)
    expected = [[0, 0, np.log(2)], [0, 0, np.log1p(np.e)], [0, 200, np.log1p(np.exp(5))]]
    np.testing.assert_allclose(binary, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 2)], ids=str)
def test_terms_of_batches_add_up_to_the_loss_of_all(name: str, shape: tuple[int, ...]) -> None:
    x, y = RNG.uniform(0.1, 0.9, shape), RNG.uniform(0.1, 0.9, shape)
    sample = RNG.uniform(0, 2, shape[0])
    if name == "cross_entropy" and len(shape) == 1:
        shape, x, y = (5, 1), x[:, None], y[:, None]
    loss = BY_NAME[name]()
    parts = [run(loss.terms, x[i:j], y[i:j], sample[i:j]) for i, j in ((0, 1), (1, shape[0]))]
    np.testing.assert_allclose(run(loss, x, y, sample), sum(t for t, _ in parts) / sum(w for _, w in parts), rtol=1e-12)
    each = run(BY_NAME[name]("none"), x, y)
    aligned = sample.reshape(-1, *(1 for _ in each.shape[1:]))
    np.testing.assert_allclose(run(BY_NAME[name]("none"), x, y, sample), each * aligned, rtol=1e-12)
    np.testing.assert_allclose(run(BY_NAME[name]("sum"), x, y, sample), (each * aligned).sum(), rtol=1e-12)
    np.testing.assert_allclose(run(loss, x, y, sample), (each * aligned).sum() / np.broadcast_to(aligned, each.shape).sum())
    np.testing.assert_allclose(run(loss.terms, x, y), [each.sum(), each.size], rtol=1e-12)
    np.testing.assert_allclose(run(loss, x, y, np.ones(len(x))), run(loss, x, y), rtol=1e-12)


def test_sample_weights_of_each_element_and_of_symbolic_batches() -> None:
    x, y = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    mask = RNG.random((4, 3)) < 0.5
    np.testing.assert_allclose(run(nn.SquaredError(), x, y, mask.astype(float)), ((x - y)[mask] ** 2).mean())
    p, t, w = (gnn.Input(s, name=n, dtype="f64") for n, s in (("p", (3,)), ("t", (3,)), ("w", ())))
    loss = gnn.compile(gnn.Graph.of("loss", [p, t, w], [nn.SquaredError()(p, t, w)]), backend="numpy")
    for n in (1, 4):
        sample = np.arange(1.0, n + 1)
        expected = ((x - y)[:n] ** 2 * sample[:, None]).sum() / (3 * sample.sum())
        np.testing.assert_allclose(loss(x[:n], y[:n], sample), expected)


def test_sample_weights_that_do_not_fit() -> None:
    p, y = gnn.Input((3,), name="p"), gnn.Input((3,), name="y")
    with pytest.raises(DTypeError, match=r"sample_weight is f64\[N\]"):
        nn.SquaredError()(p, y, gnn.Input((), name="w", dtype="f64"))
    for shape in ((4,), (1,), (3, 1)):
        with pytest.raises(ShapeError, match=r"sample_weight is .* leading axes"):
            nn.SquaredError("none")(p, y, gnn.Input(shape, name="w"))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.CrossEntropy(weight=[1.0, -1.0]), ["weight", "-1.0", "none negative"]),
    (lambda: nn.CrossEntropy(weight=[]), ["weight", "[]"]),
    (lambda: nn.CrossEntropy(weight=[[1.0]]), ["weight"]),
    (lambda: nn.CrossEntropy(weight=3.0), ["weight", "3.0"]),  # pyright: ignore
    (lambda: nn.CrossEntropy(weight=[np.nan]), ["weight", "nan"]),
    (lambda: nn.CrossEntropy(label_smoothing=1.5), ["label_smoothing", "1.5"]),
    (lambda: nn.CrossEntropy(label_smoothing=-0.1), ["label_smoothing", "-0.1"]),
    (lambda: nn.CrossEntropy(ignore_index=0.5), ["ignore_index", "0.5"]),  # pyright: ignore
    (lambda: nn.BinaryCrossEntropy(pos_weight=-2.0), ["pos_weight", "-2.0"]),
    (lambda: nn.BinaryCrossEntropy(pos_weight="much"), ["pos_weight", "much"]),  # pyright: ignore
    (lambda: nn.Huber(delta=0), ["delta", "0", "above 0"]),
    (lambda: nn.KLDivergence("average"), ["reduction", "average", "batchmean"]),
    (lambda: nn.KLDivergence(form="odds"), ["form", "odds", "log_probabilities"]),
    (lambda: nn.SquaredError("batchmean"), ["reduction", "batchmean"]),
    (lambda: nn.VAELoss(beta=-1), ["beta", "-1"]), (lambda: nn.VAELoss(decoder="cauchy"), ["decoder", "cauchy", "gaussian"]),
    (lambda: nn.VAELoss(variance=0.0), ["variance", "0.0"]), (lambda: nn.WGAN_GPLoss(-1), ["lambda_", "-1"]),
    (lambda: nn.WGAN_GPLoss(reduction="avg"), ["reduction", "avg"]),
])
def test_impossible_arguments_are_named(make: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(DescriptionError) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)


def test_class_weights_of_another_number_than_the_classes() -> None:
    p, y = gnn.Input((3,), name="p"), gnn.Input((3,), name="y")
    with pytest.raises(ShapeError, match=r"weight has 2 numbers, the prediction f32\[N,3\] 3 classes"):
        nn.CrossEntropy(weight=(1.0, 2.0))(p, gnn.Input((), name="ids", dtype="i64"))
    with pytest.raises(ShapeError, match=r"pos_weight has 2 numbers.* f32\[N,3\]"):
        nn.BinaryCrossEntropy(pos_weight=(1.0, 2.0))(p, y)


@pytest.mark.parametrize("loss", [
    nn.CrossEntropy("sum", weight=np.array([1, 2.5, 0]), label_smoothing=0.25, ignore_index=np.int64(3)),  # pyright: ignore
    nn.CrossEntropy(ignore_index=None), nn.BinaryCrossEntropy(pos_weight=[1, 2]),  # pyright: ignore[reportArgumentType]
    nn.BinaryCrossEntropy("sum", False, 3), nn.Huber(delta=2), nn.MeanAbsoluteError("none"), nn.SquaredError(),
    nn.KLDivergence("batchmean", form="logits", log_target=True)], ids=lambda loss: type(loss).__name__)
def test_losses_are_written_and_read_back(loss: Loss) -> None:
    again = as_loss(describe(loss))
    assert again == loss
    assert hash(again) == hash(loss)
    assert as_loss(to_dict(loss)) == loss
