"""Recurrent cells and layers against loops in NumPy float64; gradients, training, files, ragged batches, errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.ops.inputs import placeholder
from tests.nn.networks import notes

KINDS = ("rnn", "lstm", "gru")
LAYERS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS: dict[str, Any] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
FORMS = [("numpy", "f64"), ("numba", "f32")]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def one_step(kind: str, x: np.ndarray, states: tuple[np.ndarray, ...], p: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """A step by the formula of the seed and of PyTorch, gate by gate."""
    h, w, u, b = states[0], p["weight"], p["recurrent_weight"], p["bias"]
    size = h.shape[1]

    def part(of: np.ndarray, gate: int) -> np.ndarray:
        return of[..., gate * size:(gate + 1) * size]

    def score(gate: int) -> np.ndarray:
        return np.concatenate([h, x], 1) @ np.concatenate([part(u, gate), part(w, gate)]) + part(b, gate)

    if kind == "rnn":
        return (np.tanh(score(0)),)
    if kind == "lstm":
        c = sigmoid(score(1)) * states[1] + sigmoid(score(0)) * np.tanh(score(2))
        return sigmoid(score(3)) * np.tanh(c), c
    z = sigmoid(score(1))
    n = np.tanh(x @ part(w, 2) + part(b, 2) + sigmoid(score(0)) * (h @ part(u, 2) + p["candidate_bias"]))
    return ((1 - z) * n + z * h,)


def over_time(kind: str, x: np.ndarray, states: tuple[np.ndarray, ...], p: Mapping[str, np.ndarray], *, reverse: bool = False,
              lengths: np.ndarray | None = None) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """(results of all steps, last states), one example after the other."""
    ys, ends = np.zeros((*x.shape[:2], states[0].shape[1])), [state.copy() for state in states]
    for n in range(x.shape[0]):
        state = tuple(s[n:n + 1] for s in states)
        steps = range(x.shape[1] if lengths is None else int(lengths[n]))
        for t in reversed(steps) if reverse else steps:
            state = one_step(kind, x[n:n + 1, t], state, p)
            ys[n, t] = state[0][0]
        for end, s in zip(ends, state, strict=True):
            end[n] = s[0]
    return ys, tuple(ends)


def filled(exe: gnn.Executable, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for all parameters, by the last part of their names."""
    rng = np.random.default_rng(seed)
    for name in exe.state.names:
        exe.state[name] = rng.normal(size=exe.state[name].shape) * 0.5
    return {name: exe.state[name].astype(np.float64) for name in exe.state.names}


def tails(values: Mapping[str, np.ndarray], within: str = "") -> dict[str, np.ndarray]:
    return {name.rpartition("/")[2]: value for name, value in values.items() if within in name}


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 1e-5 if actual.dtype == np.float32 else 1e-12
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def arrays(dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype("float32" if dtype == "f32" else "float64") for shape in shapes]


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_their_formulas(kind: str, backend: str, dtype: str) -> None:
    cell = CELLS[kind](5)
    x = gnn.Input((3,), name="x", dtype=dtype)
    first = [gnn.Input((5,), name=f"s{i}", dtype=dtype) for i in range(STATES[kind])]
    given, zero = cell(x, *first), cell(x)
    outputs = [*given, *zero] if kind == "lstm" else [given, zero]
    exe = gnn.compile(gnn.Graph.of("cell", [x, *first], outputs), backend=backend)
    p = tails(filled(exe))
    for count in (4, 1):
        data, *states = arrays(dtype, (count, 3), *[(count, 5)] * len(first))
        expected = (*one_step(kind, data, tuple(states), p), *one_step(kind, data, tuple(0 * s for s in states), p))
        for actual, wanted in zip(exe(data, *states), expected, strict=True):
            close(actual, wanted)


@pytest.mark.parametrize(("backend", "dtype"), [*FORMS, ("numba", "f64")])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_loops_over_cells_at_any_n_and_t(kind: str, reverse: bool, backend: str, dtype: str) -> None:
    layer, last = LAYERS[kind](5, reverse=reverse, return_state=True), LAYERS[kind](5, reverse=reverse, return_sequences=False)
    x = gnn.Input(("T", 3), name="x", dtype=dtype)
    first = [gnn.Input((5,), name=f"s{i}", dtype=dtype) for i in range(STATES[kind])]
    outputs = [*layer(x, *first), last(x)]
    assert str(outputs[0].type) == f"{dtype}[N,T,5]"
    exe = gnn.compile(gnn.Graph.of("layer", [x, *first], outputs), backend=backend)
    p = filled(exe)
    for n, steps in ((2, 7), (3, 1), (1, 4)):
        data, *states = arrays(dtype, (n, steps, 3), *[(n, 5)] * len(first))
        ys, ends = over_time(kind, data, tuple(states), tails(p, f"{kind}/"), reverse=reverse)
        zeros = tuple(np.zeros((n, 5)) for _ in first)
        _, (end, *_) = over_time(kind, data, zeros, tails(p, f"{kind}_1/"), reverse=reverse)
        for actual, expected in zip(exe(data, *states), (ys, *ends, end), strict=True):
            close(actual, expected)


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_batches_keep_the_state_and_give_0(kind: str, reverse: bool, backend: str, dtype: str) -> None:
    x, lengths = gnn.Input(("T", 3), name="x", dtype=dtype), gnn.Input((), name="lengths", dtype="i64")
    first = [gnn.Input((2,), name=f"s{i}", dtype=dtype) for i in range(STATES[kind])]
    outputs = LAYERS[kind](2, reverse=reverse, return_state=True)(x, *first, lengths=lengths)
    exe = gnn.compile(gnn.Graph.of("layer", [x, lengths, *first], outputs), backend=backend)
    p = tails(filled(exe))
    data, *states = arrays(dtype, (4, 5, 3), *[(4, 2)] * len(first))
    count = np.array([3, 5, 0, 1])
    ys, ends = over_time(kind, data, tuple(states), p, reverse=reverse, lengths=count)
    found = exe(data, count, *states)
    for actual, expected in zip(found, (ys, *ends), strict=True):
        close(actual, expected)
    data[0, 3:] = 1e3                                     # what stands in the padding does not matter
    for again, actual in zip(exe(data, count, *states), found, strict=True):
        np.testing.assert_array_equal(again, actual)


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
def test_no_steps_and_no_examples(backend: str, dtype: str) -> None:
    x = gnn.Input(("T", 3), name="x", dtype=dtype)
    layer = nn.BidirectionalLSTM(2, return_state=True)
    y, h, *_ = layer(x)
    outputs = [y, h, *gnn.gradients(gnn.sum(y) + gnn.sum(h), layer.parameters)]
    exe = gnn.compile(gnn.Graph.of("empty", [x], outputs), backend=backend)
    for n, steps in ((2, 0), (0, 3), (0, 0)):
        ys, last, *grads = exe(np.ones((n, steps, 3), "float32" if dtype == "f32" else "float64"))
        assert (ys.shape, last.shape) == ((n, steps, 4), (n, 2))
        assert not any(a.any() for a in (last, *grads))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_lengths_beyond_the_sequence_are_its_length(backend: str) -> None:
    x, lengths = gnn.Input(("T", 3), name="x"), gnn.Input((), name="lengths", dtype="i32")
    exe = gnn.compile(gnn.Graph.of("layer", [x, lengths], [nn.GRU(2)(x, lengths=lengths)]), backend=backend)
    data, = arrays("f32", (3, 4, 3))
    np.testing.assert_array_equal(exe(data, np.array([9, -1, 4], np.int32)), exe(data, np.array([4, 0, 4], np.int32)))


def with_parameters(layer: nn.Layer, x: gnn.Value, *rest: gnn.Value, weights: tuple[gnn.Value, ...], **options: Any) -> Any:
    """The layer's result with these values for its parameters, so that gradients by them can be checked."""
    layer(x, *rest, **options)
    layer.weight, layer.recurrent_weight, layer.offset = weights[:3]  # pyright: ignore[reportAttributeAccessIssue]
    if len(weights) > 3:
        layer.candidate_offset = weights[3]  # pyright: ignore[reportAttributeAccessIssue]
    return layer(x, *rest, **options)


def some_weights(kind: str, inputs: int, size: int) -> list[np.ndarray]:
    wide = GATES[kind] * size
    return [0.7 * a for a in arrays("f64", (inputs, wide), (size, wide), (wide,), *[(size,)] * (kind == "gru"))]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_cells(kind: str) -> None:
    states = arrays("f64", *[(2, 3)] * STATES[kind])

    def f(x: gnn.Value, *rest: gnn.Value) -> Any:
        return with_parameters(CELLS[kind](3), x, *rest[:len(states)], weights=rest[len(states):])

    gnn.check_gradients(f, [*arrays("f64", (2, 2)), *states, *some_weights(kind, 2, 3)], order=2)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_over_time(kind: str, ragged: bool) -> None:
    states = arrays("f64", *[(2, 2)] * STATES[kind])

    def f(x: gnn.Value, *rest: gnn.Value) -> Any:
        layer = LAYERS[kind](2, reverse=ragged, return_state=True)
        options = {"lengths": gnn.constant(np.array([3, 1]))} if ragged else {}
        return with_parameters(layer, x, *rest[:len(states)], weights=rest[len(states):], **options)

    gnn.check_gradients(f, [*arrays("f64", (2, 3, 2)), *states, *some_weights(kind, 2, 2)], order=1)


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_layers_train_are_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    x = gnn.Input(("T", 2), name="x")
    hidden = LAYERS[kind](3, return_sequences=False)(LAYERS[kind](4)(x))
    model = gnn.Model(x, nn.FullyConnected(1)(hidden), name="stack", seed=1)
    data, = arrays("f32", (12, 5, 2))
    target = data[:, :, 0].mean(axis=1, keepdims=True)
    model.compile(nn.Adam(0.02), "squared_error")
    losses = [model.fit(part, target[:len(part)], batch_size=12, verbose=False)["loss"][-1]
              for part in (data, data, data[:7], data, data, data)]        # another batch size between the steps
    assert losses[-1] < losses[1] < losses[0]
    model.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn")
    for steps in (5, 1):
        assert loaded.predict(data[:3, :steps]).tobytes() == model.predict(data[:3, :steps]).tobytes()


@pytest.mark.parametrize("merge", ["concat", "sum", "average", "multiply"])
@pytest.mark.parametrize(("backend", "dtype"), FORMS)
def test_bidirectional_lstm(merge: str, backend: str, dtype: str) -> None:
    x, lengths = gnn.Input(("T", 3), name="x", dtype=dtype), gnn.Input((), name="lengths", dtype="i64")
    layer = nn.BidirectionalLSTM(2, merge=merge, return_state=True)
    first = [gnn.Input((2,), name=f"s{i}", dtype=dtype) for i in range(4)]
    outputs = [*layer(x, *first), layer(x, lengths=lengths)[0]]
    exe = gnn.compile(gnn.Graph.of("both", [x, lengths, *first], outputs), backend=backend)
    p = filled(exe)
    assert len(p) == 6                                    # called twice, made once
    for n, steps in ((3, 4), (1, 1)):
        data, *states = arrays(dtype, (n, steps, 3), *[(n, 2)] * 4)
        count = np.arange(n) % (steps + 1)

        def both(starts: list[np.ndarray], lengths: np.ndarray | None, data: np.ndarray = data) -> Any:
            return (over_time("lstm", data, tuple(starts[:2]), tails(p, "forward"), lengths=lengths),
                    over_time("lstm", data, tuple(starts[2:]), tails(p, "backward"), lengths=lengths, reverse=True))

        def merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return {"concat": np.concatenate([a, b], -1), "sum": a + b, "average": (a + b) / 2, "multiply": a * b}[merge]

        (a, ends_a), (b, ends_b) = both(states, None)
        (c, _), (d, _) = both([np.zeros((n, 2))] * 4, count)
        for actual, wanted in zip(exe(data, count, *states), (merged(a, b), *ends_a, *ends_b, merged(c, d)), strict=True):
            close(actual, wanted)


def test_a_bidirectional_lstm_trains_and_merges_last_states(tmp_path: Path) -> None:
    x = gnn.Input(("T", 2), name="x")
    layer = nn.BidirectionalLSTM(3, merge="multiply", return_sequences=False, forget_bias=1.0)
    model = gnn.Model(x, nn.FullyConnected(1)(layer(x)), seed=1)
    data, = arrays("f32", (10, 4, 2))
    history = model.compile(nn.Adam(0.02), "squared_error").fit(data, data[:, 0, :1] * data[:, -1, 1:], epochs=6, verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "m.gnn")
    assert gnn.load(tmp_path / "m.gnn").predict(data).tobytes() == model.predict(data).tobytes()


def test_gradients_of_a_bidirectional_lstm() -> None:
    def f(x: gnn.Value) -> gnn.Value:
        weights = {"weight": (2, 8), "recurrent_weight": (2, 8), "bias": (8,)}
        layer = nn.BidirectionalLSTM(2, merge="multiply")
        layer(x)
        inners: tuple[Any, ...] = (layer._ahead, layer._back)
        for inner in inners:
            inner.weight, inner.recurrent_weight, inner.offset = (gnn.constant(a) for a in arrays("f64", *weights.values()))
        return layer(x)

    gnn.check_gradients(f, arrays("f64", (2, 3, 2)), order=2)


def test_first_values() -> None:
    x = gnn.Input((3, 40), name="x")
    state = gnn.Model(x, nn.LSTM(60, forget_bias=1.5)(x)).state
    np.testing.assert_array_equal(state["lstm/bias"], np.repeat(np.array([0, 1.5, 0, 0], np.float32), 60))
    for gate in np.split(state["lstm/weight"], 4, axis=1):         # the fans are those of one gate: 40 in, 60 out
        assert 0.95 * (6 / 100) ** 0.5 < np.abs(gate).max() <= (6 / 100) ** 0.5
    for name, shape in (("lstm/weight", (40, 240)), ("lstm/recurrent_weight", (60, 240))):
        assert state[name].shape == shape
    without = gnn.Model(x, nn.GRU(6, bias=False)(x)).state
    assert sorted(without.names) == ["gru/recurrent_weight", "gru/weight"]


def test_other_activations() -> None:
    x = gnn.Input((3, 2), name="x", dtype="f64")
    layer = nn.LSTM(2, activation="relu", gate_activation=gnn.relu)
    exe = gnn.compile(gnn.Graph.of("layer", [x], [layer(x)]), backend="numpy")
    p = tails(filled(exe))
    data, = arrays("f64", (2, 3, 2))
    h, c = np.zeros((2, 2)), np.zeros((2, 2))
    expected: list[np.ndarray] = []
    for t in range(3):
        i, f, g, o = np.split(np.maximum(data[:, t] @ p["weight"] + h @ p["recurrent_weight"] + p["bias"], 0), 4, axis=1)
        c = f * c + i * g
        h = o * np.maximum(c, 0)
        expected.append(h)
    close(exe(data), np.stack(expected, 1))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.RNN(0), ["RNN: out_features is 0"]), (lambda: nn.LSTMCell(2.5), ["LSTMCell: out_features is 2.5"]),  # type: ignore
    (lambda: nn.GRU(2, activation="nothing"), ["nothing"]), (lambda: nn.LSTM(2, gate_activation="nothing"), ["nothing"]),
    (lambda: nn.LSTM(2, forget_bias=float("nan")), ["LSTM: forget_bias is nan"]),
    (lambda: nn.LSTM(2, forget_bias=1.0, bias=False), ["forget_bias is 1.0", "bias is False"]),
    (lambda: nn.GRU(2, reverse="yes"), ["GRU: reverse is 'yes'"]), (lambda: nn.RNN(2, bias=3), ["RNN: bias is 3"]),  # type: ignore
    (lambda: nn.RNN(2, init="nothing"), ["nothing"]), (lambda: nn.LSTM(2, num_layers=0), ["LSTM: num_layers is 0"]),
    (lambda: nn.BidirectionalLSTM(2, merge="mean"), ["BidirectionalLSTM: merge is 'mean'", "average"]),
    (lambda: nn.BidirectionalLSTM(-1), ["out_features is -1"]),
], ids=range(12))
def test_errors_when_built(make: Any, words: list[str]) -> None:
    with pytest.raises(gnn.GraphnnError) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)


X, H = placeholder("x", "f32[N,T,3]"), placeholder("h", "f32[N,2]")


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: nn.RNN(2)(placeholder("x", "f32[N,3]")), ShapeError, ["(N, T, C)", "f32[N,3]"]),
    (lambda: nn.RNNCell(2)(X), ShapeError, ["(N, C)", "f32[N,T,3]"]),
    (lambda: nn.LSTM(2)(X, placeholder("h", "f32[N,2]")), ShapeError, ["2 initial states (h, c)", "not 1"]),
    (lambda: nn.GRU(2)(X, placeholder("h", "f32[N,3]")), ShapeError, ["initial state h is f32[N,3]", "f32[N,2]"]),
    (lambda: nn.GRU(2)(placeholder("x", "i64[N,T,3]")), DTypeError, ["i64[N,T,3]"]),
    (lambda: nn.RNN(2)(X, lengths=placeholder("n", "i64[T]")), ShapeError, ["lengths are i64[T]"]),
    (lambda: nn.RNN(2)(X, lengths=placeholder("n", "bool[N]")), DTypeError, ["lengths are bool[N]"]),
    (lambda: nn.RNN(2)(X, lengths=placeholder("n", "f32[N]")), DTypeError, ["RNN: lengths are f32[N]"]),
    (lambda: nn.BidirectionalLSTM(2)(X, lengths=placeholder("n", "f32[N]")), DTypeError, ["LSTM: lengths are f32[N]"]),
    (lambda: nn.BidirectionalLSTM(2)(X, placeholder("h", "f32[N,2]")), ShapeError, ["initial states for both", "not 1"]),
    (lambda: nn.RNN(2)(placeholder("x", "f32[N,T,C]")), ShapeError, ["symbolic", "weight"]),
    (lambda: nn.LSTM(2, num_layers=2)(X, H, H), ShapeError, ["4 initial states (h, c of each of 2 layers)", "not 2"]),
    (lambda: nn.RNN(2)(X, mask=placeholder("m", "f32[N,T]")), DTypeError, ["RNN: mask is f32[N,T]", "bool"]),
    (lambda: nn.RNN(2)(X, mask=placeholder("m", "bool[T,N]")), ShapeError, ["RNN: mask is bool[T,N]", "f32[N,T,3]"]),
    (lambda: nn.RNN(2)(X, mask=placeholder("m", "bool[N,T]"), lengths=placeholder("n", "i64[N]")), ShapeError, ["give one of"]),
], ids=range(15))
def test_errors_when_called(call: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in notes(caught.value)


def test_stacked_layers_are_not_transposed_between() -> None:
    x = gnn.Input(("T", 3), name="x")
    exe = gnn.compile(gnn.Graph.of("stack", [x], [nn.LSTM(4, num_layers=3)(x)]))
    assert [node.op.name for node in exe.graph.nodes].count("transpose") == 2
