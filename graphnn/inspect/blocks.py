"""Which cards belong together: lanes for the forward pass, the gradient and the update, and boxes for layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from graphnn.inspect.cards import Card
from graphnn.inspect.figures import layer_of
from graphnn.inspect.layered import Layered, Point
from graphnn.ir.graph import Graph, Node, Value, role_of

LANES = ("forward", "backward", "update")
LABEL_ROOM, MARGIN, WIRE_ROOM = 30.0, 14.0, 22.0
LABEL_SIZE = 11.5
_FEW = 3                                                 # an update of more nodes than this has small cards


@dataclass(eq=False)
class Box:
    """Cards and boxes that belong together. `label` None: a group without a frame."""

    label: str | None
    lane: str
    items: list[Card | Box] = field(default_factory=list)
    size: tuple[float, float] = (0.0, 0.0)
    flow: Layered | None = None
    enter: dict[Value, float] = field(default_factory=dict)      # where links come in, from the left side
    leave: dict[Value, float] = field(default_factory=dict)
    wires: list[tuple[list[Point], Value, bool]] = field(default_factory=list)
    sources: dict[Value, float] = field(default_factory=dict)    # how far right each value comes from, once that is known
    order: list[tuple[int, int]] = field(default_factory=list)   # pairs of items of which the second lies later

    def cards(self) -> list[Card]:
        """The cards inside, however deep."""
        return [card for item in self.items for card in ([item] if isinstance(item, Card) else item.cards())]

    @property
    def pads(self) -> tuple[float, float, float]:
        """Room left and right, at the flow's begin, and at its end: the label stands on top, whichever that is."""
        if self.label is None:
            return 0.0, 0.0, 0.0
        return (MARGIN, LABEL_ROOM, MARGIN) if self.lane == "forward" else (MARGIN, MARGIN, LABEL_ROOM)


# ------------------------------------------------------------------------------------------------ which lane

def lane_of(graph: Graph) -> dict[Node, str]:
    """The lane of each node. What serves next values of states alone, outside the layers of the forward pass, is the update."""
    lanes = {node: "backward" if node.loc.backward else "forward" for node in graph.nodes}
    if "backward" not in lanes.values() or not graph.updates:
        return lanes
    wanted = {value.node for value in graph.outputs}
    after: set[Node] = set()                             # what depends on a gradient
    for node in graph.nodes:
        if node.loc.backward or any(value.node in after for value in node.inputs):
            after.add(node)
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(value.node for value in node.inputs)
    layers = {layer_of(node) for node in wanted if lanes.get(node) == "forward"}
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value.node, []).append(node)
    for node in reversed(graph.nodes):
        if lanes[node] != "forward" or node in wanted:
            continue
        serves = all(lanes[reader] == "update" for reader in readers.get(node, ()))
        if node in after or (serves and layer_of(node) not in layers):
            lanes[node] = "update"
    return lanes


# ------------------------------------------------------------------------------------------------ boxes of layers

def boxes_by_layer(cards: Sequence[tuple[str, Card]], lane: str, *, nested: bool) -> list[Card | Box]:
    """Cards, in order of execution, by the paths of their layers: a box for each layer; cards without a layer alone.

    Boxes are `nested` as paths are, or else beside each other: where lanes share rows, each layer needs its own.
    """
    parts = {card: tuple(path.split("/") if nested else [path]) if path else () for path, card in cards}
    items = _items([card for _, card in cards], parts, lane, 0)
    for item in items:
        _join_single(item)
    return items


def _items(cards: Sequence[Card], parts: dict[Card, tuple[str, ...]], lane: str, depth: int) -> list[Card | Box]:
    """The contents of a box: cards of its own, and boxes for the parts of layers' names at this depth."""
    boxes: dict[Card, Box] = {}
    for name, members in _pieces(cards, {card: path[depth] for card, path in parts.items() if len(path) > depth}):
        box = Box(name, lane, _items(members, parts, lane, depth + 1))
        boxes.update(dict.fromkeys(members, box))
    return list(dict.fromkeys(boxes.get(card, card) for card in cards))


def _pieces(cards: Sequence[Card], names: dict[Card, str]) -> list[tuple[str, list[Card]]]:
    """The cards of each name. Those of a name are in pieces when something between them belongs to another, as of a layer used
    twice: as one box they would have to lie both above and below that. The first piece has what depends on no piece by way
    of others, the second what depends so on the first, and so on."""
    maker = {value: card for card in cards for value in card.makes}
    before = {card: [maker[value] for value in card.reads if value in maker] for card in cards}
    pieces: list[tuple[str, list[Card]]] = []
    unit_of: dict[Card, Card] = {card: card for card in cards}       # a card, or the first of the piece it is in
    for name in dict.fromkeys(names[card] for card in cards if card in names):
        members = [card for card in cards if names.get(card) == name]
        units: dict[Card, set[Card]] = {unit_of[card]: set() for card in cards}
        for card in cards:
            units[unit_of[card]] |= {unit_of[m] for m in before[card]} - {unit_of[card]}
        level = _levels({unit_of[card] for card in members}, units)
        for number in sorted({level[card] for card in members}):
            piece = [card for card in members if level[card] == number]
            unit_of.update(dict.fromkeys(piece, piece[0]))
            pieces.append((name, piece))
    return pieces


def _levels(members: set[Card], before: dict[Card, set[Card]]) -> dict[Card, int]:
    """How often a way to each member leaves the members and comes back, at most; a member without a way to it goes with its
    first reader."""
    level: dict[Card, int] = {}                          # of others: of the last member on a way to it, or -1
    for unit in TopologicalSorter(before).static_order():
        inside = unit in members
        level[unit] = max((level[b] + (inside and b not in members) for b in before[unit]), default=0 if inside else -1)
    for unit in members:
        if not before[unit]:
            level[unit] = min((level[reader] for reader in members if unit in before[reader]), default=level[unit])
    return level


def _join_single(item: Card | Box) -> None:
    """A box that holds one box alone becomes one with a longer label."""
    while isinstance(item, Box) and len(item.items) == 1 and isinstance(item.items[0], Box):
        inner = item.items[0]
        item.label, item.items = f"{item.label}/{inner.label}", inner.items
    if isinstance(item, Box):
        for inner in item.items:
            _join_single(inner)


def boxes_by_param(graph: Graph, cards: Sequence[Card]) -> list[tuple[Value | None, Box]]:
    """The cards of the update lane, a box for each param they serve; what serves several stands in one of its own."""
    serves: dict[Node, set[Value]] = {}
    for state, new in graph.updates:
        if role_of(state) == "param":
            serves.setdefault(new.node, set()).add(state)
    mine = {card.node: card for card in cards}
    for card in reversed(cards):
        assert card.node is not None, "the update lane holds nodes alone"
        for value in card.node.inputs:
            if value.node in mine:
                serves.setdefault(value.node, set()).update(serves.get(card.node, ()))
    boxes: dict[Value | None, Box] = {}
    for card in cards:
        assert card.node is not None
        found = serves.get(card.node, set())
        param = next(iter(found)) if len(found) == 1 else None
        label = f"{layer_of(card.node) or 'update'} · {param.name}" if param is not None else layer_of(card.node) or "update"
        boxes.setdefault(param, Box(label, "update")).items.append(card)
    for box in boxes.values():
        if len(box.items) > _FEW:
            for card in box.cards():
                card.mini = True
    return list(boxes.items())
