"""TransformerEncoderBlock: self-attention and a dense network for each position, both with a residual and a layer norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_count, as_probability, check_flags, require_float
from graphnn.nn.initialisers import Init
from graphnn.nn.layer import Layer
from graphnn.nn.layers.dense import FullyConnected
from graphnn.nn.layers.dropout import Dropout
from graphnn.nn.layers.norm import LayerNorm1D, as_eps
from graphnn.nn.layers.over_time import live_steps
from graphnn.nn.modules.multi_head_attention import MultiHeadedAttentionModule


@dataclass(eq=False)
class TransformerEncoderBlock(Layer):
    """a = norm1(x + attention(x));  y = norm2(a + f(a W1 + b1) W2 + b2): (N, T, C) -> (N, T, C).

    `norm_first` normalises what goes into attention and dense network instead: a = x + attention(norm1(x)),
    y = a + dense(norm2(a)). `heads` must divide C; W1 is (C, hidden_features); f is `activation`. In training `dropout_p` is
    dropped of the attention weights, of the results of attention and dense network, and of f(...). `causal` and `mask=` as in
    MultiHeadedAttentionModule; with `lengths=n`, n whole numbers (N,), no position looks at positions from n on. The formula
    and the defaults are those of PyTorch's TransformerEncoderLayer. Vaswani et al., 2017; norm first: Xiong et al., 2020.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 16), name="x")
    >>> str(nn.TransformerEncoderBlock(heads=4, hidden_features=64)(x).type)
    'f32[N,T,16]'
    """

    heads: int
    hidden_features: int = 2048
    activation: Activation = "relu"
    dropout_p: float = 0.1
    norm_first: bool = False
    causal: bool = False
    eps: float = 1e-5
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = "TransformerEncoderBlock"
        self.heads = as_count(self.heads, f"{kind}: heads")
        self.hidden_features = as_count(self.hidden_features, f"{kind}: hidden_features")
        self.dropout_p = as_probability(self.dropout_p, f"{kind}: dropout_p")
        self.eps = as_eps(self.eps, f"{kind}: eps")
        check_flags(self, "norm_first", "causal", "bias")
        as_activation(self.activation)                   # unknown ones are refused here
        self._attention = MultiHeadedAttentionModule(self.heads, self.causal, self.bias, self.init, self.dropout_p,
                                                     name="attention")
        self._hidden = FullyConnected(self.hidden_features, self.activation, self.bias, self.init, name="hidden")
        self._norm1, self._norm2 = LayerNorm1D(eps=self.eps, name="norm1"), LayerNorm1D(eps=self.eps, name="norm2")
        self._drop_attention, self._drop_hidden, self._drop_output = (
            Dropout(self.dropout_p, name=f"dropout_{of}") for of in ("attention", "hidden", "output"))

    def __call__(self, x: Value, *, mask: Value | None = None, lengths: Value | None = None) -> Value:
        """The sequence after the block; `mask` or `lengths` say what positions may look at."""
        return self.within(self.call, x, mask=mask, lengths=lengths)

    def accepts(self, x: TensorType) -> None:
        if x.rank != 3:
            raise ShapeError(f"TransformerEncoderBlock takes x as (N, T, C), not {x}")
        require_float(x, "TransformerEncoderBlock")
        size = x.shape[-1]
        if not isinstance(size, int) or size % self.heads:
            raise ShapeError(f"TransformerEncoderBlock: heads is {self.heads}; it must divide the last axis of {x}")

    def build(self, x: TensorType) -> None:
        size: Any = x.shape[-1]
        self._output = FullyConnected(size, bias=self.bias, init=self.init, name="output")

    def call(self, x: Value, mask: Value | None = None, lengths: Value | None = None) -> Value:
        if lengths is not None:
            if mask is not None:
                raise ShapeError("TransformerEncoderBlock got lengths and a mask; give one of them")
            live = live_steps(x, lengths, None, "TransformerEncoderBlock")
            assert live is not None
            mask = ir.expand_dims(ir.swapaxes(live, 0, 1), 1)               # (N, 1, T)
        if self.norm_first:
            a = x + self._attended(self._norm1(x), mask)
            return a + self._dense(self._norm2(a))
        a = self._norm1(x + self._attended(x, mask))
        return self._norm2(a + self._dense(a))

    def _attended(self, x: Value, mask: Value | None) -> Value:
        return self._drop_attention(self._attention(x, mask=mask))

    def _dense(self, x: Value) -> Value:
        return self._drop_output(self._output(self._drop_hidden(self._hidden(x))))
