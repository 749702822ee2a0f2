"""What a drawing says of each node: cards, pills and chips, with the room that their texts need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphnn.inspect.figures import body_names, bytes_text, count_text, layer_of, node_bytes, try_flops
from graphnn.ir.attrs import Array, attributes_text
from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.op import Fusion
from graphnn.ir.ops.inputs import Constant
from graphnn.ir.types import TensorType

# Widths of letters, a little above those of common fonts: a text must fit its box wherever the file is opened.
MONO, SANS, BOLD = 0.605, 0.58, 0.66
NAME_SIZE, TYPE_SIZE, CHIP_SIZE, LIST_SIZE, MINI_SIZE = 13.0, 10.5, 9.5, 10.0, 10.0
PAD, CHIP_HEIGHT, CHIP_GAP = 12.0, 16.0, 4.0
_LIST_WIDTH = 190.0
_LIST_LINES = 4


@dataclass(frozen=True)
class Chip:
    """A small label in a card: a parameter, a state or a constant that the node reads, or a state it gives a new value."""

    kind: str                                            # "param", "state", "constant" or "update"
    text: str

    @property
    def width(self) -> float:
        return len(self.text) * CHIP_SIZE * MONO + 12


@dataclass(eq=False)
class Card:
    """The picture of a node, of an input, or of an output. `makes` and `reads` are the values that links carry."""

    kind: str                                            # a class of the drawing's style
    name: str
    type_text: str
    tip: str
    lane: str = "forward"
    node: Node | None = None
    makes: tuple[Value, ...] = ()
    reads: tuple[Value, ...] = ()
    chips: list[Chip] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)      # lines of the list of a body's ops
    mini: bool = False

    @property
    def pill(self) -> bool:
        return self.kind in ("input", "output")

    @property
    def chip_rows(self) -> list[list[Chip]]:
        """Chips side by side as far as the card's other texts are wide anyway, else under each other."""
        room = max(self._text_width, 150.0)
        rows: list[list[Chip]] = []
        for chip in self.chips:
            if rows and sum(c.width + CHIP_GAP for c in rows[-1]) + chip.width <= room:
                rows[-1].append(chip)
            else:
                rows.append([chip])
        return rows

    @property
    def _text_width(self) -> float:
        return max(len(self.name) * NAME_SIZE * BOLD, len(self.type_text) * TYPE_SIZE * MONO,
                   *(len(line) * LIST_SIZE * SANS for line in self.inside), 0.0)

    @property
    def size(self) -> tuple[float, float]:
        if self.mini:
            return self.mini_width + 16, 19.0
        if self.pill:
            return (len(self.name) * NAME_SIZE * BOLD + len(self.type_text) * TYPE_SIZE * MONO + 2 * PAD + 16, 28.0)
        rows = self.chip_rows
        chips = max((sum(c.width + CHIP_GAP for c in row) - CHIP_GAP for row in rows), default=0.0)
        height = 40.0 + 13.0 * len(self.inside) + (4.0 if self.inside else 0.0) + (CHIP_HEIGHT + CHIP_GAP) * len(rows)
        return max(self._text_width, chips, 64.0) + 2 * PAD, height + (4.0 if rows else 0.0)

    @property
    def mini_width(self) -> float:
        """The room of a small card's one line."""
        chip = len(self.mini_chip) * CHIP_SIZE * MONO + 6 if self.mini_chip else 0.0
        return max(len(self.name) * MINI_SIZE * BOLD + chip, 26.0)

    @property
    def mini_chip(self) -> str:
        """What a small card says besides its op: the constant or state it reads, the one with the shortest name."""
        return min((chip.text.partition(" ")[0] for chip in self.chips if chip.kind != "update"), key=len, default="")


def colour_of(node: Node) -> str:
    """The class of a node's colours: its fusion class, or that it was made by fusing."""
    if node.op.name in ("fused", "epilogue"):
        return node.op.name
    return node.op.fusion.name.lower() if isinstance(node.op.fusion, Fusion) else "opaque"


def is_chip(value: Value) -> bool:
    """Whether a value is shown inside its readers' cards: params, states and constants are."""
    return role_of(value) in ("param", "state") or isinstance(value.node.op, Constant)


def node_card(node: Node, updated: Mapping[Value, Sequence[Value]], lane: str) -> Card:
    """The card of a node; `updated` says of which states a value is the next one."""
    layer = layer_of(node)
    chips = [_chip(value, layer) for value in dict.fromkeys(node.inputs) if is_chip(value)]
    chips.sort(key=lambda chip: chip.kind == "constant")
    new = [state.name for value in node.outputs for state in updated.get(value, ())]
    chips += [Chip("update", f"→ {clean(_local(name, layer))}") for name in new]
    return Card(
        colour_of(node), clean(node.op.name), _types(node.types), _tip(node), lane, node, node.outputs,
        tuple(value for value in dict.fromkeys(node.inputs) if not is_chip(value)), chips, _wrapped(body_names(node)),
    )


def input_card(value: Value) -> Card:
    """The pill of a graph's input."""
    return Card("input", clean(value.name), str(value.type), f"input {clean(value.name)} : {value.type}", makes=(value,))


def output_card(value: Value, name: str, lane: str) -> Card:
    """The pill of a result; one that is a param, a state or a constant says so, since no link leads there."""
    reads = () if is_chip(value) else (value,)
    shown = name if reads else f"{name} = {_chip(value, '').text.partition(' ')[0]}"
    return Card("output", clean(shown), str(value.type), f"{name} : {value.type}", lane, reads=reads)


def constants_alone(graph: Graph) -> list[Value]:
    """Constants that no node reads: only such are not seen as a chip."""
    shown = [node.output for node in graph.nodes if isinstance(node.op, Constant)]
    return [value for value in shown if not graph.uses.get(value)]


def clean(text: str) -> str:
    """`text` without characters that XML cannot hold."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _chip(value: Value, layer: str) -> Chip:
    op = value.node.op
    if isinstance(op, Constant):
        return Chip("constant", _number(op.value))
    role = role_of(value) or "state"
    return Chip(role, f"{clean(_local(value.name, layer))} {value.type}")


def _number(array: Array) -> str:
    if array.data.size != 1:
        return f"constant {array.type}"
    item = array.data.reshape(()).item()
    return f"{item:.6g}" if isinstance(item, float) else str(item).lower()


def _local(name: str, layer: str) -> str:
    """A param's name inside its own layer: weight for conv2d/weight."""
    return name.removeprefix(f"{layer}/") if layer else name


def _types(types: Sequence[TensorType]) -> str:
    text = ", ".join(map(str, types))
    return text if len(types) < 3 or len(text) < 40 else f"{types[0]} and {len(types) - 1} more"


def _tip(node: Node) -> str:
    def named(body: Graph) -> str:
        return f"{{{', '.join(n.op.name for n in body.nodes)}}}"

    attributes = attributes_text(node.op, named)
    if len(attributes) > 400:
        attributes = attributes[:397] + "..."
    flops = try_flops(node)
    lines = [f"{node.op.name}({', '.join(str(v.type) for v in node.inputs)}) : {', '.join(map(str, node.types))}", attributes,
             str(node.loc), f"{count_text(flops)} FLOP" if flops else "", f"moves {bytes_text(node_bytes(node))}"]
    return "\n".join(clean(line) for line in lines if line)


def _wrapped(names: Sequence[str]) -> list[str]:
    """The ops of a body as a few lines: mul · add · tanh."""
    lines: list[str] = []
    for i, name in enumerate(names):
        longer = f"{lines[-1]} · {name}" if lines else name
        if not lines or len(longer) * LIST_SIZE * SANS > _LIST_WIDTH:
            if len(lines) == _LIST_LINES:
                lines[-1] += f" · and {len(names) - i} more"
                break
            lines.append(name)
        else:
            lines[-1] = longer
    return [clean(line) for line in lines]
