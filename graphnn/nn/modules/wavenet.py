"""WavenetResidualModule: a gated, dilated, causal convolution with a residual and a skip output."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType
from graphnn.nn.arguments import as_count, check_flags, require_float
from graphnn.nn.initialisers import Init
from graphnn.nn.layer import Layer
from graphnn.nn.layers.conv1d import Conv1D


@dataclass(eq=False)
class WavenetResidualModule(Layer):
    """r = (tanh(filter(x)) * sigmoid(gate(x))) Wr + br;  gives (x + r, skip + s): (N, T, C) -> (N, T, C), (N, T, S).

    filter and gate are causal convolutions of their own, with `dilation_channels`, `kernel_size` and `dilation` (1: none). s is
    r, and S = C; with `skip_channels=S`, s has weights of its own. C is `residual_channels`. Call it as `block(x)`, where the
    skip begins at 0, or `block(x, skip)`: the last block's skip leads to the output. Parameters are filter/..., gate/...,
    residual/... and skip/... . Raises ShapeError when x has other channels or the skip does not fit. van den Oord et al.,
    "WaveNet", 2016.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x, skip = gnn.Input(("T", 8), name="x"), None
    >>> for dilation in (1, 2, 4):
    ...     x, skip = nn.WavenetResidualModule(8, 16, dilation, kernel_size=3)(x, skip)
    >>> str(x.type), str(skip.type)
    ('f32[N,T,8]', 'f32[N,T,8]')
    """

    residual_channels: int
    dilation_channels: int
    dilation: int = 1
    kernel_size: int = 2
    skip_channels: int | None = None
    bias: bool = True
    init: Init = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        for label in ("residual_channels", "dilation_channels", "dilation", "kernel_size"):
            setattr(self, label, as_count(getattr(self, label), f"WavenetResidualModule: {label}"))
        if self.skip_channels is not None:
            self.skip_channels = as_count(self.skip_channels, "WavenetResidualModule: skip_channels")
        check_flags(self, "bias")
        self._filter, self._gate = (
            Conv1D(self.dilation_channels, self.kernel_size, padding="causal", dilation=self.dilation, activation=activation,
                   bias=self.bias, init=self.init, name=name) for name, activation in (("filter", "tanh"), ("gate", "sigmoid")))
        self._residual = Conv1D(self.residual_channels, 1, bias=self.bias, init=self.init, name="residual")
        self._skip = None if self.skip_channels is None else Conv1D(self.skip_channels, 1, bias=self.bias, init=self.init,
                                                                    name="skip")

    def __call__(self, x: Value, skip: Value | None = None) -> tuple[Value, Value]:
        """(main, skip) after this block."""
        return self.within(self.call, x, skip=skip)

    def accepts(self, x: TensorType) -> None:
        if x.rank != 3 or x.shape[-1] != self.residual_channels:
            raise ShapeError(f"WavenetResidualModule takes sequences (N, T, {self.residual_channels}), not {x}: "
                             f"residual_channels is {self.residual_channels}")
        require_float(x, "WavenetResidualModule")

    def call(self, x: Value, skip: Value | None = None) -> tuple[Value, Value]:
        gated = self._filter(x) * self._gate(x)
        r = self._residual(gated)
        s = r if self._skip is None else self._skip(gated)
        if skip is None:
            return x + r, s
        if skip.type != s.type:
            raise ShapeError(f"WavenetResidualModule: the skip is {skip.type}; it must be {s.type}")
        return x + r, skip + s
