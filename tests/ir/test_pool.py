"""Pooling: meaning against a loop over windows, the first-maximum rule, gradients, sizes, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import pool
from graphnn.ir.ops.inputs import placeholder


def windows(x, kernel, stride, padding):
    """(position, values in row-major order, indices) of each window of one image plane."""
    top, bottom, left, right = padding
    h, w = x.shape
    for p, q in itertools.product(range((h + top + bottom - kernel[0]) // stride[0] + 1),
                                  range((w + left + right - kernel[1]) // stride[1] + 1)):
        places = [(p * stride[0] + i - top, q * stride[1] + j - left) for i, j in itertools.product(*map(range, kernel))]
        inside = [(i, j) for i, j in places if 0 <= i < h and 0 <= j < w]
        yield (p, q), np.array([x[i, j] for i, j in inside]), inside


MAXIMUM = list(pool.MaxPool2D.samples())
AVERAGE = list(pool.AvgPool2D.samples())


@pytest.mark.parametrize("sample", MAXIMUM, ids=lambda s: str(s.op) + str(s.inputs[0].shape))
def test_maximum_gradient_and_pick_follow_the_first_maximum(sample):
    (x,), op = sample.inputs, sample.op
    attributes = (op.kernel, op.stride, op.padding)
    y = op.numpy(x)
    dy = np.random.default_rng(0).normal(size=y.shape)
    v = np.random.default_rng(1).normal(size=x.shape)
    dx, picked = pool.MaxPool2DGrad(*attributes).numpy(x, dy), pool.MaxPool2DPick(*attributes).numpy(x, v)
    expected = np.zeros_like(x)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[3])):
        for (p, q), values, places in windows(x[n, :, :, c], *attributes):
            i, j = places[np.argmax(values)]                                # NumPy's argmax is the same rule
            np.testing.assert_equal(y[n, p, q, c], x[n, i, j, c])
            assert picked[n, p, q, c] == v[n, i, j, c]
            expected[n, i, j, c] += dy[n, p, q, c]
    np.testing.assert_allclose(dx, expected, atol=1e-15)


@pytest.mark.parametrize("sample", AVERAGE, ids=lambda s: str(s.op) + str(s.inputs[0].shape))
def test_mean_and_its_gradient(sample):
    (x,), op = sample.inputs, sample.op
    y = op.numpy(x)
    assert op.numpy(x.astype(np.float32)).dtype == np.float32
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[3])):
        for (p, q), values, _ in windows(x[n, :, :, c], op.kernel, op.stride, op.padding):
            count = op.kernel[0] * op.kernel[1] if op.count_include_pad else len(values)
            np.testing.assert_allclose(y[n, p, q, c], values.sum() / count, atol=1e-14)
    dy = np.random.default_rng(0).normal(size=y.shape)
    dx = pool.AvgPool2DGrad(x.shape, op.kernel, op.stride, op.padding, op.count_include_pad).numpy(dy)
    np.testing.assert_allclose((dx * x).sum(), (dy * y).sum(), atol=1e-12)  # the adjoint of a linear map


def test_a_window_of_minus_infinities_still_has_a_first_maximum():
    x = np.full((1, 2, 2, 1), -np.inf)
    dx = pool.MaxPool2DGrad((2, 2), (2, 2), (1, 1, 1, 1)).numpy(x, np.arange(1.0, 5.0).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(dx.ravel(), [1, 2, 3, 4])                 # the padding never takes the gradient


def test_symbolic_sizes():
    x = placeholder("x", "f32[N,H,W,C]")
    assert str(pool.max_pool2d(x, 2).type) == "f32[N,H//2,W//2,C]"
    assert str(pool.max_pool2d(x, 3, stride=1, padding="same").type) == "f32[N,H,W,C]"
    assert str(pool.avg_pool2d(x, 3, stride=2, padding="same").type) == "f32[N,(H+1)//2,(W+1)//2,C]"
    y = pool.avg_pool2d(x, 3, stride=2, padding="same", count_include_pad=False)
    (out,) = interpret(Graph.of("g", [x], [y]), [np.ones((2, 5, 8, 3), np.float32)]).outputs
    np.testing.assert_array_equal(out, np.ones((2, 3, 4, 3), np.float32))


def test_gradients_are_ops_of_the_family():
    x = placeholder("x", "f64[N,H,W,C]")
    for y in (pool.max_pool2d(x, 2), pool.avg_pool2d(x, 2, padding=1)):
        (dx,) = y.node.op.grad(y.node, placeholder("dy", y.type))
        assert dx.type == x.type
        again = [g for g in dx.node.op.grad(dx.node, placeholder("d", dx.type)) if g is not None]
        assert [g.type for g in again] == [y.type]
        third = [g for g in again[0].node.op.grad(again[0].node, placeholder("e", y.type)) if g is not None]
        assert [g.type for g in third] == [x.type]


def test_errors_say_what_is_wrong():
    x = placeholder("x", "f32[N,4,4,2]")
    with pytest.raises(ShapeError, match="would hold no element"):
        pool.max_pool2d(x, 2, padding=2)
    with pytest.raises(ShapeError, match="does not fit in 4"):
        pool.max_pool2d(x, 5)
    with pytest.raises(DTypeError, match="one float dtype"):
        pool.max_pool2d(placeholder("i", "i32[N,4,4,2]"), 2)
    with pytest.raises(ShapeError, match="size is"):
        pool.avg_pool2d(x, 0)
    with pytest.raises(ShapeError, match="the pooling gives"):
        pool.MaxPool2DGrad((2, 2), (2, 2), (0, 0, 0, 0)).one(x, x)
    with pytest.raises(ShapeError, match="stride is"):                      # what a stranger's file may hold
        pool.MaxPool2D((2, 2), (0, 1), (0, 0, 0, 0)).one(x)
    with pytest.raises(ShapeError, match="padding is"):
        pool.MaxPool2D((2, 2), (1, 1), (0, 0, 0)).one(x)
