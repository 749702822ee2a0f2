"""Every sample of every op, alone and between elementwise work, gives the same through all passes; empty axes too."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Sample, make_node
from graphnn.ir.ops import functions
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.verify import verify
from graphnn.passes.pipeline import DEFAULT
from tests.helpers import one_op_graph, samples, symbolic_types


def between(sample: Sample) -> Graph:
    """The op on negated inputs, its float results doubled: neighbours for the passes that look for some."""
    inputs = [placeholder(f"x{i}", kind) for i, kind in enumerate(symbolic_types(sample))]
    given = tuple(functions.neg(functions.neg(functions.neg(v))) if v.dtype.is_float else v for v in inputs)
    outputs = make_node(sample.op, given).outputs
    return Graph.of("between", inputs, [*outputs, *(doubled(v) for v in outputs if v.dtype.is_float)])


def doubled(value: Value) -> Value:
    return functions.abs(value * 2.0) + 1.0


@pytest.mark.parametrize("sample", samples())
def test_all_passes_keep_what_every_op_means(sample: Sample) -> None:
    for graph in (one_op_graph(sample, symbolic=True), between(sample)):
        after = DEFAULT(graph)
        verify(after)
        expected, found = interpret(graph, sample.inputs).outputs, interpret(after, sample.inputs).outputs
        for a, b in zip(found, expected, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
