"""Run rows on NumPy arrays without a graph: for the tests and benches of kernels and of what plans them."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.row import Address, Arg, ArgsOf, Code, Kernel, Row, Scratch
from graphnn.runtime.table import FINE, Table

_CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
DTYPE = {"f32": np.dtype("f4"), "f64": np.dtype("f8")}


class Buffer:
    """An array as the buffer of an Address: compared by identity."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def address(array: np.ndarray) -> Address:
    return Address(Buffer(array))


def aligned(shape: tuple[int, ...], dtype: str, fill: float | np.random.Generator) -> np.ndarray:
    """An array that starts at a multiple of 64 bytes."""
    count = int(np.prod(shape))
    raw = np.empty(count * DTYPE[dtype].itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + count * DTYPE[dtype].itemsize].view(DTYPE[dtype]).reshape(shape)
    array[...] = fill.standard_normal(shape) if isinstance(fill, np.random.Generator) else fill
    return array


def fenced(values: np.ndarray) -> np.ndarray:
    """A copy whose end is the end of the memory that may be read: one element further is a segmentation fault."""
    page = mmap.PAGESIZE
    room = -(-max(1, values.nbytes) // page) * page
    area = mmap.mmap(-1, room + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + room), page, 0) == 0
    array = np.frombuffer(area, np.uint8, values.nbytes, room - values.nbytes).view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


class Rows:
    """Rows bound to arrays. Scratch starts full of NaN."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        kernels = list(dict.fromkeys(k for row in rows for k in (row.kernel, *_kernels(row.args))))
        self._code = dict(zip(kernels, addresses(kernels), strict=True))
        self._scratch: dict[Scratch, np.ndarray] = {}
        self._keep: list[np.ndarray] = []
        self._thread_scratch = max((row.thread_scratch for row in rows), default=0)
        self._args = [self._words(row.args) for row in self.rows]

    def _words(self, args: Sequence[Arg]) -> np.ndarray:
        words = np.array([self._word(arg) for arg in args], np.int64)
        self._keep.append(words)
        return words

    def _word(self, arg: Arg) -> int:
        if isinstance(arg, Address):
            if isinstance(arg.buffer, Buffer):
                return arg.buffer.array.ctypes.data + arg.offset
            assert isinstance(arg.buffer, Scratch)
            if arg.buffer not in self._scratch:
                self._scratch[arg.buffer] = aligned((arg.buffer.nbytes // 8 + 8,), "f64", np.nan)
            return self._scratch[arg.buffer].ctypes.data + arg.offset
        if isinstance(arg, Code):
            return self._code[arg.kernel]
        if isinstance(arg, ArgsOf):
            return self._words(arg.args).ctypes.data
        return struct.unpack("<q", struct.pack("<d", arg))[0] if isinstance(arg, float) else int(arg)

    def run_tiles(self) -> None:
        """Every tile once, last tile first, on scratch full of NaN that is checked for writes beyond its end."""
        scratch = aligned((self._thread_scratch // 8 + 64,), "f64", np.nan)
        for row, args in zip(self.rows, self._args, strict=True):
            kernel = _CALL(self._code[row.kernel])
            for tile in reversed(range(row.tiles)):
                assert kernel(args.ctypes.data, tile, scratch.ctypes.data) == 0
        assert np.isnan(scratch[-(-self._thread_scratch // 8) :]).all(), "a kernel wrote beyond its scratch"

    def table(self, **options: float) -> Table:
        """The same rows for the executor."""
        starts = np.cumsum([0, *(len(words) for words in self._args)])
        code = [(self._code[row.kernel], start, row.tiles) for row, start in zip(self.rows, starts, strict=False)]
        words = np.concatenate(self._args) if self._args else np.zeros(0, np.int64)
        table = Table(np.array(code, np.int64).reshape(-1, 3), words, scratch_bytes=self._thread_scratch, **options)
        table.bound = self  # pyright: ignore[reportAttributeAccessIssue]  # its words point into our arrays
        return table

    def run(self, threads: int) -> None:
        assert self.table().run(threads) == FINE


def _kernels(args: Sequence[Arg]) -> Iterator[Kernel]:
    for arg in args:
        if isinstance(arg, Code):
            yield arg.kernel
        elif isinstance(arg, ArgsOf):
            yield from _kernels(arg.args)
