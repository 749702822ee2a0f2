"""Cells of one's own over time, stacked and bidirectional layers, masks with holes: against loops in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError, VerifyError
from graphnn.ir.ops.inputs import placeholder
from tests.nn.networks import BACKENDS, notes
from tests.nn.test_recurrent import CELLS, FORMS, KINDS, LAYERS, STATES, arrays, close, filled, over_time, tails

HOLES = np.array([[True, False, True, True, False], [False, False, False, False, False], [False, True, True, False, True]])


@dataclass(eq=False)
class Highway(nn.Cell):
    """y = tanh(a), a' = g a + (1 - g) W x, count' = count + 1; g = sigmoid of a dense layer of [x, a]; a starts learned."""

    width: int

    def build(self, x: gnn.TensorType) -> None:
        self.weight = self.param("weight", (int(str(x.shape[-1])), self.width), nn.GlorotUniform(), dtype=x.dtype)
        self.start = self.param("start", (self.width,), nn.Constant(0.5), dtype=x.dtype)
        self.gate = nn.FullyConnected(self.width, activation="sigmoid", name="gate")

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.expand(self.start, (x.shape[0], self.width)), gnn.zeros((x.shape[0],), "i64")]

    def step(self, x: gnn.Value, a: gnn.Value, count: gnn.Value) -> tuple[gnn.Value, ...]:
        g = self.gate(gnn.concat([x, a], axis=-1))
        a = g * a + (1.0 - g) * (x @ self.weight)
        return gnn.tanh(a), a, count + 1


def highway(x: np.ndarray, live: np.ndarray, p: dict[str, np.ndarray], *, reverse: bool = False,
            start: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """(y of all steps, the last y, last a, counts), one example after the other."""
    w, u, b = p["cell/weight"], p["cell/gate/weight"], p["cell/gate/bias"]
    n, steps, _ = x.shape
    a = np.tile(p["cell/start"], (n, 1)) if start is None else start.copy()
    ys, last, counts = np.zeros((n, steps, w.shape[1])), np.zeros((n, w.shape[1])), np.zeros(n, np.int64)
    for i in range(n):
        for t in reversed(range(steps)) if reverse else range(steps):
            if live[i, t]:
                g = 1 / (1 + np.exp(-(np.concatenate([x[i, t], a[i]]) @ u + b)))
                a[i] = g * a[i] + (1 - g) * (x[i, t] @ w)
                ys[i, t] = last[i] = np.tanh(a[i])
                counts[i] += 1
    return ys, last, a, counts


def below(exe: gnn.Executable) -> dict[str, np.ndarray]:
    return {name.partition("/")[2]: value for name, value in filled(exe).items()}


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cell_of_ones_own(reverse: bool, backend: str, dtype: str) -> None:
    x, mask = gnn.Input(("T", 3), name="x", dtype=dtype), gnn.Input(("T",), name="mask", dtype="bool")
    layer = nn.Recurrent(Highway(2, name="cell"), reverse=reverse, return_state=True, name="both")
    ends = nn.Recurrent(layer.cell, return_sequences=False, reverse=reverse, name="last")       # the same cell, shared
    outputs = [*layer(x), *layer(x, mask=mask), ends(x, mask=mask)]
    assert len(layer.parameters) == 4
    exe = gnn.compile(gnn.Graph.of("own", [x, mask], outputs), backend=backend)
    p = below(exe)
    assert sorted(p) == ["cell/gate/bias", "cell/gate/weight", "cell/start", "cell/weight"]
    for n, steps in ((3, 5), (1, 1), (3, 2)):
        data, = arrays(dtype, (n, steps, 3))
        live = HOLES[:n, :steps]
        ys, _, a, count = highway(data.astype("f8"), np.ones_like(live), p, reverse=reverse)
        some, last, b, counted = highway(data.astype("f8"), live, p, reverse=reverse)
        for actual, expected in zip(exe(data, live), (ys, a, count, some, b, counted, last), strict=True):
            close(actual, expected)


def test_first_states_may_be_given_to_any_cell() -> None:
    x, a = gnn.Input(("T", 3), name="x", dtype="f64"), gnn.Input((2,), name="a", dtype="f64")
    count = gnn.Input((), name="count", dtype="i64")
    layer = nn.Recurrent(Highway(2, name="cell"))
    exe = gnn.compile(gnn.Graph.of("own", [x, a, count], [layer(x, a, count)]), backend="numpy")
    data, start = arrays("f64", (2, 4, 3), (2, 2))
    p = {**below(exe), "cell/start": np.zeros(2)}
    close(exe(data, start, np.zeros(2, np.int64)), highway(data, np.ones((2, 4), bool), p, start=start)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_masks_with_holes_in_layers_and_in_their_cells_run_by_recurrent(kind: str, reverse: bool) -> None:
    x, mask = gnn.Input(("T", 3), name="x", dtype="f64"), gnn.Input(("T",), name="mask", dtype="bool")
    layer = LAYERS[kind](2, reverse=reverse, return_state=True, name="layer")
    cell = nn.Recurrent(CELLS[kind](2, name="cell"), reverse=reverse, return_state=True, name="cells")
    exe = gnn.compile(gnn.Graph.of("masked", [x, mask], [*layer(x, mask=mask), *cell(x, mask=mask)]), backend="numpy")
    p = tails(filled(exe), "layer/")
    for name in p:
        exe.state[f"cells/cell/{name}"] = p[name]
    data, = arrays("f64", (3, 5, 3))
    expected_y, expected_ends = np.zeros((3, 5, 2)), [np.zeros((3, 2)) for _ in range(STATES[kind])]
    for n in range(3):                                   # a sequence without the steps that do not count
        at = np.flatnonzero(HOLES[n])
        ys, ends = over_time(kind, data[n:n + 1, at], tuple(np.zeros((1, 2)) for _ in expected_ends), p, reverse=reverse)
        expected_y[n, at] = ys[0]
        for end, found in zip(expected_ends, ends, strict=True):
            end[n] = found[0]
    for actual, wanted in zip(exe(data, HOLES), [expected_y, *expected_ends] * 2, strict=True):
        close(actual, wanted)


def test_gradients_of_a_cell_of_ones_own() -> None:
    shapes = {"weight": (2, 2), "start": (2,), "gate": (4, 2)}

    def f(x: gnn.Value, weight: gnn.Value, start: gnn.Value, gate: gnn.Value) -> list[gnn.Value]:
        layer = nn.Recurrent(Highway(2), return_state=True, reverse=True)
        lengths = gnn.constant(np.array([3, 1]))
        layer(x, lengths=lengths)
        cell: Any = layer.cell
        cell.weight, cell.start, cell.gate.weight, cell.gate.offset = weight, start, gate, None
        return [y for y in layer(x, lengths=lengths) if y.dtype.is_float]

    gnn.check_gradients(f, arrays("f64", (2, 3, 2), *shapes.values()), order=2)


def test_a_cell_of_ones_own_trains_and_needs_no_code_in_a_file(tmp_path: Path) -> None:
    x = gnn.Input(("T", 2), name="x")
    y = nn.Recurrent(Highway(3), return_sequences=False)(x)
    model = gnn.Model(x, nn.FullyConnected(1)(y), seed=1)
    data, = arrays("f32", (12, 5, 2))
    target = data[:, :, 0].mean(axis=1, keepdims=True)
    model.compile(nn.Adam(0.02), "squared_error")
    before = {value.name: model.state[value.name].copy() for value in model.parameters}
    losses = [model.fit(part, target[:len(part)], batch_size=12, verbose=False)["loss"][-1]
              for part in (data, data, data[:7, :3], data, data)]
    assert losses[-1] < losses[1] < losses[0]
    assert all((model.state[name] != array).any() for name, array in before.items())
    model.save(tmp_path / "m.gnn")
    assert gnn.load(tmp_path / "m.gnn").predict(data).tobytes() == model.predict(data).tobytes()


@dataclass(eq=False)
class ConvGate(nn.Cell):
    """h' = tanh(conv(x) + conv(h)) over images, of normalised x: layers of many kinds in one step (Shi et al., 2015)."""

    channels: int

    def build(self, x: gnn.TensorType) -> None:
        self.inward = nn.Conv2D(self.channels, 3, padding="same", name="inward")
        self.across = nn.Conv2D(self.channels, 3, padding="same", bias=False, name="across")
        self.norm = nn.LayerNorm1D(name="norm")

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.zeros((*x.shape[:-1], self.channels), x.dtype)]

    def step(self, x: gnn.Value, *states: gnn.Value) -> tuple[gnn.Value, ...]:
        h = gnn.tanh(self.inward(self.norm(x)) + self.across(states[0]))
        return h, h


def test_a_cell_over_images_its_gradients_and_both_back_ends() -> None:
    found: list[list[np.ndarray]] = []
    data, = arrays("f32", (2, 3, 4, 3, 2))
    for backend in BACKENDS:
        x, mask = gnn.Input(("T", 4, 3, 2), name="x"), gnn.Input(("T",), name="mask", dtype="bool")
        layer = nn.Recurrent(ConvGate(2))
        y = layer(x, mask=mask)
        assert [p.name for p in layer.parameters] == [f"recurrent/conv_gate/{name}" for name in (
            "norm/weight", "norm/bias", "inward/weight", "inward/bias", "across/weight")]
        grads = gnn.gradients(gnn.sum(y * y), [x, *layer.parameters])
        exe = gnn.compile(gnn.Graph.of("film", [x, mask], [y, *grads]), backend=backend)
        filled(exe)
        found.append(list(exe(data, HOLES[[0, 2], 1:4])))
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-4)


def test_dropout_inside_a_cell_draws_anew_at_each_step_of_a_sequence() -> None:
    @dataclass(eq=False)
    class Noisy(nn.Cell):
        def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
            return []

        def build(self, x: gnn.TensorType) -> None:
            self.dropout = nn.Dropout(0.5)

        def step(self, x: gnn.Value, *states: gnn.Value) -> tuple[gnn.Value, ...]:
            return (self.dropout(x),)

    x = gnn.Input(("T", 8), name="x")
    graph = gnn.Graph.of("noisy", [x], [nn.Recurrent(Noisy())(x)])
    data = np.ones((2, 6, 8), np.float32)
    noisy, plain = gnn.compile(graph, training=True, backend="numpy"), gnn.compile(graph, backend="numpy")
    np.testing.assert_array_equal(plain(data), data)
    first, second = noisy(data), noisy(data)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert (first != second).any()
    assert (first[:, :-1] != first[:, 1:]).any(axis=(0, 2)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_num_layers_run_one_on_the_other(kind: str, backend: str) -> None:
    x, lengths = gnn.Input(("T", 3), name="x"), gnn.Input((), name="lengths", dtype="i64")
    first = [gnn.Input((2,), name=f"s{i}") for i in range(2 * STATES[kind])]
    layer = LAYERS[kind](2, num_layers=2, return_state=True, reverse=True)
    top = LAYERS[kind](2, num_layers=3, return_sequences=False)
    outputs = [*layer(x, *first, lengths=lengths), top(x)]
    assert len(top.parameters) == 3 * len(layer.parameters) / 2
    exe = gnn.compile(gnn.Graph.of("stack", [x, lengths, *first], outputs), backend=backend)
    p = filled(exe)
    data, *states = arrays("f32", (3, 4, 3), *[(3, 2)] * len(first))
    count = np.array([4, 1, 2])
    y, ends = data.astype("f8"), []
    for i in range(2):
        some = tuple(s.astype("f8") for s in states[i * STATES[kind]:(i + 1) * STATES[kind]])
        y, last = over_time(kind, y, some, tails(p, f"{kind}/layer_{i}/"), reverse=True, lengths=count)
        ends += last
    z = data.astype("f8")
    for i in range(3):
        z, _ = over_time(kind, z, tuple(np.zeros((3, 2)) for _ in range(STATES[kind])), tails(p, f"{kind}_1/layer_{i}/"))
    for actual, expected in zip(exe(data, count, *states), [y, *ends, z[:, -1]], strict=True):
        close(actual, expected)


def test_dropout_between_layers_in_training_alone() -> None:
    """With the first layer's gates shut but for its biases, every input of the second is one constant, or 0 by dropout."""
    x = gnn.Input(("T", 3), name="x")
    layer = nn.RNN(4, activation=None, num_layers=2, dropout_p=0.5)
    graph = gnn.Graph.of("stack", [x], [layer(x)])
    noisy, plain = gnn.compile(graph, backend="numpy", training=True), gnn.compile(graph, backend="numpy")
    for exe in (noisy, plain):
        for name in exe.state.names:
            if exe.state[name].dtype.kind == "f":
                exe.state[name] = np.zeros(exe.state[name].shape)
        exe.state["rnn/layer_0/bias"] = np.full(4, 3.0)
        exe.state["rnn/layer_1/weight"] = np.eye(4)
    data, = arrays("f32", (20, 5, 3))
    assert set(np.unique(noisy(data))) == {0.0, 6.0}
    assert set(np.unique(plain(data))) == {3.0}


@pytest.mark.parametrize("merge", ["concat", "sum", "average", "multiply"])
def test_both_directions_of_any_layer(merge: str) -> None:
    x, lengths = gnn.Input(("T", 3), name="x", dtype="f64"), gnn.Input((), name="lengths", dtype="i64")
    layer = nn.Bidirectional(nn.GRU(2, return_state=True), merge=merge)
    own = nn.Bidirectional(nn.Recurrent(Highway(2, name="cell"), return_sequences=False), merge=merge)
    exe = gnn.compile(gnn.Graph.of("both", [x, lengths], [*layer(x, lengths=lengths), own(x, lengths=lengths)]), backend="numpy")
    p = filled(exe)
    data, = arrays("f64", (3, 4, 3))
    count = np.array([2, 4, 0])
    zero = (np.zeros((3, 2)),)
    a, (h,) = over_time("gru", data, zero, tails(p, "bidirectional/forward"), lengths=count)
    b, (k,) = over_time("gru", data, zero, tails(p, "bidirectional/backward"), lengths=count, reverse=True)
    live = np.arange(4) < count[:, None]
    found: list[np.ndarray] = []
    for name, reverse in (("forward", False), ("backward", True)):
        start = f"bidirectional_1/{name}/"
        own_p = {name.removeprefix(start): value for name, value in p.items() if name.startswith(start)}
        found.append(highway(data, live, own_p, reverse=reverse)[1])

    def merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return {"concat": np.concatenate([a, b], -1), "sum": a + b, "average": (a + b) / 2, "multiply": a * b}[merge]

    for actual, expected in zip(exe(data, count), (merged(a, b), h, k, merged(*found)), strict=True):
        close(actual, expected)


class Wrong(nn.Cell):
    """Takes one state and returns none."""

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.zeros(x.shape, x.dtype)]

    def step(self, x: gnn.Value, *states: gnn.Value) -> Any:
        return x


class Counter(Wrong):
    """Its state has no batch."""

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.zeros((), "i64")]

    def step(self, x: gnn.Value, *states: gnn.Value) -> Any:
        return x, states[0] + 1


class Nothing(nn.Cell):
    """Has no first states."""

    def step(self, x: gnn.Value, *states: gnn.Value) -> tuple[gnn.Value, ...]:
        return x, *states


class Written(Wrong):
    """Has arguments, and no fields for them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


@dataclass(eq=False)
class Around(nn.Cell):
    """h' = tanh(dense(x) + h), with the dense layer as an argument."""

    dense: nn.Layer

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.zeros((x.shape[0], 2), x.dtype)]

    def step(self, x: gnn.Value, *states: gnn.Value) -> tuple[gnn.Value, ...]:
        h = gnn.tanh(self.dense(x) + states[0])
        return h, h


def test_layers_that_are_arguments_of_a_cell_are_not_shared_by_both_directions() -> None:
    layer = nn.Bidirectional(nn.Recurrent(Around(nn.FullyConnected(2, activation=nn.ReLU()))))
    layer(gnn.Input(("T", 3), name="x"))
    assert [p.name for p in layer.parameters] == [f"bidirectional/{way}/around/fully_connected/{label}"
                                                  for way in ("forward", "backward") for label in ("weight", "bias")]


X, MASK = placeholder("x", "f32[N,T,3]"), placeholder("m", "bool[N,T]")


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: nn.Recurrent(nn.LSTM), ShapeError, ["Recurrent: cell is", "nn.LSTMCell(8)"]),  # type: ignore
    (lambda: nn.Recurrent(nn.GRUCell(2), reverse=1), ShapeError, ["Recurrent: reverse is 1"]),  # type: ignore
    (lambda: nn.Recurrent(nn.GRUCell(2))(placeholder("x", "f32[N]")), ShapeError, ["(N, T, ...)", "f32[N]"]),
    (lambda: nn.Recurrent(Wrong())(X), ShapeError, ["Wrong.step takes 1 states and returns 1 values"]),
    (lambda: nn.Recurrent(Nothing())(X), ShapeError, ["Nothing has no first states", "first_states(x)"]),
    (lambda: nn.Recurrent(Counter())(X, mask=MASK), ShapeError, ["a step makes i64[]", "first axis is the batch"]),
    (lambda: nn.Recurrent(nn.GRUCell(2))(X, mask=X), DTypeError, ["Recurrent: mask is f32[N,T,3]"]),
    (lambda: nn.LSTM(2, num_layers=2, dropout_p=1.0), ShapeError, ["LSTM: dropout_p is 1.0"]),
    (lambda: nn.GRU(2, dropout_p=0.5), ShapeError, ["GRU: dropout_p is 0.5", "num_layers is 1"]),
    (lambda: nn.Bidirectional(nn.LSTMCell(2)), ShapeError, ["Bidirectional: layer is LSTMCell", "Recurrent"]),  # type: ignore
    (lambda: nn.Bidirectional(nn.GRU(2, reverse=True)), ShapeError, ["layer has reverse=True"]),
    (lambda: nn.Bidirectional(nn.GRU(2), backward=nn.GRU(2)), ShapeError, ["backward has reverse=False"]),
    (lambda: nn.Bidirectional(nn.GRU(2), backward=nn.GRU(2, reverse=True, return_state=True)), ShapeError, ["differ"]),
    (lambda: nn.Bidirectional(nn.GRU(2), "mean"), ShapeError, ["Bidirectional: merge is 'mean'"]),
    (lambda: nn.Bidirectional(nn.Recurrent(Written(2))), VerifyError, ["a second Written cannot be made", "@dataclass"]),
], ids=range(15))
def test_errors(make: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)
