"""BatchNorm1D and 2D: both modes against NumPy, running statistics, derivatives, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError
from graphnn.ir.modes import resolve_values

CASES = [(nn.BatchNorm1D, (7, 3)), (nn.BatchNorm1D, (4, 5, 2)), (nn.BatchNorm2D, (3, 4, 5, 2)), (nn.BatchNorm1D, (1, 1)),
         (nn.BatchNorm2D, (1, 2, 1, 1)), (nn.BatchNorm1D, (33, 17))]


def _network(layer: nn.Layer, shape: tuple[int, ...], dtype: str) -> gnn.Graph:
    x = gnn.Input(shape[1:], name="x", dtype=dtype)
    return gnn.Graph.of("norm", [x], [layer(x)])


@pytest.mark.parametrize(("backend", "dtype", "close"), [("numpy", "f64", 1e-11), ("numba", "f32", 3e-5)])
@pytest.mark.parametrize(("layer", "shape"), CASES)
@pytest.mark.parametrize("unbiased", [True, False])
def test_both_modes_and_the_running_statistics(layer: type[nn.BatchNorm1D], shape: tuple[int, ...], unbiased: bool,
                                               backend: str, dtype: str, close: float) -> None:
    rng = np.random.default_rng(3)
    graph = _network(layer(momentum=0.3, eps=1e-3, unbiased=unbiased, name="bn"), shape, dtype)
    train = gnn.compile(graph, training=True, backend=backend)
    evaluate = gnn.compile(graph, state=train.state, backend=backend)
    w, b = rng.normal(size=shape[-1]), rng.normal(size=shape[-1])
    train.state.update({"bn/weight": w, "bn/bias": b})
    mean, var = np.zeros(shape[-1]), np.ones(shape[-1])
    axes = tuple(range(len(shape) - 1))
    for step in range(3):
        x = rng.normal(1.0, 2.0, (shape[0] + step, *shape[1:])).astype(np.float64 if dtype == "f64" else np.float32)
        exact = x.astype(np.float64)
        m, v = exact.mean(axes), exact.var(axes)
        np.testing.assert_allclose(train(x), w * (exact - m) / np.sqrt(v + 1e-3) + b, rtol=close, atol=close)
        n = x.size // shape[-1]
        mean, var = 0.7 * mean + 0.3 * m, 0.7 * var + 0.3 * v * (n / max(n - 1, 1) if unbiased else 1.0)
        np.testing.assert_allclose(train.state["bn/running_mean"], mean, rtol=close, atol=close)
        np.testing.assert_allclose(train.state["bn/running_var"], var, rtol=close, atol=close)
        np.testing.assert_allclose(evaluate(x), w * (exact - mean) / np.sqrt(var + 1e-3) + b, rtol=close, atol=close)
        np.testing.assert_array_equal(train.state["bn/running_mean"], evaluate.state["bn/running_mean"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm1D, (5, 3)), (nn.BatchNorm2D, (2, 3, 2, 2))])
def test_derivatives_to_second_order(layer: type[nn.BatchNorm1D], shape: tuple[int, ...], training: bool) -> None:
    rng = np.random.default_rng(4)
    bn = layer(eps=0.1)
    bn(gnn.Input(shape[1:], name="x", dtype="f64"))

    def f(x: gnn.Value, w: gnn.Value, b: gnn.Value, mean: gnn.Value, var: gnn.Value) -> gnn.Value:
        bn.weight, bn.offset, bn.running_mean, bn.running_var = w, b, mean, var
        return resolve_values([], bn.call(x), training)[0]

    vectors = [rng.uniform(0.5, 2.0, shape[-1]) for _ in range(4)]
    gnn.check_gradients(f, [rng.normal(size=shape), *vectors])


def test_the_gradient_by_x_is_the_textbook_one() -> None:
    x = gnn.Input((3,), name="x", dtype="f64")
    dy = gnn.Input((3,), name="dy", dtype="f64")
    y = nn.BatchNorm1D(affine=False)(x)
    (dx,) = gnn.gradients(y, [x], dy)
    a, d = np.random.default_rng(5).normal(size=(2, 6, 3))
    found = gnn.compile(gnn.Graph.of("dx", [x, dy], [dx]), training=True, backend="numpy")(a, d)
    hat = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5)
    expected = (6 * d - d.sum(0) - hat * (d * hat).sum(0)) / (6 * np.sqrt(a.var(0) + 1e-5))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_without_affine_there_are_no_parameters_but_statistics() -> None:
    graph = _network(nn.BatchNorm2D(affine=False), (2, 3, 3, 4), "f32")
    assert not graph.by_role("param")
    assert [state.name for state in graph.by_role("state")] == ["batch_norm2d/running_mean", "batch_norm2d/running_var"]


def test_a_layer_called_twice_updates_its_statistics_twice() -> None:
    a, b = gnn.Input((2,), name="a"), gnn.Input((2,), name="b")
    bn = nn.BatchNorm1D(momentum=0.5)
    exe = gnn.compile(gnn.Graph.of("twice", [a, b], [bn(a), bn(b)]), training=True, backend="numpy")
    exe(np.full((3, 2), 4.0, np.float32), np.full((3, 2), 8.0, np.float32))
    np.testing.assert_allclose(exe.state["batch_norm1d/running_mean"], 0.5 * (0.5 * 4.0) + 0.5 * 8.0)


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm1D, (6, 3)), (nn.BatchNorm2D, (6, 4, 4, 2))])
def test_three_steps_and_a_file(layer: type[nn.BatchNorm1D], shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=shape).astype(np.float32), rng.normal(size=(shape[0], 2)).astype(np.float32)
    value = gnn.Input(shape[1:], name="x")
    model = gnn.Model(value, nn.FullyConnected(2)(nn.Flatten()(layer(name="bn")(value)))).compile("sgd(lr=0.05)", "squared_error")
    before = model.state.arrays()
    losses = model.fit(x, y, epochs=4, batch_size=len(x), verbose=False)["loss"]
    assert losses == sorted(losses, reverse=True)
    assert all(not np.array_equal(before[name], array) for name, array in model.state.arrays().items() if name != "sgd/lr")
    model.save(tmp_path / "model.gnn")
    again = gnn.load(tmp_path / "model.gnn")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.fit(x, y, epochs=1, verbose=False).last() == model.fit(x, y, epochs=1, verbose=False).last()


def test_a_batch_of_one_is_finite_in_training() -> None:
    exe = gnn.compile(_network(nn.BatchNorm1D(), (1, 3), "f32"), training=True)
    assert np.array_equal(exe(np.array([[1.0, -2.0, 1e4]], np.float32)), np.zeros((1, 3)))
    assert np.isfinite(exe.state["batch_norm1d/running_var"]).all()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_a_batch_of_none_leaves_the_statistics_as_they_were(shape: tuple[int, ...], backend: str) -> None:
    x = gnn.Input(shape[1:] if len(shape) == 2 else ("T", 3), name="x")
    step = gnn.compile(gnn.Graph.of("norm", [x], [nn.BatchNorm1D()(x)]), training=True, backend=backend)
    assert step(np.zeros(shape, np.float32)).shape == shape
    np.testing.assert_array_equal(step.state["batch_norm1d/running_mean"], np.zeros(3))
    np.testing.assert_array_equal(step.state["batch_norm1d/running_var"], np.ones(3))
    step(np.full((1, *shape[1:-1], 3) if 0 not in shape[1:] else (1, 2, 3), 2.0, np.float32))
    np.testing.assert_allclose(step.state["batch_norm1d/running_mean"], np.full(3, 0.2), rtol=1e-6)


def test_bad_input_is_named() -> None:
    with pytest.raises(ShapeError, match=r"momentum is 1\.5"):
        nn.BatchNorm1D(momentum=1.5)
    with pytest.raises(ShapeError, match="eps is 0"):
        nn.BatchNorm2D(eps=0)
    with pytest.raises(ShapeError, match="takes images"):
        nn.BatchNorm2D()(gnn.Input((3,), name="x"))
    with pytest.raises(ShapeError, match=r"takes \(N, C\)"):
        nn.BatchNorm1D()(gnn.Input((3, 3, 3), name="x"))
    with pytest.raises(ShapeError, match="symbolic"):
        nn.BatchNorm1D()(gnn.Input(("C",), name="x"))
    with pytest.raises(GraphnnError, match="takes real numbers"):
        nn.BatchNorm1D()(gnn.Input((3,), name="x", dtype="i64"))


@pytest.mark.parametrize("shape", [(24, 28, 28, 8), (2000, 9)])
def test_a_large_batch_summed_in_parts(shape: tuple[int, ...]) -> None:
    """Sums over so many elements for so few channels are computed in chunks, in several kernels."""
    rng = np.random.default_rng(8)
    x, d = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    value, dy = gnn.Input(shape[1:], name="x"), gnn.Input(shape[1:], name="dy")
    layer = nn.BatchNorm2D(name="bn") if len(shape) == 4 else nn.BatchNorm1D(name="bn")
    y = gnn.relu(layer(value))
    params = layer.parameters
    found = gnn.gradients(y, [value, *params], dy)
    summed = gnn.sum(found[0], tuple(range(len(shape) - 1)))
    graph = gnn.Graph.of("large", [value, dy], [y, summed, *found],
                         updates=[(p, p - 0.1 * g) for p, g in zip(params, found[1:], strict=True)])
    by_kernels, by_numpy = gnn.compile(graph), gnn.compile(graph, backend="numpy")
    for a, b in zip(by_kernels(x, d), by_numpy(x, d), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
    for name, array in by_numpy.state.arrays().items():
        np.testing.assert_allclose(by_kernels.state[name], array, rtol=1e-3, atol=1e-3)
