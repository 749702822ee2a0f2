"""Groups of nodes that run as one kernel. Made by passes only; their meaning is their body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Node, Value, collect
from graphnn.ir.interpret import run_nodes
from graphnn.ir.iteration_space import REDUCTIONS, Space, iteration_space
from graphnn.ir.op import Arrays, Cotangents, Fusion, Op, Types
from graphnn.ir.rewrite import inline
from graphnn.ir.types import TensorType
from graphnn.ir.vjp import vjp


def _check_body(body: Graph, inputs: Types) -> None:
    expected = tuple(value.type for value in body.inputs)
    if inputs != expected:
        raise ShapeError(f"the body takes {expected}, not {inputs}")


def _run(body: Graph, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    values = run_nodes(body, dict(zip(body.inputs, inputs, strict=True)), {})
    return tuple(values[value] for value in body.outputs)


def in_step(body: Graph) -> tuple[tuple[int, int], ...]:
    """Pairs (output, input) of a fused body's kernel that may share memory.

    An element is read for that place alone when the input has the output's type and axes. With reductions there may be
    several sweeps over the elements: what later ones read must not be overwritten by the first.
    """
    space = iteration_space(body)
    if space is None:
        return ()
    folded: set[Value] = set()                           # what depends on a reduction
    for node in body.nodes:
        after = any(value in folded for value in node.inputs)
        if isinstance(node.op, REDUCTIONS) and after:
            return ()
        if isinstance(node.op, REDUCTIONS) or after:
            folded.update(node.outputs)
    full = [output for output in body.outputs if space.own(output) != space.kept] if folded else []
    later = set(collect(full))
    # Full-size outputs that all need a reduction, and have an operand in common, are written in one last sweep.
    last = bool(full) and all(output in folded for output in full)
    last = last and bool(set.intersection(*(_swept(output, body, space) for output in full)))
    return tuple((i, j) for i, output in enumerate(body.outputs) for j, value in enumerate(body.inputs)
                 if value.type == output.type and space.axes[value] == space.axes[output]
                 and (last if output in full else value.node not in later))


def _swept(output: Value, body: Graph, space: Space) -> set[Value]:
    """The inputs with all axes that the sweep reads which writes a full-size output: not those behind reductions alone."""
    found: set[Value] = set()
    seen, stack = {output}, [output]
    while stack:
        value = stack.pop()
        if value in body.inputs:
            found |= {value} if space.axes[value] == space.axes[output] else set()
        elif not isinstance(value.node.op, REDUCTIONS):
            stack += [v for v in value.node.inputs if v not in seen]
            seen.update(value.node.inputs)
    return found


def _body_flops(body: Graph) -> Size:
    total: Size = 0
    for node in body.nodes:
        total = total + node.op.flops(*(value.type for value in node.inputs))
    return total


@dataclass(frozen=True)
class Fused(Op):
    """Elementwise work, and reductions at its end, as one kernel: the outputs of `body`."""

    name = "fused"
    fusion = Fusion.OPAQUE
    body: Graph

    def infer(self, *inputs: TensorType) -> Types:
        _check_body(self.body, inputs)
        return tuple(value.type for value in self.body.outputs)

    def numpy(self, *inputs: np.ndarray) -> Arrays:
        return _run(self.body, inputs)

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        return vjp(inline(self.body, node.inputs), d_outputs, node.inputs)

    def decompose(self, *inputs: Value) -> tuple[Value, ...]:
        return inline(self.body, inputs)

    def in_place(self, *inputs: TensorType) -> tuple[tuple[int, int], ...]:
        return in_step(self.body)

    def flops(self, *inputs: TensorType) -> Size:
        return _body_flops(self.body)


@dataclass(frozen=True)
class Epilogue(Op):
    """A contraction whose elementwise tail runs on each output tile while it is in cache.

    The inputs are those of `producer`, then the further operands of `body`; the body's first input is the producer's
    output, and its outputs are the results.
    """

    name = "epilogue"
    fusion = Fusion.OPAQUE
    producer: Op
    producer_inputs: int
    body: Graph

    def infer(self, *inputs: TensorType) -> Types:
        if self.producer.fusion is not Fusion.CONTRACT:
            raise VerifyError(f"{self.producer.name} is no contraction, and has no epilogue")
        made = self.producer.infer(*inputs[:self.producer_inputs])
        _check_body(self.body, (*made, *inputs[self.producer_inputs:]))
        return tuple(value.type for value in self.body.outputs)

    def numpy(self, *inputs: np.ndarray) -> Arrays:
        made = self.producer.numpy(*inputs[:self.producer_inputs])
        assert isinstance(made, np.ndarray), "a contraction has one output"
        return _run(self.body, (made, *inputs[self.producer_inputs:]))

    def decompose(self, *inputs: Value) -> tuple[Value, ...]:
        made = self.producer.one(*inputs[:self.producer_inputs])
        return inline(self.body, (made, *inputs[self.producer_inputs:]))

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        return vjp(self.decompose(*node.inputs), d_outputs, node.inputs)

    def flops(self, *inputs: TensorType) -> Size:
        return self.producer.flops(*inputs[:self.producer_inputs]) + _body_flops(self.body)
