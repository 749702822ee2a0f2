"""Work that does not depend on the recurrence leaves the loop.

- What depends on the loop's constants alone is computed once, before it.
- Matrix products of slices of the sequences (`x[t] @ w`), and what leads to them and follows from them without the carries,
  run over all steps at once: one product of T*N rows instead of T of N. So do range checks, and results that need no carry.
- A product of what the recurrence gives with a constant that is only a result (`dx[t] = dz[t] @ w^T`) is one product after it.
- Sums over the steps, as the gradients of weights are (`dw += h[t]^T @ dz[t]`), leave the loop when what is summed is a product
  or a sum: the loop returns its parts, and one product of inner size T*N follows.

Elementwise work on slices alone stays inside otherwise: there it is fused, and needs no memory for all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphnn.ir.dims import product
from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.op import Fusion, Op, make_node
from graphnn.ir.ops import arithmetic, index, linalg, reduce, shaping, slicing, softmax
from graphnn.ir.ops.inputs import Input
from graphnn.ir.ops.scan import Scan
from graphnn.ir.rewrite import rewrite
from graphnn.passes.bodies import also_in_bodies

# Made inside the body where they are read: they cost less than reading a stored result.
LIGHT = frozenset({"constant", "expand", "reshape", "iota", "size_of"})
SMALL_SUM = 1 << 12         # elements of a summand that may be kept for all steps


@also_in_bodies
def hoist_from_scan(graph: Graph) -> Graph:
    """The graph whose scans do only what needs the recurrence."""

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if not isinstance(node.op, Scan):
            return None
        loop = _Loop(node.op, inputs, node)
        found = loop.hoisted()
        return found

    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph
    after = rewrite(graph, rule)
    return graph if after.nodes == graph.nodes else after


class _Loop:
    """A scan and, for values of its body, what they are outside: the same for all steps, or stacked over the steps."""

    def __init__(self, op: Scan, inputs: Sequence[Value], node: Node) -> None:
        self.op, self.inputs, self.node, self.body = op, inputs, node, op.body
        self.end = op.carries + op.sequences
        outside = dict(zip(op.body.inputs, inputs, strict=True))
        self.fixed = {value: outside[value] for value in op.body.inputs[self.end:]}
        self.stacked = {value: outside[value] for value in op.body.inputs[op.carries:self.end]}
        self.heavy: set[Value] = set()
        self.after: dict[Value, Node] = {}
        for made in self.body.nodes:
            self._visit(made)

    def _visit(self, node: Node) -> None:
        """Compute the node outside, when it can be; what is not read there disappears."""
        if all(value in self.fixed for value in node.inputs) and node.op.name != "check_index":
            made = make_node(node.op, tuple([self.fixed[value] for value in node.inputs]), node.loc)
            self.fixed.update(zip(node.outputs, made.outputs, strict=True))
        elif all(value in self.fixed or value in self.stacked for value in node.inputs) and len(node.types) == 1:
            y = self._over_steps(node)
            if y is None:
                return
            self.stacked[node.output] = y
            if node.op.name in ("matmul", "check_index") or any(value in self.heavy for value in node.inputs):
                self.heavy.add(node.output)

    # -------------------------------------------------------------------------------------------- before the loop

    def hoisted(self) -> tuple[Value, ...] | None:
        op, body = self.op, self.body
        sums = {i: parts for i in range(op.carries) if (parts := self._sum(i)) is not None}
        carries = [i for i in range(op.carries) if i not in sums]
        results = [value for value in body.outputs[op.carries:] if value not in self.stacked]
        self.after = {value: value.node for value in results if self._is_last_product(value)}
        steps = [self.after[value].inputs[0] if value in self.after else value for value in results]
        steps = [value for value in steps if value not in self.stacked]
        for parts in sums.values():
            steps += [value for part in parts for value in part.reads if value not in self.stacked and value not in self.fixed]
        steps = list(dict.fromkeys(steps))
        wanted = [*[body.outputs[i] for i in carries], *steps]
        sequences, constants, nodes = self._reads(wanted)
        plain = (not sums and not self.after and all(value in body.inputs for value in (*sequences, *constants))
                 and not any(value in self.stacked and value not in body.inputs for value in body.outputs[op.carries:]))
        if plain:
            return None

        new: dict[Value, Value] = {body.inputs[i]: body.inputs[i] for i in carries}
        for value in (*sequences, *constants):
            label = f"k{len(new)}"
            new[value] = value if value in body.inputs else Input(_unused(label, body), "input", value.type).one()
        takes = tuple(new.values())
        for node in nodes:
            inputs = tuple([new[value] for value in node.inputs])
            made = node if inputs == node.inputs else make_node(node.op, inputs, node.loc)
            new.update(zip(node.outputs, made.outputs, strict=True))
        smaller = Graph.of(body.name, takes, [new[value] for value in wanted])
        loop = Scan(smaller, len(carries), len(sequences), op.reverse, op.length)
        given = (*[self.inputs[i] for i in carries], *[self.stacked[v] for v in sequences], *[self.fixed[v] for v in constants])
        made = make_node(loop, given, self.node.loc)
        last = dict(zip(carries, made.outputs, strict=False))
        self.stacked.update(zip(steps, made.outputs[len(carries):], strict=True))
        for i, parts in sums.items():
            total = self.inputs[i]
            for part in parts:
                total = arithmetic.add(total, part.over_steps([self._all_steps(value) for value in part.reads]))
            last[i] = total
        return (*[last[i] for i in range(op.carries)], *[self._all_steps(value) for value in body.outputs[op.carries:]])

    def _is_last_product(self, value: Value) -> bool:
        """Whether a result is a product with a constant that nothing in the body reads."""
        if not isinstance(value.node.op, linalg.MatMul) or self.body.outputs.count(value) > 1 or value in self.body.uses:
            return False
        a, b = value.node.inputs
        return b in self.fixed and b.rank == 2 and a not in self.fixed

    def _all_steps(self, value: Value) -> Value:
        if value in self.stacked:
            return self.stacked[value]
        if value in self.after:
            node = self.after[value]
            a, b = node.inputs
            return make_node(node.op, (self._all_steps(a), self.fixed[b]), node.loc).output
        return shaping.expand(self.fixed[value], (self.op.length, *value.shape))

    def _reads(self, wanted: Sequence[Value]) -> tuple[list[Value], list[Value], list[Node]]:
        """What a body that computes `wanted` takes, of sequences and of constants, and its nodes in order."""
        sequences: dict[Value, None] = {}
        constants: dict[Value, None] = {}
        inside: set[Node] = set()
        seen: set[Value] = set()
        carries = set(self.body.inputs[:self.op.carries])
        stack = list(reversed(wanted))
        while stack:
            value = stack.pop()
            if value in seen or value in carries:
                continue
            seen.add(value)
            given = value in self.body.inputs
            if value in self.fixed and (given or value.node.op.name not in LIGHT):
                constants[value] = None
            elif value in self.stacked and (given or value in self.heavy):
                sequences[value] = None
            else:
                inside.add(value.node)
                stack += reversed(value.node.inputs)
        order = {value: i for i, value in enumerate(self.body.inputs)}
        by_input = lambda value: order.get(value, len(order))  # noqa: E731
        return sorted(sequences, key=by_input), sorted(constants, key=by_input), [n for n in self.body.nodes if n in inside]

    def _over_steps(self, node: Node) -> Value | None:
        """The node on the stacked operands: all steps at once. None for an op that has no such form."""
        op, length = node.op, self.op.length
        if op.fusion is Fusion.ELEMENTWISE or isinstance(op, (linalg.MatMul, shaping.Expand)):
            if isinstance(op, linalg.MatMul) and any(value in self.fixed and value.rank > 2 for value in node.inputs):
                return None
            operands = [self._aligned(value, node.output.rank) for value in node.inputs]
            op = shaping.Expand((length, *op.shape)) if isinstance(op, shaping.Expand) else op
            return op.one(*operands)
        x = self.stacked.get(node.inputs[0])
        if isinstance(op, index.Gather):
            table, ids = node.inputs
            return op.one(self.fixed[table], self.stacked[ids]) if table in self.fixed and op.axis == 0 else None
        if x is None or len(node.inputs) > 1:
            return None
        moved = _with_time(op, node, self)
        return moved.one(x) if moved is not None else None

    def _aligned(self, value: Value, rank: int) -> Value:
        if value in self.fixed:
            return self.fixed[value]
        y = self.stacked[value]
        missing = rank - value.rank
        return shaping.reshape(y, (y.shape[0], *(1,) * missing, *y.shape[1:])) if missing else y

    # -------------------------------------------------------------------------------------------- after the loop

    def _sum(self, i: int) -> list[_Part] | None:
        """The summands of a carry that only sums, each as something to compute after the loop; None when it does more."""
        body, carry = self.body, self.body.inputs[i]
        terms: list[Value] = []
        value = body.outputs[i]
        while value != carry:                           # carry + a + b + ..., nested to the left or to the right
            if value.node.op.name != "add" or value.type != carry.type:
                return None
            a, b = value.node.inputs
            from_a, from_b = (_depends(x, carry, self.body) for x in (a, b))
            if from_a == from_b or self._readers(value, i) > (1 if terms else 0):
                return None
            terms.append(b if from_a else a)
            value = a if from_a else b
        if not terms or self._readers(carry, i) != 1:
            return None
        parts = [part for term in terms for part in self._parts(term)]
        return parts if all(part is not None for part in parts) else None  # pyright: ignore[reportReturnType]

    def _readers(self, value: Value, carry: int) -> int:
        others = [v for j, v in enumerate(self.body.outputs) if j != carry]
        return len(self.body.uses.get(value, ())) + others.count(value)

    def _parts(self, term: Value) -> list[_Part | None]:
        op, inputs = term.node.op, term.node.inputs
        if op.name == "add" and all(value.type == term.type for value in inputs) and term not in self.stacked:
            return [part for value in inputs for part in self._parts(value)]
        if isinstance(op, linalg.MatMul) and op.transpose_a and not op.transpose_b and all(v.rank == 2 for v in inputs):
            return [_Part(inputs, lambda xs: linalg.MatMul(True, False).one(*[_rows(x) for x in xs]))]
        if isinstance(op, reduce.Sum):
            axes = (0, *[axis + 1 for axis in op.axes])
            keepdims = op.keepdims
            return [_Part(inputs, lambda xs: shaping.reshape(reduce.Sum(axes, False).one(xs[0]), term.shape) if keepdims
                          else reduce.Sum(axes, False).one(xs[0]))]
        elements = term.type.elements
        if isinstance(elements, int) and elements <= SMALL_SUM:
            return [_Part((term,), lambda xs: reduce.Sum((0,), False).one(xs[0]))]
        return [None]


class _Part:
    """A summand: the values of the body that it reads, and its sum over all steps from these, stacked."""

    def __init__(self, reads: Sequence[Value], over_steps: Callable[[Sequence[Value]], Value]) -> None:
        self.reads, self.over_steps = tuple(reads), over_steps


def _rows(x: Value) -> Value:
    return shaping.reshape(x, (product(x.shape[:-1]), x.shape[-1]))


def _with_time(op: Op, node: Node, loop: _Loop) -> Op | None:
    """A one-operand op with a time axis put before all others."""
    length = loop.op.length
    if isinstance(op, reduce.Reduction):
        return type(op)(tuple([axis + 1 for axis in op.axes]), op.keepdims)
    if isinstance(op, (softmax.Softmax, softmax.LogSoftmax)):
        return type(op)(op.axis + 1)
    if isinstance(op, shaping.Reshape):
        return shaping.Reshape((length, *op.shape))
    if isinstance(op, shaping.Transpose):
        return shaping.Transpose((0, *[axis + 1 for axis in op.perm]))
    if isinstance(op, slicing.Slice):
        return slicing.Slice((0, *op.starts), (length, *op.stops), (1, *op.steps))
    return op if isinstance(op, (index.OneHot, index.CheckIndex)) else None


def _depends(value: Value, on: Value, body: Graph) -> bool:
    reached = {on.node}
    for node in body.nodes:
        if any(v.node in reached for v in node.inputs):
            reached.add(node)
    return value.node in reached


def _unused(label: str, body: Graph) -> str:
    taken = {value.name for value in body.inputs}
    while label in taken:
        label += "_"
    return label
