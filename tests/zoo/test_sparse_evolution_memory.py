"""Memory of SparseEvolution networks goes with the weights that exist, in state and in plan; and the example's network learns."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.nn.layers.sparse_evolution import FRESH

WIDTH, BATCH = 600, 8


def network(entries: int, *, backend: str = "numba") -> gnn.Model:
    """600-600-3, the first layer with so many weights."""
    x = gnn.Input((WIDTH,), name="x")
    h = nn.SparseEvolution(WIDTH, epsilon=entries / (2 * WIDTH), activation="relu")(x)
    return gnn.Model(x, nn.FullyConnected(3)(h), backend=backend).compile("adam(lr=0.001)", "cross_entropy")


def bytes_of_state(model: gnn.Model) -> int:
    return sum(array.nbytes for array in model.state.arrays().values())


def bytes_of_step(model: gnn.Model) -> int:
    step = model.training_step(np.zeros((BATCH, WIDTH), np.float32), np.zeros(BATCH, np.int64))
    return step.plan.buffers.arena


def test_state_grows_by_24_bytes_a_weight() -> None:
    """4 of the weight, 8 of Adam's moments, 12 of its place: row, column, and where it comes in the order of columns."""
    small, large = network(1200, backend="numpy"), network(12_000, backend="numpy")
    assert bytes_of_state(large) - bytes_of_state(small) == (12_000 - 1200) * (4 + 8 + 12)
    dense = WIDTH * WIDTH * 12
    assert bytes_of_state(small) < 1200 * 24 + 4 * FRESH + 20 * WIDTH + 3 * 12 * (WIDTH + 1) + 200 < dense / 30


def test_the_plan_holds_no_dense_weight() -> None:
    """The buffers of a training step: activations, and a few numbers for each weight that exists."""
    small, large = bytes_of_step(network(1200)), bytes_of_step(network(12_000))
    assert large - small <= (12_000 - 1200) * 40
    assert large < WIDTH * WIDTH * 4 / 2


@pytest.mark.parametrize("every", [0, 2])
def test_a_twentieth_of_the_weights_is_enough(every: int) -> None:
    """Which of ten groups of inputs is large: by chance 0.1. Density stays what it was."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 600)
    x = (rng.normal(size=(600, 60)) + 1.5 * np.repeat(np.eye(10)[y], 6, axis=1)).astype(np.float32)
    inputs = gnn.Input((60,), name="x")
    layer = nn.SparseEvolution(200, epsilon=0.05 * 60 * 200 / 260, activation="relu")
    model = gnn.Model(inputs, nn.FullyConnected(10)(layer(inputs)), backend="numpy", seed=0)
    model.compile("adam(lr=0.01)", "cross_entropy", metrics=["accuracy"])
    before = layer.mask(model.state)
    model.fit(x[:400], y[:400], epochs=10, verbose=False, callbacks=[nn.Rewire(every)] if every else [])
    after = layer.mask(model.state)
    assert before.sum() == after.sum() == 600
    assert (before != after).any() == bool(every)
    assert model.evaluate(x[400:], y[400:])["accuracy"] > 0.75
