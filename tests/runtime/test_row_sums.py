"""Sums and dot products of rows that lie anywhere, of any length, against NumPy in float64; nothing beside them is touched."""

import numpy as np
import pytest

from graphnn.runtime import instruction_set
from graphnn.runtime.row import Kernel, Row
from graphnn.runtime.row_sums import DOTS_AT_ONCE
from tests.runtime.rows_on_arrays import Rows, address, aligned

LENGTHS = (0, 1, 3, 4, 5, 7, 16, 19, 37, 64, 71, 100, 131)


def run(name: str, dtype: str, *args: int) -> None:
    kernel = Kernel.of(f"tests.runtime.sample_tiles:{name}", dtype=dtype, lanes=instruction_set.current().lanes(dtype))
    Rows([Row(kernel, args)]).run_tiles()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_sum_of_rows_anywhere(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        for count in (0, 1, 2, 11):
            table, factors, to = aligned((9, n + 1), dtype, rng), aligned((count,), dtype, rng), aligned((n + 2,), dtype, 1.0)
            ids = rng.integers(0, 9, count)
            rows = np.array([table.ctypes.data + i * table.strides[0] for i in ids], np.int64)
            expected = factors.astype("f8") @ table[ids, :n].astype("f8")
            given = address(to), address(factors), rows.ctypes.data, count, n
            run("one_row_sum", dtype, *given, 0)
            np.testing.assert_allclose(to[:n], expected, atol=1e-5)
            run("one_row_sum", dtype, *given, 1)
            np.testing.assert_allclose(to[:n], 2 * expected, atol=1e-5)
            assert to[n:].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_products_with_rows_anywhere(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        table, x, to = aligned((9, n + 1), dtype, rng), aligned((n + 1,), dtype, rng), aligned((DOTS_AT_ONCE + 1,), dtype, 1.0)
        table[:, n:] = x[n:] = np.nan
        ids = rng.integers(0, 9, DOTS_AT_ONCE)
        rows = np.array([table.ctypes.data + i * table.strides[0] for i in ids], np.int64)
        run("row_products", dtype, address(x), rows.ctypes.data, n, address(to))
        np.testing.assert_allclose(to[:-1], table[ids, :n].astype("f8") @ x[:n].astype("f8"), atol=1e-5)
        assert to[-1] == 1
