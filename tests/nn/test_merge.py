"""Add, Multiply, Concatenate, and the layers of shapes against NumPy."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from tests.nn.probes import check_derivatives, check_layer, check_training

RNG = np.random.default_rng(11)
SHAPES: list[tuple[tuple[int, ...], ...]] = [((3, 5), (3, 5)), ((1, 1), (1, 1), (1, 1)), ((2, 4, 3), (2, 1, 3), (2, 4, 1)),
                                             ((5, 7),)]


def arrays(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    return [RNG.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_add_and_multiply(shapes: tuple[tuple[int, ...], ...]) -> None:
    check_layer(lambda _: nn.Add(), arrays(shapes), lambda *xs: reduce(np.add, xs))
    check_layer(lambda _: nn.Add("tanh"), arrays(shapes), lambda *xs: np.tanh(reduce(np.add, xs)))
    check_layer(lambda _: nn.Multiply(), arrays(shapes), lambda *xs: reduce(np.multiply, xs))
    check_layer(lambda _: nn.Multiply("leaky_relu(alpha=0.5)"), arrays(shapes),
                lambda *xs: (lambda p: np.where(p > 0, p, p / 2))(reduce(np.multiply, xs)))
    check_derivatives(nn.Add("tanh"), arrays(shapes))
    check_derivatives(nn.Multiply(), arrays(shapes))


def test_the_gradient_of_a_product_with_zeros_is_the_product_of_the_others() -> None:
    data = [np.array([[0.0, 2.0]]), np.array([[3.0, 0.0]]), np.array([[5.0, 7.0]])]
    xs = [gnn.Input((2,), name=f"x{i}", dtype="f64") for i in range(3)]
    grads = gnn.gradients(gnn.sum(nn.Multiply()(xs)), xs)
    exe = gnn.compile(gnn.Graph.of("g", xs, list(grads)), backend="numpy")
    for actual, expected in zip(exe(*data), ([15, 0], [0, 14], [0, 0]), strict=True):
        np.testing.assert_array_equal(actual, [expected])


@pytest.mark.parametrize(("axis", "sizes"), [(-1, (2, 1, 4)), (1, (3, 2)), (2, (5,))])
def test_concatenate(axis: int, sizes: tuple[int, ...]) -> None:
    shapes = tuple(tuple(size if i == axis % 3 else n for i, n in enumerate((3, 2, 5))) for size in sizes)
    check_layer(lambda _: nn.Concatenate(axis), arrays(shapes), lambda *xs: np.concatenate(xs, axis))
    check_layer(lambda _: nn.Concatenate(axis, "tanh"), arrays(shapes), lambda *xs: np.tanh(np.concatenate(xs, axis)))
    check_derivatives(nn.Concatenate(axis), arrays(shapes))


def test_symbolic_sizes() -> None:
    a, b = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 5, 4))
    check_layer(lambda _: nn.Concatenate(), [a, b], lambda x, y: np.concatenate([x, y], -1), shapes=[("T", 3), ("T", 4)])
    check_layer(lambda _: nn.Add(), [a, a[:, :1]], np.add, shapes=[("T", 3), (1, 3)])
    images = RNG.normal(size=(2, 3, 4, 2))
    check_layer(lambda _: nn.UpSampling2D(), [images], lambda x: x.repeat(2, 1).repeat(2, 2), shapes=[("H", "W", 2)])
    check_layer(lambda _: nn.GlobalPool(), [images], lambda x: x.mean((1, 2)), shapes=[("H", "W", 2)])


@pytest.mark.parametrize(("shape", "to", "expected"), [
    ((6,), (2, 3), (2, 3)), ((2, 6), (-1,), (12,)), ((2, 6), 12, (12,)), ((1,), (1, 1, 1), (1, 1, 1)),
    ((5, 4), (2, -1, 5), (2, 2, 5)),
    ((1,), (), ())])
def test_reshape(shape: tuple[int, ...], to: Any, expected: tuple[int, ...]) -> None:
    x = RNG.normal(size=(3, *shape))
    check_layer(lambda _: nn.Reshape(to), [x], lambda x: x.reshape(3, *expected))
    check_derivatives(nn.Reshape(to), [x])


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 1), (3, 7, 2)])
def test_global_pool(shape: tuple[int, ...]) -> None:
    x = RNG.permutation(int(np.prod(shape))).reshape(shape) * 0.1                       # no ties
    axes = tuple(range(1, len(shape) - 1))
    for keepdims in (False, True):
        check_layer(lambda _, k=keepdims: nn.GlobalPool(keepdims=k), [x], lambda x, k=keepdims: x.mean(axes, keepdims=k))
        check_layer(lambda _, k=keepdims: nn.GlobalPool("max", k), [x], lambda x, k=keepdims: x.max(axes, keepdims=k))
    check_derivatives(nn.GlobalPool(), [x])
    check_derivatives(nn.GlobalPool("max"), [x])


@pytest.mark.parametrize("scale", [1, 2, (3, 1)])
def test_up_sampling(scale: Any) -> None:
    rows, columns = (scale, scale) if isinstance(scale, int) else scale
    for shape in ((2, 3, 5, 2), (1, 1, 1, 1)):
        x = RNG.normal(size=shape)
        check_layer(lambda _: nn.UpSampling2D(scale), [x], lambda x: x.repeat(rows, 1).repeat(columns, 2))
        check_derivatives(nn.UpSampling2D(scale), [x])


def test_three_steps_and_a_file(tmp_path: Path) -> None:
    def build(a: gnn.Value, b: gnn.Value) -> gnn.Value:
        images = nn.Reshape((3, 2, 1))(nn.Multiply("tanh")([nn.FullyConnected(6)(a), b]))
        up = nn.UpSampling2D(2)(nn.Concatenate()(images, nn.Add("relu")(images, images)))
        return nn.GlobalPool("max")(nn.Conv2D(4, 2)(up))

    check_training(build, [RNG.normal(size=(5, 4)).astype(np.float32), RNG.normal(size=(5, 6)).astype(np.float32)], tmp_path)


def test_bad_arguments_and_inputs() -> None:
    for make, words in (
            (lambda: nn.Concatenate(1.5), "Concatenate: axis is 1.5"), (lambda: nn.Add("rel"), "no activation 'rel'"),  # type: ignore[arg-type]
            (lambda: nn.Reshape((2, 0)), "Reshape: shape is .2, 0."), (lambda: nn.Reshape((-1, -1)), "Reshape: shape is"),
            (lambda: nn.Reshape("ab"), "Reshape: shape is 'ab'"), (lambda: nn.GlobalPool("sum"), "GlobalPool: mode is 'sum'"),  # type: ignore[arg-type]
            (lambda: nn.UpSampling2D(0), "UpSampling2D: scale_factor is 0")):
        with pytest.raises(gnn.GraphnnError, match=words):
            make()
    x, y = gnn.Input((3,), name="x"), gnn.Input((4,), name="y")
    for call, words in ((lambda: nn.Add()(x, y), "broadcast|3"), (lambda: nn.Multiply()([]), "Multiply is called on no values"),
                        (lambda: nn.Concatenate(5)(x, y), "axis"), (lambda: nn.Reshape((2, -1))(x), "has 3 elements"),
                        (lambda: nn.GlobalPool()(x), "positions between"), (lambda: nn.UpSampling2D()(x), "takes images")):
        with pytest.raises(ShapeError, match=words):
            call()
    with pytest.raises(DTypeError):
        nn.Add()(x, gnn.Input((3,), name="i", dtype="i32"))
