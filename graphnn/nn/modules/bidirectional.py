"""BidirectionalLSTM: one LSTM over time, one against it, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.nn.activations import Activation
from graphnn.nn.layer import Layer
from graphnn.nn.layers.recurrent import LSTM, given_lengths

MERGES = ("concat", "sum", "average", "multiply")


@dataclass(eq=False)
class BidirectionalLSTM(Layer):
    """y_t = merge(forward LSTM at t, backward LSTM at t): (N, T, C) -> (N, T, 2 out_features), or (N, T, out_features).

    `merge` is "concat" (forward first), "sum", "average" or "multiply". The arguments beside it are those of LSTM; parameters are
    named forward/... and backward/... . `return_sequences=False` merges the last states: the forward one after step T - 1, the
    backward one after step 0. `return_state` gives (y, h, c, h, c), forward first; first states are given in that order.
    `lengths=n` as for LSTM. Schuster & Paliwal, 1997; Graves & Schmidhuber, 2005.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 3), name="x")
    >>> str(nn.BidirectionalLSTM(5)(x).type), str(nn.BidirectionalLSTM(5, merge="sum")(x).type)
    ('f32[N,T,10]', 'f32[N,T,5]')
    """

    out_features: int
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    merge: str = "concat"
    bias: bool = True
    forget_bias: float = 0.0
    init: str | Initializer = "glorot_uniform"
    return_sequences: bool = True
    return_state: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.merge not in MERGES:
            raise ShapeError(f"BidirectionalLSTM: merge is {self.merge!r}; it is one of {', '.join(MERGES)}")
        for label in ("return_sequences", "return_state"):
            if not isinstance(getattr(self, label), bool):
                raise ShapeError(f"BidirectionalLSTM: {label} is {getattr(self, label)!r}; it is True or False")
        self._ahead, self._back = (
            LSTM(self.out_features, self.activation, self.gate_activation, self.bias, self.forget_bias, self.init,
                 return_sequences=self.return_sequences, return_state=True, reverse=reverse, name=name)
            for name, reverse in (("forward", False), ("backward", True)))

    def __call__(self, x: Value, *states: Value, lengths: Value | None = None) -> Any:
        """The merged result for a sequence; `states` are the first states, `lengths` how many steps each example has."""
        return super().__call__(x, *states, *given_lengths(lengths, "BidirectionalLSTM"))

    def call(self, x: Value, *rest: Value) -> Any:
        ragged = bool(rest) and not rest[-1].dtype.is_float
        lengths, states = (rest[-1], rest[:-1]) if ragged else (None, rest)
        if len(states) not in (0, 4):
            raise ShapeError(f"BidirectionalLSTM takes 4 initial states (h, c, h, c; forward first) or none, not {len(states)}")
        ahead, *last_ahead = self._ahead(x, *states[:2], lengths=lengths)
        back, *last_back = self._back(x, *states[2:], lengths=lengths)
        y = _merged(self.merge, ahead, back)
        return (y, *last_ahead, *last_back) if self.return_state else y


def _merged(how: str, a: Value, b: Value) -> Value:
    if how == "concat":
        return ir.concat([a, b], axis=-1)
    return a * b if how == "multiply" else (a + b) * 0.5 if how == "average" else a + b
