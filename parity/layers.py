"""Layers that are neither of images nor of time, beside torch.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import graphnn as gnn
from graphnn import nn
from graphnn.ir.ops.sparse import sorted_pattern
from parity.harness import Call, Draw, parity


def axes(draw: Draw, high: int = 7, ranks: tuple[int, int] = (1, 3)) -> tuple[int, ...]:
    """Sizes of the axes before the channels: a batch and what follows."""
    return tuple(draw.size(1, high) for _ in range(draw.size(*ranks)))


def activation(draw: Draw) -> tuple[Any, Any]:
    """An activation of ours and PyTorch's."""
    return draw.choice((None, lambda y: y), ("relu", torch.relu), ("tanh", torch.tanh), ("silu", functional.silu))


def with_bias(draw: Draw, bias: bool, weight: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters weight and, perhaps, bias, one for each number of the last axis."""
    return {"weight": weight, **({"bias": draw.normal(weight.shape[-1])} if bias else {})}


@parity("layers", "FullyConnected")
def fully_connected(draw: Draw) -> Call:
    shape, i, o, bias, (ours, f) = axes(draw), draw.size(1, 33), draw.size(1, 35), draw.flag(), activation(draw)
    return Call(nn.FullyConnected(o, ours, bias=bias),
                lambda x, weight, bias=None: f(functional.linear(x, weight.T, bias)),
                {"x": draw.normal(*shape, i)}, with_bias(draw, bias, draw.normal(i, o)))


@parity("layers", "SparseEvolution")
def sparse_evolution(draw: Draw) -> Call:
    shape, i, o, bias, (ours, f) = axes(draw), draw.size(1, 20), draw.size(1, 20), draw.flag(), activation(draw)
    layer = nn.SparseEvolution(o, epsilon=draw.number(0.5, 4.0), activation=ours, bias=bias)
    entries = min(i * o, round(layer.epsilon * (i + o)))
    pattern = sorted_pattern(*np.divmod(draw.rng.permutation(i * o)[:entries], i))

    def reference(x: Tensor, weight: Tensor, pattern: Tensor, bias: Tensor | None = None) -> Tensor:
        return f(functional.linear(x, torch.zeros(o, i, dtype=x.dtype).index_put(tuple(pattern[:2].long()), weight), bias))

    params = {"weight": draw.normal(entries), **({"bias": draw.normal(o)} if bias else {})}
    return Call(layer, reference, {"x": draw.normal(*shape, i)}, params, {"pattern": pattern})


@parity("layers", "Embedding")
def embedding(draw: Draw) -> Call:
    shape, rows, o = axes(draw), draw.size(1, 12), draw.size(1, 9)
    padding, weight = draw.choice(None, draw.size(0, rows - 1)), draw.normal(rows, o)
    if padding is not None:
        weight[padding] = 0.0                            # here the padding id always gives zeros
    return Call(nn.Embedding(rows, o, padding_idx=padding, dtype=draw.dtype),
                lambda ids, weight: functional.embedding(ids, weight, padding),
                {"ids": draw.ids(rows, *shape)}, {"weight": weight})


@parity("layers", "Embedding (bags)")
def embedding_bags(draw: Draw) -> Call:
    n, t, rows, o, pool = draw.size(1, 7), draw.size(1, 6), draw.size(1, 12), draw.size(1, 9), draw.choice("sum", "mean")
    padding, how = draw.choice(None, draw.size(0, rows - 1)), draw.choice("all", "lengths", "mask", "offsets")
    ids, lengths = draw.ids(rows, n, t), draw.ids(t + 1, n)
    which: dict[str, Any] = {"lengths": lengths, "mask": draw.rng.random((n, t)) < 0.6}
    kept = np.arange(t) < lengths[:, None] if how == "lengths" else which.get(how, np.ones((n, t), bool))
    flat, starts = ids[kept], np.concatenate([[0], kept.sum(1).cumsum()[:-1]])
    given = {"all": {}, "offsets": {"offsets": starts}}.get(how, {how: which.get(how)})
    layer = nn.Embedding(rows, o, pool, padding, dtype=draw.dtype)

    def reference(*inputs: Tensor, weight: Tensor) -> Tensor:
        return functional.embedding_bag(torch.tensor(flat), weight, torch.tensor(starts), mode=pool, padding_idx=padding)

    def build(ids: gnn.Value, *more: gnn.Value) -> gnn.Value:
        return layer(ids, **dict(zip(given, more, strict=True)))

    inputs = {"ids": flat if how == "offsets" else ids, **given}
    return Call(build, reference, inputs, {"weight": draw.normal(rows, o)}, fixed=how == "offsets")


@parity("layers", "Dropout")
def dropout(draw: Draw) -> Call:
    """PyTorch draws other masks: here it is given ours, which a run on ones shows."""
    shape, p, spatial, training = (*axes(draw, ranks=(2, 3)), draw.size(1, 9)), draw.number(0.0, 0.9), draw.flag(), draw.flag()
    x = gnn.Input(shape[1:], name="x", dtype=draw.dtype)
    probe = gnn.compile(gnn.Graph.of("mask", [x], [nn.Dropout(p, spatial=spatial, name="drop")(x)]), training=training)
    mask = torch.tensor(probe(np.ones(shape, draw.real)) != 0)
    return Call(nn.Dropout(p, spatial=spatial, name="drop"),
                lambda x: x * mask / (1.0 - p) if training else functional.dropout(x, p, training=False),
                {"x": draw.normal(*shape)}, training=training)


@parity("layers", "Dropout (around a layer)")
def dropout_around(draw: Draw) -> Call:
    n, i, o = draw.size(1, 7), draw.size(1, 9), draw.size(1, 9)
    return Call(nn.Dropout(draw.number(0.0, 0.9), nn.FullyConnected(o)),
                lambda x, weight, bias: functional.linear(x, weight.T, bias),
                {"x": draw.normal(n, i)}, with_bias(draw, True, draw.normal(i, o)))


def _several(draw: Draw) -> dict[str, np.ndarray]:
    """One to four arrays whose shapes broadcast."""
    shape = axes(draw, ranks=(2, 4))
    shapes = [shape] + [(shape[0], *(draw.choice(1, size) for size in shape[1:])) for _ in range(draw.size(0, 3))]
    return {f"x{i}": draw.normal(*each) for i, each in enumerate(shapes)}


@parity("layers", "Add")
def add(draw: Draw) -> Call:
    ours, f = activation(draw)
    return Call(nn.Add(ours), lambda *xs: f(sum(xs[1:], xs[0])), _several(draw))


@parity("layers", "Multiply")
def multiply(draw: Draw) -> Call:
    ours, f = activation(draw)
    return Call(nn.Multiply(ours), lambda *xs: f(torch.stack(torch.broadcast_tensors(*xs)).prod(0)), _several(draw))


@parity("layers", "Concatenate")
def concatenate(draw: Draw) -> Call:
    shape, (ours, f) = axes(draw, ranks=(2, 4)), activation(draw)
    axis = draw.size(1, len(shape) - 1)
    sizes = [draw.size(1, 5) for _ in range(draw.size(1, 4))]
    inputs = {f"x{i}": draw.normal(*shape[:axis], size, *shape[axis + 1:]) for i, size in enumerate(sizes)}
    return Call(nn.Concatenate(draw.choice(axis, axis - len(shape)), ours), lambda *xs: f(torch.cat(xs, axis)), inputs)


@parity("layers", "Flatten")
def flatten(draw: Draw) -> Call:
    shape, keep = axes(draw, ranks=(1, 4)), draw.choice("first", "last", -1)
    function = {"first": lambda x: x.reshape(x.shape[0], -1), "last": lambda x: x.reshape(-1, x.shape[-1]),
                -1: lambda x: x.reshape(1, -1)}[keep]
    return Call(nn.Flatten(keep), function, {"x": draw.normal(*shape)})


@parity("layers", "Reshape")
def reshape(draw: Draw) -> Call:
    n, a, b, c = (draw.size(1, 5) for _ in range(4))
    target = draw.choice((a, b, c), (a * b, c), (c, -1), (-1,), (b, -1, a))
    return Call(nn.Reshape(target), lambda x: x.reshape(n, *target), {"x": draw.normal(n, a, b * c)})


@parity("layers", "LayerNorm1D")
def layer_norm_1d(draw: Draw) -> Call:
    shape, affine, eps = axes(draw, ranks=(2, 4)), draw.flag(), draw.choice(1e-5, 1e-3)
    shape = (*shape[:-1], draw.size(3, 40))
    count = draw.size(1, len(shape) - 1)
    sizes = draw.choice(None, shape[-count:])
    over = shape[-1:] if sizes is None else sizes
    params = {"weight": draw.normal(*over), "bias": draw.normal(*over)} if affine else {}
    return Call(nn.LayerNorm1D(sizes, eps, affine),
                lambda x, weight=None, bias=None: functional.layer_norm(x, over, weight, bias, eps),
                {"x": draw.normal(*shape, scale=2.0, shift=0.5)}, params)


def batch_norm(draw: Draw, kind: type[nn.Layer], shape: tuple[int, ...]) -> Call:
    """A BatchNorm in training or evaluation, with its running statistics."""
    c, training, affine, eps, momentum = shape[-1], draw.flag(), draw.flag(), draw.choice(1e-5, 1e-3), draw.choice(0.1, 0.3)
    states = {"running_mean": draw.normal(c), "running_var": draw.uniform(0.5, 2.0, c)}

    def reference(x: Tensor, weight: Any = None, bias: Any = None, running_mean: Any = None, running_var: Any = None) -> Tensor:
        y = functional.batch_norm(torch.movedim(x, -1, 1), running_mean, running_var, weight, bias, training, momentum, eps)
        return torch.movedim(y, 1, -1)

    params = {"weight": draw.normal(c), "bias": draw.normal(c)} if affine else {}
    return Call(kind(eps=eps, momentum=momentum, affine=affine), reference,  # pyright: ignore[reportCallIssue]
                {"x": draw.normal(*shape, scale=2.0, shift=0.5)}, params, states, training)


@parity("layers", "BatchNorm1D")
def batch_norm_1d(draw: Draw) -> Call:
    shape = draw.choice((draw.size(4, 40), draw.size(1, 9)), (draw.size(2, 9), draw.size(3, 7), draw.size(1, 9)))
    return batch_norm(draw, nn.BatchNorm1D, shape)


@parity("layers", "DotProductAttention")
def attention(draw: Draw) -> Call:
    lead, tq, tk, d, e = axes(draw, 4, (1, 2)), draw.size(1, 9), draw.size(1, 9), draw.size(1, 8), draw.size(1, 8)
    scale, causal, how = draw.choice(True, False, 0.3), draw.flag(), draw.choice("none", "bool", "numbers")
    bare, weighted = nn.DotProductAttention(scale, causal), nn.DotProductAttention(scale, causal, return_weights=True)
    inputs = {"q": draw.normal(*lead, tq, d), "k": draw.normal(*lead, tk, d), "v": draw.normal(*lead, tk, e)}
    if how != "none":
        shape = (lead[0], *(draw.choice(1, size) for size in lead[1:]), draw.choice(1, tq), tk)
        mask = draw.rng.random(shape) < 0.7
        mask[..., 0] = True                              # a query without any key is 0 here
        inputs["mask"] = mask if how == "bool" else draw.normal(*shape)

    def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if not causal:
            return functional.scaled_dot_product_attention(q, k, v, mask, scale=_scale(scale))
        if mask is None:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=_scale(scale))
        before = torch.ones(tq, tk, dtype=torch.bool).tril()
        mask = mask & before if mask.dtype is torch.bool else torch.where(before, mask, -torch.inf)
        return functional.scaled_dot_product_attention(q, k, v, mask, scale=_scale(scale))

    return Call(lambda *given: weighted(*given)[0] if draw.dtype == "f64" else bare(*given), reference, inputs)


def _scale(scale: bool | float) -> float | None:
    return None if scale is True else float(scale or 1.0)


@parity("layers", "RBM")
def rbm(draw: Draw) -> Call:
    """Its probabilities, energies, and the gradient of contrastive divergence, which is that of a difference of free energies."""
    n, i, o = draw.size(1, 9), draw.size(1, 9), draw.size(1, 9)
    layer = nn.RBM(o)

    def build(v: gnn.Value, h: gnn.Value, negative: gnn.Value) -> list[gnn.Value]:
        return [layer(v), layer.visible(h), layer.free_energy(v), layer.energy(v, h),
                *layer.contrastive_divergence(v, negative=negative)[1]]

    def reference(v: Tensor, h: Tensor, negative: Tensor, **params: Tensor) -> list[Tensor]:
        weight, visible_bias, hidden_bias = params.values()

        def free_energy(v: Tensor) -> Tensor:
            return -(v @ visible_bias) - functional.softplus(v @ weight + hidden_bias, threshold=50).sum(-1)

        energy = -torch.einsum("ni,ij,nj->n", v, weight, h) - v @ visible_bias - h @ hidden_bias
        loss = free_energy(v).mean() - free_energy(negative).mean()
        return [torch.sigmoid(v @ weight + hidden_bias), torch.sigmoid(h @ weight.T + visible_bias), free_energy(v), energy,
                *torch.autograd.grad(loss, list(params.values()), create_graph=True)]

    inputs = {"v": draw.uniform(0, 1, n, i), "h": draw.uniform(0, 1, n, o), "negative": draw.uniform(0, 1, n, i)}
    params = {"weight": draw.normal(i, o), "visible_bias": draw.normal(i), "hidden_bias": draw.normal(o)}
    return Call(build, reference, inputs, params)
