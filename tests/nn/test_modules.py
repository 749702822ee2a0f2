"""Modules against their formulas in NumPy float64: residual blocks, WaveNet's, the transformer's; training, files, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.ops.inputs import placeholder
from graphnn.nn.modules.skip_connection import fitting
from tests.nn.networks import notes
from tests.nn.probes import check_training
from tests.nn.test_attention import attention
from tests.nn.test_layers import pair, sigmoid, windows

FORMS = [("numpy", "f64"), ("numba", "f32")]
RNG = np.random.default_rng(16)
Parameters = dict[str, np.ndarray]


def filled(exe: gnn.Executable) -> Parameters:
    """Random numbers for all parameters and running statistics, by their names below the module."""
    rng = np.random.default_rng(3)
    for name in exe.state.names:
        if exe.state[name].dtype.kind == "f":
            drawn = rng.normal(size=exe.state[name].shape)
            exe.state[name] = np.abs(drawn) + 0.5 if name.endswith("running_var") else drawn * 0.5
    return {name.partition("/")[2]: exe.state[name].astype(np.float64) for name in exe.state.names}


def arrays(dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.normal(size=shape).astype("float32" if dtype == "f32" else "float64") for shape in shapes]


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 2e-5 if actual.dtype == np.float32 else 1e-11
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def conv(x: np.ndarray, p: Parameters, name: str, kernel: Any, stride: Any, padding: Any) -> np.ndarray:
    return np.einsum("nhwijc,ijco->nhwo", windows(x, kernel, stride, padding, 1, 0.0), p[f"{name}/weight"]) + p[f"{name}/bias"]


def norm(x: np.ndarray, p: Parameters, name: str, training: bool) -> np.ndarray:
    mean, var = ((x.mean((0, 1, 2)), x.var((0, 1, 2))) if training else (p[f"{name}/running_mean"], p[f"{name}/running_var"]))
    return (x - mean) / np.sqrt(var + 1e-5) * p[f"{name}/weight"] + p[f"{name}/bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


# ------------------------------------------------------------------------------------------------ residual blocks

IDENTITY: list[dict[str, Any]] = [
    {"kernel_size1": 3, "kernel_size2": 3}, {"kernel_size1": (2, 4), "kernel_size2": 1, "order": "conv-activation-norm"},
    {"kernel_size1": 3, "kernel_size2": 2, "stride1": 2, "stride2": (1, 3)}]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("arguments", IDENTITY, ids=str)
def test_skip_connection_identity(arguments: dict[str, Any], backend: str, dtype: str, training: bool) -> None:
    x = gnn.Input(("H", "W", 2), name="x", dtype=dtype)
    y = nn.SkipConnectionIdentityModule(3, **arguments)(x)
    assert y.type == x.type
    exe = gnn.compile(gnn.Graph.of("skip", [x], [y]), backend=backend, training=training)
    for n, h, w in ((2, 5, 4), (2, 1, 1)):
        p = filled(exe)
        data, = arrays(dtype, (n, h, w, 2))
        a = conv(data.astype("f8"), p, "conv1", arguments["kernel_size1"], arguments.get("stride1", 1), "same_size")
        first = arguments.get("order") == "conv-activation-norm"
        a = norm(relu(a), p, "norm1", training) if first else relu(norm(a, p, "norm1", training))
        a = conv(a, p, "conv2", arguments["kernel_size2"], arguments.get("stride2", 1), "same_size")
        found = exe(data)
        close(found, relu(data + norm(a, p, "norm2", training)))


CONV: list[dict[str, Any]] = [
    {"kernel_size1": 3, "kernel_size2": 3, "kernel_size_skip": 1, "padding1": 1, "padding2": 1},
    {"kernel_size1": 3, "kernel_size2": 3, "kernel_size_skip": 1, "padding1": 1, "padding2": 1, "stride1": 2, "stride_skip": 2},
    {"kernel_size1": 3, "kernel_size2": 2, "kernel_size_skip": 4},             # the skip shrinks too; no padding
    {"kernel_size1": 2, "kernel_size2": 3, "kernel_size_skip": 5, "padding1": (0, 1, 2, 0), "order": "conv-activation-norm"},
    {"kernel_size1": 3, "kernel_size2": 3, "kernel_size_skip": 2, "padding1": "same", "padding2": "same_size"},
    {"kernel_size1": 3, "kernel_size2": 3, "kernel_size_skip": 3, "padding1": "same", "stride1": (2, 1), "padding2": "same",
     "stride_skip": (2, 1)}]


def padded_by(size: int, out: int, k: int, s: int) -> tuple[int, int]:
    """The least padding that makes `out` windows, the odd one after."""
    total = next(t for t in range(100) if size + t >= k and (size + t - k) // s + 1 == out)
    return total // 2, total - total // 2


@pytest.mark.parametrize("sizes", [(8, 7), ("H", "W")], ids=str)
@pytest.mark.parametrize("arguments", CONV, ids=str)
def test_skip_connection_conv(arguments: dict[str, Any], sizes: Any) -> None:
    symbolic = sizes[0] == "H"
    for training, (backend, dtype) in ((False, FORMS[0]), (True, FORMS[0]), (False, FORMS[1])):
        x = gnn.Input((*sizes, 2), name="x", dtype=dtype)
        exe = gnn.compile(gnn.Graph.of("skip", [x], [nn.SkipConnectionConvModule(3, 4, **arguments)(x)]), backend=backend,
                          training=training)
        for shape in ((2, 8, 7, 2), (1, 9, 6, 2)) if symbolic else ((2, 8, 7, 2),):
            p = filled(exe)
            data, = arrays(dtype, shape)
            a = conv(data.astype("f8"), p, "conv1", arguments["kernel_size1"], pair(arguments.get("stride1", 1)),
                     arguments.get("padding1", 0))
            first = arguments.get("order") == "conv-activation-norm"
            a = norm(relu(a), p, "norm1", training) if first else relu(norm(a, p, "norm1", training))
            a = norm(conv(a, p, "conv2", arguments["kernel_size2"], 1, arguments.get("padding2", 0)), p, "norm2", training)
            k, stride = arguments["kernel_size_skip"], pair(arguments.get("stride_skip", 1))
            sides = [pad for i in (0, 1) for pad in padded_by(shape[1 + i], a.shape[1 + i], k, stride[i])]
            close(exe(data), relu(norm(conv(data, p, "skip", k, stride, tuple(sides)), p, "norm_skip", training) + a))


def test_the_least_padding_that_fits() -> None:
    for size in range(1, 9):
        for k in range(1, 5):
            for s in range(1, 4):
                for out in range(1, 9):
                    possible = [t for t in range(60) if size + t >= k and (size + t - k) // s + 1 == out]
                    assert fitting(size, out, k, s) == (possible[0] if possible else None)


@pytest.mark.parametrize("make", [
    lambda: nn.SkipConnectionIdentityModule(3, 3, 3), lambda: nn.SkipConnectionConvModule(3, 2, 3, 3, 1, 1, 1),
    lambda: nn.SkipConnectionConvModule(3, 2, 3, 3, 1, 1, 1, order="conv-activation-norm", activation="tanh")], ids=range(3))
def test_residual_blocks_train_and_are_saved(make: Any, tmp_path: Path) -> None:
    images, target = arrays("f32", (6, 4, 4, 2), (6, 2))
    x = gnn.Input((4, 4, 2), name="x")
    model = gnn.Model(x, nn.FullyConnected(2)(nn.GlobalPool()(make()(x))), seed=1).compile(nn.SGD(0.05), "squared_error")
    names = [name for name in model.state.names if name.startswith("skip")]
    before = {name: model.state[name].copy() for name in names}
    losses = [model.fit(images, target, batch_size=6, verbose=False)["loss"][-1] for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    # (a convolution's bias before a batch norm has no influence, and so hardly a gradient)
    assert all((model.state[name] != array).any() for name, array in before.items()
               if not name.endswith(("conv1/bias", "conv2/bias", "skip/bias")))
    model.save(tmp_path / "m.gnn")
    assert gnn.load(tmp_path / "m.gnn").predict(images).tobytes() == model.predict(images).tobytes()


# ------------------------------------------------------------------------------------------------ WaveNet

def causal(x: np.ndarray, p: Parameters, name: str, dilation: int) -> np.ndarray:
    w = p[f"{name}/weight"]
    k = len(w)
    padded = np.pad(x, ((0, 0), (dilation * (k - 1), 0), (0, 0)))
    return sum((padded[:, i * dilation:i * dilation + x.shape[1]] @ w[i] for i in range(k)), np.zeros(())) + p[f"{name}/bias"]


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize(("kernel", "dilation", "own"), [(2, 1, None), (3, 4, None), (1, 1, 5), (2, 2, 3)])
def test_wavenet(kernel: int, dilation: int, own: int | None, backend: str, dtype: str) -> None:
    x = gnn.Input(("T", 4), name="x", dtype=dtype)
    before = gnn.Input(("T", own or 4), name="before", dtype=dtype)
    block = nn.WavenetResidualModule(4, 3, dilation, kernel, own)
    outputs = [*block(x, before), *block(x)]
    exe = gnn.compile(gnn.Graph.of("wavenet", [x, before], outputs), backend=backend)
    p = filled(exe)
    assert p["filter/weight"].shape == (kernel, 4, 3)
    for n, steps in ((2, 9), (1, 1)):
        data, skip = arrays(dtype, (n, steps, 4), (n, steps, own or 4))
        gated = np.tanh(causal(data, p, "filter", dilation)) * sigmoid(causal(data, p, "gate", dilation))
        r = causal(gated, p, "residual", 1)
        s = r if own is None else causal(gated, p, "skip", 1)
        for actual, expected in zip(exe(data, skip), (data + r, skip + s, data + r, s), strict=True):
            close(actual, expected)


def test_wavenet_blocks_see_nothing_later_and_train(tmp_path: Path) -> None:
    def stack(x: gnn.Value) -> gnn.Value:
        skip = None
        for dilation in (1, 2):
            x, skip = nn.WavenetResidualModule(2, 3, dilation, skip_channels=3)(x, skip)
        return skip + gnn.sum(x, -1, keepdims=True)

    data, = arrays("f32", (4, 6, 2))
    check_training(stack, [data], tmp_path)
    x = gnn.Input(("T", 2), name="x")
    model = gnn.Model(x, stack(x), backend="numpy")
    later = data.copy()
    later[:, 4:] += 1
    np.testing.assert_array_equal(model.predict(data)[:, :4], model.predict(later)[:, :4])


# ------------------------------------------------------------------------------------------------ transformer

def layer_norm(x: np.ndarray, p: Parameters, name: str) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p[f"{name}/weight"] + p[f"{name}/bias"]


def dense(x: np.ndarray, p: Parameters, name: str) -> np.ndarray:
    return x @ p[f"{name}/weight"] + p[f"{name}/bias"]


def encoded(x: np.ndarray, p: Parameters, heads: int, *, norm_first: bool, mask: np.ndarray | None = None,
            causal: bool = False) -> np.ndarray:
    size = x.shape[-1] // heads

    def attended(x: np.ndarray) -> np.ndarray:
        q, k, v = (dense(x, p, f"attention/{name}") for name in ("query", "key", "value"))
        parts = [slice(i * size, (i + 1) * size) for i in range(heads)]
        found = [attention(q[..., part], k[..., part], v[..., part], mask=mask, causal=causal)[0] for part in parts]
        return dense(np.concatenate(found, -1), p, "attention/output")

    def fed(x: np.ndarray) -> np.ndarray:
        return dense(relu(dense(x, p, "hidden")), p, "output")

    if norm_first:
        a = x + attended(layer_norm(x, p, "norm1"))
        return a + fed(layer_norm(a, p, "norm2"))
    a = layer_norm(x + attended(x), p, "norm1")
    return layer_norm(a + fed(a), p, "norm2")


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_block(norm_first: bool, backend: str, dtype: str) -> None:
    x, lengths = gnn.Input(("T", 6), name="x", dtype=dtype), gnn.Input((), name="lengths", dtype="i64")
    block = nn.TransformerEncoderBlock(2, 5, norm_first=norm_first)
    after = nn.TransformerEncoderBlock(3, 5, norm_first=norm_first, causal=True, name="causal")
    exe = gnn.compile(gnn.Graph.of("encode", [x, lengths], [block(x), block(x, lengths=lengths), after(x)]), backend=backend)
    filled(exe)
    p, other = ({name.removeprefix(start): exe.state[name].astype("f8") for name in exe.state.names if name.startswith(start)}
                for start in ("transformer_encoder_block/", "causal/"))
    for n, steps in ((3, 5), (1, 1)):
        data, = arrays(dtype, (n, steps, 6))
        count = np.array([5, 2, 4])[:n]
        inside = (np.arange(steps) < count[:, None])[:, None, :]
        wide = data.astype("f8")
        expected = [encoded(wide, p, 2, norm_first=norm_first), encoded(wide, p, 2, norm_first=norm_first, mask=inside),
                    encoded(wide, other, 3, norm_first=norm_first, causal=True)]
        for actual, wanted in zip(exe(data, count), expected, strict=True):
            close(actual, wanted)


def test_transformers_train_with_dropout_and_are_saved(tmp_path: Path) -> None:
    x = gnn.Input(("T", 4), name="x")
    h = nn.TransformerEncoderBlock(2, 8)(nn.TransformerEncoderBlock(2, 8, norm_first=True)(x))
    model = gnn.Model(x, nn.FullyConnected(1)(h), seed=1)
    data, = arrays("f32", (20, 5, 4))
    model.compile(nn.Adam(0.01), "squared_error")
    target = data[:, ::-1, :1].copy()
    losses = [model.fit(part, goal, batch_size=20, verbose=False)["loss"][-1] for part, goal in
              [(data, target)] * 8 + [(data[:7, :3], target[:7, :3])] + [(data, target)] * 3]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.predict(data), model.predict(data))                # no noise in evaluation
    model.save(tmp_path / "t.gnn")
    assert gnn.load(tmp_path / "t.gnn").predict(data[:, :2]).tobytes() == model.predict(data[:, :2]).tobytes()


def test_a_mask_of_ones_own() -> None:
    x, mask = gnn.Input(("T", 4), name="x", dtype="f64"), placeholder("mask", "bool[N,T,T]")
    exe = gnn.compile(gnn.Graph.of("encode", [x, mask], [nn.TransformerEncoderBlock(1, 3)(x, mask=mask)]), backend="numpy")
    p = filled(exe)
    data, = arrays("f64", (2, 4, 4))
    allowed = RNG.random((2, 4, 4)) < 0.6
    close(exe(data, allowed), encoded(data, p, 1, norm_first=False, mask=allowed))


# ------------------------------------------------------------------------------------------------ errors

IMAGE, SEQUENCE = gnn.Input((8, 8, 3), name="x"), gnn.Input(("T", 6), name="x")


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: nn.SkipConnectionIdentityModule(0, 3, 3), ShapeError, ["out_channels is 0"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, -1), ShapeError, ["kernel_size2 is -1"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3, stride2=0), ShapeError, ["stride2 is 0"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3, order="norm"), ShapeError, ["order is 'norm'", "conv-norm-activation"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3, activation="nothing"), ValueError, ["nothing"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3, eps=0), ShapeError, ["eps is 0"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3, momentum=2), ShapeError, ["momentum is 2"]),
    (lambda: nn.SkipConnectionIdentityModule(3, 3, 3)(SEQUENCE), ShapeError, ["takes images", "f32[N,T,6]"]),
    (lambda: nn.SkipConnectionConvModule(3, 0, 3, 3, 1), ShapeError, ["out_channels2 is 0"]),
    (lambda: nn.SkipConnectionConvModule(3, 3, 3, 3, 1, padding2="full"), ShapeError, ["padding2 is 'full'"]),
    (lambda: nn.SkipConnectionConvModule(3, 3, 3, 3, 1, 1, 1, stride1=2)(IMAGE), ShapeError,
     ["no padding makes 4 of 8 with kernel_size_skip 1 and stride_skip 1", "choose stride_skip"]),
    (lambda: nn.SkipConnectionConvModule(3, 3, 9, 3, 1)(IMAGE), ShapeError, ["spans 9 does not fit in 8"]),
    (lambda: nn.WavenetResidualModule(0, 3), ShapeError, ["residual_channels is 0"]),
    (lambda: nn.WavenetResidualModule(3, 3, dilation=0), ShapeError, ["dilation is 0"]),
    (lambda: nn.WavenetResidualModule(3, 3, kernel_size=-2), ShapeError, ["kernel_size is -2"]),
    (lambda: nn.WavenetResidualModule(3, 3, skip_channels=0), ShapeError, ["skip_channels is 0"]),
    (lambda: nn.WavenetResidualModule(3, 3)(SEQUENCE), ShapeError, ["(N, T, 3)", "f32[N,T,6]", "residual_channels is 3"]),
    (lambda: nn.WavenetResidualModule(6, 3, skip_channels=2)(SEQUENCE, SEQUENCE), ShapeError,
     ["the skip is f32[N,T,6]", "f32[N,T,2]"]),
    (lambda: nn.WavenetResidualModule(6, 3)(gnn.Input(("T", 6), dtype="i32")), DTypeError, ["takes real numbers"]),
    (lambda: nn.TransformerEncoderBlock(0), ShapeError, ["heads is 0"]),
    (lambda: nn.TransformerEncoderBlock(2, 0), ShapeError, ["hidden_features is 0"]),
    (lambda: nn.TransformerEncoderBlock(2, dropout_p=1), ShapeError, ["dropout_p is 1"]),
    (lambda: nn.TransformerEncoderBlock(2, norm_first="yes"), ShapeError, ["norm_first is 'yes'"]),  # type: ignore
    (lambda: nn.TransformerEncoderBlock(2, eps=-1), ShapeError, ["eps is -1"]),
    (lambda: nn.TransformerEncoderBlock(2, activation="nothing"), ValueError, ["nothing"]),
    (lambda: nn.TransformerEncoderBlock(4)(SEQUENCE), ShapeError, ["heads is 4", "f32[N,T,6]"]),
    (lambda: nn.TransformerEncoderBlock(4)(IMAGE), ShapeError, ["(N, T, C)", "f32[N,8,8,3]"]),
    (lambda: nn.TransformerEncoderBlock(3)(SEQUENCE, lengths=placeholder("n", "f32[N]")), DTypeError, ["lengths are f32[N]"]),
], ids=range(28))
def test_errors(make: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)
