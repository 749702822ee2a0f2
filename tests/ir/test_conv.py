"""Convolution: meaning against a plain loop over output elements, sizes, the two gradients, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.op import Op
from graphnn.ir.ops.conv import Conv2D, Conv2DInputGrad, Conv2DWeightGrad, conv2d, conv2d_transpose
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.verify import verify


def plain_conv(x, w, stride, padding, dilation, groups):
    top, bottom, left, right = padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw, per_group, k = w.shape
    oh = (x.shape[1] - (dilation[0] * (kh - 1) + 1)) // stride[0] + 1
    ow = (x.shape[2] - (dilation[1] * (kw - 1) + 1)) // stride[1] + 1
    y = np.zeros((x.shape[0], oh, ow, k))
    for p, q, o in itertools.product(range(oh), range(ow), range(k)):
        group = o // (k // groups)
        for i, j, c in itertools.product(range(kh), range(kw), range(per_group)):
            read = x[:, p * stride[0] + i * dilation[0], q * stride[1] + j * dilation[1], group * per_group + c]
            y[:, p, q, o] += read * w[i, j, c, o]
    return y


SAMPLES = list(Conv2D.samples())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: str(s.op) + str([x.shape for x in s.inputs]))
def test_meaning_is_the_sum_over_the_window(sample):
    x, w = sample.inputs
    op: Conv2D = sample.op
    expected = plain_conv(x, w, op.stride, op.padding, op.dilation, op.groups)
    np.testing.assert_allclose(op.numpy(x, w), expected, atol=1e-12)
    assert op.numpy(x.astype(np.float32), w.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: str([x.shape for x in s.inputs]))
def test_the_gradients_are_adjoint(sample):
    """<dy, conv(x, w)> = <input_grad(dy, w), x> = <weight_grad(x, dy), w> for every dy, as conv is linear in each operand."""
    x, w = sample.inputs
    op: Conv2D = sample.op
    y = op.numpy(x, w)
    dy = np.random.default_rng(1).normal(size=y.shape)
    attributes = (op.stride, op.padding, op.dilation, op.groups)
    dx = Conv2DInputGrad(x.shape, *attributes).numpy(dy, w)
    dw = Conv2DWeightGrad(w.shape, *attributes).numpy(x, dy)
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    np.testing.assert_allclose([(dx * x).sum(), (dw * w).sum()], (dy * y).sum(), rtol=1e-10)


def test_grad_rules_name_each_other():
    x, w = placeholder("x", "f64[N,5,6,4]"), placeholder("w", "f64[3,3,2,6]")
    y = conv2d(x, w, stride=2, padding="same", groups=2)
    dy = placeholder("dy", y.type)
    dx, dw = y.node.op.grad(y.node, dy)
    assert (dx.type, dw.type) == (x.type, w.type)
    for value, types in ((dx, (dy.type, w.type)), (dw, (x.type, dy.type))):
        again = value.node.op.grad(value.node, placeholder("d", value.type))
        assert tuple(g.type for g in again if g is not None) == types


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 8])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (2, 3, 1), (1, 3, 1), (3, 2, 2), (4, 2, 1)])
def test_same_gives_ceil_of_size_over_stride(size, kernel, stride, dilation):
    x = np.ones((1, size, size, 1))
    w = np.ones((kernel, kernel, 1, 1))
    images, weight = placeholder("x", "f64[1,H,W,1]"), placeholder("w", f"f64[{kernel},{kernel},1,1]")
    graph = Graph.of("g", [images, weight], [conv2d(images, weight, stride=stride, padding="same", dilation=dilation)])
    (out,) = interpret(graph, [x, w]).outputs
    want = -(-size // stride)
    assert out.shape == (1, want, want, 1)
    fixed = conv2d(placeholder("x", f"f64[1,{size},{size},1]"), placeholder("w", f"f64[{kernel},{kernel},1,1]"), stride=stride,
                   padding="same", dilation=dilation)
    assert fixed.shape == out.shape


def test_symbolic_sizes_stay_simple():
    x, w = placeholder("x", "f32[N,H,W,3]"), placeholder("w", "f32[3,3,3,8]")
    assert str(conv2d(x, w, padding=1).type) == "f32[N,H,W,8]"
    assert str(conv2d(x, w, padding="same").type) == "f32[N,H,W,8]"
    assert str(conv2d(x, w, padding="same", stride=2).type) == "f32[N,(H+1)//2,(W+1)//2,8]"
    assert str(conv2d(x, w).type) == "f32[N,H-2,W-2,8]"
    verify(Graph.of("g", [x, w], [conv2d(x, w, padding="same", stride=2)]))


def test_transpose_doubles_an_image():
    x, w = placeholder("x", "f64[N,H,W,5]"), placeholder("w", "f64[2,2,3,5]")
    y = conv2d_transpose(x, w, stride=2)
    assert str(y.type) == "f64[N,2*H,2*W,3]"
    assert str(conv2d_transpose(x, w, stride=2, padding="same").type) == "f64[N,2*H,2*W,3]"
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 2, 3, 5))
    (out,) = interpret(Graph.of("g", [x, w], [y]), [images, kernel]).outputs
    expected = np.einsum("nhwk,ijck->nhiwjc", images, kernel).reshape(2, 6, 8, 3)
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding", "output_padding"),
                         [(3, 2, 1, 1), (4, 2, 1, 0), (3, 1, 1, 0), (5, 3, 2, 2)])
def test_transpose_sizes(kernel, stride, padding, output_padding):
    x, w = placeholder("x", "f64[1,5,6,2]"), placeholder("w", f"f64[{kernel},{kernel},3,2]")
    y = conv2d_transpose(x, w, stride=stride, padding=padding, output_padding=output_padding)
    expected = tuple((n - 1) * stride - 2 * padding + kernel + output_padding for n in (5, 6))
    assert y.shape == (1, *expected, 3)


def test_errors_say_what_is_wrong():
    x, w = placeholder("x", "f32[N,8,8,4]"), placeholder("w", "f32[3,3,4,8]")
    with pytest.raises(ShapeError, match="has 4 channels; the weight takes 2 for each of 1"):
        conv2d(x, placeholder("w", "f32[3,3,2,8]"))
    with pytest.raises(ShapeError, match="does not fit in 8"):
        conv2d(x, w, dilation=4)
    with pytest.raises(ShapeError, match="8 output channels cannot be split into 3 groups"):
        conv2d(placeholder("x", "f32[N,8,8,6]"), placeholder("w", "f32[3,3,2,8]"), groups=3)
    with pytest.raises(ShapeError, match="four axes"):
        conv2d(placeholder("x", "f32[N,8,8]"), w)
    with pytest.raises(DTypeError, match="one float dtype"):
        conv2d(x, placeholder("w", "f64[3,3,4,8]"))
    with pytest.raises(ShapeError, match="the words are"):
        conv2d(x, w, padding="full")
    with pytest.raises(ShapeError, match="negative"):
        conv2d(x, w, padding=-1)
    with pytest.raises(ShapeError, match="stride"):
        conv2d(x, w, stride=0)
    with pytest.raises(ShapeError, match="its cotangent"):
        Conv2DInputGrad((2, 8, 8, 4), (1, 1), (0, 0, 0, 0), (1, 1), 1).one(placeholder("dy", "f32[2,8,8,8]"), w)


def test_a_symbolic_image_that_turns_out_too_small_is_refused():
    x, w = placeholder("x", "f64[N,H,W,1]"), placeholder("w", "f64[3,3,1,1]")
    graph = Graph.of("g", [x, w], [conv2d(x, w)])
    with pytest.raises(ShapeError, match="does not fit in 2"):
        interpret(graph, [np.ones((1, 2, 2, 1)), np.ones((3, 3, 1, 1))])


def test_the_family_is_registered_and_sampled():
    for op in (Conv2D, Conv2DInputGrad, Conv2DWeightGrad):
        assert Op.registry[op.name] is op
        assert len(list(op.samples())) >= 8
