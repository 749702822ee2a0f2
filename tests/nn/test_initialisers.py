"""Initialisers: moments and bounds against their formulas, orthogonality, gains, determinism by the generator, all forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, ShapeError
from graphnn.nn.described import DescriptionError, describe, to_dict
from graphnn.nn.initialisers import BY_NAME, TRUNCATED_STD, as_initialiser, calc_fan, calc_gain

F64, F32 = np.dtype(np.float64), np.dtype(np.float32)
SHAPE = (3, 5, 20, 70)                                  # fan_in 300, fan_out 1050, 21,000 entries
FAN_IN, FAN_OUT = 300, 1050


def drawn(init: Any, shape: tuple[int, ...] = SHAPE, dtype: np.dtype[Any] = F64, seed: int = 0) -> np.ndarray:
    return as_initialiser(init)(shape, dtype, np.random.default_rng(seed))


def uniform(std: float) -> tuple[float, float, float]:
    """Standard deviation, bound and fourth moment over that of a normal."""
    return std, math.sqrt(3) * std, 0.6


def truncated(std: float, corrected: bool) -> tuple[float, float, float]:
    """The same of a normal within two of its standard deviations, by integration."""
    z = np.linspace(-2, 2, 200_001)
    density = np.exp(-z * z / 2)
    second, fourth = (z ** 2 * density).sum() / density.sum(), (z ** 4 * density).sum() / density.sum()
    wide = std / math.sqrt(second) if corrected else std
    return wide * math.sqrt(second), 2 * wide, fourth / second ** 2 / 3


GLOROT, HE, LECUN = math.sqrt(2 / (FAN_IN + FAN_OUT)), math.sqrt(2 / FAN_IN), math.sqrt(1 / FAN_IN)
LAWS = {
    "glorot_uniform": uniform(GLOROT), "glorot_uniform(gain=2.5)": uniform(2.5 * GLOROT),
    "glorot_normal": truncated(GLOROT, True), "glorot_normal(gain=0.5, corrected=False)": truncated(0.5 * GLOROT, False),
    "he_uniform": uniform(HE), "he_normal": truncated(HE, True), "he_normal(corrected=False)": truncated(HE, False),
    "lecun_uniform": uniform(LECUN), "lecun_normal": truncated(LECUN, True),
    "lecun_normal(corrected=False)": truncated(LECUN, False),
    "truncated_normal": truncated(1.0, False), "trunc_normal(std=0.1, corrected=True)": truncated(0.1, True),
    "std_normal": (1.0, math.inf, 1.0), "normal(std=0.02)": (0.02, math.inf, 1.0),
}


@pytest.mark.parametrize("text", LAWS)
def test_moments_and_bounds(text: str) -> None:
    std, bound, kurtosis = LAWS[text]
    values = drawn(text)
    root = math.sqrt(values.size)
    assert abs(values.mean()) < 4 * std / root                            # four standard errors
    assert abs(values.std() / std - 1) < 4 / root
    assert abs((values ** 4).mean() / (3 * std ** 4) / kurtosis - 1) < 0.05
    assert np.abs(values).max() < bound
    assert bound == math.inf or np.abs(values).max() > 0.99 * bound


def test_the_mean_of_normals() -> None:
    for text in ("normal(mean=3, std=0.1)", "truncated_normal(mean=3.0, std=0.1)"):
        assert abs(drawn(text).mean() - 3) < 0.003
    values = drawn("truncated_normal(mean=3.0, std=0.1)")
    assert 2.8 < values.min() < 2.81
    assert 3.19 < values.max() < 3.2


def test_the_truncated_deviation_is_that_of_keras() -> None:
    assert abs(TRUNCATED_STD - 0.87962566103423978) < 1e-15


@pytest.mark.parametrize("shape", [(7, 7), (7, 3), (3, 7), (1, 1), (1, 4), (4, 1), (3, 2, 4, 5), (2, 3, 30)], ids=str)
def test_orthogonal(shape: tuple[int, ...]) -> None:
    for text, gain in (("orthogonal", 1.0), ("orthogonal(gain=2.0)", 2.0)):
        q = drawn(text, shape).reshape(-1, shape[-1]) / gain
        small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
        np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-14)


def test_orthogonal_matrices_are_uniform() -> None:
    """Of 1 x 1 ones half are -1; the trace of a uniform one has mean 0 and variance 1 (Diaconis & Shahshahani, 1994)."""
    rng = np.random.default_rng(0)
    signs = [as_initialiser("orthogonal")((1, 1), F64, rng).item() for _ in range(400)]
    assert set(signs) == {-1.0, 1.0}
    assert abs(sum(signs)) < 80
    traces = np.array([np.trace(as_initialiser("orthogonal")((4, 4), F64, rng)) for _ in range(2000)])
    assert abs(traces.mean()) < 0.1
    assert abs(traces.var() - 1) < 0.15


def test_constants() -> None:
    for text, value in (("zeros", 0.0), ("ones", 1.0), ("constant(value=-2.5)", -2.5), ("constant", 0.0),
                        ("constant(value=-inf)", -math.inf)):
        for shape in ((), (0,), (3,), (2, 1, 3)):
            np.testing.assert_array_equal(drawn(text, shape), np.full(shape, value))


@pytest.mark.parametrize("name", BY_NAME)
def test_each_gives_its_shape_and_dtype_and_depends_on_the_generator_alone(name: str) -> None:
    for shape in ((1, 1), (3, 5), (2, 3, 4), (2, 1, 3, 5), (0, 3), (3, 0)):
        for dtype in (F32, F64):
            values = drawn(name, shape, dtype)
            assert (values.shape, values.dtype) == (shape, dtype)
            np.testing.assert_array_equal(values, drawn(name, shape, dtype))
            assert np.isfinite(values).all()
    if name not in ("zeros", "ones", "constant"):
        assert (drawn(name, (3, 5)) != drawn(name, (3, 5), seed=1)).any()
        rng = np.random.default_rng(0)
        first = as_initialiser(name)((3, 5), F64, rng)
        assert (first != as_initialiser(name)((3, 5), F64, rng)).any()                # the generator moves on
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    drawn(name, (3, 5))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


@pytest.mark.parametrize(("shape", "fans"), [((3, 4), (3, 4)), ([3, 4], (3, 4)), ((5, 3, 4), (15, 20)), ((3, 3, 4, 8), (36, 72)),
                                             ((1, 1), (1, 1)), ((0, 4), (0, 4)), ((np.int64(2), 3, 4), (6, 8))])
def test_fans(shape: Any, fans: tuple[int, int]) -> None:
    assert calc_fan(shape) == fans


@pytest.mark.parametrize("shape", [(), (3,), 3, (3, -1), (3, 1.5), "34", None, (True, 3)])
def test_bad_shapes(shape: Any) -> None:
    with pytest.raises(ShapeError, match="a weight's shape is"):
        calc_fan(shape)


# ------------------------------------------------------------------------------------------------ gains

LEAKY = math.sqrt(2 / (1 + 0.25))


@pytest.mark.parametrize(("activation", "gain"), [
    (None, 1.0), ("identity", 1.0), ("relu", math.sqrt(2)), (nn.ReLU(), math.sqrt(2)), ({"name": "ReLU"}, math.sqrt(2)),
    ("tanh", 5 / 3), (nn.Tanh(), 5 / 3), ("leaky_relu(alpha=0.5)", LEAKY), ("Leaky ReLU(alpha=0.5)", LEAKY),
    (nn.LeakyReLU(0.5), LEAKY), ({"name": "LeakyReLU", "alpha": 0.5}, LEAKY), (nn.LeakyReLU(0.0), math.sqrt(2)),
    (nn.LeakyReLU(1.0), 1.0), (nn.LeakyReLU(), math.sqrt(2 / 1.0001)), ("selu", 1.0), ("sigmoid", 1.0), (gnn.tanh, 1.0)], ids=str)
def test_gain_of_an_activation(activation: Any, gain: float) -> None:
    """numpy-ml's sqrt(2 + alpha^2), 1.5 for alpha 0.5, is what a missing bracket made of sqrt(2 / (1 + alpha^2))."""
    assert math.isclose(calc_gain(activation), gain, rel_tol=1e-15)
    for init in ("glorot_uniform", nn.GlorotUniform(), {"name": "glorot_uniform"}):
        layer = nn.FullyConnected(50, activation=activation, init=init)
        x = gnn.Input((100,), name="x")
        weight = gnn.Model(x, layer(x), backend="numpy").state["fully_connected/weight"]
        assert 0.98 * gain * math.sqrt(6 / 150) < np.abs(weight).max() <= gain * math.sqrt(6 / 150) * (1 + 1e-7)


@pytest.mark.parametrize("init", ["glorot_uniform(gain=1.0)", "glorot_normal(gain=1.0)", "orthogonal(gain=1.0)", "he_uniform",
                                  "he_normal", "lecun_normal", "std_normal"])
def test_a_given_gain_stays_and_others_have_none(init: str) -> None:
    for activation in (None, "relu", "tanh"):
        assert as_initialiser(init, activation) == as_initialiser(init)
    shape = (4, 5)
    np.testing.assert_array_equal(as_initialiser(init, "tanh")(shape, F64, np.random.default_rng(0)), drawn(init, shape))


def test_open_gains_follow_the_activation() -> None:
    for name in ("glorot_uniform", "glorot_normal", "orthogonal"):
        given = as_initialiser(name, "tanh")((4, 5), F64, np.random.default_rng(0))
        np.testing.assert_allclose(given, 5 / 3 * drawn(name, (4, 5)), rtol=1e-14)


# ------------------------------------------------------------------------------------------------ forms

@pytest.mark.parametrize("name", BY_NAME)
def test_string_dictionary_and_object_are_one(name: str) -> None:
    init = as_initialiser(name)
    for spec in (describe(init), to_dict(init), init, type(init).__name__, name.replace("_", " ").title()):
        assert as_initialiser(spec) == init


@pytest.mark.parametrize("init", ["constant(value=0.25)", nn.Constant(0.25), {"name": "constant", "value": 0.25},
                                  lambda shape, dtype, rng: np.full(shape, 0.25, dtype)], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("layer", [
    lambda init: nn.FullyConnected(2, init=init), lambda init: nn.Conv1D(2, 1, init=init), lambda init: nn.RNN(2, init=init),
    lambda init: nn.LSTM(2, init=init), lambda init: nn.GRU(2, init=init)])
def test_layers_take_initialisers_in_every_form(layer: Any, init: Any) -> None:
    x = gnn.Input((3, 4), name="x")
    layer = layer(init)
    state = gnn.Model(x, layer(x), backend="numpy").state
    weights = [state[value.name] for value in layer.parameters if value.name.endswith("weight")]
    assert weights
    assert all((weight == 0.25).all() for weight in weights)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: as_initialiser("xavier"), ["no initialiser 'xavier'", "glorot_uniform"]),
    (lambda: as_initialiser({"name": "xavier"}), ["no initialiser 'xavier'"]),
    (lambda: as_initialiser("he_normal(std=1)"), ["he_normal has no argument 'std'", "corrected"]),
    (lambda: as_initialiser({"name": "normal", "sigma": 1}), ["no argument 'sigma'", "mean, std"]),
    (lambda: as_initialiser(0.5), ["0.5 is no initialiser"]), (lambda: as_initialiser(None), ["None is no initialiser"]),
    (lambda: as_initialiser(nn.HeNormal), ["is no initialiser"]),
    (lambda: nn.GlorotUniform(-1.0), ["GlorotUniform: gain is -1.0", "at least 0"]),
    (lambda: nn.Orthogonal("a"), ["Orthogonal: gain is 'a'"]), (lambda: nn.Normal(std=-1), ["Normal: std is -1"]),
    (lambda: nn.Normal(math.nan), ["Normal: mean is nan"]), (lambda: nn.TruncatedNormal(std=math.inf), ["std is inf"]),
    (lambda: nn.TruncatedNormal(corrected=1), ["TruncatedNormal: corrected is 1"]),
    (lambda: nn.Constant(None), ["value is None"]),
    (lambda: nn.HeNormal("no"), ["HeNormal: corrected is 'no'"]),
    (lambda: nn.GlorotNormal(corrected=None), ["corrected is None"]),
    (lambda: drawn("glorot_uniform", (3,)), ["a weight's shape is (3,)"]),
    (lambda: drawn("orthogonal", (3,)), ["shape is (3,)"])])
def test_bad_arguments(make: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, (DescriptionError, ShapeError))
