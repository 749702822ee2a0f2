"""What the tests of layers do to a layer: run it, train it for three steps, save and load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import nn

Build = Callable[..., gnn.Value]


def placeholders(arrays: Sequence[np.ndarray], shapes: Sequence[Sequence[Any]] | None = None) -> list[gnn.Value]:
    """Inputs of the arrays' dtypes, of their shapes behind a batch N, or of `shapes`."""
    found = shapes or [array.shape[1:] for array in arrays]
    return [gnn.Input(shape, name=f"x{i}", dtype=str(gnn.TensorType.of(array).dtype))
            for i, (array, shape) in enumerate(zip(arrays, found, strict=True))]


def random_state(exe: gnn.Executable | gnn.Model, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random arrays for every parameter, set there; returned in float64 by the last part of their names."""
    for name in exe.state.names:
        exe.state[name] = rng.normal(size=exe.state[name].shape)
    return {name.rsplit("/")[-1]: exe.state[name].astype(np.float64) for name in exe.state.names}


def check_layer(layer: Callable[..., Any], arrays: Sequence[np.ndarray], oracle: Callable[..., np.ndarray], *,
                shapes: Sequence[Sequence[Any]] | None = None, tolerance: float = 2e-5) -> None:
    """The layer's result by the interpreter in float64 and by kernels in float32 is that of `oracle(*arrays, **parameters)`.

    `layer` makes it from a dtype.
    """
    rng = np.random.default_rng(7)
    for backend, real in (("numpy", np.float64), ("numba", np.float32)):
        data = [a.astype(real) if a.dtype.kind == "f" else a for a in arrays]
        values = placeholders(data, shapes)
        y = layer(str(gnn.as_dtype("f64" if real is np.float64 else "f32")))(*values)
        exe = gnn.compile(gnn.Graph.of("layer", values, [y]), backend=backend)
        parameters = random_state(exe, rng)
        expected = oracle(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in data), **parameters)
        actual = exe(*data)
        assert actual.dtype == real
        assert actual.shape == expected.shape
        close = 1e-11 if real is np.float64 else tolerance
        np.testing.assert_allclose(actual, expected, rtol=close, atol=close)


def check_derivatives(layer: nn.Layer, arrays: Sequence[np.ndarray]) -> None:
    """Derivatives by the inputs and the layer's parameters, to order 2, against finite differences."""
    rng = np.random.default_rng(8)
    data = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    layer(*placeholders(data))
    labels = [label for label in ("weight", "offset") if isinstance(getattr(layer, label, None), gnn.Value)]
    points = [rng.normal(size=tuple(getattr(layer, label).type.shape)) for label in labels]

    def f(*values: gnn.Value) -> gnn.Value:
        for label, value in zip(labels, values[len(data):], strict=True):
            setattr(layer, label, value)
        return layer(*values[:len(data)])

    gnn.check_gradients(f, [*data, *points])


def check_training(build: Build, arrays: Sequence[np.ndarray], path: Path, *, target_size: int = 2, lr: float = 0.02) -> None:
    """Three compiled steps of gradient descent lower the loss; the saved model predicts the same after loading."""
    rng = np.random.default_rng(9)
    values = placeholders(arrays)
    h = build(*values)
    y = nn.FullyConnected(target_size)(nn.Flatten()(h) if h.rank != 2 else h)
    model = gnn.Model(values, y, name="probe", seed=1)
    target = rng.normal(size=(len(arrays[0]), target_size)).astype(np.float32)
    model.compile(nn.SGD(lr), nn.SquaredError())
    data = list(arrays) if len(arrays) > 1 else arrays[0]
    before = {name: model.state[name].copy() for name in (value.name for value in model.parameters)}
    losses = [model.fit(data, target, batch_size=len(target), epochs=1, verbose=False)["loss"][-1] for _ in range(3)]
    losses.append(model.evaluate(data, target)["loss"])
    assert losses == sorted(losses, reverse=True), losses
    assert losses[-1] < losses[0]
    assert all((model.state[name] != array).any() for name, array in before.items()), "a parameter did not move"
    model.save(path / "probe.gnn")
    loaded = gnn.load(path / "probe.gnn")
    np.testing.assert_array_equal(loaded.predict(data), model.predict(data))
