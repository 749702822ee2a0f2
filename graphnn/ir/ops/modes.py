"""Training and evaluation in one graph: a value that differs between them, and what a training step does to a state.

A graph with these ops is complete: `graphnn.ir.modes.resolve_modes` makes the training graph or the evaluation graph of it, and
compiling does so by itself. As they stand, both mean evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import ShapeError
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops import sizes
from graphnn.ir.ops.operands import Operand, operands
from graphnn.ir.types import TensorType


@dataclass(frozen=True)
class ByMode(Op):
    """The first input in training, the second in evaluation. Only one of them is computed in the end."""

    name = "by_mode"
    fusion = Fusion.ELEMENTWISE

    def infer(self, training: TensorType, evaluation: TensorType) -> Types:
        if training != evaluation:
            raise ShapeError(f"is {training} in training and {evaluation} in evaluation; both must be of one type")
        return (training,)

    def numpy(self, training: np.ndarray, evaluation: np.ndarray) -> np.ndarray:
        return evaluation

    def grad(self, node: Node, dy: Value) -> Cotangents:
        nothing = sizes.zeros_like(dy)
        return ByMode().one(dy, nothing), ByMode().one(nothing, dy)

    def decompose(self, training: Value, evaluation: Value) -> tuple[Value, ...]:
        return (evaluation,)

    def flops(self, *inputs: TensorType) -> int:
        return 0

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[1.0, -2.0, 3.0]]), np.array([[0.5, 0.25, -7.0]])), ("N,3", "N,3"))
        yield Sample(cls(), (np.array(3), np.array(4)))


@dataclass(frozen=True)
class WithUpdate(Op):
    """The first input. In a training graph the second, a state, becomes the third after the step."""

    name = "with_update"
    fusion = Fusion.ELEMENTWISE

    def infer(self, y: TensorType, state: TensorType, new: TensorType) -> Types:
        if state != new:
            raise ShapeError(f"a state {state} cannot become {new}: it keeps its type")
        return (y,)

    def numpy(self, y: np.ndarray, state: np.ndarray, new: np.ndarray) -> np.ndarray:
        return y

    def grad(self, node: Node, dy: Value) -> Cotangents:
        return dy, None, None

    def decompose(self, y: Value, state: Value, new: Value) -> tuple[Value, ...]:
        return (y,)

    def in_place(self, *inputs: TensorType) -> tuple[tuple[int, int], ...]:
        return ()

    def flops(self, *inputs: TensorType) -> int:
        return 0

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), (np.array([[1.0, -2.0]]), np.array([3.0]), np.array([4.0])), ("N,2", "1", "1"))
        yield Sample(cls(), (np.array([1.0]), np.array(3), np.array(4)), ("N", "", ""))


def by_mode(training: Operand, evaluation: Operand) -> Value:
    """A value that is `training` in a training graph and `evaluation` in any other; both are of one type.

    >>> import graphnn as gnn
    >>> x = gnn.Input((), name="x")
    >>> noisy = gnn.Graph.of("noisy", [x], [gnn.by_mode(training=x + 1, evaluation=x)])
    >>> [gnn.compile(noisy, training=t, backend="numpy")(np.zeros(1, np.float32)).tolist() for t in (True, False)]
    [[1.0], [0.0]]
    """
    a, b = operands(training, evaluation)
    return ByMode().one(a, b)


def with_update(y: Value, state: Value, new: Value) -> Value:
    """y; and where y is part of a training graph, `state` becomes `new` after the step: a running mean, a count of steps.

    Updates of one state compose in the order of the graph, as when a layer is called twice.
    """
    return WithUpdate().one(y, state, new)
