"""Tests of passes are pictures: a graph before, the graph after, both as text, and the same numbers from both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import graphnn.ir.ops  # noqa: F401  (registers every op)
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.text import print_graph
from graphnn.ir.verify import verify

SIZES = {"N": 5, "T": 4, "B": 2}


def graph(inputs: str, lines: str) -> Graph:
    """The graph `g` of these inputs and lines; a line is `y = op(x) {..} : type`, the last `return ...`."""
    body = "\n".join(line.strip() for line in lines.strip().splitlines())
    return Graph.parse(f"graph g({inputs}) {{\n{body}\n}}")


def arrays_for(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for the inputs: floats around 0, small non-negative integers, random booleans."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        shape = value.type.bind(SIZES).shape
        array = rng.normal(size=shape) if value.dtype.is_float else rng.integers(0, 3, shape)
        arrays[value.name] = np.asarray(array, value.dtype.numpy)
    return arrays


def results(graph: Graph, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs, then next states by name."""
    found = interpret(graph, arrays)
    return [*found.outputs, *(found.updates[name] for name in sorted(found.updates))]


def assert_same_numbers(after: Graph, before: Graph, *, exact: bool = False) -> None:
    """Both graphs give the same results for the same arrays."""
    arrays = arrays_for(before)
    for a, b in zip(results(after, arrays), results(before, arrays), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if exact or a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
        else:
            unit = 1e-5 if a.dtype == np.float32 else 1e-11
            np.testing.assert_allclose(a, b, rtol=unit, atol=unit / 10)


def assert_becomes(transform: Callable[[Graph], Graph], inputs: str, before: str, after: str, *, exact: bool = False) -> None:
    """`transform` turns the lines `before` into the lines `after`, changes no number, and does nothing the second time."""
    start = graph(inputs, before)
    made = transform(start)
    verify(made)
    assert text(made) == text(graph(inputs, after))
    assert_same_numbers(made, start, exact=exact)
    assert text(transform(made)) == text(made), "a second run changes nothing"


def assert_stays(transform: Callable[[Graph], Graph], inputs: str, lines: str) -> None:
    """`transform` leaves these lines as they are."""
    assert_becomes(transform, inputs, lines, lines)


def text(graph: Graph) -> str:
    return print_graph(graph, locations=False)


def ops(graph: Graph) -> list[str]:
    """The names of the ops of a graph, in order, constants left out."""
    return [node.op.name for node in graph.nodes if node.op.name != "constant"]
