"""Embedding: a row of a table for each id."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, check_word, shown
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Embedding(Layer):
    """y = W[ids], rows of W (vocab_size, out_features): ids (...) -> (..., out_features).

    `pool="sum"` or "mean" joins the rows of the last axis of ids, a bag: (..., T) -> (..., out_features). Bags of different
    lengths are given in one of four ways; an empty bag is 0.
    - the id `padding_idx` fills them up: it gives zeros, is left out of the mean, and its row gets no gradient.
    - `lengths=n` in the call, n whole numbers (...): ids from n on count for nothing, whatever they are.
    - `mask=m`, m bool (..., T): only ids where it is True count.
    - `offsets=o` with ids (L,) of all bags one after another, o (B,) where each bag begins: -> (B, out_features).
    An id outside [0, vocab_size) that counts is a NumericsError when the graph runs. A training step with plain SGD touches
    only the rows that the batch names. Raises DTypeError when ids are no integers. (Bengio et al., 2003)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> ids, lengths = gnn.Input(("T",), name="ids", dtype="i32"), gnn.Input((), name="lengths", dtype="i32")
    >>> str(nn.Embedding(50_000, 64)(ids).type), str(nn.Embedding(50_000, 64, pool="mean")(ids, lengths=lengths).type)
    ('f32[N,T,64]', 'f32[N,64]')
    """

    vocab_size: int
    out_features: int
    pool: str | None = None
    padding_idx: int | None = None
    init: Init = "glorot_uniform"
    dtype: str = "f32"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocab_size = as_count(self.vocab_size, "Embedding: vocab_size")
        self.out_features = as_count(self.out_features, "Embedding: out_features")
        if self.pool is not None:
            check_word(self, "pool", "sum", "mean")
        if self.padding_idx is not None:
            self.padding_idx = as_count(self.padding_idx, "Embedding: padding_idx", 0)
            if self.padding_idx >= self.vocab_size:
                raise ShapeError(f"Embedding: padding_idx is {self.padding_idx}; it must be less than vocab_size, "
                                 f"{self.vocab_size}")
        if not isinstance(self.dtype, str) or self.dtype not in ("f32", "f64"):
            raise DTypeError(f"Embedding: dtype is {shown(self.dtype)}; it is 'f32' or 'f64'")
        self._first = as_initialiser(self.init)

    def __call__(self, ids: Value, *, lengths: Value | None = None, mask: Value | None = None,
                 offsets: Value | None = None) -> Value:
        """The rows, or their pools; `lengths`, `mask` or `offsets` say which ids belong to which bag."""
        choices = {"lengths": lengths, "mask": mask, "offsets": offsets}
        given = {label: value for label, value in choices.items() if value is not None}
        if len(given) > 1:
            raise ShapeError(f"Embedding got {' and '.join(given)}; give one of them")
        for label, value in given.items():
            if isinstance(value, Value) and not (value.dtype is ir.boolean if label == "mask" else value.dtype.is_integer):
                raise DTypeError(f"Embedding: {label} is {value.type}; it is {'bool' if label == 'mask' else 'whole numbers'}")
        if isinstance(ids, Value) and isinstance(lengths, Value) and (ids.rank < 1 or lengths.shape != ids.shape[:-1]):
            raise ShapeError(f"Embedding: lengths are {lengths.type}; there is one for each bag of {ids.type}")
        if isinstance(ids, Value) and isinstance(offsets, Value) and (ids.rank, offsets.rank) != (1, 1):
            raise ShapeError(f"Embedding: offsets are {offsets.type}, ids {ids.type}; each has one axis")
        if offsets is not None and self.pool is None:
            raise ShapeError("Embedding got offsets, but there are no bags: pool is None")
        return super().__call__(ids, *given.values())

    def lookup(self, ids: Value) -> Value:
        """Rows of W without a pool: ids (...) -> (..., out_features)."""
        return self.within(lambda ids: self._rows(ids, None), ids)

    def accepts(self, ids: TensorType, *rest: TensorType) -> None:
        if not ids.dtype.is_integer:
            raise DTypeError(f"Embedding takes integer ids, not {ids}", hint='declare them: gnn.Input(..., dtype="i32")')
        if self.pool is not None and ids.rank < 1:
            raise ShapeError(f"Embedding: pool is {self.pool!r}, and ids have no axis to pool: {ids}")

    def build(self, ids: TensorType, *rest: TensorType) -> None:
        self.weight = self.param("weight", (self.vocab_size, self.out_features), self._first, dtype=ir.as_dtype(self.dtype))

    def call(self, ids: Value, which: Value | None = None) -> Value:
        if which is not None and which.dtype is not ir.boolean and ids.rank == which.rank:
            return self._bags_of(ids, which)
        kept = None if which is None else _counting(ids, which)
        if kept is not None:
            ids = ir.where(kept, ids, 0)                 # what stands there is not looked up
        if self.padding_idx is not None:
            real = ir.not_equal(ids, self.padding_idx)
            kept = real if kept is None else ir.logical_and(kept, real)
        rows = self._rows(ids, kept)
        if self.pool is None:
            return rows
        total = ir.sum(rows, -2)
        if self.pool == "sum":
            return total
        count = (ir.size_of(ids.shape[-1], rows.dtype) if kept is None
                 else ir.sum(ir.cast(ir.expand_dims(kept, -1), rows.dtype), -2))
        return total / ir.maximum(count, 1.0)

    def _rows(self, ids: Value, kept: Value | None) -> Value:
        rows = ir.gather(self.weight, ids, what="embedding id")
        return rows if kept is None else ir.where(ir.expand_dims(kept, -1), rows, 0.0)

    def _bags_of(self, ids: Value, offsets: Value) -> Value:
        """The pools of bags that stand one after another: ids (L,), each bag's first place (B,) -> (B, out_features)."""
        (length,), (bags,) = ids.shape, offsets.shape
        before = ir.concat([ir.zeros((1,), offsets.dtype), offsets])[:bags]
        offsets = before + ir.check_index(offsets - before, length + 1, what="step from one offset to the next")
        begun = ir.less_equal(ir.expand_dims(offsets, 0), ir.iota((length, 1), 0, offsets.dtype))       # (L, B)
        bag = ir.check_index(ir.sum(ir.cast(begun, ir.i64), 1) - 1, bags, what="bag (offsets begin at 0)")
        kept = None if self.padding_idx is None else ir.not_equal(ids, self.padding_idx)
        rows = self._rows(ids, kept)
        total = ir.scatter_add(ir.zeros((bags, self.out_features), rows.dtype), bag, rows)
        if self.pool == "sum":
            return total
        ones = ir.ones((length, 1), rows.dtype) if kept is None else ir.cast(ir.expand_dims(kept, -1), rows.dtype)
        count = ir.scatter_add(ir.zeros((bags, 1), rows.dtype), bag, ones)
        return total / ir.maximum(count, 1.0)


def _counting(ids: Value, which: Value) -> Value:
    """bool of ids' shape: which of them count, by a mask or lengths. Raises ShapeError."""
    if which.dtype is ir.boolean:
        if which.shape != ids.shape:
            raise ShapeError(f"Embedding: mask is {which.type}; it has the shape of ids, {ids.type}")
        return which
    places = ir.iota((*(1 for _ in ids.shape[:-1]), ids.shape[-1]), ids.rank - 1, which.dtype)
    return ir.less(places, ir.expand_dims(which, -1))
