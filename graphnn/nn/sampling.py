"""Draws from a known distribution of classes: on the host with a generator, and inside graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from graphnn import ir
from graphnn.errors import NumericsError, ShapeError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Value
from graphnn.nn.arguments import as_count


class AliasSampler:
    """Draws classes i with probabilities[i]: a draw costs the same for any number of classes, making the tables O(classes).

    Each class has a column of height 1 that it shares with at most one other, its alias: a draw picks a column, then one of
    the two. With `replacement=False` the classes of one draw differ, as if drawn one after the other with those already drawn
    left out. A class of probability 0 is never drawn. Raises NumericsError unless the probabilities are finite, not negative, and
    sum to 1; or when more different classes are asked for than have a probability. (Walker, 1977; Vose, 1991)

    >>> sampler = AliasSampler([0.5, 0.0, 0.5])
    >>> sorted(set(sampler.sample(100, np.random.default_rng(0)).tolist()))
    [0, 2]
    >>> import graphnn as gnn
    >>> seed, step = gnn.constant(7), gnn.constant(0)
    >>> sampler.draw(seed, step, (4,), stream=0).type
    i64[4]
    """

    def __init__(self, probabilities: Sequence[float] | np.ndarray, *, replacement: bool = True) -> None:
        given = np.asarray(probabilities)
        if given.ndim != 1 or not given.size or given.dtype.kind not in "iuf":
            raise NumericsError(f"probabilities are a list of one number a class, not {_short(probabilities)}")
        given = given.astype(np.float64)
        wrong = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
        if wrong.size:
            raise NumericsError(f"the probability of class {wrong[0]} is {given[wrong[0]]}; it must lie in [0, 1]")
        total = math.fsum(given)
        if abs(total - 1.0) > 1e-5:
            raise NumericsError(f"the probabilities sum to {total:.6g}, not 1", hint="divide counts by their sum")
        self.probabilities = given / total
        self.replacement = replacement

    @property
    def classes(self) -> int:
        return self.probabilities.size

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` classes as int64."""
        count = as_count(count, "AliasSampler: count", 0)
        self.require(count)
        if not self.replacement:
            return rng.choice(self.classes, count, replace=False, p=self.probabilities).astype(np.int64)
        height, alias = self.tables["height"], self.tables["alias"]
        column = rng.integers(0, self.classes, count)
        return np.where(rng.random(count) < height[column], column, alias[column])

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """What draws in a graph look up, one number a class: a layer keeps them as states, so that its graphs stay small."""
        return dict(zip(("height", "alias"), self._columns(), strict=True)) if self.replacement else {"mean": self._means()}

    def draw(self, seed: Value, step: Value, shape: Sequence[Size | str], *, stream: int,
             tables: Mapping[str, Value] | None = None) -> Value:
        """Classes as an i64 value of this shape, for seed, step (i64[]) and the number of the stream, as all random values.

        Without replacement the shape is (count,). `tables` are the values of `tables`; constants when None.
        """
        tables = {name: ir.constant(table) for name, table in self.tables.items()} if tables is None else tables
        if self.replacement:
            return self._draw(seed, step, shape, stream, tables["height"], tables["alias"])
        if len(shape) != 1 or not isinstance(shape[0], int):
            raise ShapeError(f"draws without replacement have the shape (count,), not {tuple(shape)}")
        self.require(shape[0])
        return self._draw_different(seed, step, shape[0], stream, tables["mean"])

    def require(self, count: int) -> None:
        """Raise NumericsError when `count` different classes are wanted and there are fewer."""
        possible = int(np.count_nonzero(self.probabilities))
        if not self.replacement and count > possible:
            raise NumericsError(f"cannot draw {count} different classes: only {possible} of {self.classes} have a probability",
                                hint="draw with replacement, or fewer")

    def _draw(self, seed: Value, step: Value, shape: Sequence[Size | str], stream: int, height: Value, alias: Value) -> Value:
        # One number says both: which column, and how high in it. 53 bits are enough for both; u * classes < classes even rounded.
        place = ir.random_uniform(seed, step, shape, stream=stream, dtype="f64") * float(self.classes)
        column = ir.cast(place, "i64")
        own = ir.less(place - ir.floor(place), ir.gather(height, column))
        return ir.where(own, column, ir.gather(alias, column))

    def _draw_different(self, seed: Value, step: Value, count: int, stream: int, means: Value) -> Value:
        """The classes whose alarms ring first, when each rings at an exponential time with its probability as its rate.

        The times are a square table with the earliest of each row beside it, so that finding one more looks at one row.
        (Efraimidis & Spirakis, 2006)
        """
        u = ir.random_uniform(seed, step, (self.classes,), stream=stream, dtype="f64")
        times = ir.where(ir.less(0.0, means), -ir.log1p(-u) * means, math.inf)
        side = math.isqrt(self.classes - 1) + 1
        rows = -(-self.classes // side)
        table = ir.reshape(ir.pad(times, [(0, rows * side - self.classes)], math.inf), (rows, side))

        def next_class(earliest: Value, _: None) -> tuple[Value, Value]:
            row = ir.argmin(earliest)
            now = ir.min(earliest)
            alarms = ir.gather(table, row)
            column = ir.argmax(ir.cast(ir.equal(alarms, now), "i32"))
            later = ir.min(ir.where(ir.less(now, alarms), alarms, math.inf))
            left = ir.where(ir.equal(ir.arange(rows), row), later, earliest)
            return left, row * side + column

        return ir.scan(next_class, ir.min(table, 1), length=count)[1]

    def _means(self) -> np.ndarray:
        """The mean waiting time of each class, 1 / probability; 0 for those that never come."""
        return np.divide(1.0, self.probabilities, out=np.zeros(self.classes), where=self.probabilities > 0)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Vose's tables: how much of each column is its class's own, and whose the rest is."""
        left = self.probabilities * self.classes
        height, alias = np.ones(self.classes), np.arange(self.classes)
        order = np.argsort(-left, kind="stable").tolist()        # classes of probability 0 come last and are filled up first
        short = [i for i in order if left[i] < 1.0]
        long = [i for i in order if left[i] >= 1.0]
        amounts = left.tolist()
        while short and long:
            low, high = short.pop(), long[-1]
            height[low], alias[low] = amounts[low], high
            amounts[high] -= 1.0 - amounts[low]
            if amounts[high] < 1.0:
                short.append(long.pop())
        return height, alias                                     # what is left over has 1 but for rounding


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."
