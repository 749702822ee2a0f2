"""Dropout: the mask's statistics, its gradient, its modes, seeds, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError


def _drop(layer: nn.Layer, shape: tuple[int, ...], **options: object) -> gnn.Executable:
    x = gnn.Input(shape, name="x")
    return gnn.compile(gnn.Graph.of("drop", [x], [layer(x)]), **{"training": True, "backend": "numpy", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept_and_its_scale(p: float) -> None:
    exe = _drop(nn.Dropout(p), (100, 100))
    y = exe(np.ones((4, 100, 100), np.float32))
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / y.size)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_gradient_passes_the_mask_of_the_forward(backend: str) -> None:
    x, dy = gnn.Input((31,), name="x"), gnn.Input((31,), name="dy")
    y = nn.Dropout(0.4)(x)
    (dx,) = gnn.gradients(y, [x], dy)
    exe = gnn.compile(gnn.Graph.of("both", [x, dy], [y, dx]), training=True, backend=backend)
    a, d = np.random.default_rng(0).normal(size=(2, 5, 31)).astype(np.float32)
    for _ in range(3):
        found, gradient = exe(a, d)
        mask = (found != 0) / 0.6
        np.testing.assert_allclose(found, a * mask, rtol=1e-6)
        np.testing.assert_allclose(gradient, d * mask, rtol=1e-6)
        assert 0 < (found != 0).mean() < 1


def test_both_backends_draw_the_same_masks_and_steps_differ() -> None:
    ones = np.ones((3, 50), np.float32)
    found = [[(exe := _drop(nn.Dropout(0.5), (50,), backend=backend))(ones) for _ in range(1)] + [exe(ones), exe(ones)]
             for backend in ("numpy", "numba")]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(found[0][0], found[0][1])
    assert not np.array_equal(found[0][1], found[0][2])


def test_masks_differ_by_seed_by_layer_and_by_call() -> None:
    ones = np.ones((1, 200), np.float32)
    assert not np.array_equal(_drop(nn.Dropout(0.5), (200,), seed=1)(ones), _drop(nn.Dropout(0.5), (200,), seed=2)(ones))
    np.testing.assert_array_equal(_drop(nn.Dropout(0.5), (200,), seed=1)(ones), _drop(nn.Dropout(0.5), (200,), seed=1)(ones))
    x, shared = gnn.Input((200,), name="x"), nn.Dropout(0.5)
    graph = gnn.Graph.of("three", [x], [shared(x), shared(x), nn.Dropout(0.5)(x)])
    a, b, c = gnn.compile(graph, training=True, backend="numpy")(ones)
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(b, c)


def test_evaluation_is_the_identity_and_leaves_the_step() -> None:
    exe = _drop(nn.Dropout(0.5), (7,), training=None)
    x = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    np.testing.assert_array_equal(exe(x), x)
    assert exe.state["dropout/step"] == 0


def test_nothing_is_dropped_at_p_0_and_infinities_are_dropped_clean() -> None:
    x = np.array([[np.inf, -np.inf, 1.0] * 20], np.float32)
    np.testing.assert_array_equal(_drop(nn.Dropout(0.0), (60,))(x), x)
    y = _drop(nn.Dropout(0.5), (60,))(x)
    assert not np.isnan(y).any()
    assert (y == 0).any()


def test_spatial_dropout_drops_whole_channels() -> None:
    y = _drop(nn.Dropout(0.5, spatial=True), (4, 5, 30))(np.ones((6, 4, 5, 30), np.float32))
    assert (y == y[:, :1, :1]).all()
    assert 0 < (y[:, 0, 0] == 0).mean() < 1
    with pytest.raises(ShapeError, match="spatial takes"):
        nn.Dropout(0.5, spatial=True)(gnn.Input((3,), name="x"))


def test_a_wrapped_layer_gets_the_dropped_input_and_belongs_to_the_wrapper() -> None:
    x = gnn.Input((40,), name="x")
    dense = nn.FullyConnected(3, activation="tanh", name="dense")
    wrapper = nn.Dropout(0.5, dense, name="drop")
    graph = gnn.Graph.of("wrapped", [x], [wrapper(x)])
    assert [value.name for value in wrapper.parameters] == ["drop/dense/weight", "drop/dense/bias"]
    exe = gnn.compile(graph, training=True, backend="numpy")
    a = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    plain = gnn.compile(graph, state=exe.state, backend="numpy")(a)
    w, b = exe.state["drop/dense/weight"], exe.state["drop/dense/bias"]
    np.testing.assert_allclose(plain, np.tanh(a @ w + b), rtol=1e-5, atol=1e-6)
    assert not np.allclose(exe(a), plain)


def test_keywords_of_the_call_go_to_the_wrapped_layer_as_they_are() -> None:
    """A recurrent layer with lengths, attention with a mask: only what is real and comes first is dropped."""
    x, lengths = gnn.Input((4, 64), name="x"), gnn.Input((), name="lengths", dtype="i64")
    y = nn.Dropout(0.5, nn.GRU(2))(x, lengths=lengths)
    run = gnn.compile(gnn.Graph.of("drop", [x, lengths], [y]), training=True, backend="numpy")
    found = run(np.ones((2, 4, 64), np.float32), np.array([4, 1]))
    assert (found[0] != 0.0).all()
    assert (found[1, 0] != 0.0).all()
    np.testing.assert_array_equal(found[1, 1:], np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="takes one value, not 2"):
        nn.Dropout(0.5)(x, lengths=lengths)


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6)).astype(np.float32), rng.normal(size=(20, 1)).astype(np.float32)

    def model() -> gnn.Model:
        value = gnn.Input((6,), name="x")
        made = gnn.Model(value, nn.FullyConnected(1)(nn.Dropout(0.3)(nn.FullyConnected(8, "relu")(value))))
        return made.compile("adam", "squared_error")

    whole = model()
    whole.fit(x, y, epochs=4, batch_size=7, verbose=False)
    half = model()
    half.fit(x, y, epochs=2, batch_size=7, verbose=False)
    half.save(tmp_path / "half.gnn")
    resumed = gnn.load(tmp_path / "half.gnn")
    resumed.fit(x, y, epochs=2, batch_size=7, verbose=False)
    for name, array in whole.state.arrays().items():
        np.testing.assert_array_equal(resumed.state[name], array, err_msg=name)


def test_masks_do_not_depend_on_the_number_of_threads() -> None:
    ones, before, found = np.ones((64, 1000), np.float32), gnn.threads(), []
    try:
        for count in (1, 3):
            gnn.set_threads(count)
            found.append(_drop(nn.Dropout(0.5), (1000,), backend="numba")(ones))
    finally:
        gnn.set_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("p", [-0.1, 1, 1.0, "half", None, float("nan"), True])
def test_a_probability_out_of_range_is_named(p: object) -> None:
    with pytest.raises(ShapeError, match="Dropout: p is"):
        nn.Dropout(p)  # type: ignore[arg-type]


def test_other_bad_input() -> None:
    with pytest.raises(ShapeError, match="layer is 3"):
        nn.Dropout(0.5, 3)  # type: ignore[arg-type]
    with pytest.raises(GraphnnError, match="takes real numbers"):
        nn.Dropout(0.5)(gnn.Input((3,), name="x", dtype="i64"))
