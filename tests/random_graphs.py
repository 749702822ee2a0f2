"""Random graphs for equivalence tests: small, seeded, from a vocabulary of bodies that keeps the number of kernels bounded.

A graph grows block by block from float values of a few shapes; some get a loss and gradients, some an optimiser's update.
Values are kept near 1, so that float64 results can be compared tightly. `random_graph(seed)` is a function of its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphnn.autodiff.gradients import gradients
from graphnn.ir.dims import dim
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops import (
    arithmetic,
    casting,
    compare,
    composed,
    functions,
    index,
    linalg,
    pool,
    reduce,
    scan,
    shaping,
    slicing,
    softmax,
)
from graphnn.ir.ops import conv as convolution
from graphnn.ir.ops.inputs import parameter, placeholder, state
from graphnn.ir.types import DType, TensorType

N = dim("N")
SIZES = {"N": 5}


@dataclass
class Maker:
    """The state of one graph's growth."""

    rng: np.random.Generator
    dtype: DType
    matrices: list[Value]           # f[N,6]: blocks take and give them
    params: list[Value]

    def matrix(self) -> Value:
        """One of the values so far; later ones more often."""
        back = int(self.rng.geometric(0.4))
        return self.matrices[max(0, len(self.matrices) - back)]

    def param(self, *shape: int) -> Value:
        value = parameter(f"p{len(self.params)}", shape, dtype=self.dtype)
        self.params.append(value)
        return value

    def pick(self, *choices: Callable[[], Value]) -> Value:
        return choices[int(self.rng.integers(len(choices)))]()


def activation(m: Maker, x: Value) -> Value:
    f = (functions.tanh, functions.sigmoid, functions.relu, composed.gelu, composed.silu, composed.softplus, functions.sin)
    return f[int(m.rng.integers(len(f)))](x)


def dense(m: Maker) -> Value:
    return activation(m, m.matrix() @ m.param(6, 6) + m.param(6))


def dense_without_bias(m: Maker) -> Value:
    return activation(m, linalg.matmul(m.matrix(), shaping.transpose(m.param(6, 6))))


def residual(m: Maker) -> Value:
    x = m.matrix()
    return x + functions.tanh(x @ m.param(6, 6) + m.matrix()) * 0.5


def two_products(m: Maker) -> Value:
    return functions.tanh(m.matrix() @ m.param(6, 6) + m.matrix() @ m.param(6, 6) + m.param(6))


def elementwise(m: Maker) -> Value:
    a, b = m.matrix(), m.matrix()
    return m.pick(lambda: a * b, lambda: a - 0.5 * b, lambda: a / (1.0 + functions.abs(b)), lambda: arithmetic.maximum(a, b),
                  lambda: arithmetic.minimum(a, 0.3), lambda: compare.where(compare.less(a, b), a * 1.5, functions.neg(b)),
                  lambda: functions.exp(functions.neg(a * a)), lambda: a + functions.neg(b), lambda: a * m.param(6))


def layer_norm(m: Maker) -> Value:
    x = m.matrix()
    centred = x - reduce.mean(x, -1, keepdims=True)
    scale = functions.rsqrt(reduce.mean(centred * centred, -1, keepdims=True) + 1e-3)
    return centred * scale * m.param(6) + m.param(6)


def batch_norm(m: Maker) -> Value:
    x = m.matrix()
    centred = x - reduce.mean(x, 0)
    return centred / functions.sqrt(reduce.mean(centred * centred, 0) + 1e-3) * m.param(6)


def soft(m: Maker) -> Value:
    x = m.matrix()
    return m.pick(lambda: softmax.softmax(x) * x, lambda: 0.2 * softmax.log_softmax(x),
                  lambda: softmax.softmax(x) @ m.param(6, 6))


def attention(m: Maker) -> Value:
    q, k, v = m.matrix(), m.matrix(), m.matrix()
    return softmax.softmax((q @ k.T) * 0.4) @ v


def pieces(m: Maker) -> Value:
    x, y = m.matrix(), m.matrix()
    return m.pick(lambda: slicing.concat([x[:, :2], y[:, 2:]], 1), lambda: slicing.concat([x[:, 4:], x[:, :4]], 1),
                  lambda: slicing.concat(slicing.split(x, 2, 1)[::-1], 1), lambda: shaping.flip(x, 1),
                  lambda: slicing.pad(x[:, 1:5], [(0, 0), (1, 1)]))


def reshaped(m: Maker) -> Value:
    x = shaping.reshape(m.matrix(), (N, 2, 3))
    y = m.pick(lambda: shaping.transpose(x, (0, 2, 1)), lambda: activation(m, x),
               lambda: x * reduce.sum(x, 2, keepdims=True), lambda: shaping.expand(reduce.max(x, 1, keepdims=True), (N, 2, 3)))
    return shaping.reshape(y, (N, 6))


def looked_up(m: Maker) -> Value:
    ids = reduce.argmax(m.matrix(), 1)
    return m.pick(lambda: index.gather(m.param(6, 6), ids), lambda: index.one_hot(ids, 6, m.dtype) * m.matrix())


def image(m: Maker) -> Value:
    x = shaping.reshape(m.matrix(), (N, 2, 3, 1))
    y = functions.relu(convolution.conv2d(x, m.param(3, 3, 1, 2), padding="same") + m.param(2))
    return shaping.reshape(reduce.mean(y, 3), (N, 6))


def pooled(m: Maker) -> Value:
    x = shaping.reshape(slicing.concat([m.matrix(), m.matrix()], 1), (N, 4, 3, 1))
    return shaping.reshape(pool.max_pool2d(x, (2, 1)), (N, 6))


def recurrent(m: Maker) -> Value:
    w, u, b = m.param(3, 3), m.param(3, 3), m.param(3)
    xs = shaping.transpose(shaping.reshape(m.matrix(), (N, 2, 3)), (1, 0, 2))                   # (T, N, 3)

    def step(h: Value, x: Value) -> tuple[Value, Value]:
        new = functions.tanh(x @ w + h @ u + b)
        return new, new * functions.sigmoid(b)

    h, ys = scan.scan(step, m.matrix()[:, :3], xs, reverse=bool(m.rng.integers(2)))
    return slicing.concat([h, ys[0]], 1)


def over_rows(m: Maker) -> Value:
    w = m.param(6, 6)

    def step(total: Value, x: Value) -> tuple[Value, Value]:
        y = shaping.reshape(functions.sigmoid(shaping.reshape(x, (1, 6)) @ w), (6,))
        return total * 0.5 + x, y + total

    _, ys = scan.scan(step, m.param(6), m.matrix())
    return ys


BLOCKS = (dense, dense, dense_without_bias, residual, two_products, elementwise, elementwise, elementwise, layer_norm, batch_norm,
          soft, attention, pieces, reshaped, looked_up, image, pooled,
          recurrent, over_rows)


def loss_of(m: Maker, labels: Value) -> Value:
    x = m.matrix()
    return m.pick(
        lambda: reduce.mean(x * x),
        lambda: functions.neg(reduce.mean(reduce.sum(softmax.log_softmax(x) * index.one_hot(labels, 6, m.dtype), -1))),
        lambda: functions.neg(reduce.mean(softmax.log_softmax(x) * index.one_hot(labels, 6, m.dtype))),
        lambda: reduce.mean(reduce.logsumexp(x, 1)) + 0.1 * reduce.sum(functions.abs(x)) / 6.0)


def adam(params: list[Value], grads: tuple[Value, ...], dtype: DType) -> list[tuple[Value, Value]]:
    step = state("step", (), dtype="i64")
    t = casting.cast(step + 1, dtype)
    updates = [(step, step + 1)]
    for p, g in zip(params, grads, strict=True):
        m, v = state(f"{p.name}/m", p.shape, dtype=dtype), state(f"{p.name}/v", p.shape, dtype=dtype)
        m2, v2 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p2 = p - 0.01 * (m2 / (1.0 - arithmetic.pow(0.9, t))) / (functions.sqrt(v2 / (1.0 - arithmetic.pow(0.99, t))) + 1e-6)
        updates += [(p, p2), (m, m2), (v, v2)]
    return updates


def random_graph(seed: int, dtype: DType = DType.f64) -> Graph:
    """The graph of this seed: some are forward only, some return gradients, some are whole training steps."""
    rng = np.random.default_rng(seed)
    x, z = (placeholder(name, TensorType(dtype, (N, 6))) for name in "xz")
    labels = placeholder("labels", "i64[N]")
    m = Maker(rng, dtype, [x, z], [])
    for _ in range(int(rng.integers(2, 7))):
        m.matrices.append(BLOCKS[int(rng.integers(len(BLOCKS)))](m))
    kind = int(rng.integers(3))
    outputs = [m.matrices[-1]] + ([m.matrix()] if rng.random() < 0.5 else [])
    if kind == 0:
        return Graph.of("forward", [x, z, labels], outputs)
    loss = loss_of(m, labels)
    wrt = [*m.params, x] if kind == 1 else m.params
    found = gradients(loss, wrt)
    if kind == 1:
        return Graph.of("backward", [x, z, labels], [loss, *found])
    return Graph.of("training", [x, z, labels], [loss], updates=adam(m.params, found, dtype))


def random_arrays(graph: Graph, seed: int, sizes: dict[str, int] | None = None) -> dict[str, np.ndarray]:
    """Arrays for the inputs of a graph; second moments are positive, ids in range."""
    rng = np.random.default_rng((seed, 1))
    arrays: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        shape = value.type.bind(sizes or SIZES).shape
        array = rng.normal(size=shape) * 0.7
        if value.dtype.is_integer:
            array = rng.integers(0, 6, shape)
        elif value.name.endswith("/v"):
            array = np.abs(array) + 0.01
        arrays[value.name] = np.asarray(array, value.dtype.numpy)
    return arrays

