"""The scopes of generated source: where an expression belongs.

A value is computed in the outermost scope in which all that it depends on is known: once a tile, once a row, once an
iteration of an outer loop, or for each element. Nothing is computed that no output asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphnn.ir.graph import Value
from graphnn.runtime.scalar_formulas import store

if TYPE_CHECKING:
    from graphnn.runtime.fused_writer import Writer

ITEMSIZE = {"f32": 4, "f64": 8, "i32": 4, "i64": 8, "bool": 1}


class Scope:
    """Lines of source under one head, and the values that are known there."""

    ROW = -1
    """Stands among the bound loops where a row's reductions may be known."""

    def __init__(self, writer: Writer, parent: Scope | None, head: str, bound: set[int]) -> None:
        self.writer, self.parent, self.head = writer, parent, head
        self.bound: frozenset[int] = frozenset(bound) | (parent.bound if parent else frozenset())
        self.lines: list[str | Scope] = []
        self.open: Scope | None = None                  # the inner scope being written; lines added now stand before it
        self.known: dict[Value, str] = {}
        self.bases: dict[tuple[str, tuple[int, ...]], str] = {}

    @property
    def is_row(self) -> bool:
        """Whether this is the loop over rows, index `t`, that is, where a row's reductions are known."""
        return Scope.ROW in self.bound and (self.parent is None or Scope.ROW not in self.parent.bound)

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)

    def child(self, head: str, bound: set[int]) -> Scope:
        """A scope inside this one."""
        self.settle()
        self.open = Scope(self.writer, self, head, bound)
        return self.open

    def settle(self) -> None:
        """The inner scope is complete: what is added from now on stands behind it."""
        if self.open is not None:
            self.open.settle()
            self.lines.append(self.open)
            self.open = None

    def define(self, value: Value, text: str) -> str:
        """A new variable for a value, in this scope."""
        name = self.writer.fresh("t")
        self.add(f"{name} = {text}")
        self.known[value] = name
        return name

    def render(self, depth: int) -> list[str]:
        self.settle()
        inside = depth + 1 if self.head else depth      # a scope without a head is there to order lines only
        lines = ["    " * depth + self.head] if self.head else []
        for line in self.lines:
            lines += line.render(inside) if isinstance(line, Scope) else ["    " * inside + line]
        return lines

    # What an Inner scope says otherwise.
    def find(self, value: Value) -> str | None:
        """The name of a value known here or further out."""
        scope: Scope | None = self
        while scope is not None:
            if value in scope.known:
                return scope.known[value]
            if scope.is_row and value in self.writer.row_held:
                return scope.define(value, f"{self.writer.row_held[value]}[t]")
            scope = scope.parent
        return None

    def name(self, value: Value) -> str:
        """The variable that holds a value, computed now in the scope where it belongs if it is not yet."""
        value = self.writer.real(value)
        found = self.find(value)
        if found is not None:
            return found
        home = self.home(value)
        return home.define(value, self.writer.expression(value, home))

    def read(self, outputs: Sequence[tuple[Value, str]]) -> None:
        """Compute the values of all these outputs, before the first is written: it may lie in the memory of an input."""
        for value, _ in outputs:
            self.name(value)

    def home(self, value: Value) -> Scope:
        """The outermost scope where a value can be computed."""
        needs = self.writer.needs(value)
        scope = self
        while scope.parent is not None and needs <= scope.parent.bound:
            scope = scope.parent
        assert needs <= scope.bound, f"{value!r} is not known here"
        return scope

    def element(self, place: str, dtype: str, has: tuple[int, ...]) -> str:
        """The expression of an operand's element at this scope's indices."""
        return f"p_{dtype}({self.address(place, dtype, has)})[0]"

    def address(self, place: str, dtype: str, has: tuple[int, ...], start: str = "0") -> str:
        """The byte address of an operand at this scope's indices; `start` stands for the innermost loop's index."""
        w = self.writer
        terms = []
        for position, loop in enumerate(has):
            stride = w.product([w.size(later) for later in has[position + 1 :]])
            index = w.index(loop) if loop in self.bound else start
            if index != "0":
                terms.append(index if stride == "1" else f"{index} * {stride}")
        if not terms:
            return w.place(place)
        offset = terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"
        return f"{w.place(place)} + {ITEMSIZE[dtype]} * {offset}"


class Inner(Scope):
    """The loop over elements, index `l`: operands that have the innermost loop are read through pointers at its start."""

    def __init__(self, writer: Writer, parent: Scope, head: str, loop: int, shift: str, index: str, start: str) -> None:
        super().__init__(writer, parent, head, {loop})
        self.loop, self.shift, self.index, self.start = loop, shift, index, start
        self.outside: list[str] = []                    # lines before the loop: pointers
        self.pointers: dict[tuple[str, tuple[int, ...]], str] = {}

    def pointer(self, place: str, dtype: str, has: tuple[int, ...]) -> str:
        """A pointer whose element `l` is the operand's element."""
        key = (place, has)
        if key not in self.pointers:
            # The address at the loop's start is computed in the scope around both the strips and the tail.
            around = self.writer.around
            if key not in around.bases:
                around.bases[key] = base = self.writer.fresh("b")
                around.add(f"{base} = {around.address(place, dtype, has, self.start)}")
            name = self.pointers[key] = self.writer.fresh("q")
            base = around.bases[key]
            shifted = base if self.shift == "0" else f"{base} + {ITEMSIZE[dtype]} * {self.shift}"
            self.outside.append(f"{name} = p_{dtype}({shifted})")
        return self.pointers[key]

    def array(self, array: str, dtype: str, whole: bool = True) -> str:
        """A pointer whose element `l` is that of an array in scratch; not `whole`: the same LANES for every strip."""
        if not whole or self.shift == "0":
            return array
        key = (array, ())
        if key not in self.pointers:
            name = self.pointers[key] = self.writer.fresh("q")
            self.outside.append(f"{name} = p_{dtype}(address_of({array}, {self.shift}))")
        return self.pointers[key]

    def element(self, place: str, dtype: str, has: tuple[int, ...]) -> str:
        if self.loop not in has:
            return super().element(place, dtype, has)
        return f"{self.pointer(place, dtype, has)}[l]"

    def find(self, value: Value) -> str | None:
        found = super().find(value)
        if found is None and value in self.writer.held:
            array = self.writer.held[value]
            return self.define(value, f"{self.array(array, value.dtype.value)}[l]")
        if found is None and value in self.writer.cached:
            text = self.element(self.writer.caches[value], value.dtype.value, self.writer.layout.reduced)
            return self.define(value, text)
        return found

    def store(self, place: str, value: Value, has: tuple[int, ...], streamed: bool = False, chunk: bool = False) -> None:
        """Write an output's element."""
        dtype = value.dtype.value
        if chunk:
            place = self.writer.chunk_place(place, dtype, has)
        text = store(dtype, self.name(value))
        pointer = self.pointer(place, dtype, has)
        self.add(f"nontemporal_store({pointer}, l, {text})" if streamed else f"{pointer}[l] = {text}")

    def keep(self, value: Value, has: tuple[int, ...]) -> None:
        """Write a value that a later sweep reads."""
        self.add(f"{self.pointer(self.writer.cache(value), value.dtype.value, has)}[l] = {self.name(value)}")
