"""Batches: inputs, targets and weights as users give them, checked and converted to the arrays that a step takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError, VerifyError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.door import as_array, as_declared, check_finite, common_length
from graphnn.nn.objective import Kind, Objective, Term


class Batch(NamedTuple):
    """The arrays of a step in its order, of what kind they are, and how many examples."""

    kind: Kind
    arrays: list[np.ndarray]
    examples: int


def input_arrays(x: Any, inputs: Sequence[Value], known: Sequence[str] = ()) -> list[np.ndarray]:
    """The arrays of the inputs: one, or a tuple or dict of as many. A dict may have others that are `known`."""
    if len(inputs) == 1 and not isinstance(x, Mapping):
        return [as_declared(x, inputs[0].type, f"input {inputs[0].name!r}")]
    names = [value.name for value in inputs]
    if isinstance(x, Mapping):
        missing, extra = [n for n in names if n not in x], [n for n in x if n not in names and n not in known]
        if missing or extra:
            raise VerifyError(f"the inputs are {', '.join(names)}; " + (f"{missing[0]!r} is missing" if missing else
                                                                        f"{extra[0]!r} is none of them"))
        x = [x[name] for name in names]
    if not isinstance(x, (tuple, list)) or len(x) != len(names):
        raise VerifyError(f"the model has {len(names)} inputs ({', '.join(names)}); give a tuple or dict of as many arrays")
    return [as_declared(a, v.type, f"input {v.name!r}") for a, v in zip(x, inputs, strict=True)]


class Door:
    """Where batches come in: it knows the inputs, the targets and the class weights."""

    def __init__(self, inputs: Sequence[Value], objective: Objective, class_weight: Any = None) -> None:
        self.inputs, self.objective = inputs, objective
        self._classes = objective.classes(class_weight)
        self._names = [term.name for term in objective.terms]

    def batch(self, x: Any, y: Any, sample_weight: Any = None) -> Batch:
        """Raises ShapeError, DTypeError, NumericsError or VerifyError naming the input, or the targets, that do not fit."""
        arrays = input_arrays(x, self.inputs)
        lengths = {value.name: array for value, array in zip(self.inputs, arrays, strict=True)}
        targets: list[np.ndarray] = []
        for term, given in zip(self.objective.terms, self._targets(y), strict=True):
            what = self._what("targets", term)
            targets.append(self._target(term, given, f"the {what}"))
            lengths[what] = targets[-1]
        weights, ranks = self._weights(sample_weight, targets)
        count = common_length(lengths | {self._what("sample_weight", term): weights[term.name] for term in self.objective.terms
                                         if term.name in weights})
        for term, target in zip(self.objective.terms, targets, strict=True):
            term.loss.check_targets(self.objective.prediction(term).type, target)
        kind = Kind(tuple(self._declared(term, target) for term, target in zip(self.objective.terms, targets, strict=True)),
                    ranks, self._classes)
        return Batch(kind, [*arrays, *targets, *weights.values()], count)

    def _what(self, what: str, term: Term) -> str:
        return what if len(self._names) == 1 else f"{what} of {term.name!r}"

    def _targets(self, y: Any) -> Sequence[Any]:
        names = self._names
        if not names:
            if y is not None:
                raise VerifyError("targets are given, but no output has a loss", hint="model.compile(loss=...)")
            return ()
        if y is None:
            raise VerifyError("the targets are missing", hint="give y, or batches (x, y)")
        if isinstance(y, Mapping):
            missing, extra = [n for n in names if n not in y], [n for n in y if n not in names]
            if missing or extra:
                raise VerifyError(f"the outputs with a loss are {', '.join(names)}; " +
                                  (f"the targets of {missing[0]!r} are missing" if missing else f"{extra[0]!r} is none of them"))
            return [y[name] for name in names]
        if len(names) == 1:
            return (y,)
        if not isinstance(y, (tuple, list)) or len(y) != len(names):
            raise VerifyError(f"there are targets of {len(names)} outputs ({', '.join(names)}); "
                              "give a tuple or dict of as many arrays")
        return y

    def _target(self, term: Term, given: Any, what: str) -> np.ndarray:
        target = as_array(given, what)
        check_finite(target, what)
        declared = self.objective.target_type(term, target, what)
        if target.ndim == declared.rank - 1 and declared.shape[-1] == 1:     # a last axis of one may be there or not:
            target = target[..., None]                                       # nothing is broadcast, and nothing else can be meant
        elif target.ndim == declared.rank + 1 and target.shape[-1] == 1:
            target = target[..., 0]
        return as_declared(target, declared, what)

    def _declared(self, term: Term, target: np.ndarray) -> TensorType:
        """The declared type of targets that are converted already."""
        prediction = self.objective.prediction(term).type
        ids = term.loss.target_type(prediction, True)
        return ids if ids.dtype.numpy == target.dtype and ids.rank == target.ndim else term.loss.target_type(prediction, False)

    def _weights(self, given: Any, targets: Sequence[np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
        """The sample weights of the outputs that have some, and their ranks."""
        if given is None:
            return {}, (0,) * len(targets)
        names = self._names
        if isinstance(given, Mapping):
            if extra := [name for name in given if name not in names]:
                raise VerifyError(f"sample_weight is given for {extra[0]!r}; the outputs with a loss are {', '.join(names)}")
            by_name = {name: array for name, array in given.items() if array is not None}
        elif not names:
            raise VerifyError("sample_weight is given, but no output has a loss")
        else:
            by_name = dict.fromkeys(names, given)
        weights = {term.name: self._weight(term, by_name[term.name], target)
                   for term, target in zip(self.objective.terms, targets, strict=True) if term.name in by_name}
        return weights, tuple(weights[name].ndim if name in weights else 0 for name in names)

    def _weight(self, term: Term, given: Any, target: np.ndarray) -> np.ndarray:
        what = self._what("sample_weight", term)
        weight = as_array(given, what)
        if weight.dtype.kind not in "biuf":
            raise DTypeError(f"{what} is an array of {weight.dtype}", hint="give numbers, one for each example")
        check_finite(weight, what)
        if weight.size and weight.min() < 0:
            place = np.argwhere(weight < 0)[0].tolist()
            raise NumericsError(f"{what} has {weight[tuple(place)]} at {place}; weights are not negative")
        if not 1 <= weight.ndim <= target.ndim or weight.shape[1:] != target.shape[1:weight.ndim]:
            raise ShapeError(f"{what} has shape {weight.shape}; it is one number for each example, or for each entry of targets "
                             f"of shape {target.shape}")
        return np.ascontiguousarray(weight, self.objective.prediction(term).dtype.numpy)
