"""Any cell run over time: `Cell`, what users write, and `Recurrent`, which runs it; ragged batches by lengths or masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import check_flags, shown
from graphnn.nn.layer import Layer


class Cell(Layer):
    """Base of recurrent cells, one's own too: `step` says what happens at one time, `Recurrent` runs it over all of them.

    Make parameters in `build(x)`, x being the type of one step (N, ...); other layers may be called in `step`. Backward, files
    and speed come by themselves: the step is traced, as the body of a scan, and what does not depend on the states leaves the
    loop.

    >>> from dataclasses import dataclass
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> @dataclass(eq=False)
    ... class Leaky(nn.Cell):
    ...     '''h' = d h + x with a learned d for each channel.'''
    ...     def build(self, x):
    ...         self.decay = self.param("decay", x.shape[1:], nn.Constant(0.9), dtype=x.dtype)
    ...     def first_states(self, x):
    ...         return [gnn.zeros(x.shape, x.dtype)]
    ...     def step(self, x, h):
    ...         h = self.decay * h + x
    ...         return gnn.tanh(h), h
    >>> y = nn.Recurrent(Leaky())(gnn.Input(("T", 3), name="x"))
    >>> str(y.type)
    'f32[N,T,3]'
    """

    def first_states(self, x: TensorType) -> Sequence[Value]:
        """The states before the first step, for steps x of this type."""
        raise ShapeError(f"{type(self).__name__} has no first states of its own",
                         hint="write first_states(x), or give them in the call")

    def step(self, x: Value, *states: Value) -> tuple[Value, ...]:
        """(y, *states after the step)."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def __call__(self, x: Value, *states: Value) -> Any:
        """(y, *states) after one step; from the first states where none are given."""
        return super().__call__(x, *states)

    def call(self, x: Value, *states: Value) -> Any:
        return self.step(x, *(states or self.first_states(x.type)))


@dataclass(eq=False)
class Recurrent(Layer):
    """A cell over each step of a sequence: (N, T, ...) -> y of all steps, (N, T, ...).

    `cell` is any Cell: LSTMCell(8), or your own. `return_sequences=False` gives y of the last step that was run alone;
    `return_state` gives (y, *last states). `reverse` goes from the last step to the first; y_t still stands at t. Call it as
    `layer(x)` or `layer(x, *first_states)`; with `lengths=n`, n whole numbers (N,), or `mask=m`, m bool (N, T), steps from n
    on or where m is False keep the states and give 0. (Elman, 1990)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, mask = gnn.Input(("T", 3), name="x"), gnn.Input(("T",), name="mask", dtype="bool")
    >>> str(nn.Recurrent(nn.GRUCell(5), reverse=True)(x, mask=mask).type)
    'f32[N,T,5]'
    """

    cell: Cell
    return_sequences: bool = True
    return_state: bool = False
    reverse: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cell, Cell):
            raise ShapeError(f"Recurrent: cell is {shown(self.cell)}; it is a Cell, such as nn.LSTMCell(8)")
        check_flags(self, "return_sequences", "return_state", "reverse")

    def __call__(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        """The layer's result for a sequence."""
        return super().__call__(x, *states, lengths=lengths, mask=mask)

    def call(self, x: Value, *states: Value, lengths: Value | None = None, mask: Value | None = None) -> Any:
        if x.rank < 2:
            raise ShapeError(f"Recurrent takes x as (N, T, ...), not {x.type}")
        live = live_steps(x, lengths, mask, "Recurrent")
        one = placeholder("x", x.type.of_shape((x.shape[0], *x.shape[2:])))
        zeroth = self.cell.within(lambda x: tuple(states or self.cell.first_states(x.type)), one)   # parameters are made here
        ys, last = over_time(self._step, zeroth, ir.swapaxes(x, 0, 1), live, self.reverse, every=self.return_sequences)
        return (ys, *last) if self.return_state else ys

    def _step(self, x: Value, *states: Value) -> tuple[Value, ...]:
        found = self.cell.within(self.cell.step, x, *states)
        if not isinstance(found, tuple) or len(found) != 1 + len(states):
            count = len(found) if isinstance(found, tuple) else 1
            raise ShapeError(f"{type(self.cell).__name__}.step takes {len(states)} states and returns {count} values; it returns "
                             "the result of the step and as many states as it takes")
        return found


def over_time(step: Callable[..., Sequence[Value]], first: Sequence[Value], x: Value, live: Value | None, reverse: bool, *,
              every: bool = True) -> tuple[Value, tuple[Value, ...]]:
    """(y, last states) of `y, *states = step(x_t, *states)` for each x_t of x (T, N, ...).

    y is (N, T, ...), or that of the last step run where `every` is False. Where live (T, N) is False, the states stay and y is 0.
    """
    states, run = tuple(first), step
    if not every:                                        # the last y is kept as a state is
        y = step(placeholder("x", x.type.of_shape(x.shape[1:])), *first)[0]
        states = (ir.zeros(y.shape, y.dtype), *first)

        def run(x: Value, _: Value, *states: Value) -> Sequence[Value]:
            y, *new = step(x, *states)
            return y, y, *new

    def body(states: tuple[Value, ...], given: tuple[Value, ...]) -> tuple[tuple[Value, ...], Value]:
        x, *alive = given
        y, *new = run(x, *states)
        if not alive:
            return tuple(new), y
        kept = tuple(ir.where(_along(alive[0], a), a, b) for a, b in zip(new, states, strict=True))
        return kept, ir.where(_along(alive[0], y), y, ir.zeros_like(y))

    last, ys = ir.scan(body, states, (x,) if live is None else (x, live), reverse=reverse)
    return (ir.swapaxes(ys, 0, 1), last) if every else (last[0], last[1:])


def _along(live: Value, x: Value) -> Value:
    """live (N,) as (N, 1, ...), to choose between examples of x."""
    if x.rank < 1 or x.shape[0] != live.shape[0]:
        raise ShapeError(f"a step makes {x.type}; with lengths or a mask its first axis is the batch, {live.shape[0]}")
    return ir.reshape(live, (live.shape[0], *(1 for _ in x.shape[1:])))


def live_steps(x: Value, lengths: Value | None, mask: Value | None, kind: str) -> Value | None:
    """bool (T, N): whether step t of example n counts; None where all do. Raises ShapeError, DTypeError."""
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ShapeError(f"{kind} got lengths and a mask; give one of them")
    n, steps = x.shape[:2]
    if mask is not None:
        if mask.dtype is not ir.boolean:
            raise DTypeError(f"{kind}: mask is {mask.type}; it is bool", hint='use gnn.cast(mask, "bool")')
        if mask.shape != (n, steps):
            raise ShapeError(f"{kind}: mask is {mask.type}; it has an entry for each step of {x.type}")
        return ir.swapaxes(mask, 0, 1)
    assert lengths is not None
    if not lengths.dtype.is_integer:
        raise DTypeError(f"{kind}: lengths are {lengths.type}; they are whole numbers, i64 or i32")
    if lengths.shape != (n,):
        raise ShapeError(f"{kind}: lengths are {lengths.type}; there is one for each example of {x.type}")
    return ir.less(ir.iota((steps, n), 0, lengths.dtype), ir.reshape(lengths, (1, n)))
