"""Layers that normalise each example by itself: the same in training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, check_flags, is_count, is_number, is_whole, require_float, shown
from graphnn.nn.initialisers import Init, as_initialiser, zeros
from graphnn.nn.layer import Layer


def as_eps(value: Any, what: str) -> float:
    """A number above 0. Raises ShapeError."""
    if not is_number(value) or value <= 0:
        raise ShapeError(f"{what} is {shown(value)}; it must be a number above 0")
    return float(value)


def as_sizes(value: Any, what: str) -> tuple[int, ...] | None:
    """Sizes of the last axes from one number or several; None stays. Raises ShapeError."""
    if value is None:
        return None
    sizes = (value,) if is_whole(value) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if not sizes or not all(is_count(size, 1) for size in sizes):
        raise ShapeError(f"{what} is {shown(value)}; use the sizes of the last axes, each at least 1, or None")
    return tuple(int(size) for size in sizes)


def normalised(x: Value, axes: tuple[int, ...], eps: float) -> Value:
    """(x - mean) / sqrt(variance + eps) over axes, with the biased variance."""
    centred = x - ir.mean(x, axes, keepdims=True)
    return centred * ir.rsqrt(ir.mean(centred * centred, axes, keepdims=True) + eps)


def _first_scale(layer: LayerNorm1D | GroupNorm) -> Initializer:
    """What makes the first scale of a layer, whose `affine` is checked. Raises ShapeError."""
    check_flags(layer, "affine")
    return as_initialiser(layer.init)


@dataclass(eq=False)
class LayerNorm1D(Layer):
    """y = w (x - mean) / sqrt(variance + eps) + b over the last axis: (..., C) -> (..., C).

    `normalized_shape` gives the sizes of the last axes that are normalised together: C by default. w (1 at first) and b (0)
    are of that shape; `affine=False` is without them, `init` makes other first w. The variance is the biased one, eps above 0
    within the root. Raises ShapeError when the last axes are not normalized_shape. (Ba et al., 2016)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.LayerNorm1D()(gnn.Input(("T", 16), name="x")).type)
    'f32[N,T,16]'
    """

    normalized_shape: int | Sequence[int] | None = None
    eps: float = 1e-5
    affine: bool = True
    init: Init = "ones"

    _axes = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        what = type(self).__name__
        self._sizes = as_sizes(self.normalized_shape, f"{what}: normalized_shape")
        self.eps = as_eps(self.eps, f"{what}: eps")
        self._count = self._axes if self._sizes is None else len(self._sizes)
        self._first = _first_scale(self)

    def accepts(self, x: TensorType) -> None:
        what = type(self).__name__
        require_float(x, what)
        if x.rank < self._count:
            raise ShapeError(f"{what} normalises the last {self._count} axes; x has {x.rank}: {x}")
        shape = x.shape[x.rank - self._count:]
        if self._sizes is not None and shape != self._sizes:
            raise ShapeError(f"{what}: normalized_shape is {self.normalized_shape!r}; the last axes of x are {shape}")
        if self.affine:
            self.require_same_sizes(x, self._count)

    def build(self, x: TensorType) -> None:
        shape = x.shape[x.rank - self._count:]
        self.weight = self.param("weight", shape, self._first, dtype=x.dtype) if self.affine else None
        self.offset = self.param("bias", shape, zeros, dtype=x.dtype) if self.affine else None

    def call(self, x: Value) -> Value:
        y = normalised(x, tuple(range(x.rank - self._count, x.rank)), self.eps)
        return y if self.weight is None or self.offset is None else y * self.weight + self.offset


@dataclass(eq=False)
class LayerNorm2D(LayerNorm1D):
    """y = w (x - mean) / sqrt(variance + eps) + b over rows, columns and channels together: (N, H, W, C) -> (N, H, W, C).

    `normalized_shape` gives the sizes of the last axes that are normalised together: (H, W, C) by default. w (1 at first) and
    b (0) are of that shape, which ties them to one size of image; `affine=False` or `normalized_shape=C` does not. The
    variance is the biased one. (Ba et al., 2016)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.LayerNorm2D(3)(gnn.Input(("H", "W", 3), name="image")).type)
    'f32[N,H,W,3]'
    """

    _axes = 3

    def accepts(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"LayerNorm2D takes images (N, H, W, C), not {x}")
        super().accepts(x)


@dataclass(eq=False)
class GroupNorm(Layer):
    """y = w (x - mean) / sqrt(variance + eps) + b over all positions and each of `groups` parts of the channels:
    (N, ..., C) -> (N, ..., C).

    w (1 at first) and b (0) are (C,); `affine=False` is without them, `init` makes other first w. `groups` must divide C;
    `groups=C` is instance normalisation. The variance is the biased one. (Wu & He, 2018)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.GroupNorm(4)(gnn.Input(("H", "W", 32), name="image")).type)
    'f32[N,H,W,32]'
    """

    groups: int
    eps: float = 1e-5
    affine: bool = True
    init: Init = "ones"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.groups = as_count(self.groups, "GroupNorm: groups")
        self.eps = as_eps(self.eps, "GroupNorm: eps")
        self._first = _first_scale(self)

    def accepts(self, x: TensorType) -> None:
        require_float(x, "GroupNorm")
        if x.rank < 2:
            raise ShapeError(f"GroupNorm takes (N, ..., C), not {x}")
        channels = x.shape[-1]
        if not isinstance(channels, int) or channels % self.groups:
            raise ShapeError(f"GroupNorm: groups is {self.groups}; it must divide the {channels} channels of x")
        if self.affine:
            self.require_same_sizes(x, 1)

    def build(self, x: TensorType) -> None:
        channels = x.shape[-1]
        self.weight = self.param("weight", (channels,), self._first, dtype=x.dtype) if self.affine else None
        self.offset = self.param("bias", (channels,), zeros, dtype=x.dtype) if self.affine else None

    def call(self, x: Value) -> Value:
        centred = x - self._group_mean(x)
        y = centred * ir.rsqrt(self._group_mean(centred * centred) + self.eps)
        return y if self.weight is None or self.offset is None else y * self.weight + self.offset

    def _group_mean(self, x: Value) -> Value:
        """The mean over every position and the channels of one group, (N, 1, ..., C). Positions come first, while channels lie
        side by side in memory: the few of a group would make short loops of all work."""
        each = ir.mean(x, tuple(range(1, x.rank - 1)), keepdims=True) if x.rank > 2 else x
        channels = x.shape[-1] // self.groups
        apart = ir.reshape(each, (*each.shape[:-1], self.groups, channels))
        mean = ir.mean(apart, -1, keepdims=True)
        return ir.reshape(ir.expand(mean, apart.shape), each.shape)
