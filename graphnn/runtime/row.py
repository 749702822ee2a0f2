"""The vocabulary between lowering and execution: kernels, addresses, scratch and rows.

A lowered node is a list of `Row`s. A row calls one compiled kernel once for each of its tiles:

    int64 kernel(int64 *args, int64 tile, int64 scratch)          # 0, or an error code

`args` points at the row's own slots of the plan's argument table, each 8 bytes: an address, an integer, or the bits of a
float64. `scratch` is the address of the calling thread's private, 64-byte-aligned scratch of at least
`Row.thread_scratch` bytes. Rows run one after the other; the tiles of a row run in any order, on any thread, and write
disjoint outputs. Nothing here imports Numba.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kernel:
    """A kernel variant: which builder makes it, and with which parameters.

    `builder` is "module:function". The function takes `params` as keywords and returns the Python function to compile;
    its module is imported only when the kernel store lacks the kernel. `signature` is "row" for
    `int64(int64* args, int64 tile, int64 scratch)` and "epilogue" for
    `int64(int64* args, int64 batch, int64 row0, int64 rows, int64 col0, int64 cols)`.
    """

    builder: str
    params: tuple[tuple[str, str | int | float | bool], ...] = ()
    signature: str = "row"

    @classmethod
    def of(cls, builder: str, *, signature: str = "row", **params: str | int | float | bool) -> Kernel:
        return cls(builder, tuple(sorted(params.items())), signature)


@dataclass(frozen=True)
class Scratch:
    """Memory that lives while one node's rows run; shared by its threads. Compared by identity of `owner` and `name`."""

    owner: Hashable
    name: str
    nbytes: int = field(compare=False)


@dataclass(frozen=True, eq=False)
class Loop:
    """Rows between a Loop and its End run `trips` times; an Address may step from one trip to the next."""

    trips: int


@dataclass(frozen=True)
class End:
    """The end of the innermost Loop."""


@dataclass(frozen=True)
class Address:
    """Where a buffer will lie, plus an offset in bytes. `buffer` names a Scratch or a place of the plan, which resolves it.

    `steps` says by how many bytes the address moves after each trip of a loop around the row.
    """

    buffer: Hashable
    offset: int = 0
    steps: tuple[tuple[Loop, int], ...] = ()

    def __add__(self, nbytes: int) -> Address:
        return Address(self.buffer, self.offset + nbytes, self.steps)

    def stepping(self, loop: Loop, nbytes: int) -> Address:
        """This address, moved by `nbytes` after each trip of `loop`."""
        return Address(self.buffer, self.offset, (*self.steps, (loop, nbytes)))


@dataclass(frozen=True)
class Code:
    """The address of a compiled kernel, as an argument of another one (an epilogue)."""

    kernel: Kernel


@dataclass(frozen=True)
class ArgsOf:
    """The address of further argument slots, placed in the same table (the arguments of an epilogue)."""

    args: tuple[Arg, ...]


Arg = int | float | Address | Code | ArgsOf


@dataclass(frozen=True)
class Row:
    """One call of one kernel: its arguments in slot order and how many tiles it has."""

    kernel: Kernel
    args: tuple[Arg, ...]
    tiles: int = 1
    thread_scratch: int = 0


Instruction = Row | Loop | End
