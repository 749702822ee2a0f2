"""Embedding against rows of its table; sparse training; ids out of range."""

from __future__ import annotations

from collections.abc import Sequence
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


COUNTS = np.array([2, 0, 4])
GARBAGE = np.array([[1, 1, -7, 99], [50, 50, 50, 50], [4, 0, 1, 4]])       # what stands behind the lengths counts for nothing


def bag(weight: np.ndarray, ids: Sequence[int], pool: str | None, padding_idx: int | None) -> np.ndarray:
    rows = [weight[i] for i in ids if i != padding_idx]
    return sum(rows, np.zeros(weight.shape[1])) / (max(len(rows), 1) if pool == "mean" else 1)


@pytest.mark.parametrize("padding_idx", [None, 1])
@pytest.mark.parametrize("pool", ["sum", "mean"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_bags_of_different_lengths(backend: str, pool: str, padding_idx: int | None) -> None:
    """By lengths, by a mask and by offsets: each the sum or mean of its own ids; of an empty bag, 0."""
    layer = nn.Embedding(5, 3, pool=pool, padding_idx=padding_idx)
    ids, lengths = gnn.Input(("T",), name="ids", dtype="i64"), gnn.Input((), name="lengths", dtype="i32")
    mask, flat = gnn.Input(("T",), name="mask", dtype="bool"), gnn.Input((), name="flat", dtype="i32", batch="L")
    offsets = gnn.Input((), name="offsets", dtype="i64", batch="B")
    values = [ids, lengths, mask, flat, offsets]
    outputs = [layer(ids, lengths=lengths), layer(ids, mask=mask), layer(flat, offsets=offsets)]
    assert [str(y.type) for y in outputs] == ["f32[N,3]", "f32[N,3]", "f32[B,3]"]
    exe = gnn.compile(gnn.Graph.of("bags", values, outputs), backend=backend)
    w = exe.state["embedding/weight"].astype(np.float64)
    for count, starts in ((COUNTS, [0, 2, 2]), (COUNTS[:1], [0])):
        n = len(count)
        inside = np.arange(4) < count[:, None]
        one_by_one = np.concatenate([row[:k] for row, k in zip(GARBAGE, count, strict=False)]).astype(np.int32)
        expected = np.stack([bag(w, row[:k].tolist(), pool, padding_idx) for row, k in zip(GARBAGE, count, strict=False)])
        for y in exe(GARBAGE[:n], count.astype(np.int32), inside, one_by_one, np.array(starts)):
            np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


def test_lookup_gives_the_rows_that_are_pooled() -> None:
    ids, layer = gnn.Input((4,), name="ids", dtype="i64"), nn.Embedding(5, 3, pool="mean")
    model = gnn.Model(ids, [layer(ids), layer.lookup(ids)], backend="numpy")
    pooled, rows = model.predict(IDS)
    np.testing.assert_array_equal(rows, model.state["embedding/weight"][IDS])
    np.testing.assert_allclose(pooled, rows.mean(1), rtol=1e-6)


def test_lengths_without_a_pool_give_rows_and_zeros() -> None:
    ids, lengths = gnn.Input((4,), name="ids", dtype="i64"), gnn.Input((), name="lengths", dtype="i64")
    model = gnn.Model([ids, lengths], nn.Embedding(5, 3)(ids, lengths=lengths), backend="numpy")
    inside = np.arange(4) < COUNTS[:, None]
    expected = model.state["embedding/weight"][np.where(inside, GARBAGE, 0)] * inside[..., None]
    np.testing.assert_array_equal(model.predict([GARBAGE, COUNTS]), expected)


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_gradients_of_bags_with_repeated_ids(pool: str) -> None:
    """The seed loses ids that a bag repeats; here each counts."""
    flat, offsets = np.array([1, 1, 2, 4, 1]), np.array([0, 3, 3])

    def f(weight: gnn.Value) -> list[gnn.Value]:
        layer = nn.Embedding(5, 2, pool=pool, dtype="f64")
        ids = gnn.constant(flat)
        layer(ids, offsets=gnn.constant(offsets))
        layer.weight = weight
        rows = gnn.constant(GARBAGE)
        return [layer(ids, offsets=gnn.constant(offsets)) ** 2, layer(rows, lengths=gnn.constant(COUNTS)) ** 2]

    gnn.check_gradients(f, [RNG.normal(size=(5, 2))])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("ids", "offsets", "words"), [
    ([0, 1, 2], [0, 2, 1], "step from one offset to the next"), ([0, 1, 2], [1, 2, 2], "offsets begin at 0"),
    ([0, 1, 2], [0, 2, 9], "step from one offset to the next"), ([0, 1, 5], [0, 2, 2], "embedding id"),
    ([1, 1, 1], [-1, 0, 1], "step from one offset")])
def test_offsets_that_are_none(ids: list[int], offsets: list[int], words: str, backend: str) -> None:
    flat, starts = gnn.Input((), name="flat", dtype="i64", batch="L"), gnn.Input((), name="offsets", dtype="i64", batch="B")
    layer = nn.Embedding(5, 3, pool="sum")
    exe = gnn.compile(gnn.Graph.of("bags", [flat, starts], [layer(flat, offsets=starts)]), backend=backend)
    with pytest.raises(NumericsError, match=words):
        exe(np.array(ids), np.array(offsets))


def test_bags_that_do_not_fit() -> None:
    ids, row = gnn.Input(("T",), name="ids", dtype="i64"), gnn.Input((), name="row", dtype="i64")
    mask, real = gnn.Input(("T",), name="mask", dtype="bool"), gnn.Input((), name="real")
    layer = nn.Embedding(5, 3, pool="sum")
    for given, error, words in (
            ({"lengths": row, "mask": mask}, ShapeError, "got lengths and mask; give one"),
            ({"lengths": real}, DTypeError, "lengths is f32.N.; it is whole numbers"), ({"mask": ids}, DTypeError, "it is bool"),
            ({"lengths": ids}, ShapeError, "lengths are i64.N,T.; there is one"),
            ({"offsets": row}, ShapeError, "offsets are i64.N."),
            ({"mask": gnn.Input((), name="m", dtype="bool")}, ShapeError, "mask is bool.N.; it has the shape of ids")):
        with pytest.raises(error, match=words):
            layer(ids, **given)
    with pytest.raises(ShapeError, match=r"lengths are i64.N.; there is one for each bag of i64.N."):
        layer(row, lengths=row)
    with pytest.raises(ShapeError, match="pool is None"):
        nn.Embedding(5, 3)(row, offsets=row)


def test_ids_without_a_further_axis() -> None:
    ids = np.array([2, 0, 2])
    check_layer(lambda dtype: nn.Embedding(3, 1, dtype=dtype), [ids], embedded)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_an_id_out_of_range_is_an_error_when_it_runs(bad: int, backend: str) -> None:
    ids = gnn.Input((2,), name="ids", dtype="i32")
    model = gnn.Model(ids, nn.Embedding(5, 3)(ids), backend=backend)
    with pytest.raises(NumericsError, match=r"embedding id .*(out of range.*, below 5|outside \[0, 5\))") as caught:
        model.predict(np.array([[0, 1], [bad, 2]]))
    assert any("layer     embedding" in note for note in caught.value.__notes__)
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
