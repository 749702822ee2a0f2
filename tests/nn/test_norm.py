"""LayerNorm1D, LayerNorm2D, GroupNorm against their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError
from tests.nn.probes import check_derivatives, check_layer, check_training

RNG = np.random.default_rng(13)


def normalised(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


LAYER_NORMS: list[tuple[type[nn.LayerNorm1D], tuple[int, ...], dict[str, Any], int]] = [
    (nn.LayerNorm1D, (5, 7), {}, 1), (nn.LayerNorm1D, (1, 1), {}, 1), (nn.LayerNorm1D, (2, 3, 33), {"eps": 1e-3}, 1),
    (nn.LayerNorm1D, (2, 3, 5), {"normalized_shape": (3, 5)}, 2), (nn.LayerNorm1D, (4, 6), {"affine": False}, 1),
    (nn.LayerNorm2D, (3, 5, 4, 2), {}, 3), (nn.LayerNorm2D, (1, 1, 1, 3), {"eps": 0.1}, 3),
    (nn.LayerNorm2D, (2, 3, 5, 4), {"normalized_shape": 4}, 1), (nn.LayerNorm2D, (2, 3, 2, 2), {"affine": False}, 3)]


@pytest.mark.parametrize(("kind", "shape", "arguments", "axes"), LAYER_NORMS, ids=str)
def test_layer_norm(kind: type[nn.LayerNorm1D], shape: tuple[int, ...], arguments: dict[str, Any], axes: int) -> None:
    x = RNG.normal(size=shape) * 3 + 1
    last = tuple(range(-axes, 0))

    def oracle(x: np.ndarray, weight: Any = 1.0, bias: Any = 0.0) -> np.ndarray:
        return normalised(x, last, arguments.get("eps", 1e-5)) * weight + bias

    check_layer(lambda _: kind(**arguments), [x], oracle, tolerance=2e-4)
    if np.prod(shape[len(shape) - axes:]) > 1:
        check_derivatives(kind(**arguments), [x])


GROUP_NORMS: list[tuple[tuple[int, ...], int, dict[str, Any]]] = [
    ((2, 3, 5, 6), 3, {}), ((3, 4), 2, {}), ((2, 7, 4), 4, {"eps": 1e-2}), ((2, 3, 3, 4), 1, {"affine": False}),
    ((1, 1, 1, 2), 1, {})]


@pytest.mark.parametrize(("shape", "groups", "arguments"), GROUP_NORMS, ids=str)
def test_group_norm(shape: tuple[int, ...], groups: int, arguments: dict[str, Any]) -> None:
    x = RNG.normal(size=shape) * 2 - 1

    def oracle(x: np.ndarray, weight: Any = 1.0, bias: Any = 0.0) -> np.ndarray:
        parts = [normalised(part, tuple(range(1, x.ndim)), arguments.get("eps", 1e-5)) for part in np.split(x, groups, -1)]
        return np.concatenate(parts, -1) * weight + bias

    check_layer(lambda _: nn.GroupNorm(groups, **arguments), [x], oracle, tolerance=2e-4)
    check_derivatives(nn.GroupNorm(groups, **arguments), [x])


def test_symbolic_sizes() -> None:
    x = RNG.normal(size=(2, 5, 3, 4))
    check_layer(lambda _: nn.LayerNorm1D(), [x], lambda x, weight, bias: normalised(x, (-1,), 1e-5) * weight + bias,
                shapes=[("H", "W", 4)], tolerance=2e-4)
    check_layer(lambda _: nn.LayerNorm2D(affine=False), [x], lambda x: normalised(x, (1, 2, 3), 1e-5), shapes=[("H", "W", 4)])
    check_layer(lambda _: nn.GroupNorm(1), [x], lambda x, weight, bias: normalised(x, (1, 2, 3), 1e-5) * weight + bias,
                shapes=[("H", "W", 4)], tolerance=2e-4)


@pytest.mark.parametrize("layer", [nn.LayerNorm1D(), nn.LayerNorm2D(), nn.GroupNorm(2)], ids=repr)
def test_first_values_are_one_and_zero_and_constants_become_zero(layer: nn.Layer) -> None:
    x = gnn.Input((3, 3, 4), name="x")
    model = gnn.Model(x, layer(x))
    weight, bias = (model.state[value.name] for value in model.parameters)
    assert (weight == 1).all()
    assert not bias.any()
    np.testing.assert_allclose(model.predict(np.full((2, 3, 3, 4), 7.0)), 0.0, atol=1e-3)
    for shift in (0.0, 1e3):                                      # a mean far from 0 costs few digits: it is subtracted first
        data = RNG.normal(size=(2, 3, 3, 4)) + shift
        y = model.predict(data)
        assert abs(y.mean()) < 1e-3
        assert abs(y.std() - 1) < 2e-2


def test_other_first_scales() -> None:
    """The seed draws them uniformly from [0, 1): an argument here."""
    def uniform(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(size=shape).astype(dtype)

    x = gnn.Input((6, 6, 4), name="x")
    for layer, shape in ((nn.LayerNorm1D(init=uniform), (4,)), (nn.LayerNorm2D(init=uniform), (6, 6, 4)),
                         (nn.GroupNorm(2, init=uniform), (4,))):
        model = gnn.Model(x, layer(x))
        weight = model.state[model.parameters[0].name]
        assert weight.shape == shape
        assert 0 <= weight.min() < weight.max() < 1


@pytest.mark.parametrize("make", [nn.LayerNorm1D, nn.LayerNorm2D, lambda: nn.GroupNorm(2)])
def test_three_steps_and_a_file(make: Any, tmp_path: Path) -> None:
    x = RNG.normal(size=(5, 3, 3, 4)).astype(np.float32)
    check_training(lambda v: nn.GlobalPool()(nn.Conv2D(4, 1)(make()(nn.Conv2D(4, 2, padding="same")(v)))), [x], tmp_path)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.LayerNorm1D(0), "LayerNorm1D: normalized_shape is 0"),
    (lambda: nn.LayerNorm2D((3, "a")), "LayerNorm2D: normalized_shape"),
    (lambda: nn.LayerNorm1D(eps=0), "LayerNorm1D: eps is 0"), (lambda: nn.GroupNorm(0), "GroupNorm: groups is 0"),
    (lambda: nn.GroupNorm(2, eps=-1.0), "GroupNorm: eps is -1.0"), (lambda: nn.LayerNorm2D(()), "normalized_shape is ()"),
    (lambda: nn.GroupNorm(2, affine=None), "GroupNorm: affine is None"), (lambda: nn.LayerNorm1D(affine=1), "affine is 1"),
    (lambda: nn.LayerNorm1D(init="nothing"), "nothing"),
    (lambda: nn.LayerNorm1D(5)(gnn.Input((4,), name="x")), "normalized_shape is 5"),
    (lambda: nn.LayerNorm2D()(gnn.Input((4,), name="x")), "takes images"),
    (lambda: nn.LayerNorm2D()(gnn.Input(("H", 2, 3))), "symbolic"),
    (lambda: nn.LayerNorm1D((2, 3, 4))(gnn.Input((4,), name="x")), "the last 3 axes"),
    (lambda: nn.GroupNorm(3)(gnn.Input((4,), name="x")), "groups is 3; it must divide the 4"),
    (lambda: nn.GroupNorm(1)(gnn.Input((), name="x")), "takes .N, ..., C.")])
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(gnn.GraphnnError, match=words.replace("()", r"\(\)")):
        make()


def test_integers_are_refused() -> None:
    for layer in (nn.LayerNorm1D(), nn.GroupNorm(1)):
        with pytest.raises(DTypeError, match="takes real numbers"):
            layer(gnn.Input((4,), name="x", dtype="i32"))
