"""Attention's kernels agree with its meaning around the edges of blocks and vectors; T x T scores are never stored."""

from __future__ import annotations

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.ir.ops.attention import Attention, AttentionGrad
from tests.runtime.lowered import check_sample, run_op

# outer axes, queries, keys, heads, size, width: one block and several, whole vectors and parts of them, chunks of keys
SIZES = [((), 1, 1, 1, 1, 1), ((2,), 64, 64, 2, 32, 32), ((3,), 65, 63, 1, 16, 33), ((), 130, 200, 3, 20, 40),
         ((2, 2), 7, 300, 1, 5, 3), ((1,), 200, 70, 2, 64, 8), ((5, 4), 31, 17, 1, 8, 8)]


@pytest.mark.parametrize("kind", [Attention, AttentionGrad])
def test_samples(kind: type[Attention] | type[AttentionGrad]) -> None:
    for sample in kind.samples():
        check_sample(sample, length=8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("causal", "masks"), [(False, ""), (True, ""), (False, "whole"), (True, "keys"), (False, "dropped"),
                                               (True, "whole dropped")])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forward_and_backward(sizes: tuple[tuple[int, ...], int, int, int, int, int], causal: bool, masks: str,
                              dtype: type) -> None:
    outer, queries, keys, heads, size, width = sizes
    rng = np.random.default_rng(queries)
    given = [rng.normal(size=(*outer, t, heads, d)).astype(dtype) for t, d in ((queries, size), (keys, size), (keys, width))]
    if "whole" in masks:
        mask = rng.random((*outer, 1, keys, queries)) < 0.5
        mask[..., queries // 2] = False                                   # a query that may see nothing
        given.append(mask)
    if "keys" in masks:
        given.append(rng.random((*(1 for _ in outer), heads, keys, 1)) < 0.5)
    drop = 0.25 if "dropped" in masks else 0.0
    if drop:
        given.append(rng.random((*outer, heads, keys, queries)) < 1 - drop)
    op = Attention(0.3, causal, masks.startswith(("whole", "keys")), drop)
    tolerance = 2e-5 if dtype is np.float32 else 1e-12
    y, logs = op.numpy(*given)
    for actual, expected in zip(run_op(op, *given), (y, logs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    dy = rng.normal(size=y.shape).astype(dtype)
    more = [*given, logs, (dy * y).sum(-1), dy]
    grad = AttentionGrad(op.scale, op.causal, op.masked, op.drop)
    for actual, expected in zip(run_op(grad, *more, seed=1), grad.numpy(*more), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * 10)


def test_what_is_not_finite_spreads_as_in_the_meaning() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(70, 1, 4)).astype(np.float32) for _ in range(3))
    q[3] = np.nan
    k[66] = np.inf
    with np.errstate(invalid="ignore"):
        for actual, expected in zip(run_op(Attention(1.0, True), q, k, v), Attention(1.0, True).numpy(q, k, v), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_results_do_not_depend_on_threads() -> None:
    x = gnn.Input(("T", 24), name="x")
    y = nn.MultiHeadedAttentionModule(3, causal=True)(x)
    exe = gnn.compile(gnn.Graph.of("attend", [x], [y, *gnn.gradients(gnn.sum(y * y), [x])]))
    data = np.random.default_rng(1).normal(size=(2, 150, 24)).astype(np.float32)
    before, found = gnn.threads(), []
    try:
        for count in (1, 2, 3):
            gnn.set_threads(count)
            found.append(exe(data))
    finally:
        gnn.set_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_stores_no_scores() -> None:
    steps = 1024
    x = gnn.Input((steps, 8), name="x")
    y = nn.MultiHeadedAttentionModule(2, causal=True)(x)
    graph = gnn.Graph.of("attend", [x], gnn.gradients(gnn.sum(y * y), [x]))
    assert gnn.compile(graph).lower(N=1).plan.buffers.arena < 4 * steps * steps
