"""Gather, scatter_add, one_hot and range checks agree with their meaning; wrong ids are refused, also without a check."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.op import Sample
from graphnn.ir.ops.index import CheckIndex, FirstEqual, Gather, OneHot, ScatterAdd
from graphnn.ir.types import f32, i64
from tests.helpers import assert_same_bits
from tests.runtime.lowered import Failed, check_sample, run_op

OPS = (Gather, ScatterAdd, OneHot, FirstEqual, CheckIndex)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("sample", [pytest.param(s, id=f"{op.name}-{i}") for op in OPS for i, s in enumerate(op.samples())])
def test_samples(sample: Sample) -> None:
    check_sample(sample, length=4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
@pytest.mark.parametrize("inner", [1, 3, 100])
def test_a_large_gather(dtype, inner) -> None:
    x = (RNG.normal(size=(2, 500, inner)) * 10).astype(dtype)
    ids = RNG.integers(0, 500, (33, 100))
    assert_same_bits(run_op(Gather(1), x, ids)[0], np.take(x, ids, 1))


@pytest.mark.parametrize("inner", [1, 7, 64])
def test_a_large_scatter_adds_in_the_order_of_the_ids(inner) -> None:
    base, ids = RNG.normal(size=(2, 50, inner)).astype(np.float32), RNG.integers(0, 50, 3000).astype(np.int32)
    updates = RNG.normal(size=(2, 3000, inner)).astype(np.float32)
    expected = base.copy()
    for m, i in enumerate(ids):
        expected[:, i] += updates[:, m]
    assert_same_bits(run_op(ScatterAdd(1), base, ids, updates)[0], expected)
    assert_same_bits(run_op(ScatterAdd(1), base, ids, updates, seed=5)[0], expected)


def test_a_large_one_hot() -> None:
    ids = RNG.integers(0, 1000, 300)
    assert_same_bits(run_op(OneHot(1000, f32), ids)[0], np.eye(1000, dtype=np.float32)[ids])


@pytest.mark.parametrize("size", [1, 40, 100_000])
def test_first_equal_places_of_many_ids(size) -> None:
    ids = RNG.integers(0, size, 3000)
    seen: dict[int, int] = {}
    expected = np.array([seen.setdefault(int(i), m) for m, i in enumerate(ids)])
    for _ in range(2):
        assert_same_bits(run_op(FirstEqual(size), ids)[0], expected)


@pytest.mark.parametrize("wrong", [-1, 7, 2**40, -2**63])
def test_wrong_ids_are_refused(wrong) -> None:
    ids = np.zeros(70_000, np.int64)
    ids[69_999] = wrong
    x, updates = np.ones((7, 2)), np.ones((70_000, 2))
    cases = [(CheckIndex(0, 7, "id"), ids), (Gather(0), x, ids), (ScatterAdd(0), x, ids, updates), (OneHot(7, i64), ids),
             (FirstEqual(7), ids)]
    for op, *arrays in cases:
        with pytest.raises(Failed, match="1"):
            run_op(op, *arrays)
