"""Recurrent cells (one step) and layers (all steps of a sequence, by `scan`): RNN, LSTM and GRU, in (N, T, C).

A layer is its cell run over time: it has the cell's arguments, parameters and formulas. What does not depend on the state,
x W + b, is one product for all steps. For a cell of your own see `Cell` and `Recurrent` in over_time.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_count, as_probability, check_flags, is_number, require_float, shown
from graphnn.nn.initialisers import DTypeOf, Init, as_initialiser, zeros
from graphnn.nn.layers.dropout import Dropout
from graphnn.nn.layers.over_time import Cell, live_steps, over_time

States = tuple[Value, ...]


@dataclass(frozen=True)
class PerGate:
    """The weights of all gates beside each other, each (in, out) drawn for itself: a gate's fans are its own."""

    first: Initializer
    gates: int

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        one = (*shape[:-1], shape[-1] // self.gates)
        return np.concatenate([self.first(one, dtype, rng) for _ in range(self.gates)], axis=-1)


@dataclass(frozen=True)
class ForgetBias:
    """The first bias of an LSTM's gates i, f, g, o: f's is `value`, the others' 0."""

    value: float

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        return np.repeat(np.array([0.0, self.value, 0.0, 0.0], dtype), shape[0] // 4)


class _Cell(Cell):
    """One step of a recurrence whose result is its first state."""

    GATES = 1
    STATES = ("h",)
    RANK = 2
    FORM = "(N, C)"

    out_features: int
    bias: bool
    init: Init

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kind = type(self).__name__
        self.out_features = as_count(self.out_features, f"{self._kind}: out_features")
        check_flags(self, "bias")
        self._first = as_initialiser(self.init)

    def accepts(self, x: TensorType, *states: TensorType) -> None:
        if x.rank != self.RANK:
            raise ShapeError(f"{self._kind} takes x as {self.FORM}, not {x}")
        require_float(x, self._kind)

    def build(self, x: TensorType, *states: TensorType) -> None:
        width, first = self.GATES * self.out_features, PerGate(self._first, self.GATES)
        self.weight = self.param("weight", (x.shape[-1], width), first, dtype=x.dtype)
        self.recurrent_weight = self.param("recurrent_weight", (self.out_features, width), first, dtype=x.dtype)
        self.offset = self.param("bias", (width,), self.first_bias(), dtype=x.dtype) if self.bias else None

    def first_bias(self) -> Initializer:
        """What makes the first bias."""
        return zeros

    def project(self, x: Value) -> Value:
        """The part of a step that does not depend on the states, for one step or for all: x W + b."""
        y = x @ self.weight
        return y if self.offset is None else y + self.offset

    def update(self, projected: Value, states: States) -> States:
        """The states after a step."""
        raise NotImplementedError(f"{type(self).__name__}.update")

    def first_states(self, x: TensorType) -> States:
        return tuple(ir.zeros((x.shape[0], self.out_features), x.dtype) for _ in self.STATES)

    def step(self, x: Value, *states: Value) -> tuple[Value, ...]:
        return self._after(self.project(x), *states)

    def _after(self, projected: Value, *states: Value) -> tuple[Value, ...]:
        new = self.update(projected, states)
        return new[0], *new

    def starting(self, x: TensorType, given: States) -> States:
        """The states given, checked; zeros when none are given. Raises ShapeError."""
        if not given:
            return self.first_states(x)
        if len(given) != len(self.STATES):
            raise ShapeError(f"{self._kind} takes {len(self.STATES)} initial states ({', '.join(self.STATES)}) or none, "
                             f"not {len(given)}")
        expected = TensorType(x.dtype, (x.shape[0], self.out_features))
        for label, value in zip(self.STATES, given, strict=True):
            if value.type != expected:
                raise ShapeError(f"{self._kind}: the initial state {label} is {value.type}; it must be {expected}")
        return given

    def call(self, x: Value, *states: Value) -> Any:
        """The state after one step, or the tuple of states where there are several; without `states` they are zeros."""
        found = self.update(self.project(x), self.starting(x.type, states))
        return found[0] if len(found) == 1 else found


@dataclass(eq=False)
class RNNCell(_Cell):
    """h' = f(x W + h U + b): one step of an Elman network, (N, C), (N, out_features) -> (N, out_features).

    W is `weight` (C, out), U `recurrent_weight` (out, out), b `bias` (out,); Glorot uniform without gain, b = 0. Without h it
    is 0. Elman, "Finding structure in time", 1990.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((3,), name="x")
    >>> cell = nn.RNNCell(5)
    >>> str(cell(x, cell(x)).type)
    'f32[N,5]'
    """

    out_features: int
    activation: Activation = "tanh"
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate = as_activation(self.activation)

    def update(self, projected: Value, states: States) -> States:
        return (self._activate(projected + states[0] @ self.recurrent_weight),)


@dataclass(eq=False)
class LSTMCell(_Cell):
    """One step of long short-term memory: (N, C) and states h, c (N, out_features) -> (h', c').

    i, f, g, o = the quarters of x W + h U + b;  c' = s(f) c + s(i) a(g);  h' = s(o) a(c'), with s = `gate_activation` and
    a = `activation`. W is `weight` (C, 4 out), U `recurrent_weight` (out, 4 out), b `bias` (4 out,), in PyTorch's order
    i, f, g, o. `forget_bias` is the first value of b's part f: 1 keeps memory at first (Jozefowicz et al., 2015).
    Hochreiter & Schmidhuber, 1997; Gers et al., 2000.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> h, c = nn.LSTMCell(5, forget_bias=1.0)(gnn.Input((3,), name="x"))
    >>> str(h.type), str(c.type)
    ('f32[N,5]', 'f32[N,5]')
    """

    GATES = 4
    STATES = ("h", "c")

    out_features: int
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    bias: bool = True
    forget_bias: float = 0.0
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.forget_bias):
            raise ShapeError(f"{self._kind}: forget_bias is {shown(self.forget_bias)}; it is a finite number")
        if self.forget_bias and not self.bias:
            raise ShapeError(f"{self._kind}: forget_bias is {self.forget_bias!r}, but there is no bias: bias is False")
        self._activate, self._gate = as_activation(self.activation), as_activation(self.gate_activation)

    def first_bias(self) -> Initializer:
        return ForgetBias(self.forget_bias)

    def update(self, projected: Value, states: States) -> States:
        h, c = states
        i, f, g, o = ir.split(projected + h @ self.recurrent_weight, 4, axis=-1)
        memory = self._gate(f) * c + self._gate(i) * self._activate(g)
        return self._gate(o) * self._activate(memory), memory


@dataclass(eq=False)
class GRUCell(_Cell):
    """One step of a gated recurrent unit: (N, C), h (N, out_features) -> h'.

    r, z, n = the thirds of x W + b, and r', z', n' those of h U;  R = s(r + r');  Z = s(z + z');
    h' = (1 - Z) a(n + R (n' + d)) + Z h, with s = `gate_activation`, a = `activation` and d = `candidate_bias` (out,).
    W is `weight` (C, 3 out), U `recurrent_weight` (out, 3 out), b `bias` (3 out,), in PyTorch's order. Cho et al., 2014, in
    the form of cuDNN and PyTorch.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.GRUCell(5)(gnn.Input((3,), name="x")).type)
    'f32[N,5]'
    """

    GATES = 3

    out_features: int
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate, self._gate = as_activation(self.activation), as_activation(self.gate_activation)

    def build(self, x: TensorType, *states: TensorType) -> None:
        super().build(x, *states)
        self.candidate_offset = (self.param("candidate_bias", (self.out_features,), zeros, dtype=x.dtype) if self.bias
                                 else None)

    def update(self, projected: Value, states: States) -> States:
        (h,) = states
        r, z, n = ir.split(projected, 3, axis=-1)
        hr, hz, hn = ir.split(h @ self.recurrent_weight, 3, axis=-1)
        if self.candidate_offset is not None:
            hn = hn + self.candidate_offset
        keep = self._gate(z + hz)
        return ((1.0 - keep) * self._activate(n + self._gate(r + hr) * hn) + keep * h,)


# ------------------------------------------------------------------------------------------------ over time

@dataclass(eq=False)
class _OverTime(_Cell):
    """A cell run over the time axis of (N, T, C); `num_layers` of them one on the other."""

    return_sequences: bool = True
    return_state: bool = False
    reverse: bool = False
    num_layers: int = 1
    dropout_p: float = 0.0

    RANK = 3
    FORM = "(N, T, C)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, "return_sequences", "return_state", "reverse")
        self.num_layers = as_count(self.num_layers, f"{self._kind}: num_layers")
        self.dropout_p = as_probability(self.dropout_p, f"{self._kind}: dropout_p")
        if self.dropout_p and self.num_layers == 1:
            raise ShapeError(f"{self._kind}: dropout_p is {self.dropout_p}; it is that between layers, and num_layers is 1",
                             hint="use nn.Dropout before or after it")
        self._stack = () if self.num_layers == 1 else tuple(
            replace(self, num_layers=1, dropout_p=0.0, return_sequences=True, return_state=True, name=f"layer_{i}")
            for i in range(self.num_layers))
        self._between = tuple(Dropout(self.dropout_p, name=f"dropout_{i}") for i in range(self.num_layers - 1))

    def build(self, x: TensorType, *states: TensorType) -> None:
        if not self._stack:                              # else the layers inside have the parameters
            super().build(x, *states)

    def __call__(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        """The layer's result for a sequence; `states` are the first states, `lengths` how many steps each example has, or `mask`
        which of them count."""
        return self.within(self.call, x, *states, lengths=lengths, mask=mask)

    def call(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        if self._stack:
            y, last = self._stacked(x, states, lengths, mask)
        else:
            first = self.starting(x.type, states)
            steps = self.project(ir.swapaxes(x, 0, 1))   # time first, as scan has it; x is narrower than all gates are
            y, last = over_time(self._after, first, steps, live_steps(x, lengths, mask, self._kind), self.reverse)
        y = y if self.return_sequences else last[-len(self.STATES)]
        return (y, *last) if self.return_state else y

    def _stacked(self, x: Value, states: States, lengths: Value | None, mask: Value | None) -> tuple[Value, States]:
        each, last = len(self.STATES), ()
        if states and len(states) != each * self.num_layers:
            raise ShapeError(f"{self._kind} takes {each * self.num_layers} initial states ({', '.join(self.STATES)} of each of "
                             f"{self.num_layers} layers) or none, not {len(states)}")
        y = x
        for i, layer in enumerate(self._stack):
            y = self._between[i - 1](y) if i else x
            y, *ends = layer(y, *states[i * each:(i + 1) * each], lengths=lengths, mask=mask)
            last = (*last, *ends)
        return y, last


@dataclass(eq=False)
class RNN(_OverTime, RNNCell):
    """h_t = f(x_t W + h_{t-1} U + b) for each step: (N, T, C) -> (N, T, out_features). See RNNCell.

    `return_sequences=False` gives the last state alone, (N, out_features); `return_state` gives (y, h). `reverse` goes from the
    last step to the first; y_t still stands at t. `num_layers` layers run one on the other's result: parameters are then named
    layer_0/..., states go in and come out by layers, (y, h_0, h_1, ...); in training `dropout_p` of what goes from one to the
    next is dropped. Call it as `rnn(x)` or `rnn(x, h0)`; with `lengths=n`,
    n whole numbers (N,), or `mask=m`, m bool (N, T), steps from n on or where m is False keep the state and give 0, so that
    `reverse` begins at each example's own end.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 3), name="x")
    >>> str(nn.RNN(5)(x).type), str(nn.RNN(5, return_sequences=False)(x).type)
    ('f32[N,T,5]', 'f32[N,5]')
    """


@dataclass(eq=False)
class LSTM(_OverTime, LSTMCell):
    """LSTMCell over each step of a sequence: (N, T, C) -> (N, T, out_features). See LSTMCell for the formula.

    `return_sequences=False` gives the last h alone, (N, out_features); `return_state` gives (y, h, c), with `num_layers` above 1
    (y, h_0, c_0, h_1, c_1, ...). `reverse`, `num_layers`, `dropout_p`, `lengths=` and `mask=` as for RNN. Call it as
    `lstm(x)` or `lstm(x, h0, c0)`. Hochreiter & Schmidhuber, 1997.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> y, h, c = nn.LSTM(5, return_state=True)(nn.LSTM(4)(gnn.Input(("T", 3), name="x")))
    >>> str(y.type), str(c.type)
    ('f32[N,T,5]', 'f32[N,5]')
    """


@dataclass(eq=False)
class GRU(_OverTime, GRUCell):
    """GRUCell over each step of a sequence: (N, T, C) -> (N, T, out_features). See GRUCell for the formula.

    `return_sequences=False` gives the last state alone, (N, out_features); `return_state` gives (y, h). `reverse`, `num_layers`,
    `dropout_p`, `lengths=` and `mask=` as for RNN. Call it as `gru(x)` or `gru(x, h0)`. Cho et al., 2014.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, lengths = gnn.Input(("T", 3), name="x"), gnn.Input((), name="lengths", dtype="i64")
    >>> str(nn.GRU(5, reverse=True)(x, lengths=lengths).type)
    'f32[N,T,5]'
    """
