"""Algebra: a table of rules, each of which replaces one node by something cheaper that means the same.

What "the same" may mean, besides equal in every bit:
- the sign of a zero may change (`x + 0`, `0 - x`, `-(a - b)`, pads that are added);
- a sum of equal terms may be a product, so its last bits may change (`sum(expand(x))`).
Nothing else: in particular no rule may lose a NaN or an infinity (`x * 0` and `x - x` stay), none reorders roundings of
different terms (`(x * 2.5) * 3` stays), and none divides where it did not before.

A rule is `rule(node, inputs) -> Value | None`; it looks upstream through `inputs`, which are simplified already. To add one:
write it in the file of its subject (this one: numbers; simplify_movement.py: shapes) and list it in the table below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from graphnn.ir.graph import Graph, Node, Value
from graphnn.ir.ops import arithmetic, casting, compare, functions, shaping
from graphnn.ir.ops.inputs import Constant, constant
from graphnn.ir.rewrite import rewrite
from graphnn.ir.types import DType
from graphnn.passes import simplify_movement as shapes
from graphnn.passes.bodies import also_in_bodies

Rule = Callable[[Node, tuple[Value, ...]], Value | tuple[Value, ...] | None]
MAX_ROUNDS = 10         # each round sees what the last one made; two or three are usual


def number(value: Value) -> float | int | bool | None:
    """The number that every element of `value` is, when that is known: a constant, also stretched or reshaped."""
    while value.node.op.name in ("expand", "reshape"):
        value = value.node.inputs[0]
    if not isinstance(value.node.op, Constant):
        return None
    data = value.node.op.value.data
    if data.size == 1:
        return data.item()
    if data.size == 0 or data.size > 4096 or data.dtype.kind == "f":     # -0.0 == 0.0 would deceive a test for equality
        return None
    return data.flat[0].item() if (data == data.flat[0]).all() else None


def like(x: Value, node: Node) -> Value:
    """`x` with the shape of the node it replaces."""
    return x if x.shape == node.types[0].shape else shaping.expand(x, node.types[0].shape)


def is_op(value: Value, *names: str) -> bool:
    return value.node.op.name in names


# ------------------------------------------------------------------------------------------------ arithmetic


def add(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x + 0 is x; x + -y is x - y."""
    a, b = inputs
    if number(b) == 0:
        return like(a, node)
    if number(a) == 0:
        return like(b, node)
    if is_op(b, "neg"):
        return arithmetic.sub(a, b.node.inputs[0])
    if is_op(a, "neg"):
        return arithmetic.sub(b, a.node.inputs[0])
    return shapes.add_of_pads(node, inputs)


def sub(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x - 0 is x; 0 - x is -x; x - -y is x + y."""
    a, b = inputs
    if number(b) == 0:
        return like(a, node)
    if number(a) == 0:
        return like(functions.neg(b), node)
    return arithmetic.add(a, b.node.inputs[0]) if is_op(b, "neg") else None


def mul(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x * 1 is x; x * -1 is -x; -x * -y is x * y; -x * 3 is x * -3."""
    a, b = inputs
    for x, c in ((a, b), (b, a)):
        if number(c) == 1:
            return like(x, node)
        if number(c) == -1:
            return like(functions.neg(x), node)
        if is_op(x, "neg") and is_op(c, "neg"):
            return arithmetic.mul(x.node.inputs[0], c.node.inputs[0])
        if is_op(x, "neg") and is_op(c, "constant") and (k := number(c)) is not None:
            return arithmetic.mul(x.node.inputs[0], number_like(-k, c))
    return None


def div(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x / 1 is x; x / 2**k is x * 2**-k, exactly."""
    a, b = inputs
    c = number(b)
    if c == 1:
        return like(a, node)
    if c == -1:
        return like(functions.neg(a), node)
    if c is None or not math.isfinite(c) or c == 0 or not 2.0**-100 < abs(c) < 2.0**100:
        return None
    return arithmetic.mul(a, number_like(1.0 / c, b)) if abs(math.frexp(c)[0]) == 0.5 else None


def number_like(c: float, beside: Value) -> Value:
    """The number `c` with the dtype and shape of the constant it replaces."""
    scalar = constant(np.array(c, beside.dtype.numpy))
    return like(scalar, beside.node)


def pow(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x ** 1 is x; x ** 2 is x * x."""
    x, c = inputs
    if number(c) == 1:
        return like(x, node)
    return like(arithmetic.mul(x, x), node) if number(c) == 2 else None


def neg(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """-(-x) is x; -(a - b) is b - a."""
    (x,) = inputs
    if is_op(x, "neg"):
        return x.node.inputs[0]
    return arithmetic.sub(x.node.inputs[1], x.node.inputs[0]) if is_op(x, "sub") else None


def abs_(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """|-x| is |x|; what is not negative is its own absolute value."""
    (x,) = inputs
    if is_op(x, "neg"):
        return functions.abs(x.node.inputs[0])
    return x if is_op(x, "abs") else None


def relu(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """relu(relu(x)) is relu(x)."""
    return inputs[0] if is_op(inputs[0], "relu") else None


def same_twice(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """min(x, x), max(x, x), x and x, x or x are x."""
    return inputs[0] if inputs[0] == inputs[1] else None


def logical_and(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x and true is x; x and false is false."""
    return _decided(node, inputs, unit=True)


def logical_or(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """x or false is x; x or true is true."""
    return _decided(node, inputs, unit=False)


def _decided(node: Node, inputs: tuple[Value, ...], *, unit: bool) -> Value | None:
    for x, c in (inputs, inputs[::-1]):
        if number(c) is unit:
            return like(x, node)
        if number(c) is (not unit):
            return like(c, node)
    return same_twice(node, inputs)


def logical_not(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """not not x is x."""
    return inputs[0].node.inputs[0] if is_op(inputs[0], "logical_not") else None


def where(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """A known condition chooses now; two equal branches need no choice; where(not c, a, b) is where(c, b, a)."""
    condition, a, b = inputs
    if a == b:
        return like(a, node)
    known = number(condition)
    if known is not None:
        return like(a if known else b, node)
    return compare.where(condition.node.inputs[0], b, a) if is_op(condition, "logical_not") else None


def cast(node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """A cast to its own dtype does nothing; one through a dtype that holds every value of the first is one cast."""
    (x,) = inputs
    if x.dtype == node.types[0].dtype:
        return x
    if is_op(x, "cast"):
        source = x.node.inputs[0]
        if (source.dtype, x.dtype) in LOSSLESS:
            return casting.cast(source, node.types[0].dtype)
    return None


LOSSLESS = frozenset({
    (DType.bool, DType.i32), (DType.bool, DType.i64), (DType.bool, DType.f32), (DType.bool, DType.f64),
    (DType.i32, DType.i64), (DType.i32, DType.f64), (DType.f32, DType.f64)})


def stop_gradient(node: Node, inputs: tuple[Value, ...]) -> Value:
    """Gradients are taken before passes run: the identity remains."""
    return inputs[0]


# ------------------------------------------------------------------------------------------------ the table

TABLE: Mapping[str, Rule] = {
    "add": add, "sub": sub, "mul": mul, "div": div, "pow": pow, "neg": neg, "abs": abs_, "relu": relu,
    "minimum": same_twice, "maximum": same_twice, "logical_and": logical_and, "logical_or": logical_or,
    "logical_not": logical_not, "where": where, "cast": cast, "stop_gradient": stop_gradient,
    **shapes.TABLE,
}


@also_in_bodies
def simplify(graph: Graph) -> Graph:
    """The graph after every rule that applies, until none does."""
    for _ in range(MAX_ROUNDS):
        changed = False

        def rule(node: Node, inputs: tuple[Value, ...]) -> Value | tuple[Value, ...] | None:
            nonlocal changed
            by_name = TABLE.get(node.op.name)
            found = by_name(node, inputs) if by_name is not None else None
            if found is None:
                found = shapes.stretched_operands(node, inputs)
            if found is None:
                return None
            changed = True
            return found

        after = rewrite(graph, rule)
        if not changed:
            return graph
        graph = after
    return graph
