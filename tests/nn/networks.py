"""Small networks and data that the tests of nn share."""

from __future__ import annotations

import numpy as np

import graphnn as gnn
from graphnn import nn

BACKENDS = ("numpy", "numba")


def dense(backend: str = "numpy", *, seed: int = 0, dtype: str = "f32") -> gnn.Model:
    """4 features -> 6 tanh -> 3 scores."""
    x = gnn.Input((4,), name="x", dtype=dtype)
    hidden = nn.FullyConnected(6, activation="tanh")(x)
    return gnn.Model(x, nn.FullyConnected(3)(hidden), name="dense", seed=seed, backend=backend)


def convolutional(backend: str = "numba", *, seed: int = 0) -> gnn.Model:
    """Images of 9 x 9 through a convolution, a pool, and a dense layer."""
    x = gnn.Input((9, 9, 1), name="image")
    h = nn.Conv2D(8, 3, padding="same", activation="relu")(x)
    h = nn.Flatten()(nn.Pool2D(2)(h))
    return gnn.Model(x, nn.FullyConnected(3)(h), name="convolutional", seed=seed, backend=backend)


def examples(count: int = 23, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of three classes that a small network learns, in float64 as scikit-learn gives them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4))
    return x, np.argmax(x[:, :3], axis=1)


def images(count: int = 40, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 9, 9, 1))
    return x, (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)


def bits(model: gnn.Model) -> dict[str, bytes]:
    """Every array of the model's state, bit for bit."""
    return {name: array.tobytes() for name, array in model.state.arrays().items()}


def notes(error: BaseException) -> str:
    """What Python prints of an error: its message, and the notes under it."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
