"""Activations and their first and second derivatives against closed forms, in every region, at corners, at +-1e4; texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError
from graphnn.nn.activations import BY_NAME, SELU_ALPHA, SELU_SCALE, read_activation
from graphnn.nn.described import DescriptionError
from tests.nn.probes import check_training

Function = Callable[[np.ndarray], np.ndarray]
erf: Function = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def elu(alpha: float, scale: float = 1.0) -> tuple[Function, Function, Function]:
    def below(x: np.ndarray) -> np.ndarray:
        return np.minimum(x, 0)

    return (lambda x: scale * np.where(x > 0, x, alpha * np.expm1(below(x))),
            lambda x: scale * np.where(x > 0, 1, alpha * np.exp(below(x))),
            lambda x: scale * np.where(x > 0, 0, alpha * np.exp(below(x))))


def none(x: np.ndarray) -> np.ndarray:
    return 0 * x


def hard_sigmoid(slope: float, intercept: float) -> tuple[Function, Function, Function]:
    low, high = -intercept / slope, (1 - intercept) / slope
    return (lambda x: np.clip(slope * x + intercept, 0, 1), lambda x: np.where((x > low) & (x < high), slope, 0.0), none)


def normal(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def cdf(x: np.ndarray) -> np.ndarray:
    return (1 + erf(x * math.sqrt(0.5))) / 2


def gelu_tanh(order: int) -> Function:
    def f(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.longdouble)
        root = np.sqrt(np.longdouble(2) / np.longdouble(math.pi))
        u, u1, u2 = root * (x + 0.044715 * x ** 3), root * (1 + 3 * 0.044715 * x * x), root * 6 * 0.044715 * x
        t = np.tanh(u)
        s = 1 / np.cosh(np.clip(u, -5000, 5000)) ** 2
        results = (x / 2 * (1 + t), (1 + t) / 2 + x / 2 * s * u1, s * u1 + x / 2 * s * (u2 - 2 * t * u1 * u1))
        return results[order].astype(np.float64)

    return f


def mish(order: int) -> Function:
    def f(x: np.ndarray) -> np.ndarray:
        t, s = np.tanh(np.logaddexp(0, x)), sigmoid(x)
        q, s1 = 1 - t * t, s * sigmoid(-x)
        return (x * t, t + x * q * s, 2 * q * s + x * (q * s1 - 2 * t * q * s * s))[order]

    return f


def silu(order: int) -> Function:
    def f(x: np.ndarray) -> np.ndarray:
        s, r = sigmoid(x), sigmoid(-x)
        return (x * s, s + x * s * r, s * r * (2 + x * (r - s)))[order]

    return f


CASES: dict[str, tuple[Function, Function, Function]] = {
    "identity": (lambda x: x, lambda x: 1 + 0 * x, none),
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0), none),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2, lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2)),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x), lambda x: sigmoid(x) * sigmoid(-x) * (sigmoid(-x) - sigmoid(x))),
    "affine(slope=-2.5, intercept=0.75)": (lambda x: -2.5 * x + 0.75, lambda x: -2.5 + 0 * x, none),
    "leaky_relu(alpha=0.01)": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01), none),
    "leaky_relu(alpha=0.3)": (lambda x: np.where(x > 0, x, 0.3 * x), lambda x: np.where(x > 0, 1.0, 0.3), none),
    "elu(alpha=1.0)": elu(1.0), "elu(alpha=0.5)": elu(0.5), "selu": elu(SELU_ALPHA, SELU_SCALE),
    "soft_plus": (lambda x: np.logaddexp(0, x), sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "hard_sigmoid(slope=0.16666666666666666, intercept=0.5)": hard_sigmoid(1 / 6, 0.5),
    "hard_sigmoid(slope=0.2, intercept=0.5)": hard_sigmoid(0.2, 0.5),
    "gelu(approximate='none')": (lambda x: x * cdf(x), lambda x: cdf(x) + x * normal(x), lambda x: normal(x) * (2 - x * x)),
    "gelu(approximate='tanh')": (gelu_tanh(0), gelu_tanh(1), gelu_tanh(2)),
    "silu": (silu(0), silu(1), silu(2)), "mish": (mish(0), mish(1), mish(2)),
    "hard_swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
                   lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)), lambda x: np.where(np.abs(x) < 3, 1 / 3, 0)),
}
# Every region of every function, its corners and 0, and both ends; the corners of hard_sigmoid(0.2) are at +-2.5.
POINTS = np.array([-1e4, -100, -41, -39, -12, -9.5, -5, -3, -2.75, -2.5, -1, -0.5, -1e-6, 0, 1e-6, 0.5, 1, 2.25, 2.5, 3, 5, 9.5,
                   12, 39, 41, 100, 1e4])


@pytest.mark.parametrize("text", CASES)
def test_values_and_two_derivatives(text: str) -> None:
    for backend, real, close in (("numpy", np.float64, 1e-14), ("numba", np.float32, 6e-7)):
        x = gnn.Input((), name="x", dtype="f64" if real is np.float64 else "f32")
        y = read_activation(text)(x)
        (first,) = gnn.gradients(gnn.sum(y), [x])
        (second,) = gnn.gradients(gnn.sum(first * 1.0), [x])
        exe = gnn.compile(gnn.Graph.of("derivatives", [x], [y, first, second]), backend=backend)
        points = POINTS.astype(real)
        for order, (actual, f) in enumerate(zip(exe(points), CASES[text], strict=True)):
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(actual, f(points.astype(np.float64)), rtol=close, atol=close, err_msg=f"order {order}")


def test_exponential() -> None:
    points = np.array([-1e4, -100, -1, 0, 1, 88])
    for backend, real, close in (("numpy", np.float64, 1e-12), ("numba", np.float32, 4e-6)):
        x = gnn.Input((), name="x", dtype="f64" if real is np.float64 else "f32")
        y = nn.Exponential()(x)
        (first,) = gnn.gradients(gnn.sum(y), [x])
        (second,) = gnn.gradients(gnn.sum(first), [x])
        for actual in gnn.compile(gnn.Graph.of("derivatives", [x], [y, first, second]), backend=backend)(points.astype(real)):
            np.testing.assert_allclose(actual, np.exp(points.astype(real).astype(np.float64)), rtol=close, atol=1e-40)


@pytest.mark.parametrize("text", CASES)
def test_no_finite_number_makes_a_nan(text: str) -> None:
    for real in (np.float32, np.float64):
        x = gnn.Input((), name="x", dtype="f64" if real is np.float64 else "f32")
        y = read_activation(text)(x)
        (first,) = gnn.gradients(gnn.sum(y), [x])
        (second,) = gnn.gradients(gnn.sum(first * 1.0), [x])
        largest = np.finfo(real).max / (2.5 if text.startswith("affine") else 1.1)             # its slope; SELU's
        points = np.array([-largest, -1e19, -1e13, -50, 50, 1e13, 1e19, largest], real)
        for result in gnn.compile(gnn.Graph.of("derivatives", [x], [y, first, second]), backend="numba")(points):
            assert np.isfinite(result).all(), (real, result)


@pytest.mark.parametrize("text", ["relu", "gelu", "gelu(approximate='tanh')", "silu", "mish", "soft_plus", "elu", "hard_swish"])
def test_infinity_stays(text: str) -> None:
    x = gnn.Input((), name="x")
    for backend in ("numpy", "numba"):
        graph = gnn.Graph.of("f", [x], [read_activation(text)(x)])
        assert gnn.compile(graph, backend=backend)(np.array([np.inf], np.float32))[0] == np.inf


@pytest.mark.parametrize("text", [*CASES, "exponential"])
def test_gradients_against_finite_differences(text: str) -> None:
    x = np.array([[-4.2, -2.7, -1.3, -0.4, 0.3], [0.7, 1.4, 2.2, 2.8, 4.1]])
    gnn.check_gradients(read_activation(text).call, [x])


@pytest.mark.parametrize("text", [*CASES, "exponential", "softmax(axis=-1)"])
def test_texts_round_trip(text: str) -> None:
    assert str(read_activation(text)) == text
    assert str(read_activation(str(read_activation(text)))) == text


def test_one_activation_has_many_spellings() -> None:
    for spelling in ("LeakyReLU", "leaky_relu", "Leaky ReLU", "leakyrelu", "leaky_relu()", "leaky_relu(alpha=0.01)"):
        assert str(read_activation(spelling)) == "leaky_relu(alpha=0.01)"
    for spelling, kind in (("softplus", nn.SoftPlus), ("Hard Sigmoid(slope=0.2)", nn.HardSigmoid), ("SELU", nn.SELU),
                           ("ELU", nn.ELU)):
        assert type(read_activation(spelling)) is kind
    assert set(BY_NAME) >= {text.partition("(")[0] for text in CASES}


@pytest.mark.parametrize(("text", "words"), [
    ("elo", "no activation 'elo'"), ("elu(beta=1)", "elu has no argument 'beta'"), ("elu(alpha='a')", "alpha is 'a'"),
    ("elu(0.5)", "not of the form"), ("elu(alpha=1", "not of the form"),
    ("gelu(approximate='sigmoid')", "approximate is 'sigmoid'"),
    ("elu(name='a')", "no name of its own"), ("affine(slope=None)", "slope is None"), ("", "no activation ''")])
def test_bad_texts_are_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(GraphnnError, match=words):
        nn.FullyConnected(3, activation=text)


def test_bad_arguments() -> None:
    for make, words in ((lambda: nn.ELU(math.inf), "ELU: alpha is inf"), (lambda: nn.LeakyReLU(True), "LeakyReLU: alpha is True"),
                        (lambda: nn.HardSigmoid(slope="a"), "HardSigmoid: slope is 'a'"),  # type: ignore[arg-type]
                        (lambda: nn.Affine(intercept=math.nan), "Affine: intercept is nan")):
        with pytest.raises(ShapeError, match=words):
            make()
    with pytest.raises(DescriptionError, match="is no activation"):
        nn.FullyConnected(3, activation=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["elu(alpha=0.5)", "gelu", "mish", "hard_swish", "selu"])
def test_three_steps_and_a_file(text: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    check_training(lambda v: read_activation(text)(nn.FullyConnected(9, activation=text)(v)), [x], tmp_path)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 1, 7)])
def test_shapes_are_kept(shape: tuple[int, ...]) -> None:
    x = gnn.Input(shape[1:], name="x")
    for text in CASES:
        assert read_activation(text)(x).type == x.type
