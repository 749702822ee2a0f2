"""Gradients as values: use them in expressions, put them in a graph, differentiate them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Graph, Value, collect
from graphnn.ir.modes import has_modes, resolve_values
from graphnn.ir.ops.modes import by_mode
from graphnn.ir.ops.operands import number
from graphnn.ir.ops.sizes import zeros_like
from graphnn.ir.vjp import vjp

Updates = Sequence[tuple[Value, Value]]


def gradients(of: Value, wrt: Sequence[Value], d_of: Value | None = None) -> tuple[Value, ...]:
    """The derivative of `of` by each value of `wrt`, of its type; zeros where no path leads.

    `of` is a float number (0-d); or any float tensor with `d_of`, the derivative of something by it.

    The results are values like any other: they can stand in a loss, and be differentiated again. Raises DTypeError for what is
    not float, ShapeError for a tensor without `d_of`.

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> x = gnn.Input((), name="x")
    >>> (slope,) = gnn.gradients(gnn.sum(x ** 3), [x])
    >>> (curvature,) = gnn.gradients(gnn.sum(slope), [x])
    >>> f = gnn.compile(gnn.Graph.of("f", [x], [slope, curvature]), backend="numpy")
    >>> [y.tolist() for y in f(np.array([1, 2], np.float32))]
    [[3.0, 12.0], [6.0, 12.0]]
    """
    if not of.dtype.is_float:
        raise DTypeError(f"gradients: {of.type} has no gradient; only f32 and f64 have")
    for value in wrt:
        if not value.dtype.is_float:
            raise DTypeError(f"gradients: cannot differentiate by {value.name!r} : {value.type}; only by f32 and f64")
    if d_of is None:
        if of.rank:
            raise ShapeError(f"gradients: differentiates a number, not {of.type}", hint="take its sum or mean, or give d_of")
        d_of = number(1, of.dtype)
    elif d_of.type != of.type:
        raise ShapeError(f"gradients: d_of is {d_of.type}, it must be {of.type}")
    if not has_modes(collect([of])):
        return _walk(of, d_of, wrt, wrt)
    # Training and evaluation have each their own gradient: neither carries zeros for the branch that it does not take.
    training, evaluation = (_walk(*_in_mode(of, d_of, wrt, mode), wrt) for mode in (True, False))
    return tuple(a if a == b else by_mode(a, b) for a, b in zip(training, evaluation, strict=True))


def _in_mode(of: Value, d_of: Value, wrt: Sequence[Value], training: bool) -> tuple[Value, Value, list[Value | None]]:
    resolved, values = resolve_values(wrt, of, training)
    return resolved, d_of, values


def _walk(of: Value, d_of: Value, wrt: Sequence[Value | None], like: Sequence[Value]) -> tuple[Value, ...]:
    """The gradient by each value of `wrt`: zeros like its value of `like` where there is no path, or no value."""
    found = dict(zip(wanted := [v for v in wrt if v is not None], vjp([of], [d_of], wanted), strict=True))
    results = (None if value is None else found[value] for value in wrt)
    return tuple(zeros_like(value) if d is None else d for value, d in zip(like, results, strict=True))


def training_graph(name: str, inputs: Sequence[Value], loss: Value, params: Sequence[Value],
                   update: Callable[[Sequence[Value], Sequence[Value]], Updates], *,
                   outputs: Sequence[Value] = (), updates: Updates = ()) -> Graph:
    """One whole training step: forward, backward and update as one graph, whose first output is the loss.

    `update(params, gradients)` pairs each param and slot with its next value; `updates` are further ones, such as
    running statistics. `outputs` come after the loss.
    """
    made = update(params, gradients(loss, params))
    return Graph.of(name, inputs, [loss, *outputs], updates=[*made, *updates])
