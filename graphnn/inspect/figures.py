"""What nodes cost, and numbers as people read them: 1.81M*N, 12.5 KiB, 3.2 us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphnn.errors import GraphnnError
from graphnn.ir.dims import Dim, Size
from graphnn.ir.graph import Node, Value, role_of
from graphnn.ir.ops.inputs import Constant

_PREFIXES = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def node_flops(node: Node) -> Size:
    """Floating-point operations of one run of a node, symbolic where its sizes are."""
    if isinstance(node.op, Constant) or role_of(node) is not None:
        return 0
    return node.op.flops(*(value.type for value in node.inputs))


def node_bytes(node: Node) -> Size:
    """Bytes that a node must read and write: each operand once, each output once; none for a view."""
    if node.op.view_of is not None or isinstance(node.op, Constant) or role_of(node) is not None:
        return 0
    return total(value.type.nbytes for value in (*dict.fromkeys(node.inputs), *node.outputs))


def total(sizes: Iterable[Size]) -> Size:
    """The sum of sizes, symbolic or not."""
    result: Size = 0
    for size in sizes:
        result = result + size
    return result


def bound(size: Size, sizes: Mapping[str, int]) -> int:
    """A count as a number: like Dim.bind, for counts that may be larger than any one tensor."""
    if isinstance(size, int):
        return size
    count = 0
    for atoms, coefficient in size.terms:
        product = coefficient
        for atom in atoms:
            product *= Dim((((atom,), 1),)).bind(sizes)
        count += product
    return count


def layer_of(item: Node | Value) -> str:
    """The path of the layer that made a node, a param or a state; "" for none.

    Where a param's own place is not known (it came from a text), its name says the layer: `conv2d/kernel`.
    """
    node = item.node if isinstance(item, Value) else item
    if node.loc.scope or role_of(node) in (None, "input"):
        return node.loc.scope
    return node.output.name.rpartition("/")[0]


def count_text(size: Size) -> str:
    """A count with three or four digits: 7, 1.81M, 1.81M*N+2k."""
    if isinstance(size, int):
        return _scaled(size)
    parts: list[str] = []
    for atoms, coefficient in size.terms:
        names = str(Dim(((atoms, 1),))) if atoms else ""
        number = _scaled(abs(coefficient))
        text = number if not names else names if number == "1" else f"{number}*{names}"
        parts.append(("-" if coefficient < 0 else "+") + text)
    return "".join(parts).removeprefix("+")


def bytes_text(size: Size) -> str:
    """A number of bytes: 512 B, 12.5 KiB, 3.06 KiB*N."""
    if isinstance(size, int):
        return _binary(size)
    parts: list[str] = []
    for atoms, coefficient in size.terms:
        names = f"*{Dim(((atoms, 1),))}" if atoms else ""
        parts.append(("- " if coefficient < 0 else "+ ") + _binary(abs(coefficient)) + names)
    return " ".join(parts).removeprefix("+ ")


def time_text(nanoseconds: float) -> str:
    """A time: 812 ns, 3.2 us, 1.25 ms, 2.1 s."""
    for unit, factor in (("ns", 1.0), ("us", 1e3), ("ms", 1e6)):
        if nanoseconds < 999.5 * factor:
            return f"{_digits(nanoseconds / factor)} {unit}"
    return f"{_digits(nanoseconds / 1e9)} s"


def rate_text(rate: float) -> str:
    """A rate with three digits, without its unit; "" for none."""
    return _digits(rate) if rate > 0 else ""


def body_names(node: Node) -> list[str]:
    """The names of the ops in a node's bodies, in order; constants left out. An epilogue's begin with its producer."""
    from graphnn.ir.attrs import bodies_of
    from graphnn.ir.op import Op

    inner = [value.name for value in node.op.attributes().values() if isinstance(value, Op)]
    return inner + [n.op.name for body in bodies_of(node.op) for n in body.nodes if not isinstance(n.op, Constant)]


def try_flops(node: Node) -> Size | None:
    """The FLOPs of a node, or None where sizes grow beyond what a Dim may hold: a picture is still to be had."""
    try:
        return node_flops(node)
    except GraphnnError:
        return None


def _scaled(number: int) -> str:
    for factor, prefix in _PREFIXES:
        if number >= factor:
            return f"{_digits(number / factor)}{prefix}"
    return str(number)


def _binary(number: int) -> str:
    if number < 1024:
        return f"{number} B"
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB")):
        if number >= 1024**power:
            return f"{_digits(number / 1024**power)} {unit}"
    return f"{_digits(number / 1024)} KiB"


def _digits(number: float) -> str:
    """At least three significant digits, without useless zeros."""
    decimals = 0 if number >= 100 else 1 if number >= 10 else 2
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
