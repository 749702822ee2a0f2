"""A workspace: one plan with its own memory, ready to run. One thread runs a workspace at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphnn.ir.dims import bind_size, numbers
from graphnn.ir.graph import Graph, Node
from graphnn.ir.types import TensorType
from graphnn.passes.plan_buffers import Buffer
from graphnn.runtime.memory import aligned_array, aligned_bytes, results
from graphnn.runtime.plan import Plan
from graphnn.runtime.state import State
from graphnn.runtime.table import FINE, Table

_STAGED_UP_TO = 4096               # bytes: copying so little costs less than asking NumPy for an address
Stages = list[tuple[int, np.ndarray]]                    # position of an input or output, the array in its place
Moving = list[tuple[int, list[tuple[int, int]]]]         # position, and the words that hold its address: (word, offset)


class Workspace:
    """Runs a plan on arrays. Addresses of arena, state and constants are settled once, those of the call each time."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        graph = plan.program.graph
        self.arena = aligned_bytes(plan.buffers.arena)
        self.scratch = aligned_bytes(plan.scratch)
        words = plan.words.copy()
        self._moving: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._state = state
        self._held: list[np.ndarray] = []                # arrays whose addresses stand in the words
        for (kind, index), at in plan.relocations.items():
            if kind == "input" or kind == "output":
                self._moving[kind, index] = [(word, int(plan.words[word])) for word in at.tolist()]
                continue
            if kind == "args":
                words[at] += words.ctypes.data
                continue
            self._held.append(self._memory(kind, index))
            words[at] += self._held[-1].ctypes.data
        self.words = memoryview(words)  # pyright: ignore[reportArgumentType]
        self.table = Table(plan.rows, words, scratch_bytes=plan.thread_scratch, cost_ns=plan.cost_ns, shared_ns=plan.shared_ns)
        inputs = [(graph.inputs.index(v), v.type.bind(plan.sizes)) for v in graph.by_role("input")]
        self._input_stages, self._input_words = self._split("input", inputs)
        outputs = [value.type.bind(plan.sizes) for value in graph.outputs]
        self._output_types = [(numbers(t.shape), t.dtype.numpy) for t in outputs]
        self._output_stages, self._output_words = self._split("output", list(enumerate(outputs)))

    def _memory(self, kind: str, index: int) -> np.ndarray:
        if kind == "constant":
            return self.plan.constants[index]
        if kind == "state":
            return self._state.array_in_place(self.plan.program.graph.inputs[index])
        return self.arena if kind == "arena" else self.scratch

    def _split(self, kind: str, places: Sequence[tuple[int, TensorType]]) -> tuple[Stages, Moving]:
        """Inputs or outputs, by position: small ones get an array of the workspace's own in place of the caller's, its
        address settled for good; for the others, the words that hold the caller's address."""
        stages: Stages = []
        moving: Moving = []
        for position, (index, type) in enumerate(places):
            words = self._moving.get((kind, index), [])
            if bind_size(type.nbytes, {}) > _STAGED_UP_TO:
                moving.append((position, words))
                continue
            stage = aligned_array(numbers(type.shape), type.dtype.numpy)
            self._point(words, stage.ctypes.data)
            stages.append((position, stage))
        return stages, moving

    def _point(self, words: Sequence[tuple[int, int]], address: int) -> None:
        for word, offset in words:
            self.words[word] = address + offset

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """The outputs for these inputs, C-contiguous arrays of the declared dtypes; written into `out` where given."""
        _keep, made = self._arrange(arrays, out)
        failure = self.table.run()
        if failure is not FINE:
            raise self.plan.error(*failure)
        return self._collect(made)

    def run_timed(self, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """As `run`, and the nanoseconds that each row of the plan took."""
        _keep, made = self._arrange(arrays, None)
        failure, times = self.table.run_timed()
        if failure is not FINE:
            raise self.plan.error(*failure)
        return self._collect(made), times

    def _arrange(
        self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Put the addresses of this call in place; returns what must stay alive, and the arrays that take the outputs."""
        keep: list[np.ndarray] = []
        for i, stage in self._input_stages:
            stage[...] = arrays[i]
        for i, words in self._input_words:
            array = arrays[i]
            if not (array.flags.c_contiguous and array.flags.aligned):
                array = np.ascontiguousarray(array) if array.flags.aligned else array.copy(order="C")
                keep.append(array)
            self._point(words, array.ctypes.data)
        made: list[np.ndarray | None] = [None] * len(self._output_types) if out is None else list(out)
        for i, words in self._output_words:
            array = made[i]
            if array is None:
                made[i] = array = results.array(*self._output_types[i])
            self._point(words, array.ctypes.data)
        return keep, made

    def _collect(self, made: list[np.ndarray | None]) -> list[np.ndarray]:
        """The outputs, the small ones copied from their stages."""
        for i, stage in self._output_stages:
            target = made[i]
            if target is None:
                made[i] = stage.copy()
            else:
                target[...] = stage
        return made  # pyright: ignore[reportReturnType]  (every output has its array now)

    # ------------------------------------------------------------------------------------------ for tests

    def poison(self, buffer: Buffer) -> None:
        """Fill a buffer of the arena with bytes that make NaNs: whoever reads it after its end is found out."""
        offset = self.plan.buffers.slots[buffer.root].offset
        self.arena[offset : offset + self.plan.buffers.nbytes[buffer.root]] = 0xFF

    def run_poisoned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `run`, node by node, with every buffer poisoned as soon as the plan calls it free, and all at the start."""
        self.arena[:] = 0xFF
        self.scratch[:] = 0xFF
        _keep, made = self._arrange(arrays, None)
        graph: Graph = self.plan.program.graph
        position: dict[Node, int] = {node: i for i, node in enumerate(graph.nodes)}
        rows = self.plan.row_nodes
        freed = self.plan.buffers.freed_after
        at = done = 0
        while at < len(rows):
            upto = at
            while upto < len(rows) and rows[upto] is rows[at]:
                upto += 1
            node = rows[at]
            now = len(graph.nodes) if node is None and at else (-1 if node is None else position[node])
            for p in range(done, now):
                for buffer in freed.get(p, ()):
                    self.poison(buffer)
            done = max(done, now)
            part = Table(self.plan.rows[at:upto], self.table.args, scratch_bytes=self.plan.thread_scratch, shared_ns=0)
            failure = part.run()
            if failure is not FINE:
                raise self.plan.error(failure[0], failure[1] + at)
            at = upto
        return self._collect(made)
