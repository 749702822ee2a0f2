"""Random graphs: every pass alone, all passes, and compiled kernels give what the interpreter gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphnn.ir.graph import Graph
from graphnn.ir.types import DType
from graphnn.ir.verify import verify
from graphnn.passes.pipeline import DEFAULT, Pass, pass_name
from tests.passes.pictures import results, text
from tests.random_graphs import random_arrays, random_graph

GRAPHS, A_TEST = 300, 10
COMPILED = 60               # of them, in float32: enough for every block, few enough to compile in seconds
PASSES: list[Pass] = [*dict.fromkeys(DEFAULT.passes), DEFAULT]


KERNELS: set[object] = set()


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray], what: str, unit: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), what
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=1.0)) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=unit, atol=unit * scale, err_msg=what)


@pytest.mark.parametrize("first", range(0, GRAPHS, A_TEST))
def test_every_pass_keeps_the_numbers_and_does_nothing_twice(first: int) -> None:
    for seed in range(first, first + A_TEST):
        graph = random_graph(seed)
        verify(graph)
        arrays = random_arrays(graph, seed)
        expected = results(graph, arrays)
        for transform in PASSES:
            what = f"seed {seed}, {pass_name(transform) if transform is not DEFAULT else 'DEFAULT'}"
            after = transform(graph)
            verify(after)
            assert_close(results(after, arrays), expected, what, 1e-9)
            again = transform(after)
            if transform is DEFAULT:                    # the schedule starts from another order, and may end in another as good
                assert _parts(again) == _parts(after), f"{what}: a second run changes the nodes"
            else:
                assert text(again) == text(after), f"{what}: a second run changes the graph"


def test_the_graphs_use_what_passes_work_on() -> None:
    """The generator is worth its time only if its graphs contain what the passes look for."""
    before = {node.op.name for seed in range(100) for node in random_graph(seed).nodes}
    after = [node.op.name for seed in range(100) for node in DEFAULT(random_graph(seed)).nodes]
    assert {"matmul", "conv2d", "conv2d_weight_grad", "softmax", "scan", "gather", "scatter_add", "max_pool2d", "concat", "pad",
            "expand", "check_index", "sum", "max", "where", "cast"} <= before
    assert after.count("fused") > 100
    assert after.count("epilogue") > 30


@pytest.mark.parametrize("seed", range(COMPILED))
def test_compiled_kernels_give_what_the_interpreter_gives(seed: int) -> None:
    compile_graph = pytest.importorskip("graphnn.runtime.compile").compile_graph
    graph = random_graph(seed, DType.f32)
    arrays = random_arrays(graph, seed)
    expected = results(random_graph(seed, DType.f64), {name: _wide(array) for name, array in arrays.items()})
    executable = compile_graph(graph, state=_state(graph, arrays))
    outputs = executable(**{value.name: arrays[value.name] for value in graph.by_role("input")})
    found = list(outputs) if isinstance(outputs, tuple) else [outputs]
    found += [executable.state[state.name] for state in sorted((s for s, _ in graph.updates), key=lambda s: s.name)]
    assert_close([_wide(np.asarray(a)) for a in found], expected, f"seed {seed}", 2e-3)
    KERNELS.update(executable.plan.kernels)
    if not graph.updates:                               # what the plan calls free may hold anything
        poisoned = executable.run_poisoned(*(arrays[value.name] for value in graph.by_role("input")))
        for a, b in zip(poisoned, found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_vocabulary_keeps_the_number_of_kernels_bounded(record_property: Callable[[str, object], None]) -> None:
    """Runs last: a figure to know, and a bound that a pass which makes bodies differ for no reason would break."""
    record_property("kernels", len(KERNELS))
    print(f"{len(KERNELS)} kernels for {COMPILED} random graphs")
    assert len(KERNELS) < 12 * COMPILED


def _parts(graph: Graph) -> list[str]:
    return sorted(f"{node.op.name} {node.types}" for node in graph.nodes)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _state(graph: Graph, arrays: dict[str, np.ndarray]) -> object:
    from graphnn.runtime.state import State

    state = State()
    state.restore({value.name: arrays[value.name] for value in (*graph.by_role("param"), *graph.by_role("state"))})
    return state
