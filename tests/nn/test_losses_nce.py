"""NCELoss against NumPy: both forms, hits, shapes, gradients; its draws; what training it touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, GraphnnError, NumericsError, ShapeError
from graphnn.nn.sampling import AliasSampler
from tests.nn.networks import BACKENDS, notes

RNG = np.random.default_rng(20)
V, K = 7, 4
Q = np.array([0.3, 0.1, 0.2, 0.05, 0.15, 0.0, 0.2])


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def formula(x: np.ndarray, target: np.ndarray, negatives: np.ndarray, weight: np.ndarray, bias: np.ndarray, *,
            log_q: bool, mask: bool = True) -> np.ndarray:
    """Example by example, from the definition."""
    k = len(negatives)
    with np.errstate(divide="ignore"):
        offsets = bias - (np.log(k * Q) if log_q else 0)
    result = np.zeros(x.shape[:-1])
    for place in np.ndindex(*x.shape[:-1]):
        t = target[place[0]]
        result[place] = softplus(-(x[place] @ weight[t] + offsets[t]))
        for j in negatives:
            if j != t or not mask:
                result[place] += softplus(x[place] @ weight[j] + offsets[j])
    return result


def log_expected(k: int, sampler: AliasSampler) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(k * sampler.probabilities)


def with_parameters(layer: nn.NCELoss, x: gnn.Value, target: gnn.Value, negatives: gnn.Value, weight: gnn.Value,
                    bias: gnn.Value) -> gnn.Value:
    """The loss as a function of its parameters too."""
    layer.weight, layer.offset, layer._log_expected = weight, bias, gnn.constant(log_expected(layer.num_negatives, layer.sampler))
    return layer.each(x, target, negatives)


def values(*arrays: np.ndarray) -> list[gnn.Value]:
    return [gnn.placeholder(f"x{i}", gnn.TensorType.of(a)) for i, a in enumerate(arrays)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("log_q", [True, False], ids=["nce", "negative_sampling"])
@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (4, 2, 3)], ids=str)
def test_the_loss(shape: tuple[int, ...], log_q: bool, reduction: str, backend: str) -> None:
    x, target = RNG.normal(size=shape), RNG.choice(V, shape[0], p=Q)
    negatives = np.array([0, 2, 0, 6])
    layer = nn.NCELoss(V, K, Q, subtract_log_q=log_q, reduction=reduction)
    inputs = values(x, target, negatives)
    exe = gnn.compile(gnn.Graph.of("loss", inputs, [layer(*inputs)]), backend=backend)
    weight, bias = RNG.normal(size=(V, shape[-1])), RNG.normal(size=V)
    exe.state["nce_loss/weight"], exe.state["nce_loss/bias"] = weight, bias
    expected = formula(x, target, negatives, weight, bias, log_q=log_q)
    reduce: Any = {"mean": np.mean, "sum": np.sum, "none": lambda y: y}[reduction]
    np.testing.assert_allclose(exe(x, target, negatives), reduce(expected), rtol=1e-10)


@pytest.mark.parametrize("mask", [True, False], ids=["masked", "counted"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 3)], ids=str)
def test_gradients_with_accidental_hits(shape: tuple[int, ...], mask: bool) -> None:
    """numpy-ml drops the target's gradient where a negative hits it; here the negative goes, from loss and gradient alike."""
    x, target = RNG.normal(size=shape), np.array([2, 0, 4, 2])[:shape[0]]
    negatives = np.array([2, 2, 4, 1])                            # hits all but one of the targets, one of them twice
    layer = nn.NCELoss(V, K, Q, mask_hits=mask)
    layer(*values(x, target, negatives))
    weight, bias = RNG.normal(size=(V, 3)), RNG.normal(size=V)

    def loss(x: gnn.Value, weight: gnn.Value, bias: gnn.Value) -> gnn.Value:
        return with_parameters(layer, x, gnn.constant(target), gnn.constant(negatives), weight, bias)

    inputs = values(x, weight, bias)
    actual = gnn.compile(gnn.Graph.of("loss", inputs, [loss(*inputs)]), backend="numpy")(x, weight, bias)
    np.testing.assert_allclose(actual, formula(x, target, negatives, weight, bias, log_q=True, mask=mask), rtol=1e-10)
    gnn.check_gradients(loss, [x, weight, bias])


def test_log_probabilities_are_the_optimum_of_nce() -> None:
    """At s = log p the gradient, averaged over targets from p and noise from Q, is 0: NCE learns normalised probabilities."""
    q, p = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    layer = nn.NCELoss(3, 1, q, mask_hits=False)
    x, target, negatives = np.ones((1, 1)), gnn.placeholder("t", "i64[1]"), gnn.placeholder("n", "i64[1]")
    bias = gnn.placeholder("b", "f64[3]")
    layer(gnn.constant(x), target, negatives)
    each = with_parameters(layer, gnn.constant(x), target, negatives, gnn.constant(np.zeros((3, 1))), bias)
    graph = gnn.Graph.of("slope", [target, negatives, bias], list(gnn.gradients(gnn.sum(each), [bias])))
    slope = gnn.compile(graph, backend="numpy")
    expected = sum(p[t] * q[j] * slope(np.array([t]), np.array([j]), np.log(p)) for t in range(3) for j in range(3))
    np.testing.assert_allclose(expected, 0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_far_out_logits_keep_their_gradient(backend: str) -> None:
    """numpy-ml clips probabilities, and saturated examples stop learning."""
    x, target, negatives = np.array([[-500.0], [500.0]], np.float32), np.array([0, 0]), np.array([1])
    layer = nn.NCELoss(2, 1, subtract_log_q=False, reduction="none")
    inputs = values(x, target, negatives)
    y = layer(*inputs)
    exe = gnn.compile(gnn.Graph.of("loss", inputs, [y, *gnn.gradients(gnn.sum(y), [inputs[0]])]), backend=backend)
    exe.state["nce_loss/weight"] = np.array([[1.0], [1.0]], np.float32)
    loss, slope = exe(x, target, negatives)
    np.testing.assert_allclose(loss, [500, 500])
    np.testing.assert_allclose(slope, [[-1], [1]])


@pytest.mark.parametrize("replacement", [True, False])
def test_training_draws_anew_at_each_step_and_touches_only_drawn_rows(replacement: bool) -> None:
    x, target = gnn.Input((3,), name="x"), gnn.Input((), name="target", dtype="i32")
    layer = nn.NCELoss(1000, 8, replacement=replacement)
    loss = layer(x, target)
    updates = nn.SGD(0.5).updates(layer.parameters, gnn.gradients(loss, layer.parameters))
    graph = gnn.Graph.of("step", [x, target], [loss], updates=updates)
    data, ids = RNG.normal(size=(4, 3)).astype(np.float32), np.array([5, 5, 6, 7], np.int32)
    steps = {backend: gnn.compile(graph, backend=backend, seed=3) for backend in BACKENDS}
    touched: list[frozenset[int]] = []
    for _ in range(3):
        for step in steps.values():
            before = step.state["nce_loss/weight"].copy()
            step(data, ids)
            rows = np.flatnonzero((step.state["nce_loss/weight"] != before).any(1))
            touched.append(frozenset(rows.tolist()) - {5, 6, 7})
            assert {5, 6, 7} <= set(rows.tolist())
            assert len(rows) <= 3 + 8
        np.testing.assert_allclose(*(step.state["nce_loss/weight"] for step in steps.values()), rtol=1e-5, atol=1e-6)
    assert touched[0] == touched[1]                               # both back ends draw the same
    assert len(set(touched)) == 3                                 # and each step other classes
    infer = gnn.compile(gnn.Graph.of("evaluate", [x, target], [loss]), state=steps["numba"].state)
    assert infer(data, ids) == infer(data, ids)                   # evaluation changes nothing


def test_training_lowers_the_loss_of_all_classes() -> None:
    x, target = gnn.Input((5,), name="x"), gnn.Input((), name="target", dtype="i64")
    layer = nn.NCELoss(20, 5)
    loss = layer(x, target)
    whole = nn.CrossEntropy()(layer.scores(x), target)
    updates = nn.SGD(0.5).updates(layer.parameters, gnn.gradients(loss, layer.parameters))
    step = gnn.compile(gnn.Graph.of("step", [x, target], [loss, whole], updates=updates), backend="numpy")
    data = RNG.normal(size=(64, 5)).astype(np.float32)
    ids = np.argmax(data, 1)
    history = [float(step(data, ids)[1]) for _ in range(60)]
    assert history[-1] < 0.6 * history[0]


def test_one_layer_called_twice_shares_parameters_and_draws_twice() -> None:
    x, target = gnn.Input((3,), name="x"), gnn.Input((), name="target", dtype="i64")
    layer = nn.NCELoss(500, 6, reduction="none")
    a, b = layer(x, target), layer(x, target)
    assert len(layer.parameters) == 2
    both = gnn.compile(gnn.Graph.of("both", [x, target], [a, b]), backend="numpy")
    first, second = both(RNG.normal(size=(3, 3)).astype(np.float32), np.array([1, 2, 3]))
    assert (first != second).all()


def test_a_model_saved_in_the_middle_of_training_draws_on_from_there(tmp_path: Path) -> None:
    word, context = (gnn.Input((), name=name, dtype="i64") for name in ("word", "context"))
    h = nn.Embedding(50, 8)(word)
    nce = nn.NCELoss(50, 6, RNG.dirichlet(np.ones(50)), subtract_log_q=False, replacement=False)
    model = gnn.Model([word, context], h, losses={"nce": nce(h, context)}, backend="numpy")
    model.compile("sgd(lr=0.5)")
    words = RNG.integers(0, 50, 48)
    data = [words, (words + 1) % 50]
    losses = list(model.fit(data, batch_size=16, epochs=2, verbose=False)["loss"])
    assert losses[-1] < losses[0]
    model.save(tmp_path / "words.gnn")
    again = gnn.load(tmp_path / "words.gnn", backend="numpy")
    for both in (model, again):
        both.fit(data, batch_size=16, epochs=2, verbose=False)
    for name in model.state.names:
        np.testing.assert_array_equal(model.state[name], again.state[name])


@pytest.mark.parametrize("bad", [-1, V, 10 ** 10])
@pytest.mark.parametrize("which", ["target", "negatives"])
def test_ids_out_of_range(which: str, bad: int) -> None:
    x, target, negatives = np.zeros((2, 3)), np.array([0, 1]), np.array([1, 2, 3, 4])
    {"target": target, "negatives": negatives}[which][1] = bad
    inputs = values(x, target, negatives)
    exe = gnn.compile(gnn.Graph.of("loss", inputs, [nn.NCELoss(V, K, Q)(*inputs)]), backend="numpy")
    with pytest.raises(NumericsError, match="class"):
        exe(x, target, negatives)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.NCELoss(0, 1), ["classes", "0"]), (lambda: nn.NCELoss(5, 0), ["num_negatives", "0"]),
    (lambda: nn.NCELoss(5, 2, [0.5, 0.5]), ["2 probabilities", "5 classes"]),
    (lambda: nn.NCELoss(2, 2, [0.5, 0.6]), ["sum to 1.1"]),
    (lambda: nn.NCELoss(3, 3, [0.5, 0.5, 0.0], replacement=False), ["cannot draw 3", "only 2 of 3"]),
    (lambda: nn.NCELoss(8, 64, replacement=False), ["cannot draw 64", "only 8"]),
    (lambda: nn.NCELoss(5, 2, reduction="median"), ["reduction", "median"]),
    (lambda: nn.NCELoss(5, 2, subtract_log_q="no"), ["subtract_log_q", "'no'"]),  # pyright: ignore
    (lambda: nn.NCELoss(5, 2, init="zero"), ["zero"])])
def test_impossible_arguments_are_named(make: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)


def test_inputs_that_do_not_fit() -> None:
    x, ids = gnn.Input((3,), name="x"), gnn.Input((), name="ids", dtype="i64")
    with pytest.raises(ShapeError, match=r"x is f32\[N\]"):
        nn.NCELoss(5, 2)(gnn.sum(x, 1), ids)
    with pytest.raises(DTypeError, match=r"target is f32\[N\]"):
        nn.NCELoss(5, 2)(x, gnn.sum(x, 1))
    with pytest.raises(ShapeError, match=r"target is i64\[N,3\]"):
        nn.NCELoss(5, 2)(x, gnn.Input((3,), name="t", dtype="i64"))
    with pytest.raises(ShapeError, match=r"negatives are i64\[3\]; they must be \[2\]"):
        nn.NCELoss(5, 2)(x, ids, gnn.constant(np.arange(3)))
    with pytest.raises(DTypeError, match=r"NCELoss takes real numbers, not i64\[N,3\]"):
        nn.NCELoss(5, 2)(gnn.Input((3,), name="t", dtype="i64"), ids)
