"""Sparse products: large ones against dense matrices, the same for any order of tiles, and damaged patterns refused."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.errors import NumericsError
from graphnn.ir.op import Op, Sample
from graphnn.ir.ops.sparse import SampledMatMul, SparseMatMul, sorted_pattern
from tests.helpers import assert_same_bits
from tests.runtime.lowered import Failed, check_sample, run_op

RNG = np.random.default_rng(0)
M, K, ENTRIES = 310, 170, 4000


@pytest.mark.parametrize("sample", [pytest.param(s, id=f"{op.name}-{i}") for op in (SparseMatMul, SampledMatMul)
                                    for i, s in enumerate(op.samples())])
def test_samples(sample: Sample) -> None:
    check_sample(sample, length=4)


def large(dtype: str, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """values, pattern, the dense matrix, x and dy."""
    pattern = sorted_pattern(*np.divmod(RNG.choice(M * K, ENTRIES, replace=False), K))
    values = RNG.normal(size=ENTRIES).astype(dtype)
    dense = np.zeros((M, K), dtype)
    dense[pattern[0], pattern[1]] = values
    return values, pattern, dense, RNG.normal(size=(K, n)).astype(dtype), RNG.normal(size=(M, n)).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [1, 7, 16, 128, 131, 300, 2000])
def test_a_large_product_and_its_gradients_are_those_of_the_dense_matrix(dtype: str, n: int) -> None:
    values, pattern, dense, x, dy = large(dtype, n)
    tolerance = 2e-5 if dtype == "f4" else 1e-12
    for op, inputs, expected in (
        (SparseMatMul(M), (values, pattern, x), dense @ x),
        (SparseMatMul(K, True), (values, pattern, dy), dense.T @ dy),
        (SampledMatMul(), (pattern, dy, x), (dy @ x.T)[pattern[0], pattern[1]]),
    ):
        (actual,) = run_op(op, *inputs)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        assert_same_bits(run_op(op, *inputs, seed=9)[0], actual)            # tiles in another order


def test_a_matrix_with_all_entries_in_one_row() -> None:
    pattern = sorted_pattern(np.full(K, 7), np.arange(K))
    values, x = RNG.normal(size=K), RNG.normal(size=(K, 33))
    expected = np.zeros((M, 33))
    expected[7] = values @ x
    np.testing.assert_allclose(run_op(SparseMatMul(M), values, pattern, x)[0], expected, atol=1e-12)
    back = RNG.normal(size=(M, 33))
    np.testing.assert_allclose(run_op(SparseMatMul(K, True), values, pattern, back)[0], np.outer(values, back[7]), atol=1e-12)


def damaged() -> list[tuple[str, np.ndarray]]:
    pattern = large("f4", 1)[1]
    found = []
    for part in range(3):
        for place in (0, 1, ENTRIES // 2, ENTRIES - 1):
            for wrong in (-1, -2**31, ENTRIES, 2**31 - 1):
                bad = pattern.copy()
                bad[part, place] = wrong
                found.append((f"part {part}, place {place}: {wrong}", bad))
    for part in (0, 2):                                 # in range, but not in order
        bad = pattern.copy()
        bad[part] = RNG.permutation(bad[part])
        found.append((f"part {part} mixed", bad))
    bad = pattern.copy()
    bad[0, ENTRIES // 3] = M - 1
    found.append(("a row too far back", bad))
    found.append(("zeros for an order", np.stack((pattern[0], pattern[1], 0 * pattern[2]))))
    return found


@pytest.mark.parametrize(("what", "pattern"), [pytest.param(*case, id=case[0]) for case in damaged()])
def test_a_damaged_pattern_is_refused_where_its_meaning_refuses_it(what: str, pattern: np.ndarray) -> None:
    values, _, _, x, dy = large("f4", 130)
    cases: list[tuple[Op, tuple[np.ndarray, ...]]] = [
        (SparseMatMul(M), (values, pattern, x)),
        (SparseMatMul(K, True), (values, pattern, dy)),
        (SampledMatMul(), (pattern, dy, x)),
    ]
    refused = 0
    for op, inputs in cases:
        try:
            expected = op.numpy(*inputs)
        except NumericsError:
            refused += 1
            with pytest.raises(Failed, match="1"):
                run_op(op, *inputs)
        else:
            assert isinstance(expected, np.ndarray)
            np.testing.assert_allclose(run_op(op, *inputs)[0], expected, rtol=1e-4, atol=1e-3)
    assert refused or what == "zeros for an order"
