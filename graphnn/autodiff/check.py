"""Are these gradients right? Compare them with finite differences, in float64 and to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphnn.autodiff.gradients import gradients
from graphnn.errors import DTypeError, NumericsError
from graphnn.ir.dims import numbers
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import run_nodes
from graphnn.ir.ops import arithmetic, inputs, reduce
from graphnn.ir.rewrite import inline
from graphnn.ir.types import DType, TensorType

STEP = 2e-3         # Error of the extrapolated difference: about step**4 / 480 of the fifth derivative, and 1e-16 / step.

Function = Callable[..., Value | Sequence[Value]]


def check_gradients(f: Function | Graph, arrays: Sequence[np.ndarray], *, order: int = 2, tolerance: float = 1e-6,
                    step: float = STEP, seed: int = 0) -> None:
    """Raise NumericsError unless all derivatives of `f` at `arrays` agree with finite differences, up to `order`.

    `f` takes one value an array and returns one or more; or is a graph without states. Float arrays are taken as float64
    and varied, others stay. Each order differentiates, along random directions, the derivative of the order before:
    s0 = <w, f(x)> with random w, s1 = <ds0/d(x, w), v1>, s2 = <ds1/d(x, w), v2>.

    >>> import graphnn as gnn
    >>> gnn.check_gradients(lambda x, w: gnn.tanh(x @ w), [np.ones((2, 3)), np.eye(3)])
    """
    rng = np.random.default_rng(seed)
    points = [a.astype(np.float64) if a.dtype.kind == "f" else np.asarray(a) for a in map(np.asarray, arrays)]
    values = [inputs.placeholder(f"x{i}", TensorType.of(a)) for i, a in enumerate(points)]
    variables = [value for value in values if value.dtype.is_float]
    feeds = dict(zip(values, points, strict=True))

    made = inline(f, values) if isinstance(f, Graph) else f(*values)
    outputs = [y for y in ((made,) if isinstance(made, Value) else made) if y.dtype.is_float]
    if not outputs or not variables:
        raise DTypeError("check_gradients: nothing of dtype float goes in and comes out")
    scalar: Value | None = None
    for i, y in enumerate(outputs):
        if y.dtype is not DType.f64:
            raise DTypeError(f"check_gradients: output {i} is {y.type} for float64 inputs")
        w = inputs.placeholder(f"w{i}", y.type)
        variables.append(w)
        feeds[w] = rng.normal(size=_shape(y))
        term = reduce.sum(arithmetic.mul(w, y))
        scalar = term if scalar is None else scalar + term
    assert scalar is not None

    for k in range(1, order + 1):
        directions = {x: rng.uniform(0.5, 1.0, _shape(x)) * rng.choice([-1.0, 1.0], _shape(x)) for x in variables}
        slots = {x: inputs.placeholder(f"v{k}_{i}", x.type) for i, x in enumerate(variables)}
        slopes = [reduce.sum(arithmetic.mul(slots[x], d)) for x, d in zip(variables, gradients(scalar, variables), strict=True)]
        feeds.update((slots[x], directions[x]) for x in variables)
        _compare(scalar, slopes, variables, directions, feeds, k, tolerance, step)
        total = slopes[0]
        for slope in slopes[1:]:
            total = total + slope
        scalar, variables = total, variables


def _compare(scalar: Value, slopes: list[Value], variables: list[Value], directions: dict[Value, np.ndarray],
             feeds: dict[Value, np.ndarray], order: int, tolerance: float, step: float) -> None:
    graph = Graph.of("scalar", list(feeds), [scalar])
    analytic = _run(Graph.of("slopes", list(feeds), slopes), feeds)

    def along(moved: Sequence[Value], t: float) -> float:
        return _run(graph, {**feeds, **{x: feeds[x] + t * directions[x] for x in moved}})[0]

    def difference(moved: Sequence[Value]) -> float:
        coarse = (along(moved, step) - along(moved, -step)) / (2 * step)
        fine = (along(moved, step / 2) - along(moved, -step / 2)) / step
        return (4 * fine - coarse) / 3                                     # Richardson: the error in step**2 cancels

    def agree(a: float, b: float, scale: float) -> bool:
        return abs(a - b) <= tolerance * (1 + scale)

    scale = sum(map(abs, analytic))
    if agree(difference(variables), sum(analytic), scale):                # all at once; one by one only to name the wrong one
        return
    for x, slope in zip(variables, analytic, strict=True):
        numeric = difference([x])
        if not agree(numeric, slope, abs(slope)):
            what = f"input {x.name[1:]}" if x.name[0] == "x" else f"the cotangent of output {x.name[1:]}"
            raise NumericsError(f"the order-{order} derivative by {what} ({x.type}) is {slope:.10g} along a random direction; "
                                f"finite differences give {numeric:.10g}")
    raise NumericsError(f"the order-{order} derivatives sum to {sum(analytic):.10g}; "
                        f"finite differences give {difference(variables):.10g}")


def _run(graph: Graph, feeds: dict[Value, np.ndarray]) -> list[float]:
    values = run_nodes(graph, feeds, {})
    return [float(values[value]) for value in graph.outputs]


def _shape(value: Value) -> tuple[int, ...]:
    assert value.type.is_static, f"{value!r} depends on a symbolic size"
    return numbers(value.shape)
