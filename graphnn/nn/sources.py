"""Where the batches of an epoch come from: arrays, a data set of examples, or an iterable of batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphnn.errors import ShapeError, VerifyError
from graphnn.nn.arguments import as_count
from graphnn.nn.batches import Batch, Door
from graphnn.nn.data import Gatherer, check_batch_size, epoch_order, minibatches

BATCH_SIZE = 32
_ANEW = "give a list, or a function that makes a new generator each time; for training data, steps_per_epoch does too"


class Arrays:
    """Batches of arrays in memory: in an order that depends on seed and epoch alone, or one after another."""

    def __init__(self, whole: Batch, batch_size: int, *, seed: int | None = None, drop_last: bool = False) -> None:
        self.whole, self.batch_size, self.seed = whole, batch_size, seed
        self.examples = _taken(whole.examples, batch_size, drop_last)
        self._gather = None if seed is None else Gatherer(whole.arrays, batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        whole = self.whole
        if self._gather is None:
            for start in range(0, self.examples, self.batch_size):
                parts = [array[start : start + self.batch_size] for array in whole.arrays]
                yield Batch(whole.kind, parts, len(parts[0]))
            return
        order = epoch_order(whole.examples, seed=self.seed or 0, epoch=epoch)[: self.examples]
        for rows in minibatches(order, self.batch_size):
            yield Batch(whole.kind, self._gather.rows(rows), len(rows))


class Examples:
    """Batches of a data set: anything with a length whose items are examples (x, y) or (x, y, weight), or x without targets."""

    def __init__(self, dataset: Any, door: Door, batch_size: int, *, seed: int | None = None, drop_last: bool = False) -> None:
        self.dataset, self.door, self.batch_size, self.seed = dataset, door, batch_size, seed
        self.count = len(dataset)
        if not self.count:
            raise ShapeError("there are no examples: the data set is empty")
        self.examples = _taken(self.count, batch_size, drop_last)

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = epoch_order(self.count, seed=self.seed or 0, epoch=epoch, shuffle=self.seed is not None)[: self.examples]
        for rows in minibatches(order, self.batch_size):
            yield self.door.batch(*self._together([self.dataset[int(i)] for i in rows]))

    def _together(self, items: Sequence[Any]) -> tuple[Any, Any, Any]:
        parts = [as_parts(item, self.door, "an example") for item in items]
        x, y, weight = ([part[i] for part in parts] for i in range(3))
        inputs, targets = len(self.door.inputs), len(self.door.objective.terms)
        return (_stacked(x, "x", inputs > 1), _stacked(y, "y", targets > 1) if targets else None,
                None if all(w is None for w in weight) else _stacked(weight, "weight", False))


def _taken(count: int, batch_size: int, drop_last: bool) -> int:
    """How many examples an epoch has. Raises ShapeError for none."""
    taken = count - count % batch_size if drop_last else count
    if not taken:
        raise ShapeError(f"drop_last leaves nothing: {count} examples are less than a batch of {batch_size}")
    return taken


class Batches:
    """Batches that an iterable gives: (x, y) or (x, y, sample_weight), or x without targets.

    With `steps` an epoch has so many, and the next epoch goes on where it ended; without, an epoch is one pass.
    """

    examples: int | None = None

    def __init__(self, batches: Iterable[Any] | Callable[..., Any], door: Door, steps: int | None, what: str) -> None:
        self._given, self.door, self.steps, self.what = batches, door, steps, what
        self._iterator: Iterator[Any] | None = None

    def check(self, epochs: int) -> None:
        """Raise VerifyError for a generator that would have to be gone through more than once."""
        if epochs > 1 and self.steps is None and isinstance(self._given, Generator):
            raise VerifyError(f"{self.what} is a generator, which can be gone through once, not for {epochs} epochs", hint=_ANEW)

    def _start(self) -> Iterator[Any]:
        return iter(self._given() if callable(self._given) else self._given)

    def batches(self, epoch: int) -> Iterator[Batch]:
        if self.steps is None:
            items, count = self._start(), 0
            for item in items:
                yield self._batch(item)
                count += 1
            if not count:
                raise VerifyError(f"{self.what} gave no batch for epoch {epoch + 1}", hint=_ANEW)
            return
        for step in range(self.steps):
            yield self._batch(self._next(epoch, step))

    def _next(self, epoch: int, step: int) -> Any:
        end = object()
        item = end if self._iterator is None else next(self._iterator, end)
        if item is end and (self._iterator is None or self._iterator is not self._given):
            self._iterator = self._start()
            item = next(self._iterator, end)
        if item is end:
            raise VerifyError(f"{self.what} ended in epoch {epoch + 1} after {step} of {self.steps} steps",
                              hint="give fewer steps_per_epoch or epochs, or a list or function to start anew from")
        return item

    def _batch(self, item: Any) -> Batch:
        return self.door.batch(*as_parts(item, self.door, "a batch"))


Source = Arrays | Examples | Batches


def as_source(x: Any, y: Any, sample_weight: Any, door: Door, *, batch_size: int | None, default_size: int = BATCH_SIZE,
              seed: int | None = None, drop_last: bool = False, steps: int | None = None, what: str = "the data") -> Source:
    """The batches that the arguments of fit or evaluate mean. `seed` shuffles."""
    size = default_size if batch_size is None else check_batch_size(batch_size)
    if y is not None or _is_array_like(x, bool(door.objective.terms)):
        if steps is not None:
            raise VerifyError("steps_per_epoch is for iterables of batches; arrays give as many as they have")
        return Arrays(door.batch(x, y, sample_weight), size, seed=seed, drop_last=drop_last)
    if sample_weight is not None:
        raise VerifyError("sample_weight goes with arrays; here it is the third part of a batch or example")
    if _is_data_set(x):
        if steps is not None:
            raise VerifyError("steps_per_epoch is for iterables of batches; a data set has a length")
        return Examples(x, door, size, seed=seed, drop_last=drop_last)
    if not isinstance(x, Iterable) and not callable(x):
        raise VerifyError(f"x is a {type(x).__name__}; give arrays, a data set with __len__ and __getitem__, or an iterable of "
                          "batches")
    if batch_size is not None or drop_last:
        raise VerifyError("batch_size and drop_last are for arrays and data sets; an iterable gives whole batches")
    return Batches(x, door, None if steps is None else as_count(steps, "steps_per_epoch"), what)


def as_validation(given: Any, door: Door, batch_size: int | None) -> Source | None:
    """The batches that `validation_data` means: (x, y), (x, y, sample_weight), a data set or an iterable of batches."""
    if given is None:
        return None
    is_batches = isinstance(given, list) and bool(given) and isinstance(given[0], tuple)
    if not door.objective.terms or is_batches or not isinstance(given, (tuple, list, np.ndarray, str)):
        sized = _is_array_like(given, bool(door.objective.terms)) or _is_data_set(given)
        return as_source(given, None, None, door, batch_size=batch_size if sized else None, what="validation_data")
    if isinstance(given, (np.ndarray, str)) or len(given) not in (2, 3):
        raise VerifyError("validation_data is not a pair (x, y)", hint="or (x, y, sample_weight), or an iterable of batches")
    return as_source(given[0], given[1], given[2] if len(given) == 3 else None, door, batch_size=batch_size)


def _is_data_set(x: Any) -> bool:
    return hasattr(x, "__len__") and hasattr(x, "__getitem__") and not isinstance(x, (list, tuple))


def _is_array_like(x: Any, has_targets: bool) -> bool:
    if x is None or isinstance(x, (np.ndarray, Mapping, str, bytes, int, float)) or hasattr(x, "__array__"):
        return True
    return isinstance(x, (list, tuple)) and not has_targets


def as_parts(item: Any, door: Door, what: str) -> tuple[Any, Any, Any]:
    """(x, y, weight) of what a user's iterable or data set gave."""
    if not door.objective.terms:
        return item, None, None
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        given = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
        raise VerifyError(f"{what} is a tuple (x, y) or (x, y, sample_weight), not a {given}",
                          hint="arrays are arguments of their own: fit(x, y)")
    return item[0], item[1], item[2] if len(item) == 3 else None


def _stacked(items: Sequence[Any], what: str, several: bool) -> Any:
    """One array of the items of many examples; a tuple or dict of arrays where an example has `several`."""
    first = items[0]
    if isinstance(first, Mapping):
        return {key: _stacked([item[key] for item in items], f"{what}[{key!r}]", False) for key in first}
    if several and isinstance(first, (tuple, list)):
        return tuple(_stacked([item[i] for item in items], f"{what}[{i}]", False) for i in range(len(first)))
    arrays = [np.asarray(item) for item in items]
    if any(array.shape != arrays[0].shape for array in arrays):
        other = next(array for array in arrays if array.shape != arrays[0].shape)
        raise ShapeError(f"{what} has shape {arrays[0].shape} in one example of a batch and {other.shape} in another")
    return np.stack(arrays)
