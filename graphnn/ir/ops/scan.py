"""Recurrence as one op: a body that runs once for each index of a time axis and hands its carries on.

    scan(fn, init, xs):  carry = init;  for t in 0 ... T - 1:  carry, y[t] = fn(carry, x[t])

Its gradient (scan_grad.py) is a scan in the other direction. RNN, LSTM, both directions and users' own cells come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.dims import Size, bind_size, floordiv, is_size, numbers
from graphnn.ir.graph import Graph, Node, Value, collect, role_of
from graphnn.ir.interpret import run_nodes
from graphnn.ir.op import Arrays, Cotangents, Fusion, Op, Sample, Types, make_node
from graphnn.ir.ops import functions, linalg, random, scan_grad, shaping, sizes, slicing
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.operands import located
from graphnn.ir.types import DType, TensorType

Tree = Value | Sequence[Value]


@dataclass(frozen=True)
class Scan(Op):
    """`body` run `length` times. Inputs: first values of the carries, sequences (leading axis: time), constants of the loop.

    The body's inputs are the carries, one slice of each sequence, the constants; its outputs the new carries, then what each
    step gives. The outputs are the last carries, then the steps' results, stacked. `reverse` runs from the last index to
    the first: a result still stands at the index of the slice that it was made from.
    """

    name = "scan"
    fusion = Fusion.OPAQUE
    body: Graph
    carries: int
    sequences: int
    reverse: bool
    length: Size

    def infer(self, *inputs: TensorType) -> Types:
        body, carries, end = self.body, self.carries, self.carries + self.sequences
        if not 0 <= carries <= len(body.outputs) or self.sequences < 0 or end > len(body.inputs) or not is_size(self.length):
            raise ShapeError(f"a body of {len(body.inputs)} inputs and {len(body.outputs)} outputs cannot have {carries} "
                             f"carries and {self.sequences} sequences of length {self.length!r}")
        if body.updates or any(role_of(value) != "input" for value in body.inputs):
            raise ShapeError("the body of a scan has no states; hand them in as carries or constants")
        if len(inputs) != len(body.inputs):
            raise ShapeError(f"the body takes {len(body.inputs)} inputs, not {len(inputs)}")
        for i, (given, value) in enumerate(zip(inputs, body.inputs, strict=True)):
            expected = self.stacked(value.type) if carries <= i < end else value.type
            if given != expected:
                raise ShapeError(f"the body's input {value.name!r} is {value.type}: that takes {expected}, not {given}")
        for i, (before, after) in enumerate(zip(body.inputs[:carries], body.outputs, strict=False)):
            if before.type != after.type:
                raise ShapeError(f"the carry {i} goes in as {before.type} and comes out as {after.type}",
                                 hint="a carry keeps its dtype and its shape from step to step")
        return (*(v.type for v in body.outputs[:carries]), *(self.stacked(v.type) for v in body.outputs[carries:]))

    def stacked(self, step: TensorType) -> TensorType:
        """The type of one step's tensor for all steps."""
        return step.of_shape((self.length, *step.shape))

    def numpy(self, *inputs: np.ndarray) -> Arrays:
        length, end = bind_size(self.length, {}), self.carries + self.sequences
        carries, sequences, constants = inputs[:self.carries], inputs[self.carries:end], inputs[end:]
        steps = [np.empty(numbers((length, *v.shape)), v.dtype.numpy) for v in self.body.outputs[self.carries:]]
        for t in reversed(range(length)) if self.reverse else range(length):
            slices = (np.asarray(x[t]) for x in sequences)
            values = run_nodes(self.body, dict(zip(self.body.inputs, (*carries, *slices, *constants), strict=True)), {})
            results = [values[value] for value in self.body.outputs]
            carries = tuple(results[:self.carries])
            for stack, result in zip(steps, results[self.carries:], strict=True):
                stack[t] = result
        return (*carries, *steps)

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        return scan_grad.cotangents(self, node, d_outputs)

    def flops(self, *inputs: TensorType) -> Size:
        total: Size = 0
        for node in self.body.nodes:
            total = total + node.op.flops(*(value.type for value in node.inputs))
        return total * self.length

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _samples()


# ------------------------------------------------------------------------------------------------ what users call

@located
def scan(fn: Callable[[Any, Any], tuple[Any, Any]], init: Tree, xs: Tree | None = None, *, length: Size | None = None,
         reverse: bool = False, checkpoint: int = 0) -> tuple[Any, Any]:
    """(last carry, stacked results) of `carry, y = fn(carry, x)` run for each slice x of `xs` along its first axis.

    `init` and `xs` are a value or several; the carry and x that `fn` gets, and what is returned, have the same form. `fn` may use
    any value from outside; y may be None. Without `xs`, x is None and `length` says how many steps. `reverse` goes from the
    last slice to the first. With `checkpoint=k` the gradient keeps the carries of every k-th step only and computes the rest
    again: choose k near the root of the length. Random functions called in `fn` draw other numbers at each step.
    """
    first, sequences = _leaves(init, "init"), _leaves(xs, "xs")
    steps = _length(sequences, length)
    carries = [placeholder(f"carry{i}", v.type) for i, v in enumerate(first)]
    slices = [placeholder(f"x{i}", v.type.of_shape(v.shape[1:])) for i, v in enumerate(sequences)]
    index = placeholder("index", TensorType(DType.i64, ()))
    with random.scan_index(index):
        result = fn(_like(init, carries), _like(xs, slices))
    if not isinstance(result, tuple) or len(result) != 2:
        raise ShapeError("the function of a scan returns (new carry, result of the step); the result may be None")
    last, ys = _leaves(result[0], "the new carry"), _leaves(result[1], "the result of a step")
    if len(last) != len(carries):
        raise ShapeError(f"{len(carries)} carries go in and {len(last)} come out")

    results = [*last, *ys]
    if index.node in (nodes := collect(results)):
        slices, sequences = [*slices, index], [*sequences, sizes.arange(steps)]
    captured = _captured(nodes, results, {v.node for v in (*carries, *slices)})
    inside = {value: placeholder(f"k{i}", value.type) for i, value in enumerate(captured)}
    body = Graph.of("body", [*carries, *slices, *inside.values()], rebuild(results, inside))
    found = _checkpointed(_Loop(body, len(carries), len(sequences), reverse), first, sequences, captured, steps, checkpoint)
    return _like(init, found[:len(carries)]), _like(result[1], found[len(carries):])


def _leaves(tree: Any, what: str) -> list[Value]:
    if tree is None:
        return []
    leaves = tree if isinstance(tree, (tuple, list)) else (tree,)
    if not all(isinstance(leaf, Value) for leaf in leaves):
        raise ShapeError(f"{what} is {tree!r}; give a value, or a tuple of values")
    return list(leaves)


def _like(tree: Any, leaves: Sequence[Value]) -> Any:
    return None if tree is None else leaves[0] if isinstance(tree, Value) else tuple(leaves)


def _length(sequences: Sequence[Value], length: Size | None) -> Size:
    for value in sequences:
        if value.rank == 0:
            raise ShapeError(f"{value.type} has no time axis to scan over")
        if length is not None and value.shape[0] != length:
            raise ShapeError(f"the sequences have {length} and {value.shape[0]} steps: {value.type}")
        length = value.shape[0]
    if length is None:
        raise ShapeError("how many steps? give xs or length")
    return length


def _captured(nodes: Sequence[Node], results: Sequence[Value], starts: set[Node]) -> list[Value]:
    """The values from outside that the traced function reads: what it computes from them alone runs once, before the loop."""
    inside: set[Node] = set()
    closed: set[Node] = set()                           # numbers, stretched or not: as cheap inside the body
    found: dict[Value, None] = {}
    for node in nodes:
        if node in starts or any(value.node in inside for value in node.inputs):
            inside.add(node)
            found.update((value, None) for value in node.inputs if value.node not in inside and value.node not in closed)
        elif role_of(node) is None and (all(value.node in closed for value in node.inputs) and
                                        (isinstance(node.op, shaping.Expand) or (not node.inputs and node.output.rank == 0))):
            closed.add(node)
    found.update((value, None) for value in results if value.node not in inside and value.node not in closed)
    return list(found)


def rebuild(results: Sequence[Value], new: Mapping[Value, Value]) -> list[Value]:
    """`results` computed from the values that `new` puts in place of others; nodes that do not depend on those stay."""
    made = dict(new)
    for node in walk_back(results, new):
        inputs = tuple(made.get(value, value) for value in node.inputs)
        if inputs != node.inputs:
            for old, value in zip(node.outputs, make_node(node.op, inputs, node.loc).outputs, strict=True):
                made.setdefault(old, value)
    return [made.get(value, value) for value in results]


def walk_back(results: Sequence[Value], stop: Mapping[Value, Any] | set[Value]) -> list[Node]:
    """The nodes between the values `stop` and `results`, each after its inputs."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in results:
        if root in stop or root.node in seen:
            continue
        seen.add(root.node)
        stack = [(root.node, 0)]
        while stack:
            node, position = stack.pop()
            for i in range(position, len(node.inputs)):
                value = node.inputs[i]
                if value not in stop and value.node not in seen:
                    seen.add(value.node)
                    stack += [(node, i + 1), (value.node, 0)]
                    break
            else:
                order.append(node)
    return order


@dataclass(frozen=True)
class _Loop:
    """A scan before its length is known."""

    body: Graph
    carries: int
    sequences: int
    reverse: bool

    def __call__(self, carries: Sequence[Value], sequences: Sequence[Value], constants: Sequence[Value],
                 length: Size) -> list[Value]:
        op = Scan(self.body, self.carries, self.sequences, self.reverse, length)
        return list(make_node(op, (*carries, *sequences, *constants)).outputs)


def _checkpointed(loop: _Loop, carries: Sequence[Value], sequences: Sequence[Value], constants: Sequence[Value], length: Size,
                  every: int) -> list[Value]:
    """The loop; with `every` > 0 as a loop over segments of that many steps, and one over the steps that are left.

    The gradient of the outer loop keeps what it reads: the carries between segments, and has to run the inner loop again.
    """
    if not isinstance(every, int) or every < 0:
        raise ShapeError(f"checkpoint is {every!r}; give a number of steps, or 0 for none")
    if every == 0 or (isinstance(length, int) and length <= every):
        return loop(carries, sequences, constants, length)
    segments = floordiv(length, every)
    whole = segments * every

    def segment_body() -> Graph:
        start = [placeholder(f"carry{i}", v.type) for i, v in enumerate(carries)]
        parts = [placeholder(f"x{i}", v.type.of_shape((every, *v.shape[1:]))) for i, v in enumerate(sequences)]
        fixed = [placeholder(f"k{i}", v.type) for i, v in enumerate(constants)]
        return Graph.of("segment", [*start, *parts, *fixed], loop(start, parts, fixed, every))

    def run_segments(state: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        parts = [shaping.reshape(_part(v, 0, whole), (segments, every, *v.shape[1:])) for v in sequences]
        found = _Loop(segment_body(), loop.carries, loop.sequences, loop.reverse)(state, parts, constants, segments)
        return found[:loop.carries], [shaping.reshape(y, (whole, *y.shape[2:])) for y in found[loop.carries:]]

    def run_rest(state: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        found = loop(state, [_part(v, whole, length) for v in sequences], constants, length - whole)
        return found[:loop.carries], found[loop.carries:]

    if whole == length:
        state, steps = run_segments(carries)
        return [*state, *steps]
    if loop.reverse:
        state, rest = run_rest(carries)
        state, steps = run_segments(state)
    else:
        state, steps = run_segments(carries)
        state, rest = run_rest(state)
    return [*state, *(slicing.concat([a, b]) for a, b in zip(steps, rest, strict=True))]


def _part(x: Value, start: Size, stop: Size) -> Value:
    """x[start:stop] along the time axis."""
    zeros = (0,) * (x.rank - 1)
    return slicing.Slice((start, *zeros), (stop, *x.shape[1:]), (1,) * x.rank).one(x)


# ------------------------------------------------------------------------------------------------ samples

def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(11)
    for steps, reverse in ((3, False), (3, True), (1, False), (0, False)):
        loop = _rnn(reverse)
        x, h, w = rng.normal(size=(steps, 2, 2)), rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
        yield Sample(Scan(loop.body, 1, 1, reverse, _T), (h, x, w), ("N,2", "T,N,2", "2,2"))
    # two carries, of which one is no float; no sequences; a carry handed through; a result that is a constant of the loop
    a, count, k = placeholder("a", "f64[2]"), placeholder("count", "i64[]"), placeholder("k", "f64[2]")
    body = Graph.of("body", [a, count, k], [functions.sin(a) * k, count + 1, a, k])
    yield Sample(Scan(body, 2, 0, False, 4), (rng.normal(size=2), np.array(5), rng.normal(size=2)), ("2", "", "2"))
    body = Graph.of("body", [a, k], [a, a * k * k])
    yield Sample(Scan(body, 1, 1, True, _T), (rng.normal(size=2), rng.normal(size=(3, 2))), ("2", "T,2"))


def _rnn(reverse: bool) -> _Loop:
    h, x, w = placeholder("h", "f64[N,2]"), placeholder("x", "f64[N,2]"), placeholder("w", "f64[2,2]")
    new = functions.tanh(linalg.matmul(h, w) + x)
    return _Loop(Graph.of("body", [h, x, w], [new, new * new]), 1, 1, reverse)


def _symbol(name: str) -> Size:
    return TensorType.parse(f"f64[{name}]").shape[0]


_T = _symbol("T")
