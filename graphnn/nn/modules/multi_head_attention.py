"""MultiHeadedAttentionModule: attention in several subspaces at once, of a sequence to itself or to another."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.layer import Layer
from graphnn.nn.layers.attention import DotProductAttention, check_attended, check_dropout
from graphnn.nn.layers.dense import FullyConnected


@dataclass(eq=False)
class MultiHeadedAttentionModule(Layer):
    """Y = concat(head_1 ... head_h) Wo + bo, head_i = softmax(Q_i K_i^T / sqrt(d)) V_i: (..., Tq, C) -> (..., Tq, C).

    Q_i, K_i, V_i are the i-th slices, d = C / heads wide, of q Wq + bq, k Wk + bk, v Wv + bv; C is the size of q, and those of k
    and v may differ from it. Call it as `attend(x)` (self-attention), `attend(q, kv)` or `attend(q, k, v)` (to another
    sequence, of any length), with `mask=` if need be: bool (True where a query may look at a key) or numbers added to the
    scores, as (Tq, Tk), (..., Tq, Tk) or (..., heads, Tq, Tk), any of them 1. `causal` lets query i see keys 0 ... i only.
    Parameters are query/weight, key/weight, value/weight, output/weight and biases. There is no dropout yet, see
    DotProductAttention. Vaswani et al., 2017.

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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heads = as_count(self.heads, "MultiHeadedAttentionModule: heads")
        if not isinstance(self.bias, bool):
            raise ShapeError(f"MultiHeadedAttentionModule: bias is {self.bias!r}; it is True or False")
        check_dropout(self.dropout_p, "MultiHeadedAttentionModule")
        as_initialiser(self.init)                        # unknown names are refused here
        self._attention = DotProductAttention(causal=self.causal, name="attention")

    def __call__(self, q: Value, k: Value | None = None, v: Value | None = None, mask: Value | None = None) -> Value:
        """What each position of q finds in k and v: by default in q itself, and in k's own values."""
        if k is None and v is not None:
            raise ShapeError("MultiHeadedAttentionModule got values without keys", hint="use attend(q, k, v), or attend(q, kv)")
        keys = q if k is None else k
        return super().__call__(q, keys, keys if v is None else v, *(() if mask is None else (mask,)))

    def build(self, q: TensorType, *rest: TensorType) -> None:
        size = q.shape[-1] if q.rank else 0
        if not isinstance(size, int) or size < 1 or size % self.heads:
            raise ShapeError(f"MultiHeadedAttentionModule: heads is {self.heads}; it must divide the last axis of the queries "
                             f"{q}, a number above 0")
        self._query, self._key, self._value, self._output = (
            FullyConnected(size, bias=self.bias, init=self.init, name=name) for name in ("query", "key", "value", "output"))

    def call(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:
        check_attended(q, k, v, "MultiHeadedAttentionModule")
        if mask is not None and mask.rank > 2 and mask.rank == q.rank:
            mask = ir.expand_dims(mask, -3)              # the same for all heads
        heads = (self._split(layer(x)) for layer, x in ((self._query, q), (self._key, k), (self._value, v)))
        found = self._attention(*heads, mask=mask)       # (..., heads, Tq, d)
        return self._output(ir.reshape(ir.swapaxes(found, -2, -3), q.shape))

    def _split(self, x: Value) -> Value:
        """(..., T, C) -> (..., heads, T, C / heads)."""
        size = x.shape[-1]
        assert isinstance(size, int), "checked by build"
        return ir.swapaxes(ir.reshape(x, (*x.shape[:-1], self.heads, size // self.heads)), -2, -3)
