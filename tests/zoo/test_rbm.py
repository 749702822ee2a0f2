"""zoo.RBM against formulas in NumPy and sums over all states; what it learns; resuming; bad input."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn.errors import DTypeError, FileFormatError, GraphnnError, NumericsError, ShapeError, VerifyError
from graphnn.nn.bundle import Bundle
from graphnn.zoo import RBM


def stripes(count: int, seed: int = 0) -> np.ndarray:
    """Two patterns of eight pixels, one unit in twenty wrong."""
    rng = np.random.default_rng(seed)
    pure = np.repeat(np.eye(2), 4, axis=1)[rng.integers(0, 2, count)]
    return np.abs(pure - (rng.uniform(size=pure.shape) < 0.05)).astype(np.float32)


def small(**arguments: Any) -> RBM:
    return RBM(**{"n_hidden": 6, "optimizer": "sgd(lr=0.3)", "backend": "numpy", "seed": 1, **arguments})


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def weights(rbm: RBM) -> list[np.ndarray]:
    return [rbm.state[f"rbm/{label}"].astype(np.float64) for label in ("weight", "visible_bias", "hidden_bias")]


def free_energy(v: np.ndarray, rbm: RBM) -> np.ndarray:
    w, b, c = weights(rbm)
    return -v @ b - np.logaddexp(0, v @ w + c).sum(1)


def arrays(rbm: RBM) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in rbm.state.arrays().items()}


@pytest.mark.parametrize(("backend", "dtype", "close"), [("numpy", "f32", 1e-5), ("numba", "f32", 1e-5), ("numba", "f64", 1e-13)])
def test_what_it_says_of_data_is_as_by_the_formulas(backend: str, dtype: str, close: float) -> None:
    rbm = RBM(3, 4, init="normal(std=1)", backend=backend, dtype=dtype)
    rbm.set_weights({name: array + 0.1 for name, array in rbm.get_weights().items()})
    v = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    w, b, c = weights(rbm)
    np.testing.assert_allclose(rbm.transform(v), sigmoid(v @ w + c), rtol=close)
    np.testing.assert_allclose(rbm.inverse_transform(v[:5, :3]), sigmoid(v[:5, :3] @ w.T + b), rtol=close)
    np.testing.assert_allclose(rbm.free_energy(v), free_energy(v, rbm), rtol=close)
    np.testing.assert_array_equal(rbm.filters, rbm.state["rbm/weight"].T)
    exact = np.zeros(len(v))
    for unit in range(4):
        flipped = v.copy()
        flipped[:, unit] = 1 - v[:, unit]
        here, there = np.exp(-free_energy(v, rbm)), np.exp(-free_energy(flipped, rbm))
        exact += np.log(here / (here + there))
    np.testing.assert_allclose(rbm.pseudo_likelihood(v), exact, rtol=close)
    np.testing.assert_allclose(rbm.evaluate(v)["loss"], -exact.mean(), rtol=close)


def test_a_step_of_persistent_chains_without_chance() -> None:
    """Weights so large that every draw is certain, and more chains than examples: the update can be written out."""
    rbm = small(n_hidden=3, n_visible=4, chains=5, k=3, weight_decay=0.01)
    rng = np.random.default_rng(3)
    w, b, c = (5000 * rng.normal(size=shape) for shape in ((4, 3), (4,), (3,)))
    hidden = (rng.uniform(size=(5, 3)) < 0.5).astype(float)
    rbm.state.update({"rbm/weight": w, "rbm/visible_bias": b, "rbm/hidden_bias": c, "rbm/chains": hidden})
    w, b, c = weights(rbm)
    x = (rng.uniform(size=(2, 4)) < 0.5).astype(np.float32)
    model = hidden
    for _ in range(3):
        model = (hidden @ w.T + b > 0).astype(float)
        hidden = (model @ w + c > 0).astype(float)
    p = (x @ w + c > 0).astype(float)
    rbm.fit(x, epochs=1, batch_size=2, verbose=False)
    np.testing.assert_allclose(rbm.state["rbm/weight"], w - 0.3 * (model.T @ hidden / 5 - x.T @ p / 2 + 0.01 * w), rtol=1e-5)
    np.testing.assert_allclose(rbm.state["rbm/visible_bias"], b - 0.3 * (model.mean(0) - x.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(rbm.state["rbm/hidden_bias"], c - 0.3 * (hidden.mean(0) - p.mean(0)), rtol=1e-5)
    np.testing.assert_array_equal(rbm.state["rbm/chains"], hidden)


@pytest.mark.parametrize("chains", [0, 20])
def test_it_learns_the_patterns(chains: int) -> None:
    """By chance a unit costs log 2, 5.5 nats in all; of the truth the pseudo-likelihood is -8 x 0.2 = -1.6."""
    rbm = small(chains=chains)
    held_out = stripes(100, seed=5)
    history = rbm.fit(stripes(400), epochs=40, batch_size=20, validation_data=held_out, verbose=False)
    assert history["loss"][0] > 3.5
    assert history["val_loss"][-1] < 2.2
    assert history["val_loss"][-1] == rbm.evaluate(held_out)["loss"]
    np.testing.assert_allclose(history["val_free_energy"][-1], rbm.free_energy(held_out).mean(), rtol=1e-6)
    drawn = rbm.sample(300, 50, seed=3)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    left, right = drawn[:, :4].mean(1), drawn[:, 4:].mean(1)
    assert (np.abs(left - right) > 0.4).mean() > 0.85    # of noise 30 %
    assert 0.2 < (left > right).mean() < 0.8             # both patterns
    mended = rbm.reconstruct([[1, 1, 0, 1, 0, 0, 0, 0]], sample=False, seed=0)
    np.testing.assert_array_equal(mended.round(), [[1, 1, 1, 1, 0, 0, 0, 0]])


def test_draws_follow_from_the_seed() -> None:
    rbm = small(n_visible=8)
    x = stripes(30)
    for draw in (lambda **seed: rbm.gibbs(x, 2, **seed), lambda **seed: rbm.sample(30, 3, **seed),
                 lambda **seed: rbm.reconstruct(x, 2, **seed)):
        before = arrays(rbm)
        np.testing.assert_array_equal(draw(seed=4), draw(seed=4))
        assert (draw(seed=4) != draw(seed=5)).any()
        assert (draw() != draw()).any()
        assert arrays(rbm) == before


def test_gibbs_sampling_reaches_the_distribution_of_the_model() -> None:
    rbm = small(n_hidden=2, n_visible=3, init="normal(std=1.5)")
    states = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    likely = np.exp(-free_energy(states, rbm))
    drawn = rbm.sample(20_000, 30, seed=1)
    found = np.bincount((drawn @ [4, 2, 1]).astype(int), minlength=8) / len(drawn)
    np.testing.assert_allclose(found, likely / likely.sum(), atol=0.015)


@pytest.mark.parametrize("arguments", [
    {}, {"chains": 7, "k": 2, "optimizer": "adam(lr=exponential_scheduler(initial_lr=0.01))"}])
def test_training_is_the_same_for_any_number_of_threads_and_resumes_bit_for_bit(arguments: Any, tmp_path: Path) -> None:
    x, before = stripes(100), gnn.threads()
    whole = small(**arguments, backend="numba")
    whole.fit(x, epochs=4, batch_size=16, verbose=False)
    gnn.set_threads(1)
    try:
        part = small(**arguments, backend="numba")

        class Stop:
            def on_batch_end(self, network: RBM, step: int, numbers: Any) -> None:
                if network.epoch == 1 and step == 3:
                    network.save(tmp_path / "rbm.gnn")
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            part.fit(x, epochs=4, batch_size=16, verbose=False, callbacks=[Stop()])
        loaded = RBM.load(tmp_path / "rbm.gnn")
        loaded.fit(x, epochs=3, batch_size=16, verbose=False)
    finally:
        gnn.set_threads(before)
    assert arrays(loaded) == arrays(whole)
    assert loaded.history.columns == whole.history.columns
    assert loaded.arguments() == whole.arguments()
    np.testing.assert_array_equal(loaded.sample(3, 5, seed=1), whole.sample(3, 5, seed=1))


def test_the_file_serves_without_the_class(tmp_path: Path) -> None:
    rbm = small()
    x = stripes(40)
    rbm.fit(x, epochs=2, verbose=False)
    rbm.save(tmp_path / "rbm.gnn", training=False)
    bundle: Any = gnn.load(tmp_path / "rbm.gnn", backend="numpy")
    np.testing.assert_array_equal(bundle.run("transform", x), rbm.transform(x))
    np.testing.assert_array_equal(bundle.run("gibbs", x, 3, [0, 1])[0], rbm.gibbs(x, 2, seed=3))
    other = tmp_path / "other.gnn"
    Bundle({"transform": rbm.graphs["transform"]}, state=rbm.state).save(other)
    with pytest.raises(FileFormatError, match="no RBM can be made of it"):
        RBM.load(other)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"n_hidden": 0}, "RBM: n_hidden is 0"), ({"n_visible": -1}, "RBM: n_visible is -1"), ({"k": 0}, "RBM: k is 0"),
    ({"chains": -1}, "RBM: chains is -1"), ({"weight_decay": -0.1}, "weight_decay is -0.1"), ({"optimizer": "sdg"}, "sdg"),
    ({"init": "nrmal"}, "nrmal"), ({"dtype": "i64"}, "dtype is i64")])
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((GraphnnError, ValueError), match=words):
        small(**arguments)


@pytest.mark.parametrize(("x", "error", "words"), [
    (np.full((4, 8), 1.5), NumericsError, r"x has 1.5 at \[0, 0\]; units are between 0 and 1"),
    (-np.eye(8), NumericsError, r"x has -1.0 at \[0, 0\]"), (np.full((4, 8), np.nan), NumericsError, "nan"),
    (np.zeros((0, 8)), ShapeError, r"x is empty, of shape \(0, 8\)"), (np.zeros((4, 7)), ShapeError, "axis 1 is 7"),
    (np.zeros(8), ShapeError, "1 axes"), (np.zeros((2, 4, 2)), ShapeError, r"x has shape \(2, 4, 2\); it must be \(N, 8\)"),
    ([["a"] * 8], DTypeError, "x is an array of <U1"),
    ([[0, 1], [0]], ShapeError, "different lengths")])
def test_bad_data_changes_nothing(x: Any, error: type[Exception], words: str) -> None:
    rbm = small()
    rbm.fit(stripes(20), epochs=1, verbose=False)
    before = arrays(rbm)
    for call in (rbm.fit, rbm.transform, rbm.gibbs, rbm.evaluate, lambda x: rbm.fit(stripes(20), validation_data=x)):
        with pytest.raises(error, match=words.replace("x ", "(x|validation_data) ")):
            call(x)
    assert arrays(rbm) == before
    assert rbm.epoch == 1
    fresh = small()
    if np.ndim(np.array(x, object)) != 2 or np.shape(x)[1] != 7:
        with pytest.raises(error):
            fresh.fit(x)
        assert not fresh.graphs


def test_other_misuse_is_refused() -> None:
    rbm = small()
    with pytest.raises(VerifyError, match="sample before fit"):
        rbm.sample(2)
    with pytest.raises(VerifyError, match="transform before fit"):
        rbm.transform(stripes(2))
    rbm.fit(stripes(20), epochs=1, verbose=False)
    for wrong, words in ((lambda: rbm.sample(0), "sample: n is 0"), (lambda: rbm.gibbs(stripes(2), 0), "gibbs: steps is 0"),
                         (lambda: rbm.reconstruct(stripes(2), -1), "n_steps is -1"), (lambda: rbm.sample(1, seed=-1), "seed"),
                         (lambda: rbm.fit(stripes(20), batch_size=0), "batch_size is 0"),
                         (lambda: rbm.fit(stripes(20), batch_size=32, drop_last=True), "drop_last leaves nothing")):
        with pytest.raises(GraphnnError, match=words):
            wrong()
