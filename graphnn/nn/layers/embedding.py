"""Embedding: a row of a table for each id."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import DType, TensorType
from graphnn.nn.arguments import as_count
from graphnn.nn.initialisers import as_initialiser
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Embedding(Layer):
    """y = W[ids], rows of W (vocab_size, out_features): ids (...) -> (..., out_features).

    `pool="sum"` or "mean" joins the rows of the last axis of ids: (..., T) -> (..., out_features). The id `padding_idx` gives
    zeros, is left out of the mean, and its row gets no gradient: bags of different lengths are filled up with it; a bag of
    nothing else is 0. An id outside [0, vocab_size) is a NumericsError when the graph runs. A training step with plain SGD
    touches only the rows that the batch names. Raises DTypeError when ids are no integers. (Bengio et al., 2003)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> ids = gnn.Input(("T",), name="ids", dtype="i32")
    >>> str(nn.Embedding(50_000, 64)(ids).type), str(nn.Embedding(50_000, 64, pool="mean", padding_idx=0)(ids).type)
    ('f32[N,T,64]', 'f32[N,64]')
    """

    vocab_size: int
    out_features: int
    pool: str | None = None
    padding_idx: int | None = None
    init: str | Initializer = "glorot_uniform"
    dtype: str = "f32"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocab_size = as_count(self.vocab_size, "Embedding: vocab_size")
        self.out_features = as_count(self.out_features, "Embedding: out_features")
        if self.pool not in (None, "sum", "mean"):
            raise ShapeError(f"Embedding: pool is {self.pool!r}; it is None, 'sum' or 'mean'")
        if self.padding_idx is not None:
            self.padding_idx = as_count(self.padding_idx, "Embedding: padding_idx", 0)
            if self.padding_idx >= self.vocab_size:
                raise ShapeError(f"Embedding: padding_idx is {self.padding_idx}; it must be less than vocab_size, "
                                 f"{self.vocab_size}")
        if self.dtype not in ("f32", "f64"):
            raise DTypeError(f"Embedding: dtype is {self.dtype!r}; it is 'f32' or 'f64'")
        self._first = as_initialiser(self.init)

    def build(self, ids: TensorType) -> None:
        if not ids.dtype.is_integer:
            raise DTypeError(f"Embedding takes integer ids, not {ids}", hint='declare them: gnn.Input(..., dtype="i32")')
        if self.pool is not None and ids.rank < 1:
            raise ShapeError(f"Embedding: pool is {self.pool!r}, and ids have no axis to pool: {ids}")
        self.weight = self.param("weight", (self.vocab_size, self.out_features), self._first, dtype=ir.as_dtype(self.dtype))

    def call(self, ids: Value) -> Value:
        rows = ir.gather(self.weight, ids, what="Embedding: id")
        kept = None if self.padding_idx is None else ir.expand_dims(ir.not_equal(ids, self.padding_idx), -1)
        if kept is not None:
            rows = ir.where(kept, rows, 0.0)
        if self.pool is None:
            return rows
        total = ir.sum(rows, -2)
        if self.pool == "sum":
            return total
        count = ir.size_of(ids.shape[-1], self._dtype) if kept is None else ir.sum(ir.cast(kept, self._dtype), -2)
        return total / ir.maximum(count, 1.0)

    @property
    def _dtype(self) -> DType:
        return self.weight.dtype
