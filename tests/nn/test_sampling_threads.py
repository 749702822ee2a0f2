"""Draws of the alias method, and NCE trained with them, are the same to the bit for any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.nn.sampling import AliasSampler

CLASSES = 3000
P = (lambda w: w / w.sum())(1.0 / np.arange(1, CLASSES + 1))


def for_each_count(work: Callable[[], Any]) -> list[Any]:
    before, found = gnn.threads(), []
    try:
        for count in (1, 3):
            gnn.set_threads(count)
            found.append(work())
    finally:
        gnn.set_threads(before)
    return found


@pytest.mark.parametrize(("replacement", "shape"), [(True, (400, 33)), (False, (65,))])
def test_draws(replacement: bool, shape: tuple[int, ...]) -> None:
    drawn = AliasSampler(P, replacement=replacement).draw(gnn.constant(7), gnn.constant(3), shape, stream=0)
    graph = gnn.Graph.of("draws", [], [drawn])
    one, three = for_each_count(lambda: gnn.compile(graph)())
    assert one.tobytes() == three.tobytes() == gnn.compile(graph, backend="numpy")().tobytes()


@pytest.mark.parametrize("replacement", [True, False])
def test_training_with_noise(replacement: bool) -> None:
    rng = np.random.default_rng(0)
    data, targets = rng.normal(size=(150, 1, 8)).astype(np.float32), rng.integers(0, CLASSES, 150)

    def trained() -> dict[str, bytes]:
        x, y = gnn.Input((1, 8), name="x"), gnn.Input((), name="y", dtype="i64")
        loss = nn.NCELoss(CLASSES, 20, P, replacement=replacement)
        value = loss(x, y)
        params = list(loss.parameters)
        updates = nn.Adam(0.01).updates(params, gnn.gradients(value, params), loss=value)
        step = gnn.compile(gnn.Graph.of("step", [x, y], [value], updates=updates), seed=1)
        for _ in range(3):
            step(data, targets)
        return {name: array.tobytes() for name, array in step.state.arrays().items()}

    one, three = for_each_count(trained)
    assert one == three
