"""Layers without parameters that change shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.nn.arguments import Pair, as_pair, check_flags, check_word, is_count, is_whole, require_float, shown
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Flatten(Layer):
    """All axes but one as one: (N, ...) -> (N, product of the others).

    `keep_dim` is the axis that stays: "first"; "last", (..., C) -> (product of the others, C); or -1 for none of them:
    (...) -> (1, product). Raises ShapeError for another keep_dim, or x without an axis to keep.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((4, 4, 8), name="x")
    >>> [str(nn.Flatten(keep_dim)(x).type) for keep_dim in ("first", "last", -1)]
    ['f32[N,128]', 'f32[16*N,8]', 'f32[1,128*N]']
    """

    keep_dim: str | int = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_whole(self.keep_dim) or isinstance(self.keep_dim, str)) or self.keep_dim not in ("first", "last", -1):
            raise ShapeError(f"Flatten: keep_dim is {shown(self.keep_dim)}; it is 'first', 'last' or -1 (no axis stays)")

    def call(self, x: Value) -> Value:
        if self.keep_dim == -1:
            return ir.reshape(x, (1, product(x.shape)))
        if x.rank < 1:
            raise ShapeError(f"Flatten keeps the {self.keep_dim} axis; x has none: {x.type}")
        if self.keep_dim == "last":
            return ir.reshape(x, (product(x.shape[:-1]), x.shape[-1]))
        return ir.reshape(x, (x.shape[0], product(x.shape[1:])))


@dataclass(eq=False)
class Reshape(Layer):
    """The elements of each example in another shape: (N, ...) -> (N, *shape). One size may be -1: what the others leave.

    Raises ShapeError when the numbers of elements differ.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.Reshape((7, 7, -1))(gnn.Input((98,), name="x")).type)
    'f32[N,7,7,2]'
    """

    shape: int | Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        shape: Any = self.shape
        sizes: tuple[Any, ...] = (shape,) if is_whole(shape) else tuple(shape) if isinstance(shape, (tuple, list)) else (None,)
        if not all(is_count(size, -1) and size != 0 for size in sizes) or sizes.count(-1) > 1:
            raise ShapeError(f"Reshape: shape is {shown(shape)}; use sizes of at least 1 without the batch; one may be -1")
        self._sizes = tuple(int(size) for size in sizes)

    def call(self, x: Value) -> Value:
        if x.rank < 1:
            raise ShapeError(f"Reshape keeps the first axis; x has none: {x.type}")
        known = product([size for size in self._sizes if size != -1])
        each = product(x.shape[1:])
        rest = each // known if -1 in self._sizes else 1
        if known * rest != each:
            raise ShapeError(f"Reshape: shape is {self.shape!r}; each example of {x.type} has {each} elements")
        return ir.reshape(x, (x.shape[0], *(rest if size == -1 else size for size in self._sizes)))


@dataclass(eq=False)
class GlobalPool(Layer):
    """The mean or maximum of each channel over all positions: (N, ..., C) -> (N, C), or (N, 1, ..., C) with `keepdims`.

    `mode` is "average" or "max". The sizes between may be symbolic. (Lin et al., 2014)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.GlobalPool()(gnn.Input(("H", "W", 32), name="image")).type)
    'f32[N,32]'
    """

    mode: str = "average"
    keepdims: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self, "mode", "average", "max")
        check_flags(self, "keepdims")

    def call(self, x: Value) -> Value:
        require_float(x.type, "GlobalPool")
        if x.rank < 3:
            raise ShapeError(f"GlobalPool takes (N, ..., C) with positions between, not {x.type}")
        pool = ir.mean if self.mode == "average" else ir.max
        return pool(x, tuple(range(1, x.rank - 1)), self.keepdims)


@dataclass(eq=False)
class UpSampling2D(Layer):
    """Each pixel `scale_factor` times in rows and columns (nearest neighbour): (N, H, W, C) -> (N, s H, t W, C).

    `scale_factor` is one number or (rows, columns).

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.UpSampling2D((2, 3))(gnn.Input((4, 4, 8), name="image")).type)
    'f32[N,8,12,8]'
    """

    scale_factor: Pair = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scale = as_pair(self.scale_factor, "UpSampling2D: scale_factor")

    def call(self, x: Value) -> Value:
        if x.rank != 4:
            raise ShapeError(f"UpSampling2D takes images (N, H, W, C), not {x.type}")
        (n, h, w, c), (rows, columns) = x.shape, self._scale
        copies = ir.expand(ir.reshape(x, (n, h, 1, w, 1, c)), (n, h, rows, w, columns, c))
        return ir.reshape(copies, (n, h * rows, w * columns, c))
