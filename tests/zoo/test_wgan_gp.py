"""WGAN_GP: its two steps by their formulas, what each leaves alone, its stream, samples, files, threads, bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, FileFormatError, GraphnnError, NumericsError, ShapeError, VerifyError
from graphnn.zoo import WGAN_GP

# Functions that bend everywhere, and their derivatives: the penalty's gradient needs the second ones too.
SMOOTH: dict[str, Any] = {"tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
                          "softplus": (lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z)))}
SPOTS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def spots(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (SPOTS[rng.integers(0, 4, count)] + 0.05 * rng.normal(size=(count, 2))).astype(np.float32)


def small(**arguments: Any) -> WGAN_GP:
    return WGAN_GP(**{"hidden_features": 8, "latent_dim": 3, "seed": 1, "backend": "numpy", "activation": "tanh", **arguments})


def arrays(network: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in network.state.arrays().items()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in after if before[name] != after[name]}


# ------------------------------------------------------------------------------------------------ the two steps

def layers(state: Any, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    def exact(label: str) -> np.ndarray:
        return state[f"{name}/{label}"].astype(np.float64)

    return [(exact(f"FC{i}/weight"), exact(f"FC{i}/bias")) for i in (1, 2, 3, 4)]


def forward(x: np.ndarray, weights: list[tuple[np.ndarray, np.ndarray]], kind: str = "tanh") -> np.ndarray:
    for w, b in weights[:-1]:
        x = SMOOTH[kind][0](x @ w + b)
    return x @ weights[-1][0] + weights[-1][1]


def slopes(x: np.ndarray, weights: list[tuple[np.ndarray, np.ndarray]], kind: str = "tanh") -> np.ndarray:
    """d score / d x, written out by the chain rule."""
    gates = []
    for w, b in weights[:-1]:
        z = x @ w + b
        x = SMOOTH[kind][0](z)
        gates.append(SMOOTH[kind][1](z))
    g = np.repeat(weights[-1][0].T, len(x), 0)
    for (w, _), gate in zip(reversed(weights[:-1]), reversed(gates), strict=True):
        g = (g * gate) @ w.T
    return g


def draws(gan: WGAN_GP, which: str, shape: tuple[int, ...], kind: Any, stream: int) -> np.ndarray:
    """What the next step will draw."""
    seed, step = (gnn.constant(int(gan.state[f"{which}_noise/{label}"])) for label in ("seed", "step"))
    graph = gnn.Graph.of("draws", [], [kind(seed, step, shape, stream=stream, dtype=gan.dtype)])
    return gnn.compile(graph, backend="numpy")().astype(np.float64)


def critic_loss(critic: list[tuple[np.ndarray, np.ndarray]], real: np.ndarray, fake: np.ndarray, alpha: np.ndarray,
                lambda_: float, kind: str) -> float:
    between = alpha * real + (1.0 - alpha) * fake
    length = np.linalg.norm(slopes(between, critic, kind), axis=1)
    distance = forward(real, critic, kind).mean() - forward(fake, critic, kind).mean()
    return float(lambda_ * np.mean((length - 1.0) ** 2) - distance)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", SMOOTH)
def test_the_critic_step_follows_the_gradient_of_its_loss_penalty_included(kind: str, backend: str) -> None:
    gan = small(shape=(2,), optimizer="sgd(lr=1.0)", lambda_=3.0, activation=kind, dtype="f64", backend=backend)
    real = spots(6).astype(np.float64)
    critic, generator = layers(gan.state, "critic"), layers(gan.state, "generator")
    fake = forward(draws(gan, "critic", (6, 3), gnn.random_normal, 0), generator, kind)
    alpha = draws(gan, "critic", (6, 1), gnn.random_uniform, 1)
    loss, distance, penalty = gan["critic_step"](real)
    expected = critic_loss(critic, real, fake, alpha, 3.0, kind)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(-distance + 3.0 * penalty, expected, rtol=1e-12)

    eps, after = 1e-5, layers(gan.state, "critic")
    for i, place in ((0, 0), (0, 1), (1, 0), (2, 1), (3, 0)):
        gradient = critic[i][place] - after[i][place]
        for index in np.ndindex(gradient.shape):
            sides = []
            for sign in (1.0, -1.0):
                moved = [list(pair) for pair in critic]
                moved[i][place] = critic[i][place].copy()
                moved[i][place][index] += sign * eps
                sides.append(critic_loss([(w, b) for w, b in moved], real, fake, alpha, 3.0, kind))
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * eps), rel=1e-6, abs=1e-9), (i, place, index)


def test_the_generator_step_goes_through_the_critic() -> None:
    gan = small(shape=(2,), optimizer="sgd(lr=1.0)")
    critic, generator = layers(gan.state, "critic"), layers(gan.state, "generator")
    z = draws(gan, "generator", (5, 3), gnn.random_normal, 0)
    loss = gan["generator_step"](np.empty((5, 0), np.float32))
    fake = forward(z, generator)
    np.testing.assert_allclose(loss, -forward(fake, critic).mean(), rtol=1e-5, atol=1e-6)
    # The bias of the last layer moves every fake alike, so its gradient is the mean slope of the critic there.
    moved = layers(gan.state, "generator")[3][1] - generator[3][1]
    np.testing.assert_allclose(moved, slopes(fake, critic).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("form", "shape"), [("dense", (2,)), ("dense", (3, 2)), ("convolutional", (6, 5, 2))])
def test_each_step_changes_its_own_and_draws_anew(form: str, shape: tuple[int, ...]) -> None:
    gan = small(shape=shape, form=form, hidden_features=16)
    real, nothing = np.zeros((4, *shape), np.float32), np.empty((4, 0), np.float32)
    start = arrays(gan)
    first = gan["critic_step"](real)
    after_critic = arrays(gan)
    touched = changed(start, after_critic)
    assert {name for name in touched if name.startswith(("critic/", "generator/"))} == {
        value.name for value in gan.parameters if value.name.startswith("critic/")} - {"critic/FC4/bias"}  # shifts cancel out
    assert not any(name.startswith("generator") for name in touched)
    gan["generator_step"](nothing)
    touched = changed(after_critic, arrays(gan))
    assert {name for name in touched if name.startswith(("critic/", "generator/"))} == {
        value.name for value in gan.parameters if value.name.startswith("generator/")}
    assert not any(name.startswith("critic") for name in touched)
    assert first[0] != gan["critic_step"](real)[0]
    assert gan.sample(2).shape == (2, *shape)
    assert gan.score(real).shape == (4,)


def test_one_example_is_a_batch() -> None:
    gan = small(critic_steps=2)
    history = gan.fit(spots(1), epochs=2, verbose=False)
    assert len(history) == 2
    assert np.isfinite(history["loss"]).all()


# ------------------------------------------------------------------------------------------------ training

def test_the_stream_shows_every_example_once_a_pass_in_new_orders() -> None:
    gan = small(shape=(1,))
    x = np.arange(10, dtype=np.float32)[:, None]
    stream = gan._stream(x, 5)
    passes = [np.concatenate([next(stream).copy(), next(stream).copy()]).ravel() for _ in range(3)]
    assert all(sorted(each) == sorted(x.ravel()) for each in passes)
    assert len({each.tobytes() for each in passes}) == 3
    gan.state["critic_noise/step"] = 3
    np.testing.assert_array_equal(next(gan._stream(x, 5)).ravel(), passes[1][5:])


def test_it_finds_four_spots() -> None:
    """Samples of a generator that has learnt nothing lie within 0.3 of a spot in a tenth of the cases or less."""
    def near(samples: np.ndarray) -> tuple[float, set[int]]:
        distance = np.linalg.norm(samples[:, None] - SPOTS, axis=2)
        return float((distance.min(1) < 0.3).mean()), set(distance.argmin(1)[distance.min(1) < 0.3].tolist())

    gan = WGAN_GP(32, latent_dim=2, lambda_=0.1, seed=0, optimizer="adam(lr=0.002, beta1=0.0, beta2=0.9)")
    x = spots(2000)
    gan.fit(x, epochs=1, steps_per_epoch=1, batch_size=128, verbose=False)
    assert near(gan.sample(500))[0] < 0.2
    history = gan.fit(x, epochs=2, steps_per_epoch=300, batch_size=128, verbose=False)
    share, found = near(gan.sample(500))
    assert share > 0.7
    assert found == {0, 1, 2, 3}
    assert history["distance"][-1] < 0.5 * max(history["distance"])


def test_training_is_the_same_for_any_number_of_threads_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    threads, found = gnn.threads(), []
    try:
        for count in (1, 3):
            gnn.set_threads(count)
            gan = small(backend="numba", form="convolutional", hidden_features=16, activation="silu")
            images = np.random.default_rng(0).random((40, 8, 8, 1))
            gan.fit(images, epochs=1, batch_size=8, verbose=False)
            gan.save(tmp_path / f"{count}.gnn")
            gan.fit(images, epochs=1, batch_size=8, verbose=False)
            resumed = WGAN_GP.load(tmp_path / f"{count}.gnn")
            resumed.fit(images, epochs=1, batch_size=8, verbose=False)
            assert arrays(resumed) == arrays(gan)
            assert resumed.history.columns == gan.history.columns
            found.append((arrays(gan), gan.sample(3).tobytes()))
    finally:
        gnn.set_threads(threads)
    assert found[0] == found[1]
    assert (tmp_path / "1.gnn").read_bytes() == (tmp_path / "3.gnn").read_bytes()


def test_it_resumes_within_an_epoch(tmp_path: Path) -> None:
    class SaveAt(nn.Callback):
        def on_batch_end(self, model: Any, step: int, numbers: Any) -> None:
            if (model.epoch, step) == (1, 2):
                model.save(tmp_path / "middle.gnn")

    whole = small()
    whole.fit(spots(64), epochs=2, batch_size=8, steps_per_epoch=3, callbacks=SaveAt(), verbose=False)
    resumed = WGAN_GP.load(tmp_path / "middle.gnn", backend="numpy")
    resumed.fit(spots(64), epochs=1, batch_size=8, steps_per_epoch=3, verbose=False)
    assert arrays(resumed) == arrays(whole)
    assert resumed.history.columns == whole.history.columns


def test_samples_depend_on_their_seed_alone() -> None:
    gan = small(shape=(2,))
    np.testing.assert_array_equal(gan.sample(4, seed=3), gan.sample(4, seed=3))
    np.testing.assert_array_equal(gan.sample(4, seed=3)[:2], gan.sample(2, seed=3))
    assert (gan.sample(4, seed=3) != gan.sample(4, seed=4)).all()
    many = gan.sample(600, seed=3)                       # made in parts
    assert many.shape == (600, 2)
    np.testing.assert_array_equal(many[:4], gan.sample(4, seed=3))
    np.testing.assert_array_equal(gan.score(many)[590:], gan.score(many[590:]))
    bounded = small(shape=(2,), output_activation="sigmoid").sample(50)
    assert ((bounded > 0) & (bounded < 1)).all()


def test_the_file_draws_samples_without_the_class(tmp_path: Path) -> None:
    gan = small(shape=(2,), backend="numba")
    gan.save(tmp_path / "gan.gnn", training=False)
    z = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    code = ("import sys, numpy as np, graphnn as gnn; net = gnn.load('gan.gnn'); "
            "np.save('x.npy', net.run('generate', np.load('z.npy'))); assert 'graphnn.zoo' not in sys.modules; print(*net)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["generate", "score"]
    assert np.load(tmp_path / "x.npy").tobytes() == gan.generate(z).tobytes()


def test_another_network_is_a_subclass(tmp_path: Path) -> None:
    class Narrow(WGAN_GP):
        def make_critic(self) -> nn.Layer:
            return nn.FullyConnected(1, name="critic")

    gan = Narrow(8, latent_dim=3, seed=1, backend="numpy")
    gan.fit(spots(16), epochs=1, batch_size=4, verbose=False)
    assert {value.name for value in gan.parameters if value.name.startswith("critic")} == {"critic/weight", "critic/bias"}
    gan.save(tmp_path / "narrow.gnn")
    np.testing.assert_array_equal(Narrow.load(tmp_path / "narrow.gnn", backend="numpy").sample(2), gan.sample(2))


def test_networks_of_one_name_are_refused() -> None:
    class Unnamed(WGAN_GP):
        def make_critic(self) -> nn.Layer:
            return nn.FullyConnected(1)

        def make_generator(self, shape: Any) -> nn.Layer:
            return nn.FullyConnected(shape[0])

    with pytest.raises(VerifyError, match="both named 'fully_connected'"):
        Unnamed(shape=(2,))


def test_the_critic_may_have_an_optimiser_of_its_own_and_callbacks_see_both() -> None:
    gan = small(optimizer="sgd(lr=0.01)", critic_optimizer={"name": "adam", "lr": 0.002})
    halve = nn.ReduceLROnPlateau("loss", factor=0.5, patience=1, threshold=1e9, threshold_mode="abs")
    history = gan.fit(spots(16), epochs=4, batch_size=8, callbacks=[halve, "learning_rate_logger"], verbose=False)
    np.testing.assert_allclose(history["critic_lr"], [0.002, 0.002, 0.001, 0.001])
    np.testing.assert_allclose(history["generator_lr"], [0.01, 0.01, 0.005, 0.005])
    assert {name for name in gan.state.names if "optimizer" in name and name.endswith("FC1/weight")} == {
        "critic_optimizer/m/critic/FC1/weight", "critic_optimizer/v/critic/FC1/weight"}


# ------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize(("arguments", "words"), [
    ({"form": "round"}, "form is 'round'"), ({"hidden_features": 0}, "hidden_features is 0"),
    ({"latent_dim": -1}, "latent_dim is -1"), ({"critic_steps": 0}, "critic_steps is 0"), ({"lambda_": -1}, "lambda_ is -1"),
    ({"activation": "wavy"}, "wavy"), ({"dtype": "bool"}, "dtype is bool"), ({"critic_optimizer": "adamm"}, "adamm"),
    ({"optimizer": "adam(rate=1)"}, "rate"), ({"init": "random"}, "random"),
    ({"shape": (2, 0)}, r"shape is \(2, 0\)"), ({"shape": 2}, "shape is 2"),
    ({"shape": (2,), "form": "convolutional"}, "images"), ({"shape": (8, 8), "form": "convolutional"}, "images"),
])
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphnnError, match=words):
        small(**arguments)


@pytest.mark.parametrize(("x", "error", "words"), [
    (np.zeros((4, 3)), ShapeError, r"\(4, 3\)"), (np.zeros(4), ShapeError, r"\(4,\)"), (np.zeros((0, 2)), ShapeError, "empty"),
    ([[1.0, 2.0], [3.0]], ShapeError, "lengths"), (np.full((4, 2), np.nan), NumericsError, "nan"),
    (np.array([["a", "b"]]), DTypeError, "<U1"), (np.full((2, 2), 1e300), NumericsError, "cannot hold"),
])
def test_bad_examples_change_nothing(x: Any, error: type[Exception], words: str) -> None:
    gans = [small(shape=(2,))]
    if words != r"\(4, 3\)":                             # the first examples that it sees may have any number of features
        gans.append(small())
    for gan in gans:
        before = arrays(gan)
        with pytest.raises(error, match=words):
            gan.fit(x, verbose=False)
        assert arrays(gan) == before
        assert gan.epoch == 0


def test_other_misuse_is_refused(tmp_path: Path) -> None:
    gan = small()
    with pytest.raises(VerifyError, match="no graphs yet"):
        gan.sample(1)
    for arguments in ({"batch_size": 0}, {"steps_per_epoch": 0}, {"epochs": -1}):
        with pytest.raises(ShapeError, match=next(iter(arguments))):
            gan.fit(spots(4), verbose=False, **arguments)
    gan.fit(spots(4), verbose=False)
    with pytest.raises(ShapeError, match="n is 0"):
        gan.sample(0)
    with pytest.raises(ShapeError, match="seed is -1"):
        gan.sample(1, seed=-1)
    (tmp_path / "bad.gnn").write_bytes(b"not a file of graphnn")
    with pytest.raises(FileFormatError, match=r"bad\.gnn"):
        WGAN_GP.load(tmp_path / "bad.gnn")
