"""Run one op through its lowering rule, without the runtime around it: every tile of every row, in a shuffled order."""

from __future__ import annotations

import ctypes
import random
import struct

import numpy as np

from graphnn.ir.op import Op, Sample, make_node
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.lowering import Constants, Lowering, lower
from graphnn.runtime.row import Address, Row, Scratch
from tests.helpers import assert_close, bound_op, meaning, variants

_ROW = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
MARGIN = 256                                            # guarded bytes before and after each output


def aligned(nbytes: int) -> tuple[np.ndarray, int]:
    """Bytes, and the first index whose address is a multiple of 64; all ones, which is NaN."""
    block = np.full(nbytes + 2 * MARGIN + 64, 0xFF, np.uint8)
    return block, MARGIN + -(block.ctypes.data + MARGIN) % 64


class Failed(Exception):
    """A kernel returned a code."""


def run_op(op: Op, *arrays: np.ndarray, seed: int = 0) -> tuple[np.ndarray, ...]:
    """The outputs that the op's compiled rows write."""
    inputs = tuple(placeholder(f"x{i}", TensorType.of(a)) for i, a in enumerate(arrays))
    node = make_node(op, inputs)
    kept = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays]
    base = {value: a.ctypes.data for value, a in zip(inputs, kept, strict=True)}
    made = []
    for value in node.outputs:
        if op.view_of is not None:
            base[value] = base[inputs[op.view_of]]
            made.append(None)
            continue
        block, start = aligned(TensorType(value.dtype, value.shape).nbytes)
        base[value] = block.ctypes.data + start
        made.append((block, start))
    at = Lowering(node, {}, {value: Address(value) for value in base}, frozenset(), Constants(()))
    scratches: dict[Scratch, np.ndarray] = {}

    def word(arg: object) -> int:
        if isinstance(arg, Address):
            if isinstance(arg.buffer, Scratch):
                block, start = scratches.setdefault(arg.buffer, aligned(arg.buffer.nbytes))
                return block.ctypes.data + start + arg.offset
            return base[arg.buffer] + arg.offset
        return struct.unpack("<q", struct.pack("<d", arg))[0] if isinstance(arg, float) else int(arg)

    for row in lower(at):
        assert isinstance(row, Row)
        (code,) = addresses([row.kernel])
        words = (ctypes.c_int64 * len(row.args))(*(word(a) for a in row.args))
        private, start = aligned(row.thread_scratch)
        tiles = list(range(row.tiles))
        random.Random(seed).shuffle(tiles)
        for tile in tiles:
            result = _ROW(code)(ctypes.addressof(words), tile, private.ctypes.data + start)
            if result:
                raise Failed(result)
        assert (private[start + row.thread_scratch:] == 0xFF).all(), "the kernel wrote past its scratch"
    outputs = []
    for value, place in zip(node.outputs, made, strict=True):
        if place is None:
            outputs.append(kept[op.view_of])
            continue
        block, start = place
        nbytes = TensorType(value.dtype, value.shape).nbytes
        outputs.append(block[start:start + nbytes].view(value.dtype.numpy).reshape(value.shape))
        assert (block[:start] == 0xFF).all(), "written before its start"
        assert (block[start + nbytes:] == 0xFF).all(), "written past its end"
    return tuple(outputs)


def check_sample(sample: Sample, *, length: int = 1) -> None:
    """Kernels and meaning agree, for the sample and its float32 form; inputs are untouched."""
    for variant in variants(sample):
        before = [a.copy() for a in variant.inputs]
        actual = run_op(bound_op(variant), *variant.inputs)
        for a, b in zip(actual, meaning(variant), strict=True):
            assert_close(a, b, length=length)
        for a, b in zip(variant.inputs, before, strict=True):
            np.testing.assert_array_equal(a, b)


