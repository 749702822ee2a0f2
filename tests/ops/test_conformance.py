"""Every registered op, every sample: what an op promises, checked for all of them at once. An op without samples fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphnn.autodiff import check_gradients
from graphnn.files import load_file, save_file
from graphnn.ir.attrs import bodies_of
from graphnn.ir.dims import names_of
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Op, Sample
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.rewrite import bind_graph
from graphnn.ir.text import print_graph
from graphnn.ir.text_parser import parse_graph
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify
from graphnn.ir.vjp import vjp
from graphnn.passes.common_subexpressions import op_key
from tests.helpers import (
    all_ops,
    assert_close,
    assert_same_bits,
    bound_op,
    has_float64,
    meaning,
    one_op_graph,
    samples,
    sizes_of,
    symbolic_types,
    variants,
)


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_an_op_has_samples_a_docstring_and_a_symbolic_sample(op: type[Op]) -> None:
    found = list(op.samples())
    assert found, f"{op.name} has no samples"
    assert op.__doc__
    assert not op.__doc__.startswith(f"{op.__name__}("), "the docstring is the one that dataclass writes"
    if any(x.ndim for sample in found for x in sample.inputs):
        assert any(list(names_of(size)) for sample in found for t in symbolic_types(sample) for size in t.shape), \
            f"{op.name} has no sample with symbolic sizes"
    assert any(sample.smooth for sample in found) or op.grad is Op.grad, f"{op.name} has a gradient that no sample checks"


@pytest.mark.parametrize("sample", samples())
def test_the_type_rule_says_what_numpy_returns_and_inputs_are_untouched(sample: Sample) -> None:
    for variant in variants(sample):
        before = [x.copy() for x in variant.inputs]
        for x in variant.inputs:
            x.flags.writeable = False
        outputs = meaning(variant)
        assert tuple(TensorType.of(y) for y in outputs) == bound_op(variant).infer(*(TensorType.of(x) for x in variant.inputs))
        for x, old in zip(variant.inputs, before, strict=True):
            assert_same_bits(x, old)


@pytest.mark.parametrize("sample", samples())
def test_binding_sizes_and_inferring_types_commute(sample: Sample) -> None:
    symbolic, sizes = symbolic_types(sample), sizes_of(sample)
    of_names = sample.op.infer(*symbolic)
    of_numbers = bound_op(sample).infer(*(t.bind(sizes) for t in symbolic))
    assert tuple(t.bind(sizes) for t in of_names) == of_numbers


@pytest.mark.parametrize("sample", samples())
def test_a_graph_with_names_runs_binds_and_verifies(sample: Sample) -> None:
    graph = one_op_graph(sample, symbolic=True)
    verify(graph)
    bound = bind_graph(graph, sizes_of(sample))
    verify(bound)
    for g in (graph, bound):
        for actual, expected in zip(interpret(g, sample.inputs).outputs, meaning(sample), strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.parametrize("sample", samples(of=lambda s: s.smooth and has_float64(s)))
def test_gradients_agree_with_finite_differences(sample: Sample) -> None:
    check_gradients(one_op_graph(sample), sample.inputs, order=sample.order)


@pytest.mark.parametrize("sample", samples(of=has_float64))
def test_gradients_have_the_types_of_their_inputs_in_both_precisions_and_with_names(sample: Sample) -> None:
    for variant in variants(sample):
        graph = one_op_graph(variant, symbolic=True)
        d_outputs = [placeholder(f"d{i}", y.type) if y.dtype.is_float else None for i, y in enumerate(graph.outputs)]
        made = [d for d in vjp(graph.outputs, d_outputs, graph.inputs) if d is not None]              # vjp asserts the types
        if sample.order > 1 and made:
            upstream = [d for d in d_outputs if d is not None]
            vjp(made, [placeholder(f"e{i}", d.type) for i, d in enumerate(made)], [*graph.inputs, *upstream])


@pytest.mark.parametrize("sample", samples(of=lambda s: has_float64(s) and bool(s.symbolic)))
def test_gradients_with_names_for_sizes_are_those_with_numbers(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    cotangents = [rng.normal(size=y.shape).astype(y.dtype) for y in meaning(sample) if y.dtype.kind == "f"]
    results = []
    for symbolic in (False, True):
        graph = one_op_graph(sample, symbolic=symbolic)
        d_outputs = [placeholder(f"d{i}", y.type) if y.dtype.is_float else None for i, y in enumerate(graph.outputs)]
        found = [d for d in vjp(graph.outputs, d_outputs, graph.inputs) if d is not None]
        backward = Graph.of("backward", [*graph.inputs, *(d for d in d_outputs if d is not None)], found)
        verify(backward)
        results.append(interpret(backward, [*sample.inputs, *cotangents]).outputs)
    for actual, expected in zip(*results, strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("sample", samples(of=lambda s: type(s.op).decompose is not Op.decompose))
def test_a_decomposition_means_the_same(sample: Sample) -> None:
    graph = one_op_graph(sample)
    outputs = bound_op(sample).decompose(*graph.inputs)
    if outputs is None:
        return
    decomposed = Graph.of("decomposed", graph.inputs, outputs)
    for actual, expected in zip(interpret(decomposed, sample.inputs).outputs, meaning(sample), strict=True):
        assert_close(actual, expected, length=max([x.size for x in sample.inputs], default=1))


@pytest.mark.parametrize("sample", samples())
def test_text_round_trip(sample: Sample) -> None:
    graph = one_op_graph(sample, symbolic=True)
    text = print_graph(graph, locations=False)
    again = parse_graph(text)
    assert print_graph(again, locations=False) == text
    assert [op_key(node.op) for node in again.nodes] == [op_key(node.op) for node in graph.nodes]
    assert [y.type for y in again.outputs] == [y.type for y in graph.outputs]


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_file_round_trip(op: type[Op], tmp_path: Path) -> None:
    graphs = {f"sample{i}": one_op_graph(sample, symbolic=True) for i, sample in enumerate(op.samples())}
    save_file(tmp_path / "samples.gnn", graphs=graphs)
    again = load_file(tmp_path / "samples.gnn").graphs
    assert set(again) == set(graphs)
    for name, graph in graphs.items():
        assert print_graph(again[name], locations=False) == print_graph(graph, locations=False)
        if not any(bodies_of(node.op) for node in graph.nodes):              # bodies are equal by identity only
            assert [node.op for node in again[name].nodes] == [node.op for node in graph.nodes]


@pytest.mark.parametrize("sample", samples(of=lambda s: s.op.view_of is not None))
def test_a_view_has_the_very_bytes_of_its_operand(sample: Sample) -> None:
    assert sample.op.view_of is not None
    (y,) = meaning(sample)
    assert y.tobytes() == sample.inputs[sample.op.view_of].tobytes()


@pytest.mark.parametrize("sample", samples())
def test_what_may_share_memory_has_the_same_size(sample: Sample) -> None:
    types = tuple(TensorType.of(x) for x in sample.inputs)
    outputs = bound_op(sample).infer(*types)
    for output, operand in bound_op(sample).in_place(*types):
        assert outputs[output].nbytes == types[operand].nbytes
