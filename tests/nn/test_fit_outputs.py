"""Several outputs, several losses, and losses that are values of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError, UnsupportedError, VerifyError
from tests.nn.networks import BACKENDS, bits, examples, notes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4))
IDS = np.argmax(X[:, :3], 1)
REAL = RNG.normal(size=(23, 2))


def forked(backend: str = "numpy", seed: int = 2) -> gnn.Model:
    """One body, an output of three classes and one of two numbers, in float64."""
    x = gnn.Input((4,), name="x", dtype="f64")
    h = nn.FullyConnected(5, activation="tanh", name="body")(x)
    return gnn.Model(x, {"kind": nn.FullyConnected(3, name="a")(h), "place": nn.FullyConnected(2, name="b")(h)}, seed=seed,
                     backend=backend)


def forward(model: gnn.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = model.get_weights()
    h = np.tanh(x @ w["body/weight"] + w["body/bias"])
    return h @ w["a/weight"] + w["a/bias"], h @ w["b/weight"] + w["b/bias"]


def cross_entropy(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(len(ids)), ids]


def test_names_of_outputs() -> None:
    x = gnn.Input((4,), name="x")
    h = nn.FullyConnected(3)(x)
    y = h + 1.0
    assert gnn.Model(x, {"a": h, "b": y}).output_names == ("a", "b")
    assert gnn.Model(x, [h, nn.Softmax(name="head/soft")(h)]).output_names == ("fully_connected", "head/soft")
    assert gnn.Model(x, [y, x, h, h]).output_names == ("output_0", "output_1", "output_2", "output_3")
    assert forked().predict(X, as_dict=True).keys() == {"kind", "place"}
    for outputs, words in (({"a b": h}, "'a b'"), ({"a": 3}, "'a' is a int"), ({}, "no outputs"), ([], "no outputs"),
                           ([3], "int 3"), (3, "int 3")):
        with pytest.raises(VerifyError) as caught:
            gnn.Model(x, outputs)  # type: ignore[arg-type]
        assert words in notes(caught.value)
    for inputs in (3, "x", {"x": x}):
        with pytest.raises(VerifyError, match="no symbolic value"):
            gnn.Model(inputs, h)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_metrics_of_each_output_are_written_out(backend: str) -> None:
    model = forked(backend).compile(nn.SGD(0.0), {"kind": "cross_entropy", "place": "squared_error"},
                                    {"kind": ["accuracy"], "place": "mean_absolute_error"}, loss_weights={"place": 0.25})
    history = model.fit(X, (IDS, REAL), batch_size=9, validation_data=(X[:10], {"place": REAL[:10], "kind": IDS[:10]}),
                        verbose=False)
    a, b = forward(model, X)
    kind, place = cross_entropy(a, IDS).mean(), ((b - REAL) ** 2).mean()
    expected = {"loss": kind + 0.25 * place, "kind_loss": kind, "place_loss": place,
                "kind_accuracy": (a.argmax(1) == IDS).mean(), "place_mean_absolute_error": abs(b - REAL).mean()}
    assert list(history.columns) == [*expected, *(f"val_{name}" for name in expected)]
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, rel=1e-10)
    assert history["val_place_loss"][0] == pytest.approx(((b - REAL)[:10] ** 2).mean(), rel=1e-10)
    assert model.evaluate(X, {"kind": IDS, "place": REAL}) == pytest.approx(expected, rel=1e-10)


def test_the_step_follows_the_weighted_sum_of_losses() -> None:
    model = forked().compile(nn.SGD(0.1), ["cross_entropy", "squared_error"], loss_weights=[2, 0.5])
    w = model.get_weights()
    a, b = forward(model, X)
    da = (np.exp(a) / np.exp(a).sum(1, keepdims=True) - np.eye(3)[IDS]) * 2 / 23
    db = 0.5 * 2 * (b - REAL) / REAL.size
    h = np.tanh(X @ w["body/weight"] + w["body/bias"])
    dh = (da @ w["a/weight"].T + db @ w["b/weight"].T) * (1 - h * h)
    model.fit(X, (IDS, REAL), batch_size=23, verbose=False)
    np.testing.assert_allclose(model.state["body/weight"], w["body/weight"] - 0.1 * X.T @ dh, rtol=1e-9)
    np.testing.assert_allclose(model.state["b/bias"], w["b/bias"] - 0.1 * db.sum(0), rtol=1e-9)


def test_one_loss_for_all_and_outputs_without() -> None:
    x = gnn.Input((4,), name="x")
    a, b = nn.FullyConnected(2, name="a")(x), nn.FullyConnected(2, name="b")(x)
    both = gnn.Model(x, [a, b], backend="numpy").compile("sgd(lr=0.1)", "squared_error", "mean_absolute_error")
    assert list(both.fit(X, (REAL, REAL), verbose=False).columns) == ["loss", "a_loss", "b_loss", "a_mean_absolute_error",
                                                                      "b_mean_absolute_error"]
    for loss in ({"b": "squared_error"}, [None, nn.SquaredError()]):
        one = gnn.Model(x, [a, b], backend="numpy").compile("sgd(lr=0.1)", loss, ["mean_absolute_error"])
        before = one.state["a/weight"]
        assert list(one.fit(X, REAL, verbose=False).columns) == ["loss", "mean_absolute_error"]
        np.testing.assert_array_equal(one.state["a/weight"], before)
    with pytest.raises(VerifyError, match="names no output with a loss"):
        both.compile("adam", {})


def test_resumed_bit_for_bit(tmp_path: Path) -> None:
    def made() -> gnn.Model:
        return forked().compile("adam(lr=0.01)", {"kind": "cross_entropy(label_smoothing=0.1)", "place": nn.SquaredError()},
                                {"kind": ["accuracy", nn.TopKAccuracy(2)]}, loss_weights={"kind": 3.0})

    whole, half = made(), made()
    whole.fit(X, (IDS, REAL), epochs=4, batch_size=8, verbose=False)
    half.fit(X, (IDS, REAL), epochs=2, batch_size=8, verbose=False)
    half.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    assert loaded.output_names == ("kind", "place")
    loaded.fit(X, (IDS, REAL), epochs=2, batch_size=8, verbose=False)
    assert bits(loaded) == bits(whole)
    assert loaded.history.columns == whole.history.columns
    loaded.save(tmp_path / "n.gnn")
    whole.save(tmp_path / "w.gnn")
    assert (tmp_path / "n.gnn").read_bytes() == (tmp_path / "w.gnn").read_bytes()


@pytest.mark.parametrize(("y", "words"), [
    (IDS, ["2 outputs (kind, place)"]), ((IDS,), ["2 outputs"]), ((IDS, REAL, REAL), ["2 outputs"]), (None, ["targets"]),
    ({"kind": IDS}, ["'place' are missing"]), ({"kind": IDS, "place": REAL, "x": REAL}, ["'x' is none"]),
    ((IDS, REAL[:, :1]), ["targets of 'place'", "(23, 1)"]), ((IDS + 1, REAL), ["class 3"]),
    ((IDS, REAL[:20]), ["targets of 'place' 20"]), ((IDS, np.where(REAL > 1, np.nan, REAL)), ["targets of 'place'", "nan"]),
], ids=range(10))
def test_targets_that_do_not_fit(y: Any, words: list[str]) -> None:
    model = forked().compile("adam", ["cross_entropy", "squared_error"])
    before = bits(model)
    for call in (lambda: model.fit(X, y, verbose=False), lambda: model.evaluate(X, y)):
        with pytest.raises(GraphnnError) as caught:
            call()
        for word in words:
            assert word in notes(caught.value)
    assert bits(model) == before


@pytest.mark.parametrize(("arguments", "words"), [
    ({"loss": ["cross_entropy"]}, ["loss has 1 items", "kind, place"]),
    ({"loss": {"kinds": "cross_entropy"}}, ["'kinds'", "kind, place"]),
    ({"loss": {"kind": "hinge"}}, ["hinge"]),
    ({"loss_weights": [1.0]}, ["loss_weights has 1"]), ({"loss_weights": {"x": 1.0}}, ["'x'"]),
    ({"loss_weights": {"kind": "much"}}, ["loss weight of 'kind'", "'much'"]),
    ({"metrics": {"x": "accuracy"}}, ["metrics", "'x'"]),
    ({"loss": {"kind": "cross_entropy"}, "metrics": {"place": "r2"}}, ["'place'", "no loss"]),
    ({"accumulate": 0}, ["accumulate is 0"]), ({"accumulate": 1.5}, ["accumulate is 1.5"]),
], ids=str)
def test_compile_refuses(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        forked().compile(**{"optimizer": "adam", "loss": ["cross_entropy", "squared_error"], **arguments})
    for word in words:
        assert word in notes(caught.value)


def test_a_dictionary_may_describe_the_loss_of_all() -> None:
    x = gnn.Input((4,), name="x")
    model = gnn.Model(x, {"name": nn.FullyConnected(3)(x)}, backend="numpy")
    model.compile({"name": "sgd", "lr": 0.1}, {"name": "cross_entropy", "label_smoothing": 0.1},
                  {"name": "top_k_accuracy", "k": 2})
    assert model.fit(X, IDS, verbose=False)["top_k_accuracy"][0] > 0
    model.compile("sgd", {"name": "cross_entropy"}, {"name": ["accuracy"]})
    assert "accuracy" in model.fit(X, IDS, verbose=False)


# ------------------------------------------------------------------------------------------------ losses that are values

def autoencoder(backend: str = "numpy", seed: int = 3) -> gnn.Model:
    """Learns its input through two numbers, with noise on them in training and L2 on a weight; takes no targets."""
    x = gnn.Input((4,), name="x")
    encoder, decoder = nn.FullyConnected(2, name="encoder"), nn.FullyConnected(4, name="decoder")
    y = decoder(nn.Dropout(0.2)(encoder(x)))
    losses = {"again": nn.SquaredError()(y, x), "l2": 0.01 * gnn.sum(gnn.square(encoder.weight))}
    return gnn.Model(x, y, losses=losses, seed=seed, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_of_the_graph_need_no_targets(backend: str) -> None:
    model = autoencoder(backend).compile(nn.SGD(0.0))
    found = model.evaluate(X)
    w = {name: array.astype(np.float64) for name, array in model.get_weights().items()}
    y = (X @ w["encoder/weight"] + w["encoder/bias"]) @ w["decoder/weight"] + w["decoder/bias"]
    again, l2 = ((y - X) ** 2).mean(), 0.01 * (w["encoder/weight"] ** 2).sum()
    assert found == pytest.approx({"loss": again + l2, "again": again, "l2": l2}, rel=1e-5)
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-4, atol=1e-5)
    history = model.compile(nn.Adam(0.02)).fit(X, epochs=40, batch_size=8, validation_data=X, verbose=False)
    assert history["val_again"][-1] < 0.8 * history["val_again"][0]


def test_a_regulariser_beside_a_loss_is_ridge_regression() -> None:
    x = gnn.Input((4,), name="x", dtype="f64")
    layer = nn.FullyConnected(2, bias=False, name="d")
    y = layer(x)
    model = gnn.Model(x, y, losses={"l2": gnn.sum(layer.weight * layer.weight)}, backend="numpy")
    model.compile(nn.SGD(0.1), nn.SquaredError("sum"), loss_weights={"l2": 0.5})
    w = model.state["d/weight"]
    history = model.fit(X, REAL, batch_size=23, verbose=False)
    gradient = 2 * X.T @ (X @ w - REAL) + 0.5 * 2 * w
    np.testing.assert_allclose(model.state["d/weight"], w - 0.1 * gradient, rtol=1e-10)
    error = ((X @ w - REAL) ** 2).sum() / 23
    assert history.last() == pytest.approx({"loss": error + 0.5 * (w * w).sum(), "d_loss": error, "l2": (w * w).sum()}, rel=1e-10)


def test_inputs_that_only_losses_read_are_not_asked_for_by_predict(tmp_path: Path) -> None:
    x, y = gnn.Input((4,), name="x"), gnn.Input((2,), name="y")
    prediction = nn.FullyConnected(2)(x)
    model = gnn.Model([x, y], prediction, losses={"error": nn.SquaredError()(prediction, y)}, backend="numpy")
    for given in (X, (X, REAL), {"x": X}, {"x": X, "y": REAL}):
        assert model.predict(given).shape == (23, 2)
    with pytest.raises(VerifyError, match="'z' is none of them"):
        model.predict({"x": X, "z": X})
    model.compile("sgd(lr=0.1)").fit((X, REAL), epochs=5, verbose=False)
    assert model.history["loss"][-1] < model.history["loss"][0]
    model.save(tmp_path / "m.gnn")
    np.testing.assert_array_equal(gnn.load(tmp_path / "m.gnn", backend="numpy").predict(X), model.predict(X))


def test_parameters_of_a_loss_train_and_are_saved_and_frozen(tmp_path: Path) -> None:
    x, y = gnn.Input((4,), name="x", dtype="f64"), gnn.Input((2,), name="y", dtype="f64")
    h = nn.FullyConnected(3, name="body")(x)
    error = nn.SquaredError()(nn.FullyConnected(2, name="probe")(h), y)
    model = gnn.Model([x, y], h, losses={"error": error}, backend="numpy").compile(nn.SGD(0.1))
    assert [v.name for v in model.parameters] == ["body/weight", "body/bias", "probe/weight", "probe/bias"]
    before = model.get_weights()
    model.fit((X, REAL), epochs=2, verbose=False)
    assert all((model.get_weights()[name] != array).any() for name, array in before.items())
    model.freeze("probe").save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    assert loaded.frozen == ("probe/weight", "probe/bias")
    assert (loaded.losses, loaded.output_names) == (("error",), ("body",))


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_of_the_graph_are_resumed_bit_for_bit(backend: str, tmp_path: Path) -> None:
    whole, half = autoencoder(backend).compile("adam(lr=0.01)"), autoencoder(backend).compile("adam(lr=0.01)")
    whole.fit(X, epochs=4, batch_size=8, verbose=False)
    half.fit(X, epochs=2, batch_size=8, verbose=False)
    half.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend=backend)
    loaded.fit(X, epochs=2, batch_size=8, verbose=False)
    assert bits(loaded) == bits(whole)
    assert str(loaded.graph) == str(whole.graph)


def test_losses_that_are_none() -> None:
    x = gnn.Input((4,), name="x")
    h = nn.FullyConnected(2)(x)
    for losses, kind, words in (({"a": h}, ShapeError, "f32[N,2]"), ({"a": 3}, VerifyError, "'a' is a int"),
                                ({"a b": gnn.mean(h)}, VerifyError, "'a b'"), (gnn.mean(h), VerifyError, "no mapping")):
        with pytest.raises(kind) as caught:
            gnn.Model(x, h, losses=losses)  # type: ignore[arg-type]
        assert words in notes(caught.value)
    model = gnn.Model(x, h, losses={"loss": gnn.mean(h)}, backend="numpy")
    with pytest.raises(VerifyError, match="two columns of the history would be named 'loss'"):
        model.compile("adam")
    model = gnn.Model(x, h, losses={"a": gnn.mean(h)}, backend="numpy")
    with pytest.raises(VerifyError, match="metrics need an output"):
        model.compile("adam", metrics="accuracy")
    with pytest.raises(VerifyError, match="no output has a loss"):
        model.compile("adam").fit(X, REAL, verbose=False)


@pytest.mark.parametrize("loss", [nn.VAELoss(), nn.WGAN_GPLoss(), nn.NCELoss(3, 2), lambda p: p], ids=range(4))
def test_losses_of_other_things_than_prediction_and_target(loss: Any) -> None:
    with pytest.raises(GraphnnError, match="is no loss of") as caught:
        forked().compile("adam", loss)
    assert "losses=" in notes(caught.value)


def test_a_variational_autoencoder_and_noise_contrastive_words(tmp_path: Path) -> None:
    """The two losses that the zoo's networks are trained by."""
    x = gnn.Input((4,), name="x")
    h = nn.FullyConnected(4, activation="tanh")(x)
    mean, log_variance = nn.FullyConnected(2, name="mean")(h), nn.FullyConnected(2, name="log_variance")(h)
    y = nn.FullyConnected(4, activation="sigmoid")(mean)
    vae = gnn.Model(x, y, losses={"vae": nn.VAELoss()(y, x, mean, log_variance)}, backend="numpy").compile("adam(lr=0.05)")
    data = 1 / (1 + np.exp(-X))
    assert vae.fit(data, epochs=15, verbose=False)["loss"][-1] < vae.history["loss"][0]

    word, near = gnn.Input((), name="word", dtype="i64"), gnn.Input((), name="near", dtype="i64")
    h = nn.Embedding(20, 6)(word)
    model = gnn.Model([word, near], h, losses={"nce": nn.NCELoss(20, 4)(h, near)}, backend="numpy").compile("adam(lr=0.05)")
    words = np.arange(40) % 20
    assert model.fit((words, (words + 1) % 20), epochs=10, verbose=False)["loss"][-1] < model.history["loss"][0]
    assert model.predict(words).shape == (40, 6)
    model.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    for one in (model, loaded):
        one.fit((words, (words + 1) % 20), verbose=False)
    assert bits(model) == bits(loaded)


def test_one_named_output_is_saved(tmp_path: Path) -> None:
    x = gnn.Input((4,), name="x")
    gnn.Model(x, {"scores": nn.FullyConnected(3)(x)}).save(tmp_path / "m.gnn")
    assert gnn.load(tmp_path / "m.gnn").output_names == ("scores",)


# ------------------------------------------------------------------------------------------------ losses that are functions

def test_functions_as_losses(tmp_path: Path) -> None:
    def absolute(prediction: gnn.Value, target: gnn.Value) -> gnn.Value:
        return gnn.abs(prediction - target)

    def whole(prediction: gnn.Value, target: gnn.Value) -> gnn.Value:
        return gnn.mean(gnn.abs(prediction - target))

    x, y = X, REAL
    found = []
    for loss in ("mean_absolute_error", absolute, whole):
        v = gnn.Input((4,), name="x", dtype="f64")
        model = gnn.Model(v, nn.FullyConnected(2)(v), backend="numpy").compile("sgd(lr=0.1)", loss)
        model.fit(x, y, epochs=3, batch_size=7, verbose=False)
        found.append((model.history["loss"], model.state["fully_connected/weight"].tolist()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert found[1][0] == pytest.approx(found[2][0], rel=1e-12)
    np.testing.assert_allclose(found[0][1], found[2][1], rtol=1e-12)
    with pytest.raises(UnsupportedError, match="whole is not part of graphnn") as caught:
        model.save(tmp_path / "m.gnn")
    assert "training=False" in notes(caught.value)
    with pytest.raises(ShapeError, match="one number for the batch"):
        model.fit(x, y, sample_weight=np.ones(23), verbose=False)


def test_a_function_of_ids() -> None:
    def hinge(prediction: gnn.Value, ids: gnn.Value) -> gnn.Value:
        own = gnn.equal(gnn.arange(3, "i64"), gnn.expand_dims(ids, -1))
        right = gnn.sum(gnn.where(own, prediction, 0.0), -1, keepdims=True)
        return gnn.sum(gnn.where(own, 0.0, gnn.relu(1.0 + prediction - right)), -1)

    x = gnn.Input((4,), name="x")
    model = gnn.Model(x, nn.FullyConnected(3)(x), backend="numpy").compile("adam(lr=0.05)", hinge, ["accuracy"])
    data, ids = examples(60)
    model.fit(data, ids, epochs=20, verbose=False)
    assert model.history["accuracy"][-1] > 0.85
    with pytest.raises(GraphnnError, match="gives a float"):
        model.compile("adam", lambda p, t: 3.0)
