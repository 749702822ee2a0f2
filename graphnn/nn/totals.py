"""Numbers of an epoch from numbers of batches: each a quotient of totals, so that batches of any size count as they should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.nn.metrics import Metric


@dataclass(frozen=True)
class LossAt:
    """Where a loss stands among the outputs of a step, and where its weight; None: it weighs as many as there are examples."""

    value: int
    weight: int | None = None
    summed: bool = False                                 # a sum over the batch, not a mean


@dataclass(frozen=True)
class Layout:
    """What the outputs of a step are: losses, and from where to where the sums of each metric stand."""

    losses: tuple[LossAt, ...]
    metrics: tuple[tuple[int, int], ...]


class Totals:
    """What is added up over an epoch. `losses` are names and factors, `metrics` columns and metrics."""

    def __init__(self, losses: Sequence[tuple[str, float]], metrics: Sequence[tuple[str, Metric]]) -> None:
        self.losses, self.metrics = losses, metrics
        self.count = 0                                   # examples so far
        self._sums, self._weights = [0.0] * len(losses), [0.0] * len(losses)
        self._metrics: list[list[Any]] = [[] for _ in metrics]

    def add(self, values: Sequence[Any], count: int, layout: Layout) -> None:
        """One batch of `count` examples."""
        self.count += count
        for i, at in enumerate(layout.losses):
            weight = count if at.weight is None else values[at.weight].item()
            self._sums[i] += values[at.value].item() * (1.0 if at.summed else weight)
            self._weights[i] += weight
        for i, (first, last) in enumerate(layout.metrics):
            kept = self._metrics[i]
            if self.metrics[i][1].collects:
                kept.append(values[first:last])
            elif not kept:                               # numbers as Python's, which add up faster; arrays in f64
                kept += [v.item() if v.ndim == 0 else v.astype(np.float64) for v in values[first:last]]
            else:
                for j in range(last - first):
                    v = values[first + j]
                    kept[j] += v.item() if v.ndim == 0 else v

    def numbers(self, *, collected: bool = True) -> dict[str, float]:
        """Loss and metrics by column; without `collected` those metrics are left out that look at all examples at once."""
        means = [total / weight if weight else 0.0 for total, weight in zip(self._sums, self._weights, strict=True)]
        whole = sum(mean * factor for mean, (_, factor) in zip(means, self.losses, strict=True))
        result = {"loss": float(whole)}
        if len(means) > 1:
            result |= {name: mean for mean, (name, _) in zip(means, self.losses, strict=True)}
        for (column, metric), kept in zip(self.metrics, self._metrics, strict=True):
            if not metric.collects:
                result[column] = metric.value(*kept) if kept else float("nan")
            elif collected:
                parts = zip(*kept, strict=True)
                result[column] = metric.value(*(np.concatenate(part) for part in parts)) if kept else float("nan")
        return result

    def running(self) -> dict[str, float]:
        """The numbers so far, of what is cheap to know after each batch."""
        return self.numbers(collected=False)
