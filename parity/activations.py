"""Activations beside PyTorch: values, first and second derivatives, at ordinary points, at 0, near corners and far out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import graphnn as gnn
from graphnn import nn
from parity.harness import Call, Draw, parity

NEAR = (1e-30, 1e-8, 1e-3)
FAR = (20.0, 50.0, 80.0, 1e2, 1e3, 1e10, 1e30)


def points(draw: Draw, known: tuple[float, ...]) -> np.ndarray:
    """Random points of several sizes, and known ones on both sides."""
    spread = [draw.normal(9, scale=scale) for scale in (0.1, 1.0, 5.0)]
    return np.concatenate([known, np.negative(known), *spread]).astype(draw.real)


def slopes(draw: Draw, layer: nn.Layer, function: Callable[[Tensor], Tensor], *, known: tuple[float, ...] = (0.0, *NEAR, *FAR),
           order: int = 2) -> Call:
    """f and f'; and f'', which the harness makes, as it makes f' for order 1."""

    def ours(x: gnn.Value) -> list[gnn.Value]:
        y = layer(x)
        return [y, *(gnn.gradients(gnn.sum(y), [x]) if order == 2 else ())]

    def theirs(x: Tensor) -> list[Tensor]:
        y = function(x)
        return [y, *(torch.autograd.grad(y.sum(), x, create_graph=True) if order == 2 else ())]

    return Call(ours, theirs, {"x": points(draw, known)})


@parity("activations", "Identity", floor=1.0)
def identity(draw: Draw) -> Call:
    return slopes(draw, nn.Identity(), torch.nn.Identity())


@parity("activations", "Affine", floor=1.0)
def affine(draw: Draw) -> Call:
    slope, intercept = draw.number(-3, 3), draw.number(-3, 3)
    return slopes(draw, nn.Affine(slope, intercept), lambda x: slope * x + intercept)


@parity("activations", "ReLU", floor=1.0)
def relu(draw: Draw) -> Call:
    return slopes(draw, nn.ReLU(), torch.relu)


@parity("activations", "LeakyReLU", floor=1.0)
def leaky_relu(draw: Draw) -> Call:
    alpha = draw.number(0.0, 1.5)
    return slopes(draw, nn.LeakyReLU(alpha), lambda x: functional.leaky_relu(x, alpha))


@parity("activations", "ELU", floor=1.0)
def elu(draw: Draw) -> Call:
    alpha = draw.number(0.1, 2.0)
    # At 0 PyTorch's first derivative is that from the left and its second that from the right.
    at_zero = draw.flag()
    return slopes(draw, nn.ELU(alpha), lambda x: functional.elu(x, alpha), order=1 if at_zero else 2,
                  known=(0.0, *NEAR) if at_zero else (*NEAR, *FAR))


@parity("activations", "SELU", floor=1.0)
def selu(draw: Draw) -> Call:
    at_zero = draw.flag()
    return slopes(draw, nn.SELU(), torch.selu, order=1 if at_zero else 2, known=(0.0, *NEAR) if at_zero else (*NEAR, *FAR))


@parity("activations", "Exponential", floor=1.0)
def exponential(draw: Draw) -> Call:
    return slopes(draw, nn.Exponential(), torch.exp, known=(0.0, *NEAR, 20.0, 50.0, 80.0))


@parity("activations", "Sigmoid", floor=1.0)
def sigmoid(draw: Draw) -> Call:
    return slopes(draw, nn.Sigmoid(), torch.sigmoid)


@parity("activations", "Tanh", floor=1.0)
def tanh(draw: Draw) -> Call:
    return slopes(draw, nn.Tanh(), torch.tanh)


@parity("activations", "SoftPlus", floor=1.0)
def softplus(draw: Draw) -> Call:
    """PyTorch's is x from its threshold on, which is raised here."""
    return slopes(draw, nn.SoftPlus(), lambda x: functional.softplus(x, threshold=40.0))


@parity("activations", "HardSigmoid", floor=1.0)
def hard_sigmoid(draw: Draw) -> Call:
    """In float64 PyTorch's derivative is off by 1e-8: its 1/6 is a float32."""

    def theirs(x: Tensor) -> Tensor:
        return functional.hardsigmoid(x) if x.dtype is torch.float32 else functional.hardtanh(x / 6.0 + 0.5, 0.0, 1.0)

    return slopes(draw, nn.HardSigmoid(), theirs, order=1, known=(0.0, *NEAR, 2.999, 3.0, 3.001, *FAR))


@parity("activations", "HardSigmoid (composed)", floor=1.0)
def hard_sigmoid_composed(draw: Draw) -> Call:
    slope, intercept = draw.number(0.1, 0.5), draw.number(0.2, 0.8)
    return slopes(draw, nn.HardSigmoid(slope, intercept), lambda x: functional.hardtanh(slope * x + intercept, 0.0, 1.0))


@parity("activations", "HardSwish", floor=1.0)
def hard_swish(draw: Draw) -> Call:
    return slopes(draw, nn.HardSwish(), functional.hardswish, order=1, known=(0.0, *NEAR, 2.999, 3.0, 3.001, *FAR))


@parity("activations", "HardSwish (composed)", floor=1.0)
def hard_swish_composed(draw: Draw) -> Call:
    return slopes(draw, nn.HardSwish(), lambda x: x * functional.relu6(x + 3.0) / 6.0, known=(0.0, *NEAR, 2.999, 3.001, *FAR))


@parity("activations", "GELU", floor=1.0)
def gelu(draw: Draw) -> Call:
    form = draw.choice("none", "tanh")
    # In float32 PyTorch's tanh form is NaN where x^3 overflows.
    return slopes(draw, nn.GELU(form), lambda x: functional.gelu(x, approximate=form), known=(0.0, *NEAR, *FAR[:-1]))


@parity("activations", "SiLU", floor=1.0)
def silu(draw: Draw) -> Call:
    return slopes(draw, nn.SiLU(), functional.silu)


@parity("activations", "Mish", floor=1.0)
def mish(draw: Draw) -> Call:
    # PyTorch's second derivative is NaN far out.
    return slopes(draw, nn.Mish(), functional.mish, known=(0.0, *NEAR, 20.0, 50.0, 80.0))


@parity("activations", "Softmax", floor=1.0)
def softmax(draw: Draw) -> Call:
    shape = [draw.size(1, 7) for _ in range(draw.size(2, 4))]
    axis, scale = draw.size(1, len(shape) - 1), draw.choice(0.1, 1.0, 10.0, 1e4)
    call = slopes(draw, nn.Softmax(draw.choice(axis, axis - len(shape))), lambda x: torch.softmax(x, axis))
    call.inputs = {"x": draw.normal(*shape, scale=scale)}
    return call
