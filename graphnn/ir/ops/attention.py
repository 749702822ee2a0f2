"""Scaled dot-product attention as one op, whose kernel never stores the scores, and its gradient.

Queries, keys and values are (..., T, heads, size), as a dense layer leaves them. Masks are given by keys, (..., heads, Tk, Tq).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Op, Sample, Types
from graphnn.ir.ops import compare, functions, linalg, reduce, scan, shaping, sizes
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.operands import located, number, require_bool, require_float, require_same_dtype
from graphnn.ir.types import TensorType
from graphnn.ir.vjp import vjp

LEAST = -1e30
"""Stands for -inf: the score of a key that may not be seen."""


@dataclass(frozen=True)
class _Attending(Op):
    """What attention and its gradient share: their attributes, and the masks among their operands."""

    scale: float
    causal: bool = False
    masked: bool = False
    drop: float = 0.0

    def check(self, q: TensorType, k: TensorType, v: TensorType, *masks: TensorType) -> None:
        """Raise unless queries, keys, values and masks fit."""
        require_float(q, k, v)
        require_same_dtype(q, k, v)
        require_bool(*masks)
        if not 0.0 <= self.drop < 1.0:
            raise ShapeError(f"drop is {self.drop}; it lies in [0, 1)")
        if len(masks) != self.masked + (self.drop > 0.0):
            raise ShapeError(f"takes {self.masked + (self.drop > 0.0)} masks, not {len(masks)}")
        if q.rank < 3 or k.rank != q.rank or v.rank != q.rank:
            raise ShapeError("takes queries, keys and values (..., T, heads, size)")
        outer = (*q.shape[:-3], q.shape[-2])
        if any((*t.shape[:-3], t.shape[-2]) != outer for t in (k, v)):
            raise ShapeError("queries, keys and values differ in the axes before T, or in heads")
        if q.shape[-1] != k.shape[-1]:
            raise ShapeError(f"queries and keys differ in size: {q.shape[-1]} and {k.shape[-1]}")
        if k.shape[-3] != v.shape[-3]:
            raise ShapeError(f"there are {k.shape[-3]} keys and {v.shape[-3]} values")
        whole = (*outer, k.shape[-3], q.shape[-3])
        for mask in masks:
            if mask.rank != q.rank or any(a not in (1, b) for a, b in zip(mask.shape, whole, strict=True)):
                raise ShapeError(f"a mask is {mask}; it is (..., heads, Tk, Tq), each axis that of the scores or 1")

    def scores(self, q: Value, k: Value, masks: tuple[Value, ...]) -> tuple[Value, Value | None]:
        """scale q k^T by heads, (..., heads, Tq, Tk), LEAST where it may not be seen; and what may be seen."""
        s = linalg.matmul(_by_heads(q) * self.scale, linalg.matrix_transpose(_by_heads(k)))
        allowed = linalg.matrix_transpose(masks[0]) if self.masked else None
        if self.causal:
            shape = (q.shape[-3], k.shape[-3])
            before = compare.less_equal(sizes.iota(shape, 1), sizes.iota(shape, 0))
            allowed = before if allowed is None else compare.logical_and(allowed, before)
        return (s if allowed is None else compare.where(allowed, s, LEAST)), allowed

    def dropped(self, masks: tuple[Value, ...], like: Value) -> Value | None:
        """What the weights are multiplied with: 0 or 1 / (1 - drop)."""
        if self.drop == 0.0:
            return None
        return compare.where(linalg.matrix_transpose(masks[-1]), number(1.0 / (1.0 - self.drop), like.dtype), 0.0)

    def numpy_scores(self, q: np.ndarray, k: np.ndarray, masks: tuple[np.ndarray, ...]) -> np.ndarray:
        """As `scores`, in float64, -inf where it may not be seen."""
        s = np.einsum("...ihd,...jhd->...hij", q, k, dtype=np.float64) * self.scale
        if self.masked:
            s = np.where(np.swapaxes(masks[0], -1, -2), s, -np.inf)
        return np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf) if self.causal else s

    def numpy_dropped(self, masks: tuple[np.ndarray, ...]) -> np.ndarray | float:
        return np.swapaxes(masks[-1], -1, -2) / (1.0 - self.drop) if self.drop else 1.0

    def products(self, q: TensorType, k: TensorType, v: TensorType) -> tuple[Size, Size]:
        """Floating-point operations of a product of the scores with something of the size of queries, and of values."""
        scores = q.of_shape((*q.shape[:-1], k.shape[-3])).elements
        return 2 * scores * q.shape[-1], 2 * scores * v.shape[-1]


@dataclass(frozen=True)
class Attention(_Attending):
    """softmax(scale q k^T) v for each head, and the logarithm of the softmax's sum of exponentials, (..., Tq, heads).

    `causal` lets query i see keys 0 ... i alone; with `masked` an operand says which may be seen; a query that may see none gives
    0, and 0. With `drop` above 0 another says which weights are kept: these are multiplied by 1 / (1 - drop), the others are 0.
    """

    name = "attention"

    def infer(self, q: TensorType, k: TensorType, v: TensorType, *masks: TensorType) -> Types:
        self.check(q, k, v, *masks)
        return q.of_shape((*q.shape[:-1], v.shape[-1])), q.of_shape(q.shape[:-1])

    def numpy(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, *masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = self.numpy_scores(q, k, masks)
        most = s.max(-1, keepdims=True, initial=LEAST)
        e = np.exp(s - most)
        total = e.sum(-1, keepdims=True)
        seen = total != 0.0                             # or NaN
        weights = e / np.where(seen, total, 1.0) * self.numpy_dropped(masks)
        y = np.einsum("...hij,...jhe->...ihe", weights, v, dtype=np.float64)
        logs = np.where(seen, most + np.log(np.where(seen, total, 1.0)), 0.0)[..., 0]
        return y.astype(q.dtype), np.ascontiguousarray(np.swapaxes(logs, -1, -2).astype(q.dtype))

    def grad(self, node: Node, dy: Value | None, d_logs: Value | None) -> Cotangents:
        q, k, v, *masks = node.inputs
        y, logs = node.outputs
        if dy is None:
            dy = sizes.zeros_like(y)
        # A weight's share of its row's cotangents; a cotangent of the logarithm is one more of each score.
        delta = reduce.sum(dy * y, -1)
        if d_logs is not None:
            delta = delta - d_logs
        op = AttentionGrad(self.scale, self.causal, self.masked, self.drop)
        found = op(q, k, v, *masks, logs, delta, dy)
        assert isinstance(found, tuple), "three cotangents"
        return (*found, *(None for _ in masks))

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        q, k, v, *masks = inputs
        s, allowed = self.scores(q, k, tuple(masks))
        if k.shape[-3] == 0:
            return sizes.zeros((*q.shape[:-1], v.shape[-1]), q.dtype), sizes.zeros(q.shape[:-1], q.dtype)
        logs = reduce.logsumexp(s, -1, keepdims=True)
        weights = functions.exp(s - logs)
        if allowed is not None:
            weights = compare.where(allowed, weights, 0.0)
            logs = compare.where(compare.greater(logs, 0.5 * LEAST), logs, 0.0)
        dropped = self.dropped(tuple(masks), q)
        y = linalg.matmul(weights if dropped is None else weights * dropped, _by_heads(v))
        return _by_heads(y), shaping.swapaxes(shaping.squeeze(logs, -1), -1, -2)

    def flops(self, *inputs: TensorType) -> Size:
        q, k, v = inputs[:3]
        to_q, to_v = self.products(q, k, v)
        return to_q + to_v

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, arrays, symbolic in _examples(cls):
            yield Sample(op, arrays, symbolic)


@dataclass(frozen=True)
class AttentionGrad(_Attending):
    """The cotangents of q, k and v of attention. After the operands of attention come the logarithms that it gave, the sums
    over the last axis of dy times y, both (..., Tq, heads), and dy."""

    name = "attention_grad"

    def infer(self, *inputs: TensorType) -> Types:
        if len(inputs) < 6:
            raise ShapeError(f"does not take {len(inputs)} operands")
        (q, k, v), masks, (logs, delta, dy) = inputs[:3], inputs[3:-3], inputs[-3:]
        self.check(q, k, v, *masks)
        require_same_dtype(q, logs, delta, dy)
        if logs.shape != q.shape[:-1] or delta.shape != q.shape[:-1] or dy.shape != (*q.shape[:-1], v.shape[-1]):
            raise ShapeError(f"the results' parts are {logs}, {delta} and {dy}")
        return q, k, v

    def numpy(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (q, k, v), masks, (logs, delta, dy) = inputs[:3], inputs[3:-3], inputs[-3:]
        by_query = [np.swapaxes(x, -1, -2)[..., None].astype(np.float64) for x in (logs, delta)]
        weights = np.exp(self.numpy_scores(q, k, masks) - by_query[0])
        dropped = self.numpy_dropped(masks)
        d_weights = np.einsum("...ihe,...jhe->...hij", dy, v, dtype=np.float64) * dropped
        d_scores = weights * (d_weights - by_query[1]) * self.scale
        return (np.einsum("...hij,...jhd->...ihd", d_scores, k, dtype=np.float64).astype(q.dtype),
                np.einsum("...hij,...ihd->...jhd", d_scores, q, dtype=np.float64).astype(q.dtype),
                np.einsum("...hij,...ihe->...jhe", weights * dropped, dy, dtype=np.float64).astype(q.dtype))

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        # Of placeholders: the operands depend on one another, and the walk would go on behind them.
        stand_for = {placeholder(f"x{i}", x.type): x for i, x in enumerate(node.inputs)}
        d_stand_for = {placeholder(f"d{i}", d.type): d for i, d in enumerate(d_outputs) if d is not None}
        cotangents = iter(d_stand_for)
        found = vjp(self.decompose(*stand_for), [None if d is None else next(cotangents) for d in d_outputs], list(stand_for))
        made = iter(scan.rebuild([d for d in found if d is not None], {**stand_for, **d_stand_for}))
        return tuple(None if d is None else next(made) for d in found)

    def decompose(self, *inputs: Value) -> tuple[Value, ...]:
        (q, k, v), masks, (logs, delta, dy) = inputs[:3], inputs[3:-3], inputs[-3:]
        logs, delta = (shaping.expand_dims(shaping.swapaxes(x, -1, -2), -1) for x in (logs, delta))
        s, allowed = self.scores(q, k, masks)
        weights = functions.exp(s - logs)
        if allowed is not None:
            weights = compare.where(allowed, weights, 0.0)
        d_weights = linalg.matmul(_by_heads(dy), linalg.matrix_transpose(_by_heads(v)))
        dropped, kept = self.dropped(masks, q), weights
        if dropped is not None:
            kept, d_weights = weights * dropped, d_weights * dropped
        d_scores = weights * (d_weights - delta) * self.scale
        d_q = linalg.matmul(d_scores, _by_heads(k))
        d_k = linalg.matmul(linalg.matrix_transpose(d_scores), _by_heads(q))
        d_v = linalg.matmul(linalg.matrix_transpose(kept), _by_heads(dy))
        return _by_heads(d_q), _by_heads(d_k), _by_heads(d_v)

    def flops(self, *inputs: TensorType) -> Size:
        to_q, to_v = self.products(*inputs[:3])
        return 3 * to_q + 2 * to_v

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(24)
        for op, arrays, symbolic in _examples(cls):
            q, v = arrays[0], arrays[2]
            results = (rng.normal(size=q.shape[:-1]) + 2.0, rng.normal(size=q.shape[:-1]),
                       rng.normal(size=(*q.shape[:-1], v.shape[-1])))
            of_q, of_v = symbolic[0].split(","), symbolic[2].split(",")
            by_query = ",".join(of_q[:-1])
            yield Sample(op, (*arrays, *results), (*symbolic, by_query, by_query, f"{by_query},{of_v[-1]}"), order=1)


def _by_heads(x: Value) -> Value:
    """(..., T, heads, size) as (..., heads, T, size), and back."""
    return shaping.swapaxes(x, -2, -3)


def _examples(kind: type[Attention] | type[AttentionGrad]
              ) -> Iterator[tuple[_Attending, tuple[np.ndarray, ...], tuple[str, ...]]]:
    rng = np.random.default_rng(23)

    def operands(queries: int, keys: int, size: int, width: int, outer: tuple[int, ...] = (), heads: int = 1) -> list[np.ndarray]:
        return [rng.normal(size=(*outer, t, heads, d)) for t, d in ((queries, size), (keys, size), (keys, width))]

    names = ("I,H,D", "J,H,D", "J,H,E")
    yield kind(0.5), tuple(operands(3, 4, 2, 3)), names
    yield kind(1.0), tuple(operands(1, 1, 1, 1)), names
    yield kind(0.7, causal=True), tuple(operands(4, 4, 3, 2, (2,), 2)), tuple(f"N,{name}" for name in names)
    yield kind(0.3, causal=True), tuple(operands(5, 3, 1, 2)), names
    q, k, v = operands(3, 4, 2, 2, (2,), 2)
    mask = rng.random((2, 1, 4, 3)) < 0.6
    mask[0, :, :, 1] = False                                            # a query that may see no key
    yield kind(0.5, masked=True), (q, k, v, mask), ("N,I,H,D", "N,J,H,D", "N,J,H,D", "N,1,J,I")
    yield kind(0.5, causal=True, masked=True), (q, k, v, mask[:1, :, :, :1]), ("N,I,H,D", "N,J,H,D", "N,J,H,D", "1,1,J,1")
    kept = rng.random((2, 2, 4, 3)) < 0.7
    yield kind(0.5, drop=0.25), (q, k, v, kept), ("N,I,H,D", "N,J,H,D", "N,J,H,D", "N,H,J,I")
    yield kind(0.5, masked=True, drop=0.5), (q, k, v, mask, kept), ("N,I,H,D", "N,J,H,D", "N,J,H,D", "N,1,J,I", "N,H,J,I")
    yield kind(0.5), tuple(operands(0, 3, 2, 2)), names
    yield kind(0.5), tuple(operands(2, 0, 2, 2)), names
    yield kind(0.5), tuple(operands(2, 3, 0, 2)), names


@located
def attention(q: Value, k: Value, v: Value, *, scale: float, causal: bool = False, mask: Value | None = None,
              kept: Value | None = None, drop: float = 0.0) -> Value:
    """softmax(scale q k^T) v for each head: q (..., Tq, heads, d), k (..., Tk, heads, d), v (..., Tk, heads, e).

    `mask` and `kept` are bool (..., heads, Tk, Tq), any axis 1: which keys a query may see, and which weights are kept where
    `drop` of them are dropped. A query that may see no key gives 0.
    """
    op = Attention(scale, causal, mask is not None, drop if kept is not None else 0.0)
    found = op(q, k, v, *(m for m in (mask, kept) if m is not None))
    assert isinstance(found, tuple), "the result and the logarithms"
    return found[0]
