"""Layers beside torch.nn. Images are NHWC here and NCHW there."""

from __future__ import annotations

import torch
from torch.nn import functional

from graphnn import nn
from parity.harness import Arrays, Draw, graphnn_results, numpy, parity, tensor


@parity("layers", "FullyConnected")
def fully_connected(draw: Draw) -> tuple[Arrays, Arrays]:
    n, t, i, o = draw.size(1, 9), draw.size(1, 4), draw.size(1, 17), draw.size(1, 19)
    shape = draw.choice((n, i), (n, t, i))
    x, w, b, d = draw.normal(*shape), draw.normal(i, o), draw.normal(o), draw.normal(*shape[:-1], o)
    ours = graphnn_results(nn.FullyConnected(o), {"x": x}, [d], {"weight": w, "bias": b})
    tx, tw, tb = tensor(x), tensor(w), tensor(b)
    y = functional.linear(tx, tw.T, tb)
    y.backward(tensor(d, grad=False))
    return ours, {"y0": numpy(y), "d x": numpy(tx.grad), "d weight": numpy(tw.grad), "d bias": numpy(tb.grad)}


def _batch_norm(draw: Draw, layer: nn.Layer, shape: tuple[int, ...], training: bool) -> tuple[Arrays, Arrays]:
    c = shape[-1]
    x, w, b, d = draw.normal(*shape, scale=2.0, shift=0.5), draw.normal(c), draw.normal(c), draw.normal(*shape)
    mean, var = draw.normal(c), draw.uniform(0.5, 2.0, c)
    params = {"weight": w, "bias": b, "running_mean": mean, "running_var": var}
    ours = graphnn_results(layer, {"x": x}, [d], params, training=training, states=("running_mean", "running_var"))
    tx, tw, tb, tm, tv = tensor(x), tensor(w), tensor(b), tensor(mean, grad=False), tensor(var, grad=False)
    y = functional.batch_norm(torch.movedim(tx, -1, 1), tm, tv, tw, tb, training, 0.1, 1e-5)
    y = torch.movedim(y, 1, -1)
    y.backward(tensor(d, grad=False))
    return ours, {"y0": numpy(y), "d x": numpy(tx.grad), "d weight": numpy(tw.grad), "d bias": numpy(tb.grad),
                  "running_mean": numpy(tm), "running_var": numpy(tv)}


@parity("layers", "BatchNorm1D")
def batch_norm_1d(draw: Draw) -> tuple[Arrays, Arrays]:
    shape = draw.choice((draw.size(4, 40), draw.size(1, 9)), (draw.size(2, 9), draw.size(3, 7), draw.size(1, 9)))
    return _batch_norm(draw, nn.BatchNorm1D(), shape, draw.choice(True, False))


@parity("layers", "BatchNorm2D")
def batch_norm_2d(draw: Draw) -> tuple[Arrays, Arrays]:
    shape = (draw.size(2, 5), draw.size(2, 9), draw.size(2, 9), draw.size(1, 17))
    return _batch_norm(draw, nn.BatchNorm2D(), shape, draw.choice(True, False))
