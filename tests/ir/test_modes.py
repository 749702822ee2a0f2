"""Training and evaluation of one graph: which branch runs, what a step does to states, and the gradients of both."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn import ir
from graphnn.errors import ShapeError, UnsupportedError, VerifyError
from graphnn.ir.modes import has_modes, resolve_modes
from graphnn.ir.text_parser import parse_graph


def _zero(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(shape, dtype)


def _counter(name: str = "count") -> gnn.Value:
    return gnn.state(name, (), _zero, dtype="i64")


def _run(graph: gnn.Graph, *arrays: np.ndarray, training: bool | None = None, backend: str = "numpy") -> tuple:
    exe = gnn.compile(graph, training=training, backend=backend)
    return exe(*arrays), exe.state


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_each_mode_runs_its_branch_and_only_training_updates(backend: str) -> None:
    x, count = gnn.Input((3,), name="x"), _counter()
    y = gnn.by_mode(training=gnn.with_update(2.0 * x, count, count + 1), evaluation=3.0 * x)
    graph = gnn.Graph.of("g", [x], [y])
    ones = np.ones((2, 3), np.float32)
    for training, factor, steps in ((True, 2, 1), (False, 3, 0), (None, 3, 0)):
        result, state = _run(graph, ones, training=training, backend=backend)
        assert (result == factor).all()
        assert state["count"] == steps


def test_without_a_word_a_graph_that_updates_a_param_trains() -> None:
    x, w = gnn.Input((), name="x"), gnn.parameter("w", (), _zero)
    y = gnn.by_mode(training=gnn.sum(x) + w, evaluation=w)
    graph = gnn.Graph.of("step", [x], [y], updates=[(w, y)])
    result, state = _run(graph, np.ones(4, np.float32))
    assert result == 4
    assert state["w"] == 4
    result, state = _run(graph, np.ones(4, np.float32), training=False)
    assert result == 0


def test_resolving_leaves_no_mode_and_drops_the_branch_not_taken() -> None:
    x, count = gnn.Input((), name="x"), _counter()
    graph = gnn.Graph.of("g", [x], [gnn.by_mode(gnn.exp(x), gnn.with_update(gnn.sin(x), count, count + 1))])
    train, evaluate = resolve_modes(graph, True), resolve_modes(graph, False)
    assert [node.op.name for node in train.nodes] == ["exp"]
    assert [node.op.name for node in evaluate.nodes] == ["sin"]
    assert not train.updates              # the update stands in the branch that training does not take
    assert not evaluate.updates
    assert resolve_modes(train, True) is train
    assert has_modes(graph.nodes)
    assert not has_modes(train.nodes)


def test_updates_of_one_state_compose_in_order() -> None:
    x, s = gnn.Input((), name="x"), gnn.state("s", (), _zero)
    y = gnn.with_update(x, s, 2.0 * s + 1.0)
    y = gnn.with_update(y, s, 10.0 * s)
    graph = gnn.Graph.of("g", [x], [y])
    _, state = _run(graph, np.ones(1, np.float32), training=True)
    assert state["s"] == 10               # 10 (2 * 0 + 1)


def test_an_equal_update_counts_once() -> None:
    x, count = gnn.Input((), name="x"), _counter()
    new = count + 1
    y = gnn.with_update(x, count, new) + gnn.with_update(x * x, count, new)
    _, state = _run(gnn.Graph.of("g", [x], [y]), np.ones(1, np.float32), training=True)
    assert state["count"] == 1


def test_an_update_by_layer_and_by_graph_is_refused() -> None:
    x, count = gnn.Input((), name="x"), _counter()
    graph = gnn.Graph.of("g", [x], [gnn.with_update(x, count, count + 1)], updates=[(count, count + 2)])
    with pytest.raises(VerifyError, match="'count' is updated by a layer and by the updates"):
        resolve_modes(graph, True)
    assert resolve_modes(graph, False).updates


def test_only_states_can_be_updated_and_types_must_agree() -> None:
    x, count = gnn.Input((3,), name="x"), _counter()
    with pytest.raises(VerifyError, match="no param or state"):
        resolve_modes(gnn.Graph.of("g", [x], [gnn.with_update(x, x, x + 1.0)]), True)
    with pytest.raises(ShapeError, match="keeps its type"):
        gnn.with_update(x, count, gnn.cast(count, "f32"))
    with pytest.raises(ShapeError, match="both must be of one type"):
        gnn.by_mode(x, gnn.sum(x))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_mode_to_second_order(training: bool) -> None:
    x = gnn.Input((3,), name="x", dtype="f64")
    y = gnn.by_mode(training=gnn.sum(x ** 3), evaluation=gnn.sum(gnn.exp(x)))
    (first,) = gnn.gradients(y, [x])
    (second,) = gnn.gradients(gnn.sum(first * first), [x])
    graph = gnn.Graph.of("g", [x], [first, second])
    a = np.random.default_rng(0).normal(size=(2, 3))
    (d1, d2), _ = _run(graph, a, training=training)
    expected = (3 * a**2, 2 * 3 * a**2 * 6 * a) if training else (np.exp(a), 2 * np.exp(a) ** 2)
    np.testing.assert_allclose(d1, expected[0], rtol=1e-12)
    np.testing.assert_allclose(d2, expected[1], rtol=1e-12)


def test_a_gradient_holds_nothing_of_the_other_mode() -> None:
    x = gnn.Input((3,), name="x")
    h = gnn.by_mode(training=gnn.tanh(x), evaluation=gnn.exp(x))
    (d,) = gnn.gradients(gnn.sum(h * h), [x])
    graph = gnn.Graph.of("g", [x], [d])
    assert "exp" not in {node.op.name for node in resolve_modes(graph, True).nodes}
    assert "tanh" not in {node.op.name for node in resolve_modes(graph, False).nodes}


def test_the_gradient_by_a_value_inside_of_a_branch() -> None:
    x = gnn.Input((), name="x", dtype="f64")
    inner = x * x
    y = gnn.by_mode(training=gnn.sum(inner * 5.0), evaluation=gnn.sum(x))
    d_inner, d_x = gnn.gradients(y, [inner, x])
    a = np.array([1.0, 2.0])
    for training, wanted in ((True, ([5, 5], 10 * a)), (False, ([0, 0], [1, 1]))):
        found, _ = _run(gnn.Graph.of("g", [x], [d_inner, d_x]), a, training=training)
        np.testing.assert_allclose(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_modes_inside_a_scan(backend: str) -> None:
    x, count = gnn.Input(("T", 2), name="x"), _counter()
    new = count + 1

    def step(h: gnn.Value, x_t: gnn.Value) -> tuple[gnn.Value, gnn.Value]:
        h = gnn.by_mode(training=gnn.with_update(h + x_t, count, new), evaluation=h - x_t)
        return h, h

    steps = gnn.swapaxes(x, 0, 1)
    last, _ = gnn.scan(step, gnn.zeros_like(steps[0]), steps)
    a = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    for training, sign, count_now in ((True, 1, 1), (False, -1, 0)):
        result, state = _run(gnn.Graph.of("g", [x], [last]), a, training=training, backend=backend)
        np.testing.assert_allclose(result, sign * a.sum(1), rtol=1e-5, atol=1e-6)
        assert state["count"] == count_now


def test_what_a_scan_computes_cannot_update_a_state() -> None:
    x, s = gnn.Input(("T", 2), name="x"), gnn.state("s", (2,), _zero)
    last, _ = gnn.scan(lambda h, x_t: ((new := h + gnn.sum(x_t, 0)), gnn.with_update(new, s, new)),
                       gnn.zeros((2,)), gnn.swapaxes(x, 0, 1))
    _, ys = gnn.scan(lambda h, x_t: (h, gnn.with_update(x_t, s, gnn.sum(x_t, 0))), s, gnn.swapaxes(x, 0, 1))
    with pytest.raises(UnsupportedError, match="inside a scan"):
        resolve_modes(gnn.Graph.of("g", [x], [ys]), True)
    assert last.type.rank == 1


def test_modes_are_part_of_text() -> None:
    x, count = gnn.Input((3,), name="x"), _counter()
    graph = gnn.Graph.of("g", [x], [gnn.by_mode(gnn.with_update(x + 1.0, count, count + 1), x)])
    again = parse_graph(str(graph))
    assert str(again) == str(graph)
    assert len(resolve_modes(again, True).updates) == 1
    assert ir.by_mode is gnn.by_mode
