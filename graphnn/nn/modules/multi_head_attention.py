"""MultiHeadedAttentionModule: attention in several subspaces at once, of a sequence to itself or to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, as_probability, check_flags
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.layer import Layer
from graphnn.nn.layers.attention import DotProductAttention, check_attended, fits_by_heads
from graphnn.nn.layers.dense import FullyConnected


@dataclass(eq=False)
class MultiHeadedAttentionModule(Layer):
    """Y = concat(head_1 ... head_h) Wo + bo, head_i = softmax(Q_i K_i^T / sqrt(d)) V_i: (..., Tq, C) -> (..., Tq, C).

    Q_i, K_i (d = `head_size` wide) and V_i (`value_size` wide) are the i-th slices of q Wq + bq, k Wk + bk, v Wv + bv. C is the
    size of q, and those of k and v may differ from it; head_size is C / heads by default, value_size is head_size. Call it as
    `attend(x)` (self-attention), `attend(q, kv)` or `attend(q, k, v)` (to another sequence, of any length), with `mask=` if
    need be: bool (True where a query may look at a key) or numbers added to the scores, as (Tq, Tk), (..., Tq, Tk) or
    (..., heads, Tq, Tk), any of them 1. `causal` lets query i see keys 0 ... i only. `dropout_p` is that of the attention
    weights, in training. Parameters are query/weight, key/weight, value/weight, output/weight and biases. Raises ShapeError
    when heads do not divide C. Vaswani et al., 2017.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 8), name="x")
    >>> str(nn.MultiHeadedAttentionModule(heads=2, causal=True)(x).type)
    'f32[N,T,8]'
    """

    heads: int = 8
    causal: bool = False
    bias: bool = True
    init: Init = "glorot_uniform"
    dropout_p: float = 0.0
    head_size: int | None = None
    value_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heads = as_count(self.heads, "MultiHeadedAttentionModule: heads")
        check_flags(self, "bias", "causal")
        self.dropout_p = as_probability(self.dropout_p, "MultiHeadedAttentionModule: dropout_p")
        for label in ("head_size", "value_size"):
            if getattr(self, label) is not None:
                setattr(self, label, as_count(getattr(self, label), f"MultiHeadedAttentionModule: {label}"))
        as_initialiser(self.init)                        # unknown names are refused here
        self._attention = DotProductAttention(causal=self.causal, dropout_p=self.dropout_p, name="attention")

    def __call__(self, q: Value, k: Value | None = None, v: Value | None = None, mask: Value | None = None) -> Value:
        """What each position of q finds in k and v: by default in q itself, and in k's own values."""
        if k is None and v is not None:
            raise ShapeError("MultiHeadedAttentionModule got values without keys", hint="use attend(q, k, v), or attend(q, kv)")
        keys = q if k is None else k
        return super().__call__(q, keys, keys if v is None else v, mask=mask)

    def accepts(self, q: TensorType, *rest: TensorType) -> None:
        size = q.shape[-1] if q.rank else 0
        if not isinstance(size, int) or size < 1 or (self.head_size is None and size % self.heads):
            raise ShapeError(f"MultiHeadedAttentionModule: heads is {self.heads}; it must divide the last axis of the queries "
                             f"{q}, a number above 0")

    def build(self, q: TensorType, *rest: TensorType) -> None:
        size: Any = q.shape[-1]
        each = self.head_size or size // self.heads
        wide = {"query": each, "key": each, "value": self.value_size or each}
        self._query, self._key, self._value = (
            FullyConnected(self.heads * width, bias=self.bias, init=self.init, name=name) for name, width in wide.items())
        self._output = FullyConnected(size, bias=self.bias, init=self.init, name="output")

    def call(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:
        check_attended(q, k, v, "MultiHeadedAttentionModule")
        if mask is not None and mask.rank > 2 and mask.rank == q.rank:
            mask = ir.expand_dims(mask, -3)              # the same for all heads
        heads = [self._split(layer(x)) for layer, x in ((self._query, q), (self._key, k), (self._value, v))]
        if fits_by_heads(q, k, v, mask):
            found = self._attention.by_heads(*heads, mask=mask)                  # (..., Tq, heads, value_size)
        else:
            apart = (ir.swapaxes(x, -2, -3) for x in heads)                      # (..., heads, T, size)
            found = ir.swapaxes(self._attention(*apart, mask=mask), -2, -3)
        joined = ir.reshape(found, (*q.shape[:-1], found.shape[-2] * found.shape[-1]))
        return self._output(joined)

    def _split(self, x: Value) -> Value:
        """(..., T, heads * size) -> (..., T, heads, size)."""
        return ir.reshape(x, (*x.shape[:-1], self.heads, x.shape[-1] // self.heads))
