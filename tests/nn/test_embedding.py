"""Embedding against rows of its table; sparse training; ids out of range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, NumericsError, ShapeError
from tests.nn.networks import BACKENDS
from tests.nn.probes import check_derivatives, check_layer, check_training

RNG = np.random.default_rng(12)
IDS = np.array([[1, 1, 2, 0], [0, 0, 0, 0], [4, 0, 1, 4]])
ARGUMENTS: list[dict[str, Any]] = [{}, {"pool": "sum"}, {"pool": "mean"}, {"padding_idx": 0}, {"pool": "sum", "padding_idx": 0},
                                   {"pool": "mean", "padding_idx": 0}, {"pool": "mean", "padding_idx": 4}]


def embedded(ids: np.ndarray, weight: np.ndarray, pool: str | None = None, padding_idx: int | None = None) -> np.ndarray:
    kept = np.ones(ids.shape) if padding_idx is None else (ids != padding_idx).astype(np.float64)
    rows = weight[ids] * kept[..., None]
    if pool is None:
        return rows
    return rows.sum(-2) / (np.maximum(kept.sum(-1), 1)[..., None] if pool == "mean" else 1)


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize("ids", [IDS, IDS.astype(np.int32), np.array([[3]]), IDS.reshape(1, 3, 4)],
                         ids=lambda a: f"{a.shape}{a.dtype}")
def test_rows_and_bags(ids: np.ndarray, arguments: dict[str, Any]) -> None:
    check_layer(lambda dtype: nn.Embedding(5, 3, dtype=dtype, **arguments), [ids],
                lambda ids, weight: embedded(ids, weight, **arguments))


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_symbolic_length_also_of_none(arguments: dict[str, Any]) -> None:
    for ids in (IDS, IDS[:, :0]):
        check_layer(lambda dtype: nn.Embedding(5, 3, dtype=dtype, **arguments), [ids],
                    lambda ids, weight: embedded(ids, weight, **arguments), shapes=[("T",)])


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_gradients_with_repeated_ids(arguments: dict[str, Any]) -> None:
    check_derivatives(nn.Embedding(5, 3, dtype="f64", **arguments), [IDS])


def test_ids_without_a_further_axis() -> None:
    ids = np.array([2, 0, 2])
    check_layer(lambda dtype: nn.Embedding(3, 1, dtype=dtype), [ids], embedded)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_an_id_out_of_range_is_an_error_when_it_runs(bad: int, backend: str) -> None:
    ids = gnn.Input((2,), name="ids", dtype="i32")
    model = gnn.Model(ids, nn.Embedding(5, 3)(ids), backend=backend)
    with pytest.raises(NumericsError, match="Embedding: id"):
        model.predict(np.array([[0, 1], [bad, 2]]))
    assert model.predict(np.array([[0, 4]])).shape == (1, 2, 3)


def test_a_step_updates_only_the_rows_it_names() -> None:
    ids = gnn.Input((3,), name="ids", dtype="i32")
    model = gnn.Model(ids, nn.Embedding(50, 2, pool="sum", padding_idx=7)(ids), seed=3)
    w = model.state["embedding/weight"].astype(np.float64)
    model.compile(nn.SGD(0.1), nn.SquaredError(reduction="sum"))
    batch, target = np.array([[1, 1, 2], [9, 7, 7]]), RNG.normal(size=(2, 2)).astype(np.float32)
    model.fit(batch, target, batch_size=2, verbose=False)
    d = 2 * (embedded(batch, w, "sum", 7) - target)
    expected = w.copy()
    np.add.at(expected, ([1, 1, 2, 9],), -0.1 * d[[0, 0, 0, 1]])
    after = model.state["embedding/weight"]
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
    untouched = [i for i in range(50) if i not in (1, 2, 9)]
    np.testing.assert_array_equal(after[untouched], w[untouched].astype(np.float32))


@pytest.mark.parametrize("arguments", [{}, {"pool": "mean", "padding_idx": 0}], ids=str)
def test_three_steps_and_a_file(arguments: dict[str, Any], tmp_path: Path) -> None:
    check_training(lambda ids: nn.Embedding(6, 4, **arguments)(ids), [IDS], tmp_path, lr=0.1)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"vocab_size": 0}, "vocab_size is 0"), ({"out_features": -1}, "out_features is -1"),
    ({"vocab_size": 2.5}, "vocab_size is 2.5"),
    ({"pool": "max"}, "pool is 'max'"), ({"padding_idx": 5}, "padding_idx is 5"), ({"padding_idx": -1}, "padding_idx is -1"),
    ({"init": "glorot"}, "no initialiser 'glorot'"), ({"dtype": "i32"}, "dtype is 'i32'")])
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(gnn.GraphnnError, match=words):
        nn.Embedding(**{"vocab_size": 5, "out_features": 3, **arguments})


def test_bad_inputs() -> None:
    with pytest.raises(DTypeError, match="Embedding takes integer ids"):
        nn.Embedding(5, 3)(gnn.Input((2,), name="x"))
    with pytest.raises(ShapeError, match="no axis to pool"):
        nn.Embedding(5, 3, pool="sum")(gnn.constant(np.array(1)))
