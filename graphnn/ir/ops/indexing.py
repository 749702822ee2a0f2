"""x[...]: what an index means, written in slices, flips, reshapes and gathers."""

from __future__ import annotations

import operator

import numpy as np

from graphnn.errors import ShapeError, UnsupportedError
from graphnn.ir.dims import Dim, Size
from graphnn.ir.graph import Value
from graphnn.ir.ops import index, inputs, shaping, slicing
from graphnn.ir.ops.operands import located


@located
def getitem(x: Value, key: object) -> Value:
    """x[key], as in NumPy: integers, slices, None, ..., and one tensor or list of ids.

    Bounds given for a symbolic axis are taken as they are: x[:5] has 5 elements, and fewer is an error when sizes are known.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    taken = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if taken > x.rank:
        raise ShapeError(f"{taken} indices for the {x.rank} axes of {x.type}")
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1:
        raise ShapeError("... stands twice in an index")
    where = dots[0] if dots else len(keys)
    keys[where:where + len(dots)] = [slice(None)] * (x.rank - taken)

    starts: list[Size] = []
    stops: list[Size] = []
    steps: list[int] = []
    reverse: list[int] = []
    shape: list[Size | None] = []               # None: the size that the slice leaves
    ids: tuple[int, Value] | None = None        # the axis of the result that ids are gathered along
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        axis = len(starts)
        size = x.shape[axis]
        if isinstance(k, slice):
            start, stop, step, backward = _bounds(k, size)
            if backward:
                reverse.append(axis)
            shape.append(None)
        elif isinstance(k, (Value, list, np.ndarray)):
            if ids is not None:
                raise UnsupportedError("an index takes one tensor of ids", hint="gather one after the other")
            ids = (len(shape), k if isinstance(k, Value) else inputs.constant(np.asarray(k)))
            start, stop, step = 0, size, 1
            shape.append(None)
        else:
            start, step = _position(k, size), 1
            stop = start + 1
        starts.append(start)
        stops.append(stop)
        steps.append(step)
        if not isinstance(k, (slice, Value, list, np.ndarray)):
            shape.append(-1)                    # dropped below
    flipped = shaping.flip(x, reverse) if reverse else x
    whole = all(a == 0 and b == size and s == 1 for a, b, s, size in zip(starts, stops, steps, x.shape, strict=True))
    part = flipped if whole else slicing.Slice(tuple(starts), tuple(stops), tuple(steps)).one(flipped)
    left = iter(part.shape)
    sizes_of_result: list[Size] = []
    gather_axis = 0
    for position, entry in enumerate(shape):
        if ids is not None and position == ids[0]:
            gather_axis = len(sizes_of_result)
        if entry == 1:
            sizes_of_result.append(1)
        elif entry is None:
            sizes_of_result.append(next(left))
        else:
            next(left)
    result = shaping.reshape(part, sizes_of_result)
    return result if ids is None else index.gather(result, ids[1], gather_axis)


def _position(k: object, size: Size) -> Size:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer, Dim)):
        raise ShapeError(f"{k!r} is no index", hint="use integers, slices, None, ... or a tensor of ids")
    if isinstance(k, Dim):
        return k
    at = int(k)
    if isinstance(size, int) and not -size <= at < size:
        raise ShapeError(f"index {at} is out of range for an axis of size {size}")
    return at if at >= 0 else size + at


def _bounds(k: slice, size: Size) -> tuple[Size, Size, int, bool]:
    """Start, stop and positive step of a slice, and whether the axis must be flipped first."""
    step = 1 if k.step is None else operator.index(k.step)
    if step == 0:
        raise ShapeError("a slice's step cannot be 0")
    if isinstance(size, int) and not isinstance(k.start, Dim) and not isinstance(k.stop, Dim):
        span = range(*k.indices(size))
        if not span:
            return 0, 0, 1, False
        if step > 0:
            return span.start, span.stop, step, False
        return size - 1 - span.start, size - span[-1], -step, True
    if step < 0:
        if k.start is not None or k.stop is not None:
            raise UnsupportedError(f"a backward slice of the symbolic size {size} takes no bounds", hint="use flip, then a slice")
        return 0, size, -step, True
    start = _bound(k.start, 0, size)
    return start, _bound(k.stop, size, size), step, False


def _bound(bound: object, default: Size, size: Size) -> Size:
    if bound is None:
        return default
    if isinstance(bound, Dim):
        return bound
    at = operator.index(bound)  # pyright: ignore[reportArgumentType]
    return at if at >= 0 else size + at
