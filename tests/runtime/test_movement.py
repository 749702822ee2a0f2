"""Copies between views: kernel against meaning over the ops' samples, and over sizes around blocks and tiles."""

import numpy as np
import pytest

from graphnn.ir.ops.shaping import Flip, Transpose
from graphnn.ir.ops.slicing import Concat, Pad, Slice, Split
from tests.runtime.lowered import check_sample, run_op


@pytest.mark.parametrize("op", [Transpose, Slice, Flip, Pad, Concat, Split], ids=lambda op: op.name)
def test_kernel_agrees_with_meaning(op):
    for sample in op.samples():
        check_sample(sample)


def numbered(shape, dtype=np.float32):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 70), (65, 64), (130, 71), (64, 8)])
def test_a_matrix_is_transposed(shape, dtype):
    x = numbered(shape, dtype)
    np.testing.assert_array_equal(run_op(Transpose((1, 0)), x)[0], x.T)


PERMS = ((0, 2, 1, 3), (0, 3, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1), (3, 2, 1, 0), (0, 1, 3, 2), (1, 0, 2, 3))


@pytest.mark.parametrize("perm", PERMS)
def test_four_axes_in_any_order(perm):
    x = numbered((3, 10, 17, 9))
    np.testing.assert_array_equal(run_op(Transpose(perm), x)[0], x.transpose(perm))


def test_long_lines_are_cut_into_tiles():
    x = numbered((3, 20_000))
    np.testing.assert_array_equal(run_op(Slice((0, 1), (3, 19_999), (1, 1)), x)[0], x[:, 1:19_999])
    np.testing.assert_array_equal(run_op(Slice((1, 2), (3, 20_000), (1, 3)), x)[0], x[1:3, 2::3])
    np.testing.assert_array_equal(run_op(Flip((0, 1)), x)[0], x[::-1, ::-1])
    np.testing.assert_array_equal(run_op(Concat(1), x, x)[0], np.concatenate([x, x], 1))
    for part, expected in zip(run_op(Split(1, (7_777, 12_223)), x), np.split(x, [7_777], 1), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(run_op(Pad((1, 2), (0, 3), 5.0), x)[0], np.pad(x, [(1, 0), (2, 3)], constant_values=5.0))
