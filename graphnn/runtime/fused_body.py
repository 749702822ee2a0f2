"""Source of the kernel of a fused body.

Which bodies can be one kernel is a rule of structure alone; it stands in graphnn/ir/iteration_space.py, where the fusion
pass reads it too: `iteration_space(body)` is not None. From the body's `Layout` one of three forms follows:

- `write_map`: no reduction. Outer loops are flattened and cut into tiles, the innermost is vectorised.
- `write_rows`: the innermost loop is reduced. For each kept index one sweep over the row for each level of reductions,
  then one that writes the full-size outputs. What is costly to compute and needed again is kept in the thread's scratch.
- `write_columns`: the innermost loop is kept. A tile is a block of columns; the sweeps run over the rows, with partial
  results for each column in the thread's scratch.

Rows and columns also come as partial reductions over one chunk of the reduced elements (`chunked`). The text is a
parameter of the kernel, and `build` makes the function from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnn.ir.graph import Value
from graphnn.runtime.fused_layout import Layout
from graphnn.runtime.fused_scope import Inner, Scope
from graphnn.runtime.fused_writer import Slot, Writer
from graphnn.runtime.row import Kernel
from graphnn.runtime.scalar_formulas import COMBINE, IDENTITY

if TYPE_CHECKING:
    from graphnn.runtime.source_assembly import Written

BUILDER = "graphnn.runtime.fused_body:build"
ACCUMULATOR_BYTES = 512
"""LANES elements of the widest dtype: what a row kernel keeps for each reduction."""


def build(source: str) -> Written:
    """The kernel that generated source says."""
    from graphnn.runtime.fused_words import vocabulary
    from graphnn.runtime.source_assembly import Written

    return Written(source, vocabulary())


@dataclass(frozen=True, eq=False)
class Generated:
    """A kernel and what stands in its argument slots. `caches`, `held` and `arrays` count pieces of the thread's scratch."""

    kernel: Kernel
    slots: tuple[Slot, ...]
    form: str
    layout: Layout
    caches: int = 0
    arrays: int = 0
    held: int = 0


def _generated(w: Writer, form: str, signature: str = "row") -> Generated:
    kernel = Kernel.of(BUILDER, signature=signature, source=w.source())
    return Generated(kernel, tuple(w.slots), form, w.layout, len(w.caches), len(w.arrays), len(w.row_held))


# ---------------------------------------------------------------------------------------------- elementwise


def write_map(layout: Layout, *, stream: bool = False) -> Generated:
    """The kernel of a body without reductions. `stream` writes past the caches."""
    w = Writer(layout, "args, tile, scratch")
    outputs = [(v, f"out{i}") for i, v in enumerate(layout.body.outputs)]
    if not layout.loops:
        w.root.read(outputs)
        for value, place in outputs:
            w.store(w.root, place, value, ())
        return _generated(w, "map")
    *outer, last = range(len(layout.loops))
    blocks, block, per = w.param("blocks"), w.param("block"), w.param("per")
    w.root.add(f"group = udiv(tile, {blocks})", f"start = (tile - group * {blocks}) * {block}")
    w.root.add(f"count = imin({block}, {w.size(last)} - start)")
    row = _over(w, outer, f"group * {per}", per)

    def body(inner: Inner, streamed: bool) -> None:
        inner.read(outputs)
        for value, place in outputs:
            inner.store(place, value, tuple(range(len(layout.loops))), streamed)

    if stream:
        w.streamed(row, last, "start", "count", [(place, value.dtype.value) for value, place in outputs], body)
        w.root.settle()
        w.root.add("store_fence()")
    else:
        w.inner(row, last, "start", "count", lambda inner: body(inner, False))
    return _generated(w, "map")


def _over(w: Writer, loops: list[int], start: str, count: str) -> Scope:
    """A scope for each index of the flattened `loops` from `start` on, at most `count` of them."""
    if not loops:
        return w.root.child("for t in range(1):", {Scope.ROW})
    total = w.product([w.size(i) for i in loops])
    w.root.add(f"first = {start}")
    row = w.root.child(f"for t in range(imin({count}, {total} - first)):", {Scope.ROW, *loops})
    rest = "first + t"
    if len(loops) > 1:
        row.add("u = first + t")
        rest = "u"
    for i in reversed(loops[1:]):
        row.add(f"v{i} = udiv({rest}, {w.size(i)})", f"i{i} = {rest} - v{i} * {w.size(i)}")
        rest = f"v{i}"
    row.add(f"i{loops[0]} = {rest}")
    return row


# ---------------------------------------------------------------------------------------------- reductions


@dataclass(frozen=True)
class _Sweep:
    """One run over the reduced loops: the reductions of a level, or (none) the full-size outputs."""

    level: int
    folds: tuple[Value, ...]


def _sweeps(layout: Layout) -> list[_Sweep]:
    found: dict[int, list[Value]] = {}
    for node in layout.body.nodes:
        if layout.folds(node):
            found.setdefault(layout.level[node.output], []).append(node.output)
    sweeps = [_Sweep(level, tuple(values)) for level, values in sorted(found.items())]
    if any(layout.is_full(v) for v in layout.body.outputs):
        sweeps.append(_Sweep(layout.levels + 1, ()))
    return sweeps


def write_rows(layout: Layout, *, chunked: bool = False) -> Generated:
    """The kernel of reductions whose innermost loop is reduced."""
    w = Writer(layout, "args, tile, scratch")
    kept, (*outer, last) = list(layout.kept), layout.reduced
    first = layout.reduced[0]
    if chunked:
        _chunk(w, first)
    per = w.param("per")
    outputs = [(v, f"out{i}") for i, v in enumerate(layout.body.outputs)]
    full = [(value, place) for value, place in outputs if layout.is_full(value)]
    sweeps = _sweeps(layout)
    row = w.root
    for i, sweep in enumerate(sweeps):
        # Each sweep runs over all rows of the tile before the next one: neighbouring rows overlap in the core, where
        # sweep after sweep of one row would wait for each other.
        w.root.settle()
        row = _over(w, kept, f"tile * {per}", per)
        accumulators = [(v, w.array(v.dtype.value, ACCUMULATOR_BYTES)) for v in sweep.folds]
        for value, array in accumulators:
            fill = row.child("for l in range(LANES):", set())
            fill.add(f"{array}[l] = {_identity(value)}", "strip()")
        needed_later = w.costly([s.folds or tuple(v for v, _ in outputs if layout.is_full(v)) for s in sweeps[i:]])
        nest, start, count = _nest(w, row, outer, last, first if chunked else None)

        def body(inner: Inner, accumulators: list[tuple[Value, str]] = accumulators, keep: list[Value] = needed_later,
                 sweep: _Sweep = sweep) -> None:  # fmt: skip
            for value, array in accumulators:
                element = f"{inner.array(array, value.dtype.value, whole=False)}[l]"
                inner.add(f"{element} = {_combined(value, element, inner.name(value.node.inputs[0]))}")
            if not sweep.folds:
                inner.read(full)
                for value, place in full:
                    inner.store(place, value, tuple(range(len(layout.loops))))
            for value in keep:
                inner.keep(value, layout.reduced)

        w.inner(nest, last, start, count, body)
        row.settle()
        w.now_cached(needed_later)
        for value, array in accumulators:
            name = row.define(value, f"fold_{type(value.node.op).__name__}_{value.dtype}({array})")
            if i + 1 < len(sweeps):
                row.add(f"{w.hold_row(value)}[t] = {name}")
    row.read([(value, place) for value, place in outputs if not layout.is_full(value)])
    for value, place in outputs:
        if not layout.is_full(value):
            w.store(row, place, value, tuple(kept), chunk=chunked)
    return _generated(w, "rows")


def write_columns(layout: Layout, *, chunked: bool = False) -> Generated:
    """The kernel of reductions whose innermost loop is kept."""
    w = Writer(layout, "args, tile, scratch", columns=True)
    (*outer, last), reduced = layout.kept, list(layout.reduced)
    if chunked:
        _chunk(w, reduced[0])
    blocks, block = w.param("blocks"), w.param("block")
    w.root.add(f"group = udiv(tile, {blocks})", f"start = (tile - group * {blocks}) * {block}")
    w.root.add(f"count = imin({block}, {w.size(last)} - start)")
    row = _over(w, outer, "group", "1")
    outputs = [(v, f"out{i}") for i, v in enumerate(layout.body.outputs)]
    full = [(value, place) for value, place in outputs if layout.is_full(value)]
    sweeps = _sweeps(layout)
    for sweep in sweeps:
        accumulators = [(v, w.array(v.dtype.value, f"{block} * 8")) for v in sweep.folds]
        for value, array in accumulators:
            fill = row.child("for l in range(count):", set())
            fill.add(f"{array}[l] = {_identity(value)}", "tail()")

        def body(inner: Inner, accumulators: list[tuple[Value, str]] = accumulators, sweep: _Sweep = sweep) -> None:
            for value, array in accumulators:
                element = f"{inner.array(array, value.dtype.value)}[l]"
                inner.add(f"{element} = {_combined(value, element, inner.name(value.node.inputs[0]))}")
            if not sweep.folds:
                inner.read(full)
                for value, place in full:
                    inner.store(place, value, tuple(range(len(layout.loops))))

        _over_columns(w, row, last, sweep, body, reduced[0] if chunked else None)
        row.settle()
        w.hold(dict(accumulators))
        _finish_columns(w, row, last, sweep, outputs, chunked)
    return _generated(w, "columns")


def _over_columns(w: Writer, row: Scope, last: int, sweep: _Sweep, body: Callable[[Inner], None], chunked: int | None) -> None:
    """All reduced elements of a block of columns, a row at a time; four where little is computed, as each addition to a
    partial result in memory waits for the last one."""
    *outer, loop = w.layout.reduced
    scope, _, _ = _nest(w, row, outer, None, chunked)
    scope.settle()
    first, number = ("low", "span") if loop == chunked else ("0", w.size(loop))
    done = "0"
    if sweep.folds and w.is_light(sweep.folds):
        fours = w.fresh("f")
        scope.add(f"{fours} = shr({number}, 2)")
        four = scope.child(f"for j{loop} in range({fours}):", set())
        four.add(*(f"i{loop}_{k} = {first} + j{loop} * 4 + {k}" for k in range(4)))
        w.inner(four, last, "start", "count", body, [{loop: f"i{loop}_{k}"} for k in range(4)])
        scope.settle()
        done = f"{fours} * 4"
    rest = scope.child(f"for j{loop} in range({number} - {done}):", {loop})
    rest.add(f"i{loop} = {first} + {done} + j{loop}")
    w.inner(rest, last, "start", "count", body)


def _finish_columns(w: Writer, row: Scope, last: int, sweep: _Sweep, outputs: list[tuple[Value, str]], chunked: bool) -> None:
    """After a sweep: what follows from its results for each column, kept for later sweeps or written."""
    layout = w.layout
    if not sweep.folds:
        return
    kept = tuple(layout.kept)
    later = w.read_later(sweep.level)
    written = [(v, place) for v, place in outputs if not layout.is_full(v) and w.level(v) == sweep.level]
    if sweep.level == 1:
        written += [(v, place) for v, place in outputs if not layout.is_full(v) and w.level(v) == 0]
    arrays = {value: w.array(value.dtype.value, f"{w.param('block')} * 8") for value in later}
    if not arrays and not written:
        return

    def body(inner: Inner) -> None:
        for value, array in arrays.items():
            inner.add(f"{inner.array(array, value.dtype.value)}[l] = {inner.name(value)}")
        inner.read(written)
        for value, place in written:
            inner.store(place, value, kept, chunk=chunked)

    w.inner(row, last, "start", "count", body)
    row.settle()
    w.hold(arrays)


def _chunk(w: Writer, loop: int) -> None:
    """Only the part of `loop` that belongs to this tile's chunk; results go to the chunk's own place."""
    chunks, length = w.param("chunks"), w.param("length")
    w.root.add(f"block_of = udiv(tile, {chunks})", f"chunk = tile - block_of * {chunks}", "tile = block_of")
    w.root.add(f"low = chunk * {length}", f"span = imin({length}, {w.size(loop)} - low)")


def _nest(w: Writer, row: Scope, outer: list[int], last: int | None, chunked: int | None) -> tuple[Scope, str, str]:
    """Scopes for the loops in `outer`; the scope of the innermost, and start and count of the loop `last`."""
    scope = row
    for i in outer:
        if i == chunked:
            scope = scope.child(f"for j{i} in range(span):", {i})
            scope.add(f"i{i} = low + j{i}")
        else:
            scope = scope.child(f"for i{i} in range({w.size(i)}):", {i})
    if last is not None and last == chunked:
        return scope, "low", "span"
    return scope, "0", w.size(last) if last is not None else "0"


def _identity(value: Value) -> str:
    return IDENTITY[type(value.node.op).__name__](value.dtype.value)


def _combined(value: Value, accumulator: str, element: str) -> str:
    return COMBINE[type(value.node.op).__name__](value.dtype.value, accumulator, element)



# ---------------------------------------------------------------------------------------------- epilogues


def write_epilogue(layout: Layout) -> Generated:
    """The kernel of an elementwise body on one tile of a matrix: rows [row0, row0 + rows), columns [col0, col0 + cols).

    The loops of the layout are the matrix's rows and columns (`matrix_layout`). The tile's rows count on through batches
    of "per_batch" rows.
    """
    w = Writer(layout, "args, batch, row0, rows, col0, cols")
    outputs = [(v, f"out{i}") for i, v in enumerate(layout.body.outputs)]
    w.root.add(f"first = batch * {w.param('per_batch')} + row0")

    def body(inner: Inner) -> None:
        for value, place in outputs:
            inner.store(place, value, (0, 1))

    row = w.root.child("for t in range(rows):", {Scope.ROW, 0})
    row.add("i0 = first + t")
    w.inner(row, 1, "col0", "cols", body)
    return _generated(w, "epilogue", "epilogue")
