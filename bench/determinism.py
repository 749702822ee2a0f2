"""The same bits from 1, 2, 3 and 4 threads: losses, predictions and weights after some training steps.

    python -m bench determinism
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

import graphnn as gnn
from bench import training
from bench.figures import Figure
from examples.digits import network
from graphnn import nn

THREADS, STEPS = (1, 2, 3, 4), 20


def digest(count: int, *, convolutional: bool) -> str:
    """A hash over everything that `STEPS` training steps and a prediction leave."""
    gnn.set_threads(count)
    try:
        model = network() if convolutional else training.model()
        model.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy())
        shape = [int(size) for size in model.inputs[0].shape[1:]]  # pyright: ignore[reportArgumentType]
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((128, *shape), np.float32), rng.integers(0, 10, 128)
        step, found = model.training_step(x, y), hashlib.sha256()
        for _ in range(STEPS):
            found.update(np.asarray(step(x, y)).tobytes())
        found.update(model.predict(x).tobytes())
        for _, array in sorted(model.state.arrays().items()):
            found.update(array.tobytes())
        return found.hexdigest()
    finally:
        gnn.set_threads(None)


def figures() -> Iterator[Figure]:
    for name, convolutional in (("digits", True), ("784-512-512-10", False)):
        found = {digest(count, convolutional=convolutional) for count in THREADS}
        yield Figure(f"{STEPS} training steps of {name} with 1, 2, 3 and 4 threads", "the same bits" if len(found) == 1 else
                     f"{len(found)} different results", "bit-identical", len(found) == 1)
