"""Which cards belong together: lanes for the forward pass, the gradient and the update, and boxes for layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """Cards by the paths of their layers: a box for each layer; cards without a layer alone.

    Boxes are `nested` as paths are, or else beside each other: where lanes share rows, each layer needs its own.
    """
    root = Box(None, lane)
    known: dict[tuple[str, int], Box] = {("", 0): root}
    pieces = _pieces(cards)
    for path, card in cards:
        piece = pieces.get(card, 0)
        if (path, piece) not in known:
            outer = root
            parts = path.split("/") if nested else [path]
            for depth in range(1, len(parts) + 1):
                prefix = ("/".join(parts[:depth]), piece if depth == len(parts) else 0)
                if prefix not in known:
                    known[prefix] = Box(parts[depth - 1], lane)
                    outer.items.append(known[prefix])
                outer = known[prefix]
        known[path, piece].items.append(card)
    for item in root.items:
        _join_single(item)
    return root.items


def _pieces(cards: Sequence[tuple[str, Card]]) -> dict[Card, int]:
    """The number of the piece of its layer that a card belongs to, where it is not 0.

    A layer is in pieces when something between two of its cards belongs to another: a layer used twice, or what a block
    does before and after the layers inside it. As one box it would have to lie both above and below that.
    """
    path_of = {card: path for path, card in cards}
    maker = {value: card for _, card in cards for value in card.makes}
    before = {card: [maker[value] for value in card.reads if value in maker] for _, card in cards}
    pieces: dict[Card, int] = {}
    for path in dict.fromkeys(path for path, _ in cards if path):
        beyond: set[Card] = set()                        # cards of other layers that depend on this one
        torn = False
        for _, card in cards:
            mine = path_of[card] == path
            if mine:
                torn = torn or not beyond.isdisjoint(before[card])
            elif any(m in beyond or path_of[m] == path for m in before[card]):
                beyond.add(card)
        if not torn:
            continue
        count = 0
        for _, card in cards:                            # pieces are what hangs together by direct links
            if path_of[card] != path:
                continue
            near = {pieces[m] for m in before[card] if path_of[m] == path}
            pieces[card] = min(near, default=count)
            count += not near
            for other in near - {pieces[card]}:
                pieces.update({c: pieces[card] for c, number in pieces.items() if path_of[c] == path and number == other})
    return pieces


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
