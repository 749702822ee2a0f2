"""What the user functions do beside making their op: operands, axes, short forms, messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphnn import ir
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dims import dim
from graphnn.ir.graph import Value, collect
from graphnn.ir.ops.inputs import constant, placeholder
from tests.helpers import run

N = dim("N")
A = np.array([[1.5, -2.0, 3.0], [0.25, 4.0, -1.0]])


def ops_of(value: Value) -> list[str]:
    """The names of the ops that make a value, without inputs and constants."""
    return [node.op.name for node in collect([value]) if node.op.name not in ("input", "constant")]


def test_operators_write_ops_on_either_side() -> None:
    x = placeholder("x", "f64[2,3]")
    for value, expected in [
        (x + 1, A + 1), (1 + x, 1 + A), (x - 1, A - 1), (1 - x, 1 - A), (2 * x, 2 * A), (x / 2, A / 2), (2 / x, 2 / A), (-x, -A),
        (abs(x), abs(A)), (x < 1, A < 1), (x <= 1.5, A <= 1.5), (x > 1, A > 1), (x >= 1.5, A >= 1.5), (2.0 ** x, 2.0 ** A),
        (np.float64(2) * x, 2 * A), (A + x, A + A), (x - A, A - A), (x @ A.T, A @ A.T), (A.T @ x, A.T @ A), (x.T, A.T),
        (x * np.float32(2), A * 2), (np.int64(3) - x, 3 - A),
    ]:
        np.testing.assert_allclose(run(value, x=A), expected, rtol=1e-12)


def test_numbers_take_the_dtype_of_the_tensor() -> None:
    for dtype in ("f32", "f64", "i32", "i64"):
        x = placeholder("x", f"{dtype}[3]")
        assert (x + 1).dtype == x.dtype
        assert (1 - x).dtype == x.dtype
        assert ir.where(x < 2, 0, x).dtype == x.dtype
    assert (placeholder("x", "f32[3]") * 0.5).dtype is ir.f32
    assert ir.where(placeholder("c", "bool[3]"), 1.0, 0.0).dtype is ir.f32


@pytest.mark.parametrize(("make", "message"), [
    (lambda f, i, b: f + f.node.op.__class__, "is no operand"),
    (lambda f, i, b: i + 0.5, "the number 0.5 does not go with i64"),
    (lambda f, i, b: f + True, "the number True does not go with f32"),
    (lambda f, i, b: f + i, "add: dtypes differ: f32 and i64"),
    (lambda f, i, b: f + np.zeros(3), "add: dtypes differ: f32 and f64"),
    (lambda f, i, b: ir.cast(i, "i32") + 2**40, "is too large for i32"),
    (lambda f, i, b: f + 1e39, "is too large for f32"),
    (lambda f, i, b: f + 10**400, "is too large for f32"),
    (lambda f, i, b: b + b, "add: takes numbers, not bool"),
    (lambda f, i, b: i / 2, "div: takes f32 or f64, not i64"),
    (lambda f, i, b: ir.exp(i), "exp: takes f32 or f64, not i64"),
    (lambda f, i, b: ir.sqrt(b), "sqrt: takes f32 or f64, not bool"),
    (lambda f, i, b: ir.mod(f, 2.0), "mod: takes i32 or i64, not f32"),
    (lambda f, i, b: ir.logical_and(b, f), "logical_and: takes bool, not f32"),
    (lambda f, i, b: ir.where(f, f, f), "where: takes bool, not f32"),
    (lambda f, i, b: ir.sum(b), "sum: takes numbers, not bool"),
    (lambda f, i, b: ir.mean(i), "mean: takes f32 or f64, not i64"),
    (lambda f, i, b: ir.matmul(i, i), "matmul: takes f32 or f64, not i64"),
    (lambda f, i, b: ir.softmax(i), "softmax: takes f32 or f64, not i64"),
    (lambda f, i, b: ir.gather(f, f), "takes i32 or i64, not f32"),
    (lambda f, i, b: ir.gather(f, b), "would depend on data"),
    (lambda f, i, b: i ** 7, "takes an exponent from 1 to 4"),
    (lambda f, i, b: ir.concat([f, i]), "dtypes differ"),
    (lambda f, i, b: ir.pad(i, [(1, 1)], 0.5), "does not go with i64"),
])
def test_wrong_dtypes_are_named(make: Callable[..., Any], message: str) -> None:
    f, i, b = placeholder("f", "f32[3]"), placeholder("i", "i64[3]"), placeholder("b", "bool[3]")
    with pytest.raises(DTypeError, match=message):
        make(f, i, b)


@pytest.mark.parametrize(("make", "message"), [
    (lambda x: ir.sum(x, 2), "sum: axis 2 is out of range for 2 axes"),
    (lambda x: ir.sum(x, (0, -2)), "sum: an axis stands twice"),
    (lambda x: ir.sum(x, 1.5), "is not an axis"),
    (lambda x: ir.mean(x, -3), "mean: axis -3 is out of range"),
    (lambda x: ir.softmax(x, 2), "softmax: axis 2 is out of range"),
    (lambda x: ir.transpose(x, (0, 0)), r"transpose: \(0, 0\) does not order 2 axes"),
    (lambda x: ir.reshape(x, (5, -1)), "cannot be divided by 5"),
    (lambda x: ir.reshape(x, (-1, -1)), "only one size may be -1"),
    (lambda x: ir.reshape(x, (0, -1)), "could be any size"),
    (lambda x: ir.reshape(x, (4,)), r"reshape: f32\[N,3\] has 3\*N elements"),
    (lambda x: ir.expand(x, (3,)), "does not broadcast"),
    (lambda x: ir.squeeze(x, 1), "axis 1 has size 3, not 1"),
    (lambda x: ir.split(x, 2, 1), "cannot be cut into 2 equal parts"),
    (lambda x: ir.split(x, (1, 1), 1), "do not make up axis 1"),
    (lambda x: ir.concat([x, x[:, :2]], 0), "differ beside axis 0"),
    (lambda x: ir.concat([]), "one tensor or more"),
    (lambda x: ir.pad(x, [(1, 1)]), "has 2 pairs"),
    (lambda x: ir.pad(x, [(0, 0), (-1, 0)]), "cannot pad by -1"),
    (lambda x: x + ir.zeros(("N", 4)), "axis -1 is 3 on one side and 4 on the other"),
    (lambda x: x + ir.zeros((2, 3)), "axis -2 is N on one side and 2 on the other"),
    (lambda x: x @ x, "inner sizes differ: 3 on the left, N on the right"),
    (lambda x: x @ constant(2.0), "use \\* for numbers|one axis or more"),
    (lambda x: ir.max(ir.zeros((0, 3)), 0), "axis 0 of size 0 has no largest"),
    (lambda x: ir.argmax(ir.zeros((3, 0))), "axis 1 of size 0"),
    (lambda x: ir.matrix_transpose(x[0]), "is no matrix"),
    (lambda x: ir.scatter_add(x, np.array([0]), x), "the updates are"),
])
def test_wrong_shapes_are_named(make: Callable[[Value], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        make(placeholder("x", "f32[N,3]"))
    assert any(f"called at {__file__}" in note for note in caught.value.__notes__)


def test_powers_take_their_short_forms() -> None:
    x = placeholder("x", "f64[2,3]")
    assert x ** 1 is x
    assert [ops_of(x ** e) for e in (2, 3, 4, 0.5, -0.5, -1, 2.5, 0)] == \
        [["mul"], ["mul", "mul"], ["mul", "mul"], ["sqrt"], ["rsqrt"], ["div"], ["pow"], ["pow"]]
    i = placeholder("x", "i64[3]")
    assert run(i ** 3, x=np.array([-2, 0, 3])).tolist() == [-8, 0, 27]


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (2, -2), [1], ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_take_numpys_axes(axis: Any, keepdims: bool) -> None:
    data = np.random.default_rng(0).normal(size=(2, 3, 4))
    x = placeholder("x", "f64[N,3,T]")
    numpy_axis = tuple(axis) if isinstance(axis, list) else axis
    for ours, theirs in ((ir.sum, np.sum), (ir.mean, np.mean), (ir.max, np.max), (ir.min, np.min), (ir.prod, np.prod),
                         (ir.variance, np.var)):
        y = ours(x, axis, keepdims)
        np.testing.assert_allclose(run(y, x=data), theirs(data, axis=numpy_axis, keepdims=keepdims), rtol=1e-12, atol=1e-15)
    lengths = np.sqrt(np.sum(data**2, axis=numpy_axis, keepdims=keepdims))
    np.testing.assert_allclose(run(ir.norm(x, axis, keepdims), x=data), lengths)


def test_reductions_of_nothing() -> None:
    x = placeholder("x", "f64[N,3]")
    empty = np.zeros((0, 3))
    assert run(ir.sum(x), x=empty) == 0.0
    assert run(ir.prod(x, 0), x=empty).tolist() == [1.0] * 3
    assert run(ir.logsumexp(x, 0), x=empty).tolist() == [-np.inf] * 3
    assert np.isnan(run(ir.mean(x), x=empty))
    with pytest.raises(ShapeError, match="size 0"):
        run(ir.max(x), x=empty)
    assert run(ir.max(x, 1), x=empty).shape == (0,)


def test_variance_with_one_degree_less() -> None:
    x = placeholder("x", "f64[N,3]")
    np.testing.assert_allclose(run(ir.variance(x, 0, ddof=1), x=A), np.var(A, 0, ddof=1))
    y = placeholder("x", "f64[2,3]")
    np.testing.assert_allclose(run(ir.variance(y, 1, ddof=1), x=A), np.var(A, 1, ddof=1))


@pytest.mark.parametrize(("left", "right"), [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)),
                                             ((5, 2, 3), (3, 4)), ((2, 1, 2, 3), (5, 3, 4))])
def test_matmul_of_any_ranks(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=left), rng.normal(size=right)
    x = placeholder("x", f"f64[{','.join(map(str, left))}]")
    y = placeholder("y", f"f64[{','.join(map(str, right))}]")
    np.testing.assert_allclose(run(x @ y, x=a, y=b), a @ b, rtol=1e-12)


def test_shapes_by_function() -> None:
    x = placeholder("x", "f64[N,3,4]")
    data = np.arange(24.0).reshape(2, 3, 4)
    for value, expected in [
        (ir.reshape(x, (-1, 4)), data.reshape(-1, 4)), (ir.reshape(x, ("N", -1)), data.reshape(2, 12)),
        (ir.flatten(x), data.reshape(2, 12)),
        (ir.flatten(x, 0), data.ravel()), (ir.transpose(x), data.T), (ir.transpose(x, (0, -1, 1)), data.transpose(0, 2, 1)),
        (ir.swapaxes(x, 0, -1), data.swapaxes(0, -1)), (ir.moveaxis(x, 0, -1), np.moveaxis(data, 0, -1)),
        (ir.expand_dims(x, -1), data[..., None]), (ir.squeeze(ir.expand_dims(x, 1)), data),
        (ir.squeeze(x[:, :1], 1), data[:, 0]), (ir.flip(x), np.flip(data)), (ir.flip(x, (0, -1)), np.flip(data, (0, -1))),
        (ir.stack([x, x], 1), np.stack([data, data], 1)),
        (ir.stack([x, x], -1), np.stack([data, data], -1)), (ir.concat([x, x], -1), np.concatenate([data, data], -1)),
        (ir.expand(x, (2, "N", 3, 4)), np.broadcast_to(data, (2, 2, 3, 4))),
        (ir.pad(x, [(1, 0), (0, 0), (0, 2)]), np.pad(data, [(1, 0), (0, 0), (0, 2)])), (ir.argmin(x, 0), data.argmin(0)),
        (ir.split(x, 2, -1)[1], data[..., 2:]), (ir.split(x, (1, 2), 1)[1], data[:, 1:]),
    ]:
        np.testing.assert_array_equal(run(value, x=data), expected)


def test_functions_that_change_nothing_return_the_value() -> None:
    x = placeholder("x", "f32[N,3]")
    for same in (ir.reshape(x, x.shape), ir.transpose(x, (0, 1)), ir.expand(x, x.shape), ir.cast(x, "f32"), ir.sum(x, ()),
                 ir.flip(x, ()), ir.concat([x]), ir.split(x, 1)[0], ir.pad(x, [(0, 0), (0, 0)])):
        assert same is x


def test_tensors_of_sizes() -> None:
    x = placeholder("x", "f32[N,3]")
    data = np.zeros((5, 3), np.float32)
    assert run(ir.size_of(x.shape[0] * 2, "f32"), x, x=data) == 10.0
    assert run(ir.arange(x.shape[0]), x, x=data).tolist() == [0, 1, 2, 3, 4]
    assert run(ir.iota((2, N), 1, "f64"), x, x=data).tolist() == [[0.0, 1, 2, 3, 4]] * 2
    assert run(ir.zeros_like(x), x, x=data).tolist() == data.tolist()
    assert run(ir.ones(("N",), "bool"), x, x=data).tolist() == [True] * 5
    assert run(ir.full((2,), 7, "i64")).tolist() == [7, 7]
    assert run(ir.full((), 7.5)) == 7.5


def test_composed_functions() -> None:
    x = placeholder("x", "f64[5]")
    data = np.array([-50.0, -1.0, 0.25, 2.0, 50.0])
    for value, expected in [
        (ir.square(x), data**2), (ir.reciprocal(x), 1 / data), (ir.clip(x, -1, 1), np.clip(data, -1, 1)),
        (ir.clip(x, low=0.0), np.maximum(data, 0)), (ir.softplus(x), np.logaddexp(0, data)),
        (ir.log_sigmoid(x), -np.logaddexp(0, -data)), (ir.gelu(x), [v / 2 * (1 + math.erf(v / 2**0.5)) for v in data]),
        (ir.silu(x), data / (1 + np.exp(-data))), (ir.not_equal(x, 2.0), data != 2), (ir.greater(x, 2.0), data > 2),
        (ir.greater_equal(x, 2.0), data >= 2),
    ]:
        np.testing.assert_allclose(run(value, x=data), expected, rtol=1e-12, atol=1e-300)


def test_one_hot_and_scatter_add() -> None:
    ids = placeholder("x", "i64[N]")
    assert run(ir.one_hot(ids, 3), x=np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    base = placeholder("y", "f64[3]")
    total = ir.scatter_add(base, ids, ir.cast(ids, "f64"))
    assert run(total, x=np.array([2, 0, 2]), y=np.zeros(3)).tolist() == [0.0, 0.0, 4.0]
    with pytest.raises(ValueError, match="the class 3 is out of range"):
        run(ir.one_hot(ids, 3), x=np.array([3]))


def test_erf_is_accurate_to_the_last_bits() -> None:
    data = np.linspace(-6, 6, 1001)
    x = placeholder("x", "f64[N]")
    assert run(ir.erf(x), x=data).tolist() == [math.erf(v) for v in data]
