"""The two ops of word2vec: windows counted by hand, steps against SGD on the loss written in IR and differentiated by graphnn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import graphnn as gnn
from graphnn.errors import NumericsError, ShapeError
from graphnn.ir.ops.words import ContextWindows, WordVectorSteps

V, C, D, K = 7, 6, 5, 3


@pytest.fixture
def threads() -> Iterator[None]:
    yield
    gnn.set_threads(None)


def text(n: int, seed: int = 0, window: int = 3) -> dict[str, np.ndarray]:
    """A text of n places with windows, targets and labels, and the tables, in float64."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(-1, V, n).astype(np.int32)
    words, left, right = ContextWindows().numpy(ids, np.ones(V), np.zeros(n), rng.integers(1, window + 1, n).astype(np.int32))
    return {
        "inputs": rng.normal(size=(V, D)), "outputs": rng.normal(size=(C, D)), "bias": rng.normal(size=C),
        "offset": rng.normal(size=C), "words": words, "left": left, "right": right,
        "targets": rng.integers(-1, C, (n, K)).astype(np.int32), "labels": rng.choice([0.0, 1.0], (n, K)), "lr": np.array(0.05),
    }


def steps(given: dict[str, np.ndarray], backend: str = "numpy", **attributes: int | bool) -> list[np.ndarray]:
    """New inputs, outputs and bias, and losses."""
    values = [gnn.placeholder(name, gnn.TensorType.of(array)) for name, array in given.items()]
    graph = gnn.Graph.of("steps", values, list(gnn.word_vector_steps(*values, **attributes)))
    return list(gnn.compile(graph, backend=backend)(*given.values()))


def pairs(given: dict[str, np.ndarray], places: range) -> list[tuple[list[int], list[int], list[float]]]:
    """Context words, targets and labels of each place that has some."""
    found = []
    for p in places:
        left, right, words = int(given["left"][p]), int(given["right"][p]), given["words"]
        context = [int(words[q]) for q in range(p - left, p + right + 1) if q != p]
        targets = [(int(t), float(y)) for t, y in zip(given["targets"][p], given["labels"][p], strict=True) if t >= 0]
        if words[p] >= 0 and context and targets:
            found.append((context, [t for t, _ in targets], [y for _, y in targets]))
    return found


def sgd(given: dict[str, np.ndarray], places: range, *, pooled: bool, biased: bool) -> list[np.ndarray]:
    """One step of gradient descent on the loss of some places, written in IR ops and differentiated."""
    names = ("inputs", "outputs", "bias")
    inputs, outputs, bias = values = [gnn.placeholder(name, gnn.TensorType.of(given[name])) for name in names]
    offset = gnn.constant(given["offset"])
    loss: gnn.Value = gnn.sum(inputs) * 0.0
    for context, targets, labels in pairs(given, places):
        x = gnn.gather(inputs, gnn.constant(np.array(context)))
        if pooled:
            x = gnn.mean(x, 0, keepdims=True)
        ids = gnn.constant(np.array(targets))
        shift = gnn.gather(bias, ids) - gnn.gather(offset, ids)
        s = x @ gnn.matrix_transpose(gnn.gather(outputs, ids)) + shift
        loss = loss + gnn.sum(gnn.softplus(s) - gnn.constant(np.array(labels)) * s)
    grads = gnn.gradients(loss, values)
    arrays = gnn.compile(gnn.Graph.of("loss", values, [loss, *grads]), backend="numpy")(*(given[name] for name in names))
    new = [given[name] - given["lr"] * d for name, d in zip(names, arrays[1:], strict=True)]
    return [*new[:2], new[2] if biased else given["bias"], arrays[0]]


def test_windows_by_hand() -> None:
    ids = np.array([0, 1, 2, -1, 1, 1, 0, 2, -1], np.int32)
    keep, draws = np.array([0.5, 1.0, 1.0], np.float32), np.array([0.4, 0, 0, 0, 0, 0, 0.6, 0, 0], np.float32)
    radius = np.array([1, 1, 5, 1, 2, 1, 1, 1, 1], np.int32)
    values = [gnn.placeholder(f"x{i}", gnn.TensorType.of(x)) for i, x in enumerate((ids, keep, draws, radius))]
    exe = gnn.compile(gnn.Graph.of("windows", values, list(gnn.context_windows(*values))))
    words, left, right = exe(ids, keep, draws, radius)
    assert words.tolist() == [0, 1, 2, 1, 1, 2, -1, -1, -1]                  # the 0 of the second sentence is not kept
    assert left.tolist() == [0, 1, 2, 0, 1, 1, 0, 0, 0]                      # and its neighbours move together
    assert right.tolist() == [1, 1, 0, 2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_step_is_sgd_on_the_summed_loss(pooled: bool, biased: bool) -> None:
    given = text(23)
    *actual, losses = steps(given, chunk=23, window=3, pooled=pooled, biased=biased)
    *expected, loss = sgd(given, range(23), pooled=pooled, biased=biased)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(losses.sum(), loss, rtol=1e-12)


def test_chunks_follow_each_other() -> None:
    given = text(40)
    actual = steps(given, chunk=16, window=3, biased=True)
    for first in (0, 16, 32):
        *new, _ = sgd(given, range(first, min(first + 16, 40)), pooled=False, biased=True)
        given |= dict(zip(("inputs", "outputs", "bias"), new, strict=True))
    for a, name in zip(actual, ("inputs", "outputs", "bias"), strict=False):
        np.testing.assert_allclose(a, given[name], rtol=1e-12, atol=1e-13)


def test_the_whole_gradient_of_a_mean_is_the_divided_one_times_the_number_of_words() -> None:
    given = text(2)
    given |= {"words": np.array([3, 5], np.int32), "left": np.array([0, 1], np.int32), "right": np.array([1, 0], np.int32)}
    whole, divided = (steps(given, chunk=2, window=3, pooled=True, whole=flag) for flag in (True, False))
    for a, b in zip(whole, divided, strict=True):                            # windows of one word: no difference
        np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(3)
    given = text(3) | {"words": np.array([3, 5, 1], np.int32), "left": np.array([0, 1, 0], np.int32),
                       "right": np.array([0, 1, 0], np.int32), "targets": rng.integers(0, C, (3, K)).astype(np.int32)}
    whole, divided = (steps(given, chunk=3, window=3, pooled=True, whole=flag)[0] - given["inputs"] for flag in (True, False))
    np.testing.assert_allclose(whole, 2.0 * divided, atol=1e-12)


@pytest.mark.parametrize("pooled", [False, True])
def test_the_same_bits_for_any_number_of_threads(pooled: bool, threads: None) -> None:
    given = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in text(3000, 1).items()}
    found = []
    for count in (1, 2, 5):
        gnn.set_threads(count)
        found.append([x.tobytes() for x in steps(given, "numba", chunk=256, window=3, pooled=pooled)])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_ids_and_windows_out_of_range_are_errors_and_the_state_stays(backend: str) -> None:
    def broken(**changes: tuple[int, int]) -> dict[str, np.ndarray]:
        given = text(9)
        given |= {"words": np.arange(9, dtype=np.int32) % V, "left": np.zeros(9, np.int32), "right": np.zeros(9, np.int32)}
        given["right"][:-1] = 1
        given["targets"][:] = 0
        for name, (place, value) in changes.items():
            given[name] = given[name].copy()
            given[name].reshape(-1)[place] = value
        return given

    steps(broken(), backend, chunk=4, window=1)
    for changes, message in (({"words": (3, V)}, "word id"), ({"words": (3, -2)}, "word id"), ({"targets": (4, C)}, "target"),
                             ({"left": (0, 1)}, "window"), ({"right": (8, 1)}, "window"), ({"right": (2, 2)}, "window"),
                             ({"words": (3, -1)}, "window"), ({"left": (5, -1)}, "window")):
        with pytest.raises(NumericsError, match=message):
            steps(broken(**changes), backend, chunk=4, window=1)


def test_a_run_that_fails_leaves_tables_alone_that_are_updated_in_their_own_memory() -> None:
    given = text(40)
    tables = {name: given.pop(name) for name in ("inputs", "outputs")}
    values = {name: gnn.placeholder(name, gnn.TensorType.of(array)) for name, array in given.items()}
    states = [gnn.state(name, x.shape, lambda shape, dtype, rng, x=x: x, dtype="f64") for name, x in tables.items()]
    new_inputs, new_outputs, _, losses = gnn.word_vector_steps(*states, *values.values(), chunk=8, window=3)
    updates = list(zip(states, (new_inputs, new_outputs), strict=True))
    exe = gnn.compile(gnn.Graph.of("steps", list(values.values()), [losses], updates=updates))
    exe.lower()
    assert all(node is not None for node in exe.plan.row_nodes)              # no row copies a table to its state
    with pytest.raises(NumericsError, match="target"):
        exe(**given | {"targets": np.where(np.arange(40)[:, None] == 39, C, given["targets"]).astype(np.int32)})
    for name, x in tables.items():
        np.testing.assert_array_equal(exe.state[name], x)
    exe(**given)
    expected = steps(tables | given, chunk=8, window=3)
    for name, e in zip(tables, expected, strict=False):
        np.testing.assert_allclose(exe.state[name], e, rtol=1e-12, atol=1e-13)


def test_types_that_do_not_fit_are_refused() -> None:
    given = text(5)
    with pytest.raises(ShapeError, match="labels"):
        steps(given | {"labels": given["labels"][:, :2]}, chunk=2, window=3)
    with pytest.raises(ShapeError, match="bias"):
        steps(given | {"bias": given["bias"][:2]}, chunk=2, window=3)
    with pytest.raises(NumericsError, match="chunk"):
        WordVectorSteps(0, 1, False, False, False).infer(*(gnn.TensorType.of(x) for x in given.values()))
