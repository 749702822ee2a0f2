"""Kernel against meaning: every sample of every op, compiled as a one-op graph, writes what the NumPy meaning says.

Tolerances are `tests.helpers.assert_close`'s: exact for integers, bool and ops that only move data; 1e-5 for float32 and 1e-12
for float64, looser with the length of what an op sums. Outputs are full of NaN (or 0xFF) before the run.
"""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.errors import GraphnnError, ShapeError
from graphnn.ir.graph import Graph
from graphnn.ir.op import Fusion, Sample
from graphnn.ir.ops.index import gather
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.runtime.compile import compile_graph
from tests.helpers import assert_close, assert_same_bits, meaning, one_op_graph, samples, variants

# Their results are elements of their operands, so equal to the last bit.
MOVES = ("pad", "concat", "split", "gather", "one_hot", "check_index", "constant", "iota", "size_of", "max", "min", "argmax",
         "where", "neg", "abs", "stop_gradient", "minimum", "maximum", "relu", "max_pool2d", "max_pool2d_pick")


def unspecified(sample: Sample) -> bool:
    """Floats out of range become any integers."""
    dtype = getattr(sample.op, "dtype", None)
    finite = all(np.isfinite(x).all() for x in sample.inputs)
    return sample.op.name == "cast" and dtype is not None and dtype.is_integer and not finite


def terms(sample: Sample) -> int:
    """At most how many terms an element of a result is a sum of."""
    if sample.op.fusion is Fusion.ELEMENTWISE or sample.op.name in MOVES:
        return 1
    return max((x.size for x in sample.inputs), default=1)


def scale(sample: Sample) -> float:
    """The largest number among the inputs."""
    numbers = [np.abs(x[np.isfinite(x)]).max() for x in sample.inputs if x.dtype.kind == "f" and np.isfinite(x).any()]
    return float(max(numbers, default=0.0))


def poisoned(t: TensorType) -> np.ndarray:
    """An array of this type whose every byte is 0xFF: NaN for floats."""
    shape = tuple(int(size) for size in t.shape)  # pyright: ignore[reportArgumentType]
    return np.frombuffer(b"\xff" * (int(np.prod(shape)) * t.dtype.itemsize), t.dtype.numpy).reshape(shape).copy()


@pytest.mark.parametrize("sample", samples(of=lambda s: not unspecified(s)))
def test_the_kernel_does_what_numpy_means(sample: Sample) -> None:
    for variant in variants(sample):
        graph = one_op_graph(variant)
        executable = compile_graph(graph)
        before = [x.copy() for x in variant.inputs]
        out = [poisoned(y.type) for y in graph.outputs]
        executable(*variant.inputs, out=out)
        for actual, expected in zip(out, meaning(variant), strict=True):
            if sample.op.fusion is Fusion.VIEW or sample.op.name in MOVES:
                assert_same_bits(actual, expected)
            else:
                assert_close(actual, expected, length=terms(variant), scale=scale(variant))
        for x, old in zip(variant.inputs, before, strict=True):
            assert_same_bits(x, old)


@pytest.mark.parametrize("sample", samples(of=lambda s: bool(s.symbolic) and not unspecified(s)))
def test_a_graph_with_names_runs_compiled(sample: Sample) -> None:
    executable = compile_graph(one_op_graph(sample, symbolic=True))
    results = executable(*sample.inputs)
    for actual, expected in zip(results if isinstance(results, tuple) else (results,), meaning(sample), strict=True):
        assert_close(actual, expected, length=terms(sample), scale=scale(sample))


def test_an_op_that_raises_raises_compiled_too() -> None:
    x, ids = placeholder("x", "f32[4,2]"), placeholder("ids", "i64[N]")
    take = compile_graph(Graph.of("take", [x, ids], [gather(x, ids)]))
    with pytest.raises(GraphnnError, match="check_index"):
        take(np.zeros((4, 2), np.float32), np.array([0, 4]))


def test_a_slice_beyond_its_axis_names_op_and_line_once_sizes_are_known() -> None:
    x = placeholder("x", "f32[N]")
    first = compile_graph(Graph.of("first", [x], [x[:5]]))
    assert first(np.arange(7, dtype=np.float32)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ShapeError, match=r"slice: \[0:5\] does not lie within axis 0 of size 3") as caught:
        first(np.zeros(3, np.float32))
    assert any(__file__ in note for note in caught.value.__notes__)
