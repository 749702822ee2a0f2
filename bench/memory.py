"""Planned memory against the largest set of values that live at once, for training and inference graphs.

    python -m bench memory
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import graphnn as gnn
from bench import predict, training
from bench.figures import Figure, at_most
from examples.digits import network
from graphnn import nn
from graphnn.runtime.plan import Plan


def residual(blocks: int = 6, channels: int = 32) -> gnn.Model:
    """Convolutions with a connection past each pair."""
    x = gnn.Input((16, 16, 3))
    h = nn.Conv2D(channels, 3, padding="same", activation="relu")(x)
    for _ in range(blocks):
        inner = nn.Conv2D(channels, 3, padding="same", activation="relu")(h)
        h = nn.ReLU()(h + nn.Conv2D(channels, 3, padding="same")(inner))
    return gnn.Model(x, nn.FullyConnected(10)(nn.Flatten()(nn.Pool2D(4)(h))), name="residual")


def training_plan(model: gnn.Model, batch: int) -> Plan:
    model.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy(), metrics=["accuracy"])
    shape = [int(size) for size in model.inputs[0].shape[1:]]  # pyright: ignore[reportArgumentType]
    return model.training_step(np.zeros((batch, *shape), np.float32), np.zeros(batch, np.int64)).plan


def prediction_plan(model: gnn.Model, batch: int) -> Plan:
    return gnn.compile(model.graph, state=model.state).lower(N=batch).plan


def plans() -> Iterator[tuple[str, Plan]]:
    yield "digits, training, batch 64", training_plan(network(), 64)
    yield "digits, prediction, batch 256", prediction_plan(network(), 256)
    yield "784-512-512-10, training, batch 128", training_plan(training.model(), 128)
    yield "16-32-32-4, prediction, batch 1", prediction_plan(predict.model(), 1)
    yield "13 convolutions with residuals, training, batch 16", training_plan(residual(), 16)
    yield "13 convolutions with residuals, prediction, batch 16", prediction_plan(residual(), 16)


def figures() -> Iterator[Figure]:
    for name, plan in plans():
        arena, bound = plan.buffers.arena, plan.buffers.lower_bound
        scratch = f"{(plan.scratch + plan.thread_scratch) / 1024:.0f} KiB scratch"
        yield at_most(f"planned memory by the lower bound: {name}", arena / max(bound, 1), 1.05,
                      f"{arena / 1024:.0f} KiB, {scratch}", form="{:.3f}")
