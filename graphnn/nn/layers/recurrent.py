"""Recurrent cells (one step) and layers (all steps of a sequence, by `scan`): RNN, LSTM and GRU, in (N, T, C).

A layer is its cell run over time: it has the cell's arguments, parameters and formulas. What does not depend on the state,
x W + b, is one product for all steps. Stack layers by calling one on another's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_count, is_number, require_float
from graphnn.nn.initialisers import DTypeOf, as_initialiser, zeros
from graphnn.nn.layer import Layer

States = tuple[Value, ...]


@dataclass(frozen=True)
class PerGate:
    """The weights of all gates beside each other, each (in, out) drawn for itself: a gate's fans are its own."""

    first: Initializer
    gates: int

    def __call__(self, shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
        one = (*shape[:-1], shape[-1] // self.gates)
        return np.concatenate([self.first(one, dtype, rng) for _ in range(self.gates)], axis=-1)


class _Cell(Layer):
    """One step of a recurrence: (x, states) -> states. The first state is what the step gives."""

    GATES = 1
    STATES = ("h",)
    RANK = 2
    FORM = "(N, C)"

    out_features: int
    bias: bool
    init: str | Initializer

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kind = type(self).__name__
        self.out_features = as_count(self.out_features, f"{self._kind}: out_features")
        if not isinstance(self.bias, bool):
            raise ShapeError(f"{self._kind}: bias is {self.bias!r}; it is True or False")
        self._first = as_initialiser(self.init)

    def build(self, x: TensorType, *rest: TensorType) -> None:
        if x.rank != self.RANK:
            raise ShapeError(f"{self._kind} takes x as {self.FORM}, not {x}")
        require_float(x, self._kind)
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

    def step(self, projected: Value, states: States) -> States:
        """The states after a step."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def first_states(self, x: Value, given: States) -> States:
        """The states given, checked; zeros when none are given. Raises ShapeError, DTypeError."""
        if x.rank != self.RANK:
            raise ShapeError(f"{self._kind} takes x as {self.FORM}, not {x.type}")
        shape = (x.shape[0], self.out_features)
        if not given:
            return tuple(ir.zeros(shape, x.dtype) for _ in self.STATES)
        if len(given) != len(self.STATES):
            raise ShapeError(f"{self._kind} takes {len(self.STATES)} initial states ({', '.join(self.STATES)}) or none, "
                             f"not {len(given)}")
        expected = TensorType(x.dtype, shape)
        for label, value in zip(self.STATES, given, strict=True):
            if value.type != expected:
                raise ShapeError(f"{self._kind}: the initial state {label} is {value.type}; it must be {expected}")
        return given

    def __call__(self, x: Value, *states: Value) -> Any:
        """The state after one step, or the tuple of states where there are several; without `states` they are zeros."""
        return super().__call__(x, *states)

    def call(self, x: Value, *states: Value) -> Any:
        found = self.step(self.project(x), self.first_states(x, states))
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
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate = as_activation(self.activation)

    def step(self, projected: Value, states: States) -> States:
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
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.forget_bias):
            raise ShapeError(f"{self._kind}: forget_bias is {self.forget_bias!r}; it is a finite number")
        if self.forget_bias and not self.bias:
            raise ShapeError(f"{self._kind}: forget_bias is {self.forget_bias!r}, but there is no bias: bias is False")
        self._activate, self._gate = as_activation(self.activation), as_activation(self.gate_activation)

    def first_bias(self) -> Initializer:
        def forget(shape: tuple[int, ...], dtype: DTypeOf, rng: np.random.Generator) -> np.ndarray:
            return np.repeat(np.array([0.0, self.forget_bias, 0.0, 0.0], dtype), shape[0] // 4)

        return forget

    def step(self, projected: Value, states: States) -> States:
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
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._activate, self._gate = as_activation(self.activation), as_activation(self.gate_activation)

    def build(self, x: TensorType, *rest: TensorType) -> None:
        super().build(x, *rest)
        self.candidate_offset = (self.param("candidate_bias", (self.out_features,), zeros, dtype=x.dtype) if self.bias
                                 else None)

    def step(self, projected: Value, states: States) -> States:
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
    """A cell run over the time axis of (N, T, C)."""

    return_sequences: bool = True
    return_state: bool = False
    reverse: bool = False

    RANK = 3
    FORM = "(N, T, C)"

    def __post_init__(self) -> None:
        super().__post_init__()
        for label in ("return_sequences", "return_state", "reverse"):
            if not isinstance(getattr(self, label), bool):
                raise ShapeError(f"{self._kind}: {label} is {getattr(self, label)!r}; it is True or False")

    def __call__(self, x: Value, *states: Value, lengths: Value | None = None) -> Any:
        """The layer's result for a sequence; `states` are the first states, `lengths` how many steps each example has."""
        return Layer.__call__(self, x, *states, *given_lengths(lengths, self._kind))

    def call(self, x: Value, *rest: Value) -> Any:
        ragged = bool(rest) and not rest[-1].dtype.is_float          # states are real numbers, lengths whole ones
        first = self.first_states(x, rest[:-1] if ragged else rest)
        steps = ir.swapaxes(self.project(x), 0, 1)                   # time first, as scan has it
        if ragged:
            inside = _inside(x, rest[-1], self._kind)

            def masked(states: States, step: tuple[Value, Value]) -> tuple[States, Value]:
                projected, live = step
                new = self.step(projected, states)
                return tuple(ir.where(live, a, b) for a, b in zip(new, states, strict=True)), ir.where(live, new[0], 0.0)

            last, ys = ir.scan(masked, first, (steps, inside), reverse=self.reverse)
        else:
            def plain(states: States, projected: Value) -> tuple[States, Value]:
                new = self.step(projected, states)
                return new, new[0]

            last, ys = ir.scan(plain, first, steps, reverse=self.reverse)
        y = ir.swapaxes(ys, 0, 1) if self.return_sequences else last[0]
        return (y, *last) if self.return_state else y


def given_lengths(lengths: Value | None, kind: str) -> tuple[Value, ...]:
    """What a layer's `call` gets for lengths. Raises DTypeError unless they are whole numbers, which no state is."""
    if isinstance(lengths, Value) and lengths.dtype not in (ir.i32, ir.i64):
        raise DTypeError(f"{kind}: lengths are {lengths.type}; they are whole numbers, i64 or i32")
    return () if lengths is None else (lengths,)


def _inside(x: Value, lengths: Value, kind: str) -> Value:
    """bool[T,N,1]: whether step t of example n is before its end. Raises ShapeError."""
    if lengths.shape != (x.shape[0],):
        raise ShapeError(f"{kind}: lengths are {lengths.type}; there is one for each example of {x.type}")
    return ir.less(ir.iota((x.shape[1], x.shape[0], 1), 0, lengths.dtype), ir.reshape(lengths, (1, x.shape[0], 1)))


@dataclass(eq=False)
class RNN(_OverTime, RNNCell):
    """h_t = f(x_t W + h_{t-1} U + b) for each step: (N, T, C) -> (N, T, out_features). See RNNCell.

    `return_sequences=False` gives the last state alone, (N, out_features); `return_state` gives (y, h). `reverse` goes from the
    last step to the first; y_t still stands at t. Call it as `rnn(x)`, `rnn(x, h0)` or `rnn(x, lengths=n)` with n i64[N]: steps
    from n on keep the state and give 0.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 3), name="x")
    >>> str(nn.RNN(5)(x).type), str(nn.RNN(5, return_sequences=False)(x).type)
    ('f32[N,T,5]', 'f32[N,5]')
    """


@dataclass(eq=False)
class LSTM(_OverTime, LSTMCell):
    """LSTMCell over each step of a sequence: (N, T, C) -> (N, T, out_features). See LSTMCell for the formula.

    `return_sequences=False` gives the last h alone, (N, out_features); `return_state` gives (y, h, c). `reverse` goes from the
    last step to the first; y_t still stands at t. Call it as `lstm(x)`, `lstm(x, h0, c0)`, or with `lengths=n`, n i64[N]: steps
    from n on keep the state and give 0. Hochreiter & Schmidhuber, 1997.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> y, h, c = nn.LSTM(5, return_state=True)(nn.LSTM(4)(gnn.Input(("T", 3), name="x")))
    >>> str(y.type), str(c.type)
    ('f32[N,T,5]', 'f32[N,5]')
    """


@dataclass(eq=False)
class GRU(_OverTime, GRUCell):
    """GRUCell over each step of a sequence: (N, T, C) -> (N, T, out_features). See GRUCell for the formula.

    `return_sequences=False` gives the last state alone, (N, out_features); `return_state` gives (y, h). `reverse` goes from the
    last step to the first; y_t still stands at t. Call it as `gru(x)`, `gru(x, h0)`, or with `lengths=n`, n i64[N]: steps from n
    on keep the state and give 0. Cho et al., 2014.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, lengths = gnn.Input(("T", 3), name="x"), gnn.Input((), name="lengths", dtype="i64")
    >>> str(nn.GRU(5, reverse=True)(x, lengths=lengths).type)
    'f32[N,T,5]'
    """
