"""BernoulliVAE: its loss and draws by their formulas, what it learns, files, threads, bad input."""

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
from graphnn.files import load_file, save_file
from graphnn.zoo import WGAN_GP, BernoulliVAE

SMALL: dict[str, Any] = {"T": 2, "hidden_features": 16, "enc_conv1_out_channels": 3, "enc_conv2_out_channels": 4,
                         "enc_conv1_kernel_size": 3, "enc_conv2_kernel_size": 2, "seed": 1, "backend": "numpy"}


def small(**arguments: Any) -> BernoulliVAE:
    return BernoulliVAE(**{**SMALL, **arguments})


def bars(count: int, seed: int = 0) -> np.ndarray:
    """Images of 8 x 8 with one bright column: what tells them apart is one of eight places."""
    rng = np.random.default_rng(seed)
    images = np.full((count, 8, 8, 1), 0.02)
    images[np.arange(count), :, rng.integers(0, 8, count)] = 0.98
    return images


def arrays(network: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in network.state.arrays().items()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


# ------------------------------------------------------------------------------------------------ the network

def test_the_graphs_are_those_of_the_formulas() -> None:
    vae = small(shape=(8, 8, 1), beta=2.5)
    x = np.random.default_rng(3).random((5, 8, 8, 1)).astype(np.float32)
    mean, log_var = (part.astype(np.float64) for part in vae.encode(x))
    weights = {name: array.astype(np.float64) for name, array in vae.get_weights().items()}

    def decoded(t: np.ndarray) -> np.ndarray:
        h = np.maximum(t @ weights["decoder/FC1/weight"] + weights["decoder/FC1/bias"], 0)
        return sigmoid(h @ weights["decoder/FC2/weight"] + weights["decoder/FC2/bias"]).reshape(-1, 8, 8, 1)

    def losses(t: np.ndarray) -> list[float]:
        p = decoded(t)
        reconstruction = -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), (1, 2, 3)).mean()
        divergence = -0.5 * np.sum(1 + log_var - mean**2 - np.exp(log_var), 1).mean()
        return [reconstruction + 2.5 * divergence, reconstruction, divergence]

    np.testing.assert_allclose(vae.decode(mean), decoded(mean), rtol=1e-5)
    np.testing.assert_allclose(vae.reconstruct(x), decoded(mean), rtol=1e-4)
    found = vae.evaluate(x)
    np.testing.assert_allclose([found["loss"], found["reconstruction"], found["divergence"]], losses(mean), rtol=1e-5)

    # The step's code is drawn with the standard deviation exp(log_var / 2), from the step's own noise.
    seed, step = (gnn.constant(int(vae.state[f"sampler/{label}"])) for label in ("seed", "step"))
    noise = gnn.compile(gnn.Graph.of("noise", [], [gnn.random_normal(seed, step, (5, 2), stream=0)]), backend="numpy")()
    np.testing.assert_allclose(vae["step"](x), losses(mean + np.exp(log_var / 2) * noise), rtol=1e-5)
    assert int(vae.state["sampler/step"]) == 1


def test_the_encoder_is_the_one_described() -> None:
    vae = BernoulliVAE(shape=(28, 28, 1), backend="numpy")
    shapes = {name: array.shape for name, array in vae.get_weights().items() if name.endswith("weight")}
    assert shapes == {
        "encoder/Conv1/weight": (5, 5, 1, 32), "encoder/Conv2/weight": (5, 5, 32, 64), "encoder/FC4/weight": (7 * 7 * 64, 256),
        "encoder/FC5/weight": (256, 10), "decoder/FC1/weight": (5, 256), "decoder/FC2/weight": (256, 784)}
    other = small(shape=(9, 7, 2), enc_conv1_padding="same", enc_pool1_stride=1, enc_conv2_stride=2, enc_pool2_kernel_size=1)
    assert other.generate(2).shape == (2, 9, 7, 2)


def test_the_step_follows_the_gradient() -> None:
    """A step of plain descent changes the loss of the same draw by -lr |gradient|^2, to first order."""
    vae, x = small(shape=(8, 8, 1), optimizer="sgd(lr=1e-5)"), bars(6).astype(np.float32)
    before = vae.get_weights()
    first = float(vae["step"](x)[0])
    after = vae.get_weights()
    squared = sum(float(np.sum((before[n].astype(np.float64) - after[n]) ** 2)) for n in before) / 1e-5**2
    vae.state["sampler/step"] = 0
    second = float(vae["step"](x)[0])
    assert first - second == pytest.approx(1e-5 * squared, rel=0.1)


def test_evaluation_is_the_same_at_each_call_and_changes_nothing() -> None:
    vae, x = small(shape=(8, 8, 1)), bars(300)
    before = arrays(vae)
    assert vae.evaluate(x) == vae.evaluate(x)
    assert vae.evaluate(x, draws=3) == vae.evaluate(x, draws=3)
    assert vae.evaluate(x, draws=1) != vae.evaluate(x, draws=1, seed=1)
    assert vae.evaluate(x, draws=1)["divergence"] == pytest.approx(vae.evaluate(x)["divergence"], rel=1e-6)
    halves = [vae.evaluate(part)["loss"] for part in (x[:100], x[100:])]
    assert vae.evaluate(x)["loss"] == pytest.approx((halves[0] + 2 * halves[1]) / 3, rel=1e-6)
    np.testing.assert_array_equal(vae.generate(3, seed=5), vae.generate(3, seed=5))
    assert (vae.generate(3, seed=5) != vae.generate(3, seed=6)).any()
    assert arrays(vae) == before


# ------------------------------------------------------------------------------------------------ training

def test_it_learns_where_the_bar_is() -> None:
    """Without a code the best is the mean image, under which a pixel of a bar has probability 1/7 or so."""
    x, unseen = bars(400), bars(80, seed=1)
    mean = x.mean(0)
    blind = -np.sum(unseen * np.log(mean) + (1 - unseen) * np.log(1 - mean), (1, 2, 3)).mean()
    vae = small(backend="numba", optimizer="adam(lr=0.01)", beta=0.5, T=3, hidden_features=32)
    history = vae.fit(x, epochs=30, batch_size=32, validation_data=unseen, verbose=False)
    assert vae.evaluate(unseen)["reconstruction"] < 0.6 * blind
    assert history["val_loss"][-1] == vae.evaluate(unseen)["loss"]
    found = vae.reconstruct(unseen)[..., 0].mean(1).argmax(1)
    assert (found == unseen[..., 0].mean(1).argmax(1)).mean() > 0.8
    made = vae.generate(50)[..., 0].mean(1)
    assert (made.max(1) > 3 * made.mean(1)).mean() > 0.5


def test_training_is_the_same_for_any_number_of_threads_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    class SaveAt(nn.Callback):
        def on_batch_end(self, model: Any, step: int, numbers: Any) -> None:
            if (model.epoch, step) == (1, 2):
                model.save(tmp_path / "middle.gnn")

    threads, found = gnn.threads(), []
    try:
        for count in (1, 3):
            gnn.set_threads(count)
            vae = small(backend="numba")
            vae.fit(bars(40), epochs=3, batch_size=16, validation_data=bars(5), callbacks=SaveAt(), verbose=False)
            resumed = BernoulliVAE.load(tmp_path / "middle.gnn")
            resumed.fit(bars(40), epochs=2, batch_size=16, validation_data=bars(5), verbose=False)
            assert arrays(resumed) == arrays(vae)
            assert resumed.history.columns == vae.history.columns
            found.append((arrays(vae), vae.generate(3).tobytes()))
    finally:
        gnn.set_threads(threads)
    assert found[0] == found[1]


def test_back_ends_agree() -> None:
    one, two = small(backend="numba"), small(backend="numpy")
    for vae in (one, two):
        vae.fit(bars(20), epochs=3, batch_size=8, verbose=False)
    np.testing.assert_allclose(one.history["loss"], two.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(one.generate(4), two.generate(4), rtol=1e-2, atol=1e-4)


def test_the_file_encodes_and_decodes_without_the_class(tmp_path: Path) -> None:
    vae = small(shape=(8, 8, 1), backend="numba")
    vae.save(tmp_path / "vae.gnn")
    np.save(tmp_path / "x.npy", bars(4))
    code = ("import sys, numpy as np, graphnn as gnn; net = gnn.load('vae.gnn'); mean, _ = net.run('encode', np.load('x.npy')); "
            "np.save('y.npy', net.run('decode', mean)); assert 'graphnn.zoo' not in sys.modules; print(*net)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["decode", "encode", "evaluate", "reconstruct", "step"]
    assert np.load(tmp_path / "y.npy").tobytes() == vae.reconstruct(bars(4)).tobytes()
    with pytest.raises(FileFormatError, match="it holds a BernoulliVAE"):
        WGAN_GP.load(tmp_path / "vae.gnn")


@pytest.mark.parametrize(("change", "words"), [
    ({"T": -1}, "T is -1"), ({"T": "many"}, "T is 'many'"), ({"optimizer": "__import__('os')"}, "optimizer"),
    ({"shape": [8, 8]}, "shape is"), ({"depth": 3}, "depth"), ({"shape": [10**6, 10**6, 1]}, None),
    ({"hidden_features": 10**12}, None),
])
def test_a_file_with_other_arguments_is_refused_or_costs_nothing(change: Any, words: str | None, tmp_path: Path) -> None:
    """Graphs and arrays are the file's own: arguments that claim more make nothing."""
    vae = small(shape=(8, 8, 1))
    vae.save(tmp_path / "vae.gnn")
    file = load_file(tmp_path / "vae.gnn")
    meta = dict(file.meta or {})
    meta["arguments"] = {**meta["arguments"], **change}
    save_file(tmp_path / "bad.gnn", graphs=file.graphs, arrays=file.arrays, train=file.train, meta=meta)
    if words is None:
        assert arrays(BernoulliVAE.load(tmp_path / "bad.gnn", backend="numpy")) == arrays(vae)
    else:
        with pytest.raises(FileFormatError, match=f"bad.gnn.*{words}"):
            BernoulliVAE.load(tmp_path / "bad.gnn", backend="numpy")


def test_other_networks_are_a_subclass(tmp_path: Path) -> None:
    class Dense(nn.Layer):
        def __init__(self, features: int, shape: tuple[int, ...], name: str) -> None:
            super().__init__(name=name)
            self._parts = [nn.Flatten(), nn.FullyConnected(8, "tanh"), nn.FullyConnected(features), nn.Reshape(shape)]

        def call(self, x: gnn.Value) -> gnn.Value:
            for part in self._parts:
                x = part(x)
            return x

    class DenseVAE(BernoulliVAE):
        codes = 4

        def make_encoder(self) -> nn.Layer:
            return Dense(self.codes, (self.codes,), "encoder")

        def make_decoder(self, shape: Any) -> nn.Layer:
            return Dense(int(np.prod(shape)), tuple(shape), "decoder")

    vae = DenseVAE(T=2, seed=1, backend="numpy", optimizer="adam(lr=0.01)")
    history = vae.fit(bars(64), epochs=20, batch_size=8, verbose=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert all(array.shape[-1] in (2, 4, 8, 64) for array in vae.get_weights().values())
    vae.save(tmp_path / "dense.gnn")
    np.testing.assert_array_equal(DenseVAE.load(tmp_path / "dense.gnn", backend="numpy").generate(3), vae.generate(3))
    DenseVAE.codes = 5
    with pytest.raises(ShapeError, match=r"the encoder gives f32\[N,5\]; mean and log_var of the codes are \(N, 4\)"):
        DenseVAE(T=2, shape=(8, 8, 1), backend="numpy")


def test_double_precision_is_kept_from_end_to_end() -> None:
    vae = small(shape=(8, 8, 1), dtype="f64")
    x = np.random.default_rng(3).random((5, 8, 8, 1))
    mean, log_var = vae.encode(x)
    assert mean.dtype == vae.generate(2).dtype == np.float64
    loss = vae.evaluate(x)
    np.testing.assert_allclose(loss["divergence"], -0.5 * np.sum(1 + log_var - mean**2 - np.exp(log_var), 1).mean(), rtol=1e-12)
    p = vae.decode(mean)
    reconstruction = -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), (1, 2, 3)).mean()
    np.testing.assert_allclose(loss["reconstruction"], reconstruction, rtol=1e-12)
    vae.fit(x, epochs=1, verbose=False)
    assert {vae.state[value.name].dtype for value in vae.parameters} == {np.dtype(np.float64)}


# ------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize(("arguments", "words"), [
    ({"T": 0}, "T is 0"), ({"hidden_features": 2.5}, "hidden_features is 2.5"),
    ({"enc_conv1_out_channels": 0}, "enc_conv1_out_channels is 0"),
    ({"enc_conv2_kernel_size": (3, 0)}, r"enc_conv2_kernel_size is \(3, 0\)"),
    ({"enc_pool2_stride": -1}, "enc_pool2_stride is -1"), ({"enc_conv1_padding": "much"}, "enc_conv1_padding is 'much'"),
    ({"beta": -1}, "beta is -1"), ({"dtype": "i32"}, "dtype is i32"),
    ({"optimizer": "speedy"}, "speedy"), ({"init": "good"}, "good"),
    ({"shape": (8, 8)}, r"shape is \(8, 8\)"), ({"shape": (8, 0, 1)}, r"shape is \(8, 0, 1\)"), ({"shape": (3, 3, 1)}, "kernel"),
])
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphnnError, match=words):
        small(**arguments)


@pytest.mark.parametrize(("x", "error", "words"), [
    (np.zeros((4, 8, 9, 1)), ShapeError, r"\(4, 8, 9, 1\)"), (np.zeros((4, 8, 8)), ShapeError, r"\(4, 8, 8\)"),
    (np.zeros((0, 8, 8, 1)), ShapeError, "empty"), (np.full((2, 8, 8, 1), 1.5), NumericsError, r"has 1.5 at \[0, 0, 0, 0\]"),
    (bars(3) - 0.1, NumericsError, "pixels lie in"), (np.full((2, 8, 8, 1), np.nan), NumericsError, "nan"),
    (np.full((2, 8, 8, 1), "x"), DTypeError, "<U1"),
])
def test_bad_images_change_nothing(x: Any, error: type[Exception], words: str) -> None:
    vaes = [small(shape=(8, 8, 1))]
    if "9" not in words:                                 # the first images that it sees may have any size
        vaes.append(small())
    for vae in vaes:
        before = arrays(vae)
        calls = [lambda: vae.fit(x, verbose=False), lambda: vae.fit(bars(4), validation_data=x, verbose=False)]  # noqa: B023
        if vae.graphs:
            calls += [lambda: vae.evaluate(x), lambda: vae.encode(x), lambda: vae.reconstruct(x)]  # noqa: B023
        for call in calls:
            with pytest.raises(error, match=words):
                call()
        assert arrays(vae) == before
        assert vae.epoch == 0


def test_other_misuse_is_refused() -> None:
    vae = small()
    with pytest.raises(VerifyError, match="no graphs yet"):
        vae.generate(1)
    with pytest.raises(ShapeError, match="kernel"):
        vae.fit(np.zeros((2, 3, 3, 1)), verbose=False)   # too small for its convolutions
    assert not vae.graphs
    with pytest.raises(ShapeError, match="batch_size is 0"):
        vae.fit(bars(4), batch_size=0, verbose=False)
    with pytest.raises(ShapeError, match="epochs is -1"):
        vae.fit(bars(4), epochs=-1, verbose=False)
    vae = small(shape=(8, 8, 1))
    with pytest.raises(ShapeError, match=r"decode: t has shape \(2, 3\); it must be \(N, 2\)"):
        vae.decode(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="n is 0"):
        vae.generate(0)
    with pytest.raises(ShapeError, match="draws is -1"):
        vae.evaluate(bars(2), draws=-1)
