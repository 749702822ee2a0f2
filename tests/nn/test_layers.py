"""Layers against their formulas written in plain NumPy float64, and their gradients against finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import ShapeError
from graphnn.nn.activations import as_activation
from graphnn.nn.initialisers import HeUniform, calc_fan
from graphnn.nn.layers.conv import size_preserving
from tests.nn.networks import BACKENDS

RNG = np.random.default_rng(5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


ACTIVATIONS: dict[str, Any] = {"identity": lambda x: x, "relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": sigmoid,
                               "softmax": softmax}


def ran(layer: nn.Layer, x: np.ndarray, backend: str) -> tuple[np.ndarray, gnn.State]:
    """The layer's output for x, and the state with its parameters."""
    value = gnn.Input(x.shape[1:], name="x", dtype=str(gnn.TensorType.of(x).dtype))
    exe = gnn.compile(gnn.Graph.of("layer", [value], [layer(value)]), backend=backend)
    return exe(x), exe.state


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 1e-5 if actual.dtype == np.float32 else 1e-12
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def set_randomly(state: gnn.State) -> None:
    for name in state.names:
        state[name] = RNG.normal(size=state[name].shape)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name: str, backend: str) -> None:
    x = np.concatenate([RNG.normal(size=(5, 7)), [[-800, 800, 0, 1e-8, -1e-8, 30, -30]]]).astype(np.float64)
    layer = {"identity": nn.Identity, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softmax": nn.Softmax}[name]()
    with np.errstate(over="ignore"):
        close(ran(layer, x, backend)[0], ACTIVATIONS[name](x))


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_softmax_along_an_axis(axis: int) -> None:
    x = RNG.normal(size=(3, 4, 5))
    close(ran(nn.Softmax(axis), x, "numpy")[0], softmax(x, axis))


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sigmoid(), nn.Softmax(), nn.Softmax(1), nn.ReLU(), nn.Identity()], ids=repr)
def test_gradients_of_activations(layer: nn.Layer) -> None:
    x = RNG.uniform(0.1, 2, size=(3, 4, 2)) * RNG.choice([-1, 1], size=(3, 4, 2))       # away from the corner of relu
    gnn.check_gradients(layer.call, [x])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "out", "activation", "bias"), [
    ((5, 4), 3, None, True), ((1, 1), 1, "tanh", True), ((2, 3, 4), 7, "relu", False), ((3, 17), 10, "softmax", True),
    ((2, 5), 33, nn.Sigmoid(), True), ((2, 5), 3, gnn.exp, True)], ids=str)
def test_fully_connected(shape: tuple[int, ...], out: int, activation: Any, bias: bool, dtype: Any, backend: str) -> None:
    x = RNG.normal(size=shape).astype(dtype)
    layer = nn.FullyConnected(out, activation=activation, bias=bias)
    value = gnn.Input(shape[1:], name="x", dtype=str(gnn.TensorType.of(x).dtype))
    exe = gnn.compile(gnn.Graph.of("layer", [value], [layer(value)]), backend=backend)
    assert exe.state.names == (("fully_connected/weight", "fully_connected/bias") if bias else ("fully_connected/weight",))
    set_randomly(exe.state)
    f = {gnn.exp: np.exp}.get(activation) or ACTIVATIONS[activation if isinstance(activation, str) else
                                                       "identity" if activation is None else "sigmoid"]
    plain = x.astype(np.float64) @ exe.state["fully_connected/weight"].astype(np.float64)
    expected = f(plain + (exe.state["fully_connected/bias"].astype(np.float64) if bias else 0.0))
    actual = exe(x)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=2e-5 if dtype is np.float32 else 1e-12, atol=1e-6)


def test_gradients_of_fully_connected() -> None:
    def f(x: gnn.Value, w: gnn.Value, b: gnn.Value) -> gnn.Value:
        layer = nn.FullyConnected(3, activation="tanh")
        layer(x)
        layer.weight, layer.offset = w, b
        return layer(x)

    gnn.check_gradients(f, [RNG.normal(size=(2, 5, 4)), RNG.normal(size=(4, 3)), RNG.normal(size=3)])


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.FullyConnected(0), "out_features is 0"), (lambda: nn.FullyConnected(2.5), "out_features is 2.5"),  # type: ignore
    (lambda: nn.FullyConnected(2, bias=1), "FullyConnected: bias is 1"),  # type: ignore
    (lambda: nn.FullyConnected(2, "nothing"), "nothing"), (lambda: nn.FullyConnected(2, init="nothing"), "nothing"),
    (lambda: nn.FullyConnected(2)(gnn.constant(np.array(1.0))), "no axes"),
    (lambda: nn.FullyConnected(2)(gnn.Input(("C",), name="x")), "symbolic")])
def test_bad_dense_layers(make: Any, words: str) -> None:
    with pytest.raises(gnn.GraphnnError, match=words):
        make()


def pads(padding: Any, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
         dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    if padding == "valid":
        return 0, 0, 0, 0
    if padding in ("same", "same_size"):
        found: list[int] = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max(((n if padding == "same_size" else -(-n // s)) - 1) * s + d * (k - 1) + 1 - n, 0)
            found += [total // 2, total - total // 2]
        return found[0], found[1], found[2], found[3]
    if isinstance(padding, int):
        return padding, padding, padding, padding
    return padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: float) -> np.ndarray:
    """(N, H', W', kh, kw, C): every window of padded images."""
    (kh, kw), (sh, sw), (dh, dw) = pair(kernel), pair(stride), pair(dilation)
    top, bottom, left, right = pads(padding, x.shape[1:3], (kh, kw), (sh, sw), (dh, dw))
    x = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    rows = range(0, x.shape[1] - dh * (kh - 1), sh)
    columns = range(0, x.shape[2] - dw * (kw - 1), sw)
    return np.stack([np.stack([x[:, i:i + dh * (kh - 1) + 1:dh, j:j + dw * (kw - 1) + 1:dw] for j in columns], 1)
                     for i in rows], 1)


CONVOLUTIONS = [
    {"kernel_size": 3}, {"kernel_size": 1}, {"kernel_size": (2, 3), "stride": (2, 1)}, {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": "same", "stride": 2}, {"kernel_size": (4, 3), "padding": "same_size", "stride": (1, 2)},
    {"kernel_size": (3, 2), "padding": (1, 2), "dilation": 2},
    {"kernel_size": 3, "padding": (0, 1, 2, 0), "groups": 2}, {"kernel_size": 3, "padding": "same", "groups": 4, "bias": False},
    {"kernel_size": 2, "padding": "valid", "activation": "tanh"},
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments", CONVOLUTIONS, ids=str)
def test_conv2d(arguments: dict[str, Any], backend: str) -> None:
    x = RNG.normal(size=(2, 7, 6, 4)).astype(np.float32)
    layer = nn.Conv2D(8, **arguments)
    value = gnn.Input(x.shape[1:], name="x")
    exe = gnn.compile(gnn.Graph.of("layer", [value], [layer(value)]), backend=backend)
    set_randomly(exe.state)
    w = exe.state["conv2d/weight"].astype(np.float64)
    groups = arguments.get("groups", 1)
    assert w.shape == (*pair(arguments["kernel_size"]), 4 // groups, 8)
    seen = windows(x, arguments["kernel_size"], arguments.get("stride", 1), arguments.get("padding", 0),
                   arguments.get("dilation", 1), 0.0)
    per, outs = 4 // groups, 8 // groups
    parts = [np.einsum("nhwijc,ijco->nhwo", seen[..., g * per:(g + 1) * per], w[..., g * outs:(g + 1) * outs])
             for g in range(groups)]
    expected = np.concatenate(parts, -1)
    if arguments.get("bias", True):
        expected += exe.state["conv2d/bias"]
    if arguments.get("activation"):
        expected = np.tanh(expected)
    np.testing.assert_allclose(exe(x), expected, rtol=1e-4, atol=1e-5)
    assert tuple(exe(x).shape[1:]) == layer(value).shape[1:]


def test_same_size_of_symbolic_images_at_any_stride() -> None:
    """The numbers of numpy-ml: a kernel of 3 over 7 pixels by steps of 2 is padded by 4 and 4."""
    y = nn.Conv2D(4, 3, 2, padding="same_size")(gnn.Input(("H", "W", 2), name="x"))
    assert str(y.type) == "f32[N,H,W,4]"
    assert size_preserving(7, 3, 2) == (4, 4)
    assert size_preserving(7, 4, 1) == (1, 2)


@pytest.mark.parametrize("arguments", [{"kernel_size": 3, "padding": "same"},
                                       {"kernel_size": 2, "stride": 2, "groups": 2, "activation": "sigmoid"}], ids=str)
def test_gradients_of_conv2d(arguments: dict[str, Any]) -> None:
    def f(x: gnn.Value, w: gnn.Value, b: gnn.Value) -> gnn.Value:
        layer = nn.Conv2D(4, **arguments)
        layer(x)
        layer.weight, layer.offset = w, b
        return layer(x)

    k = arguments["kernel_size"]
    w = RNG.normal(size=(k, k, 2 // arguments.get("groups", 1), 4))
    gnn.check_gradients(f, [RNG.normal(size=(2, 4, 5, 2)), w, RNG.normal(size=4)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments", [
    {"kernel_size": 2}, {"kernel_size": (3, 2), "stride": 1}, {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": "same"}, {"kernel_size": 1}], ids=str)
def test_pool2d(arguments: dict[str, Any], backend: str) -> None:
    x = RNG.normal(size=(2, 7, 6, 5)).astype(np.float32)
    where = (arguments["kernel_size"], arguments.get("stride", arguments["kernel_size"]), arguments.get("padding", 0), 1)
    close(ran(nn.Pool2D(**arguments), x, backend)[0], windows(x, *where, -np.inf).max(axis=(3, 4)))
    close(ran(nn.Pool2D(mode="average", **arguments), x, backend)[0], windows(x, *where, 0.0).mean(axis=(3, 4)))
    counted = windows(np.ones_like(x), *where, 0.0).sum(axis=(3, 4))
    close(ran(nn.Pool2D(mode="average", count_include_pad=False, **arguments), x, backend)[0],
          windows(x, *where, 0.0).sum(axis=(3, 4)) / counted)


def last_window_too(x: np.ndarray, k: int, stride: int, pad: int, fill: float) -> np.ndarray:
    """windows() of images that are longer by what the last window needs, if it starts within image or left padding."""
    more: list[int] = []
    for n in x.shape[1:3]:
        count = -(-(n + 2 * pad - k) // stride) + 1
        count -= (count - 1) * stride >= n + pad
        more.append(max((count - 1) * stride + k - n - 2 * pad, 0))
    return windows(x, k, stride, (pad, pad + more[0], pad, pad + more[1]), 1, fill)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("k", "stride", "pad"), [(2, 2, 0), (2, 3, 1), (3, 2, 1), (3, 5, 0), (1, 1, 0)])
def test_pool2d_in_ceil_mode(k: int, stride: int, pad: int, symbolic: bool) -> None:
    x = RNG.normal(size=(2, 7, 6, 3))
    value = gnn.Input(("H", "W", 3) if symbolic else x.shape[1:], name="x", dtype="f64")
    layers = [nn.Pool2D(k, stride, pad, ceil_mode=True), nn.Pool2D(k, stride, pad, "average", ceil_mode=True),
              nn.Pool2D(k, stride, pad, "average", count_include_pad=False, ceil_mode=True)]
    exe = gnn.compile(gnn.Graph.of("pools", [value], [layer(value) for layer in layers]), backend="numpy")
    inside = last_window_too(np.ones_like(x), k, stride, pad, 0.0).sum(axis=(3, 4))
    padded = last_window_too(np.ones((2, 7 + 2 * pad, 6 + 2 * pad, 3)), k, stride, 0, 0.0)
    total = last_window_too(x, k, stride, pad, 0.0).sum(axis=(3, 4))
    area = padded.sum(axis=(3, 4))[:, :total.shape[1], :total.shape[2]]
    for actual, expected in zip(exe(x), (last_window_too(x, k, stride, pad, -np.inf).max(axis=(3, 4)), total / area,
                                         total / inside), strict=True):
        close(actual, expected)


def test_maximum_ignores_padding_and_the_first_of_equals_has_the_gradient() -> None:
    x = gnn.Input((2, 2, 1), name="x", dtype="f64")
    y = nn.Pool2D(2, padding=1)(x)
    exe = gnn.compile(gnn.Graph.of("pool", [x], [y]), backend="numpy")
    assert exe(np.full((1, 2, 2, 1), -3.0)).tolist() == np.full((1, 2, 2, 1), -3.0).tolist()
    (dx,) = gnn.gradients(gnn.sum(nn.Pool2D(2)(x)), [x])
    exe = gnn.compile(gnn.Graph.of("tie", [x], [dx]), backend="numpy")
    assert exe(np.array([0.0, 5.0, 5.0, 5.0]).reshape(1, 2, 2, 1)).ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("arguments", "words"), [
    ({"kernel_size": 0}, "kernel_size is 0"), ({"kernel_size": 2, "stride": -1}, "stride is -1"),
    ({"kernel_size": 2, "padding": 2}, "padding is 2; each side"),
    ({"kernel_size": (3, 2), "padding": (2, 2)}, "padding is .2, 2."),
    ({"kernel_size": 2, "mode": "median"}, "mode is 'median'"), ({"kernel_size": 2, "ceil_mode": 1}, "ceil_mode is 1"),
    ({"kernel_size": 2, "count_include_pad": None}, "count_include_pad is None")])
def test_bad_pools(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        nn.Pool2D(**arguments)


def test_a_pool_larger_than_the_image() -> None:
    with pytest.raises(ShapeError, match="spans 4 does not fit in 3"):
        nn.Pool2D(4)(gnn.Input((3, 3, 1), name="x"))


@pytest.mark.parametrize("arguments", [{"mode": "max"}, {"mode": "average"}, {"mode": "max", "ceil_mode": True},
                                       {"mode": "average", "ceil_mode": True}], ids=str)
def test_gradients_of_pool2d(arguments: dict[str, Any]) -> None:
    x = RNG.permutation(2 * 5 * 4 * 2).reshape(2, 5, 4, 2) * 0.1           # no ties, and none within the step
    gnn.check_gradients(nn.Pool2D(2, padding=1, **arguments).call, [x])


@pytest.mark.parametrize(("keep_dim", "form"), [("first", (3, -1)), ("last", None), (-1, (1, -1))])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 1, 3)])
def test_flatten(shape: tuple[int, ...], keep_dim: Any, form: Any) -> None:
    x = RNG.normal(size=(3, *shape))
    close(ran(nn.Flatten(keep_dim), x, "numpy")[0], x.reshape(form or (-1, shape[-1])))
    gnn.check_gradients(nn.Flatten(keep_dim).call, [x])


def test_flatten_of_a_symbolic_size() -> None:
    assert str(nn.Flatten()(gnn.Input(("T", 3), name="x")).type) == "f32[N,3*T]"
    assert str(nn.Flatten("last")(gnn.Input(("T", 3), name="x")).type) == "f32[N*T,3]"


@pytest.mark.parametrize("keep_dim", ["middle", 0, 1, None, True, -1.5])
def test_flatten_refuses_what_is_no_axis_to_keep(keep_dim: Any) -> None:
    with pytest.raises(ShapeError, match=f"keep_dim is {keep_dim!r}"):
        nn.Flatten(keep_dim)


def test_glorot_bounds_follow_the_fans_and_the_gain() -> None:
    assert calc_fan((3, 3, 4, 8)) == (36, 72)
    for activation, gain in ((None, 1.0), ("relu", math.sqrt(2)), (nn.ReLU(), math.sqrt(2)), ("tanh", 5 / 3), (nn.Tanh(), 5 / 3)):
        _, state = ran(nn.FullyConnected(60, activation=activation), np.zeros((1, 40), np.float32), "numpy")
        bound = gain * math.sqrt(6 / 100)
        drawn = np.abs(state["fully_connected/weight"])
        assert 0.98 * bound < drawn.max() <= bound
        assert abs(drawn.mean() - bound / 2) < 0.02 * bound
        assert not state["fully_connected/bias"].any()


def test_initialisers_by_name_and_by_function() -> None:
    for init, expected in (("zeros", 0.0), ("ones", 1.0), (lambda shape, dtype, rng: np.full(shape, 2.5), 2.5)):
        _, state = ran(nn.FullyConnected(3, init=init), np.zeros((1, 4), np.float32), "numpy")
        assert (state["fully_connected/weight"] == expected).all()
    drawn = HeUniform()((50, 20), np.dtype(np.float32), np.random.default_rng(0))
    assert 0.98 * math.sqrt(6 / 50) < np.abs(drawn).max() <= math.sqrt(6 / 50)


def test_first_values_depend_on_seed_and_name_alone() -> None:
    def weight(seed: int, name: str) -> np.ndarray:
        x = gnn.Input((4,), name="x")
        return gnn.Model(x, nn.FullyConnected(3, name=name)(x), seed=seed).state[f"{name}/weight"]

    np.testing.assert_array_equal(weight(1, "a"), weight(1, "a"))
    assert (weight(1, "a") != weight(2, "a")).all()
    assert (weight(1, "a") != weight(1, "b")).all()


def test_activations_by_name_layer_function_and_none() -> None:
    x = gnn.Input((3,), name="x")
    for given, op in (("relu", "relu"), (nn.Tanh(), "tanh"), (gnn.sigmoid, "sigmoid")):
        assert as_activation(given)(x).node.op.name == op
    assert as_activation(None)(x) is x
