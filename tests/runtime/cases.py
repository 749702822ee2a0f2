"""Small graphs for the tests of plans and executables: networks and their training steps, and graphs whose results are odd."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import graphnn as gnn
from graphnn import nn
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State

NUMPY = {"f32": "f4", "f64": "f8"}


def normal(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return (0.3 * rng.normal(size=shape)).astype(dtype)


def zeros(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(shape, dtype)


@dataclass(frozen=True)
class Case:
    """A graph, and arrays for its inputs by a generator and a batch size."""

    graph: Graph
    arrays: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]


def _floats(dtype: str, *shapes: tuple[int, ...]) -> Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]:
    """Arrays of these shapes; -1 stands for the batch."""
    def arrays(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        return tuple(rng.normal(size=tuple(n if s == -1 else s for s in shape)).astype(dtype) for shape in shapes)
    return arrays


def mlp_adam(dtype: str = "f32", sizes: tuple[int, ...] = (7, 19, 13, 5)) -> Case:
    """A training step: three dense layers, cross-entropy, Adam."""
    x, y = placeholder("x", f"{dtype}[N,{sizes[0]}]"), placeholder("y", "i64[N]")
    h, params = x, []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        w, bias = parameter(f"w{i}", (a, b), normal, dtype=dtype), parameter(f"b{i}", (b,), zeros, dtype=dtype)
        h = h @ w + bias
        h = gnn.tanh(h) if i < len(sizes) - 2 else h
        params += [w, bias]
    loss = -gnn.mean(gnn.sum(gnn.log_softmax(h) * gnn.one_hot(y, sizes[-1], dtype), -1))
    updates = nn.Adam(1e-2).updates(params, gnn.gradients(loss, params))

    def arrays(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        return rng.normal(size=(n, sizes[0])).astype(NUMPY[dtype]), rng.integers(0, sizes[-1], n)

    return Case(Graph.of("mlp", [x, y], [loss, gnn.softmax(h)], updates=updates), arrays)


def conv_adam() -> Case:
    """The training step of a small convolutional network, as in examples/digits.py."""
    x, y = placeholder("x", "f32[N,6,6,1]"), placeholder("y", "i64[N]")
    shapes = ((3, 3, 1, 8), (8,), (3, 3, 8, 16), (16,), (144, 10), (10,))
    k1, c1, k2, c2, w, b = params = [parameter(f"p{i}", shape, normal) for i, shape in enumerate(shapes)]
    h = gnn.relu(gnn.conv2d(x, k1, padding="same") + c1)
    h = gnn.relu(gnn.conv2d(h, k2, padding="same") + c2)
    h = gnn.reshape(gnn.max_pool2d(h, (2, 2)), (x.shape[0], 144)) @ w + b
    loss = -gnn.mean(gnn.sum(gnn.log_softmax(h) * gnn.one_hot(y, 10), -1))
    updates = nn.Adam(1e-2).updates(params, gnn.gradients(loss, params))
    return Case(Graph.of("conv", [x, y], [loss], updates=updates),
                lambda rng, n: (rng.normal(size=(n, 6, 6, 1)).astype("f4"), rng.integers(0, 10, n)))


def rnn_sgd() -> Case:
    """Backpropagation through time of a tanh network, momentum."""
    x = placeholder("x", "f32[T,N,3]")
    h0, w, u, b = (parameter(name, shape, normal) for name, shape in (("h0", (4,)), ("w", (3, 4)), ("u", (4, 4)), ("b", (4,))))
    first = gnn.expand(h0, (x.shape[1], 4))

    def step(h: Value, x: Value) -> tuple[Value, Value]:
        h = gnn.tanh(x @ w + h @ u + b)
        return h, h * h

    last, ys = gnn.scan(step, first, x)
    loss = gnn.mean(ys) + gnn.mean(last * last)
    params = [h0, w, u, b]
    updates = nn.SGD(0.1, momentum=0.9).updates(params, gnn.gradients(loss, params))
    return Case(Graph.of("rnn", [x], [loss, last, ys], updates=updates), _floats("f4", (5, -1, 3)))


def checkpointed() -> Case:
    """Two loops that share one body: segments of three steps, and the steps that are left; the body needs scratch."""
    x, w = placeholder("x", "f32[T,N,40]"), parameter("w", (40, 40), normal)

    def step(h: Value, x: Value) -> tuple[Value, Value]:
        h = gnn.tanh(0.3 * (h @ w) + gnn.softmax(0.1 * (x @ h.T)) @ h)
        return h, gnn.sum(h * x, 1)

    last, ys = gnn.scan(step, x[0], x, checkpoint=3)
    loss = gnn.mean(ys) + gnn.mean(last * last)
    (grad,) = gnn.gradients(loss, [w])
    return Case(Graph.of("checkpointed", [x], [loss, grad], updates=[(w, w - 0.1 * grad)]), _floats("f4", (8, -1, 40)))


def swapping_scan() -> Case:
    """Carries that change places at each step, one that is handed through, results that are carries and constants."""
    x, k = placeholder("x", "f32[T,N,3]"), placeholder("k", "f32[N,3]")

    def step(carry: tuple[Value, ...], x: Value) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        a, b, c, d = carry
        return (b, a, c, d + x), (a, c, k, d, x, d + x)

    last, ys = gnn.scan(step, (k, k + 1.0, k * 2.0, x[0]), x)
    back, zs = gnn.scan(step, last, x, reverse=True)
    return Case(Graph.of("swapping", [x, k], [*last, *ys, *back, *zs]), _floats("f4", (5, -1, 3), (-1, 3)))


def softmaxes() -> Case:
    x = placeholder("x", "f32[N,11]")
    return Case(Graph.of("softmax", [x], [gnn.softmax(x), gnn.log_softmax(x, 0), gnn.logsumexp(x, 1)]), _floats("f4", (-1, 11)))


def embedding() -> Case:
    """A table of rows trained by scatter-add."""
    ids, target = placeholder("ids", "i64[N,3]"), placeholder("target", "f32[N,3,6]")
    table = parameter("table", (20, 6), normal)
    found = gnn.gather(table, ids)
    loss = gnn.mean((found - target) ** 2)
    (grad,) = gnn.gradients(loss, [table])
    return Case(Graph.of("embedding", [ids, target], [loss, found], updates=[(table, table - 0.5 * grad)]),
                lambda rng, n: (rng.integers(0, 20, (n, 3)), rng.normal(size=(n, 3, 6)).astype("f4")))


def odd_results() -> Case:
    """Results that are inputs, views of inputs, constants, parameters, their views, and each twice."""
    x, w = placeholder("x", "f32[N,6]"), parameter("w", (2, 3), normal)
    c = constant(np.arange(6, dtype="f4"))
    view = gnn.reshape(x, (x.shape[0], 3, 2))
    y = gnn.exp(x)
    flat = gnn.reshape(y, (6 * x.shape[0],))
    return Case(Graph.of("odd", [x], [x, x, view, c, c, gnn.reshape(c, (2, 3)), w, gnn.reshape(w, (6,)), w, y, y, flat, y + c]),
                _floats("f4", (-1, 6)))


def old_values() -> Case:
    """States that change places, move on in a ring, take inputs and constants; the old values are results too."""
    x = placeholder("x", "f32[N,4]")
    a, b, c, d, e, f, g = (state(name, (4,), normal) for name in "abcdefg")
    count = state("count", (), zeros, dtype="i64")
    row = gnn.sum(x, 0)
    new = a + row
    updates = [(a, b), (b, a), (c, d), (d, e), (e, c), (f, row), (g, gnn.tanh(g) + new), (count, count + 1)]
    outputs = [a, b, gnn.reshape(c, (2, 2)), d, e * 1.0, f, gnn.exp(g), g, new, count, count + 1, gnn.tanh(f) * g]
    return Case(Graph.of("old", [x], outputs, updates=updates), _floats("f4", (-1, 4)))


def shared_new_value() -> Case:
    """Several states that get one and the same new value, which is a result as well; one read by a late node."""
    x = placeholder("x", "f32[N,4]")
    a, b, c, d = (state(name, (4,), normal) for name in "abcd")
    new = gnn.tanh(a + gnn.sum(x, 0))
    late = gnn.exp(new) * a + d
    return Case(Graph.of("shared", [x], [new, late, gnn.reshape(new, (2, 2))],
                         updates=[(a, new), (b, new), (c, late), (d, gnn.flip(d, 0))]), _floats("f4", (-1, 4)))


def elementwise_chain(dtype: str = "f64") -> Case:
    x, y = placeholder("x", f"{dtype}[N,9]"), placeholder("y", f"{dtype}[N,9]")
    z = gnn.tanh(x * 1.5 + y) * gnn.sigmoid(x) + x
    return Case(Graph.of("chain", [x, y], [z, gnn.sum(z, 1), gnn.max(z, 0)]), _floats(NUMPY[dtype], (-1, 9), (-1, 9)))


def normalised() -> Case:
    """Statistics over the batch that move on in the kernel that also reads their old values: a batch norm as users write it."""
    x = placeholder("x", "f32[N,6]")
    mean, scale = state("mean", (6,), normal), state("scale", (6,), normal)
    rows = state("rows", (6,), normal)
    new = 0.9 * mean + 0.1 * gnn.mean(x, 0)
    y = (x - mean) * scale + new
    seen = gnn.mean(y * y, 0)
    outputs = [y, gnn.sum(gnn.tanh(x + rows), 0), gnn.exp(x - rows)]
    return Case(Graph.of("normalised", [x], outputs,
                         updates=[(mean, new), (scale, scale * 0.5 + seen), (rows, rows + gnn.sum(gnn.tanh(x + rows), 0))]),
                _floats("f4", (-1, 6)))


def crossed() -> Case:
    """States whose next values are made by one kernel from each other's old ones, along either axis and without a sum."""
    x, y, z = (placeholder(name, text) for name, text in (("x", "f32[N,6]"), ("y", "f32[6,N]"), ("z", "f32[6]")))
    a, b, c, d, e, f = (state(name, (6,), normal) for name in "abcdef")
    s, t = gnn.sum(x, 0), gnn.sum(y, 1)
    updates = [(a, b + s), (b, a - s), (c, d * t), (d, gnn.tanh(c + t) * d), (e, f * z), (f, e - f * z)]
    return Case(Graph.of("crossed", [x, y, z], [s + t], updates=updates), _floats("f4", (-1, 6), (6, -1), (6,)))


CASES: dict[str, Callable[[], Case]] = {
    "mlp_adam": mlp_adam, "mlp_adam_f64": lambda: mlp_adam("f64"), "conv_adam": conv_adam, "rnn_sgd": rnn_sgd,
    "checkpointed": checkpointed, "swapping_scan": swapping_scan, "softmaxes": softmaxes, "embedding": embedding,
    "odd_results": odd_results, "old_values": old_values, "shared_new_value": shared_new_value,
    "normalised": normalised, "crossed": crossed, "elementwise_chain": elementwise_chain,
}


def both(case: Case, seed: int = 3) -> tuple[Executable, Executable]:
    """The graph compiled, and its oracle, each with a state of its own from the same seed."""
    return gnn.compile(case.graph, state=State(seed)), gnn.compile(case.graph, state=State(seed), backend="numpy")


def as_tuple(results: object) -> tuple[np.ndarray, ...]:
    return results if isinstance(results, tuple) else (results,)  # pyright: ignore[reportReturnType]


def bits(results: object, exe: Executable | None = None) -> list[bytes]:
    """Results, and the arrays of the state, bit for bit."""
    arrays = [*as_tuple(results), *(exe.state.arrays()[name] for name in sorted(exe.state.names))] if exe else as_tuple(results)
    return [np.ascontiguousarray(array).tobytes() for array in arrays]
