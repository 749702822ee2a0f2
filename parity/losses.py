"""Losses beside torch.nn.functional: the loss, and its gradients by predictions, real targets and sample weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import graphnn as gnn
from graphnn import nn
from parity.harness import Call, Draw, parity
from parity.layers import axes

REDUCTIONS = ("mean", "sum", "none")


def weighed(draw: Draw, loss: nn.Loss, each: Callable[..., Tensor], inputs: dict[str, np.ndarray], own: Any = None) -> Call:
    """A loss with sample weights, which PyTorch does not take, beside its losses of each entry: `each` of PyTorch with reduction
    "none"; `own` are the loss's own weights, 1 when None."""
    shape = next(iter(inputs.values())).shape
    entries = each(*(torch.tensor(a) for a in inputs.values())).ndim
    weight = draw.uniform(0.1, 2.0, *shape[:draw.size(1, entries)])

    def reference(*given: Tensor) -> Tensor:
        *arrays, w = given
        found = each(*arrays)
        spread = w.reshape(*w.shape, *(1 for _ in range(found.ndim - w.ndim))).expand_as(found)
        if loss.reduction == "none":
            return found * spread
        total = (found * spread).sum()
        counted = spread if own is None else spread * own.to(found.dtype)
        return total / counted.sum() if loss.reduction == "mean" else total

    return Call(loss, reference, {**inputs, "sample_weight": weight})


def elementwise(draw: Draw, loss: nn.Loss, function: Callable[..., Tensor], prediction: np.ndarray, target: np.ndarray,
                **options: Any) -> Call:
    """A loss of pairs of numbers, sometimes with sample weights."""
    inputs = {"prediction": prediction, "target": target}
    if loss.reduction in REDUCTIONS and draw.choice(False, False, True):
        return weighed(draw, loss, lambda p, y: function(p, y, reduction="none", **_in(p, options)), inputs)
    reduction = loss.reduction
    return Call(loss, lambda p, y: function(p, y, reduction=reduction, **_in(p, options)), inputs)


def _in(x: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """Options, their arrays as tensors of x's dtype."""
    return {k: torch.tensor(v, dtype=x.dtype) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@parity("losses", "SquaredError")
def squared_error(draw: Draw) -> Call:
    shape = axes(draw, ranks=(1, 4))
    return elementwise(draw, nn.SquaredError(draw.choice(*REDUCTIONS)), functional.mse_loss,
                       draw.normal(*shape), draw.normal(*shape))


@parity("losses", "MeanAbsoluteError")
def mean_absolute_error(draw: Draw) -> Call:
    shape = axes(draw, ranks=(1, 4))
    p, y = draw.normal(*shape), draw.normal(*shape)
    y = np.where(draw.rng.random(shape) < 0.2, p, y)     # the derivative where both agree
    return elementwise(draw, nn.MeanAbsoluteError(draw.choice(*REDUCTIONS)), functional.l1_loss, p, y)


@parity("losses", "Huber")
def huber(draw: Draw) -> Call:
    shape, delta = axes(draw, ranks=(1, 4)), draw.number(0.1, 3.0)
    return elementwise(draw, nn.Huber(draw.choice(*REDUCTIONS), delta), functional.huber_loss,
                       draw.normal(*shape), draw.normal(*shape), delta=delta)


@parity("losses", "BinaryCrossEntropy (logits)")
def binary_cross_entropy_with_logits(draw: Draw) -> Call:
    shape = axes(draw, ranks=(2, 4))
    weight = draw.choice(1.0, draw.number(0.2, 3.0), draw.rng.uniform(0.2, 3.0, shape[-1:]))
    x, y = draw.normal(*shape, scale=draw.choice(1.0, 10.0, 60.0)), draw.uniform(0, 1, *shape)
    return elementwise(draw, nn.BinaryCrossEntropy(draw.choice(*REDUCTIONS), pos_weight=weight),
                       functional.binary_cross_entropy_with_logits, x, draw.choice(y, y.round()), pos_weight=np.asarray(weight))


@parity("losses", "BinaryCrossEntropy (probabilities)")
def binary_cross_entropy(draw: Draw) -> Call:
    shape = axes(draw, ranks=(1, 4))
    return elementwise(draw, nn.BinaryCrossEntropy(draw.choice(*REDUCTIONS), from_logits=False), functional.binary_cross_entropy,
                       draw.uniform(0.01, 0.99, *shape), draw.uniform(0, 1, *shape))


@parity("losses", "KLDivergence")
def kl_divergence(draw: Draw) -> Call:
    shape, log_target = (*axes(draw), draw.size(2, 9)), draw.flag()
    form = draw.choice("log_probabilities", "probabilities", "logits")
    x, y = draw.normal(*shape), torch.softmax(torch.tensor(draw.normal(*shape)), -1).numpy()
    if form == "probabilities":
        x = np.exp(x)

    def function(x: Tensor, y: Tensor, reduction: str) -> Tensor:
        logs = torch.log(x) if form == "probabilities" else torch.log_softmax(x, -1) if form == "logits" else x
        return functional.kl_div(logs, y, reduction=reduction, log_target=log_target)

    loss = nn.KLDivergence(draw.choice(*REDUCTIONS, "batchmean"), form, log_target)
    return elementwise(draw, loss, function, x, np.log(y) if log_target else y)


@parity("losses", "CrossEntropy (ids)")
def cross_entropy_of_ids(draw: Draw) -> Call:
    shape, classes, ignored = axes(draw), draw.size(1, 9), draw.choice(-100, 0, -1)
    x, ids = draw.normal(*shape, classes, scale=draw.choice(1.0, 20.0)), draw.ids(classes, *shape)
    ids = np.where(draw.rng.random(shape) < 0.3, ignored, ids)
    ids.flat[0] = classes - 1
    kept = ids != ignored
    if not kept.any():                                   # PyTorch's mean over nothing is NaN, ours is 0
        ignored, kept = -100, ids != -100
    weight, smoothing = draw.choice(None, draw.rng.uniform(0.1, 2.0, classes)), draw.choice(0.0, draw.number(0, 1))
    loss = nn.CrossEntropy(draw.choice(*REDUCTIONS), weight=weight, label_smoothing=smoothing, ignore_index=ignored)

    def function(x: Tensor, ids: Tensor, reduction: str) -> Tensor:
        w = None if weight is None else torch.tensor(weight, dtype=x.dtype)
        return functional.cross_entropy(torch.movedim(x, -1, 1), ids, w, reduction=reduction, ignore_index=ignored,
                                        label_smoothing=smoothing)

    inputs = {"prediction": x, "target": ids}
    if draw.choice(False, False, True):
        own = kept if weight is None else np.where(kept, weight[np.where(kept, ids, 0)], 0.0)
        return weighed(draw, loss, lambda x, y: function(x, y, "none"), inputs, torch.tensor(own))
    return Call(loss, lambda x, y: function(x, y, loss.reduction), inputs)


@parity("losses", "CrossEntropy (distributions)")
def cross_entropy_of_distributions(draw: Draw) -> Call:
    shape = (*axes(draw), draw.size(1, 9))
    x, y = draw.normal(*shape, scale=draw.choice(1.0, 20.0)), torch.softmax(torch.tensor(draw.normal(*shape)), -1).numpy()
    weight, smoothing = draw.choice(None, draw.rng.uniform(0.1, 2.0, shape[-1])), draw.choice(0.0, draw.number(0, 1))
    loss = nn.CrossEntropy(draw.choice(*REDUCTIONS), weight=weight, label_smoothing=smoothing)

    def function(x: Tensor, y: Tensor, reduction: str) -> Tensor:
        w = None if weight is None else torch.tensor(weight, dtype=x.dtype)
        return functional.cross_entropy(torch.movedim(x, -1, 1), torch.movedim(y, -1, 1), w, reduction=reduction,
                                        label_smoothing=smoothing)

    return elementwise(draw, loss, function, x, y)


@parity("losses", "CrossEntropy (probabilities)")
def cross_entropy_of_probabilities(draw: Draw) -> Call:
    shape, classes = axes(draw), draw.size(2, 9)
    p = torch.softmax(torch.tensor(draw.normal(*shape, classes)), -1).numpy()
    weight = draw.choice(None, draw.rng.uniform(0.1, 2.0, classes))
    loss = nn.CrossEntropy(draw.choice(*REDUCTIONS), from_logits=False, weight=weight)

    def reference(p: Tensor, ids: Tensor) -> Tensor:
        w = None if weight is None else torch.tensor(weight, dtype=p.dtype)
        return functional.nll_loss(torch.movedim(p, -1, 1).log().contiguous(), ids, w, reduction=loss.reduction)

    return Call(loss, reference, {"prediction": p, "target": draw.ids(classes, *shape)})


@parity("losses", "VAELoss")
def vae_loss(draw: Draw) -> Call:
    shape, latent = axes(draw, ranks=(2, 4)), draw.size(1, 6)
    logits, decoder = draw.flag(), draw.choice("bernoulli", "gaussian")
    beta, variance, reduction = draw.number(0, 4), draw.number(0.2, 3), draw.choice(*REDUCTIONS)

    def reference(p: Tensor, y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        if decoder == "gaussian":
            rebuilt = -torch.distributions.Normal(p, math.sqrt(variance)).log_prob(y)
        elif logits:
            rebuilt = functional.binary_cross_entropy_with_logits(p, y, reduction="none")
        else:
            rebuilt = functional.binary_cross_entropy(p, y, reduction="none")
        code = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
        prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        each = rebuilt.flatten(1).sum(1) + beta * torch.distributions.kl_divergence(code, prior).sum(1)
        return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()

    p = draw.normal(*shape) if logits or decoder == "gaussian" else draw.uniform(0.01, 0.99, *shape)
    inputs = {"prediction": p, "target": draw.uniform(0, 1, *shape), "mean": draw.normal(shape[0], latent),
              "log_var": draw.normal(shape[0], latent)}
    return Call(nn.VAELoss(reduction, logits, beta, decoder, variance), reference, inputs)


@parity("losses", "WGAN_GPLoss")
def wgan_gp_loss(draw: Draw) -> Call:
    """Both losses of a critic with one hidden layer, by its parameters too: the penalty's gradient is a second derivative."""
    shape, hidden, strength = axes(draw, 5, (2, 3)), draw.size(1, 9), draw.number(0, 20)
    reduction = draw.choice(*REDUCTIONS)
    size, loss = math.prod(shape[1:]), nn.WGAN_GPLoss(strength, reduction)
    inner, outer = nn.FullyConnected(hidden, "tanh", name="inner"), nn.FullyConnected(1, name="outer")

    def build(real: gnn.Value, fake: gnn.Value, alpha: gnn.Value) -> list[gnn.Value]:
        def critic(x: gnn.Value) -> gnn.Value:
            return outer(inner(nn.Flatten()(x)))

        between = loss.interpolate(real, fake, alpha)
        return [loss(critic(real), critic(fake), critic(between), between), loss.generator(critic(fake))]

    def reference(real: Tensor, fake: Tensor, alpha: Tensor, **p: Tensor) -> list[Tensor]:
        def critic(x: Tensor) -> Tensor:
            return torch.tanh(x.flatten(1) @ p["inner/weight"] + p["inner/bias"]) @ p["outer/weight"] + p["outer/bias"]

        a = alpha.reshape(-1, *(1 for _ in shape[1:]))
        between = a * real + (1 - a) * fake
        (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slopes.flatten(1).norm(dim=1) - 1) ** 2
        losses = [(critic(fake) - critic(real))[:, 0] + strength * penalty, -critic(fake)[:, 0]]
        return losses if reduction == "none" else [getattr(each, reduction)() for each in losses]

    params = {"inner/weight": draw.normal(size, hidden), "inner/bias": draw.normal(hidden),
              "outer/weight": draw.normal(hidden, 1), "outer/bias": draw.normal(1)}
    inputs = {"real": draw.normal(*shape), "fake": draw.normal(*shape), "alpha": draw.uniform(0, 1, shape[0])}
    return Call(build, reference, inputs, params)


@parity("losses", "NCELoss")
def nce_loss(draw: Draw) -> Call:
    """For given negatives: what is drawn is not PyTorch's to say."""
    n, c, size, classes, k = draw.size(1, 7), draw.size(1, 4), draw.size(1, 9), draw.size(2, 12), draw.size(1, 8)
    q = draw.choice(None, draw.rng.dirichlet(np.ones(classes)))
    subtract, mask, reduction = draw.flag(), draw.flag(), draw.choice(*REDUCTIONS)
    layer = nn.NCELoss(classes, k, q, subtract, mask_hits=mask, reduction=reduction)
    expected = np.log(k * (np.full(classes, 1 / classes) if q is None else q)).astype(draw.real)

    def reference(x: Tensor, target: Tensor, negatives: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        scores = x @ weight.T + bias - (torch.tensor(expected, dtype=x.dtype) if subtract else 0.0)
        ids = target.reshape(n, *(1 for _ in x.shape[1:]))
        wanted, noise = scores.gather(-1, ids.expand(*x.shape[:-1], 1))[..., 0], scores[..., negatives]
        mistaken = functional.binary_cross_entropy_with_logits(noise, torch.zeros_like(noise), reduction="none")
        if mask:
            mistaken = torch.where(ids == negatives, 0.0, mistaken)
        each = functional.binary_cross_entropy_with_logits(wanted, torch.ones_like(wanted), reduction="none") + mistaken.sum(-1)
        return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()

    inputs = {"x": draw.choice(draw.normal(n, size), draw.normal(n, c, size)), "target": draw.ids(classes, n),
              "negatives": draw.ids(classes, k)}
    return Call(layer, reference, inputs, {"weight": draw.normal(classes, size), "bias": draw.normal(classes)}, fixed=True)
