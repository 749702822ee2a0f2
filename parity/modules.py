"""Modules beside PyTorch's, or beside the same made of PyTorch's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import graphnn as gnn
from graphnn import nn
from parity.harness import Call, Draw, parity
from parity.images import first, last, pair, wanted

Params = dict[str, Tensor]

# It adds the same to all scores of a query, which softmax does not see.
SHIFTS = ("d key/bias",)


def dense(draw: Draw, name: str, i: int, o: int, bias: bool) -> dict[str, np.ndarray]:
    """The parameters of a dense layer inside."""
    weight = {f"{name}/weight": draw.normal(i, o, scale=0.5)}
    return {**weight, f"{name}/bias": draw.normal(o)} if bias else weight


def bias_of(params: Params, name: str, size: int) -> Tensor:
    """A bias; zeros where there is none."""
    found = params.get(f"{name}/bias")
    return torch.zeros(size, dtype=next(iter(params.values())).dtype) if found is None else found


def mask_of(draw: Draw, n: int, tq: int, tk: int) -> np.ndarray | None:
    """No mask; or one of bools, that leaves each query a key, or of numbers; for all examples or each."""
    how, shape = draw.choice("none", "bool", "numbers"), draw.choice((1, tq, tk), (n, tq, tk), (n, 1, tk))
    if how == "none":
        return None
    if how == "numbers":
        return draw.normal(*shape)
    mask = draw.rng.random(shape) < 0.7
    mask[..., 0] = True
    return mask


def added(mask: Tensor | None, causal: bool, n: int, heads: int, tq: int, tk: int, real: torch.dtype) -> Tensor | None:
    """A mask as PyTorch's modules take it: numbers for each example and head."""
    if mask is None and not causal:
        return None
    numbers = torch.zeros(1, tq, tk, dtype=real) if mask is None else mask
    if numbers.dtype is torch.bool:
        numbers = torch.zeros(numbers.shape, dtype=real).masked_fill(~numbers, -torch.inf)
    if causal:
        numbers = numbers + torch.full((tq, tk), -torch.inf, dtype=real).triu(1)
    return numbers.expand(n, tq, tk).repeat_interleave(heads, 0)


@parity("modules", "MultiHeadedAttentionModule")
def multi_headed_attention(draw: Draw) -> Call:
    """Self-attention, attention to another sequence, and to keys and values of sizes of their own."""
    n, tq, heads, each = draw.size(1, 4), draw.size(1, 7), draw.size(1, 4), draw.size(1, 4)
    size, causal, bias, how = heads * each, draw.flag(), draw.flag(), draw.choice("self", "other", "three")
    tk = tq if how == "self" else draw.size(1, 7)
    ksize, vsize = (draw.size(1, 9), draw.size(1, 9)) if how == "three" else (size, size)
    inputs = {"q": draw.normal(n, tq, size), "k": draw.normal(n, tk, ksize), "v": draw.normal(n, tk, vsize)}
    inputs = {name: inputs[name] for name in {"self": "q", "other": "qk", "three": "qkv"}[how]}
    count = len(inputs)
    mask = mask_of(draw, n, tq, tk)
    layer = nn.MultiHeadedAttentionModule(heads, causal, bias)

    def reference(*given: Tensor, **p: Tensor) -> Tensor:
        q, k, v = (given[min(i, count - 1)].transpose(0, 1) for i in range(3))
        names = ("query", "key", "value")
        y, _ = functional.multi_head_attention_forward(
            q, k, v, size, heads, None, torch.cat([bias_of(p, name, size) for name in names]), None, None, False, 0.0,
            p["output/weight"].T, bias_of(p, "output", size), training=False, need_weights=False,
            attn_mask=added(given[count] if len(given) > count else None, causal, n, heads, tq, tk, q.dtype),
            use_separate_proj_weight=True, q_proj_weight=p["query/weight"].T, k_proj_weight=p["key/weight"].T,
            v_proj_weight=p["value/weight"].T)
        return y.transpose(0, 1)

    def build(*given: gnn.Value) -> gnn.Value:
        return layer(*given[:count], mask=given[count] if len(given) > count else None)

    params = {**dense(draw, "query", size, size, bias), **dense(draw, "key", ksize, size, bias),
              **dense(draw, "value", vsize, size, bias), **dense(draw, "output", size, size, bias)}
    return Call(build, reference, inputs if mask is None else {**inputs, "mask": mask}, params, fixed=mask is not None,
                vanishing=SHIFTS)


@parity("modules", "MultiHeadedAttentionModule (head sizes)")
def multi_headed_attention_with_sizes(draw: Draw) -> Call:
    n, t, heads, size, d, e = (draw.size(1, high) for high in (4, 7, 4, 9, 5, 5))

    def reference(x: Tensor, **p: Tensor) -> Tensor:
        q, k, v = ((x @ p[f"{name}/weight"] + p[f"{name}/bias"]).unflatten(-1, (heads, -1)).transpose(1, 2)
                   for name in ("query", "key", "value"))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return y @ p["output/weight"] + p["output/bias"]

    params = {**dense(draw, "query", size, heads * d, True), **dense(draw, "key", size, heads * d, True),
              **dense(draw, "value", size, heads * e, True), **dense(draw, "output", heads * e, size, True)}
    return Call(nn.MultiHeadedAttentionModule(heads, head_size=d, value_size=e), reference, {"x": draw.normal(n, t, size)},
                params, vanishing=SHIFTS)


@parity("modules", "TransformerEncoderBlock")
def transformer_encoder_block(draw: Draw) -> Call:
    n, t, heads, each, hidden = draw.size(1, 4), draw.size(1, 7), draw.size(1, 3), draw.size(2, 4), draw.size(1, 12)
    size, norm_first, causal, bias, eps = heads * each, draw.flag(), draw.flag(), draw.flag(), draw.choice(1e-5, 1e-3)
    activation, how = draw.choice("relu", "gelu"), draw.choice("mask", "lengths")
    extra = {"mask": mask_of(draw, n, t, t)} if how == "mask" else {"lengths": 1 + draw.ids(t, n)}
    extra = {name: array for name, array in extra.items() if array is not None}
    block = nn.TransformerEncoderBlock(heads, hidden, activation, draw.choice(0.0, 0.1), norm_first, causal, eps, bias)

    def reference(x: Tensor, more: Tensor | None = None, **p: Tensor) -> Tensor:
        theirs = torch.nn.TransformerEncoderLayer(size, heads, hidden, 0.0, activation, eps, True, norm_first, dtype=x.dtype)
        names = ("query", "key", "value")
        tensors = {
            "self_attn.in_proj_weight": torch.cat([p[f"{name}/weight"].T for name in names]),
            "self_attn.in_proj_bias": torch.cat([bias_of(p, name, size) for name in names]),
            "self_attn.out_proj.weight": p["attention/output/weight"].T, "linear1.weight": p["hidden/weight"].T,
            "self_attn.out_proj.bias": bias_of(p, "attention/output", size), "linear1.bias": bias_of(p, "hidden", hidden),
            "linear2.weight": p["transformer_encoder_block/output/weight"].T,
            "linear2.bias": bias_of(p, "transformer_encoder_block/output", size),
            **{f"{norm}.{label}": p[f"{norm}/{label}"] for norm in ("norm1", "norm2") for label in ("weight", "bias")}}
        mask = torch.arange(t) < more[:, None] if more is not None and how == "lengths" else more
        mask = mask[:, None] if mask is not None and how == "lengths" else mask
        return torch.func.functional_call(theirs, tensors, (x, added(mask, causal, n, heads, t, t, x.dtype)))

    def build(x: gnn.Value, *more: gnn.Value) -> gnn.Value:
        return block(x, **dict(zip(extra, more, strict=True)))

    params = {**dense(draw, "query", size, size, bias), **dense(draw, "key", size, size, bias),
              **dense(draw, "value", size, size, bias), **dense(draw, "attention/output", size, size, bias),
              **dense(draw, "hidden", size, hidden, bias), **dense(draw, "transformer_encoder_block/output", hidden, size, bias),
              **{f"{norm}/{label}": draw.normal(size) for norm in ("norm1", "norm2") for label in ("weight", "bias")}}
    return Call(build, reference, {"x": draw.normal(n, t, size), **extra}, params, fixed="mask" in extra, vanishing=SHIFTS)


# ------------------------------------------------------------------------------------------------ residual blocks

def convolution(draw: Draw, name: str, kernel: tuple[int, ...], i: int, o: int) -> dict[str, np.ndarray]:
    """The parameters of a convolution inside."""
    return {f"{name}/weight": draw.normal(*kernel, i, o, scale=0.3), f"{name}/bias": draw.normal(o)}


def norm(draw: Draw, name: str, c: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The parameters and the states of a batch norm inside."""
    return ({f"{name}/weight": draw.normal(c), f"{name}/bias": draw.normal(c)},
            {f"{name}/running_mean": draw.normal(c), f"{name}/running_var": draw.uniform(0.5, 2.0, c)})


def convolved(x: Tensor, p: Params, name: str, rows: tuple[int, int], columns: tuple[int, int], stride: Any) -> Tensor:
    weight = p[f"{name}/weight"].permute(3, 2, 0, 1).contiguous()
    return functional.conv2d(functional.pad(x, (*columns, *rows)), weight, p[f"{name}/bias"], stride)


def normed(x: Tensor, p: Params, name: str, training: bool) -> Tensor:
    return functional.batch_norm(x, p[f"{name}/running_mean"], p[f"{name}/running_var"], p[f"{name}/weight"], p[f"{name}/bias"],
                                 training, 0.1, 1e-5)


ORDERS = ("conv-norm-activation", "conv-activation-norm")


def unseen(training: bool, order: str, *names: str) -> list[str]:
    """Gradients by biases that the mean of a batch norm takes away."""
    return [f"d {name}/bias" for name in (names if order == ORDERS[0] else names[1:]) if training]


@parity("modules", "SkipConnectionIdentityModule")
def skip_connection_identity(draw: Draw) -> Call:
    n, h, w, c, o = (draw.size(low, high) for low, high in ((2, 3), (5, 8), (5, 8), (2, 4), (2, 4)))
    # Kernels of one pixel would hide norm1's bias from norm2.
    kernels, strides = (pair(draw, 2, 3), pair(draw, 2, 3)), (pair(draw, 1, 2), pair(draw, 1, 2))
    order, training = draw.choice(*ORDERS), draw.flag()
    layer = nn.SkipConnectionIdentityModule(o, *kernels, *strides, activation="tanh", order=order)

    def reference(x: Tensor, **p: Tensor) -> Tensor:
        y, f = first(x), torch.tanh
        for i in (0, 1):
            rows, columns = (wanted("same_size", size, k, s) for size, k, s in zip((h, w), kernels[i], strides[i], strict=True))
            y = convolved(y, p, f"conv{i + 1}", rows, columns, strides[i])
            if i == 0:
                y = f(normed(y, p, "norm1", training)) if order == ORDERS[0] else normed(f(y), p, "norm1", training)
        return last(f(first(x) + normed(y, p, "norm2", training)))

    (p1, s1), (p2, s2) = norm(draw, "norm1", o), norm(draw, "norm2", c)
    params = {**convolution(draw, "conv1", kernels[0], c, o), **convolution(draw, "conv2", kernels[1], o, c), **p1, **p2}
    return Call(layer, reference, {"x": draw.normal(n, h, w, c)}, params, {**s1, **s2}, training,
                vanishing=unseen(training, order, "conv1", "conv2"))


@parity("modules", "SkipConnectionConvModule")
def skip_connection_conv(draw: Draw) -> Call:
    n, h, w, c, a, b = (draw.size(low, high) for low, high in ((2, 3), (6, 9), (6, 9), (2, 4), (2, 4), (2, 4)))
    kernel1, kernel2, stride = pair(draw, 1, 3), pair(draw, 2, 3), pair(draw, 1, 2)
    order, training = draw.choice(*ORDERS), draw.flag()
    # No smaller than the main path is without padding: else no padding of the skip fits.
    kernel_skip = max(draw.size(1, 3), kernel1[0]), max(draw.size(1, 3), kernel1[1])
    kernels, strides, pads = (kernel1, kernel2, kernel_skip), (stride, (1, 1)), ((0, 0), (1, 1))
    layer = nn.SkipConnectionConvModule(a, b, *kernels, *pads, *strides, stride, "tanh", order)

    def reference(x: Tensor, **p: Tensor) -> Tensor:
        y, f = first(x), torch.tanh
        for i in (0, 1):
            (top, left) = pads[i]
            y = convolved(y, p, f"conv{i + 1}", (top, top), (left, left), strides[i])
            if i == 0:
                y = f(normed(y, p, "norm1", training)) if order == ORDERS[0] else normed(f(y), p, "norm1", training)
        axes = zip((h, w), y.shape[2:], kernels[2], strides[0], strict=True)
        rows, columns = (least(size, out, k, s) for size, out, k, s in axes)
        skip = normed(convolved(first(x), p, "skip", rows, columns, strides[0]), p, "norm_skip", training)
        return last(f(skip + normed(y, p, "norm2", training)))

    (p1, s1), (p2, s2), (p3, s3) = norm(draw, "norm1", a), norm(draw, "norm2", b), norm(draw, "norm_skip", b)
    params = {**convolution(draw, "conv1", kernels[0], c, a), **convolution(draw, "conv2", kernels[1], a, b),
              **convolution(draw, "skip", kernels[2], c, b), **p1, **p2, **p3}
    return Call(layer, reference, {"x": draw.normal(n, h, w, c)}, params, {**s1, **s2, **s3}, training,
                vanishing=unseen(training, order, "conv1", "conv2", "skip"))


def least(size: int, out: int, span: int, stride: int) -> tuple[int, int]:
    """The least padding that gives `out` windows, an odd pixel after."""
    total = next(total for total in range(100) if (size + total - span) // stride + 1 == out and size + total >= span)
    return total // 2, total - total // 2


@parity("modules", "WavenetResidualModule")
def wavenet_residual(draw: Draw) -> Call:
    n, t, c, d, k = draw.size(1, 4), draw.size(1, 12), draw.size(1, 6), draw.size(1, 6), draw.size(1, 3)
    dilation, s, bias, given = draw.choice(1, 2, 4), draw.choice(None, draw.size(1, 6)), draw.flag(), draw.flag()
    block = nn.WavenetResidualModule(c, d, dilation, k, s, bias)

    def reference(x: Tensor, skip: Tensor | None = None, **p: Tensor) -> tuple[Tensor, Tensor]:
        def conv(x: Tensor, name: str, span: int = 0) -> Tensor:
            weight = p[f"{name}/weight"].permute(2, 1, 0).contiguous()
            return functional.conv1d(functional.pad(x, (span, 0)), weight, p.get(f"{name}/bias"), dilation=dilation)

        span = dilation * (k - 1)
        gated = torch.tanh(conv(first(x), "filter", span)) * torch.sigmoid(conv(first(x), "gate", span))
        r = conv(gated, "residual")
        added = r if s is None else conv(gated, "skip")
        return last(first(x) + r), last(added) if skip is None else skip + last(added)

    widths = {"filter": (k, c, d), "gate": (k, c, d), "residual": (1, d, c), **({} if s is None else {"skip": (1, d, s)})}
    params = {f"{name}/weight": draw.normal(*shape) for name, shape in widths.items()}
    params |= {f"{name}/bias": draw.normal(shape[-1]) for name, shape in widths.items() if bias}
    inputs = {"x": draw.normal(n, t, c), **({"skip_in": draw.normal(n, t, s or c)} if given else {})}
    return Call(lambda x, skip=None: block(x, skip), reference, inputs, params)
