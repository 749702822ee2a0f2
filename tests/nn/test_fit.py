"""Training: what fit records, its order, its reproducibility, its states; predict and evaluate."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.nn.data import epoch_order, minibatches
from tests.nn.networks import BACKENDS, bits, convolutional, dense, examples, images


def linear(backend: str = "numpy", **more: Any) -> gnn.Model:
    x = gnn.Input((4,), name="x", dtype="f64")
    return gnn.Model(x, nn.FullyConnected(2)(x), name="linear", backend=backend, **more)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_fit_is_gradient_descent_written_out(reduction: str, backend: str) -> None:
    """Linear regression by hand in NumPy: every epoch's loss and the last weights, with a short last batch (23 = 4 x 5 + 3)."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 4)), rng.normal(size=(23, 2))
    model = linear(backend, seed=9)
    w, b = model.state["fully_connected/weight"], model.state["fully_connected/bias"]
    model.compile(nn.SGD(0.05), nn.SquaredError(reduction), metrics=["mean_squared_error"])
    history = model.fit(x, y, epochs=3, batch_size=5, verbose=False)
    for epoch in range(3):
        losses = 0.0
        for rows in minibatches(epoch_order(23, seed=9, epoch=epoch), 5):
            error = x[rows] @ w + b - y[rows]
            losses += (error ** 2).sum()
            d = 2 * error / (error.size if reduction == "mean" else 1)
            w, b = w - 0.05 * x[rows].T @ d, b - 0.05 * d.sum(0)
        assert history["loss"][epoch] == pytest.approx(losses / (46 if reduction == "mean" else 23), rel=1e-12)
        assert history["mean_squared_error"][epoch] == pytest.approx(losses / 46, rel=1e-6)
    np.testing.assert_allclose(model.state["fully_connected/weight"], w, rtol=1e-12)
    np.testing.assert_allclose(model.state["fully_connected/bias"], b, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_history_weighs_examples_not_batches(backend: str) -> None:
    """With a learning rate of 0 each epoch's numbers are those of all examples at once."""
    x, y = examples(23)
    model = dense(backend).compile(nn.SGD(0.0), "cross_entropy", ["accuracy"])
    history = model.fit(x, y, epochs=2, batch_size=9, validation_data=(x[:11], y[:11]), verbose=False)
    whole, part = model.evaluate(x, y, batch_size=23), model.evaluate(x[:11], y[:11], batch_size=4)
    for epoch in range(2):
        for name in ("loss", "accuracy"):
            assert history[name][epoch] == pytest.approx(whole[name], rel=1e-6)
            assert history[f"val_{name}"][epoch] == pytest.approx(part[name], rel=1e-6)
    logits = model.predict(x).astype(np.float64)
    assert whole["accuracy"] == pytest.approx((logits.argmax(1) == y).mean(), rel=1e-6)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert whole["loss"] == pytest.approx(-logs[np.arange(23), y].mean(), rel=1e-5)


def test_order_of_examples() -> None:
    assert epoch_order(5, seed=0, epoch=0, shuffle=False).tolist() == [0, 1, 2, 3, 4]
    orders = {(seed, epoch): epoch_order(50, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    assert epoch_order(50, seed=1, epoch=1).tolist() == orders[1, 1]
    assert [len(part) for part in minibatches(np.arange(7), 3)] == [3, 3, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_seed_gives_the_same_training(backend: str) -> None:
    def trained(seed: int) -> dict[str, bytes]:
        model = dense(backend, seed=seed).compile("adam", "cross_entropy")
        model.fit(*examples(), epochs=3, batch_size=7, verbose=False)
        return bits(model)

    assert trained(4) == trained(4)
    assert trained(4) != trained(5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fit_twice_is_fit_once(backend: str) -> None:
    once = dense(backend).compile("adam", "cross_entropy", "accuracy")
    twice = dense(backend).compile("adam", "cross_entropy", "accuracy")
    whole = once.fit(*examples(), epochs=4, batch_size=8, verbose=False)
    twice.fit(*examples(), epochs=1, batch_size=8, verbose=False)
    parts = twice.fit(*examples(), epochs=3, batch_size=8, verbose=False)
    assert bits(once) == bits(twice)
    assert whole.columns == parts.columns
    assert (len(parts), twice.epoch) == (4, 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_learns(backend: str) -> None:
    x, y = examples(120)
    model = dense(backend).compile(nn.Adam(0.05), "cross_entropy", ["accuracy"])
    model.fit(x, y, epochs=25, batch_size=32, verbose=False)
    assert model.evaluate(x, y)["accuracy"] > 0.9


def test_both_backends_train_alike() -> None:
    """Ten steps in a row, and batches of changing size."""
    models = [dense(backend).compile(nn.SGD(0.1, momentum=0.9), "cross_entropy") for backend in BACKENDS]
    for count, batch in ((10, 5), (7, 7), (1, 1), (13, 5), (10, 5)):
        for model in models:
            model.fit(*examples(count, seed=count), batch_size=batch, verbose=False)
    first, second = (model.state.arrays() for model in models)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    def trained(count: int) -> tuple[dict[str, bytes], bytes]:
        gnn.set_threads(count)
        model = convolutional().compile("adam", "cross_entropy", ["accuracy"])
        x, y = images(200)
        model.fit(x, y, epochs=2, batch_size=64, verbose=False)
        return bits(model), model.predict(x).tobytes()

    before = gnn.threads()
    try:
        assert trained(1) == trained(2) == trained(3)
    finally:
        gnn.set_threads(before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_change_between_calls(backend: str) -> None:
    x = gnn.Input(("T", 3), name="x")
    model = gnn.Model(x, gnn.mean(nn.FullyConnected(2)(x), 1), backend=backend).compile("sgd(lr=0.0)", "squared_error")
    w = model.state["fully_connected/weight"]
    for n, t in ((4, 5), (1, 1), (4, 2), (7, 5), (4, 5)):
        batch = np.random.default_rng(n).normal(size=(n, t, 3)).astype(np.float32)
        np.testing.assert_allclose(model.predict(batch), (batch @ w).mean(1), rtol=1e-4, atol=1e-6)
        model.fit(batch, np.zeros((n, 2)), verbose=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_predict_in_parts(backend: str) -> None:
    x, _ = examples(23)
    model = dense(backend)
    whole = model.predict(x)
    assert (whole.shape, whole.dtype) == ((23, 3), np.float32)
    for size in (1, 7, 22, 23, 100):
        np.testing.assert_allclose(model.predict(x, batch_size=size), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(x.tolist()), whole, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_belong_to_the_caller(backend: str) -> None:
    model, x = dense(backend), examples(8)[0].astype(np.float32)
    first = model.predict(x)
    kept = first.copy()
    model.predict(x + 1)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(model.predict(x), kept)


def two_towers() -> gnn.Model:
    left, right = gnn.Input((3,), name="left"), gnn.Input((2,), name="right")
    a, b = nn.FullyConnected(4, name="a")(left), nn.FullyConnected(4, name="b")(right)
    return gnn.Model([left, right], nn.FullyConnected(1)(gnn.tanh(a * b)), backend="numpy")


def test_several_inputs() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    model = two_towers()
    w = {name: array.astype(np.float64) for name, array in model.state.arrays().items()}
    expected = np.tanh((left @ w["a/weight"]) * (right @ w["b/weight"])) @ w["fully_connected/weight"]
    for given in ((left, right), [left, right], {"right": right, "left": left}):
        np.testing.assert_allclose(model.predict(given, batch_size=4), expected, rtol=1e-4, atol=1e-6)
    model.compile(nn.Adam(0.05), "squared_error")
    history = model.fit((left, right), np.ones((9, 1)), epochs=20, batch_size=4, verbose=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate({"left": left, "right": right}, np.ones((9, 1)))["loss"] < history["loss"][0]


def test_several_outputs() -> None:
    x = gnn.Input((4,), name="x")
    h = nn.FullyConnected(3)(x)
    model = gnn.Model(x, [h, nn.Softmax()(h)], backend="numpy")
    scores, shares = model.predict(examples(10)[0], batch_size=3)
    assert scores.shape == shares.shape == (10, 3)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    named = model.predict(examples(10)[0], as_dict=True)
    assert list(named) == ["fully_connected", "softmax"]
    np.testing.assert_array_equal(named["softmax"], model.predict(examples(10)[0])[1])


def test_one_hot_and_float_labels_train_like_ids() -> None:
    x, y = examples()
    ids, one_hot, floats = (dense().compile("sgd(lr=0.1)", "cross_entropy", ["accuracy"]) for _ in range(3))
    a = ids.fit(x, y, verbose=False)
    b = one_hot.fit(x, np.eye(3)[y], verbose=False)
    c = floats.fit(x, y.astype(np.float32), verbose=False)
    assert bits(ids) == bits(floats)
    assert a.columns == c.columns
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["accuracy"] == b["accuracy"]


def test_compiling_again_starts_a_fresh_optimiser() -> None:
    model = dense().compile("adam", "cross_entropy")
    model.fit(*examples(), verbose=False)
    weights = model.state["fully_connected/weight"]
    assert model.state["adam/step"] == 1
    model.compile("adam", "cross_entropy")
    assert model.state["adam/step"] == 0
    assert not model.state["adam/m/fully_connected/weight"].any()
    np.testing.assert_array_equal(model.state["fully_connected/weight"], weights)
    model.compile("sgd(momentum=0.5)", "cross_entropy")
    assert not any(name.startswith("adam") for name in model.state.names)
    model.fit(*examples(), verbose=False)
    assert model.state["sgd/velocity/fully_connected/weight"].any()
    assert model.epoch == 2


def test_compiling_that_fails_keeps_the_old_training() -> None:
    model = dense().compile("adam", "cross_entropy")
    model.fit(*examples(), verbose=False)
    before = bits(model)
    with pytest.raises(gnn.GraphnnError):
        model.compile("adam", "cross_entropy", ["speed"])
    assert bits(model) == before
    model.fit(*examples(), verbose=False)
    assert model.state["adam/step"] == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_can_be_set_between_calls(backend: str) -> None:
    model = dense(backend).compile(nn.SGD(0.1), "cross_entropy")
    model.state["sgd/lr"] = 0.0                                      # before the first step, too
    weights = model.state["fully_connected/weight"]
    model.fit(*examples(), verbose=False)
    np.testing.assert_array_equal(model.state["fully_connected/weight"], weights)
    model.state["sgd/lr"] = 0.1
    model.state["fully_connected/weight"] = np.zeros((4, 6))
    np.testing.assert_allclose(model.predict(np.ones((1, 4)))[0], model.state["fully_connected_1/bias"], atol=1e-6)
    model.fit(*examples(), verbose=False)
    assert model.state["fully_connected/weight"].any()
    with pytest.raises(gnn.errors.ShapeError, match="fully_connected/weight"):
        model.state["fully_connected/weight"] = np.zeros((4, 5))
    with pytest.raises(gnn.errors.VerifyError, match="no 'adam/lr'"):
        model.state["adam/lr"] = 0.1


def test_float64_models() -> None:
    x, y = examples(40)
    model = dense(dtype="f64").compile(nn.Adam(0.05), "cross_entropy", ["accuracy"])
    history = model.fit(x, y, epochs=5, batch_size=8, verbose=False)
    assert model.predict(x).dtype == np.float64
    assert model.state["fully_connected/weight"].dtype == np.float64
    assert history["loss"][-1] < history["loss"][0]


def test_callbacks_and_printed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, float]] = []
    model = dense().compile("adam", "cross_entropy", ["accuracy"])
    model.fit(*examples(), epochs=2, callbacks=[lambda m, epoch, numbers: seen.append((epoch, numbers["loss"]))])
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert [loss for _, loss in seen] == model.history["loss"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all(word in lines[0] for word in ("loss", "accuracy", "examples/s", "left"))


def test_history_as_a_table_and_a_picture(tmp_path: Any) -> None:
    model = dense().compile("adam", "cross_entropy", ["accuracy"])
    model.fit(*examples(), verbose=False)
    model.fit(*examples(), validation_data=examples(5), verbose=False)
    history = model.history
    assert np.isnan(history["val_loss"][0])
    assert history.last()["val_loss"] == history["val_loss"][1]
    assert list(history.columns) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert repr(history).startswith("<History of 2 epochs: loss ")
    history.to_csv(tmp_path / "h.csv")
    rows = [line.split(",") for line in (tmp_path / "h.csv").read_text().splitlines()]
    assert rows[0][0] == "epoch"
    assert float(rows[2][rows[0].index("loss")]) == history["loss"][1]
    with pytest.raises(gnn.errors.VerifyError, match="no 'speed'; it has loss"):
        history["speed"]
    pytest.importorskip("matplotlib")
    history.plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes()[:4] == b"\x89PNG"


def test_a_prepared_step_trains_nothing_until_called() -> None:
    x, y = examples()
    model = dense("numba").compile("adam", "cross_entropy")
    before = bits(model)
    step = model.training_step(x, y)
    assert bits(model) == before
    loss, *_ = step(x.astype(np.float32), y)
    assert loss == pytest.approx(model_loss_before(x, y), rel=1e-5)
    assert bits(model) != before


def model_loss_before(x: np.ndarray, y: np.ndarray) -> float:
    return dense("numpy").compile("adam", "cross_entropy").evaluate(x, y)["loss"]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    dense().compile("adam", "cross_entropy", ["accuracy"]).fit(*examples(), epochs=2, batch_size=4)
    shown = capsys.readouterr().out
    for word in ("epoch 1/2", "epoch 2/2", "loss", "accuracy", "examples/s"):
        assert word in shown


def test_without_rich_lines_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    dense().compile("adam", "cross_entropy").fit(*examples())
    assert capsys.readouterr().out.startswith("epoch 1/1  loss ")


@dataclass(eq=False)
class Scale(nn.Layer):
    """A user's own layer: y = s x, with one s a feature."""

    first: float = 1.0

    def build(self, x: gnn.TensorType) -> None:
        self.factor = self.param("factor", (x.shape[-1],), lambda shape, dtype, rng: np.full(shape, self.first, dtype))

    def call(self, x: gnn.Value) -> gnn.Value:
        return x * self.factor


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_of_the_users(backend: str) -> None:
    x = gnn.Input((3,), name="x")
    model = gnn.Model(x, Scale(2.0)(Scale()(x)), backend=backend)
    assert [value.name for value in model.parameters] == ["scale/factor", "scale_1/factor"]
    data = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(model.predict(data), 2 * data, rtol=1e-6)
    model.compile(nn.Adam(0.05), "squared_error").fit(data, -3 * data, epochs=60, batch_size=10, verbose=False)
    np.testing.assert_allclose(model.predict(data), -3 * data, rtol=0.05, atol=0.05)


def test_a_metric_that_does_not_take_the_targets_is_an_error_before_training() -> None:
    model = dense().compile("adam", "cross_entropy", ["mean_squared_error"])
    x, y = examples()
    before = bits(model)
    with pytest.raises(gnn.errors.DTypeError, match="i64"):
        model.fit(x, y, verbose=False)
    assert bits(model) == before
    model.fit(x, np.eye(3)[y], verbose=False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", ["squared_error", lambda p, t: gnn.square(p - t)])
@pytest.mark.parametrize("count", [9, 1])
def test_a_last_axis_of_one_may_be_left_out_of_the_targets(count: int, loss: Any, backend: str) -> None:
    """Numbers (N,) for outputs (N, 1), and the reverse: nothing is broadcast."""
    x, y = np.random.default_rng(0).normal(size=(count, 4)), np.random.default_rng(1).normal(size=count)
    found: list[Any] = []
    for squeezed in (False, True):
        for targets in (y, y[:, None]):
            v = gnn.Input((4,), name="x", dtype="f64")
            out = nn.FullyConnected(1)(v)
            model = gnn.Model(v, gnn.squeeze(out, -1) if squeezed else out, seed=0, backend=backend)
            model.compile("sgd(lr=0.1)", loss).fit(x, targets, epochs=2, batch_size=4, verbose=False)
            found.append((model.history["loss"], bits(model)))
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0][0] == pytest.approx(found[2][0], rel=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_ids_may_be_a_column(loss: str) -> None:
    x, ids = examples(23)
    answers: Any = ids if loss == "cross_entropy" else ids == 1
    found: list[Any] = []
    for y in (answers, answers[:, None], answers[:, None].tolist()):
        v = gnn.Input((4,), name="x")
        model = gnn.Model(v, nn.FullyConnected(3 if loss == "cross_entropy" else 1)(v), seed=0, backend="numpy")
        model.compile("adam", loss).fit(x, y, class_weight={1: 3.0}, sample_weight=np.arange(23), verbose=False)
        found.append((model.history["loss"], bits(model)))
    assert found[0] == found[1] == found[2]
