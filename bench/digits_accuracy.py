"""The demo's accuracy on the held-out digits: the mean of five seeds on the fixed, stratified split.

    python -m bench digits_accuracy
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure, at_least
from examples.digits import train

SEEDS = 5


def figures() -> Iterator[Figure]:
    found = [train(seed, verbose=False)[1] for seed in range(SEEDS)]
    each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in found)
    yield at_least(f"digits: test accuracy, mean of {SEEDS} seeds", 100 * sum(found) / SEEDS, 98.5, each, form="{:.2f} %")
