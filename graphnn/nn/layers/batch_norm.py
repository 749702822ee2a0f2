"""Batch normalisation: by the batch's statistics in training, by running ones in evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.dims import product
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_probability, check_flags, require_float
from graphnn.nn.initialisers import Init, as_initialiser, ones, zeros
from graphnn.nn.layer import Layer
from graphnn.nn.layers.norm import as_eps


@dataclass(eq=False)
class BatchNorm1D(Layer):
    """y = w (x - mean) / sqrt(variance + eps) + b for each channel: (N, C) or (N, T, C) -> the same.

    In training mean and (biased) variance are those of the batch, over every axis but the last, and the running ones become
    (1 - momentum) running + momentum batch; in evaluation the running ones are used. The running variance takes the
    unbiased estimate n / (n - 1) variance, as PyTorch's does, unless `unbiased=False`. `momentum` weighs the new value:
    it is 1 - momentum of Keras and numpy-ml.

    w (first made by `init`: ones) and b (0) are (C,); `affine=False` is without them. States: running_mean (0 at first) and
    running_var (1). Raises ShapeError for other ranks or a symbolic number of channels. (Ioffe & Szegedy, 2015)

    >>> import numpy as np
    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((2,), name="x")
    >>> graph = gnn.Graph.of("norm", [x], [nn.BatchNorm1D()(x)])
    >>> step = gnn.compile(graph, training=True, backend="numpy")
    >>> step(np.array([[0, 10], [2, 30]], np.float32)).round(3).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> step.state["batch_norm1d/running_mean"]
    array([0.1, 2. ], dtype=float32)
    """

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    unbiased: bool = True
    init: Init = "ones"

    _ranks = (2, 3)
    _form = "(N, C) or (N, T, C)"

    def __post_init__(self) -> None:
        super().__post_init__()
        what = type(self).__name__
        self.eps = as_eps(self.eps, f"{what}: eps")
        self.momentum = as_probability(self.momentum, f"{what}: momentum", closed=True)
        check_flags(self, "affine", "unbiased")
        self._first = as_initialiser(self.init)

    def accepts(self, x: TensorType) -> None:
        what = type(self).__name__
        require_float(x, what)
        if x.rank not in self._ranks:
            raise ShapeError(f"{what} takes {self._form}, not {x}")
        self.require_same_sizes(x, 1)

    def build(self, x: TensorType) -> None:
        shape = x.shape[-1:]
        self.weight = self.param("weight", shape, self._first, dtype=x.dtype) if self.affine else None
        self.offset = self.param("bias", shape, zeros, dtype=x.dtype) if self.affine else None
        self.running_mean = self.state("running_mean", shape, zeros, dtype=x.dtype)
        self.running_var = self.state("running_var", shape, ones, dtype=x.dtype)

    def call(self, x: Value) -> Value:
        axes = tuple(range(x.rank - 1))
        mean = ir.mean(x, axes)
        centred = x - mean
        var = ir.mean(centred * centred, axes)
        batch = self._scaled(centred, var)
        any_there = ir.greater(ir.size_of(product(x.shape[:-1]), x.dtype), 0.0)
        for state, new in ((self.running_mean, mean), (self.running_var, var * self._correction(x) if self.unbiased else var)):
            after = (1.0 - self.momentum) * state + self.momentum * new
            batch = ir.with_update(batch, state, ir.where(any_there, after, state))   # nothing has no mean: NaN would stay
        return ir.by_mode(training=batch, evaluation=self._scaled(x - self.running_mean, self.running_var))

    def _scaled(self, centred: Value, var: Value) -> Value:
        scale = ir.rsqrt(var + self.eps)
        if self.weight is None or self.offset is None:
            return centred * scale
        return centred * (scale * self.weight) + self.offset

    def _correction(self, x: Value) -> Value:
        """n / (n - 1); 1 for a single number, of which there is no unbiased estimate."""
        n = ir.size_of(product(x.shape[:-1]), x.dtype)
        return n / ir.maximum(n - 1.0, 1.0)


@dataclass(eq=False)
class BatchNorm2D(BatchNorm1D):
    """y = w (x - mean) / sqrt(variance + eps) + b for each channel of images: (N, H, W, C) -> (N, H, W, C).

    Mean and variance are over examples, rows and columns; everything else as in BatchNorm1D. (Ioffe & Szegedy, 2015)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> str(nn.BatchNorm2D()(gnn.Input((28, 28, 8), name="image")).type)
    'f32[N,28,28,8]'
    """

    _ranks = (4,)
    _form = "images (N, H, W, C)"
