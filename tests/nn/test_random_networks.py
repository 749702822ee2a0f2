"""Random networks of random layers: steps of training by kernels and by NumPy, and every fused body of theirs keeps its rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.ir.modes import resolve_modes
from graphnn.ir.ops.fused import Epilogue, Fused
from graphnn.passes.pipeline import DEFAULT
from graphnn.runtime.fused_layout import layout, matrix_layout

COMPILED, PLANNED = range(3), range(3, 12)                  # few: a network costs seconds of compiling
ACTIVATIONS = (None, "relu", "tanh", "hard_swish", "gelu", "elu(alpha=0.5)", "mish", "softmax")

Rng = np.random.Generator
Block = Callable[[Rng, gnn.Value], gnn.Value]


def size(rng: Rng) -> int:
    return int(rng.integers(1, 9))


def activation(rng: Rng) -> str | None:
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]


def divisor(rng: Rng, number: gnn.Value) -> int:
    channels = int(str(number.shape[-1]))
    return int(rng.choice([d for d in (1, 2, 3, 4) if channels % d == 0]))


def width(x: gnn.Value) -> int:
    return int(str(x.shape[-1]))


ANY: tuple[Block, ...] = (
    lambda rng, x: nn.FullyConnected(size(rng), activation(rng), bias=bool(rng.integers(2)))(x),
    lambda rng, x: nn.LayerNorm1D()(x),
    lambda rng, x: nn.Dropout(0.3)(x),
    lambda rng, x: nn.Dropout(0.3, nn.FullyConnected(size(rng), activation(rng)))(x),
    lambda rng, x: nn.Add(activation(rng))(x, nn.FullyConnected(width(x), "tanh")(x)),
    lambda rng, x: nn.Multiply(activation(rng))(x, nn.FullyConnected(width(x), "sigmoid")(x), nn.FullyConnected(1)(x)),
    lambda rng, x: nn.Concatenate(activation=activation(rng))(x, nn.FullyConnected(size(rng), "relu")(x)),
    lambda rng, x: nn.GELU()(x))
BLOCKS: dict[str, tuple[Block, ...]] = {
    "rows": (*ANY,
             lambda rng, x: nn.BatchNorm1D()(x),
             lambda rng, x: nn.SparseEvolution(size(rng), epsilon=2, activation=activation(rng))(x)),
    "sequences": (*ANY,
                  lambda rng, x: nn.RNN(size(rng), reverse=bool(rng.integers(2)))(x),
                  lambda rng, x: nn.LSTM(size(rng))(x),
                  lambda rng, x: nn.Bidirectional(nn.GRU(3), merge="average")(x),
                  lambda rng, x: nn.Conv1D(size(rng), 3, padding="causal", dilation=2, activation=activation(rng))(x),
                  lambda rng, x: nn.MultiHeadedAttentionModule(divisor(rng, x), causal=True, dropout_p=0.2)(x),
                  lambda rng, x: nn.WavenetResidualModule(width(x), 3, dilation=2)(x)[0]),
    "images": (*ANY,
               lambda rng, x: nn.Conv2D(size(rng), (3, 2), padding="same", stride=(1, 2), activation=activation(rng))(x),
               lambda rng, x: nn.BatchNorm2D()(x),
               lambda rng, x: nn.GroupNorm(divisor(rng, x))(x),
               lambda rng, x: nn.Pool2D(2, padding="same", mode=str(rng.choice(["max", "average"])))(x),
               lambda rng, x: nn.Deconv2D(3, 3, stride=2, padding="same")(x),
               lambda rng, x: nn.SkipConnectionIdentityModule(3, 3, 2, activation="tanh")(x),
               lambda rng, x: nn.Multiply()(x, nn.FullyConnected(width(x), "sigmoid")(nn.GlobalPool(keepdims=True)(x))))}
ENDS: dict[str, tuple[Block, ...]] = {
    "rows": (lambda rng, x: x,),
    "sequences": (lambda rng, x: nn.GRU(3, return_sequences=False)(x), lambda rng, x: gnn.max(x, 1)),
    "images": (lambda rng, x: nn.GlobalPool()(x), lambda rng, x: nn.Flatten()(x))}
SHAPES = {"rows": (5,), "sequences": ("T", 4), "images": (6, 5, 3)}


def network(seed: int, most: int = 4) -> tuple[gnn.Value, gnn.Value]:
    """(input, scores of three classes)."""
    rng = np.random.default_rng(seed)
    kind = ("rows", "sequences", "images")[seed % 3]
    if kind == "sequences" and rng.integers(2):
        x = gnn.Input(("T",), name="x", dtype="i32")
        h = nn.Embedding(9, 4, padding_idx=0, dtype="f64")(x)
    else:
        h = x = gnn.Input(SHAPES[kind], name="x", dtype="f64")
    for _ in range(int(rng.integers(2, most + 1))):
        h = BLOCKS[kind][rng.integers(len(BLOCKS[kind]))](rng, h)
    h = ENDS[kind][rng.integers(len(ENDS[kind]))](rng, h)
    for _ in range(int(rng.integers(0, 2))):
        h = BLOCKS["rows"][rng.integers(len(BLOCKS["rows"]))](rng, h)
    return x, nn.FullyConnected(3)(h)


def batch(x: gnn.Value, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    shape = [{"N": count, "T": length}.get(str(axis)) or int(str(axis)) for axis in x.shape]
    return rng.integers(0, 9, shape) if x.dtype.is_integer else rng.normal(size=shape), rng.integers(0, 3, count)


@pytest.mark.parametrize("seed", COMPILED)
def test_kernels_train_as_numpy_does(seed: int) -> None:
    models: list[gnn.Model] = []
    for backend in ("numpy", "numba"):
        x, y = network(seed, 2)
        model = gnn.Model(x, y, name="random", seed=seed, backend=backend)
        models.append(model.compile("sgd(lr=0.05, momentum=0.9, clip_global_norm=1.0)", "cross_entropy(label_smoothing=0.1)"))
    plain, compiled = models
    for count, length in ((5, 4), (2, 3), (9, 6)):
        data, classes = batch(plain.inputs[0], count, length)
        for model in models:
            model.fit(data, classes, batch_size=count, verbose=False)
        np.testing.assert_allclose(compiled.history["loss"], plain.history["loss"], rtol=1e-9)
    for name, array in plain.state.arrays().items():
        np.testing.assert_allclose(compiled.state[name], array, rtol=1e-7, atol=1e-9, err_msg=name)
    for count in (4, 1):
        data, _ = batch(plain.inputs[0], count, 5)
        np.testing.assert_allclose(compiled.predict(data), plain.predict(data), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("seed", PLANNED)
def test_all_fused_bodies_have_a_layout(seed: int) -> None:
    """In the step of training: what the passes join, kernels can be written for."""
    x, y = network(seed)
    target = gnn.Input((), name="target", dtype="i64")
    loss = nn.CrossEntropy()(y, target)
    params = gnn.Graph.of("loss", [x, target], [loss]).by_role("param")
    updates = nn.Adam().updates(params, gnn.gradients(loss, params))
    step = DEFAULT(resolve_modes(gnn.Graph.of("step", [x, target], [loss], updates=updates), True))
    for node in step.nodes:
        if isinstance(node.op, Epilogue):
            matrix_layout(node.op.body, node.op.body.inputs[0].shape)
        elif isinstance(node.op, Fused):
            layout(node.op.body)
