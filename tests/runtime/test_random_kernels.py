"""Random kernels: bits, uniform, bernoulli, integers and seeds equal to the bit; normal numbers to a few ulp."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.ir.op import Sample
from graphnn.ir.ops.random import FoldSeed, RandomBernoulli, RandomBits, RandomIntegers, RandomNormal, RandomUniform
from graphnn.ir.types import f32, f64, i32, i64
from graphnn.runtime.kernels.random import TILE
from tests.helpers import assert_same_bits, bound_op, meaning
from tests.runtime.lowered import run_op

EXACT = (RandomBits, RandomUniform, RandomBernoulli, RandomIntegers, FoldSeed)
SEED, STEP = np.array(2**40 + 3, np.int64), np.array(2**33 - 1, np.int64)


@pytest.mark.parametrize("sample", [pytest.param(s, id=f"{op.name}-{i}") for op in EXACT for i, s in enumerate(op.samples())])
def test_samples_are_equal_to_the_bit(sample: Sample) -> None:
    assert_same_bits(run_op(bound_op(sample), *sample.inputs)[0], meaning(sample)[0])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, TILE - 1, TILE, TILE + 1, 2 * TILE + 3])
def test_every_length_is_equal_to_the_bit(n) -> None:
    for op in (RandomBits((n,), 2**62), RandomUniform((n,), 5, f32), RandomUniform((n,), 5, f64), RandomBernoulli((n,), 5, 0.7),
               RandomIntegers((n,), 5, -10, 2**31, i64), RandomIntegers((n,), 5, -10, 10, i32)):
        assert_same_bits(run_op(op, SEED, STEP)[0], op.numpy(SEED, STEP))


@pytest.mark.parametrize("n", [1, 2, 3, 5, TILE - 1, 3 * TILE + 1])
@pytest.mark.parametrize(("dtype", "ulps"), [(f32, 6), (f64, 8)])
def test_normal_numbers_agree_within_a_few_ulp(n, dtype, ulps) -> None:
    op = RandomNormal((n,), 7, dtype)
    actual, expected = run_op(op, SEED, STEP)[0], op.numpy(SEED, STEP)
    assert actual.dtype == expected.dtype
    assert (np.abs(actual - expected) <= ulps * np.spacing(np.abs(expected))).all()
