"""A graph with its sizes bound, as rows and argument words: everything but the addresses that change from call to call.

`bind(program, sizes)` lowers every node, lays the argument words out and notes where each kind of address stands
(relocations). `Program` is what all bindings of a graph share. New sizes make a new plan and never a new kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from graphnn.errors import GraphnnError, NumericsError, ShapeError
from graphnn.ir.dims import bind_size
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import describe
from graphnn.ir.ops.fused import Epilogue
from graphnn.ir.ops.inputs import Constant
from graphnn.passes.plan_buffers import BufferPlan, Lifetimes, Slot, lifetimes, plan_buffers
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.kernels.copy import copy_row
from graphnn.runtime.lowering import Constants, Lowering, lower
from graphnn.runtime.row import Address, Arg, ArgsOf, Code, End, Instruction, Kernel, Loop, Row, Scratch
from graphnn.runtime.table import ADVANCE, END, LOOP, RESTORE

Place = tuple[str, int]                  # a Slot's kind and index, or ("scratch", 0), ("args", 0)
_FLOPS_A_NS, _BYTES_A_NS, _ROW_NS = 40.0, 15.0, 20.0       # a guess of serial speed, to choose between serial and parallel


@dataclass(frozen=True)
class Program:
    """A graph ready to be bound: what does not depend on sizes."""

    graph: Graph

    @cached_property
    def life(self) -> Lifetimes:
        return lifetimes(self.graph)


@dataclass(frozen=True, repr=False)
class Plan:
    """One binding of sizes: rows, argument words, and what must be added to which word."""

    program: Program
    sizes: Mapping[str, int]
    buffers: BufferPlan
    rows: np.ndarray                                     # int64 [rows, 3]: kernel address, first word, tiles
    row_nodes: tuple[Node | None, ...]                   # None: a copy of a result
    inner_nodes: Mapping[int, Node]                      # rows of loops: the node of the body
    words: np.ndarray                                    # int64; addresses hold offsets only
    relocations: Mapping[Place, np.ndarray]              # word indices to which the place's base address is added
    constants: tuple[np.ndarray, ...]
    scratch: int                                         # bytes shared by the threads of a row
    thread_scratch: int                                  # bytes a thread
    cost_ns: float                                       # a guess of the serial time
    shared_ns: float                                     # the part of it that several threads can share
    kernels: tuple[Kernel, ...] = field(repr=False)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        name = f"{self.program.graph.name} for {sizes}" if sizes else self.program.graph.name
        return f"<Plan of {name}: {len(self.rows)} rows, arena {self.buffers.arena} bytes>"

    def __str__(self) -> str:
        """The rows one under the other: what each computes, in how many tiles."""
        lines = [f"{self!r}, scratch {self.scratch} bytes and {self.thread_scratch} a thread"]
        for i, (kernel, _, tiles) in enumerate(self.rows.tolist()):
            node = self.inner_nodes.get(i, self.row_nodes[i])
            types = "" if node is None else " -> " + ", ".join(map(str, node.types))
            name = "copy of a result" if node is None else node.op.name
            lines.append(f"  {i:4d}  " + (f"loop {tiles} times" if kernel == LOOP else "end" if kernel == END else
                                          f"{name:12} {tiles:5d} tiles{types}"))
        return "\n".join(lines)

    def error(self, code: int, row: int) -> GraphnnError:
        """The error of a row that failed: its op says what the code means, its Loc says where."""
        node = self.inner_nodes.get(row, self.row_nodes[row])
        assert node is not None, f"a copy failed with code {code}"
        error = NumericsError(f"{node.op.name}: {node.op.failure(code)}")
        error.locate("", describe(tuple(v.type for v in node.inputs), node.loc))
        return error


def bind(program: Program, sizes: Mapping[str, int]) -> Plan:
    """The plan of a graph for these sizes. Compiles the kernels that the store lacks."""
    try:
        return _bind(program, sizes)
    except OverflowError as error:
        raise ShapeError(f"{program.graph.name}: a number does not fit the 64 bits that kernels have for it") from error
    except ShapeError as error:
        raise _unfit(program.graph, sizes) or error from None


def _unfit(graph: Graph, sizes: Mapping[str, int]) -> ShapeError | None:
    """What the first node that there cannot be for these sizes has to say. The size of a result shows only that it is negative;
    the op's type rule knows why."""
    for node in graph.nodes:
        try:
            for made in node.types:
                made.bind(sizes)
        except ShapeError as negative:
            found, op, given = negative, node.op, node.inputs
            if isinstance(op, Epilogue):
                op, given = op.producer, given[:op.producer_inputs]
            try:
                op.bind(sizes).infer(*(value.type.bind(sizes) for value in given))
            except ShapeError as reason:
                found = reason
            found.locate(f"{op.name}: ", describe(tuple(value.type for value in given), node.loc))
            return found
    return None


def _bind(program: Program, sizes: Mapping[str, int]) -> Plan:
    buffers = plan_buffers(program.life, sizes)
    builder = _Builder(program.graph, sizes, buffers)
    for source, staged in program.life.first_copies:
        builder.copy(source, buffers.slot(staged))
    graph = program.graph
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.op, Constant):
            builder.lower(node, graph.nodes[i + 1].inputs if i + 1 < len(graph.nodes) else ())
    for value, slot in program.life.last_copies:
        builder.copy(value, slot)
    return builder.finish(program)


def address_of(slot: Slot) -> Address:
    """A slot of the buffer plan as an address of the row vocabulary."""
    return Address((slot.kind, slot.index), slot.offset)


class _Places(dict[Value, Address]):
    """The address of any value of the graph, found through its root."""

    def __init__(self, buffers: BufferPlan) -> None:
        super().__init__()
        self.buffers = buffers

    def __missing__(self, value: Value) -> Address:
        self[value] = address = address_of(self.buffers.slot(value))
        return address


class _Builder:
    """Collects instructions, then lays them out."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int], buffers: BufferPlan) -> None:
        self.graph, self.sizes, self.buffers = graph, sizes, buffers
        self.places = _Places(buffers)
        self.constants = Constants(buffers.life.constants)
        self.instructions: list[tuple[Instruction, Node | None]] = []
        self.scratch = 0
        self.cost_ns = self.shared_ns = 0.0
        self.inner: dict[int, Node] = {}                 # by id of a row

    def copy(self, value: Value, target: Slot) -> None:
        size = value.type.bind(self.sizes).nbytes
        assert isinstance(size, int)
        row = copy_row(self.places[value], address_of(target), size)
        self.instructions.append((row, None))
        self.count(size / _BYTES_A_NS, [row])

    def lower(self, node: Node, next_reads: Sequence[Value]) -> None:
        at = Lowering(node, self.sizes, self.places, frozenset(next_reads), self.constants)
        instructions = lower(at)
        # Settled here and not by owner later: two scans may share the nodes of one body, each with scratch of its own.
        scratch_at: dict[Hashable, int] = {}
        offset = 0
        for piece in dict.fromkeys(a.buffer for a in _addresses(instructions) if isinstance(a.buffer, Scratch)):
            scratch_at[piece] = offset
            offset += -(-piece.nbytes // 64) * 64
        self.scratch = max(self.scratch, offset)
        for instruction in instructions:
            inner = at.inner.get(id(instruction))
            if isinstance(instruction, Row) and scratch_at:
                instruction = replace(instruction, args=_with_scratch(instruction.args, scratch_at))
            if inner is not None:
                self.inner[id(instruction)] = inner
            self.instructions.append((instruction, node))
        if instructions:
            moved = sum(bind_size(v.type.nbytes, self.sizes) for v in (*node.inputs, *node.outputs))
            flops = bind_size(node.op.flops(*(v.type for v in node.inputs)), self.sizes)
            self.count(flops / _FLOPS_A_NS + moved / _BYTES_A_NS, instructions)

    def count(self, nanoseconds: float, instructions: Sequence[Instruction]) -> None:
        """Add to the guesses of time what these instructions take."""
        self.cost_ns += nanoseconds
        if any(isinstance(i, Row) and i.tiles > 1 for i in instructions):
            self.shared_ns += nanoseconds

    def finish(self, program: Program) -> Plan:
        instructions, nodes = _with_steps(self.instructions)
        kernels = tuple(dict.fromkeys(k for i in instructions if isinstance(i, Row) for k in _kernels(i)))
        code = dict(zip(kernels, addresses(kernels), strict=True))
        layout = _Layout(code)
        rows, first_words = [], layout.place_all(instructions)
        for instruction, first in zip(instructions, first_words, strict=True):
            if isinstance(instruction, Row):
                rows.append((code[instruction.kernel], first, instruction.tiles))
            else:
                rows.append((LOOP, 0, instruction.trips) if isinstance(instruction, Loop) else (END, 0, 0))
        thread_scratch = max((i.thread_scratch for i in instructions if isinstance(i, Row)), default=0)
        return Plan(
            program, dict(self.sizes), self.buffers, np.array(rows, np.int64).reshape(-1, 3), tuple(nodes),
            {i: self.inner[id(row)] for i, row in enumerate(instructions) if id(row) in self.inner},
            np.array(layout.words, np.int64),
            {place: np.array(at, np.int64) for place, at in layout.relocations.items()}, tuple(self.constants.arrays),
            self.scratch, thread_scratch, self.cost_ns + len(rows) * _ROW_NS, self.shared_ns, kernels,
        )


def _all_args(args: Sequence[Arg]) -> Iterator[Arg]:
    """Arguments, and those nested in them."""
    for arg in args:
        yield arg
        if isinstance(arg, ArgsOf):
            yield from _all_args(arg.args)


def _kernels(row: Row) -> list[Kernel]:
    return [row.kernel, *(arg.kernel for arg in _all_args(row.args) if isinstance(arg, Code))]


def _addresses(instructions: Sequence[Instruction]) -> list[Address]:
    return [arg for i in instructions if isinstance(i, Row) for arg in _all_args(i.args) if isinstance(arg, Address)]


def _with_scratch(args: Sequence[Arg], scratch_at: Mapping[Hashable, int]) -> tuple[Arg, ...]:
    """Arguments with pieces of scratch as places in the workspace's scratch."""
    settled: list[Arg] = []
    for arg in args:
        if isinstance(arg, Address) and arg.buffer in scratch_at:
            arg = Address(("scratch", 0), arg.offset + scratch_at[arg.buffer], arg.steps)
        elif isinstance(arg, ArgsOf):
            arg = ArgsOf(_with_scratch(arg.args, scratch_at))
        settled.append(arg)
    return tuple(settled)


# ---------------------------------------------------------------------------------------------- argument words


class _Layout:
    """Argument words in order of the rows; nested arguments (of epilogues) follow their row's own."""

    def __init__(self, code: Mapping[Kernel, int]) -> None:
        self.code = code
        self.words: list[int] = []
        self.relocations: dict[Place, list[int]] = {}
        self.slot_of: dict[tuple[int, tuple[int, ...]], int] = {}      # (instruction, path of argument) -> word

    def place_all(self, instructions: Sequence[Instruction]) -> list[int]:
        first_words: list[int] = []
        for i, instruction in enumerate(instructions):
            if not isinstance(instruction, Row):
                first_words.append(0)
                continue
            first_words.append(self.place(instruction.args, i, ()))
        self._settle_forward(instructions, first_words)
        return first_words

    def place(self, args: Sequence[Arg], instruction: int, path: tuple[int, ...]) -> int:
        first = len(self.words)
        self.words.extend([0] * len(args))
        for position, arg in enumerate(args):
            self.put(first + position, arg, instruction, (*path, position))
        return first

    def put(self, at: int, arg: Arg, instruction: int, path: tuple[int, ...]) -> None:
        self.slot_of[instruction, path] = at
        if isinstance(arg, Address):
            place: Place = arg.buffer  # pyright: ignore[reportAssignmentType]
            self.words[at] = arg.offset
            self.relocations.setdefault(place, []).append(at)
        elif isinstance(arg, Code):
            self.words[at] = self.code[arg.kernel]
        elif isinstance(arg, ArgsOf):
            self.words[at] = 8 * self.place(arg.args, instruction, path)
            self.relocations.setdefault(("args", 0), []).append(at)
        elif isinstance(arg, (bool, int, np.integer)):
            self.words[at] = int(arg)
        else:
            (self.words[at],) = struct.unpack("<q", struct.pack("<d", arg))

    def _settle_forward(self, instructions: Sequence[Instruction], first_words: Sequence[int]) -> None:
        """RESTORE rows stand before the rows whose slots they name: fill those slots in now."""
        for i, instruction in enumerate(instructions):
            if isinstance(instruction, _StepRow):
                for position, target in instruction.targets:
                    self.words[self.slot_of[i, (position,)]] = self.slot_of[target] - first_words[i]


# ---------------------------------------------------------------------------------------------- loops


@dataclass(frozen=True)
class _StepRow(Row):
    """A RESTORE or ADVANCE row; `targets` pairs its argument positions with the (instruction, path) they name."""

    targets: tuple[tuple[int, tuple[int, tuple[int, ...]]], ...] = ()


def _with_steps(found: Sequence[tuple[Instruction, Node | None]]) -> tuple[list[Instruction], list[Node | None]]:
    """The instructions with a RESTORE row before each loop and an ADVANCE row at its end, for addresses that step."""
    instructions = [instruction for instruction, _ in found]
    nodes = [node for _, node in found]
    if not any(isinstance(i, Loop) for i in instructions):
        return instructions, nodes
    return _insert_steps(instructions, nodes)


def _insert_steps(instructions: list[Instruction], nodes: list[Node | None]) -> tuple[list[Instruction], list[Node | None]]:
    # Innermost loops first: their RESTORE rows hold addresses that step with the loops around them.
    out = list(zip(instructions, nodes, strict=True))
    loops = [i for i in instructions if isinstance(i, Loop)]
    for loop in reversed(loops):                         # a loop stands before the loops inside it
        begin = next(k for k, (i, _) in enumerate(out) if i is loop)
        depth, end = 0, begin
        while True:
            if isinstance(out[end][0], Loop):
                depth += 1
            elif isinstance(out[end][0], End):
                depth -= 1
                if depth == 0:
                    break
            end += 1
        moving: list[tuple[Row, tuple[int, ...], Address, int]] = []
        for instruction, _ in out[begin:end]:
            if isinstance(instruction, Row):
                moving.extend((instruction, path, a, step) for path, a, step in _stepping(instruction.args, loop, ()))
        node = out[begin][1]
        restore: list[Arg] = [len(moving)]
        advance: list[Arg] = [len(moving)]
        for _, _, address, step in moving:
            outer = tuple(pair for pair in address.steps if pair[0] is not loop)
            restore += [0, Address(address.buffer, address.offset, outer)]
            advance += [0, step]
        named = tuple((1 + 2 * k, (row, path)) for k, (row, path, _, _) in enumerate(moving))
        out[end:end] = [(_Pending(ADVANCE, tuple(advance), named=named), node)]
        out[begin:begin] = [(_Pending(RESTORE, tuple(restore), named=named), node)]
    position = {id(instruction): k for k, (instruction, _) in enumerate(out)}
    settled: list[Instruction] = []
    for instruction, _ in out:
        if isinstance(instruction, _Pending):
            targets = tuple((p, (position[id(row)], path)) for p, (row, path) in instruction.named)
            settled.append(_StepRow(instruction.kernel, instruction.args, targets=targets))
        else:
            settled.append(instruction)
    return settled, [node for _, node in out]


@dataclass(frozen=True)
class _Pending(Row):
    """A step row before the positions of the rows it names are known."""

    named: tuple[tuple[int, tuple[Row, tuple[int, ...]]], ...] = ()


def _stepping(args: Sequence[Arg], loop: Loop, path: tuple[int, ...]) -> list[tuple[tuple[int, ...], Address, int]]:
    found: list[tuple[tuple[int, ...], Address, int]] = []
    for position, arg in enumerate(args):
        if isinstance(arg, Address):
            found.extend(((*path, position), arg, step) for of, step in arg.steps if of is loop)
        elif isinstance(arg, ArgsOf):
            found.extend(_stepping(arg.args, loop, (*path, position)))
    return found
