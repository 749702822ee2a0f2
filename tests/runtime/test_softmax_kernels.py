"""Softmax kernels agree with the meaning along every axis, for lengths around the vector blocks, and for extreme rows."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.op import Sample
from graphnn.ir.ops.softmax import LogSoftmax, Softmax
from tests.runtime.lowered import check_sample, run_op

OPS = (Softmax, LogSoftmax)


@pytest.mark.parametrize("sample", [pytest.param(s, id=f"{op.name}-{i}") for op in OPS for i, s in enumerate(op.samples())])
def test_samples(sample: Sample) -> None:
    check_sample(sample)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 127, 200, 1000])
def test_rows_and_columns_of_every_length(op, dtype, n) -> None:
    x = (np.random.default_rng(n).normal(size=(9, n, 3)) * 10).astype(dtype)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    near_zero = tolerance if op is LogSoftmax else 0                        # log(1 + rounding) where one element has it all
    np.testing.assert_allclose(run_op(op(1), x)[0], op(1).numpy(x), rtol=tolerance, atol=near_zero)
    rows = np.ascontiguousarray(x.transpose(0, 2, 1))
    y = run_op(op(2), rows)[0]
    np.testing.assert_allclose(y, op(2).numpy(rows), rtol=tolerance, atol=near_zero)
    np.testing.assert_allclose((np.exp(y) if op is LogSoftmax else y).sum(-1), 1, rtol=10 * tolerance)


def test_many_tiles() -> None:
    x = np.random.default_rng(0).normal(size=(700, 129, 1)).astype(np.float32)
    for shape, axis in (((700, 129), 1), ((700, 129), 0), ((7, 100, 129), 1)):
        a = x.reshape(shape)
        np.testing.assert_allclose(run_op(Softmax(axis), a)[0], Softmax(axis).numpy(a), rtol=3e-6)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [5, 70])
def test_extreme_rows(op, n) -> None:
    x = np.zeros((6, n), np.float32)
    x[0, 3] = np.nan
    x[1, 0] = np.inf
    x[2] = -np.inf
    x[3, 1:] = -np.inf
    x[4] = np.linspace(-3e38, 3e38, n)
    x[5] = 1e-45
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run_op(op(1), x)[0], op(1).numpy(x), rtol=1e-6)
        turned = np.ascontiguousarray(x.T)
        np.testing.assert_allclose(run_op(op(0), turned)[0], op(0).numpy(turned), rtol=1e-6)
