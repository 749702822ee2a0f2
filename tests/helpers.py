"""Samples, one-op graphs and tolerances shared by the tests of ops, passes and kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import graphnn.ir.ops  # noqa: F401  (registers every op)
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Op, Sample, make_node
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import DType, TensorType, bind_sizes, parse_shape

MADE_BY_PASSES = ("fused", "epilogue")         # their bodies are made, and tested, by the fusing passes
WITHOUT_MEANING = ("input",)                   # its value comes from outside


def all_ops() -> list[type[Op]]:
    """Every op of the package that has a meaning of its own; ops that a test defines are left out."""
    return [op for name, op in sorted(Op.registry.items())
            if op.__module__.startswith("graphnn.") and name not in (*MADE_BY_PASSES, *WITHOUT_MEANING)]


def samples(*, of: Callable[[Sample], bool] = lambda sample: True) -> list[Any]:
    """Every sample of every op that `of` holds for, as pytest params with readable ids."""
    import pytest

    return [pytest.param(sample, id=f"{op.name}-{i}") for op in all_ops() for i, sample in enumerate(op.samples()) if of(sample)]


def has_float64(sample: Sample) -> bool:
    """Whether there is a float64 among the inputs, so that a float32 variant exists."""
    return any(x.dtype == np.float64 for x in sample.inputs)


def in_float32(sample: Sample) -> Sample:
    """The sample with float32 for float64 inputs."""
    with np.errstate(over="ignore"):                # some samples hold numbers that only float64 can
        return replace(sample, inputs=tuple(x.astype(np.float32) if x.dtype == np.float64 else x for x in sample.inputs))


def variants(sample: Sample) -> Iterator[Sample]:
    """The sample, and its float32 form when it has one and the op's type rule takes it."""
    yield sample
    if has_float64(sample) and not any(isinstance(value, Graph) for value in sample.op.attributes().values()):
        yield in_float32(sample)


def symbolic_types(sample: Sample) -> tuple[TensorType, ...]:
    """The input types with the sample's names for sizes, or as they are."""
    actual = tuple(TensorType.of(x) for x in sample.inputs)
    if not sample.symbolic:
        return actual
    return tuple(TensorType(t.dtype, parse_shape(text)) for t, text in zip(actual, sample.symbolic, strict=True))


def sizes_of(sample: Sample) -> dict[str, int]:
    """What the sample's names are for its inputs."""
    return bind_sizes(symbolic_types(sample), [x.shape for x in sample.inputs], [f"x{i}" for i in range(len(sample.inputs))])


def bound_op(sample: Sample) -> Op:
    """The sample's op with numbers for names."""
    return sample.op.bind(sizes_of(sample))


def meaning(sample: Sample) -> tuple[np.ndarray, ...]:
    """What the op's NumPy meaning gives for the sample."""
    with np.errstate(all="ignore"):
        result = bound_op(sample).numpy(*sample.inputs)
    return tuple(np.asarray(y) for y in (result if isinstance(result, tuple) else (result,)))


def one_op_graph(sample: Sample, *, symbolic: bool = False) -> Graph:
    """A graph of the sample's op alone, on inputs x0, x1, ..."""
    types = symbolic_types(sample) if symbolic else tuple(TensorType.of(x) for x in sample.inputs)
    inputs = [placeholder(f"x{i}", t) for i, t in enumerate(types)]
    node = make_node(sample.op if symbolic else bound_op(sample), tuple(inputs))
    return Graph.of("sample", inputs, node.outputs)


def run(outputs: Value | Sequence[Value], *also: Value, **arrays: Any) -> Any:
    """The outputs as NumPy means them, for inputs by name; `also` are inputs that only give sizes."""
    from graphnn.ir.graph import collect, role_of

    roots = [outputs] if isinstance(outputs, Value) else list(outputs)
    inputs = list(dict.fromkeys([node.output for node in collect(roots) if role_of(node) is not None] + list(also)))
    result = interpret(Graph.of("run", inputs, roots), {x.name: np.asarray(arrays[x.name]) for x in inputs}).outputs
    return result[0] if isinstance(outputs, Value) else result


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal dtype, shape and elements; NaN equals NaN."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual, expected)


def assert_close(actual: np.ndarray, expected: np.ndarray, *, length: int = 1, scale: float = 0.0) -> None:
    """Equal within rounding: exact for integers and bool; floats to 1e-5 or 1e-12, looser for sums of `length` terms of
    size `scale`."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if not TensorType.of(actual).dtype.is_float:
        np.testing.assert_array_equal(actual, expected)
        return
    unit = 1e-5 if TensorType.of(actual).dtype is DType.f32 else 1e-12
    relative = unit * max(1.0, length ** 0.5 / 4)
    finite = np.abs(expected[np.isfinite(expected)])
    # Terms that cancel leave an error that goes with their size, not with the result's.
    largest = max(scale, float(finite.max()) if finite.size else 0.0)
    absolute = relative * (largest if length > 1 else 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute)
