"""Lazy updates of tables, against NumPy on the rows alone; rows that no step looks up keep every bit, and cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.passes.pipeline import DEFAULT
from tests.nn.networks import BACKENDS

V, D = 11, 3
IDS, OTHER = gnn.placeholder("ids", "i64[N,T]"), gnn.placeholder("other", "i32[M]")


def normal(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def step_graph(optimiser: nn.Optimizer, dtype: str = "f64", vocab: int = V) -> gnn.Graph:
    """Half the squares of rows looked up by `ids` and by `other`: the gradient of a row is itself, once for each look-up."""
    table = gnn.parameter("table", (vocab, D), normal, dtype=dtype)
    bias = gnn.parameter("bias", (D,), normal, dtype=dtype)
    a, b = gnn.gather(table, IDS), gnn.gather(table, OTHER)
    loss = 0.5 * (gnn.sum(a * a) + gnn.sum(b * b) + gnn.sum(bias * bias))
    params = [table, bias]
    return gnn.Graph.of("step", [IDS, OTHER], [loss], updates=optimiser.updates(params, gnn.gradients(loss, params), loss))


def batches(steps: int = 50) -> list[tuple[np.ndarray, np.ndarray]]:
    """Repeated ids, within an input and across both; ids 0 and V - 1 never; sizes that change, and an empty input."""
    rng = np.random.default_rng(2)
    return [(rng.integers(1, V - 1, (2, t % 4)), rng.integers(1, V - 1, 1 + t % 3).astype(np.int32)) for t in range(steps)]


def counted(ids: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bincount(np.concatenate([ids.ravel(), other]), minlength=V).astype(float)


def lazy(kind: str, table: np.ndarray, data: Sequence[tuple[np.ndarray, np.ndarray]], lr: float) -> np.ndarray:
    """Each rule, on the rows that were looked up."""
    table, m, v = table.copy(), np.zeros((V, D)), np.zeros((V, D))
    for t, (ids, other) in enumerate(data, 1):
        count = counted(ids, other)
        r = np.flatnonzero(count)
        g = count[r, None] * table[r]
        if kind == "sgd":
            table[r] -= lr * g
        elif kind == "momentum":
            m[r] = 0.9 * m[r] + g + 0.1 * table[r]
            table[r] -= lr * m[r]
        elif kind == "adagrad":
            v[r] += g**2
            table[r] -= lr * g / (np.sqrt(v[r]) + 1e-10)
        else:
            m[r], v[r] = 0.9 * m[r] + 0.1 * g, 0.999 * v[r] + 0.001 * g**2
            change = lr * m[r] / (1 - 0.9**t) / (np.sqrt(v[r] / (1 - 0.999**t)) + 1e-8)
            table[r] = (table[r] * (1 - lr * 0.1) if kind == "adamw" else table[r]) - change
    return table


CASES: list[tuple[str, nn.Optimizer]] = [
    ("sgd", nn.SGD(0.05, sparse=True)), ("momentum", nn.SGD(0.05, momentum=0.9, weight_decay=0.1, sparse=True)),
    ("adagrad", nn.AdaGrad(0.05, sparse=True)), ("adam", nn.Adam(0.05, sparse=True)),
    ("adamw", nn.AdamW(0.05, weight_decay=0.1, sparse=True)),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("kind", "optimiser"), CASES, ids=[kind for kind, _ in CASES])
def test_rows_looked_up_follow_the_rule_and_others_stay(kind: str, optimiser: nn.Optimizer, dtype: str, backend: str) -> None:
    step = gnn.compile(step_graph(optimiser, dtype), backend=backend)
    first, data = step.state["table"], batches()
    for batch in data:
        step(*batch)
    expected = lazy(kind, first.astype(np.float64), data, 0.05)
    rtol, atol = (1e-11, 1e-13) if dtype == "f64" else (1e-4, 1e-5)
    np.testing.assert_allclose(step.state["table"], expected, rtol=rtol, atol=atol)
    for name, array in step.state.arrays().items():
        if array.shape == (V, D):
            before = first if name == "table" else np.zeros((V, D))
            np.testing.assert_array_equal(array[[0, V - 1]], before[[0, V - 1]], err_msg=name)
            assert name == "table" or np.abs(array[1 : V - 1]).min() > 0


@pytest.mark.parametrize(("kind", "optimiser"), CASES, ids=[kind for kind, _ in CASES])
def test_no_op_writes_a_whole_table_but_in_place(kind: str, optimiser: nn.Optimizer) -> None:
    graph = DEFAULT(step_graph(optimiser, vocab=50_000))
    whole = [node for node in graph.nodes for made in node.types if 50_000 in made.shape]
    assert {node.op.name for node in whole} == {"scatter_add"}
    assert all(node.inputs[0] in graph.inputs for node in whole)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments", [{"clip_value": 0.7}, {"clip_norm": 0.8}, {"clip_global_norm": 1.1}, {"momentum": 0.5}])
def test_with_every_row_looked_up_it_is_the_dense_step(arguments: dict[str, Any], backend: str) -> None:
    """The norms are those of the whole gradient."""
    ids, other = np.arange(V)[:, None], np.array([3, 3, 5], np.int32)
    steps = [gnn.compile(step_graph(nn.SGD(0.1, weight_decay=0.3, sparse=sparse, **arguments)), backend=backend)
             for sparse in (True, False)]
    for _ in range(4):
        for step in steps:
            step(ids, other)
    for name, array in steps[1].state.arrays().items():
        np.testing.assert_allclose(steps[0].state[name], array, rtol=1e-12, atol=1e-15, err_msg=name)


def test_gradients_that_are_no_rows_are_updated_as_ever() -> None:
    """The table is also multiplied as a whole, as the tied weights of a language model are."""
    table = gnn.parameter("table", (V, D), normal, dtype="f64")
    loss = gnn.sum(gnn.matmul(gnn.gather(table, OTHER), gnn.matrix_transpose(table)))
    states: list[gnn.State] = []
    for sparse in (True, False):
        updates = nn.Adam(sparse=sparse).updates([table], gnn.gradients(loss, [table]))
        step = gnn.compile(gnn.Graph.of("step", [OTHER], [loss], updates=updates), backend="numpy")
        for _ in range(3):
            step(np.array([2, 2, 7], np.int32))
        states.append(step.state)
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0].names)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_embedding_learns_in_a_model(backend: str, tmp_path: Any) -> None:
    """One group is sparse; bags with padding; saved and gone on with bit for bit."""
    rng = np.random.default_rng(0)
    ids, y = rng.integers(1, 40, (64, 5)), rng.integers(0, 2, 64)
    ids[:, 0] = 1 + y + 2 * rng.integers(0, 3, 64)

    def model() -> gnn.Model:
        x = gnn.Input((5,), name="ids", dtype="i64")
        bags = nn.Embedding(1000, 8, pool="mean", padding_idx=0, name="words")(x)
        made = gnn.Model(x, nn.FullyConnected(2)(bags), seed=0, backend=backend)
        return made.compile(nn.Adam(0.05, groups={"words": {"sparse": True}}), "cross_entropy")

    whole, half = model(), model()
    untouched = whole.state["words/weight"][40:].copy()
    history = whole.fit(ids, y, epochs=8, batch_size=20, verbose=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    np.testing.assert_array_equal(whole.state["words/weight"][40:], untouched)
    half.fit(ids, y, epochs=4, batch_size=20, verbose=False)
    half.save(tmp_path / "half.gnn")
    half = gnn.load(tmp_path / "half.gnn", backend=backend)
    half.fit(ids, y, epochs=4, batch_size=20, verbose=False)
    assert all(whole.state[name].tobytes() == half.state[name].tobytes() for name in whole.state.names)


def test_an_id_out_of_range_changes_nothing() -> None:
    step = gnn.compile(step_graph(nn.Adam(sparse=True)))
    before = step.state.arrays()
    with pytest.raises(gnn.GraphnnError, match=r"id.* out"):
        step(np.array([[1, V]]), np.array([1], np.int32))
    assert all(array.tobytes() == before[name].tobytes() for name, array in step.state.arrays().items())


def test_sparse_is_a_truth_value() -> None:
    bad: Any = nn
    with pytest.raises(gnn.GraphnnError, match="sparse is 1"):
        bad.Adam(sparse=1)
