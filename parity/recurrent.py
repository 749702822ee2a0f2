"""Cells, layers over time and bidirectional modules beside PyTorch's; ragged batches beside its packed sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import graphnn as gnn
from graphnn import nn
from parity.harness import Call, Draw, parity

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """A recurrence: PyTorch's functions for one step and for all, the number of gates and of states."""

    cell: Callable[..., Any]
    run: Callable[..., Any]
    gates: int
    states: int


KINDS = {
    "tanh": Kind(torch.rnn_tanh_cell, torch.rnn_tanh, 1, 1),
    "relu": Kind(torch.rnn_relu_cell, torch.rnn_relu, 1, 1),
    "lstm": Kind(torch.lstm_cell, torch.lstm, 4, 2),
    "gru": Kind(torch.gru_cell, torch.gru, 3, 1),
}


def parameters(draw: Draw, kind: str, i: int, o: int, bias: bool, prefix: str = "") -> dict[str, np.ndarray]:
    """The parameters of one layer."""
    wide = KINDS[kind].gates * o
    found = {"weight": draw.normal(i, wide, scale=0.5), "recurrent_weight": draw.normal(o, wide, scale=0.3)}
    if bias:
        found["bias"] = draw.normal(wide)
        if kind == "gru":
            found["candidate_bias"] = draw.normal(o)
    return {prefix + name: array for name, array in found.items()}


def weights(params: Params, prefix: str = "") -> list[Tensor]:
    """PyTorch's weights of one layer: it has two biases, we have one, and the part of the second that is not the same."""
    w, u = params[f"{prefix}weight"], params[f"{prefix}recurrent_weight"]
    b, d = params.get(f"{prefix}bias"), params.get(f"{prefix}candidate_bias")
    second = torch.zeros(w.shape[1], dtype=w.dtype)
    if d is not None:
        second = torch.cat([second[: 2 * len(d)], d])
    return [w.T, u.T] if b is None else [w.T, u.T, b, second]


def run(kind: str, x: Tensor, states: Sequence[Tensor], layers: list[list[Tensor]], lengths: Tensor | None, *,
        reverse: bool = False, both_ways: bool = False) -> tuple[Tensor, list[Tensor]]:
    """(y, last states by layers) of PyTorch, for layers one on the other, or two directions."""
    how = KINDS[kind]
    first = [torch.stack(list(states[s::how.states])) for s in range(how.states)]
    hx = tuple(first) if how.states == 2 else first[0]
    flat = [w for layer in layers for w in layer]
    rest = (flat, len(layers[0]) == 4, 1 if both_ways else len(layers), 0.0, False, both_ways)
    x = turned(x, lengths) if reverse else x
    if lengths is None:
        y, *last = how.run(x, hx, *rest, True)
    else:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        order, back = packed.sorted_indices, packed.unsorted_indices
        hx = tuple(h[:, order] for h in first) if how.states == 2 else first[0][:, order]
        data, *last = how.run(packed.data, packed.batch_sizes, hx, *rest)
        y, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=x.shape[1])
        last = [h[:, back] for h in last]
    y = turned(y, lengths) if reverse else y
    return y, [h[i] for i in range(len(layers)) for h in last]


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The steps of each example in reverse order; those past its length stay."""
    if lengths is None:
        return x.flip(1)
    t = torch.arange(x.shape[1])
    order = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return x.gather(1, order[..., None].expand_as(x))


# ------------------------------------------------------------------------------------------------ one step

def one_step(draw: Draw, kind: str, cell: Callable[[int, bool], nn.Layer]) -> Call:
    """A cell, with states given."""
    n, i, o, bias, how = draw.size(1, 9), draw.size(1, 9), draw.size(1, 9), draw.flag(), KINDS[kind]

    def reference(x: Tensor, *states: Tensor, **params: Tensor) -> Any:
        return how.cell(x, states if how.states == 2 else states[0], *weights(params))

    inputs = {"x": draw.normal(n, i), **{f"state{s}": draw.normal(n, o) for s in range(how.states)}}
    return Call(cell(o, bias), reference, inputs, parameters(draw, kind, i, o, bias))


@parity("recurrent", "RNNCell")
def rnn_cell(draw: Draw) -> Call:
    kind = draw.choice("tanh", "relu")
    return one_step(draw, kind, lambda o, bias: nn.RNNCell(o, kind, bias))


@parity("recurrent", "LSTMCell")
def lstm_cell(draw: Draw) -> Call:
    return one_step(draw, "lstm", lambda o, bias: nn.LSTMCell(o, bias=bias))


@parity("recurrent", "GRUCell")
def gru_cell(draw: Draw) -> Call:
    return one_step(draw, "gru", lambda o, bias: nn.GRUCell(o, bias=bias))


# ------------------------------------------------------------------------------------------------ all steps

def all_steps(draw: Draw, kind: str, layer: Callable[..., nn.Layer]) -> Call:
    """A layer over time, perhaps stacked, in reverse, with first states, lengths, or its last result alone."""
    n, t, i, o, count = draw.size(1, 5), draw.size(1, 8), draw.size(1, 7), draw.size(1, 7), draw.choice(1, 1, 2, 3)
    bias, reverse, every, given, ragged = (draw.flag() for _ in range(5))
    states = KINDS[kind].states * count
    made = layer(o, bias=bias, return_sequences=every, return_state=True, reverse=reverse, num_layers=count)
    inputs = {"x": draw.normal(n, t, i)}
    if given:
        inputs |= {f"state{s}": draw.normal(n, o) for s in range(states)}
    if ragged:
        inputs["lengths"] = 1 + draw.ids(t, n)

    def build(x: gnn.Value, *more: gnn.Value) -> Any:
        return made(x, *more[:states if given else 0], lengths=more[-1] if ragged else None)

    def reference(x: Tensor, *more: Tensor, **params: Tensor) -> list[Tensor]:
        first = more[:states] if given else [torch.zeros(n, o, dtype=x.dtype)] * states
        prefixes = [""] if count == 1 else [f"layer_{k}/" for k in range(count)]
        y, last = run(kind, x, first, [weights(params, prefix) for prefix in prefixes], more[-1] if ragged else None,
                      reverse=reverse)
        return [y if every else last[-KINDS[kind].states], *last]

    params: dict[str, np.ndarray] = {}
    for k in range(count):
        params |= parameters(draw, kind, o if k else i, o, bias, "" if count == 1 else f"layer_{k}/")
    return Call(build, reference, inputs, params)


@parity("recurrent", "RNN")
def rnn(draw: Draw) -> Call:
    kind = draw.choice("tanh", "relu")
    return all_steps(draw, kind, lambda o, **options: nn.RNN(o, kind, **options))


@parity("recurrent", "LSTM")
def lstm(draw: Draw) -> Call:
    return all_steps(draw, "lstm", nn.LSTM)


@parity("recurrent", "GRU")
def gru(draw: Draw) -> Call:
    return all_steps(draw, "gru", nn.GRU)


@parity("recurrent", "Recurrent")
def recurrent(draw: Draw) -> Call:
    """Any cell, with any mask: beside a loop over PyTorch's cells."""
    n, t, i, o, kind = draw.size(1, 5), draw.size(1, 7), draw.size(1, 7), draw.size(1, 7), draw.choice("tanh", "lstm", "gru")
    reverse, every, masked = draw.flag(), draw.flag(), draw.flag()
    cell = {"tanh": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind](o)
    layer, how = nn.Recurrent(cell, return_sequences=every, return_state=True, reverse=reverse), KINDS[kind]

    def reference(x: Tensor, mask: Tensor | None = None, **params: Tensor) -> list[Tensor]:
        states = [torch.zeros(n, o, dtype=x.dtype)] * how.states
        last, ys = torch.zeros(n, o, dtype=x.dtype), [torch.zeros(n, o, dtype=x.dtype)] * t
        for step in reversed(range(t)) if reverse else range(t):
            found = how.cell(x[:, step], tuple(states) if how.states == 2 else states[0], *weights(params))
            new = list(found) if how.states == 2 else [found]
            live = torch.ones(n, 1, dtype=torch.bool) if mask is None else mask[:, step, None]
            states = [torch.where(live, a, b) for a, b in zip(new, states, strict=True)]
            last, ys[step] = torch.where(live, new[0], last), torch.where(live, new[0], 0.0)
        return [torch.stack(ys, 1) if every else last, *states]

    inputs = {"x": draw.normal(n, t, i), **({"mask": draw.rng.random((n, t)) < 0.7} if masked else {})}
    return Call(lambda x, mask=None: layer(x, mask=mask), reference, inputs, parameters(draw, kind, i, o, True))


# ------------------------------------------------------------------------------------------------ both ways

def both_ways(draw: Draw, kind: str, layer: Callable[..., nn.Layer]) -> Call:
    """Two directions, merged in one of the ways; PyTorch's concatenates, and gives both last states."""
    n, t, i, o = draw.size(1, 5), draw.size(1, 8), draw.size(1, 7), draw.size(1, 7)
    merge, bias, every, given, ragged = draw.choice("concat", "sum", "average", "multiply"), *(draw.flag() for _ in range(4))
    states, made = 2 * KINDS[kind].states, layer(o, merge, bias, every)
    inputs = {"x": draw.normal(n, t, i)}
    if given:
        inputs |= {f"state{s}": draw.normal(n, o) for s in range(states)}
    if ragged:
        inputs["lengths"] = 1 + draw.ids(t, n)

    def build(x: gnn.Value, *more: gnn.Value) -> Any:
        return made(x, *more[:states if given else 0], lengths=more[-1] if ragged else None)

    def reference(x: Tensor, *more: Tensor, **params: Tensor) -> list[Tensor]:
        first = more[:states] if given else [torch.zeros(n, o, dtype=x.dtype)] * states
        y, last = run(kind, x, first, [weights(params, "forward/"), weights(params, "backward/")], more[-1] if ragged else None,
                      both_ways=True)
        a, b = y.split(o, -1) if every else (last[0], last[states // 2])
        merged = {"concat": torch.cat([a, b], -1), "sum": a + b, "average": (a + b) / 2, "multiply": a * b}[merge]
        return [merged, *last]

    params = {**parameters(draw, kind, i, o, bias, "forward/"), **parameters(draw, kind, i, o, bias, "backward/")}
    return Call(build, reference, inputs, params)


@parity("recurrent", "BidirectionalLSTM")
def bidirectional_lstm(draw: Draw) -> Call:
    return both_ways(draw, "lstm", lambda o, merge, bias, every: nn.BidirectionalLSTM(
        o, merge=merge, bias=bias, return_sequences=every, return_state=True))


@parity("recurrent", "Bidirectional")
def bidirectional(draw: Draw) -> Call:
    kind = draw.choice("tanh", "gru")
    layer = nn.RNN if kind == "tanh" else nn.GRU
    return both_ways(draw, kind, lambda o, merge, bias, every: nn.Bidirectional(
        layer(o, bias=bias, return_sequences=every, return_state=True), merge))
