"""All ops and functions that move data, under one name. They live in shaping, slicing, indexing and sizes."""

# ruff: noqa: F401
from graphnn.ir.ops.indexing import getitem
from graphnn.ir.ops.shaping import (
    Expand,
    Flip,
    Reshape,
    Transpose,
    expand,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from graphnn.ir.ops.sizes import Iota, SizeOf, arange, full, iota, ones, ones_like, size_of, zeros, zeros_like
from graphnn.ir.ops.slicing import Concat, Pad, Slice, Split, concat, pad, split, stack
