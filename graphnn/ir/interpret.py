"""Run a graph with the NumPy meanings: slow, plain, and the reference for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphnn.errors import GraphnnError, VerifyError
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import describe
from graphnn.ir.types import TensorType, bind_sizes


@dataclass(frozen=True)
class Result:
    """What one run gives: the outputs, and the next value of each updated state by name."""

    outputs: tuple[np.ndarray, ...]
    updates: dict[str, np.ndarray]


def interpret(graph: Graph, arrays: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> Result:
    """Run `graph` on arrays, given by name or in the order of its inputs. Raises ShapeError or DTypeError for wrong ones."""
    feeds = _feeds(graph, arrays)
    sizes = bind_sizes([v.type for v in graph.inputs], [feeds[v].shape for v in graph.inputs], [v.name for v in graph.inputs])
    for value, array in feeds.items():
        if TensorType.of(array).dtype != value.dtype:
            raise VerifyError(f"input {value.name!r} is {array.dtype}, declared {value.type}")
    values = run_nodes(graph, feeds, sizes)
    return Result(tuple(values[v] for v in graph.outputs), {s.name: values[v] for s, v in graph.updates})


def run_nodes(graph: Graph, feeds: Mapping[Value, np.ndarray], sizes: Mapping[str, int]) -> dict[Value, np.ndarray]:
    """Every value of the graph, for inputs `feeds` and sizes."""
    values = dict(feeds)
    for node in graph.nodes:
        outputs = run_node(node, [values[v] for v in node.inputs], sizes)
        values.update(zip(node.outputs, outputs, strict=True))
    return values


def run_node(node: Node, inputs: Sequence[np.ndarray], sizes: Mapping[str, int]) -> tuple[np.ndarray, ...]:
    """One node's outputs. An error names the node's layer and line."""
    try:
        # Kernels give inf and NaN without a word, and so does the reference.
        with np.errstate(all="ignore"):
            result = node.op.bind(sizes).numpy(*inputs)
    except GraphnnError as error:
        error.locate(f"{node.op.name}: ", describe(tuple(v.type for v in node.inputs), node.loc))
        raise
    outputs = result if isinstance(result, tuple) else (result,)
    return tuple(np.asarray(array) for array in outputs)


def _feeds(graph: Graph, arrays: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[Value, np.ndarray]:
    if not isinstance(arrays, Mapping):
        if len(arrays) != len(graph.inputs):
            raise VerifyError(f"the graph {graph.name!r} takes {len(graph.inputs)} arrays, not {len(arrays)}")
        return dict(zip(graph.inputs, (np.asarray(a) for a in arrays), strict=True))
    names = {value.name for value in graph.inputs}
    missing, extra = names - set(arrays), set(arrays) - names
    if missing or extra:
        raise VerifyError(f"the graph {graph.name!r} lacks {sorted(missing)}" if missing else
                          f"the graph {graph.name!r} has no input {sorted(extra)}")
    return {value: np.asarray(arrays[value.name]) for value in graph.inputs}
