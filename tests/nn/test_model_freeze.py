"""Frozen parameters: training leaves them alone, gradients flow through, and they can be trained again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import FileFormatError, VerifyError
from graphnn.files import load_file, save_file
from tests.nn.networks import BACKENDS, bits, examples, notes


def tower(backend: str = "numpy", *, seed: int = 1, norm: bool = False) -> tuple[gnn.Model, nn.FullyConnected]:
    """below -> (batch norm) -> body -> head, in float64."""
    x = gnn.Input((4,), name="x", dtype="f64")
    h = nn.FullyConnected(5, activation="tanh", name="below")(x)
    if norm:
        h = nn.BatchNorm1D(name="body/norm")(h)
    body = nn.FullyConnected(4, activation="tanh", name="body/dense")
    return gnn.Model(x, nn.FullyConnected(3, name="head")(body(h)), seed=seed, backend=backend), body


X, Y = examples(23)


def changed(before: dict[str, np.ndarray], model: gnn.Model) -> set[str]:
    return {name for name, array in model.state.arrays().items() if name in before and (before[name] != array).any()}


def part(model: gnn.Model, kind: str, body: nn.FullyConnected) -> object:
    return {"layer": body, "prefix": "body", "slash": "body/", "value": body.parameters[0], "name": "body/dense/weight"}[kind]


@pytest.mark.parametrize(("kind", "backend"), [*((kind, "numpy") for kind in ("layer", "prefix", "slash", "value", "name")),
                                               ("layer", "numba")])
def test_what_is_frozen_stays_and_the_rest_learns(kind: str, backend: str) -> None:
    model, body = tower(backend)
    model.compile(nn.Adam(0.01), "cross_entropy")
    model.freeze(part(model, kind, body))  # type: ignore[arg-type]
    whole = {"body/dense/weight", "body/dense/bias"}
    frozen = whole if kind in ("layer", "prefix", "slash") else {"body/dense/weight"}
    assert set(model.frozen) == frozen
    assert {v.name for v in model.trainable} == {v.name for v in model.parameters} - frozen
    before = model.state.arrays()
    model.fit(X, Y, epochs=3, batch_size=8, verbose=False)
    moved = changed(before, model)
    assert {v.name for v in model.trainable} <= moved               # "below" too: gradients flow through
    assert not frozen & moved
    assert not {f"adam/{slot}/{name}" for slot in "mv" for name in frozen} & moved
    assert f"{len(frozen)} frozen" in repr(model)


def test_the_gradient_through_a_frozen_layer_is_written_out() -> None:
    model, _ = tower()
    model.freeze("body", "head").compile(nn.SGD(0.1), "squared_error")
    w = {name: model.state[name] for name in (v.name for v in model.parameters)}
    y = np.zeros((6, 3))
    h = np.tanh(X[:6] @ w["below/weight"] + w["below/bias"])
    g = np.tanh(h @ w["body/dense/weight"] + w["body/dense/bias"])
    error = 2 * (g @ w["head/weight"] + w["head/bias"] - y) / 18
    dh = (error @ w["head/weight"].T * (1 - g * g)) @ w["body/dense/weight"].T * (1 - h * h)
    model.fit(X[:6], y, batch_size=6, verbose=False)
    np.testing.assert_allclose(model.state["below/weight"], w["below/weight"] - 0.1 * X[:6].T @ dh, rtol=1e-10)


def test_freezing_counts_from_the_next_step_on_and_can_be_undone() -> None:
    model, _ = tower()
    model.compile(nn.Adam(0.01), "cross_entropy")
    model.fit(X, Y, verbose=False)
    slot = model.state["adam/m/head/weight"]
    model.freeze("head")
    before = model.state["head/weight"]
    model.fit(X, Y, epochs=2, verbose=False)
    np.testing.assert_array_equal(model.state["head/weight"], before)
    np.testing.assert_array_equal(model.state["adam/m/head/weight"], slot)
    model.unfreeze("head")
    assert model.frozen == ()
    model.fit(X, Y, verbose=False)
    assert (model.state["head/weight"] != before).any()
    assert (model.state["adam/m/head/weight"] != slot).any()


def test_a_callback_can_freeze() -> None:
    model, _ = tower()
    model.compile(nn.SGD(0.1), "cross_entropy")
    seen: list[bytes] = []

    class Freezer:
        def on_batch_end(self, model: gnn.Model, step: int, numbers: dict[str, float]) -> None:
            seen.append(model.state["head/weight"].tobytes())
            if step == 2:
                model.freeze("head")

    model.fit(X, Y, batch_size=4, verbose=False, callbacks=[Freezer()])
    assert len(set(seen[:2])) == 2
    assert len(set(seen[1:])) == 1


def test_all_frozen_trains_nothing_and_one_by_one_is_like_all() -> None:
    model, _ = tower()
    model.compile(nn.Adam(0.01), "cross_entropy")
    model.freeze()
    assert model.trainable == ()
    before = bits(model)
    history = model.fit(X, Y, epochs=2, verbose=False)
    assert bits(model) == before
    assert history["loss"][0] == pytest.approx(history["loss"][1])
    model.unfreeze("body").unfreeze("head", "below")
    assert len(model.trainable) == 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_frozen_with_a_layer_normalise_in_training_too(backend: str) -> None:
    model, _ = tower(backend, norm=True)
    model.compile(nn.SGD(0.0), "cross_entropy")
    model.fit(X, Y, epochs=3, verbose=False)
    model.freeze("body")                                             # parameters alone: statistics move on
    before = model.state["body/norm/running_mean"]
    model.fit(X[:7], Y[:7], verbose=False)
    assert (model.state["body/norm/running_mean"] != before).any()
    model.freeze("body", statistics=True)
    assert "body/norm/running_mean" in model.frozen
    before = model.state["body/norm/running_mean"]
    numbers = model.fit(X[:7], Y[:7], verbose=False).last()
    np.testing.assert_array_equal(model.state["body/norm/running_mean"], before)
    assert numbers["loss"] == pytest.approx(model.evaluate(X[:7], Y[:7])["loss"], rel=1e-10)
    model.unfreeze("body")
    assert model.fit(X[:7], Y[:7], verbose=False).last()["loss"] != pytest.approx(model.evaluate(X[:7], Y[:7])["loss"], rel=1e-3)


def test_dropout_in_a_frozen_part_still_drops() -> None:
    x = gnn.Input((50,), name="x")
    h = nn.Dropout(0.5, name="body/drop")(nn.BatchNorm1D(name="body/norm")(x))
    model = gnn.Model(x, nn.FullyConnected(1, name="head")(h), backend="numpy").compile("sgd(lr=0.0)", "squared_error")
    model.freeze("body", statistics=True)
    data = np.random.default_rng(0).normal(size=(8, 50))
    losses = model.fit(data, np.ones((8, 1)), epochs=3, verbose=False)["loss"]
    assert len({round(loss, 5) for loss in losses}) == 3


def test_frozen_is_saved_and_resuming_goes_on_bit_for_bit(tmp_path: Path) -> None:
    models = [tower(norm=True)[0].freeze("body", statistics=True).compile(nn.Adam(0.01), "cross_entropy") for _ in range(2)]
    whole, half = models
    whole.fit(X, Y, epochs=4, batch_size=8, verbose=False)
    half.fit(X, Y, epochs=2, batch_size=8, verbose=False)
    half.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    assert loaded.frozen == half.frozen
    loaded.fit(X, Y, epochs=2, batch_size=8, verbose=False)
    assert bits(loaded) == bits(whole)
    half.save(tmp_path / "n.gnn", training=False)
    assert gnn.load(tmp_path / "n.gnn", backend="numpy").frozen == half.frozen


@pytest.mark.parametrize("meta", [{"frozen": ["nothing"]}, {"frozen": "body"}, {"frozen": [3]}, {"outputs": ["a", "b"]},
                                  {"losses": ["kl"]}], ids=str)
def test_files_that_name_what_is_not_there(meta: dict[str, object], tmp_path: Path) -> None:
    tower()[0].save(tmp_path / "m.gnn")
    file = load_file(tmp_path / "m.gnn")
    save_file(tmp_path / "bad.gnn", graphs=file.graphs, arrays=file.arrays, meta={"seed": 0, **meta})
    with pytest.raises(FileFormatError, match=r"bad\.gnn"):
        gnn.load(tmp_path / "bad.gnn")


@pytest.mark.parametrize("wrong", ["bod", "head/weights", "", 3, nn.FullyConnected(2), None])
def test_what_is_no_part_of_the_model(wrong: object) -> None:
    model, _ = tower()
    with pytest.raises(VerifyError) as caught:
        model.freeze(wrong)  # type: ignore[arg-type]
    assert ("FullyConnected" if isinstance(wrong, nn.Layer) else repr(wrong)) in notes(caught.value)
    assert model.frozen == ()


def test_groups_of_the_optimiser_may_be_frozen_wholly() -> None:
    model, _ = tower()
    model.freeze("body").compile(nn.SGD(0.1, groups={"body": {"lr_scale": 0.1}}), "cross_entropy")
    model.fit(X, Y, verbose=False)
