"""The source of one kernel as it is written: arguments, memory of the thread, values, and loops over elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnn.ir.graph import Value
from graphnn.ir.iteration_space import REDUCTIONS
from graphnn.ir.ops.shaping import Expand, Reshape
from graphnn.ir.ops.sizes import Iota, SizeOf
from graphnn.runtime.fused_layout import Layout
from graphnn.runtime.fused_scope import ITEMSIZE, Inner, Scope
from graphnn.runtime.scalar_formulas import COSTLY, cast, formula, load, store

Body = Callable[[Inner], None]


@dataclass(frozen=True, eq=False)
class Slot:
    """One argument: `kind` is "in" or "out" (address, by index), "size" (of loop `index`), "param" or "number"."""

    kind: str
    index: int = 0
    name: str = ""
    number: Value | SizeOf | None = None


class Writer:
    """The source of one kernel: its arguments, and the scopes of its body."""

    def __init__(self, layout: Layout, parameters: str, *, columns: bool = False) -> None:
        self.layout, self.columns = layout, columns
        self.slots: list[Slot] = []
        self.root = Scope(self, None, f"def kernel({parameters}):", set())
        self.around = self.root
        self.caches: dict[Value, str] = {}              # values kept for later sweeps of a row -> their place
        self.cached: set[Value] = set()                 # those that are already written
        self.arrays: list[str] = []
        self.held: dict[Value, str] = {}                # values of each column in an array of scratch
        self.row_held: dict[Value, str] = {}            # reductions of each row of the tile in an array of scratch
        self._names: dict[str, int] = {}
        self._places: dict[str, str] = {}
        self._params: dict[str, str] = {}
        self._products: dict[str, str] = {}
        self._head: list[str] = []                      # what stands before all else
        self._offset = "0"
        self._renamed: dict[int, str] = {}
        self._inputs = {value: f"in{i}" for i, value in enumerate(layout.body.inputs)}

    def source(self) -> str:
        lines = self.root.render(0)
        head = ["    " + line for line in self._head]
        return "\n".join([lines[0], *head, *lines[1:], "    return 0", ""])

    def fresh(self, stem: str) -> str:
        self._names[stem] = self._names.get(stem, 0) + 1
        return f"{stem}_{self._names[stem]}"

    # Arguments.
    def _slot(self, slot: Slot) -> int:
        self.slots.append(slot)
        return len(self.slots) - 1

    def param(self, name: str) -> str:
        """A number that the lowering decides."""
        if name not in self._params:
            self._params[name] = name + "_"
            self._head.append(f"{name}_ = args[{self._slot(Slot('param', name=name))}]")
        return self._params[name]

    def size(self, loop: int) -> str:
        if f"n{loop}" not in self._params:
            self._params[f"n{loop}"] = f"n{loop}"
            self._head.append(f"n{loop} = args[{self._slot(Slot('size', loop))}]")
        return self._params[f"n{loop}"]

    def product(self, names: Sequence[str]) -> str:
        """The product of sizes, computed once."""
        text = " * ".join(names) or "1"
        if len(names) < 2:
            return text
        if text not in self._products:
            self._products[text] = self.fresh("m")
            self._head.append(f"{self._products[text]} = {text}")
        return self._products[text]

    def place(self, place: str) -> str:
        """The variable with the address of "in0", "out1", or of memory that has a variable already."""
        if place not in self._places:
            kind = "in" if place.startswith("in") else "out"
            if not place.startswith(("in", "out")):
                return place
            self._places[place] = place
            self._head.append(f"{place} = args[{self._slot(Slot(kind, int(place.removeprefix(kind))))}]")
        return self._places[place]

    def chunk_place(self, place: str, dtype: str, has: tuple[int, ...]) -> str:
        """The part of a partial result that belongs to this tile's chunk."""
        name = f"part_{place}"
        if name not in self._params:
            self._params[name] = name
            total = self.product([self.size(i) for i in has])
            self.root.add(f"{name} = {self.place(place)} + {ITEMSIZE[dtype]} * chunk * {total}")
        return name

    # Scratch of the thread.
    def array(self, dtype: str, nbytes: int | str) -> str:
        """A pointer to a new array in the thread's scratch."""
        name = self.fresh("a")
        self.arrays.append(name)
        self._head.append(f"{name} = p_{dtype}(scratch + {self._offset})")
        self._offset = f"{self._offset} + {nbytes}" if self._offset != "0" else str(nbytes)
        return name

    def cache(self, value: Value) -> str:
        """The place of a row's values kept for later sweeps; all such lie behind the arrays."""
        value = self.real(value)
        if value not in self.caches:
            name = f"c_{len(self.caches)}"
            first, each, all_rows = self.param("cache_at"), self.param("cache_bytes"), self.param("cache_total")
            self._head.append(f"{name} = scratch + {first} + {len(self.caches)} * {all_rows}")
            self.caches[value] = f"({name} + t * {each})"
        return self.caches[value]

    def hold_row(self, value: Value) -> str:
        """An array with an element for each row of the tile, where a reduction is kept for later sweeps."""
        name = f"h_{len(self.row_held)}"
        first, each = self.param("held_at"), self.param("held_bytes")
        self._head.append(f"{name} = p_{value.dtype}(scratch + {first} + {len(self.row_held)} * {each})")
        self.row_held[value] = name
        return name

    def now_cached(self, values: list[Value]) -> None:
        self.cached.update(self.real(v) for v in values)

    def hold(self, arrays: dict[Value, str]) -> None:
        """These values can be read from arrays of the columns from now on."""
        self.held.update({self.real(v): array for v, array in arrays.items()})

    # Values.
    def real(self, value: Value) -> Value:
        """The value whose number this one has: through reshapes, expands, and folds of axes of size 1."""
        while value not in self._inputs and value not in self.layout.scalars:
            node = value.node
            alias = isinstance(node.op, (Reshape, Expand)) or (isinstance(node.op, REDUCTIONS) and not self.layout.folds(node))
            if not alias:
                break
            value = node.inputs[0]
        return value

    def level(self, value: Value) -> int:
        return self.layout.level[self.real(value)]

    def needs(self, value: Value) -> frozenset[int]:
        """The loops, and the row, within which a value must be computed."""
        varies = self.layout.varies[value]
        if self.layout.level[value] == 0:
            return varies
        last = {self.layout.kept[-1]} if self.columns else set[int]()
        return varies | last | {Scope.ROW}

    def expression(self, value: Value, scope: Scope) -> str:
        """The text that computes a value in `scope`; what it needs is computed on the way."""
        layout = self.layout
        if value in layout.scalars:
            return self._number(value)
        if value in self._inputs:
            dtype = value.dtype.value
            return load(dtype, scope.element(self._inputs[value], dtype, layout.has(value)))
        node = value.node
        if isinstance(node.op, Iota):
            axis = layout.space.axes[value][node.op.axis]
            return cast("i64", node.op.dtype.value, "i64(0)" if axis is None else self._index(layout.loop_of[axis], scope))
        assert not isinstance(node.op, REDUCTIONS), f"{node!r} has not been computed yet"
        return formula(node, [scope.name(v) for v in node.inputs])

    def _number(self, value: Value) -> str:
        what = self.layout.scalars[value]
        dtype = (what.dtype if isinstance(what, SizeOf) else value.dtype).value
        at = self._slot(Slot("number", name=dtype, number=what))
        if dtype == "bool":
            return f"(args[{at}] != 0)"
        return f"{dtype}(float_arg(args, {at}))" if dtype in ("f32", "f64") else f"to_{dtype}(args[{at}])"

    def _index(self, loop: int, scope: Scope) -> str:
        return scope.index if isinstance(scope, Inner) and scope.loop == loop else self.index(loop)

    def index(self, loop: int) -> str:
        """The variable with the index of a loop around the loop over elements."""
        return self._renamed.get(loop, f"i{loop}")

    # Loops over elements.
    def inner(self, scope: Scope, loop: int, start: str, count: str, body: Body,
              renamed: Sequence[dict[int, str]] = ({},)) -> None:  # fmt: skip
        """Strips of LANES elements and a tail. `renamed` has more than one entry where each pass takes several indices of
        an outer loop at once: the names of that loop's index, for each."""
        whole, s = self.fresh("w"), self.fresh("s")
        scope.settle()
        arounds = [Scope(self, scope, "", set(names)) for names in renamed]
        arounds[0].add(f"{whole} = shr({count}, 6)")
        strips = Scope(self, scope, f"for {s} in range({whole}):", set())
        self._elements(arounds, renamed, strips, loop, f"{s} * LANES", "LANES", start, "strip()", body)
        tail = Scope(self, scope, f"if {count} > {whole} * LANES:", set())
        self._elements(arounds, renamed, tail, loop, f"{whole} * LANES", f"{count} - {whole} * LANES", start, "tail()", body)
        scope.lines += [*arounds, strips, tail]

    def streamed(self, scope: Scope, loop: int, start: str, count: str, outputs: Sequence[tuple[str, str]],
                 body: Callable[[Inner, bool], None]) -> None:  # fmt: skip
        """As `inner`, with streaming stores where all outputs are aligned to cache lines; the rest before and after."""
        scope.settle()
        around = Scope(self, scope, "", set())
        has = tuple(range(len(self.layout.loops)))
        size = ITEMSIZE[outputs[0][1]]
        assert all(ITEMSIZE[dtype] == size for _, dtype in outputs), "outputs that stream have elements of one size"
        first = around.address(outputs[0][0], outputs[0][1], has, start)
        around.add(f"at = {first}", f"head = imin({count}, shr((0 - at) & 63, {size.bit_length() - 1}))")
        for place, _ in outputs[1:]:
            around.add(f"head = head if ({self.place(place)} - {self.place(outputs[0][0])}) & 63 == 0 else {count}")
        whole, s = self.fresh("w"), self.fresh("s")
        around.add(f"{whole} = shr({count} - head, 6)")
        strips = Scope(self, scope, f"for {s} in range({whole}):", set())
        shift = f"(head + {s} * LANES)"
        self._elements([around], [{}], strips, loop, shift, "LANES", start, "strip()", lambda i: body(i, True))
        rest = Scope(self, scope, "for part in range(2):", set())
        rest.add(f"behind = part * (head + {whole} * LANES)", f"number = head if part == 0 else {count} - behind")
        self._elements([around], [{}], rest, loop, "behind", "number", start, "tail()", lambda i: body(i, False))
        scope.lines += [around, strips, rest]

    def _elements(self, arounds: Sequence[Scope], renamed: Sequence[dict[int, str]], scope: Scope, loop: int, shift: str,
                  count: str, start: str, end: str, body: Body) -> None:  # fmt: skip
        index = f"({start} + {shift} + l)" if start != "0" else f"({shift} + l)"
        whole = Scope(self, scope, f"for l in range({count}):", set())
        for around, names in zip(arounds, renamed, strict=True):
            self.around, self._renamed = around, names
            inner = Inner(self, around, "", loop, shift, index, start)
            body(inner)
            scope.add(*inner.outside)
            whole.lines.append(inner)
        self._renamed = {}
        whole.add(end)
        scope.lines.append(whole)

    def store(self, scope: Scope, place: str, value: Value, has: tuple[int, ...], *, chunk: bool = False) -> None:
        """Write an output's element outside of the loop over elements."""
        dtype = value.dtype.value
        name = scope.name(value)
        if chunk:
            place = self.chunk_place(place, dtype, has)
        scope.add(f"{scope.element(place, dtype, has)} = {store(dtype, name)}")

    def is_light(self, folds: Sequence[Value]) -> bool:
        """Whether so little is computed for each element of these reductions that it may be written out several times."""
        found = self._computed([v.node.inputs[0] for v in folds], set(), every=True)
        return len(found) + len(folds) <= 6 and not any(isinstance(v.node.op, COSTLY) for v in found)

    # What several sweeps need.
    def costly(self, sweeps: Sequence[Sequence[Value]]) -> list[Value]:
        """Values that the first of these sweeps computes, a later one needs again, and that are worth keeping."""
        def targets(sweep: Sequence[Value]) -> list[Value]:
            return [v.node.inputs[0] if self.layout.folds(v.node) else v for v in sweep]

        chosen: list[Value] = []
        for value in self._computed(targets(sweeps[0]), set()):
            if isinstance(value.node.op, COSTLY):
                again = (v for sweep in sweeps[1:] for v in self._computed(targets(sweep), set(chosen)))
                if value in again:
                    chosen.append(value)
        return chosen

    def _computed(self, targets: Sequence[Value], stop: set[Value], *, every: bool = False) -> dict[Value, None]:
        """The values computed for each element (or in all) to get `targets`, those nearest to them first."""
        found: dict[Value, None] = {}
        pending = [self.real(v) for v in targets]
        while pending:
            value = pending.pop(0)
            inner = every or self.layout.reduced[-1] in self.layout.varies[value]
            known = self.layout.folds(value.node) or value in self.layout.scalars or value in self.held
            if value in found or known or value in self._inputs or value in self.cached or value in stop or not inner:
                continue
            found[value] = None
            pending.extend(self.real(v) for v in value.node.inputs)
        return found

    def read_later(self, level: int) -> list[Value]:
        """Values known after the reductions of `level`, the same for all of a column, that later work reads."""
        reduced = set(self.layout.reduced)
        found: dict[Value, None] = {}
        for node in self.layout.body.nodes:
            full = bool(self.layout.varies[node.outputs[0]] & reduced) or self.layout.folds(node)
            for operand in node.inputs:
                value = self.real(operand)
                mine = self.layout.level[value] == level and not self.layout.varies[value] & reduced
                if mine and value not in self.held and (full or self.layout.level[node.outputs[0]] > level):
                    found[value] = None
        for output in self.layout.body.outputs:         # a full-size output that only repeats a column's value
            value = self.real(output)
            mine = self.layout.level[value] == level and not self.layout.varies[value] & reduced
            if self.layout.is_full(output) and mine and value not in self.held:
                found[value] = None
        return list(found)

