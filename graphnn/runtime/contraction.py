"""The contraction microkernel: one register tile of C = sum over up to three nested loops of A * B, as vector LLVM IR.

    C[i, j] (+)= sum over r0, r1, r2 of A[i*ai + r0*a0 + r1*a1 + r2*a2] * B[r0*b0 + r1*b1 + r2*b2 + column(j)]

All strides are run-time numbers, so this one tile is matmul with any transposes, convolution, its input
gradient and its weight gradient. A is read one element at a time and broadcast; B and C are read as vectors along j.
What is fixed when it is compiled is a `TileSet`: the dtype, the lanes of a vector, and the heights and widths for which a
tile is emitted. Each (height, width) is a private function of the module; `tile_call` picks one by a switch.
"""

# pyright: basic, reportMissingParameterType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I32, I64 = ir.IntType(32), ir.IntType(64)
BYTE_POINTER = ir.IntType(8).as_pointer()
ELEMENT = {"f32": ir.FloatType(), "f64": ir.DoubleType()}
BYTES = {"f32": 4, "f64": 8}

# Slots of the loop block that a tile reads, strides in bytes: row stride of A, stride between the panels of B, row stride
# of C, then (trips, stride in A, stride in B) of the three loops from the outside in.
LOOP_SLOTS = 12


@dataclass(frozen=True)
class TileSet:
    """The register tiles of one dtype on one instruction set.

    `panel` is the vectors in a packed panel of B, which is the width of a tile. Tiles also come half as wide, for columns that
    fill no more, and those of up to 4 rows twice, of up to 2 rows four times as wide: a panel alone would leave too few
    independent sums to hide the latency of a multiply-add. `masked`: the vectors of a tile's last panel may be partial or
    empty, by masked loads and stores (worth it only where these are single instructions).
    """

    dtype: str
    lanes: int
    heights: tuple[int, ...]
    registers: int
    masked: bool
    panel: int = 2

    def widths(self, height: int) -> tuple[int, ...]:
        """The widths, in vectors, of the tiles of this height."""
        # The sums, one side of the product and a vector of the other must fit the registers.
        fits = [w * self.panel for w in (2, 4) if height <= 8 // w and height * w * self.panel + height < self.registers]
        return (self.panel // 2, self.panel, *fits)


def _splat(b: Any, scalar: Any, vector: ir.VectorType) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def declare(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


def make_private(function: Any) -> None:
    """One body, called from wherever the module needs it."""
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")


def do_not_unroll(module: ir.Module) -> ir.MDValue:
    """A loop annotation: the tiles fill the machine as they are, and unrolled ones take three times as long to compile."""
    loop = module.add_metadata([ir.MetaDataString(module, f"loop {len(module.metadata)}")])
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop.operands = (loop, disable)
    return loop


class _Tile:
    """Emits one tile function: void tile(A, B, C, columns in the last panel, accumulate, loop block)."""

    def __init__(self, module: ir.Module, tiles: TileSet, height: int, width: int) -> None:
        self.module, self.tiles, self.height, self.width = module, tiles, height, width
        self.element = ELEMENT[tiles.dtype]
        self.vector = ir.VectorType(self.element, tiles.lanes)
        self.vector_bytes = tiles.lanes * BYTES[tiles.dtype]
        self.suffix = f"v{tiles.lanes}{tiles.dtype}"

    def function(self) -> ir.Function:
        name = f"tile.{self.suffix}.{self.height}x{self.width}"
        arguments = [BYTE_POINTER, BYTE_POINTER, BYTE_POINTER, I64, I64, I64.as_pointer()]
        function = declare(self.module, name, ir.VoidType(), arguments)
        if not function.blocks:
            make_private(function)
            self.emit(function)
        return function

    def emit(self, function: ir.Function) -> None:
        a, bb, c, last, accumulate, block = function.args
        b: Any = ir.IRBuilder(function.append_basic_block("entry"))
        self.b = b
        slots = [b.load(b.gep(block, [ir.Constant(I64, k)])) for k in range(LOOP_SLOTS)]
        self.row_stride, self.panel_stride, c_stride = slots[:3]
        self.loops = [slots[3:6], slots[6:9], slots[9:12]]
        # A tile walks A with one pointer and these offsets, which fold into the addressing of the broadcasts.
        self.row_offset = [b.mul(self.row_stride, ir.Constant(I64, i)) for i in range(self.height)]
        add = b.icmp_signed("!=", accumulate, ir.Constant(I64, 0))
        if self.tiles.masked:
            lanes = ir.VectorType(I64, self.tiles.lanes)
            iota = ir.Constant(lanes, list(range(self.tiles.lanes)))
            firsts = [ir.Constant(I64, j * self.tiles.lanes) for j in range(self.tiles.panel)]
            self.masks = [b.icmp_signed("<", iota, _splat(b, b.sub(last, first), lanes)) for first in firsts]
        self.prefetch(c, c_stride)
        zero = ir.Constant(self.vector, [0.0] * self.tiles.lanes)
        sums = self.nest(0, a, bb, [zero] * (self.height * self.width))
        self.finish(c, c_stride, sums, add)
        b.ret_void()

    def nest(self, level: int, a: Any, bb: Any, sums: list[Any]) -> list[Any]:
        """Emit loop `level` and those inside it; the sums after it. Every loop runs at least once."""
        if level == 3:
            return self.multiply_add(a, bb, sums)
        b = self.b
        trips, a_step, b_step = self.loops[level]
        before = b.block
        body = b.append_basic_block(f"loop{level}")
        b.branch(body)
        b.position_at_end(body)
        count, pa, pb = b.phi(I64), b.phi(a.type), b.phi(bb.type)
        phis = [b.phi(self.vector) for _ in sums]
        inner = self.nest(level + 1, pa, pb, list(phis))
        step = b.add(count, ir.Constant(I64, 1))
        for phi, first, later in [
            (count, ir.Constant(I64, 0), step),
            (pa, a, b.gep(pa, [a_step])),
            (pb, bb, b.gep(pb, [b_step])),
            *zip(phis, sums, inner, strict=True),
        ]:
            phi.add_incoming(first, before)
            phi.add_incoming(later, b.block)
        after = b.append_basic_block(f"after{level}")
        branch = b.cbranch(b.icmp_signed("<", step, trips), body, after)
        branch.set_metadata("llvm.loop", do_not_unroll(self.module))
        b.position_at_end(after)
        return inner

    def multiply_add(self, a: Any, bb: Any, sums: list[Any]) -> list[Any]:
        b = self.b
        fma = declare(self.module, f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        columns = []
        for j in range(self.width):
            place, offset = divmod(j, self.tiles.panel)
            at = b.gep(bb, [b.mul(self.panel_stride, ir.Constant(I64, place))]) if place else bb
            at = b.gep(at, [ir.Constant(I64, offset * self.vector_bytes)]) if offset else at
            columns.append((at, self.mask(j)))
        rows = [b.gep(a, [offset]) for offset in self.row_offset]
        new = list(sums)
        # The side with fewer vectors stays in registers while the other streams through one.
        if self.height < self.width:
            spread = [_splat(b, self.element_at(row), self.vector) for row in rows]
            for j, at in enumerate(columns):
                column = self.load(*at)
                for i in range(self.height):
                    new[i * self.width + j] = b.call(fma, [spread[i], column, new[i * self.width + j]])
            return new
        held = [self.load(*at) for at in columns]
        for i, row in enumerate(rows):
            spread_row = _splat(b, self.element_at(row), self.vector)
            for j, column in enumerate(held):
                new[i * self.width + j] = b.call(fma, [spread_row, column, new[i * self.width + j]])
        return new

    def mask(self, j: int) -> Any:
        """Which lanes of the vector j exist; None for all."""
        place = j - self.width + self.tiles.panel
        return self.masks[place] if self.tiles.masked and place >= 0 else None

    def element_at(self, at: Any) -> Any:
        return self.b.load(self.b.bitcast(at, self.element.as_pointer()), align=BYTES[self.tiles.dtype])

    def load(self, at: Any, mask: Any = None) -> Any:
        b = self.b
        at = b.bitcast(at, self.vector.as_pointer())
        align = BYTES[self.tiles.dtype]
        if mask is None:
            return b.load(at, align=align)
        load = declare(
            self.module,
            f"llvm.masked.load.{self.suffix}.p0",
            self.vector,
            [self.vector.as_pointer(), I32, mask.type, self.vector],
        )
        zero = ir.Constant(self.vector, [0.0] * self.tiles.lanes)
        return b.call(load, [at, ir.Constant(I32, align), mask, zero])

    def store(self, value: Any, at: Any, mask: Any) -> None:
        b = self.b
        at = b.bitcast(at, self.vector.as_pointer())
        align = BYTES[self.tiles.dtype]
        if mask is None:
            b.store(value, at, align=align)
            return
        store = declare(
            self.module,
            f"llvm.masked.store.{self.suffix}.p0",
            ir.VoidType(),
            [self.vector, self.vector.as_pointer(), I32, mask.type],
        )
        b.call(store, [value, at, ir.Constant(I32, align), mask])

    def prefetch(self, c: Any, stride: Any) -> None:
        """Ask for the lines of C now, so that they are there when the sums are."""
        b = self.b
        touch = declare(self.module, "llvm.prefetch.p0", ir.VoidType(), [BYTE_POINTER, I32, I32, I32])
        for i in range(self.height):
            row = b.gep(c, [b.mul(stride, ir.Constant(I64, i))])
            for offset in range(0, self.width * self.vector_bytes, 64):
                at = b.gep(row, [ir.Constant(I64, offset)])
                b.call(touch, [at, ir.Constant(I32, 1), ir.Constant(I32, 3), ir.Constant(I32, 1)])  # to write, keep, data

    def finish(self, c: Any, stride: Any, sums: list[Any], add: Any) -> None:
        """Write the tile, adding what C holds when `add`."""
        b = self.b
        zero = ir.Constant(self.vector, [0.0] * self.tiles.lanes)
        old_masks: list[Any] = []
        if self.tiles.masked:
            no, yes = (ir.Constant(self.masks[0].type, [bit] * self.tiles.lanes) for bit in (0, 1))
            old_masks = [b.select(add, self.mask(j) or yes, no) for j in range(self.width)]
        for i in range(self.height):
            row = b.gep(c, [b.mul(stride, ir.Constant(I64, i))])
            for j in range(self.width):
                at = b.gep(row, [ir.Constant(I64, j * self.vector_bytes)])
                old = self.load(at, old_masks[j]) if self.tiles.masked else b.select(add, self.load(at), zero)
                self.store(b.fadd(old, sums[i * self.width + j]), at, self.mask(j))


def tile_call(tiles: TileSet) -> Any:
    """An intrinsic `tile(height, width, a, b, c, last, accumulate, block)` for this set of tiles.

    Addresses are integers, `width` is in vectors, `last` is the number of columns in the last panel, `block` the address
    of the LOOP_SLOTS numbers of the loops.
    """

    @intrinsic
    def tile(typingctx, height, width, a, b, c, last, accumulate, block):
        def emit(context, builder, signature, arguments):
            height, width, a, b, c, last, accumulate, block = arguments
            call = [builder.inttoptr(p, BYTE_POINTER) for p in (a, b, c)]
            call += [last, accumulate, builder.inttoptr(block, I64.as_pointer())]
            done = builder.append_basic_block("tile.done")
            switch = builder.switch(builder.or_(builder.shl(height, ir.Constant(I64, 8)), width), done)
            for h in tiles.heights:
                for w in tiles.widths(h):
                    case = builder.append_basic_block(f"tile.{h}x{w}")
                    switch.add_case(ir.Constant(I64, h << 8 | w), case)
                    builder.position_at_end(case)
                    builder.call(_Tile(builder.module, tiles, h, w).function(), call)
                    builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), emit

    return tile
