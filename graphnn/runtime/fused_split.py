"""A body with reductions as steps that are bodies themselves, for when one kernel would have too little to hand out.

Of each level of reductions: "partial" folds each chunk of the reduced elements, "finish" combines the chunks in order and
computes what follows for the kept elements; the last step, "map", writes the full-size outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphnn.ir.graph import Graph, Value
from graphnn.ir.iteration_space import CHUNKS_SIZE, iteration_space
from graphnn.ir.op import make_node
from graphnn.ir.ops.inputs import Input
from graphnn.ir.ops.reduce import Reduction
from graphnn.ir.types import TensorType
from graphnn.runtime.fused_layout import Layout
from graphnn.runtime.fused_writer import Writer


@dataclass(frozen=True, eq=False)
class Step:
    """A body to run. Operands are indices of the whole body's inputs or outputs, or names of memory made by steps;
    `makes` are the new ones: name, type, and whether there is one for each chunk."""

    kind: str
    body: Graph
    ins: tuple[int | str, ...]
    outs: tuple[int | str, ...]
    makes: tuple[tuple[str, TensorType, bool], ...] = ()


def split(layout: Layout) -> list[Step]:
    """The steps of a body that has reductions."""
    writer = Writer(layout, "")
    body = layout.body
    known: dict[Value, int | str] = {value: i for i, value in enumerate(body.inputs)}
    steps: list[Step] = []
    for level in range(1, layout.levels + 1):
        folds = [n.output for n in body.nodes if layout.folds(n) and layout.level[n.output] == level]
        parts = {value: f"part{level}_{i}" for i, value in enumerate(folds)}
        makes = tuple((name, value.type, True) for value, name in parts.items())
        steps += _steps("partial", folds, known, tuple(parts.values()), makes)
        later = _later(layout, writer, level)
        kept = {value: f"kept{level}_{i}" for i, value in enumerate(later)}
        results = [(v, i) for i, v in enumerate(body.outputs) if not layout.is_full(v) and _due(layout, writer, v, level)]
        outs: tuple[int | str, ...] = (*kept.values(), *(i for _, i in results))
        made = tuple((name, value.type, False) for value, name in kept.items())
        steps += _steps("finish", [*later, *(v for v, _ in results)], known, outs, made, parts)
        known.update(kept)
    full = [(v, i) for i, v in enumerate(body.outputs) if layout.is_full(v)]
    if full:
        steps += _steps("map", [v for v, _ in full], known, tuple(i for _, i in full), ())
    return [step for step in steps if step.outs]


def _due(layout: Layout, writer: Writer, value: Value, level: int) -> bool:
    """Whether an output is written after this level: as soon as it is known."""
    return max(1, layout.level[writer.real(value)]) == level


def _later(layout: Layout, writer: Writer, level: int) -> list[Value]:
    """Values of this level, the same along the reduced axes, that full-size or later work reads."""
    found = dict.fromkeys(writer.read_later(level))
    writer.hold({value: "" for value in found})
    return list(found)


def _steps(kind: str, outputs: list[Value], known: Mapping[Value, int | str], outs: tuple[int | str, ...],
           makes: tuple[tuple[str, TensorType, bool], ...], parts: Mapping[Value, str] | None = None) -> list[Step]:  # fmt: skip
    """One step, or several where outputs have nothing in common that would make them one space. Outputs that read one operand
    of full size are in one step: another might have written its result there by then."""
    made: dict[int | str, tuple[str, TensorType, bool]] = {name: (name, type, per_chunk) for name, type, per_chunk in makes}
    groups: list[tuple[list[tuple[Value, int | str]], Step]] = []
    for pair in zip(outputs, outs, strict=True):
        joined, step = [pair], _step(kind, [pair], known, made, parts)
        apart = []
        for group, other in groups:
            both = _step(kind, [*group, *joined], known, made, parts)
            if iteration_space(both.body) is None:
                apart.append((group, other))
            else:
                joined, step = [*group, *joined], both
        groups = [*apart, (joined, step)]
    return [step for _, step in groups]


def _step(kind: str, outputs: Sequence[tuple[Value, int | str]], known: Mapping[Value, int | str],
          makes: Mapping[int | str, tuple[str, TensorType, bool]], parts: Mapping[Value, str] | None) -> Step:  # fmt: skip
    builder = _Builder(known, parts or {})
    results, outs = [builder.value(value) for value, _ in outputs], tuple(out for _, out in outputs)
    graph = Graph.of(kind, [v for v, _ in builder.inputs], results)
    return Step(kind, graph, tuple(ref for _, ref in builder.inputs), outs, tuple(makes[out] for out in outs if out in makes))


class _Builder:
    """Makes nodes anew, down to values that are known; `parts` are folds of which there is one result a chunk."""

    def __init__(self, known: Mapping[Value, int | str], parts: Mapping[Value, str]) -> None:
        self.known, self.parts = known, parts
        self.made: dict[Value, Value] = {}
        self.inputs: list[tuple[Value, int | str]] = []

    def placeholder(self, kind: TensorType, ref: int | str) -> Value:
        value = Input(f"x{len(self.inputs)}", "input", kind).one()
        self.inputs.append((value, ref))
        return value

    def value(self, value: Value) -> Value:
        for wanted in _order([value], {*self.known, *self.parts, *self.made}):
            if wanted in self.made:
                continue
            if wanted in self.parts:
                chunks = self.placeholder(TensorType(wanted.dtype, (CHUNKS_SIZE, *wanted.shape)), self.parts[wanted])
                op = wanted.node.op
                assert isinstance(op, Reduction), "only reductions have parts"
                self.made[wanted] = type(op)((0,), False).one(chunks)
            elif wanted in self.known:
                self.made[wanted] = self.placeholder(wanted.type, self.known[wanted])
            else:
                node = wanted.node
                self.made[wanted] = make_node(node.op, tuple(self.made[v] for v in node.inputs), node.loc).output
        return self.made[value]


def _order(roots: Iterable[Value], stop: set[Value]) -> list[Value]:
    """What `roots` need, each after what it needs, not going beyond `stop`."""
    order: dict[Value, None] = {}
    stack = [(value, False) for value in roots]
    while stack:
        value, done = stack.pop()
        if value in order:
            continue
        if done or value in stop:
            order[value] = None
        else:
            stack.append((value, True))
            stack.extend((v, False) for v in reversed(value.node.inputs))
    return list(order)
