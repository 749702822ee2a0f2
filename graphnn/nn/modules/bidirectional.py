"""Layers over time in both directions: Bidirectional of any of them, and BidirectionalLSTM."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from graphnn import ir
from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.graph import Value
from graphnn.nn.activations import Activation
from graphnn.nn.arguments import check_flags, check_word, shown
from graphnn.nn.initialisers import Init
from graphnn.nn.layer import Layer
from graphnn.nn.layers.over_time import Recurrent
from graphnn.nn.layers.recurrent import GRU, LSTM, RNN

MERGES = ("concat", "sum", "average", "multiply")
OverTime = RNN | LSTM | GRU | Recurrent
T = TypeVar("T", bound=Layer)


class _BothWays(Layer):
    """Base of layers with two runs over time, the second in reverse, whose results are merged."""

    merge: str
    return_state: bool
    _ahead: OverTime
    _back: OverTime

    def __call__(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        """The merged result for a sequence; `states` are the first states, those of the forward run first; `lengths` or `mask`
        say which steps count."""
        return self.within(self.call, x, *states, lengths=lengths, mask=mask)

    def call(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        half = len(states) // 2
        if len(states) % 2:
            raise ShapeError(f"{type(self).__name__} takes initial states for both directions or none, not {len(states)}")
        ahead, *last_ahead = self._ahead(x, *states[:half], lengths=lengths, mask=mask)
        back, *last_back = self._back(x, *states[half:], lengths=lengths, mask=mask)
        y = _merged(self.merge, ahead, back)
        return (y, *last_ahead, *last_back) if self.return_state else y


@dataclass(eq=False)
class Bidirectional(_BothWays):
    """y_t = merge(layer at t, the same kind of layer in reverse at t): (N, T, C) -> (N, T, 2 out), or (N, T, out).

    `layer` is an RNN, LSTM, GRU or Recurrent: a pattern for the two, named forward and backward, each with parameters of its own;
    `backward` is another pattern for the second. `merge` is "concat" (forward first), "sum", "average" or "multiply".
    `return_sequences=False` of the layer merges the last results: the forward one after step
    T - 1, the backward one after step 0. With its `return_state` the result is (y, *forward states, *backward states); first
    states are given in that order. `lengths=` and `mask=` as for RNN. Schuster & Paliwal, 1997.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 3), name="x")
    >>> str(nn.Bidirectional(nn.GRU(5))(x).type), str(nn.Bidirectional(nn.GRU(5), merge="sum")(x).type)
    ('f32[N,T,10]', 'f32[N,T,5]')
    """

    layer: OverTime
    merge: str = "concat"
    backward: OverTime | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self, "merge", *MERGES)
        for label, layer, reverse in (("layer", self.layer, False), ("backward", self.backward, True)):
            if layer is None and label == "backward":
                continue
            if not isinstance(layer, OverTime):
                raise ShapeError(f"Bidirectional: {label} is {shown(layer)}; it is an RNN, LSTM, GRU or Recurrent layer")
            if layer.reverse is not reverse:
                raise ShapeError(f"Bidirectional: {label} has reverse={layer.reverse}; it must be {reverse} there")
        other = self.backward or _afresh(self.layer, reverse=True)
        if (other.return_state, other.return_sequences) != (self.layer.return_state, self.layer.return_sequences):
            raise ShapeError("Bidirectional: layer and backward differ in return_state or return_sequences")
        self.return_state = self.layer.return_state
        self._ahead = _afresh(self.layer, return_state=True, name="forward")
        self._back = _afresh(other, return_state=True, name="backward")


def _afresh(layer: T, **changes: Any) -> T:
    """Another layer of the same arguments, with parameters of its own; so are layers among the arguments."""
    for argument in fields(layer):
        if argument.init and isinstance(value := getattr(layer, argument.name), Layer):
            changes.setdefault(argument.name, _afresh(value))
    try:
        return replace(layer, **changes)
    except TypeError as error:
        raise VerifyError(f"Bidirectional: a second {type(layer).__name__} cannot be made: {error}",
                          hint="make its class a @dataclass(eq=False) whose fields are its arguments") from None


@dataclass(eq=False)
class BidirectionalLSTM(_BothWays):
    """y_t = merge(forward LSTM at t, backward LSTM at t): (N, T, C) -> (N, T, 2 out_features), or (N, T, out_features).

    `merge` is "concat" (forward first), "sum", "average" or "multiply". The arguments beside it are those of LSTM; parameters are
    named forward/... and backward/... . `return_sequences=False` merges the last states: the forward one after step T - 1, the
    backward one after step 0. `return_state` gives (y, h, c, h, c), forward first; first states are given in that order.
    `lengths=` and `mask=` as for LSTM. Schuster & Paliwal, 1997; Graves & Schmidhuber, 2005.

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
    init: Init = "glorot_uniform"
    return_sequences: bool = True
    return_state: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self, "merge", *MERGES)
        check_flags(self, "return_sequences", "return_state")
        self._ahead, self._back = (
            LSTM(self.out_features, self.activation, self.gate_activation, self.bias, self.forget_bias, self.init,
                 return_sequences=self.return_sequences, return_state=True, reverse=reverse, name=name)
            for name, reverse in (("forward", False), ("backward", True)))


def _merged(how: str, a: Value, b: Value) -> Value:
    if how == "concat":
        return ir.concat([a, b], axis=-1)
    return a * b if how == "multiply" else (a + b) * 0.5 if how == "average" else a + b
