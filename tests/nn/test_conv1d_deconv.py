"""Conv1D and Deconv2D against loops over taps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import ShapeError
from tests.nn.probes import check_derivatives, check_layer, check_training

RNG = np.random.default_rng(14)


def sides(padding: Any, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return dilation * (kernel - 1), 0
    if padding in ("same", "same_size"):
        results = size if padding == "same_size" else -(-size // stride)
        total = max((results - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        return total // 2, total - total // 2
    return (padding, padding) if isinstance(padding, int) else padding


def conv1d(x: np.ndarray, w: np.ndarray, stride: int, pad: tuple[int, int], dilation: int, groups: int) -> np.ndarray:
    x = np.pad(x, ((0, 0), pad, (0, 0)))
    k, per, outs = w.shape
    steps = (x.shape[1] - dilation * (k - 1) - 1) // stride + 1
    y = np.zeros((len(x), steps, outs))
    for t in range(steps):
        for i in range(k):
            for o in range(outs):
                g = o // (outs // groups)
                y[:, t, o] += x[:, t * stride + i * dilation, g * per:(g + 1) * per] @ w[i, :, o]
    return y


CONV1D: list[dict[str, Any]] = [
    {"kernel_size": 3}, {"kernel_size": 1}, {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 2, "padding": "same", "stride": 2},
    {"kernel_size": 3, "padding": "same_size", "stride": 2}, {"kernel_size": 2, "padding": "same_size", "dilation": 3},
    {"kernel_size": 3, "padding": "causal", "dilation": 2}, {"kernel_size": 3, "padding": "causal", "stride": 2},
    {"kernel_size": 2, "padding": (0, 3), "dilation": 3}, {"kernel_size": 3, "padding": 2, "stride": 3, "groups": 2},
    {"kernel_size": 7, "padding": "valid", "bias": False}, {"kernel_size": 2, "groups": 4, "activation": "tanh"}]


@pytest.mark.parametrize("arguments", CONV1D, ids=str)
def test_conv1d(arguments: dict[str, Any]) -> None:
    groups, stride, dilation = (arguments.get(name, 1) for name in ("groups", "stride", "dilation"))

    def oracle(x: np.ndarray, weight: np.ndarray, bias: Any = 0.0) -> np.ndarray:
        pad = sides(arguments.get("padding", 0), x.shape[1], arguments["kernel_size"], stride, dilation)
        y = conv1d(x, weight, stride, pad, dilation, groups) + bias
        return np.tanh(y) if "activation" in arguments else y

    check_layer(lambda _: nn.Conv1D(8, **arguments), [RNG.normal(size=(2, 7, 4))], oracle, tolerance=5e-5)
    check_layer(lambda _: nn.Conv1D(8, **arguments), [RNG.normal(size=(1, 9, 4))], oracle, shapes=[("T", 4)], tolerance=5e-5)
    check_derivatives(nn.Conv1D(4, **arguments), [RNG.normal(size=(2, 7, 4))])


def test_size_one() -> None:
    for padding in (0, "same", "same_size", "causal"):
        check_layer(lambda _, p=padding: nn.Conv1D(1, 1, padding=p), [RNG.normal(size=(1, 1, 1))],
                    lambda x, weight, bias: x * weight + bias)


def test_causal_sees_nothing_later() -> None:
    x = gnn.Input((9, 2), name="x")
    model = gnn.Model(x, nn.Conv1D(3, 3, padding="causal", dilation=2)(x), seed=1)
    data = RNG.normal(size=(1, 9, 2)).astype(np.float32)
    later = data.copy()
    later[:, 5:] += 1
    np.testing.assert_array_equal(model.predict(data)[:, :5], model.predict(later)[:, :5])
    assert (model.predict(data)[:, 5:] != model.predict(later)[:, 5:]).all()


def four(padding: Any) -> tuple[int, int, int, int]:
    if isinstance(padding, int):
        return (padding,) * 4
    return padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def deconv(x: np.ndarray, w: np.ndarray, arguments: dict[str, Any]) -> np.ndarray:
    """Every pixel adds its multiple of the kernel; then the padding is cut off."""
    groups = arguments.get("groups", 1)
    (sh, sw), (dh, dw) = pair(arguments.get("stride", 1)), pair(arguments.get("dilation", 1))
    n, h, width, c = x.shape
    kh, kw, _, per = w.shape
    span = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    padding = arguments.get("padding", 0)
    if padding == "same":
        excess = max(span[0] - sh, 0), max(span[1] - sw, 0)
        top, left = excess[0] // 2, excess[1] // 2
        rows, columns = h * sh, width * sw
    else:
        top, bottom, left, right = four(padding)
        extra = pair(arguments.get("output_padding", 0))
        rows = (h - 1) * sh - top - bottom + span[0] + extra[0]
        columns = (width - 1) * sw - left - right + span[1] + extra[1]
    y = np.zeros((n, top + rows + span[0] + sh, left + columns + span[1] + sw, per * groups))
    for i in range(h):
        for j in range(width):
            for a in range(kh):
                for b in range(kw):
                    for g in range(groups):
                        ins = slice(g * c // groups, (g + 1) * c // groups)
                        y[:, i * sh + a * dh, j * sw + b * dw, g * per:(g + 1) * per] += x[:, i, j, ins] @ w[a, b, ins]
    return y[:, top:top + rows, left:left + columns]


DECONV: list[dict[str, Any]] = [
    {"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "padding": 1}, {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": (2, 3), "stride": (3, 2), "output_padding": (2, 1)},
    {"kernel_size": 2, "padding": (1, 2)}, {"kernel_size": 3, "dilation": 2, "padding": (0, 1, 2, 0)},
    {"kernel_size": 3, "stride": 2, "padding": "same"},
    {"kernel_size": 3, "groups": 2, "stride": 2, "bias": False}, {"kernel_size": 2, "activation": "tanh", "groups": 4}]


@pytest.mark.parametrize("arguments", DECONV, ids=str)
def test_deconv2d(arguments: dict[str, Any]) -> None:
    def oracle(x: np.ndarray, weight: np.ndarray, bias: Any = 0.0) -> np.ndarray:
        y = deconv(x, weight, arguments) + bias
        return np.tanh(y) if "activation" in arguments else y

    check_layer(lambda _: nn.Deconv2D(8, **arguments), [RNG.normal(size=(2, 4, 5, 4))], oracle, tolerance=5e-5)
    check_layer(lambda _: nn.Deconv2D(8, **arguments), [RNG.normal(size=(1, 5, 4, 4))], oracle, shapes=[("H", "W", 4)],
                tolerance=5e-5)
    check_derivatives(nn.Deconv2D(4, **arguments), [RNG.normal(size=(2, 3, 4, 4))])


def test_deconv_of_one_pixel() -> None:
    check_layer(lambda _: nn.Deconv2D(1, 3), [RNG.normal(size=(1, 1, 1, 1))],
                lambda x, weight, bias: x * weight[None, :, :, 0] + bias)


def test_deconv_is_the_transpose_of_conv() -> None:
    """<conv(x), y> = <x, deconv(y)> for one kernel."""
    x, y = RNG.normal(size=(2, 6, 5, 3)), RNG.normal(size=(2, 3, 3, 4))
    a, b = gnn.Input((6, 5, 3), name="a", dtype="f64"), gnn.Input((3, 3, 4), name="b", dtype="f64")
    forward = nn.Conv2D(4, 3, stride=2, padding=1, bias=False)(a)
    back = nn.Deconv2D(3, 3, stride=2, padding=1, output_padding=(1, 0), bias=False)(b)
    first, second = gnn.Model(a, forward, backend="numpy"), gnn.Model(b, back, backend="numpy")
    second.state["deconv2d/weight"] = first.state["conv2d/weight"].swapaxes(2, 3)
    np.testing.assert_allclose((first.predict(x) * y).sum(), (x * second.predict(y)).sum(), rtol=1e-12)


def test_three_steps_and_a_file(tmp_path: Path) -> None:
    x = RNG.normal(size=(5, 7, 3)).astype(np.float32)
    check_training(lambda v: nn.Conv1D(4, 3, padding="causal", dilation=2, activation="relu")(v), [x], tmp_path)
    images = RNG.normal(size=(5, 3, 3, 2)).astype(np.float32)
    check_training(lambda v: nn.Deconv2D(3, 3, stride=2, padding=1, output_padding=1, activation="tanh")(v), [images], tmp_path)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.Conv1D(0, 3), "Conv1D: out_channels is 0"), (lambda: nn.Conv1D(4, (3, 3)), "Conv1D: kernel_size is .3, 3."),
    (lambda: nn.Conv1D(4, 3, stride=0), "Conv1D: stride is 0"), (lambda: nn.Conv1D(4, 3, dilation=0), "Conv1D: dilation is 0"),
    (lambda: nn.Conv1D(4, 3, padding="full"), "Conv1D: padding is 'full'"),
    (lambda: nn.Conv1D(4, 3, padding=-1), "padding is -1"),
    (lambda: nn.Conv1D(4, 3, padding=(1, 2, 3)), "padding is .1, 2, 3."), (lambda: nn.Conv1D(4, 3, groups=3), "groups is 3"),
    (lambda: nn.Conv1D(4, 3)(gnn.Input((5,), name="x")), "takes sequences"),
    (lambda: nn.Conv1D(4, 9)(gnn.Input((5, 1), name="x")), "Conv1D: kernel_size is 9; .* does not fit in 5"),
    (lambda: nn.Conv1D(4, 3, groups=2)(gnn.Input((5, 3), name="x")), "must divide the 3 channels"),
    (lambda: nn.Deconv2D(-1, 3), "Deconv2D: out_channels is -1"), (lambda: nn.Deconv2D(4, 0), "Deconv2D: kernel_size is 0"),
    (lambda: nn.Deconv2D(4, 3, output_padding=1), "Deconv2D: output_padding is 1; it must be less"),
    (lambda: nn.Deconv2D(4, 3, 2, "same", 1), "padding 'same' settles"),
    (lambda: nn.Deconv2D(4, 3, padding="causal"), "padding is 'causal'"),
    (lambda: nn.Deconv2D(4, 3, groups=3), "groups is 3"),
    (lambda: nn.Deconv2D(4, 3, padding="same_size"), "padding is 'same_size'"),
    (lambda: nn.Deconv2D(4, 3, bias=1), "Deconv2D: bias is 1"), (lambda: nn.Conv1D(4, 3, bias="no"), "Conv1D: bias is 'no'"),
    (lambda: nn.Conv2D(4, 3, padding="full"), "Conv2D: padding is 'full'.*'same_size'"),
    (lambda: nn.Conv2D(4, (6, 3), padding=(0, 4))(gnn.Input((5, 5, 1), name="x")),
     r"Conv2D: kernel_size is \(6, 3\).*spans 6 does not fit in 5"),
    (lambda: nn.Conv2D(4, 3, dilation=3)(gnn.Input(("H", 5, 1), name="x")), "kernel_size is 3.*spans 7 does not fit in 5"),
    (lambda: nn.Conv2D(4, 5, padding=(1, 1, 1, 0))(gnn.Input((3, 3, 1), name="x")), "does not fit in 3 with padding 1 and 0"),
    (lambda: nn.Pool2D((2, 4))(gnn.Input((2, 3, 1), name="x")), r"Pool2D: kernel_size is \(2, 4\).*spans 4 does not fit in 3"),
    (lambda: nn.Deconv2D(4, 3)(gnn.Input((5, 1), name="x")), "takes images"),
    (lambda: nn.Deconv2D(1, 2, padding=3)(gnn.Input((3, 3, 1), name="x")), "3 x 3 becomes -2 x -2"),
    (lambda: nn.Deconv2D(1, 1, padding=(0, 4))(gnn.Input((8, 8, 1), name="x")), "leaves nothing: 8 x 8 becomes 8 x 0")])
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(gnn.GraphnnError, match=words):
        make()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("layer", "shape", "words"), [
    (nn.Conv1D(3, 4), (2, 2), "conv2d: a window that spans 4 does not fit in 2 with padding 0 and 0"),
    (nn.Conv1D(3, 4, bias=False), (3, 2), "conv2d: a window that spans 4 does not fit in 3 with padding 0 and 0"),
    (nn.Conv2D(3, 4, padding=(1, 0), activation="relu"), (5, 3, 2), "conv2d: a window that spans 4 does not fit in 3 with"),
    (nn.Deconv2D(3, 1, padding=1), (1, 3, 2), "conv2d_input_grad: the size H-2 is -1"),
    (nn.Pool2D(2), (1, 3, 2), "max_pool2d: a window that spans 2 does not fit in 1"),
], ids=str)
def test_symbolic_sizes_too_small_for_the_kernel(layer: nn.Layer, shape: tuple[int, ...], words: str, backend: str) -> None:
    """The layer is named when it runs, by both back ends alike."""
    x = gnn.Input((*"HW"[:len(shape) - 1], shape[-1]), name="x")
    model = gnn.Model(x, layer(x), backend=backend)
    with pytest.raises(ShapeError, match=words) as caught:
        model.predict(np.zeros((2, *shape)))
    assert any(type(layer).__name__.lower() in note for note in caught.value.__notes__)
    assert any("test_conv1d_deconv.py:" in note for note in caught.value.__notes__)
