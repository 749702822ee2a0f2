"""Layers of images and sequences beside torch.nn. Channels stand last here and second there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphnn import nn
from parity.harness import Call, Draw, parity
from parity.layers import activation, batch_norm, with_bias

Sides = tuple[int, int]


def first(x: Tensor) -> Tensor:
    """Channels first."""
    return torch.movedim(x, -1, 1)


def last(x: Tensor) -> Tensor:
    """Channels last."""
    return torch.movedim(x, 1, -1)


def image(draw: Draw, channels: int, least: int = 1, most: int = 11) -> Any:
    """A batch of images."""
    return draw.normal(draw.size(1, 4), draw.size(least, most), draw.size(least, most), channels)


def channels_of(draw: Draw) -> tuple[int, int, int]:
    """Channels in and out, and a number of groups that divides both."""
    groups = draw.choice(1, 1, 2, 3)
    return groups * draw.size(1, 9 // groups), groups * draw.size(1, 9 // groups), groups


def pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    return draw.size(low, high), draw.size(low, high)


def wanted(padding: str, size: int, span: int, stride: int) -> Sides:
    """The zeros before and after an axis that a word asks for."""
    outputs = {"same": -(-size // stride), "same_size": size, "valid": 0}[padding]
    total = max((outputs - 1) * stride + span - size, 0) if padding != "valid" else 0
    return total // 2, total - total // 2


@parity("images", "Conv2D")
def conv_2d(draw: Draw) -> Call:
    i, o, groups = channels_of(draw)
    kernel, stride, dilation = (pair(draw, 1, 3) for _ in range(3))
    padding = draw.choice(draw.size(0, 2), pair(draw, 0, 2), (*pair(draw, 0, 3), *pair(draw, 0, 3)),
                          "valid", "same", "same_size")
    x, bias, (ours, f) = image(draw, i, 7), draw.flag(), activation(draw)
    rows, columns = sides(padding, x.shape[1:3], kernel, stride, dilation)

    def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        padded = functional.pad(first(x), (*columns, *rows))
        return f(last(functional.conv2d(padded, weight.permute(3, 2, 0, 1).contiguous(), bias, stride, 0, dilation, groups)))

    return Call(nn.Conv2D(o, kernel, stride, padding, dilation, groups, ours, bias), reference,
                {"x": x}, with_bias(draw, bias, draw.normal(*kernel, i // groups, o)))


def sides(padding: Any, sizes: Any, kernel: Sides, stride: Sides, dilation: Sides) -> tuple[Sides, Sides]:
    """Zeros before and after the rows and the columns."""
    if isinstance(padding, str):
        a, b = (wanted(padding, n, d * (k - 1) + 1, s) for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True))
        return a, b
    numbers = [padding] * 4 if isinstance(padding, int) else list(padding)
    top, bottom, left, right = numbers if len(numbers) == 4 else [n for n in numbers for _ in range(2)]
    return (top, bottom), (left, right)


@parity("images", "Conv1D")
def conv_1d(draw: Draw) -> Call:
    i, o, groups = channels_of(draw)
    kernel, stride, dilation = (draw.size(1, 4) for _ in range(3))
    n, t, bias, (ours, f) = draw.size(1, 4), draw.size(10, 25), draw.flag(), activation(draw)
    padding = draw.choice(draw.size(0, 2), (draw.size(0, 3), draw.size(0, 3)), "valid", "same", "same_size", "causal")
    span = dilation * (kernel - 1) + 1
    around = ((span - 1, 0) if padding == "causal" else wanted(padding, t, span, stride) if isinstance(padding, str)
              else (padding, padding) if isinstance(padding, int) else padding)

    def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        padded = functional.pad(first(x), around)
        return f(last(functional.conv1d(padded, weight.permute(2, 1, 0).contiguous(), bias, stride, 0, dilation, groups)))

    return Call(nn.Conv1D(o, kernel, stride, padding, dilation, groups, ours, bias), reference,
                {"x": draw.normal(n, t, i)}, with_bias(draw, bias, draw.normal(kernel, i // groups, o)))


@parity("images", "Deconv2D")
def deconv_2d(draw: Draw) -> Call:
    i, o, groups = channels_of(draw)
    kernel, stride, dilation = (pair(draw, 1, 3) for _ in range(3))
    extra = draw.size(0, stride[0] - 1), draw.size(0, stride[1] - 1)
    most = [min(2, d * (k - 1)) for k, d in zip(kernel, dilation, strict=True)]
    padding = draw.size(0, most[0]), draw.size(0, most[1])
    x, bias, (ours, f) = image(draw, i, 3, 8), draw.flag(), activation(draw)

    def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return f(last(functional.conv_transpose2d(first(x), weight.permute(2, 3, 0, 1).contiguous(), bias, stride, padding, extra,
                                                  groups, dilation)))

    layer = nn.Deconv2D(o, kernel, stride, padding, extra, dilation, groups, ours, bias)
    weight = draw.normal(*kernel, i, o // groups)
    params = {"weight": weight, **({"bias": draw.normal(o)} if bias else {})}
    return Call(layer, reference, {"x": x}, params)


@parity("images", "Pool2D")
def pool_2d(draw: Draw) -> Call:
    kernel = pair(draw, 1, 4)
    stride = draw.choice(None, pair(draw, 1, 4))
    padding = draw.size(0, kernel[0] // 2), draw.size(0, kernel[1] // 2)            # PyTorch takes no more
    mode, ceil, counted = draw.choice("max", "average"), draw.flag(), draw.flag()
    layer = nn.Pool2D(kernel, stride, padding, mode, counted, ceil)

    def reference(x: Tensor) -> Tensor:
        if mode == "max":
            return last(functional.max_pool2d(first(x), kernel, stride, padding, ceil_mode=ceil))
        return last(functional.avg_pool2d(first(x), kernel, stride, padding, ceil, counted))

    return Call(layer, reference, {"x": image(draw, draw.size(1, 9), 4)})


@parity("images", "GlobalPool")
def global_pool(draw: Draw) -> Call:
    places = [draw.size(1, 7) for _ in range(draw.size(1, 3))]
    mode, keep, n, c = draw.choice("average", "max"), draw.flag(), draw.size(1, 5), draw.size(1, 9)
    pool = getattr(functional, f"adaptive_{'avg' if mode == 'average' else 'max'}_pool{len(places)}d")

    def reference(x: Tensor) -> Tensor:
        y = last(pool(first(x), 1))
        return y if keep else y.reshape(n, c)

    return Call(nn.GlobalPool(mode, keep), reference, {"x": draw.normal(n, *places, c)})


@parity("images", "UpSampling2D")
def up_sampling_2d(draw: Draw) -> Call:
    factor = (draw.size(1, 4), draw.size(1, 4))
    return Call(nn.UpSampling2D(factor), lambda x: last(functional.interpolate(first(x), scale_factor=factor, mode="nearest")),
                {"x": image(draw, draw.size(1, 9), 1, 7)})


@parity("images", "BatchNorm2D")
def batch_norm_2d(draw: Draw) -> Call:
    return batch_norm(draw, nn.BatchNorm2D, (draw.size(2, 5), draw.size(2, 9), draw.size(2, 9), draw.size(1, 17)))


@parity("images", "LayerNorm2D")
def layer_norm_2d(draw: Draw) -> Call:
    x, affine, eps = image(draw, draw.size(2, 9), 2), draw.flag(), draw.choice(1e-5, 1e-3)
    over = draw.choice(x.shape[1:], x.shape[2:], x.shape[3:]) if x.shape[-1] > 2 else x.shape[1:]
    params = {"weight": draw.normal(*over), "bias": draw.normal(*over)} if affine else {}
    layer = nn.LayerNorm2D(None if over == x.shape[1:] and draw.flag() else over, eps, affine)
    return Call(layer, lambda x, weight=None, bias=None: functional.layer_norm(x, over, weight, bias, eps), {"x": x}, params)


@parity("images", "GroupNorm")
def group_norm(draw: Draw) -> Call:
    groups, affine, eps = draw.size(1, 4), draw.flag(), draw.choice(1e-5, 1e-3)
    c, places = groups * draw.size(1, 4), [draw.size(3, 8) for _ in range(draw.size(1, 3))]
    params = {"weight": draw.normal(c), "bias": draw.normal(c)} if affine else {}
    return Call(nn.GroupNorm(groups, eps, affine),
                lambda x, weight=None, bias=None: last(functional.group_norm(first(x), groups, weight, bias, eps)),
                {"x": draw.normal(draw.size(1, 5), *places, c, scale=2.0, shift=0.5)}, params)
