"""Fused elementwise work and row reductions against NumPy's copy of the same bytes: `python -m bench.elementwise`.

Everything alternates with its peer and is reported as the median of ratios; both write to memory that exists already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

import graphnn.ir.ops  # noqa: F401  (registers every op)
from graphnn import ir
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import make_node
from graphnn.ir.ops import reduce as r
from graphnn.ir.ops.fused import Fused
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.ir.types import bind_sizes
from graphnn.runtime.kernel_store import addresses
from graphnn.runtime.lowering import Constants, Lowering, lower
from graphnn.runtime.memory import aligned_array
from graphnn.runtime.row import Address, Scratch
from graphnn.runtime.table import Table
from graphnn.runtime.threads import threads


def node_of(outputs: Sequence[Value], inputs: Sequence[Value]) -> Node:
    """The body that computes `outputs` as one node."""
    body = Graph.of("body", inputs, outputs)
    return make_node(Fused(body), tuple(placeholder(f"a{i}", v.type) for i, v in enumerate(inputs)))


class Bound:
    """A node's rows on arrays, ready to run in the executor."""

    def __init__(self, node: Node, arrays: Sequence[np.ndarray]) -> None:
        sizes = bind_sizes([v.type for v in node.inputs], [a.shape for a in arrays], [v.name for v in node.inputs])
        self.arrays: dict[object, np.ndarray] = dict(zip(node.inputs, arrays, strict=True))
        for value in node.outputs:
            kind = value.type.bind(sizes)
            self.arrays[value] = aligned_array(tuple(int(s) for s in kind.shape), kind.dtype.numpy)  # pyright: ignore[reportArgumentType]
        places = {value: Address(value) for value in (*node.inputs, *node.outputs)}
        rows = lower(Lowering(node, sizes, places, frozenset(), Constants(())))
        code = addresses([row.kernel for row in rows])  # pyright: ignore[reportAttributeAccessIssue]
        words: list[int] = []
        table: list[tuple[int, int, int]] = []
        for row, entry in zip(rows, code, strict=True):
            table.append((entry, len(words), row.tiles))  # pyright: ignore[reportAttributeAccessIssue]
            words += [self._word(arg) for arg in row.args]  # pyright: ignore[reportAttributeAccessIssue]
        scratch = max(row.thread_scratch for row in rows)  # pyright: ignore[reportAttributeAccessIssue]
        self.outputs = [self.arrays[v] for v in node.outputs]
        self.table = Table(np.array(table, np.int64), np.array(words, np.int64), scratch_bytes=scratch)

    def _word(self, arg: object) -> int:
        if isinstance(arg, Address):
            if isinstance(arg.buffer, Scratch) and arg.buffer not in self.arrays:
                self.arrays[arg.buffer] = aligned_array((arg.buffer.nbytes,), np.dtype(np.uint8))
            return self.arrays[arg.buffer].ctypes.data + arg.offset
        return int(np.array(arg, np.float64).view(np.int64)) if isinstance(arg, float) else int(arg)  # pyright: ignore[reportArgumentType]

    def run(self, count: int) -> None:
        self.table.run(count)


def ratio(ours: Callable[[], object], peer: Callable[[], object], repeats: int = 15) -> tuple[float, float, float]:
    """Median of peer time / our time, and both medians in ms, alternating."""
    pairs: list[tuple[float, float]] = []
    for _ in range(repeats):
        t0 = time.perf_counter()
        ours()
        t1 = time.perf_counter()
        peer()
        pairs.append((t1 - t0, time.perf_counter() - t1))
    return median(b / a for a, b in pairs), median(a for a, _ in pairs) * 1e3, median(b for _, b in pairs) * 1e3


def main() -> None:
    rng = np.random.default_rng(0)
    x, row = placeholder("x", "f32[N,C]"), placeholder("r", "f32[C]")
    exp = ir.exp(x - r.max(x, 1, True))
    mean = r.mean(x, 1, True)
    centred = x - mean
    norm = centred * ir.rsqrt(r.mean(centred * centred, 1, True) + 1e-5) * row
    a, b = constant(1.5), constant(0.25)
    cases: list[tuple[str, Sequence[Value], tuple[int, int]]] = [
        ("tanh(a*x+b)*sigmoid(x)+x", [ir.tanh(x * a + b) * ir.sigmoid(x) + x], (4096, 4096)),
        ("x*a+b", [x * a + b], (4096, 4096)),
        ("relu(x+row)", [ir.relu(x + row)], (4096, 4000)),
        ("softmax rows", [exp / r.sum(exp, 1, True)], (8192, 512)),
        ("layer norm rows", [norm], (8192, 512)),
        ("sum of rows", [r.sum(x, 1)], (8192, 512)),
        ("sum of columns", [r.sum(x, 0)], (8192, 512)),
        ("sum of all", [r.sum(x)], (8192, 512)),
        ("softmax, short rows", [exp / r.sum(exp, 1, True)], (8192, 10)),
        ("relu(x+row), short rows", [ir.relu(x + row)], (8192, 10)),
    ]
    print(f"peer: numpy.copyto of x; {threads()} threads")
    print(f"{'body':28s} {'shape':>14s} {'ratio':>7s} {'ours ms':>9s} {'copy ms':>9s} {'1 thread':>9s}")
    for name, outputs, shape in cases:
        array = aligned_array(shape, np.dtype(np.float32))
        array[...] = rng.standard_normal(shape, np.float32)
        target = aligned_array(shape, np.dtype(np.float32))
        inputs = [v for v in (x, row) if v is x or name.startswith(("relu", "layer"))]
        bound = Bound(node_of(outputs, inputs), [array, rng.standard_normal(shape[1], np.float32)][: len(inputs)])
        for _ in range(3):
            bound.run(threads())
            np.copyto(target, array)
        all_threads, ours, peer = ratio(lambda b=bound: b.run(threads()), lambda t=target, s=array: np.copyto(t, s))
        one, _, _ = ratio(lambda b=bound: b.run(1), lambda t=target, s=array: np.copyto(t, s))
        print(f"{name:28s} {shape!s:>14s} {all_threads:7.2f} {ours:9.3f} {peer:9.3f} {one:9.2f}")


if __name__ == "__main__":
    main()
