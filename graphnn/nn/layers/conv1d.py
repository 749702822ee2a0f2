"""Conv1D: cross-correlation over sequences in (N, T, C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.ir.ops.inputs import Initializer
from graphnn.ir.types import TensorType
from graphnn.nn.activations import Activation, activation_name, as_activation
from graphnn.nn.arguments import as_count, is_whole, require_float
from graphnn.nn.initialisers import as_initialiser, zeros
from graphnn.nn.layer import Layer


@dataclass(eq=False)
class Conv1D(Layer):
    """y = f(x * W + b): cross-correlation over time, (N, T, C) -> (N, T', out_channels).

    The kernel is (k, C / groups, out_channels). `padding` is an int, (left, right), "valid" (none), "same" (T' = ceil(T /
    stride), the odd step at the right) or "causal" (all at the left: y[t] sees no x after t). `dilation=1` means none.
    T' = (T + pads - dilation (k - 1) - 1) // stride + 1. (causal and dilated: van den Oord et al., 2016)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input(("T", 4), name="x")
    >>> str(nn.Conv1D(16, 3, padding="causal", dilation=2)(x).type)
    'f32[N,T,16]'
    """

    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int | tuple[int, int] | str = 0
    dilation: int = 1
    groups: int = 1
    activation: Activation = None
    bias: bool = True
    init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("out_channels", "kernel_size", "stride", "dilation", "groups"):
            setattr(self, argument, as_count(getattr(self, argument), f"Conv1D: {argument}"))
        if self.out_channels % self.groups:
            raise ShapeError(f"Conv1D: groups is {self.groups}; it must divide out_channels, {self.out_channels}")
        self._padding = self._sides(self.padding)
        self._activate = as_activation(self.activation)
        self._first = as_initialiser(self.init, activation_name(self.activation))

    def _sides(self, padding: Any) -> tuple[int, int, int, int] | str:
        """The padding of an image of one row."""
        if padding == "causal":
            return 0, 0, self.dilation * (self.kernel_size - 1), 0
        if isinstance(padding, str) and padding in ("valid", "same"):
            return padding
        both: tuple[Any, ...] = (padding, padding) if is_whole(padding) else ()
        if isinstance(padding, (tuple, list)):
            both = tuple(padding)
        if len(both) != 2 or any(not is_whole(v) or v < 0 for v in both):
            raise ShapeError(f"Conv1D: padding is {padding!r}; use an integer, (left, right), 'valid', 'same' or 'causal', "
                             "none negative")
        return 0, 0, int(both[0]), int(both[1])

    def build(self, x: TensorType) -> None:
        if x.rank != 3:
            raise ShapeError(f"Conv1D takes sequences (N, T, C), not {x}")
        require_float(x, "Conv1D")
        channels = x.shape[-1]
        if isinstance(channels, int) and channels % self.groups:
            raise ShapeError(f"Conv1D: groups is {self.groups}; it must divide the {channels} channels of x")
        shape = (self.kernel_size, channels // self.groups, self.out_channels)
        self.weight = self.param("weight", shape, self._first, dtype=x.dtype)
        self.offset = self.param("bias", (self.out_channels,), zeros, dtype=x.dtype) if self.bias else None

    def call(self, x: Value) -> Value:
        rows = ir.conv2d(ir.expand_dims(x, 1), ir.expand_dims(self.weight, 0), stride=(1, self.stride),
                         padding=self._padding, dilation=(1, self.dilation), groups=self.groups)
        y = ir.squeeze(rows, 1)
        return self._activate(y if self.offset is None else y + self.offset)
