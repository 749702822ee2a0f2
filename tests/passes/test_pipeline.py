"""The pipeline: order, verification after every pass, errors that name the pass and leave a reproducer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from graphnn.errors import PassError, VerifyError
from graphnn.ir.graph import Graph, Node
from graphnn.ir.types import TensorType
from graphnn.passes.dead_code import dead_code
from graphnn.passes.pipeline import DEFAULT, Pipeline, pass_name
from graphnn.passes.simplify import simplify
from tests.passes.pictures import graph, text

BEFORE = graph("%x: f32[N,4]", """
    %0 = neg(%x) : f32[N,4]
    %1 = neg(%0) : f32[N,4]
    %2 = tanh(%1) : f32[N,4]
    return %2""")


@pytest.fixture(autouse=True)
def _reproducers_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def raises(graph: Graph) -> Graph:
    raise ZeroDivisionError("by nothing")


def lies_about_types(graph: Graph) -> Graph:
    """Returns a graph whose last node has a type that its rule does not give."""
    last = graph.nodes[-1]
    wrong = Node(last.op, last.inputs, (TensorType.parse("f32[N,5]"),), last.loc)
    return replace(graph, outputs=wrong.outputs, nodes=(*graph.nodes[:-1], wrong))


def forgets_a_node(graph: Graph) -> Graph:
    return replace(graph, nodes=graph.nodes[1:])


@dataclass(frozen=True)
class KeepFirst:
    """A pass with an option."""

    outputs: int

    def __call__(self, graph: Graph) -> Graph:
        return Graph.of(graph.name, graph.inputs, graph.outputs[:self.outputs])


def test_passes_run_in_order_and_a_pipeline_is_a_pass() -> None:
    inner = Pipeline((simplify, dead_code))
    assert text(Pipeline((inner, KeepFirst(1)))(BEFORE)) == text(inner(BEFORE))
    assert len(inner(BEFORE).nodes) == 1


def test_a_pass_with_options_is_named_with_them() -> None:
    assert pass_name(KeepFirst(2)) == "KeepFirst(outputs=2)"
    assert str(Pipeline((simplify, KeepFirst(2)))) == "simplify > KeepFirst(outputs=2)"


def test_a_trace_keeps_every_step() -> None:
    steps = Pipeline((simplify, dead_code)).trace(BEFORE)
    assert [(s.name, s.nodes_before, s.nodes_after) for s in steps] == [("simplify", 3, 1), ("dead_code", 1, 1)]
    assert steps[-1].graph is steps[0].graph, "a pass that finds nothing to do returns the graph itself"
    assert "simplify" in str(steps[0])


def test_an_error_names_the_pass_and_those_before_it_and_keeps_the_cause() -> None:
    with pytest.raises(PassError, match=r"the pass raises failed on the graph 'g': ZeroDivisionError: by nothing") as caught:
        Pipeline((simplify, dead_code, raises))(BEFORE)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert any("simplify, dead_code" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("wrong", [lies_about_types, forgets_a_node])
def test_a_graph_that_does_not_verify_is_the_fault_of_the_pass_that_made_it(wrong: object) -> None:
    with pytest.raises(PassError, match=wrong.__name__) as caught:
        Pipeline((dead_code, wrong, simplify))(BEFORE)
    assert isinstance(caught.value.__cause__, VerifyError)


def test_the_reproducer_is_a_file_that_parses_to_the_graph_before_the_pass() -> None:
    with pytest.raises(PassError) as caught:
        Pipeline((simplify, raises))(BEFORE)
    (note,) = [note for note in caught.value.__notes__ if note.startswith("  reproducer")]
    path = Path(note.split(maxsplit=1)[1])
    content = path.read_text(encoding="utf-8")
    assert "before the pass raises" in content
    assert text(Graph.parse(content)) == text(simplify(BEFORE))


def test_an_error_without_a_reproducer_still_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object, **kwargs: object) -> object:
        raise OSError("No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full_disk)
    with pytest.raises(PassError, match="the pass raises failed") as caught:
        Pipeline((raises,))(BEFORE)
    assert any("No space left" in note for note in caught.value.__notes__)


def test_the_default_order_reads_as_a_list() -> None:
    names = [pass_name(transform) for transform in DEFAULT.passes]
    assert names[0] == "fold_constants"
    assert names[-1] == "schedule"
    assert names.index("fuse_epilogue") < names.index("fuse_elementwise")
