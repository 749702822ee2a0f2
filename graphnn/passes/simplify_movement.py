"""Rules of simplify about shapes: views that cancel or merge, stretching that need not happen, sums over stretched axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphnn.ir.dims import Size, product
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Fusion, make_node
from graphnn.ir.ops import arithmetic, linalg, reduce, shaping, sizes, slicing

Shape = tuple[Size, ...]


# ------------------------------------------------------------------------------------------------ stretching


def unstretched(value: Value) -> Value:
    """What `value` is a broadcast copy of: NumPy's broadcasting would give it back from this."""
    while True:
        op, inputs = value.node.op, value.node.inputs
        stretches = isinstance(op, shaping.Expand) or (
            isinstance(op, shaping.Reshape) and op.shape == (1,) * (len(op.shape) - inputs[0].rank) + inputs[0].shape)
        if not stretches:
            return value
        value = inputs[0]


def stretched_operands(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Elementwise ops broadcast by themselves; where all operands are stretched, the result is stretched instead."""
    if node.op.fusion is not Fusion.ELEMENTWISE:
        return None
    thin = tuple([unstretched(value) for value in inputs])
    if thin == inputs:
        return None
    y = make_node(node.op, thin).output
    return y if y.shape == node.types[0].shape else shaping.expand(y, node.types[0].shape)


def expand(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Stretching to the same shape does nothing; by ones alone it is a reshape; twice is once."""
    (x,), (target,) = inputs, node.types
    if x.shape == target.shape:
        return x
    if x.type.elements == target.elements:
        return shaping.reshape(x, target.shape)
    source = unstretched(x)
    return shaping.expand(source, target.shape) if source is not x and source != x else None


# ------------------------------------------------------------------------------------------------ views


def reshape(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """To the same shape: nothing. Of a reshape: one. Of a reduction, where it only drops or adds the reduced axes: keepdims."""
    (x,), target = inputs, node.types[0].shape
    if x.shape == target:
        return x
    op = x.node.op
    if isinstance(op, shaping.Reshape):
        return shaping.reshape(x.node.inputs[0], target)
    if isinstance(op, reduce.Reduction):
        source = x.node.inputs[0]
        if target == reduce.reduced_shape(source.shape, op.axes, not op.keepdims):
            return type(op)(op.axes, not op.keepdims).one(source)
    if isinstance(op, shaping.Expand) and product(x.node.inputs[0].shape) == 1:
        scalar = x.node.inputs[0]
        return shaping.expand(shaping.reshape(scalar, ()) if scalar.rank else scalar, target)
    return None


def transpose(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Two transposes are one; one that moves only axes of size 1 is a reshape."""
    (x,), op = inputs, node.op
    assert isinstance(op, shaping.Transpose)
    if isinstance(x.node.op, shaping.Transpose):
        inner = x.node.op.perm
        return shaping.transpose(x.node.inputs[0], [inner[axis] for axis in op.perm])
    moved = [axis for axis in op.perm if x.shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return x if op.perm == tuple(range(x.rank)) else shaping.reshape(x, node.types[0].shape)


def flip(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Reversing twice does nothing."""
    (x,), op = inputs, node.op
    assert isinstance(op, shaping.Flip)
    axes = [axis for axis in op.axes if x.shape[axis] != 1]
    if not axes:
        return x
    return x.node.inputs[0] if x.node.op == op else None


# ------------------------------------------------------------------------------------------------ reductions


def reduction(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Over axes of size 1 it is a reshape; the max of a max is one over all the axes."""
    (x,), op = inputs, node.op
    assert isinstance(op, reduce.Reduction)
    if all(x.shape[axis] == 1 for axis in op.axes) and op.name != "logsumexp":
        return shaping.reshape(x, node.types[0].shape) if x.shape != node.types[0].shape else x
    if type(x.node.op) is type(op) and op.name in ("max", "min"):
        return _twice(node, x.node, op)
    return None


def _twice(node: Node, inner: Node, op: reduce.Reduction) -> Value | None:
    first = inner.op
    assert isinstance(first, reduce.Reduction)
    source = inner.inputs[0]
    left = list(range(source.rank)) if first.keepdims else [a for a in range(source.rank) if a not in first.axes]
    axes = tuple(sorted({*first.axes, *(left[axis] for axis in op.axes)}))
    merged = type(op)(axes, op.keepdims).one(source)
    return merged if merged.shape == node.types[0].shape else shaping.reshape(merged, node.types[0].shape)


def sum_(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """The sum over a stretched axis is a product; over the batch of a matrix product it is one longer matrix product."""
    (x,), op = inputs, node.op
    assert isinstance(op, reduce.Sum)
    for rule in (lambda: reduction(node, inputs), lambda: _sum_of_expand(node, x, op.axes),
                 lambda: _sum_of_matmuls(node, x, op.axes)):
        found = rule()
        if found is not None:
            return found
    return None


def _sum_of_expand(node: Node, x: Value, axes: tuple[int, ...]) -> Value | None:
    if not isinstance(x.node.op, shaping.Expand):
        return None
    source = x.node.inputs[0]
    shape: Shape = (1,) * (x.rank - source.rank) + source.shape
    equal = tuple([axis for axis in axes if shape[axis] == 1 and x.shape[axis] != 1])
    if not equal:
        return None
    count = product([x.shape[axis] for axis in equal])
    one = reduce.sum(shaping.reshape(source, shape), [a for a in axes if a not in equal], keepdims=True)
    if isinstance(count, int):
        scaled = arithmetic.mul(one, float(count) if x.dtype.is_float else count)
    else:
        scaled = arithmetic.mul(one, sizes.size_of(count, x.dtype))
    # The axes that are neither summed nor of the source's size are still to be stretched.
    kept = tuple([1 if axis in axes else size for axis, size in enumerate(x.shape)])
    return shaping.reshape(shaping.expand(scaled, kept) if scaled.shape != kept else scaled, node.types[0].shape)


def _sum_of_matmuls(node: Node, x: Value, axes: tuple[int, ...]) -> Value | None:
    """sum over b of a[b]^T c[b], the gradient of a shared weight: rows of all b below each other in one product."""
    op, batch = x.node.op, x.rank - 2
    if not isinstance(op, linalg.MatMul) or batch == 0 or axes != tuple(range(batch)):
        return None
    a, c = x.node.inputs
    if not op.transpose_a or op.transpose_b or a.shape[:-2] != x.shape[:-2] or c.shape[:-2] != x.shape[:-2]:
        return None
    rows = product(a.shape[:-1])
    y = linalg.MatMul(True, False).one(shaping.reshape(a, (rows, a.shape[-1])), shaping.reshape(c, (rows, c.shape[-1])))
    return shaping.reshape(y, node.types[0].shape)


# ------------------------------------------------------------------------------------------------ matrix products


def matmul(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """A transposed operand is a flag."""
    a, b = inputs
    op = node.op
    assert isinstance(op, linalg.MatMul)
    if _swaps_matrix_axes(a):
        return linalg.MatMul(not op.transpose_a, op.transpose_b).one(a.node.inputs[0], b)
    if _swaps_matrix_axes(b):
        return linalg.MatMul(op.transpose_a, not op.transpose_b).one(a, b.node.inputs[0])
    return None


def _swaps_matrix_axes(value: Value) -> bool:
    op, n = value.node.op, value.rank
    return isinstance(op, shaping.Transpose) and n >= 2 and op.perm == (*range(n - 2), n - 1, n - 2)


# ------------------------------------------------------------------------------------------------ pieces


def slice_(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Of everything: nothing. Of a slice: one. Of a pad, back to what was padded. Of a concat, within one part: of the part."""
    (x,), op = inputs, node.op
    assert isinstance(op, slicing.Slice)
    if x.shape == node.types[0].shape and all(start == 0 and step == 1 for start, step in zip(op.starts, op.steps, strict=True)):
        return x
    inner = x.node.op
    if isinstance(inner, slicing.Slice) and all(step == 1 for step in inner.steps):
        starts = [a + b for a, b in zip(inner.starts, op.starts, strict=True)]
        stops = [a + b for a, b in zip(inner.starts, op.stops, strict=True)]
        return slicing.Slice(tuple(starts), tuple(stops), op.steps).one(x.node.inputs[0])
    if any(step != 1 for step in op.steps):
        return None
    if isinstance(inner, slicing.Pad):
        (source,) = x.node.inputs
        exact = op.starts == inner.low and all(
            stop == low + size for stop, low, size in zip(op.stops, inner.low, source.shape, strict=True))
        return source if exact else None
    return _slice_of_concat(x, op, inner) if isinstance(inner, slicing.Concat) else None


def _slice_of_concat(x: Value, op: slicing.Slice, concat: slicing.Concat) -> Value | None:
    start, stop = op.starts[concat.axis], op.stops[concat.axis]
    offset: Size = 0
    for part in x.node.inputs:
        end = offset + part.shape[concat.axis]
        within = isinstance(offset, int) and isinstance(start, int) and isinstance(stop, int) and isinstance(end, int)
        if (start == offset and stop == end) or (within and offset <= start and stop <= end):  # pyright: ignore
            starts, stops = list(op.starts), list(op.stops)
            starts[concat.axis], stops[concat.axis] = start - offset, stop - offset
            return slicing.Slice(tuple(starts), tuple(stops), op.steps).one(part)
        offset = end
    return None


def pad(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """By nothing: nothing."""
    op = node.op
    assert isinstance(op, slicing.Pad)
    return inputs[0] if all(width == 0 for width in (*op.low, *op.high)) else None


def concat(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """Of one: itself. Of all parts of a split, or of neighbouring slices: what was cut. Of concats: one."""
    op = node.op
    assert isinstance(op, slicing.Concat)
    if len(inputs) == 1:
        return inputs[0]
    first = inputs[0].node
    if isinstance(first.op, slicing.Split) and first.op.axis == op.axis and inputs == first.outputs:
        return first.inputs[0]
    if any(value.node.op == op for value in inputs):
        flat = [part for value in inputs for part in (value.node.inputs if value.node.op == op else (value,))]
        return op.one(*flat)
    return _concat_of_slices(inputs, op.axis)


def _concat_of_slices(inputs: Sequence[Value], axis: int) -> Value | None:
    first = inputs[0].node
    if not isinstance(first.op, slicing.Slice):
        return None
    end = first.op.starts[axis]
    for value in inputs:
        op = value.node.op
        if not isinstance(op, slicing.Slice) or value.node.inputs != first.inputs or any(step != 1 for step in op.steps):
            return None
        others = [(a, b) for i, (a, b) in enumerate(zip(op.starts, op.stops, strict=True)) if i != axis]
        expected = [(a, b) for i, (a, b) in enumerate(zip(first.op.starts, first.op.stops, strict=True)) if i != axis]
        if others != expected or op.starts[axis] != end:
            return None
        end = op.stops[axis]
    stops = (*first.op.stops[:axis], end, *first.op.stops[axis + 1:])
    return slicing.Slice(first.op.starts, stops, first.op.steps).one(first.inputs[0])


def split(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Of a concat of the same parts: the parts. Into one part: itself."""
    (x,), op = inputs, node.op
    assert isinstance(op, slicing.Split)
    if len(op.sizes) == 1:
        return (x,)
    inner = x.node.op
    if isinstance(inner, slicing.Concat) and inner.axis == op.axis:
        parts = x.node.inputs
        return parts if tuple(part.shape[op.axis] for part in parts) == op.sizes else None
    return None


def add_of_pads(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """The sum of slices' gradients, pads by 0 that lie side by side along one axis, is their concat, padded."""
    terms: list[Value] = []
    stack = list(inputs)
    while stack:
        value = stack.pop()
        if value.type != node.types[0]:
            return None
        if value.node.op.name == "add":
            stack += value.node.inputs
        elif isinstance(value.node.op, slicing.Pad) and value.node.op.value == 0:
            terms.append(value)
        else:
            return None
    pads = [(value.node.op, value.node.inputs[0]) for value in terms if isinstance(value.node.op, slicing.Pad)]
    rank = node.types[0].rank
    axes = {i for pad, _ in pads for i in range(rank) if pad.low[i] != 0 or pad.high[i] != 0}
    if len(axes) != 1:
        return None
    (axis,) = axes
    starts = {pad.low[axis]: (pad, x) for pad, x in pads}
    ends = {pad.low[axis] + x.shape[axis] for pad, x in pads}
    first = [start for start in starts if start not in ends]
    if len(first) != 1 or len(starts) != len(pads):
        return None
    at: Size = first[0]
    parts: list[Value] = []
    while at in starts:                                 # each part begins where the one before ends
        parts.append(starts[at][1])
        last, at = starts[at][0], at + starts[at][1].shape[axis]
        if len(parts) == len(pads):
            return slicing.Pad(starts[first[0]][0].low, last.high, 0.0).one(slicing.Concat(axis).one(*parts))
    return None


TABLE: Mapping[str, Callable[[Node, tuple[Value, ...]], Value | tuple[Value, ...] | None]] = {
    "expand": expand, "reshape": reshape, "transpose": transpose, "flip": flip, "sum": sum_, "max": reduction,
    "min": reduction, "prod": reduction, "matmul": matmul, "slice": slice_, "pad": pad, "concat": concat, "split": split,
}
