"""Small networks to look at, written in IR so that nothing above it is needed."""

from __future__ import annotations

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.ir.graph import Graph, Value
from graphnn.ir.loc import scope


def zeros(shape: tuple[int, ...], dtype: object, rng: object) -> object:
    import numpy as np

    return np.zeros(shape, dtype)  # type: ignore[call-overload]


def layers() -> tuple[Value, Value]:
    """An image and ten scores for it: a convolution, a maximum, a dense layer."""
    x = ir.placeholder("image", "f32[N,8,8,1]")
    with scope("conv2d"):
        weight, bias = ir.parameter("conv2d/weight", (3, 3, 1, 4), zeros), ir.parameter("conv2d/bias", (4,), zeros)
        h = ir.relu(ir.conv2d(x, weight) + bias)
    with scope("pool2d"):
        h = ir.max_pool2d(h, 2)
    with scope("head/dense"):
        h = ir.reshape(h, (x.shape[0], 36))
        out = h @ ir.parameter("head/dense/weight", (36, 10), zeros)
    return x, out


def network() -> Graph:
    """The network alone."""
    x, out = layers()
    return Graph.of("tiny", [x], [out])


def training() -> Graph:
    """Forward, backward and update: sums of squares, plain gradient descent with a state for the rate."""
    x, out = layers()
    with scope("loss"):
        loss = ir.mean(out * out)
    params = Graph.of("tiny", [x], [out]).by_role("param")
    grads = gradients(loss, params)
    with scope("sgd"):
        rate = ir.state("sgd/lr", (), zeros)
        updates = [(p, p - rate * g) for p, g in zip(params, grads, strict=True)]
    return Graph.of("train", [x], [loss], updates=updates)
