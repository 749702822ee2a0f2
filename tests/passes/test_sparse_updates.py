"""sparse_updates: a gather's gradient updates the rows that were looked up, and no others."""

from __future__ import annotations

import numpy as np

from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops import index, reduce
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.passes.pipeline import DEFAULT
from graphnn.passes.sparse_updates import sparse_updates
from tests.passes.pictures import assert_same_numbers, ops, text

IDS, OTHER = placeholder("ids", "i64[N]"), placeholder("other", "i64[N]")


def step(table: Value, loss: Value, inputs: list[Value], **states: Value) -> Graph:
    (g,) = gradients(loss, [table])
    lr = state("lr", (), dtype="f64")
    return Graph.of("g", inputs, [loss], updates=[(table, table - lr * g)])


def treated(before: Graph) -> Graph:
    after = DEFAULT(before)
    assert_same_numbers(after, before)
    assert text(sparse_updates(after)) == text(after)
    return after


def dense_work(graph: Graph, shape: tuple[int, ...]) -> list[str]:
    """The ops that write a whole table."""
    return [node.op.name for node in graph.nodes for kind in node.types if kind.shape == shape]


def test_plain_gradient_descent_touches_the_rows_looked_up_alone() -> None:
    table = parameter("table", (9, 4), dtype="f64")
    rows = index.gather(table, IDS)
    after = treated(step(table, reduce.sum(rows * rows), [IDS]))
    assert dense_work(after, (9, 4)) == ["scatter_add"]
    (node,) = [node for node in after.nodes if node.op.name == "scatter_add"]
    assert node.inputs[0] == table


def test_a_table_looked_up_twice_gets_both_updates() -> None:
    table = parameter("table", (9, 4), dtype="f64")
    loss = reduce.sum(index.gather(table, IDS) * index.gather(table, OTHER))
    after = treated(step(table, loss, [IDS, OTHER]))
    assert dense_work(after, (9, 4)) == ["scatter_add", "scatter_add"]


def test_weight_decay_writes_every_row_and_stays() -> None:
    table = parameter("table", (9, 4), dtype="f64")
    rows = index.gather(table, IDS)
    after = treated(step(table, reduce.sum(rows) + 0.01 * reduce.sum(table * table), [IDS]))
    assert len(dense_work(after, (9, 4))) > 1


def test_a_gradient_that_is_also_returned_stays() -> None:
    table = parameter("table", (9, 4), dtype="f64")
    (g,) = gradients(reduce.sum(index.gather(table, IDS)), [table])
    before = Graph.of("g", [IDS], [g], updates=[(table, table - 0.1 * g)])
    assert text(sparse_updates(before)) == text(before)


def test_compiled_rows_that_are_not_looked_up_keep_every_bit() -> None:
    from graphnn.runtime.compile import compile_graph
    from graphnn.runtime.state import State

    table = parameter("table", (50, 4), dtype="f64")
    rows = index.gather(table, IDS)
    kept = State()
    first = np.random.default_rng(0).normal(size=(50, 4))
    kept.restore({"table": first, "lr": np.array(0.5)})
    exe = compile_graph(step(table, reduce.sum(rows * rows), [IDS]), state=kept)
    exe(ids=np.array([3, 7, 3]))
    expected = first.copy()
    np.subtract.at(expected, [3, 7, 3], first[[3, 7, 3]])           # lr * d(r * r) = 0.5 * 2 r
    np.testing.assert_allclose(exe.state["table"], expected, rtol=1e-12, atol=1e-12)
    others = [i for i in range(50) if i not in (3, 7)]
    np.testing.assert_array_equal(exe.state["table"][others], first[others])
    assert ops(exe.graph).count("scatter_add") == 1
