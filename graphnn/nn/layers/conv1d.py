"""Conv1D: cross-correlation over sequences in (N, T, C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphnn import ir
from graphnn.errors import ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.activations import Activation
from graphnn.nn.arguments import Padding, as_count, is_count, is_whole, shown
from graphnn.nn.initialisers import Init
from graphnn.nn.layers.conv import SAME_SIZE, Convolution


@dataclass(eq=False)
class Conv1D(Convolution):
    """y = f(x * W + b): cross-correlation over time, (N, T, C) -> (N, T', out_channels).

    The kernel is (k, C / groups, out_channels). `padding` is an int, (left, right), "valid" (none), "same" (T' = ceil(T /
    stride)), "same_size" (T' = T for any stride; an odd step goes to the right) or "causal" (all at the left: y[t] sees no x
    after t). `dilation=1` means none. T' = (T + pads - dilation (k - 1) - 1) // stride + 1. Raises ShapeError when groups do
    not divide the channels or the kernel is longer than the padded sequence. (causal and dilated: van den Oord et al., 2016)

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
    init: Init = "glorot_uniform"

    RANK, FORM = 3, "sequences (N, T, C)"

    def pair(self, argument: str) -> tuple[int, int]:
        """As for an image of one row."""
        setattr(self, argument, as_count(getattr(self, argument), f"Conv1D: {argument}"))
        return 1, getattr(self, argument)

    def pads(self, padding: Any) -> Padding:
        """As for an image of one row."""
        if isinstance(padding, str) and padding in ("valid", "same", SAME_SIZE, "causal"):
            return padding if padding != "causal" else (0, 0, self._dilation[1] * (self._kernel[1] - 1), 0)
        both: tuple[Any, ...] = (padding, padding) if is_whole(padding) else ()
        if isinstance(padding, (tuple, list)):
            both = tuple(padding)
        if len(both) != 2 or not all(is_count(v, 0) for v in both):
            raise ShapeError(f"Conv1D: padding is {shown(padding)}; use an integer, (left, right), 'valid', 'same', 'same_size' "
                             "or 'causal', none negative")
        return 0, 0, int(both[0]), int(both[1])

    def weight_shape(self, channels: Any) -> tuple[Any, ...]:
        return super().weight_shape(channels)[1:]

    def call(self, x: Value) -> Value:
        rows = self.convolved(ir.expand_dims(x, 1), ir.expand_dims(self.weight, 0))
        return self.finished(ir.squeeze(rows, 1))
