"""Run the rows of one node without a plan: every address resolved here, every tile called in turn."""

from __future__ import annotations

import ctypes
import struct

import numpy as np

from graphnn.ir.graph import Graph
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.types import bind_sizes
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.lowering import Constants, Lowering, lower
from graphnn.runtime.row import Address, ArgsOf, Code, Scratch
from graphnn.runtime.table import FINE, Table

CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


def aligned(shape, dtype):
    """An array filled with NaN (or ones) whose memory starts at a cache line."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.full(nbytes + 128, 0xFF, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + nbytes].view(dtype).reshape(shape)
    if array.dtype == bool:
        array[...] = True
    return array


def aligned_copy(array):
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


class Bench:
    """One node lowered onto arrays; `run` calls its rows, tiles in the given order."""

    def __init__(self, node, arrays, *, in_place=(), next_reads=()):
        graph = Graph.of("one", [v for v in dict.fromkeys(node.inputs) if hasattr(v.node.op, "role")], node.outputs)
        self.arrays = {v: aligned_copy(np.asarray(a)) for v, a in zip(graph.inputs, arrays, strict=True)}
        self.sizes = bind_sizes([v.type for v in graph.inputs], [self.arrays[v].shape for v in graph.inputs],
                                [v.name for v in graph.inputs])  # fmt: skip
        for value in node.outputs:
            kind = value.type.bind(self.sizes)
            self.arrays[value] = aligned(kind.shape, kind.dtype.numpy)
        for output, source in in_place:
            self.arrays[node.outputs[output]] = self.arrays[node.inputs[source]]
        for value in node.inputs:
            if isinstance(value.node.op, Constant):
                self.arrays[value] = aligned_copy(value.node.op.value.data)
        places = {value: Address(value) for value in self.arrays}
        self.at = Lowering(node, self.sizes, places, frozenset(next_reads), Constants(()))
        self.outputs = node.outputs
        self.rows = lower(self.at)
        self.kept = []
        self.memory = {}
        self.calls = []
        for row, code in zip(self.rows, addresses([row.kernel for row in self.rows]), strict=True):
            self.calls.append((CALL(code), self._slots(row.args), row.tiles, aligned((row.thread_scratch + 64,), np.uint8)))

    def _slots(self, args):
        words = np.zeros(len(args) + 1, np.int64)
        for i, arg in enumerate(args):
            if isinstance(arg, Address):
                words[i] = self._memory(arg.buffer).ctypes.data + arg.offset
            elif isinstance(arg, ArgsOf):
                words[i] = self._slots(arg.args).ctypes.data
            elif isinstance(arg, Code):
                words[i] = addresses([arg.kernel])[0]
            elif isinstance(arg, float):
                (words[i],) = struct.unpack("<q", struct.pack("<d", arg))
            else:
                words[i] = arg
        self.kept.append(words)
        return words

    def _memory(self, buffer):
        if not isinstance(buffer, Scratch):
            return self.arrays[buffer]
        if buffer not in self.memory:
            self.memory[buffer] = aligned((buffer.nbytes,), np.uint8)
        return self.memory[buffer]

    def run(self, order=list):
        for call, words, tiles, scratch in self.calls:
            for tile in order(range(tiles)):
                assert call(words.ctypes.data, tile, scratch.ctypes.data) == 0
        return tuple(self.arrays[value] for value in self.outputs)

    def run_threads(self, count):
        """The same rows in the executor."""
        words = np.concatenate([words for _, words, _, _ in self.calls])
        starts = np.cumsum([0, *(len(words) for _, words, _, _ in self.calls)])
        codes = addresses([row.kernel for row in self.rows])
        table = [(code, start, row.tiles) for code, start, row in zip(codes, starts, self.rows, strict=False)]
        scratch = max(row.thread_scratch for row in self.rows)
        assert Table(np.array(table, np.int64), words, scratch_bytes=scratch).run(count) == FINE
        return tuple(self.arrays[value].copy() for value in self.outputs)


def run_node(node, arrays, **options):
    """The node's outputs, computed by its kernels."""
    return Bench(node, arrays, **options).run()
