"""Where each value lives: offsets in one arena, the caller's arrays, the state.

`lifetimes(graph)` is computed once a graph; `plan_buffers(life, sizes)` gives offsets once a binding of sizes. A result is
made in the caller's array or in the state's own memory where every reader of the old value comes before; else it is copied
at the end. In-place work is decided here alone and nowhere in the IR.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.ops.inputs import Constant
from graphnn.passes.schedule import checks_range

ALIGN = 64
_NEAR = 1.02                       # of the lower bound: good enough
_MOST_TRIES, _MOST_STEPS = 300, 200_000    # some 20 ms of looking for a better order


@dataclass(frozen=True)
class Slot:
    """A place: `kind` is "arena", "input", "output", "state" or "constant"; `index` says which, `offset` where in the arena."""

    kind: str
    index: int = 0
    offset: int = 0


@dataclass(eq=False)
class Buffer:
    """Bytes in the arena that one or more values use in turn, alive from node `start` to node `end`, both included."""

    values: list[Value]
    start: int
    end: int

    @property
    def root(self) -> Value:
        return self.values[0]


@dataclass(frozen=True)
class Lifetimes:
    """What plans of a graph have in common, whatever the sizes."""

    graph: Graph
    root: Mapping[Value, Value]                          # the value whose memory a value is a view of
    fixed: Mapping[Value, Slot]                          # roots that live outside the arena
    buffers: tuple[Buffer, ...]
    first_copies: tuple[tuple[Value, Value], ...]        # before any node: an old state value that is also a result
    last_copies: tuple[tuple[Value, Slot], ...]          # after all nodes: results that could not be made in place
    constants: tuple[Value, ...]


@dataclass(frozen=True)
class BufferPlan:
    """Where everything lives, for one binding of sizes. `slots` has the root values; views share their root's slot."""

    life: Lifetimes
    slots: Mapping[Value, Slot]
    arena: int                                           # bytes
    lower_bound: int                                     # bytes of the largest set of values alive at once
    nbytes: Mapping[Value, int] = field(repr=False)

    def slot(self, value: Value) -> Slot:
        return self.slots[self.life.root.get(value, value)]

    @cached_property
    def freed_after(self) -> dict[int, list[Buffer]]:
        """The arena buffers that nobody reads after the node at a position: what a test may poison."""
        found: dict[int, list[Buffer]] = {}
        for buffer in self.life.buffers:
            found.setdefault(buffer.end, []).append(buffer)
        return found

    def __str__(self) -> str:
        lines = [f"arena {self.arena} bytes, lower bound {self.lower_bound}"]
        for buffer in sorted(self.life.buffers, key=lambda b: b.start):
            lines.append(f"  [{buffer.start:4d}..{buffer.end:4d}] at {self.slots[buffer.root].offset:10d}: "
                         f"{self.nbytes[buffer.root]:10d} bytes  {', '.join(str(v.type) for v in buffer.values)}")
        return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- lifetimes


def lifetimes(graph: Graph) -> Lifetimes:
    """When each value is made and last read, what may share memory, and which results need a copy at the end."""
    root = _roots(graph)
    position = {node: i for i, node in enumerate(graph.nodes)}
    readers: dict[Value, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for value in node.inputs:
            readers.setdefault(root.get(value, value), []).append(i)
    constants = tuple(n.output for n in graph.nodes if isinstance(n.op, Constant))
    fixed: dict[Value, Slot] = {value: Slot("constant", i) for i, value in enumerate(constants)}
    for i, value in enumerate(graph.inputs):
        fixed[value] = Slot("input" if role_of(value) == "input" else "state", i)

    updated = {state for state, new in graph.updates if root.get(new, new) != state}
    first, last = _place_results(graph, root, position, readers, fixed, updated)
    end = len(graph.nodes)
    for value, _ in last:
        readers.setdefault(root.get(value, value), []).append(end)
    buffers = _merge_in_place(graph, root, readers, fixed)
    buffers += [Buffer([copy], -1, end) for _, copy in first if copy not in fixed]
    return Lifetimes(graph, root, fixed, tuple(buffers), tuple(first), tuple(last), constants)


def _roots(graph: Graph) -> dict[Value, Value]:
    root: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op.view_of is not None:
            source = node.inputs[node.op.view_of]
            root[node.outputs[0]] = root.get(source, source)
    return root


def _place_results(
    graph: Graph, root: Mapping[Value, Value], position: Mapping[Node, int], readers: Mapping[Value, Sequence[int]],
    fixed: dict[Value, Slot], updated: set[Value],
) -> tuple[list[tuple[Value, Value]], list[tuple[Value, Slot]]]:
    """Give results their final place in `fixed` where they can be made there; return the copies that remain."""
    input_index = {value: i for i, value in enumerate(graph.inputs)}
    first: list[tuple[Value, Value]] = []
    last: list[tuple[Value, Slot]] = []
    wanted_old = {root.get(v, v) for v in graph.results} & updated
    staged: dict[Value, Value] = {}
    for old in wanted_old:                               # an old state value is a result: keep it before it is overwritten
        staged[old] = _staging_value(old)
        first.append((old, staged[old]))

    results = {root.get(v, v) for v in graph.results}
    last_check = max((i for i, node in enumerate(graph.nodes) if checks_range(node)), default=-1)

    def checked(node: Node) -> bool:
        """Whether all checks of the graph come before the node's first write: a call that fails leaves states as they were."""
        return position[node] >= last_check + (not node.op.checks_first)

    def finish(value: Value, slot: Slot) -> None:
        source = root.get(value, value)
        if source in staged and slot.kind == "output" and staged[source] not in fixed:
            fixed[staged[source]] = slot                 # the old value is kept in the result itself
        elif source in staged:
            last.append((staged[source], slot))
        elif source not in fixed and (
            slot.kind != "state"
            or (checked(source.node) and _all_read_before(graph, source, slot.index, root, readers, position))
        ):
            fixed[source] = slot
            if slot.kind == "state":
                chain(source, slot)
        else:
            last.append((value, slot))

    def chain(value: Value, slot: Slot) -> None:
        """A value made in the state's memory in step with another, as by two row updates: that one is made there too."""
        node = value.node
        for _, j in (pair for pair in node.op.in_place(*(v.type for v in node.inputs)) if pair[0] == value.index):
            before = root.get(node.inputs[j], node.inputs[j])
            if (before.type == value.type and before not in fixed and before not in results
                    and set(readers[before]) == {position[node]} and _in_step(node, value.index, before, root)
                    and checked(before.node)
                    and _all_read_before(graph, before, slot.index, root, readers, position)):
                fixed[before] = slot
                return chain(before, slot)

    for state, new in graph.updates:                     # states first: in place saves a copy of a parameter
        if root.get(new, new) != state:
            finish(new, Slot("state", input_index[state]))
    for i, value in enumerate(graph.outputs):
        finish(value, Slot("output", i))
    return first, last


def _staging_value(old: Value) -> Value:
    from graphnn.ir.ops.inputs import Input

    return Input(f"old/{old.name}", "input", old.type).one()


def _all_read_before(
    graph: Graph, new: Value, state_index: int, root: Mapping[Value, Value], readers: Mapping[Value, Sequence[int]],
    position: Mapping[Node, int],
) -> bool:
    """Whether `new` may be made in the state's own memory: nobody reads the old value later, or its maker reads in step."""
    state = graph.inputs[state_index]
    made = position[new.node]
    for reader in readers.get(state, ()):
        if reader > made:
            return False
        if reader == made and not _in_step(new.node, new.index, state, root):
            return False
    return True


def _in_step(node: Node, output: int, value: Value, root: Mapping[Value, Value]) -> bool:
    """Whether the node reads each element of `value` before it writes that place of its output, at every use of it."""
    pairs = node.op.in_place(*(v.type for v in node.inputs))
    return all((output, i) in pairs for i, v in enumerate(node.inputs) if root.get(v, v) == value)


def _merge_in_place(
    graph: Graph, root: Mapping[Value, Value], readers: Mapping[Value, Sequence[int]], fixed: Mapping[Value, Slot]
) -> list[Buffer]:
    """Arena buffers; a node's output takes over the buffer of an input that dies there, where the op reads in step."""
    buffer_of: dict[Value, Buffer] = {}
    buffers: list[Buffer] = []
    for i, node in enumerate(graph.nodes):
        if node.op.view_of is not None or isinstance(node.op, Constant):
            continue
        pairs = node.op.in_place(*(v.type for v in node.inputs)) if node.inputs else ()
        taken: set[Value] = set()
        for index, output in enumerate(node.outputs):
            if output in fixed:
                continue
            end = max(readers.get(output, ()), default=i)
            for _, j in (pair for pair in pairs if pair[0] == index):
                source = root.get(node.inputs[j], node.inputs[j])
                mine = buffer_of.get(source)
                uses = [k for k, v in enumerate(node.inputs) if root.get(v, v) == source]
                if mine is None or source in taken or mine.end != i or max(readers[source]) != i:
                    continue
                if all((index, k) in pairs for k in uses):
                    taken.add(source)
                    mine.values.append(output)
                    mine.end = end
                    buffer_of[output] = mine
                    break
            else:
                buffer_of[output] = Buffer([output], i, end)
                buffers.append(buffer_of[output])
    return buffers


# ---------------------------------------------------------------------------------------------- offsets


def plan_buffers(life: Lifetimes, sizes: Mapping[str, int]) -> BufferPlan:
    """Offsets for these sizes. Peak is the arena's size; `lower_bound` is the largest set alive at once."""
    nbytes: dict[Value, int] = {}
    for buffer in life.buffers:
        nbytes[buffer.root] = _round(_bytes(buffer.root, sizes))
    bound = _largest_live_set(life.buffers, nbytes)
    peak, offsets = _best_offsets(life.buffers, nbytes, bound)
    slots = dict(life.fixed)
    slots.update({buffer.root: Slot("arena", 0, offsets[buffer.root]) for buffer in life.buffers})
    for buffer in life.buffers:
        for value in buffer.values[1:]:
            slots[value] = slots[buffer.root]
    return BufferPlan(life, slots, peak, bound, nbytes)


def _bytes(value: Value, sizes: Mapping[str, int]) -> int:
    size = value.type.bind(sizes).nbytes
    assert isinstance(size, int)
    return size


def _round(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def _largest_live_set(buffers: Sequence[Buffer], nbytes: Mapping[Value, int]) -> int:
    change: dict[int, int] = {}
    for buffer in buffers:
        change[buffer.start] = change.get(buffer.start, 0) + nbytes[buffer.root]
        change[buffer.end + 1] = change.get(buffer.end + 1, 0) - nbytes[buffer.root]
    live = peak = 0
    for at in sorted(change):
        live += change[at]
        peak = max(peak, live)
    return peak


def _best_offsets(buffers: Sequence[Buffer], nbytes: Mapping[Value, int], bound: int) -> tuple[int, dict[Value, int]]:
    """The smallest arena found, and the offset of each buffer's root in it."""
    best: tuple[int, dict[Value, int]] | None = None
    best_order: list[Buffer] = []
    for order in _orders(buffers, nbytes):
        found = _tried(order, nbytes)
        if best is None or found[0] < best[0]:
            best, best_order = found, order
        if best[0] <= bound:
            return best
    assert best is not None
    # What is left is mended by exchanging two buffers of the order; the generator is seeded, so that plans repeat.
    rng = random.Random(0)
    for _ in range(min(_MOST_TRIES, _MOST_STEPS // max(1, len(buffers) ** 2))):
        if best[0] <= _NEAR * bound:
            break
        i, j = rng.sample(range(len(buffers)), 2)
        order = list(best_order)
        order[i], order[j] = order[j], order[i]
        found = _tried(order, nbytes)
        if found[0] <= best[0]:
            best, best_order = found, order
    return best


def _tried(order: Sequence[Buffer], nbytes: Mapping[Value, int]) -> tuple[int, dict[Value, int]]:
    offsets = _place(order, nbytes)
    return max((offsets[b.root] + nbytes[b.root] for b in order), default=0), offsets


def _orders(buffers: Sequence[Buffer], nbytes: Mapping[Value, int]) -> list[list[Buffer]]:
    """Orders in which to place buffers greedily; large ones first is nearly always best, the others mend its bad cases."""
    return [
        sorted(buffers, key=lambda b: (-nbytes[b.root], b.start)),
        sorted(buffers, key=lambda b: (-nbytes[b.root] * (b.end - b.start + 1), b.start)),
        sorted(buffers, key=lambda b: (-(b.end - b.start), -nbytes[b.root])),
        sorted(buffers, key=lambda b: (b.start, -nbytes[b.root])),
        sorted(buffers, key=lambda b: (-b.end, -nbytes[b.root])),
    ]


def _place(order: Sequence[Buffer], nbytes: Mapping[Value, int]) -> dict[Value, int]:
    """Each buffer in turn at the lowest offset that is free for its whole life (best fit among the gaps)."""
    placed: list[tuple[int, int, int, int]] = []         # offset, end offset, start, end of life; sorted by offset
    offsets: dict[Value, int] = {}
    for buffer in order:
        size, start, end = nbytes[buffer.root], buffer.start, buffer.end
        low, best, best_gap = 0, -1, 1 << 62
        for at, until, other_start, other_end in placed:
            if other_end < start or end < other_start:
                continue
            gap = at - low
            if size <= gap < best_gap:
                best, best_gap = low, gap
            low = max(low, until)
        offset = best if best >= 0 else low
        offsets[buffer.root] = offset
        if size:
            entry = (offset, offset + size, start, end)
            at = _bisect(placed, offset)
            placed.insert(at, entry)
    return offsets


def _bisect(placed: Sequence[tuple[int, int, int, int]], offset: int) -> int:
    low, high = 0, len(placed)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if placed[middle][0] < offset else (low, middle)
    return low
