"""Undo broadcasting in gradients: the one place where a cotangent is summed back to the shape it was stretched from."""

from __future__ import annotations

from graphnn.ir.graph import Value
from graphnn.ir.types import TensorType


def unbroadcast(d: Value, target: TensorType) -> Value:
    """`d` summed over the axes along which a value of type `target` was stretched."""
    from graphnn.ir.ops import reduce, shaping  # their gradients use this module

    if d.shape == target.shape:
        return d
    extra = d.rank - target.rank
    stretched = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(target.shape) if size == 1 and d.shape[extra + i] != 1)
    summed = reduce.sum(d, stretched, keepdims=False) if stretched else d
    return summed if summed.shape == target.shape else shaping.reshape(summed, target.shape)
