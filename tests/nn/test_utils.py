"""Utilities on arrays: padding and sizes against counting, im2col and col2im as adjoints, convolutions against their loops, the
compiled layers and sums written out; minibatch and first values."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, GraphnnError, ShapeError
from graphnn.nn import utils
from graphnn.nn.initialisers import as_initialiser

RNG = np.random.default_rng(11)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counted(size: int, before: int, after: int, k: int, stride: int, dilation: int) -> int:
    """How many windows fit, by laying them."""
    starts = range(-before, size + after, stride)
    return sum(1 for start in starts if start + dilation * (k - 1) < size + after)


# ------------------------------------------------------------------------------------------------ padding and sizes

GRID = list(itertools.product((1, 2, 7, 10), (1, 2, 3, 4), (1, 2, 3), (1, 2, 3)))


def test_same_and_causal_padding_have_as_many_results_as_they_promise() -> None:
    for size, k, stride, dilation in GRID:
        x = RNG.normal(size=(2, size, 3))
        for padding, wanted in (("same", -(-size // stride)), ("same_size", size)):
            padded, (left, right) = utils.pad1D(x, padding, k, stride, dilation)
            assert counted(size, left, right, k, stride, dilation) == wanted
            assert 0 <= right - left <= 1
            np.testing.assert_array_equal(padded[:, left:left + size], x)
            assert padded.shape == (2, left + size + right, 3)
            assert not padded[:, :left].any()
            assert not padded[:, left + size:].any()
        _, pads = utils.pad1D(x, "causal", k, stride, dilation)
        assert pads == (dilation * (k - 1), 0)
        assert counted(size, *pads, k, stride, dilation) == -(-size // stride)


def test_same_padding_is_the_least_there_is() -> None:
    for size, k, stride, dilation in GRID:
        _, (left, right) = utils.pad1D(np.zeros((1, size, 1)), "same", k, stride, dilation)
        assert left + right == 0 or counted(size, left, right - 1, k, stride, dilation) < -(-size // stride)


def test_pad_dims_make_the_results_asked_for() -> None:
    for (size, k, stride, dilation), count in itertools.product(GRID, (1, 3, 7)):
        span = dilation * (k - 1) + 1
        without = counted(size, 0, 0, k, stride, dilation)
        if without > count:
            with pytest.raises(ShapeError, match=f"{count} results would need"):
                utils.calc_pad_dims_1D((2, size, 3), count, k, stride, dilation)
            continue
        left, right = utils.calc_pad_dims_1D((2, size, 3), count, k, stride, dilation)
        assert counted(size, left, right, k, stride, dilation) == count
        assert left + right == max(0, stride * (count - 1) + span - size)
        assert 0 <= right - left <= 1
        assert utils.calc_pad_dims_1D((2, size, 3), count, k, stride, dilation, causal=True) == (left + right, 0)
        other = utils.calc_pad_dims_2D((2, size, 9, 3), (count, 9), (k, 4), (stride, 1), (dilation, 1))
        assert other == (left, right, 1, 2)


def test_pad_dims_of_numpy_ml() -> None:
    """Its dilation counts zeros: one less than ours."""
    assert utils.calc_pad_dims_2D((1, 7, 7, 1), (7, 7), (4, 4), 1) == (1, 2, 1, 2)
    assert utils.calc_pad_dims_2D((1, 7, 7, 1), (7, 7), (3, 3), 2) == (4, 4, 4, 4)
    assert utils.pad2D(np.zeros((1, 7, 7, 1)), "same_size", 3, 2)[1] == (4, 4, 4, 4)
    assert utils.pad2D(np.zeros((1, 7, 7, 1)), "same", 3, 2)[1] == (1, 1, 1, 1)
    for zeros, span in ((0, 3), (1, 5), (2, 7)):
        assert utils.calc_pad_dims_1D((1, 9, 1), 9, 3, dilation=zeros + 1, causal=True) == (span - 1, 0)


@pytest.mark.parametrize(("padding", "expected"), [
    (2, (2, 2, 2, 2)), (np.int64(2), (2, 2, 2, 2)), ((1, 2), (1, 1, 2, 2)), ([1, 2], (1, 1, 2, 2)), (np.array([1, 2]),
    (1, 1, 2, 2)),
    ((1, 2, 3, 4), (1, 2, 3, 4)), ([0, 0, 0, 1], (0, 0, 0, 1)), ("valid", (0, 0, 0, 0)), (0, (0, 0, 0, 0))], ids=str)
def test_paddings_of_images(padding: Any, expected: tuple[int, ...]) -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    padded, pads = utils.pad2D(x, padding)
    top, bottom, left, right = expected
    assert pads == expected
    assert all(type(pad) is int for pad in pads)
    assert padded.shape == (2, top + 3 + bottom, left + 4 + right, 5)
    np.testing.assert_array_equal(padded[:, top:top + 3, left:left + 4], x)
    assert math.isclose(np.abs(padded).sum(), np.abs(x).sum())


@pytest.mark.parametrize(("padding", "expected"), [
    (2, (2, 2)), ((1, 2), (1, 2)), ([0, 3], (0, 3)), (np.array([1, 2]), (1, 2)), ("valid", (0, 0))], ids=str)
def test_paddings_of_sequences(padding: Any, expected: tuple[int, int]) -> None:
    x = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    padded, pads = utils.pad1D(x, padding)
    assert pads == expected
    assert (padded.dtype, padded.shape) == (np.float32, (2, 3 + sum(expected), 5))
    np.testing.assert_array_equal(padded[:, expected[0]:expected[0] + 3], x)


def test_out_dims_count_the_windows() -> None:
    for (size, k, stride, dilation), padding in itertools.product(GRID, (0, 1, (2, 0), "valid", "same", "same_size", "causal")):
        _, pads = utils.pad1D(np.zeros((2, size, 3)), padding, k, stride, dilation)
        count = counted(size, *pads, k, stride, dilation)
        if not count:
            with pytest.raises(ShapeError, match="reaches over"):
                utils.calc_conv_out_dims((2, size, 3), (k, 3, 4), stride, padding, dilation)
            continue
        assert utils.calc_conv_out_dims((2, size, 3), (k, 3, 4), stride, padding, dilation) == (2, count, 4)
        if padding not in ((2, 0), "causal"):
            sizes = utils.calc_conv_out_dims((2, size, 20, 3), (k, 2, 3, 4), (stride, 1), padding, (dilation, 1))
            assert sizes[:2] + sizes[3:] == (2, count, 4)


def test_out_dims_cost_no_memory() -> None:
    huge = 2 ** 40
    assert utils.calc_conv_out_dims((huge, huge, huge, 3), (3, 3, 3, 8), 2, "same") == (huge, huge // 2, huge // 2, 8)
    assert utils.calc_conv_out_dims([0, 5, 3], [2, 3, 4]) == (0, 4, 4)


@pytest.mark.parametrize("d", [0, 1, 2, (1, 0), (0, 3)])
def test_dilate(d: Any) -> None:
    rows, columns = (d, d) if isinstance(d, int) else d
    for shape in ((2, 3, 4, 2), (1, 1, 1, 1), (2, 0, 3, 1), (0, 2, 2, 1)):
        x = RNG.normal(size=shape)
        y = utils.dilate(x, d)
        assert y.shape == (shape[0], *(max(0, n + zeros * (n - 1)) for n, zeros in zip(shape[1:3], (rows, columns), strict=True)),
                           shape[3])
        np.testing.assert_array_equal(y[:, ::rows + 1, ::columns + 1], x)
        assert np.count_nonzero(y) == np.count_nonzero(x)
    weight = RNG.normal(size=(3, 2, 2, 4))
    kernel = utils.dilate(weight.transpose(2, 0, 1, 3), d).transpose(1, 2, 0, 3)
    x = RNG.normal(size=(2, 9, 9, 2))
    np.testing.assert_allclose(utils.conv2D(x, kernel), utils.conv2D(x, weight, dilation=(rows + 1, columns + 1)), atol=1e-12)


# ------------------------------------------------------------------------------------------------ windows and convolutions

def cases(count: int) -> list[tuple[Any, ...]]:
    """Random (x, weight, stride, padding, dilation) whose kernel fits."""
    draw, found = np.random.default_rng(7), []
    paddings: list[Any] = [0, 1, (2, 1), (1, 0, 2, 3), "valid", "same", "same_size"]
    while len(found) < count:
        n, h, w, c, o, kh, kw = (int(draw.integers(1, high)) for high in (4, 9, 9, 4, 4, 5, 5))
        stride, dilation = (tuple(int(v) for v in draw.integers(1, 4, 2)) for _ in range(2))
        padding = paddings[len(found) % len(paddings)]
        x, weight = draw.normal(size=(n, h, w, c)), draw.normal(size=(kh, kw, c, o))
        try:
            utils.calc_conv_out_dims(x.shape, weight.shape, stride, padding, dilation)
        except ShapeError:
            continue
        found.append((x, weight, stride, padding, dilation))
    return found


CASES = cases(70)


def test_conv2d_is_its_loops() -> None:
    for x, weight, stride, padding, dilation in CASES:
        expected = utils.conv2D_naive(x, weight, stride, padding, dilation)
        assert expected.shape == utils.calc_conv_out_dims(x.shape, weight.shape, stride, padding, dilation)
        actual = utils.conv2D(x, weight, stride, padding, dilation)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
        assert actual.flags.c_contiguous


def test_conv2d_by_the_definition() -> None:
    """Every tap of every result, where x is read by index and 0 outside."""
    for x, weight, stride, padding, dilation in CASES[:14]:
        y = utils.conv2D_naive(x, weight, stride, padding, dilation)
        top, _, left, _ = utils.pad2D(x, padding, weight.shape[:2], stride, dilation)[1]
        for n, r, c, o in itertools.product(*map(range, y.shape)):
            total = 0.0
            for i, j, k in itertools.product(*map(range, weight.shape[:3])):
                row, column = r * stride[0] + i * dilation[0] - top, c * stride[1] + j * dilation[1] - left
                if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                    total += x[n, row, column, k] * weight[i, j, k, o]
            assert math.isclose(y[n, r, c, o], total, rel_tol=1e-10, abs_tol=1e-12)


def test_conv2d_is_the_layer() -> None:
    for x, weight, stride, padding, dilation in CASES[:21]:
        np.testing.assert_allclose(utils.conv2D(x, weight, stride, padding, dilation),
                                   layer(nn.Conv2D(weight.shape[3], weight.shape[:2], stride, padding, dilation), x, weight),
                                   rtol=1e-12, atol=1e-12)


def layer(module: Any, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    value = gnn.Input(x.shape[1:], name="x", dtype="f64")
    model = gnn.Model(value, module(value), backend="numpy")
    model.state[module.weight.name] = weight
    return model.predict(x)


@pytest.mark.parametrize("padding", [0, 1, (2, 0), "valid", "same", "same_size", "causal"], ids=str)
def test_conv1d(padding: Any) -> None:
    for t, k, stride, dilation in ((9, 3, 1, 1), (10, 4, 2, 1), (7, 2, 3, 3), (5, 1, 1, 2), (9, 3, 2, 2)):
        x, weight = RNG.normal(size=(2, t, 3)), RNG.normal(size=(k, 3, 4))
        actual = utils.conv1D(x, weight, stride, padding, dilation)
        assert actual.shape == utils.calc_conv_out_dims(x.shape, weight.shape, stride, padding, dilation)
        padded, _ = utils.pad1D(x, padding, k, stride, dilation)
        starts = range(0, padded.shape[1] - dilation * (k - 1), stride)
        expected = np.stack([sum(padded[:, start + i * dilation] @ weight[i] for i in range(k)) for start in starts], axis=1)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(actual, layer(nn.Conv1D(4, k, stride, padding, dilation), x, weight), rtol=1e-12, atol=1e-12)


def test_causal_results_see_nothing_later() -> None:
    x, weight = RNG.normal(size=(1, 9, 2)), RNG.normal(size=(3, 2, 2))
    changed = x.copy()
    changed[:, 5:] += 1.0
    before, after = (utils.conv1D(v, weight, padding="causal", dilation=2) for v in (x, changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).all()


def test_columns_are_the_windows_in_their_order() -> None:
    x = RNG.normal(size=(2, 4, 5, 3))
    columns, pads = utils.im2col(x, (2, 3, 3, 7), 1, 2)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    assert pads == (1, 1, 1, 1)
    assert columns.shape == (3 * 2 * 3, 3 * 3 * 2)
    for c, i, j, r, s, n in itertools.product(range(3), range(2), range(3), range(3), range(3), range(2)):
        assert columns[(c * 2 + i) * 3 + j, (r * 3 + s) * 2 + n] == padded[n, 2 * r + i, 2 * s + j, c]


def test_col2im_is_the_adjoint_of_im2col() -> None:
    for x, weight, stride, padding, dilation in CASES:
        columns, pads = utils.im2col(x, weight.shape, padding, stride, dilation)
        other = RNG.normal(size=columns.shape)
        image = utils.col2im(other, x.shape, weight.shape, pads, stride, dilation)
        assert image.shape == x.shape                                        # (N, H, W, C)
        assert math.isclose((columns * other).sum(), (x * image).sum(), rel_tol=1e-9, abs_tol=1e-9)


def test_deconv2d_naive_is_the_adjoint_of_conv2d() -> None:
    """Where the windows end with x: elsewhere the transposed one makes a smaller image."""
    met = 0
    for x, weight, stride, padding, dilation in CASES:
        y = utils.conv2D(x, weight, stride, padding, dilation)
        top, bottom, left, right = utils.pad2D(x, padding, weight.shape[:2], stride, dilation)[1]
        ends = [(count - 1) * step + gap * (k - 1) + 1
                for count, step, gap, k in zip(y.shape[1:3], stride, dilation, weight.shape[:2], strict=True)]
        if ends != [top + x.shape[1] + bottom, left + x.shape[2] + right]:
            continue
        met += 1
        dy = RNG.normal(size=y.shape)
        back = utils.deconv2D_naive(dy, weight.transpose(0, 1, 3, 2), stride, (top, bottom, left, right), dilation)
        assert math.isclose((y * dy).sum(), (x * back).sum(), rel_tol=1e-9, abs_tol=1e-9)
    assert met > 15


@pytest.mark.parametrize("padding", [0, 1, (1, 0), (0, 1, 1, 0), "valid", "same"], ids=str)
def test_deconv2d_naive_is_the_layer(padding: Any) -> None:
    for stride, dilation, kernel in ((1, 1, 3), (2, 1, 4), ((2, 3), 1, (4, 3)), (1, 2, 2), (2, (1, 2), 2)):
        kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        x, weight = RNG.normal(size=(2, 3, 4, 2)), RNG.normal(size=(kh, kw, 2, 3))
        np.testing.assert_allclose(utils.deconv2D_naive(x, weight, stride, padding, dilation),
                                   layer(nn.Deconv2D(3, kernel, stride, padding, dilation=dilation), x, weight),
                                   rtol=1e-12, atol=1e-12)


def test_same_deconvolution_is_undone_in_size_by_the_convolution() -> None:
    for padding, stride, k in itertools.product(("same", "same_size"), (1, 2, 3), (1, 2, 3, 4)):
        x, weight = RNG.normal(size=(1, 3, 4, 2)), RNG.normal(size=(k, k, 2, 3))
        y = utils.deconv2D_naive(x, weight, stride, padding)
        assert y.shape[1:3] == ((3 * stride, 4 * stride) if padding == "same" else (3, 4))
        assert utils.conv2D(y, weight.transpose(0, 1, 3, 2), stride, padding).shape == x.shape


def test_dtypes_are_kept_and_whole_numbers_are_exact() -> None:
    x, weight = RNG.integers(-9, 9, (2, 5, 5, 2)), RNG.integers(-9, 9, (2, 2, 2, 3))
    assert utils.conv2D(x, weight).dtype == np.int64
    np.testing.assert_array_equal(utils.conv2D(x, weight), utils.conv2D_naive(x, weight))
    for fn in (utils.conv2D, utils.conv2D_naive, utils.deconv2D_naive):
        assert fn(x.astype(np.float32), weight.astype(np.float32)).dtype == np.float32


def test_no_examples() -> None:
    x, weight = np.zeros((0, 5, 5, 2)), np.zeros((2, 2, 2, 3))
    assert utils.conv2D(x, weight).shape == utils.conv2D_naive(x, weight).shape == (0, 4, 4, 3)
    columns, pads = utils.im2col(x, weight.shape)
    assert utils.col2im(columns, x.shape, weight.shape, pads).shape == x.shape
    assert utils.conv1D(x[:, 0], weight[0]).shape == (0, 4, 3)


X3, X4, W3, W4 = np.zeros((2, 5, 3)), np.zeros((2, 5, 5, 3)), np.zeros((2, 3, 4)), np.zeros((2, 2, 3, 4))


@pytest.mark.parametrize(("call", "words"), [
    (lambda: utils.pad2D(X4, "full"), ["padding is 'full'", "'same_size'"]),
    (lambda: utils.pad2D(X4, "causal"), ["'causal'"]),
    (lambda: utils.pad2D(X4, -1), ["padding is -1", "none negative"]),
    (lambda: utils.pad2D(X4, (1, 2, 3)), ["(1, 2, 3)"]),
    (lambda: utils.pad2D(X4, 1.5), ["padding is 1.5"]), (lambda: utils.pad2D(X4, True), ["padding is True"]),
    (lambda: utils.pad2D(X4, None), ["padding is None"]), (lambda: utils.pad2D(X4, (1, "a")), ["(1, 'a')"]),
    (lambda: utils.pad2D(X4, "same"), ["padding 'same' needs kernel_size"]),
    (lambda: utils.pad1D(X3, "causal"), ["needs kernel_size"]),
    (lambda: utils.pad1D(X3, (1, 2, 3, 4)), ["(1, 2, 3, 4)", "(left, right)"]),
    (lambda: utils.pad1D(X3, (1,)), ["(1,)"]),
    (lambda: utils.pad1D(X4, 1), ["x has the shape (2, 5, 5, 3)", "3 axes"]), (lambda: utils.pad2D(X3, 1), ["4 axes"]),
    (lambda: utils.pad2D([["a"]], 1), ["numbers"]), (lambda: utils.pad1D(X3, 1, 0), ["kernel_size is 0"]),
    (lambda: utils.pad1D(X3, "same", 3, 0), ["stride is 0"]),
    (lambda: utils.pad1D(X3, "same", 3, 1, 0), ["dilation is 0"]),
    (lambda: utils.calc_pad_dims_1D(X3, 5, 2), ["x_shape is"]),
    (lambda: utils.calc_pad_dims_1D((2, 5), 5, 2), ["x_shape is (2, 5)"]),
    (lambda: utils.calc_pad_dims_1D((2, 5, 3), 0, 2), ["out_length is 0"]),
    (lambda: utils.calc_pad_dims_1D((2, 9, 3), 2, 2), ["2 results would need -6 zeros"]),
    (lambda: utils.calc_pad_dims_2D((2, 5, 5, 3), (5,), 2), ["out_shape is (5,)"]),
    (lambda: utils.calc_pad_dims_2D((2, 5, 5, 3), (5, 5), (2, 2, 2)), ["kernel_size is (2, 2, 2)"]),
    (lambda: utils.calc_conv_out_dims((2, 5), (2, 3)), ["x_shape is (2, 5)"]),
    (lambda: utils.calc_conv_out_dims((2, 5, 3), (2, 4, 8)), ["3 channels", "takes 4"]),
    (lambda: utils.calc_conv_out_dims((2, 5, 3), (7, 3, 8)), ["reaches over 7, more than the 5"]),
    (lambda: utils.calc_conv_out_dims((2, 5, 3), (2, 3, 8), stride=(1, 1)), ["stride is (1, 1)"]),
    (lambda: utils.calc_conv_out_dims((2, -5, 3), (2, 3, 8)), ["x_shape is (2, -5, 3)"]),
    (lambda: utils.dilate(X4, -1), ["d is -1"]), (lambda: utils.dilate(X3, 1), ["4 axes"]),
    (lambda: utils.im2col(X4, (2, 2, 2, 4)), ["3 channels", "takes 2"]),
    (lambda: utils.im2col(X4, (6, 2, 3, 4)), ["reaches over 6"]),
    (lambda: utils.im2col(X4, (0, 2, 3, 4)), ["rows and columns"]),
    (lambda: utils.im2col(X4, (2, 2)), ["weight_shape is (2, 2)"]),
    (lambda: utils.col2im(np.zeros((3, 3)), X4.shape, W4.shape), ["columns have the shape (3, 3)", "(12, 32)"]),
    (lambda: utils.conv2D(X3, W4), ["x has the shape"]), (lambda: utils.conv2D(X4, W3), ["weight has the shape"]),
    (lambda: utils.conv2D(X4, W4[:, :, :2]), ["3 channels"]), (lambda: utils.conv2D_naive(X4, W4, 0), ["stride is 0"]),
    (lambda: utils.conv1D(X3, W3, (1, 1)), ["stride is (1, 1)"]), (lambda: utils.conv1D(X3, W3[:, :2]), ["3 channels"]),
    (lambda: utils.deconv2D_naive(X4, W4[:, :, :2]), ["3 channels"]),
    (lambda: utils.deconv2D_naive(X4, W4, 1, 3), ["leaves 0 rows"]),
    (lambda: utils.minibatch(X3, 0, rng=rng()), ["batch_size is 0"]), (lambda: utils.minibatch(X3), ["rng is None"]),
    (lambda: utils.minibatch(X3, rng=0), ["rng is 0"]), (lambda: utils.minibatch(3, shuffle=False), ["x is a int"]),
    (lambda: utils.minibatch(X3, shuffle="no"), ["shuffle is 'no'"]),
    (lambda: utils.he_uniform((3, 4), rng=0), ["rng is 0"]), (lambda: utils.he_normal((3,), rng=rng()), ["(3,)"]),
    (lambda: utils.glorot_uniform((3, 4), -1, rng=rng()), ["gain is -1"]),
    (lambda: utils.he_normal((3, -4), rng=rng()), ["(3, -4)"]),
    (lambda: utils.truncated_normal(0, -1, (3,), rng=rng()), ["std is -1"]),
    (lambda: utils.he_uniform(3, rng=rng()), ["shape is 3"]),
    (lambda: utils.he_uniform((3, 4), rng=rng(), dtype=np.int32), ["dtype is int32"])])
def test_bad_arguments(call: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        call()
    assert isinstance(caught.value, (ShapeError, DTypeError))
    for word in words:
        assert word in str(caught.value)


# ------------------------------------------------------------------------------------------------ batches and first values

@pytest.mark.parametrize(("size", "batch_size", "sizes"), [
    (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 256, [3]), (1, 1, [1]), (0, 4, []), (3, 1, [1, 1, 1])])
@pytest.mark.parametrize("shuffle", [False, True])
def test_minibatch(size: int, batch_size: int, sizes: list[int], shuffle: bool) -> None:
    x = np.zeros((size, 2))
    batches, count = utils.minibatch(x, batch_size, shuffle, rng=rng())
    found = list(batches)
    assert count == len(found)
    assert [len(batch) for batch in found] == sizes
    order = np.concatenate([np.zeros(0, int), *found])
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    if not shuffle:
        np.testing.assert_array_equal(order, np.arange(size))


def test_shuffling_is_by_the_generator_alone() -> None:
    def order(seed: int) -> list[int]:
        return np.concatenate(list(utils.minibatch(range(50), 7, rng=rng(seed))[0])).tolist()

    assert order(1) == order(1) != order(2)
    assert order(1) != list(range(50))
    assert utils.minibatch([1, 2, 3], 2, shuffle=False)[1] == 2


@pytest.mark.parametrize(("draw", "init"), [
    (lambda **k: utils.he_uniform(SHAPE, **k), "he_uniform"), (lambda **k: utils.he_normal(SHAPE, **k), "he_normal"),
    (lambda **k: utils.he_normal(SHAPE, False, **k), "he_normal(corrected=False)"),
    (lambda **k: utils.glorot_uniform(SHAPE, **k), "glorot_uniform"),
    (lambda **k: utils.glorot_normal(SHAPE, **k), "glorot_normal"),
    (lambda **k: utils.glorot_uniform(SHAPE, 2.0, **k), "glorot_uniform(gain=2.0)"),
    (lambda **k: utils.glorot_normal(SHAPE, 2.0, False, **k), "glorot_normal(gain=2.0, corrected=False)"),
    (lambda **k: utils.lecun_uniform(SHAPE, **k), "lecun_uniform"),
    (lambda **k: utils.lecun_normal(SHAPE, **k), "lecun_normal"),
    (lambda **k: utils.orthogonal(SHAPE, 2.0, **k), "orthogonal(gain=2.0)"),
    (lambda **k: utils.truncated_normal(1.0, 0.5, SHAPE, **k), "truncated_normal(mean=1.0, std=0.5)")])
def test_first_values_are_those_of_the_initialisers(draw: Any, init: str) -> None:
    for dtype in (np.float32, np.float64):
        expected = as_initialiser(init)(SHAPE, np.dtype(dtype), rng(3))
        actual = draw(rng=rng(3), dtype=dtype)
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, expected)
    assert draw(rng=rng(3)).dtype == np.float64


SHAPE = (2, 3, 4, 5)
