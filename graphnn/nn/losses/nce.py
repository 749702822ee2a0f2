"""Noise-contrastive estimation: a softmax over many classes, trained by telling the target from a few draws of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, require_float
from graphnn.nn.described import DescriptionError
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layer import Layer
from graphnn.nn.losses.base import Loss, reduce_entries
from graphnn.nn.sampling import AliasSampler


@dataclass(eq=False)
class NCELoss(Layer):
    """-log sigmoid(s[t]) - sum over negatives j of log sigmoid(-s[j]), where s[c] = x W[c] + b[c] - log(k Q[c]).

    It is a layer with parameters, weight (classes, in) and bias (classes,), called on x, (N, in) or (N, C, in), and the ids of
    the targets t, (N,): each row of x has a loss, and the default `reduction="mean"` is over them. The k = `num_negatives`
    negatives are drawn from the distribution Q, `probabilities` (uniform when None), once for the whole batch and anew at each
    step; a third argument gives them instead, ids (k,). A negative that is an example's target counts for nothing there;
    with `mask_hits=False` it counts, as the theory of NCE has it: then s tends to log p, normalised by itself.

    With `subtract_log_q=False`, s[c] = x W[c] + b[c]: negative sampling as in word2vec. `replacement=False` draws negatives
    that differ. numpy-ml's loss is a sum, `reduction="sum"`, less log Q[c] instead of log(k Q[c]). Raises NumericsError when
    `probabilities` do not sum to 1, or too few are above 0 for draws without replacement; at run time for ids outside
    [0, classes). (Gutmann & Hyvärinen, 2012; Mikolov et al., 2013)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, word = gnn.Input((64,), name="x"), gnn.Input((), name="word", dtype="i64")
    >>> loss = nn.NCELoss(10_000, 16, subtract_log_q=False)
    >>> loss(x, word).type, loss.scores(x).type
    (f32[], f32[N,10000])
    """

    classes: int
    num_negatives: int
    probabilities: Sequence[float] | np.ndarray | None = None
    subtract_log_q: bool = True
    replacement: bool = True
    mask_hits: bool = True
    reduction: str = "mean"
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = as_count(self.classes, "NCELoss: classes")
        self.num_negatives = as_count(self.num_negatives, "NCELoss: num_negatives")
        for name in ("subtract_log_q", "replacement", "mask_hits"):
            if not isinstance(getattr(self, name), bool):
                raise DescriptionError(f"NCELoss: {name} is {getattr(self, name)!r}; it is True or False")
        if self.reduction not in Loss.reductions:
            raise DescriptionError(f"NCELoss: reduction is {self.reduction!r}; it is one of {', '.join(Loss.reductions)}")
        uniform = np.full(self.classes, 1.0 / self.classes)
        self.sampler = AliasSampler(uniform if self.probabilities is None else self.probabilities, replacement=self.replacement)
        if self.sampler.classes != self.classes:
            raise ShapeError(f"NCELoss: there are {self.sampler.classes} probabilities and {self.classes} classes")
        self.sampler.require(self.num_negatives)
        self._first = as_initialiser(self.init)

    def build(self, x: TensorType, target: TensorType, *negatives: TensorType) -> None:
        require_float(x, "NCELoss")
        if x.rank not in (2, 3):
            raise ShapeError(f"NCELoss: x is {x}; it must be (N, in) or (N, C, in)")
        self.weight = self.param("weight", (self.classes, x.shape[-1]), self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.classes,), zeros, dtype=x.dtype)
        self._tables = {name: self._known(f"noise/{name}", table) for name, table in self.sampler.tables.items()}
        with np.errstate(divide="ignore"):                                   # log 0: noise never gives that class
            expected = np.log(self.num_negatives * self.sampler.probabilities).astype(x.dtype.numpy)
        self._log_expected = self._known("noise/log_expected", expected)

    def call(self, x: Value, target: Value, negatives: Value | None = None) -> Value:
        self._check_ids(x, target, negatives)
        if negatives is not None:
            return reduce_entries(self.reduction, self.each(x, target, negatives), None, None)
        seed, step = self.randomness()
        negatives = self.sampler.draw(seed, step, (self.num_negatives,), stream=self.stream(), tables=self._tables)
        return self.advance(reduce_entries(self.reduction, self.each(x, target, negatives), None, None))

    def each(self, x: Value, target: Value, negatives: Value) -> Value:
        """The loss of each row of x: (N,) or (N, C)."""
        target, negatives = ir.cast(target, "i64"), ir.cast(negatives, "i64")
        rows, offsets = self._rows(target), self._offsets(target)            # (N, in), (N,)
        if x.rank == 3:
            rows, offsets = ir.expand_dims(rows, 1), ir.expand_dims(offsets, 1)
        wanted = ir.sum(x * rows, -1) + offsets                              # (N,) or (N, C)
        noise = x @ ir.matrix_transpose(self._rows(negatives)) + self._offsets(negatives)      # (N, k) or (N, C, k)
        mistaken = ir.softplus(noise)
        if self.mask_hits:
            hits = ir.equal(ir.expand_dims(target, -1), negatives)           # (N, k)
            mistaken = ir.where(hits if x.rank == 2 else ir.expand_dims(hits, 1), 0.0, mistaken)
        return ir.softplus(-wanted) + ir.sum(mistaken, -1)

    def scores(self, x: Value) -> Value:
        """x W^T + b for all classes, (..., classes): what to take a softmax of, after the layer has been called."""
        return x @ ir.matrix_transpose(self.weight) + self.offset

    def _rows(self, ids: Value) -> Value:
        return ir.gather(self.weight, ids, what="NCELoss: class")

    def _offsets(self, ids: Value) -> Value:
        """b, less log(k Q) where asked for."""
        offsets = ir.gather(self.offset, ids, what="NCELoss: class")
        if not self.subtract_log_q:
            return offsets
        return offsets - ir.gather(self._log_expected, ids, what="NCELoss: class")

    def _known(self, label: str, table: np.ndarray) -> Value:
        """An array as a state."""
        return self.state(label, table.shape, lambda shape, dtype, rng: table.astype(dtype), dtype=ir.as_dtype(table.dtype))

    def _check_ids(self, x: Value, target: Value, negatives: Value | None) -> None:
        for name, ids in (("target", target), ("negatives", negatives)):
            if ids is not None and not ids.dtype.is_integer:
                raise DTypeError(f"NCELoss: {name} is {ids.type}; it must be integer ids")
        if target.shape != x.shape[:1]:
            raise ShapeError(f"NCELoss: target is {target.type}; for x {x.type} it must be [{x.shape[0]}]")
        if negatives is not None and negatives.shape != (self.num_negatives,):
            raise ShapeError(f"NCELoss: negatives are {negatives.type}; they must be [{self.num_negatives}]")
