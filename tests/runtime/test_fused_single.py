"""Every elementwise op, reduction and movement op on its own: kernel against meaning over the op's samples."""

import numpy as np
import pytest

from graphnn.ir.ops.reduce import ArgMax, LogSumExp, Max, Min, Prod, Sum
from graphnn.ir.ops.shaping import Expand
from graphnn.ir.ops.sizes import Iota, SizeOf
from graphnn.runtime.kernels.fused import ELEMENTWISE
from tests.helpers import bound_op, meaning, variants
from tests.runtime.lowered import check_sample, run_op


@pytest.mark.parametrize("op", [*ELEMENTWISE, Expand, Iota, SizeOf], ids=lambda op: op.name)
def test_elementwise_kernel_agrees_with_meaning(op):
    for sample in op.samples():
        check_sample(sample)


@pytest.mark.parametrize("op", [Sum, Max, Min, Prod, LogSumExp, ArgMax], ids=lambda op: op.name)
def test_reduction_agrees_with_meaning(op):
    for sample in (v for s in op.samples() for v in variants(s)):
        (x,) = sample.inputs
        eps = np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0
        largest = np.max(np.abs(x), initial=1, where=np.isfinite(x))
        (actual,), (expected,) = run_op(bound_op(sample), x), meaning(sample)
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=4 * x.size * eps, atol=x.size * largest * eps)
