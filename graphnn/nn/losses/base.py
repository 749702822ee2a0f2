"""Loss: what all losses share. A loss of one's own is a frozen dataclass with `each` and `target_type`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import is_number
from graphnn.nn.described import DescriptionError, require_flags


@dataclass(frozen=True)
class Loss:
    """Base of losses. `reduction` is "mean", "sum" or "none" (the loss of each example, or element).

    An entry's weight is the loss's own (a class weight, 0 for an ignored id) times its sample weight: "none" gives each entry
    times its weight, "sum" their sum, "mean" that divided by the sum of the weights; 0 when all weights are 0.
    """

    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")
    reduction: str = "mean"

    def __post_init__(self) -> None:
        self._require(self.reduction in self.reductions,
                      f"reduction is {self.reduction!r}; it is one of {', '.join(self.reductions)}")
        require_flags(self)

    def target_type(self, prediction: TensorType, integer: bool) -> TensorType:
        """The type of the targets for this prediction, when the user's targets are integers or real numbers."""
        raise NotImplementedError(f"{type(self).__name__}.target_type")

    def check_targets(self, prediction: TensorType, targets: np.ndarray) -> None:
        """Raise NumericsError for targets, already of the declared type, that this loss cannot take: before any step runs."""

    def each(self, prediction: Value, target: Value) -> Value:
        """The loss of each entry before weights and reduction."""
        raise NotImplementedError(f"{type(self).__name__}.each")

    def weights(self, prediction: Value, target: Value) -> Value | None:
        """The loss's own weight of each entry, of the type of `each`; None when all are 1."""
        return None

    def weighted(self, prediction: Value, target: Value) -> Value:
        """The loss of each entry times its own weight."""
        each, own = self.each(prediction, target), self.weights(prediction, target)
        return each if own is None else each * own

    def terms(self, prediction: Value, target: Value, sample_weight: Value | None = None) -> tuple[Value, Value]:
        """(total, weight): the sum of weight times loss over all entries, and the sum of their weights, both 0-d.

        Their quotient is the mean, over any number of batches. `sample_weight` has the leading axes of `each`, usually (N,).
        """
        return reduce_terms(self.weighted(prediction, target), self.weights(prediction, target), sample_weight)

    def __call__(self, prediction: Value, target: Value, sample_weight: Value | None = None) -> Value:
        """The reduced loss as a value."""
        own = self.weights(prediction, target)
        return reduce_entries(self.reduction, self.weighted(prediction, target), own, sample_weight)

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_number(self, name: str, least: float, *, open: bool = False) -> None:
        value = getattr(self, name)
        self._require(is_number(value) and (value > least or (value == least and not open)),
                      f"{name} is {value!r}; it must be a number {'above' if open else 'of at least'} {least:g}")
        object.__setattr__(self, name, float(value))

    def _as_weights(self, name: str) -> None:
        """Keep a field of weights as a tuple of floats: what a description can write and a frozen loss can hash."""
        given: Any = getattr(self, name)
        array = np.asarray(given) if isinstance(given, (list, tuple, np.ndarray)) else None
        good = (array is not None and array.ndim == 1 and array.size and array.dtype.kind in "iuf"
                and bool(np.all(np.isfinite(array)) and np.all(array >= 0)))
        self._require(bool(good), f"{name} is {given!r}; it must be a list of numbers, none negative, one for each class")
        assert array is not None, "checked"
        object.__setattr__(self, name, tuple(float(w) for w in array))


def reduce_terms(weighted: Value, own: Value | None, sample_weight: Value | None) -> tuple[Value, Value]:
    """The sum of entries (the loss's own weights are in them) times sample weights, and the sum of all weights."""
    if sample_weight is None:
        weight = ir.size_of(product(weighted.shape), weighted.dtype) if own is None else ir.sum(own)
        return ir.sum(weighted), weight
    per_entry = _along(sample_weight, weighted)
    if own is not None:
        return ir.sum(weighted * per_entry), ir.sum(own * per_entry)
    repeats = product(weighted.shape[sample_weight.rank:])
    weight = ir.sum(sample_weight)
    return ir.sum(weighted * per_entry), weight if repeats == 1 else weight * ir.size_of(repeats, weighted.dtype)


def reduce_entries(reduction: str, weighted: Value, own: Value | None, sample_weight: Value | None) -> Value:
    """Entries reduced: "none", "sum", or "mean"."""
    if reduction == "none":
        return weighted if sample_weight is None else weighted * _along(sample_weight, weighted)
    if reduction == "mean" and own is None and sample_weight is None:
        return ir.mean(weighted)
    total, weight = reduce_terms(weighted, own, sample_weight)
    return total if reduction == "sum" else total / ir.where(ir.equal(weight, 0.0), 1.0, weight)


def _along(sample_weight: Value, entries: Value) -> Value:
    """Sample weights, shaped so that they broadcast over the trailing axes of the entries."""
    if sample_weight.dtype is not entries.dtype:
        raise DTypeError(f"sample_weight is {sample_weight.type}, the prediction of {entries.dtype}",
                         hint=f'use gnn.cast(sample_weight, "{entries.dtype}")')
    if sample_weight.shape != entries.shape[:sample_weight.rank]:
        raise ShapeError(f"sample_weight is {sample_weight.type}; it must have the leading axes of the loss of each entry, "
                         f"{entries.type}")
    for _ in range(entries.rank - sample_weight.rank):
        sample_weight = ir.expand_dims(sample_weight, -1)
    return sample_weight
