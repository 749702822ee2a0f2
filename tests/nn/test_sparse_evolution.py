"""SparseEvolution against the dense layer under a mask; its first pattern, training, rewiring, files, bad arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import ir, nn
from graphnn.errors import DTypeError, GraphnnError, ShapeError, VerifyError
from graphnn.ir.ops.sparse import sorted_pattern
from graphnn.runtime import threads

RNG = np.random.default_rng(11)


def network(layer: nn.SparseEvolution, shape: tuple[Any, ...] = (6,), *, dtype: str = "f64", **options: Any) -> gnn.Model:
    x = gnn.Input(shape, name="x", dtype=dtype)
    return gnn.Model(x, layer(x), backend="numpy", **options)


# ------------------------------------------------------------------------------------------------ the layer

@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
@pytest.mark.parametrize("activation", [None, "tanh", "softmax"])
def test_it_is_the_dense_layer_under_its_mask(backend: str, shape: tuple[int, ...], activation: str | None) -> None:
    layer = nn.SparseEvolution(5, epsilon=1.1, activation=activation)
    x = gnn.Input(shape, name="x", dtype="f64")
    model = gnn.Model(x, layer(x), backend=backend, seed=3)
    model.state["sparse_evolution/bias"] = RNG.normal(size=5)
    w, b, data = layer.dense_weight(model.state), model.state["sparse_evolution/bias"], RNG.normal(size=(4, *shape))
    z = data @ w + b
    e = np.exp(z - z.max(-1, keepdims=True))
    expected = {None: z, "tanh": np.tanh(z), "softmax": e / e.sum(-1, keepdims=True)}[activation]
    np.testing.assert_allclose(model.predict(data), expected, atol=1e-12)
    np.testing.assert_array_equal(w != 0, layer.mask(model.state))
    assert layer.mask(model.state).sum() == layer.entries == round(1.1 * 11)


def test_layers_in_a_row_transpose_only_x_and_the_result_and_its_gradient() -> None:
    x = h = gnn.Input((8,), name="x")
    for _ in range(3):
        h = nn.SparseEvolution(8, epsilon=2, activation="relu")(h)
    loss = ir.mean(h * h)
    params = gnn.Graph.of("net", [x], [loss]).by_role("param")
    graph = gnn.Graph.of("train", [x], [loss, *gnn.gradients(loss, params)])
    exe = gnn.compile(graph, training=True)
    exe(np.ones((3, 8), np.float32))
    plan, _ = exe.profile(np.ones((3, 8), np.float32))
    transposes = [node for node in plan.program.graph.nodes if node.op.name == "transpose"]
    assert len(transposes) == 3, [str(node.types[0]) for node in transposes]


@pytest.mark.parametrize(("inputs", "outputs", "epsilon"), [(784, 300, 20), (7, 5, 20), (30, 40, 0.01), (1, 1, 1), (40, 30, 8)])
def test_the_first_pattern_has_exactly_the_entries_of_an_erdos_renyi_graph_on_average(inputs: int, outputs: int,
                                                                                       epsilon: float) -> None:
    layer = nn.SparseEvolution(outputs, epsilon=epsilon)
    state = network(layer, (inputs,)).state
    p = min(1.0, epsilon * (inputs + outputs) / (inputs * outputs))
    assert layer.entries == round(p * inputs * outputs)
    assert layer.density == layer.entries / (inputs * outputs)
    assert layer.mask(state).sum() == layer.entries
    pattern = state[layer.pattern.name]
    np.testing.assert_array_equal(pattern, sorted_pattern(pattern[0], pattern[1]))


def test_places_are_drawn_evenly_and_by_the_seed() -> None:
    found = []
    for seed in range(60):
        layer = nn.SparseEvolution(12, epsilon=2)
        found.append(layer.mask(network(layer, (10,), seed=seed).state))
    often = np.sum(found, 0)
    p = 2 * 22 / 120
    assert np.abs(often - 60 * p).max() < 5 * np.sqrt(60 * p * (1 - p))
    layer = nn.SparseEvolution(12, epsilon=2)
    np.testing.assert_array_equal(layer.mask(network(layer, (10,), seed=7).state), found[7])


def test_first_values_are_those_of_a_layer_with_as_many_entries_a_neuron() -> None:
    layer = nn.SparseEvolution(400, epsilon=10, init="he_uniform", activation="relu")
    state = network(layer, (600,)).state
    fan_in = round(layer.entries / 400)
    values = state[layer.weight.name]
    assert np.abs(values).max() <= np.sqrt(6 / fan_in)
    np.testing.assert_allclose(values.std(), np.sqrt(2 / fan_in), rtol=0.03)
    dense = nn.SparseEvolution(4, epsilon=100)
    assert np.abs(network(dense, (6,)).state[dense.weight.name]).max() <= np.sqrt(6 / (6 + 4))


def test_derivatives_to_order_two() -> None:
    layer = nn.SparseEvolution(4, epsilon=0.9, activation="tanh")
    model = network(layer, (3, 6))
    pattern, share, fresh, draws = (ir.constant(model.state[value.name])
                                    for value in (layer.pattern, layer.share, layer.fresh, layer.draws))

    def f(x: gnn.Value, weight: gnn.Value, offset: gnn.Value) -> gnn.Value:
        layer.pattern, layer.share, layer.fresh, layer.draws = pattern, share, fresh, draws
        layer.weight, layer.offset = weight, offset
        return layer.call(x)

    gnn.check_gradients(f, [RNG.normal(size=(2, 3, 6)), RNG.normal(size=layer.entries), RNG.normal(size=4)], order=2)


def test_the_gradient_is_the_masked_gradient_of_the_dense_layer() -> None:
    layer = nn.SparseEvolution(5, epsilon=1.1)
    x = gnn.Input((6,), name="x", dtype="f64")
    y = layer(x)
    dw, dx = gnn.gradients(ir.sum(y * y), [layer.weight, x])
    exe = gnn.compile(gnn.Graph.of("g", [x], [dw, dx]))
    data = RNG.normal(size=(9, 6))
    found, back = exe(data)
    w = layer.dense_weight(exe.state)
    dz = 2 * data @ w
    rows, columns, _ = exe.state[layer.pattern.name]
    np.testing.assert_allclose(found, (data.T @ dz)[columns, rows], atol=1e-12)
    np.testing.assert_allclose(back, dz @ w.T, atol=1e-12)


def test_a_layer_called_twice_shares_its_weights() -> None:
    layer = nn.SparseEvolution(6, epsilon=1)
    x = gnn.Input((6,), name="x", dtype="f64")
    model = gnn.Model(x, layer(layer(x)), backend="numpy")
    assert len(model.parameters) == 2
    w, data = layer.dense_weight(model.state), RNG.normal(size=(2, 6))
    np.testing.assert_allclose(model.predict(data), data @ w @ w, atol=1e-12)


# ------------------------------------------------------------------------------------------------ training and rewiring

Trained = tuple[gnn.Model, nn.SparseEvolution, np.ndarray, np.ndarray]


def trained(seed: int = 1, *, backend: str = "numba", optimizer: nn.Optimizer | None = None) -> Trained:
    rng = np.random.default_rng(2)
    x = gnn.Input((20,), name="x")
    layer = nn.SparseEvolution(30, epsilon=3, activation="relu")
    model = gnn.Model(x, nn.FullyConnected(3)(layer(x)), name="probe", seed=seed, backend=backend)
    model.compile(optimizer or nn.Adam(0.01), nn.CrossEntropy())
    data = rng.normal(size=(60, 20)).astype(np.float32)
    return model, layer, data, (data @ rng.normal(size=(20, 3))).argmax(1)


def rewired_by_hand(model: gnn.Model, layer: nn.SparseEvolution) -> tuple[set[tuple[int, int]], dict[tuple[int, int], float]]:
    """The places that must go, and the values of those that stay, by the rule as it is written."""
    rows, columns, _ = model.state[layer.pattern.name]
    places = list(zip(rows.tolist(), columns.tolist(), strict=True))
    values = model.state[layer.weight.name].tolist()
    up = sorted((v, p) for v, p in zip(values, places, strict=True) if v >= 0)
    down = sorted(((v, p) for v, p in zip(values, places, strict=True) if v < 0), reverse=True)
    gone = {p for _, p in up[:int(layer.zeta * len(up))]} | {p for _, p in down[:int(layer.zeta * len(down))]}
    return gone, {p: v for v, p in [*up, *down] if p not in gone}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_rewiring_takes_the_weakest_adds_as_many_and_resets_their_slots(backend: str) -> None:
    model, layer, data, target = trained(backend=backend)
    rewire = nn.Rewire()
    names = ("adam/m/sparse_evolution/weight", "adam/v/sparse_evolution/weight")
    for _ in range(3):
        model.fit(data, target, batch_size=20, epochs=1, verbose=False)
        gone, stay = rewired_by_hand(model, layer)
        before = {name: dict(zip(stay_places(model, layer), model.state[name].tolist(), strict=True)) for name in names}
        assert rewire(model) == len(gone)
        places = stay_places(model, layer)
        assert len(set(places)) == layer.entries
        new = [i for i, p in enumerate(places) if p not in stay]
        assert len(new) == len(gone)
        values = model.state[layer.weight.name]
        assert {p: v for p, v in zip(places, values.tolist(), strict=True) if p in stay} == stay
        assert np.isin(values[new], model.state[layer.fresh.name]).all()
        for name in names:
            after = dict(zip(places, model.state[name].tolist(), strict=True))
            assert all(after[p] == before[name][p] for p in stay)
            assert all(after[places[i]] == 0 for i in new)
            assert any(before[name].values())
    loss = model.evaluate(data, target)["loss"]
    model.fit(data, target, batch_size=20, epochs=3, verbose=False)
    assert model.evaluate(data, target)["loss"] < loss


def stay_places(model: gnn.Model, layer: nn.SparseEvolution) -> list[tuple[int, int]]:
    rows, columns, _ = model.state[layer.pattern.name]
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_both_back_ends_rewire_alike_and_runs_repeat() -> None:
    found = []
    for backend in ("numba", "numpy", "numba"):
        model, layer, data, target = trained(backend=backend, optimizer=nn.SGD(0.0))
        for _ in range(2):
            model.fit(data, target, batch_size=60, epochs=1, verbose=False)
            nn.Rewire()(model)
        found.append((model.state[layer.pattern.name], model.state[layer.weight.name]))
    for pattern, weight in found[1:]:
        np.testing.assert_array_equal(pattern, found[0][0])
        np.testing.assert_array_equal(weight, found[0][1])
    other, layer, *_ = trained(seed=2)
    nn.Rewire()(other)
    assert (other.state[layer.pattern.name] != found[0][0]).any()


def test_a_step_that_rewires_is_a_step_and_a_rewiring() -> None:
    x = gnn.Input((12,), name="x", dtype="f64")
    layer = nn.SparseEvolution(15, epsilon=1.5, zeta=0.4)
    y = layer(x)
    params = [layer.weight, layer.offset]
    assert layer.offset is not None
    optimizer = nn.SGD(0.1, momentum=0.9)
    loss = ir.mean(y * y)
    updates = optimizer.updates(params, gnn.gradients(loss, params))
    plain = gnn.compile(gnn.Graph.of("step", [x], [loss], updates=updates), seed=4)
    both = gnn.compile(gnn.Graph.of("step", [x], [loss], updates=nn.rewired(layer, updates)), seed=4)
    apart = gnn.compile(nn.rewiring(gnn.Graph.of("net", [x], [y]), plain.state), state=plain.state)
    data = RNG.normal(size=(8, 12))
    draws = plain.state[layer.draws.name]
    for step in range(3):
        np.testing.assert_allclose(plain(data), both(data), rtol=1e-12)
        plain.state[layer.draws.name] = draws + step        # the step of a rewiring within is the one before the update
        apart()
        plain.state[layer.draws.name] = draws + step + 1
        for name in plain.state.names:
            np.testing.assert_allclose(both.state[name], plain.state[name], atol=1e-14, err_msg=name)


def test_a_frozen_layer_is_not_rewired() -> None:
    model, layer, *_ = trained()
    model.freeze("sparse_evolution")
    before = model.state[layer.pattern.name]
    rewire = nn.Rewire()
    assert rewire(model) == 0
    np.testing.assert_array_equal(model.state[layer.pattern.name], before)
    model.unfreeze("sparse_evolution")
    assert rewire(model) > 0


def test_zeta_is_a_state_and_0_rewires_nothing() -> None:
    model, layer, *_ = trained()
    model.state["sparse_evolution/zeta"] = 0.0
    before = model.state.arrays()
    assert nn.Rewire()(model) == 0
    for name, array in before.items():
        np.testing.assert_array_equal(model.state[name], array)
    model.state["sparse_evolution/zeta"] = 1.0
    assert nn.Rewire()(model) == layer.entries


def test_the_slots_of_a_layer_whose_name_ends_like_another_are_its_own() -> None:
    x = gnn.Input((5,), name="x")
    inner = nn.SparseEvolution(5, epsilon=1, name="a")
    outer = nn.SparseEvolution(5, epsilon=1, name="b/a")
    y = outer(inner(x))
    model = gnn.Model(x, y, backend="numpy")
    model.compile(nn.SGD(0.1, momentum=0.9), nn.SquaredError())
    graph = nn.rewiring(model.graph, model.state)
    assert {state.name for state, _ in graph.updates} == {
        f"{name}/{label}" for name in ("a", "b/a") for label in ("weight", "pattern")} | {
        "sgd/velocity/a/weight", "sgd/velocity/b/a/weight"}


def test_a_loaded_model_predicts_and_is_rewired_as_the_one_that_was_saved(tmp_path: Path) -> None:
    model, _, data, target = trained()
    model.fit(data, target, batch_size=20, epochs=2, verbose=False)
    nn.Rewire()(model)
    model.save(tmp_path / "sparse.gnn")
    loaded = gnn.load(tmp_path / "sparse.gnn")
    np.testing.assert_array_equal(loaded.predict(data), model.predict(data))
    for m in (model, loaded):
        nn.Rewire()(m)
        m.fit(data, target, batch_size=20, epochs=1, verbose=False)
        nn.Rewire()(m)
    for name in model.state.names:
        np.testing.assert_array_equal(loaded.state[name], model.state[name], err_msg=name)


def test_fit_rewires_between_epochs_and_goes_on_after_a_stop_as_without_one(tmp_path: Path) -> None:
    model, layer, data, target = trained()
    patterns = [model.state[layer.pattern.name]]

    def look(m: gnn.Model, epoch: int, numbers: object) -> None:
        patterns.append(m.state[layer.pattern.name])

    model.fit(data, target, batch_size=20, epochs=2, verbose=False, callbacks=[nn.Rewire(), look])
    model.save(tmp_path / "half.gnn")
    model.fit(data, target, batch_size=20, epochs=2, verbose=False, callbacks=[nn.Rewire(), look])
    assert (patterns[1] == patterns[0]).all()               # nothing before the first epoch
    assert all((a != b).any() for a, b in itertools.pairwise(patterns[1:]))
    loaded = gnn.load(tmp_path / "half.gnn")
    loaded.fit(data, target, batch_size=20, epochs=2, verbose=False, callbacks="rewire(every=1)")
    for name in model.state.names:
        np.testing.assert_array_equal(loaded.state[name], model.state[name], err_msg=name)


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    yield
    threads.set_threads(None)


@pytest.mark.usefixtures("_threads_as_before")
def test_more_threads_change_no_bit() -> None:
    found = []
    x = gnn.Input((300,), name="x")
    y = nn.SparseEvolution(200, epsilon=40)(x)
    params = gnn.Graph.of("net", [x], [y]).by_role("param")
    loss = ir.mean(y * y)
    graph = gnn.Graph.of("step", [x], [loss, *gnn.gradients(loss, [x, *params])])
    data = RNG.normal(size=(200, 300)).astype(np.float32)
    for count in (1, 2, 3):
        threads.set_threads(count)
        found.append(gnn.compile(graph)(data))
    for results in found[1:]:
        for a, b in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------ bad arguments

@pytest.mark.parametrize(("arguments", "message"), [
    ({"out_features": 0}, "out_features is 0"),
    ({"out_features": 3, "zeta": 1.5}, "zeta is 1.5"),
    ({"out_features": 3, "zeta": -0.1}, "zeta is -0.1"),
    ({"out_features": 3, "epsilon": 0}, "epsilon is 0"),
    ({"out_features": 3, "epsilon": float("nan")}, "epsilon is nan"),
    ({"out_features": 3, "bias": 1}, "bias is 1"),
    ({"out_features": 3, "init": "nothing"}, "no initialiser 'nothing'"),
    ({"out_features": 3, "activation": "nothing"}, "no activation 'nothing'"),
])
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphnnError, match=message):
        nn.SparseEvolution(**arguments)


def test_inputs_are_checked() -> None:
    with pytest.raises(DTypeError, match="real numbers"):
        nn.SparseEvolution(3)(gnn.Input((4,), name="x", dtype="i32"))
    with pytest.raises(ShapeError, match=r"at epsilon 0\.001 none of 12 weights exists"):
        nn.SparseEvolution(3, epsilon=0.001)(gnn.Input((4,), name="x"))
    with pytest.raises(ShapeError, match="last axis"):
        nn.SparseEvolution(3)(gnn.Input(("T",), name="x"))
    with pytest.raises(ShapeError, match="every is 0"):
        nn.Rewire(0)
    x = gnn.Input((4,), name="x")
    with pytest.raises(VerifyError, match="no sparse weights"):
        nn.Rewire()(gnn.Model(x, nn.FullyConnected(2)(x), backend="numpy"))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_step_that_fails_in_the_backward_leaves_the_state_as_it_was(backend: str) -> None:
    x = h = gnn.Input((8,), name="x")
    layers = [nn.SparseEvolution(8, epsilon=2) for _ in range(3)]
    for layer in layers:
        h = layer(h)
    model = gnn.Model(x, h, backend=backend)
    model.compile(nn.Adam(), nn.SquaredError())
    pattern = model.state[layers[1].pattern.name]
    pattern[2, 0] = -1                                      # only the product with the transpose reads it
    model.state[layers[1].pattern.name] = pattern
    before, data = model.state.arrays(), np.ones((4, 8), np.float32)
    model.predict(data)
    with pytest.raises(GraphnnError, match="pattern"):
        model.fit(data, data, verbose=False)
    for name, array in before.items():
        np.testing.assert_array_equal(model.state[name], array, err_msg=name)


def test_a_damaged_pattern_in_the_state_is_an_error_that_names_the_layer() -> None:
    model, layer, data, _ = trained()
    pattern = model.state[layer.pattern.name]
    pattern[1, 3] = 20
    model.state[layer.pattern.name] = pattern
    with pytest.raises(GraphnnError, match="pattern") as caught:
        model.predict(data)
    assert any("sparse_evolution" in note for note in caught.value.__notes__)
