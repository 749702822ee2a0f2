"""The one codec of attribute values: what may stand in an op's field, and how it is bound, written and read.

Attribute values are None, bool, int, float, str, DType, Dim, TensorType, `Array`, Graph (a body), Op (of an epilogue) and
tuples of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphnn.ir.dims import Dim
from graphnn.ir.graph import Graph
from graphnn.ir.types import TensorType


@dataclass(frozen=True)
class Array:
    """An immutable array as an attribute; equal when type and bits are equal."""

    data: np.ndarray = field(compare=False, repr=False)
    bits: bytes = field(init=False, repr=False)
    type: TensorType = field(init=False)

    def __post_init__(self) -> None:
        data = np.array(self.data, order="C", copy=True)
        data.flags.writeable = False
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "bits", data.tobytes())
        object.__setattr__(self, "type", TensorType.of(data))


def bind_attribute(value: Any, sizes: Mapping[str, int]) -> Any:
    """`value` with numbers for names; the same object when it names no size."""
    if isinstance(value, (Dim, TensorType)):
        return value.bind(sizes)
    if isinstance(value, tuple):
        bound = tuple(bind_attribute(item, sizes) for item in value)
        return bound if any(a is not b for a, b in zip(bound, value, strict=True)) else value
    if isinstance(value, Graph):
        from graphnn.ir.rewrite import bind_graph
        return bind_graph(value, sizes)
    bind = getattr(value, "bind", None)                 # an Op
    return bind(sizes) if bind is not None else value
