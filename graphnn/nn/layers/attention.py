"""DotProductAttention: each query takes a mean of the values, weighted by how well their keys match."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Value
from graphnn.ir.ops.attention import LEAST
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_probability, check_flags, is_number, shown
from graphnn.nn.layer import Layer
from graphnn.nn.layers.dropout import dropped


@dataclass(eq=False)
class DotProductAttention(Layer):
    """Y = softmax(s Q K^T + M) V: Q (..., Tq, d), K (..., Tk, d), V (..., Tk, e) -> (..., Tq, e). Leading axes broadcast.

    `scale=True` means s = 1 / sqrt(d), False 1, a number itself. Call it as `attention(q, k, v)`, with `mask=` if need be: bool
    (True where a query may look at a key) or numbers that are added to the scores (-inf hides); its shape broadcasts to
    (..., Tq, Tk). `causal` lets query i see keys 0 ... i only. A query that may see no key gives 0. `return_weights` gives
    (Y, softmax(...)). In training `dropout_p` of the weights are 0 and the others larger by 1 / (1 - dropout_p).
    Vaswani et al., "Attention is all you need", 2017.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> q, kv = gnn.Input(("T", 8), name="q"), gnn.Input(("S", 8), name="kv")
    >>> str(nn.DotProductAttention()(q, kv, kv).type)
    'f32[N,T,8]'
    """

    scale: bool | float = True
    causal: bool = False
    return_weights: bool = False
    dropout_p: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.scale, np.bool_):
            self.scale = bool(self.scale)
        if not isinstance(self.scale, bool) and not is_number(self.scale):
            raise ShapeError(f"DotProductAttention: scale is {shown(self.scale)}; it is True, False or a finite number")
        check_flags(self, "causal", "return_weights")
        self.dropout_p = as_probability(self.dropout_p, "DotProductAttention: dropout_p")

    def __call__(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Any:
        """What each query finds; (that, the weights) with `return_weights`."""
        return super().__call__(q, k, v, mask=mask)

    def call(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Any:
        check_attended(q, k, v, "DotProductAttention")
        if not self.return_weights and fits_by_heads(q, k, v, mask):
            heads = (ir.expand_dims(x, -2) for x in (q, k, v))
            _allowed(mask, q.type.of_shape((*q.shape[:-1], k.shape[-2])))
            return ir.squeeze(self._by_heads(*heads, mask=None if mask is None else _of_rank(mask, q.rank, 1)), -2)
        s = self._scale(q)
        scores = (q * s if s != 1.0 else q) @ ir.matrix_transpose(k)
        allowed = _allowed(mask, scores.type)
        if mask is not None and mask.dtype is not ir.boolean:
            scores = scores + mask
        if self.causal:
            before = _before(scores.shape[-2], scores.shape[-1])
            allowed = before if allowed is None else ir.logical_and(allowed, before)
        weights = ir.softmax(scores if allowed is None else ir.where(allowed, scores, LEAST))
        if allowed is not None:
            weights = ir.where(allowed, weights, 0.0)
        y = self._dropped(weights) @ v
        return (y, weights) if self.return_weights else y

    def by_heads(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:
        """The same for heads side by side: q, k and v are (..., T, heads, size) with equal axes before T, and so is the result; a
        mask is bool and broadcasts to (..., heads, Tq, Tk)."""
        _allowed(mask, q.type.of_shape((*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])))
        return self.within(self._by_heads, q, k, v, mask=None if mask is None else _of_rank(mask, q.rank, 0))

    def _by_heads(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:
        by_keys = None if mask is None else ir.matrix_transpose(mask)
        found = ir.attention(q, k, v, scale=self._scale(q), causal=self.causal, mask=by_keys)
        if self.dropout_p == 0.0:
            return found
        seed, step = self.randomness()
        shape = (*q.shape[:-3], q.shape[-2], k.shape[-3], q.shape[-3])
        kept = ir.random_bernoulli(seed, step, shape, 1.0 - self.dropout_p, stream=self.stream())
        noisy = ir.attention(q, k, v, scale=self._scale(q), causal=self.causal, mask=by_keys, kept=kept, drop=self.dropout_p)
        return ir.by_mode(training=self.advance(noisy), evaluation=found)

    def _scale(self, q: Value) -> float:
        if self.scale is True:
            return 1 / math.sqrt(_number(q.shape[-1]))
        return 1.0 if self.scale is False else float(self.scale)

    def _dropped(self, weights: Value) -> Value:
        if self.dropout_p == 0.0:
            return weights
        seed, step = self.randomness()
        noisy = dropped(weights, self.dropout_p, seed, step, stream=self.stream())
        return ir.by_mode(training=self.advance(noisy), evaluation=weights)


def check_attended(q: Value, k: Value, v: Value, kind: str) -> None:
    """Raise unless queries, keys and values are real and fit: as many values as keys, queries and keys of one size."""
    for label, value in (("queries", q), ("keys", k), ("values", v)):
        if value.rank < 2:
            raise ShapeError(f"{kind}: the {label} are {value.type}; they are (..., T, C)")
        if not value.dtype.is_float:
            raise DTypeError(f"{kind} takes real numbers, not {value.type}", hint='use gnn.cast(x, "f32")')
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{kind}: keys {k.type} and values {v.type} differ in number: {k.shape[-2]} and {v.shape[-2]}")
    if kind == "DotProductAttention" and q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"{kind}: queries {q.type} and keys {k.type} differ in size: {q.shape[-1]} and {k.shape[-1]}")


def fits_by_heads(q: Value, k: Value, v: Value, mask: Value | None) -> bool:
    """Whether the op `attention`, which never stores the weights, does it: no numbers are added to the scores, and the axes
    before T are the same for all."""
    return (mask is None or mask.dtype is ir.boolean) and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]


def _of_rank(mask: Value, rank: int, heads: int) -> Value:
    """A mask that broadcasts to (..., Tq, Tk) with all axes before these, `heads` more of them the last."""
    before = (1,) * (rank - mask.rank)
    return ir.reshape(mask, (*before, *mask.shape[:-2], *(1,) * heads, *mask.shape[-2:]))


def _number(size: Size) -> int:
    if not isinstance(size, int) or size < 1:
        raise ShapeError(f"DotProductAttention: scale=True needs a number above 0 for the last axis of the queries, not {size}",
                         hint="give scale as a number")
    return size


def _allowed(mask: Value | None, scores: TensorType) -> Value | None:
    """A mask as bools; one of numbers hides by -inf, or what is as good. Raises when it cannot be broadcast to the scores."""
    if mask is None:
        return None
    if mask.dtype not in (ir.boolean, scores.dtype):
        raise DTypeError(f"DotProductAttention: mask is {mask.type}; it is bool, or {scores.dtype} to be added to the scores")
    fits = mask.rank <= scores.rank and all(a in (1, b) for a, b in zip(mask.shape[::-1], scores.shape[::-1], strict=False))
    if not fits:
        raise ShapeError(f"DotProductAttention: mask is {mask.type}; it cannot be broadcast to the scores, {scores}",
                         hint="one that says which keys count, the same for each query, has an axis of 1 before the last")
    return mask if mask.dtype is ir.boolean else ir.greater(mask, LEAST)


def _before(queries: Size, keys: Size) -> Value:
    """bool[Tq,Tk]: whether key j is not after query i."""
    return ir.less_equal(ir.iota((queries, keys), 1), ir.iota((queries, keys), 0))
