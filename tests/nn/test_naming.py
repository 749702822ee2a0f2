"""Names of layers and parameters: numbered in a network, never across networks; given names stay; shared layers share."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import VerifyError
from graphnn.nn.layer import snake_case
from tests.nn.networks import dense, notes


def names(model: gnn.Model) -> list[str]:
    return [value.name for value in model.parameters]


def test_snake_case() -> None:
    for name, expected in (("FullyConnected", "fully_connected"), ("Conv2D", "conv2d"), ("ReLU", "relu"),
                           ("SGD", "sgd"), ("CrossEntropy", "cross_entropy"), ("LSTMCell", "lstm_cell"),
                           ("BidirectionalLSTM", "bidirectional_lstm"), ("BernoulliVAE", "bernoulli_vae"), ("WGAN_GP", "wgan_gp"),
                           ("BatchNorm1D", "batch_norm1d"), ("TerminateOnNaN", "terminate_on_nan"), ("SELU", "selu"),
                           ("Pool2D", "pool2d"), ("Adam", "adam"), ("LeakyReLU", "leaky_relu")):
        assert snake_case(name) == expected


def test_layers_are_numbered_in_their_network() -> None:
    x = gnn.Input((4,), name="x")
    h = x
    for _ in range(3):
        h = nn.FullyConnected(4, bias=False)(h)
    assert names(gnn.Model(x, h)) == ["fully_connected/weight", "fully_connected_1/weight", "fully_connected_2/weight"]


def test_a_second_network_starts_again() -> None:
    assert names(dense()) == names(dense())


def test_scopes_nest_and_number_by_themselves() -> None:
    x = gnn.Input((4,), name="x")
    with gnn.scope("encoder"):
        h = nn.FullyConnected(4, bias=False)(x)
        with gnn.scope("head"):
            h = nn.FullyConnected(4, bias=False)(h)
    h = nn.FullyConnected(4, bias=False)(h)
    model = gnn.Model(x, h)
    assert names(model) == ["encoder/fully_connected/weight", "encoder/head/fully_connected/weight", "fully_connected/weight"]
    scopes = [node.loc.scope for node in model.graph.nodes]
    assert scopes == ["encoder/fully_connected", "encoder/head/fully_connected", "fully_connected"]


def test_given_names_are_kept() -> None:
    x = gnn.Input((4,), name="x")
    model = gnn.Model(x, nn.FullyConnected(2, name="head")(nn.FullyConnected(4)(x)))
    assert "head/weight" in names(model)


def test_two_layers_of_one_given_name_are_an_error_that_names_both_lines() -> None:
    x = gnn.Input((4,), name="x")
    h = nn.FullyConnected(4, name="head")(x)
    y = nn.FullyConnected(4, name="head")(h)
    with pytest.raises(VerifyError, match="two inputs are named 'head/weight'") as caught:
        gnn.Model(x, y)
    text = notes(caught.value)
    assert text.count("test_naming.py:") == 2
    assert "another name" in text


def test_a_name_left_unused_can_be_given_again() -> None:
    """As when a notebook's cell runs twice."""
    x = gnn.Input((4,), name="x")
    for _ in range(2):
        model = gnn.Model(x, nn.FullyConnected(4, name="head")(x))
        assert names(model) == ["head/weight", "head/bias"]


def test_a_layer_that_failed_leaves_its_name_free() -> None:
    x = gnn.Input((4,), name="x")
    with pytest.raises(gnn.GraphnnError):
        nn.Conv2D(4, 3)(x)
    y = gnn.Input((4, 4, 1), name="y")
    layer = nn.Conv2D(4, 3)
    with pytest.raises(gnn.GraphnnError):
        layer(x)
    layer(y)
    assert [value.name for value in layer.parameters] == ["conv2d/weight", "conv2d/bias"]


def test_a_layer_called_twice_shares_its_parameters() -> None:
    x = gnn.Input((4,), name="x")
    layer = nn.FullyConnected(4, activation="tanh")
    model = gnn.Model(x, layer(layer(x)), backend="numpy")
    assert names(model) == ["fully_connected/weight", "fully_connected/bias"]
    w, b = model.state["fully_connected/weight"], model.state["fully_connected/bias"]
    x_ = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(model.predict(x_), np.tanh(np.tanh(x_ @ w + b) @ w + b), rtol=1e-5)


def test_a_shared_layer_is_trained_by_both_uses() -> None:
    x = gnn.Input((3,), name="x", dtype="f64")
    layer = nn.FullyConnected(3, bias=False)
    model = gnn.Model(x, layer(layer(x)), backend="numpy")
    w = model.state["fully_connected/weight"]
    model.compile(nn.SGD(1.0), nn.SquaredError(reduction="sum"))
    x_ = np.random.default_rng(0).normal(size=(5, 3))
    y_ = np.zeros((5, 3))
    model.fit(x_, y_, batch_size=5, verbose=False)
    d = 2 * (x_ @ w @ w - y_)
    np.testing.assert_allclose(w - model.state["fully_connected/weight"], (x_ @ w).T @ d + x_.T @ (d @ w.T), rtol=1e-10)


def test_models_that_share_layers_and_state_share_parameters() -> None:
    x = gnn.Input((4,), name="x")
    hidden = nn.FullyConnected(3, activation="tanh")(x)
    whole = gnn.Model(x, nn.FullyConnected(2)(hidden), name="whole", backend="numpy")
    part = gnn.Model(x, hidden, name="part", state=whole.state, backend="numpy")
    x_ = np.ones((1, 4), np.float32)
    before = part.predict(x_)
    whole.compile("sgd(lr=0.5)", "squared_error")
    whole.fit(x_, np.ones((1, 2)), verbose=False)
    assert (part.predict(x_) != before).any()


def test_a_layer_shared_by_networks_takes_its_name_in_both() -> None:
    layer = nn.FullyConnected(4, bias=False)
    layer(gnn.Input((4,), name="x"))
    z = gnn.Input((4,), name="z")
    model = gnn.Model(z, nn.FullyConnected(4, bias=False)(layer(z)))
    assert names(model) == ["fully_connected/weight", "fully_connected_1/weight"]


def test_networks_that_meet_number_on() -> None:
    left, right = gnn.Input((4,), name="left"), gnn.Input((4,), name="right")
    a = nn.FullyConnected(4, bias=False)(left)
    b = nn.FullyConnected(4, bias=False, name="tower")(right)
    h = nn.FullyConnected(4, bias=False)(gnn.concat([a, b], -1))
    h = h + nn.FullyConnected(4, bias=False)(right)
    model = gnn.Model([left, right], h)
    assert set(names(model)) == {"fully_connected/weight", "tower/weight", "fully_connected_1/weight", "fully_connected_2/weight"}


def test_towers_that_name_alike_are_an_error_that_says_what_to_do() -> None:
    """Layers cannot know that their networks will meet."""
    def towers(scoped: bool) -> gnn.Model:
        inputs = [gnn.Input((4,), name="left"), gnn.Input((4,), name="right")]
        outputs: list[gnn.Value] = []
        for x in inputs:
            with gnn.scope(x.name if scoped else "tower"):
                outputs.append(nn.FullyConnected(4, bias=False)(x))
        return gnn.Model(inputs, gnn.concat(outputs, -1))

    with pytest.raises(VerifyError, match="two inputs are named 'tower/fully_connected/weight'") as caught:
        towers(scoped=False)
    assert "with gnn.scope(" in notes(caught.value)
    assert names(towers(scoped=True)) == ["left/fully_connected/weight", "right/fully_connected/weight"]


def test_networks_are_freed_with_their_values() -> None:
    x = gnn.Input((4,), name="x")
    y = nn.FullyConnected(4)(nn.FullyConnected(4)(x))
    alive = weakref.ref(x.node)
    del x, y
    gc.collect()                             # values and their nodes are cycles: the layers' first, then, freed by them, x's
    gc.collect()
    assert alive() is None


def test_a_name_that_is_none() -> None:
    for name in ("a b", "", "1st", 3):
        with pytest.raises(VerifyError, match="cannot name a layer"):
            nn.FullyConnected(4, name=name)  # type: ignore[arg-type]


def test_new_layers_on_a_loaded_model_have_other_names(tmp_path: Path) -> None:
    x = gnn.Input((4,), name="x")
    h = nn.Dropout(0.5, nn.FullyConnected(5))(nn.FullyConnected(5, "tanh")(x))
    gnn.Model(x, nn.FullyConnected(3, name="head")(h)).save(tmp_path / "base.gnn")
    base = gnn.load(tmp_path / "base.gnn")
    y = nn.FullyConnected(2)(nn.Dropout(0.5, nn.FullyConnected(4))(base.outputs[0]))
    model = gnn.Model(base.inputs, y, state=base.state, backend="numpy")
    assert [value.name for value in model.parameters if value not in base.parameters] == [
        "dropout_1/fully_connected/weight", "dropout_1/fully_connected/bias", "fully_connected_1/weight",
        "fully_connected_1/bias"]
    model.freeze(*(value.name for value in base.parameters)).compile("sgd(lr=0.1)", "squared_error")
    before = model.get_weights()
    model.fit(np.ones((6, 4)), np.ones((6, 2)), verbose=False)
    after = model.get_weights()
    new = {name for name in after if (after[name] != before[name]).any()}
    assert new == {value.name for value in model.trainable}
    model.save(tmp_path / "tuned.gnn")
    again = gnn.load(tmp_path / "tuned.gnn", backend="numpy")
    np.testing.assert_array_equal(again.predict(np.ones((1, 4))), model.predict(np.ones((1, 4))))


@dataclass(eq=False)
class Pair(nn.Layer):
    """Two dense layers, made once; a width of 3 after them fails."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.first, self.second = nn.FullyConnected(2), nn.FullyConnected(2)

    def call(self, x: gnn.Value) -> gnn.Value:
        h = self.second(self.first(x))
        if x.shape[-1] == 3:
            raise KeyError("no 3")
        return h


def test_a_call_that_failed_leaves_the_layers_inside_as_before_their_first_call() -> None:
    """Also when the error is not graphnn's: they are built for what is given next, under the same names."""
    pair = Pair()
    with pytest.raises(KeyError):
        pair(gnn.Input((3,), name="x"))
    assert (pair.parameters, pair.first.parameters, pair.second.parameters) == ([], [], [])
    x = gnn.Input((4,), name="x")
    pair(x)
    assert [p.name for p in pair.parameters][::2] == ["pair/fully_connected/weight", "pair/fully_connected_1/weight"]
    made = [*pair.parameters]
    with pytest.raises(KeyError):
        Pair(name="pair2")(gnn.Input((3,), name="y"))
    with pytest.raises(gnn.GraphnnError):
        pair(gnn.Input((5,), name="z"))
    assert pair.parameters == made
    assert [p.name for p in Pair()(x).node.inputs[1:]] == ["pair_1/fully_connected_1/bias"]


def test_parameters_made_before_an_error_in_build_are_not_kept() -> None:
    tries: list[int] = []

    class Late(nn.Layer):
        def build(self, x: gnn.TensorType) -> None:
            self.weight = self.param("weight", (3,), nn.Constant(1.0))
            tries.append(1)
            if len(tries) == 1:
                raise OSError("not yet")

        def call(self, x: gnn.Value) -> gnn.Value:
            return x * self.weight

    late, x = Late(), gnn.Input((3,), name="x")
    with pytest.raises(OSError, match="not yet"):
        late(x)
    late(x)
    assert [p.name for p in late.parameters] == ["late/weight"]
