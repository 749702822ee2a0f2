"""Pooling kernels agree with the meaning: every sample, and larger images of many channels."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.op import Sample
from graphnn.ir.ops import pool
from tests.helpers import assert_same_bits
from tests.runtime.lowered import check_sample, run_op

OPS = (pool.MaxPool2D, pool.MaxPool2DGrad, pool.MaxPool2DPick, pool.AvgPool2D, pool.AvgPool2DGrad)
SAMPLES = [pytest.param(s, id=f"{op.name}-{i}") for op in OPS for i, s in enumerate(op.samples())]
WINDOWS = [((2, 2), (2, 2), (0, 0, 0, 0)), ((3, 3), (2, 2), (1, 1, 1, 1)), ((3, 3), (1, 1), (1, 2, 0, 1)),
           ((2, 2), (3, 1), (1, 0, 0, 1)), ((5, 3), (2, 3), (2, 4, 1, 0)), ((2, 2), (1, 1), (0, 0, 0, 0))]


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples(sample: Sample) -> None:
    check_sample(sample)


@pytest.mark.parametrize("channels", [1, 3, 33])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_larger_images(dtype, window, channels) -> None:
    rng = np.random.default_rng(0)
    n, h, w = (3, 37, 23) if channels > 1 else (2, 130, 140)                # several tiles
    x = rng.integers(0, 4, (n, h, w, channels)).astype(dtype)              # many ties
    x[0, 5, 5] = np.nan
    op = pool.MaxPool2D(*window)
    y = op.numpy(x)
    assert_same_bits(run_op(op, x)[0], y)
    dy, v = rng.normal(size=y.shape).astype(dtype), rng.normal(size=x.shape).astype(dtype)
    np.testing.assert_allclose(run_op(pool.MaxPool2DGrad(*window), x, dy)[0], pool.MaxPool2DGrad(*window).numpy(x, dy), atol=1e-5)
    assert_same_bits(run_op(pool.MaxPool2DPick(*window), x, v)[0], pool.MaxPool2DPick(*window).numpy(x, v))
    for counted in (True, False):
        mean = pool.AvgPool2D(*window, counted)
        assert_same_bits(run_op(mean, v)[0], mean.numpy(v))
        spread = pool.AvgPool2DGrad(x.shape, *window, counted)
        assert_same_bits(run_op(spread, dy)[0], spread.numpy(dy))
