"""A pipeline: passes in an order one can read, the graph verified after each.

A pass is any function Graph -> Graph; one with options is a frozen dataclass with `__call__`. See docs/add_a_pass.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from graphnn.errors import PassError
from graphnn.ir.graph import Graph
from graphnn.ir.verify import verify
from graphnn.passes.common_subexpressions import common_subexpressions
from graphnn.passes.dead_code import dead_code
from graphnn.passes.fold_constants import fold_constants
from graphnn.passes.fuse_elementwise import fuse_elementwise
from graphnn.passes.fuse_epilogue import fuse_epilogue
from graphnn.passes.hoist_from_scan import hoist_from_scan
from graphnn.passes.open_composites import open_composites
from graphnn.passes.recompute import recompute
from graphnn.passes.schedule import schedule
from graphnn.passes.simplify import simplify
from graphnn.passes.sparse_updates import sparse_updates
from graphnn.passes.trim_scans import merge_scans, prune_scans

Pass = Callable[[Graph], Graph]


@dataclass(frozen=True)
class Step:
    """What one pass did: its name, the number of nodes before and after, its time, and the graph it made."""

    name: str
    nodes_before: int
    nodes_after: int
    seconds: float
    graph: Graph

    def __str__(self) -> str:
        return f"{self.name:<24} {self.nodes_before:>5} -> {self.nodes_after:>5} nodes  {1e3 * self.seconds:8.2f} ms"


@dataclass(frozen=True)
class Pipeline:
    """Passes run one after the other; itself a pass.

    Raises PassError when a pass fails or makes a graph that does not verify: it names the pass and the passes before it,
    and a file that holds the graph as it was before, so that `the_pass(Graph.parse(text))` shows the failure again.
    """

    passes: tuple[Pass, ...]

    def __call__(self, graph: Graph) -> Graph:
        for position in range(len(self.passes)):
            graph = self._step(graph, position)
        return graph

    def trace(self, graph: Graph) -> list[Step]:
        """Every step of a run, with the graph after it."""
        steps: list[Step] = []
        for position, transform in enumerate(self.passes):
            start = time.perf_counter()
            after = self._step(graph, position)
            steps.append(Step(pass_name(transform), len(graph.nodes), len(after.nodes), time.perf_counter() - start, after))
            graph = after
        return steps

    def _step(self, graph: Graph, position: int) -> Graph:
        transform = self.passes[position]
        try:
            after = transform(graph)
            if after is not graph:
                verify(after)
            return after
        except Exception as cause:
            raise self._error(graph, position, cause) from cause

    def _error(self, before: Graph, position: int, cause: Exception) -> PassError:
        names = [pass_name(transform) for transform in self.passes]
        first_line = str(cause).partition("\n")[0]
        error = PassError(f"the pass {names[position]} failed on the graph {before.name!r}: {type(cause).__name__}: {first_line}",
                          hint="run the pass alone on Graph.parse of the reproducer's text")
        error.locate("", [f"  after     {', '.join(names[:position]) or 'no other pass'}",
                          f"  reproducer {_write_reproducer(before, names[position])}"])
        return error

    def __str__(self) -> str:
        return " > ".join(pass_name(transform) for transform in self.passes)


def pass_name(transform: Pass) -> str:
    """The name of a pass: its function's name, or the options it was made with."""
    return getattr(transform, "__name__", None) or repr(transform)


def _write_reproducer(graph: Graph, name: str) -> str:
    """The path of a new file that holds the text of `graph`; or why there is none, for the error must still be raised."""
    import tempfile  # for this rare case only: it takes milliseconds to import

    try:
        text = str(graph)
        with tempfile.NamedTemporaryFile("w", prefix="graphnn-before-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(f"# the graph before the pass {name}\n{text}{os.linesep}")
        return file.name
    except Exception as error:      # no disk, or a graph too broken to print: the cause matters more
        return f"could not be written ({type(error).__name__}: {error})"


# The one order, each pass where it is for a reason:
DEFAULT = Pipeline((
    fold_constants,
    simplify,                       # before scans are compared: equal bodies become equal
    common_subexpressions,
    merge_scans,
    prune_scans,
    hoist_from_scan,
    simplify,                       # what left the loops meets what was outside
    sparse_updates,                 # before an optimiser's update is fused
    open_composites,                # after simplify, which knows softmax and one_hot; before the parts can be shared
    common_subexpressions,
    dead_code,
    recompute,                      # after the last common_subexpressions, which would undo it
    fuse_epilogue,                  # first choice of elementwise nodes: their operand is in registers
    fuse_elementwise,
    schedule,
))
