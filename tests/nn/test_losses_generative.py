"""VAELoss and WGAN_GPLoss: closed forms, signs, and the gradient penalty's second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from tests.nn.networks import BACKENDS
from tests.nn.test_losses_weighted import run

RNG = np.random.default_rng(18)
REDUCE: dict[str, Any] = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}


# ------------------------------------------------------------------------------------------------ VAELoss

@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize(("shape", "latent"), [((4, 6), 3), ((1, 1), 1), ((3, 2, 5, 1), 2)], ids=str)
@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0])
def test_the_evidence_lower_bound(shape: tuple[int, ...], latent: int, beta: float, reduction: str) -> None:
    x, y = RNG.normal(size=shape), RNG.uniform(0.05, 0.95, shape)
    mean, log_var = RNG.normal(size=(2, shape[0], latent))
    axes = tuple(range(1, len(shape)))
    p = 1 / (1 + np.exp(-x))
    divergence = -0.5 * (1 + log_var - mean ** 2 - np.exp(log_var)).sum(1)
    bernoulli = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axes)
    gaussian = 0.5 * ((y - x) ** 2 / 0.3 + np.log(2 * np.pi * 0.3)).sum(axes)
    for reconstruction, prediction, given in ((bernoulli, x, {}), (bernoulli, p, {"from_logits": False}),
                                              (gaussian, x, {"decoder": "gaussian", "variance": 0.3})):
        loss = nn.VAELoss(reduction, beta=beta, **given)
        expected = reconstruction + beta * divergence
        np.testing.assert_allclose(run(loss, prediction, y, mean, log_var), REDUCE[reduction](expected), rtol=1e-10)
        point = RNG.uniform(0.3, 0.7, shape) if "from_logits" in given else prediction
        gnn.check_gradients(loss, [point, y, mean, log_var])
        sample = RNG.uniform(0, 2, shape[0])
        total, weight = run(loss.terms, prediction, y, mean, log_var, sample)
        np.testing.assert_allclose([total, weight], [(expected * sample).sum(), sample.sum()], rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_the_seeds_formula(backend: str) -> None:
    p, y = RNG.uniform(0.2, 0.8, (5, 3)), RNG.uniform(0, 1, (5, 3))
    mean, log_var = RNG.normal(size=(2, 5, 2))
    slopes = run(lambda *v: gnn.gradients(nn.VAELoss(from_logits=False)(*v), [v[0], v[2], v[3]]), p, y, mean, log_var,
                 backend=backend)
    expected = (-y / p + (1 - y) / (1 - p)) / 5, mean / 5, (np.exp(log_var) - 1) / (2 * 5)
    for actual, formula in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(actual, formula, rtol=1e-10)


def test_a_bound_far_out_is_finite() -> None:
    p, y = np.array([[0.0, 1.0]], np.float32), np.array([[1.0, 0.0]], np.float32)
    code = np.array([[1e3, -30.0]], np.float32)
    assert np.isfinite(run(nn.VAELoss(from_logits=False), p, y, code, code / 40))
    assert np.isfinite(run(nn.VAELoss(), (p - 0.5) * 1e30, y, code, code / 40))


def test_codes_that_differ() -> None:
    p, mean = gnn.Input((3,), name="p"), gnn.Input((2,), name="mean")
    with pytest.raises(ShapeError, match=r"mean f32\[N,2\] and log_var f32\[N,3\]"):
        nn.VAELoss()(p, p, mean, p)


def test_three_steps_of_an_autoencoder_lower_its_bound() -> None:
    x = gnn.Input((6,), name="x")
    mean, log_var = nn.FullyConnected(2)(x), nn.FullyConnected(2)(x)
    loss = nn.VAELoss(beta=0.5)(nn.FullyConnected(6)(mean), x, mean, log_var)
    model = gnn.Model(x, mean, losses={"bound": loss}, backend="numpy")
    model.compile("sgd(lr=0.05)")
    data = (RNG.random((16, 6)) < 0.3).astype(np.float32)
    history = list(model.fit(data, batch_size=16, epochs=4, verbose=False)["loss"])
    assert history == sorted(history, reverse=True)
    assert history[-1] < history[0]


# ------------------------------------------------------------------------------------------------ WGAN_GPLoss

def critic_of(weight: np.ndarray, offset: np.ndarray, last: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, 1) of a critic with one hidden layer of tanh, and their gradients by x (N, features)."""
    hidden = np.tanh(x @ weight + offset)
    return hidden @ last, ((1 - hidden ** 2) * last[:, 0]) @ weight.T


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lambda_", [10.0, 0.0, 2.5])
@pytest.mark.parametrize("n", [1, 6])
def test_losses_of_critic_and_generator(n: int, lambda_: float, backend: str) -> None:
    real, fake = RNG.normal(size=(2, n, 3))
    alpha = RNG.uniform(size=(n, 1))
    parameters = [RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=(5, 1))]
    loss = nn.WGAN_GPLoss(lambda_)

    def losses(real: gnn.Value, fake: gnn.Value, alpha: gnn.Value, *p: gnn.Value) -> tuple[gnn.Value, ...]:
        between = loss.interpolate(real, fake, alpha)
        scores = [gnn.tanh(x @ p[0] + p[1]) @ p[2] for x in (real, fake, between)]
        return loss(*scores, between), loss.generator(scores[1])

    critic, generator = run(losses, real, fake, alpha, *parameters, backend=backend)
    score_real, score_fake = (critic_of(*parameters, x)[0] for x in (real, fake))
    slopes = critic_of(*parameters, alpha * real + (1 - alpha) * fake)[1]
    penalty = np.mean((np.sqrt((slopes ** 2).sum(1)) - 1) ** 2)
    np.testing.assert_allclose(critic, score_fake.mean() - score_real.mean() + lambda_ * penalty, rtol=1e-10)
    np.testing.assert_allclose(generator, -score_fake.mean(), rtol=1e-10)


def test_the_penalty_is_exact_for_smooth_activations() -> None:
    real, fake, alpha = RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2)), RNG.uniform(size=(4, 1))
    parameters = [RNG.normal(size=(2, 3)), RNG.normal(size=3), RNG.normal(size=(3, 1))]
    loss = nn.WGAN_GPLoss()
    for activation in (gnn.tanh, gnn.softplus, gnn.sigmoid):
        def critic(x: gnn.Value, *p: gnn.Value, activation: Any = activation) -> gnn.Value:
            return activation(x @ p[0] + p[1]) @ p[2]

        def total(real: gnn.Value, fake: gnn.Value, alpha: gnn.Value, *p: gnn.Value, critic: Any = critic) -> gnn.Value:
            between = loss.interpolate(real, fake, alpha)
            return loss(critic(real, *p), critic(fake, *p), critic(between, *p), between)

        gnn.check_gradients(total, [real, fake, alpha, *parameters])


def test_the_signs_of_the_critics_gradients() -> None:
    """Training the critic lowers scores of fake examples and raises those of real ones; numpy-ml has both the wrong way."""
    real, fake = RNG.normal(size=(2, 5, 1))
    x = RNG.normal(size=(5, 3))

    def slopes(real: gnn.Value, fake: gnn.Value, x: gnn.Value) -> tuple[gnn.Value, ...]:
        return gnn.gradients(nn.WGAN_GPLoss().critic(real, fake, gnn.sum(x * x, 1), x), [real, fake])

    d_real, d_fake = run(slopes, real, fake, x)
    np.testing.assert_allclose(d_real, np.full((5, 1), -1 / 5))
    np.testing.assert_allclose(d_fake, np.full((5, 1), 1 / 5))
    d_generator = run(lambda f: gnn.gradients(nn.WGAN_GPLoss().generator(f), [f])[0], fake)
    np.testing.assert_allclose(d_generator, np.full((5, 1), -1 / 5))


@pytest.mark.parametrize("axes", [(5,), (5, 1)])
def test_reductions_of_the_critics_loss(axes: tuple[int, ...]) -> None:
    real, fake = RNG.normal(size=(2, *axes))
    x = RNG.normal(size=(5, 3))
    each = fake.ravel() - real.ravel() + 10 * (np.linalg.norm(2 * x, axis=1) - 1) ** 2
    for reduction, expected, generator in (("none", each, -fake.ravel()), ("sum", each.sum(), -fake.sum()),
                                           ("mean", each.mean(), -fake.mean())):
        loss = nn.WGAN_GPLoss(reduction=reduction)
        found = run(lambda r, f, x, loss=loss: (loss(r, f, gnn.sum(x * x, 1), x), loss.generator(f)), real, fake, x)
        np.testing.assert_allclose(found[0], expected, rtol=1e-12)
        np.testing.assert_allclose(found[1], generator, rtol=1e-12)


def test_a_critic_without_slope_has_a_finite_gradient() -> None:
    x, w = np.ones((3, 2, 2)), np.zeros((2, 2))

    def both(x: gnn.Value, w: gnn.Value) -> tuple[gnn.Value, ...]:
        penalty = nn.WGAN_GPLoss().penalty(gnn.sum(x * w, (1, 2)), x)
        return penalty, gnn.gradients(penalty, [w])[0]

    penalty, slope = run(both, x, w)
    assert penalty == 1.0
    np.testing.assert_array_equal(slope, 0.0)


def test_scores_and_examples_that_do_not_fit() -> None:
    x, scores = gnn.Input((3,), name="x"), gnn.Input((1,), name="scores")
    loss = nn.WGAN_GPLoss()
    with pytest.raises(ShapeError, match=r"fake is f32\[N,3\]"):
        loss.generator(x)
    with pytest.raises(ShapeError, match=r"real is f32\[N,3\]"):
        loss(x, scores, scores, x)
    with pytest.raises(ShapeError, match=r"scores are f32\[\]|scores is f32\[\]"):
        loss.penalty(gnn.sum(scores), x)
    with pytest.raises(ShapeError, match=r"interpolated examples f32\[N\]"):
        loss.penalty(scores, gnn.sum(x, 1))
    with pytest.raises(ShapeError, match=r"alpha is f32\[N,3\]"):
        loss.interpolate(x, x, x)
    with pytest.raises(ShapeError, match=r"real f32\[N,3\] and fake f32\[N,1\]"):
        loss.interpolate(x, scores, scores)
    with pytest.raises(DTypeError, match=r"alpha is f64\[N\]"):
        loss.interpolate(x, x, gnn.Input((), name="alpha", dtype="f64"))


def test_three_steps_of_a_critic_lower_its_loss() -> None:
    real, fake, alpha = (gnn.Input(s, name=n) for n, s in (("real", (2,)), ("fake", (2,)), ("alpha", ())))
    hidden, out, loss = nn.FullyConnected(8, activation="tanh"), nn.FullyConnected(1), nn.WGAN_GPLoss()
    between = loss.interpolate(real, fake, alpha)
    total = loss(*(out(hidden(x)) for x in (real, fake, between)), between)
    params = [*hidden.parameters, *out.parameters]
    updates = nn.SGD(0.02).updates(params, gnn.gradients(total, params))
    step = gnn.compile(gnn.Graph.of("critic", [real, fake, alpha], [total], updates=updates))
    data = [RNG.normal(size=(16, 2)).astype(np.float32) + shift for shift in (1, -1)]
    between_data = RNG.uniform(size=16).astype(np.float32)
    history = [float(step(*data, between_data)) for _ in range(4)]
    assert history == sorted(history, reverse=True)
    assert history[-1] < history[0]
