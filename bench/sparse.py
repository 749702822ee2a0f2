"""SparseEvolution against the dense network in graphnn itself: the time of a step at 95 % sparsity, accuracy on digits.

    python -m bench sparse
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from examples.sparse_evolution import EPOCHS, WIDTHS, data, network, train

BATCH, SEEDS, SHAPE = 128, 3, "-".join(map(str, WIDTHS))


def figures() -> Iterator[Figure]:
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((BATCH, WIDTHS[0]), np.float32), rng.integers(0, WIDTHS[-1], BATCH)) for _ in range(8)]
    before = gnn.threads()
    for count in sorted({1, before}):
        gnn.set_threads(count)
        steps = []
        for sparse in (True, False):
            model = network(sparse=sparse).compile("adam(lr=0.001)", "cross_entropy")
            step, given = model.training_step(*batches[0]), itertools.cycle(batches)
            steps.append(lambda step=step, given=given: step(*next(given)))
        sparse, dense = medians(*steps, seconds=4.0, slice_seconds=0.03)
        gnn.set_threads(before)
        yield at_least(f"training step {SHAPE}, batch {BATCH}, Adam, 95 % sparse against dense, "
                       f"{count} thread{'s' if count > 1 else ''}", dense / sparse, 3.0,
                       f"{1e3 * sparse:.2f} ms; {1e3 * dense:.2f}")
    x, y, x_test, y_test = data()
    found = {sparse: float(np.mean([train(network(seed=seed, sparse=sparse), x, y).evaluate(x_test, y_test)["accuracy"]
                                    for seed in range(SEEDS)])) for sparse in (True, False)}
    yield Figure(f"digits, accuracy of {SHAPE} at 95 % sparsity after {EPOCHS} epochs",
                 f"{found[True]:.4f} (dense {found[False]:.4f}, means of {SEEDS} seeds)", f"≥ {found[False] - 0.01:.4f}",
                 found[True] >= found[False] - 0.01)
