"""A graph as blocks in blocks, placed on a page: layers as boxes, in lanes for the forward pass, the gradient and the update.

The forward lane flows down, the others up, and each layer's gradient and update stand in the row of the layer itself. So
a training step reads like a map: right of a layer is its derivative, right of that what becomes of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphnn.inspect.cards import Card, constants_alone, input_card, is_chip, node_card, output_card
from graphnn.inspect.figures import layer_of
from graphnn.inspect.layered import Layered, Link, Point
from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.ops.inputs import Constant

LANES = ("forward", "backward", "update")
LABEL_ROOM, MARGIN = 30.0, 14.0
LABEL_SIZE = 11.5
_LABEL_WIDTH = 0.64
ROW_GAP, LANE_GAP = 34.0, 90.0
_FEW = 3                                                 # an update of more nodes than this has small cards


@dataclass(frozen=True)
class Wire:
    """A link as a drawing shows it: points from the source to the target. `across` leads from lane to lane."""

    points: tuple[Point, ...]
    lane: str
    value: Value
    arrow: bool
    across: bool = False


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

    def cards(self) -> list[Card]:
        """The cards inside, however deep."""
        return [card for item in self.items for card in ([item] if isinstance(item, Card) else item.cards())]

    @property
    def pads(self) -> tuple[float, float, float]:
        """Room left and right, at the flow's begin, and at its end: the label stands on top, whichever that is."""
        if self.label is None:
            return 0.0, 0.0, 0.0
        return (MARGIN, LABEL_ROOM, MARGIN) if self.lane == "forward" else (MARGIN, MARGIN, LABEL_ROOM)


@dataclass
class Page:
    """Everything with its place: what the drawing writes down."""

    width: float = 0.0
    height: float = 0.0
    lanes: list[tuple[str, float, float]] = field(default_factory=list)          # name, left, width
    boxes: list[tuple[Box, float, float]] = field(default_factory=list)          # outer ones first
    cards: list[tuple[Card, float, float]] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)


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

def _by_layer(cards: Iterable[tuple[str, Card]], lane: str) -> list[Card | Box]:
    """Cards by the paths of their layers: a box for each layer, boxes in boxes for paths; cards without a layer alone."""
    root = Box(None, lane)
    known: dict[str, Box] = {"": root}
    for path, card in cards:
        if path not in known:
            outer = root
            parts = path.split("/")
            for depth in range(1, len(parts) + 1):
                prefix = "/".join(parts[:depth])
                if prefix not in known:
                    known[prefix] = Box(parts[depth - 1], lane)
                    outer.items.append(known[prefix])
                outer = known[prefix]
        known[path].items.append(card)
    for item in root.items:
        _join_single(item)
    return root.items


def _join_single(item: Card | Box) -> None:
    """A box that holds one box alone becomes one with a longer label."""
    while isinstance(item, Box) and len(item.items) == 1 and isinstance(item.items[0], Box):
        inner = item.items[0]
        item.label, item.items = f"{item.label}/{inner.label}", inner.items
    if isinstance(item, Box):
        for inner in item.items:
            _join_single(inner)


def _updates_by_param(graph: Graph, cards: Sequence[Card]) -> list[tuple[Value | None, Box]]:
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


# ------------------------------------------------------------------------------------------------ placing one box

class _Placer:
    """Places the contents of boxes, inner ones first. `cards` come in order of execution."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = cards
        self.maker = {value: card for card in cards for value in card.makes}
        self.readers: dict[Value, list[Card]] = {}
        for card in cards:
            for value in card.reads:
                self.readers.setdefault(value, []).append(card)

    def place(self, box: Box) -> None:
        """Give the box its size, the places of its items, and its inner wires."""
        flow, links, incoming, outgoing = self.flow(box, gap=24.0)
        box.flow = flow
        side, begin, end = box.pads
        label = 0.0 if box.label is None else len(box.label) * LABEL_SIZE * _LABEL_WIDTH + 2 * MARGIN
        width = max(flow.width + 2 * side, label)
        shift = (width - flow.width) / 2
        # Ports take a gap of their own from the layer next to them; the frame's padding is enough.
        top = begin - (flow.gap if incoming else 0.0)
        height = top + flow.height + end - (flow.gap if outgoing else 0.0)
        flow.x = [x + shift for x in flow.x]
        flow.stack([t + top for t in flow.tops])
        for ports, port_top in ((incoming, 0.0), (outgoing, height)):
            for port in ports.values():
                flow.tops[flow.layer[port]] = port_top
        box.size = (width, height)
        box.enter = {value: flow.x[port] for value, port in incoming.items()}
        box.leave = {value: flow.x[port] for value, port in outgoing.items()}
        box.wires = self.wires(box, flow, links)

    def flow(self, box: Box, *, gap: float, spacing: float = 22.0, rows: Sequence[int] | None = None,
             order: Sequence[tuple[int, int]] = ()) -> tuple[Layered, list[Link], dict[Value, int], dict[Value, int]]:
        """The layout of a box's items, with its links and the ports where values come in and go out.

        Inner boxes are placed first; where that showed from which sides their values come, once more, so that wires
        need not cross at the door.
        """
        inner = [item for item in box.items if isinstance(item, Box)]
        for item in inner:
            self.place(item)
        flow, links, incoming, outgoing = self._flow(box, gap, spacing, rows, order)
        again = [item for item in inner if len(item.enter) > 1 and not item.sources]
        for link in links:
            item = box.items[link.target] if link.target < len(box.items) else None
            if isinstance(item, Box) and item in again and isinstance(link.key, Value):
                route = flow.route(link)
                item.sources[link.key] = route[-3][0] if len(route) > 2 else route[0][0]
        for item in again:
            self.place(item)
        return self._flow(box, gap, spacing, rows, order) if again else (flow, links, incoming, outgoing)

    def _flow(self, box: Box, gap: float, spacing: float, rows: Sequence[int] | None,
              order: Sequence[tuple[int, int]]) -> tuple[Layered, list[Link], dict[Value, int], dict[Value, int]]:
        sizes = [item.size for item in box.items]
        links, incoming, outgoing = self._links(box, sizes)
        flow = Layered(sizes + [(10.0, 0.0)] * (len(incoming) + len(outgoing)), links, first=list(incoming.values()),
                       last=list(outgoing.values()), rows=rows, gap=gap, spacing=spacing, order=order,
                       keep_first=bool(box.sources))
        return flow, links, incoming, outgoing

    def wires(self, box: Box, flow: Layered, links: Sequence[Link]) -> list[tuple[list[Point], Value, bool]]:
        """The routes of links, spread over the sides of the cards where they end."""
        routes = [flow.route(link) for link in links]
        at_card: dict[int, list[int]] = {}
        for k, link in enumerate(links):
            if link.target < len(box.items) and isinstance(box.items[link.target], Card):
                at_card.setdefault(link.target, []).append(k)
        for target, mine in at_card.items():
            mine.sort(key=lambda k: routes[k][-3][0] if len(routes[k]) > 2 else routes[k][0][0])
            step = min(16.0, 0.6 * flow.widths[target] / len(mine))
            for place, k in enumerate(mine):
                shift = (place - (len(mine) - 1) / 2) * step
                x = routes[k][-1][0]
                if len(routes[k]) > 2 and routes[k][-2] == (x, flow.tops[flow.layer[target]]):
                    routes[k].pop(-2)                    # no straight end: the curve itself leads to the place
                routes[k][-1] = (x + shift, routes[k][-1][1])
        found: list[tuple[list[Point], Value, bool]] = []
        for link, route in zip(links, routes, strict=True):
            assert isinstance(link.key, Value), "links inside a page carry values"
            found.append((route, link.key, link.target < len(box.items) and isinstance(box.items[link.target], Card)))
        return found

    def _links(self, box: Box, sizes: Sequence[tuple[float, float]]) -> tuple[list[Link], dict[Value, int], dict[Value, int]]:
        """Links between the items of a box, and the ports of values that come in and go out (numbers after those of items)."""
        inside = {card: i for i, item in enumerate(box.items) for card in ([item] if isinstance(item, Card) else item.cards())}
        pairs: dict[tuple[Value, int | None, int | None], None] = {}
        for card, i in inside.items():
            for value in card.reads:
                maker = self.maker.get(value)
                if maker is not None and maker.lane == card.lane and maker not in inside:
                    pairs[value, None, i] = None
            for value in card.makes:
                for reader in self.readers.get(value, ()):
                    j = inside.get(reader)
                    if reader.lane == card.lane and j != i:
                        pairs[value, i, j] = None
        incoming = dict.fromkeys(sorted((value for value, i, _ in pairs if i is None), key=lambda v: box.sources.get(v, 0.0)), 0)
        outgoing = dict.fromkeys((value for value, _, j in pairs if j is None), 0)
        incoming = {value: len(sizes) + k for k, value in enumerate(incoming)}
        outgoing = {value: len(sizes) + len(incoming) + k for k, value in enumerate(outgoing)}
        links: list[Link] = []
        for value, i, j in pairs:
            leave = 0.0 if i is None else self._port(box.items[i], value, sizes[i][0], "leave")
            enter = 0.0 if j is None else self._port(box.items[j], value, sizes[j][0], "enter")
            links.append(Link(incoming[value] if i is None else i, outgoing[value] if j is None else j, value, leave, enter))
        return links, incoming, outgoing

    def _port(self, item: Card | Box, value: Value, width: float, side: str) -> float:
        """Where on an item a value comes in or goes out, from its centre."""
        if isinstance(item, Box):
            return (item.enter if side == "enter" else item.leave)[value] - width / 2
        if side == "enter" or len(item.makes) < 2:
            return 0.0
        step = min(24.0, 0.7 * width / len(item.makes))
        return (item.makes.index(value) - (len(item.makes) - 1) / 2) * step


# ------------------------------------------------------------------------------------------------ the page

def arrange(graph: Graph) -> Page:
    """The graph on a page: every node a card, every layer a box."""
    lanes = lane_of(graph)
    updated: dict[Value, list[Value]] = {}
    for state, new in graph.updates:
        updated.setdefault(new, []).append(state)
    cards = {node: node_card(node, updated, lanes[node]) for node in graph.nodes if not isinstance(node.op, Constant)}
    for value in constants_alone(graph):
        cards[value.node] = node_card(value.node, updated, lanes[value.node])
    inputs = [input_card(value) for value in graph.by_role("input")]
    names = ["output"] if len(graph.outputs) == 1 else [f"output {i}" for i in range(len(graph.outputs))]
    outputs = [output_card(value, name, lanes.get(value.node, "forward") if not is_chip(value) else "forward")
               for value, name in zip(graph.outputs, names, strict=True)]
    everything = [*inputs, *cards.values(), *outputs]
    placer = _Placer(everything)

    tops: dict[str, list[Card | Box]] = {}
    for lane in LANES[:2]:
        mine = [("", card) for card in inputs if lane == "forward"]
        mine += [(layer_of(node), card) for node, card in cards.items() if card.lane == lane]
        tops[lane] = _by_layer([*mine, *(("", card) for card in outputs if card.lane == lane)], lane)
    updates = _updates_by_param(graph, [card for card in cards.values() if card.lane == "update"])
    tops["update"] = [box for _, box in updates]
    tops["update"] += [card for card in outputs if card.lane == "update"]
    return _Rows(placer, tops, {id(box): param for param, box in updates}).page()


class _Rows:
    """The lanes beside each other, their rows on the same heights."""

    def __init__(self, placer: _Placer, tops: dict[str, list[Card | Box]], params: Mapping[int, Value | None]) -> None:
        self.placer = placer
        self.roots = {lane: Box(None, lane, items) for lane, items in tops.items() if items}
        self.row_of_card: dict[Card, int] = {}
        self.row_of_label: dict[str, int] = {}
        self.flows: dict[str, tuple[Layered, list[Link]]] = {}
        forward = self.roots.setdefault("forward", Box(None, "forward"))
        flow = self._flow(forward, None)
        self.rows = max(1, len(flow.order))
        self._note_rows(forward, flow.layer)
        for lane in LANES[1:]:
            if lane in self.roots:
                root = self.roots[lane]
                rows = self._rows_of(root, params)
                rows = self._group(root, rows)
                self._flow(root, [self.rows - 1 - row for row in rows])
                self._note_rows(root, rows)

    def _flow(self, root: Box, rows: Sequence[int] | None) -> Layered:
        flow, links, _, _ = self.placer.flow(root, gap=ROW_GAP, spacing=26.0, rows=rows, order=self._detours(root))
        self.flows[root.lane] = (flow, links)
        return flow

    def _detours(self, root: Box) -> list[tuple[int, int]]:
        """Pairs of items of which one depends on the other by way of other lanes: they are not wired here, yet in order."""
        item_of = {card: i for i, item in enumerate(root.items) for card in ([item] if isinstance(item, Card) else item.cards())}
        through: dict[Card, set[int]] = {}               # the items that a card of another lane depends on
        pairs: dict[tuple[int, int], None] = {}
        for card in self.placer.cards:
            makers = [maker for value in card.reads if (maker := self.placer.maker.get(value)) is not None]
            if card.lane == root.lane:
                pairs.update({(i, item_of[card]): None for maker in makers for i in through.get(maker, ())})
            else:
                found = {item_of[maker] for maker in makers if maker.lane == root.lane}
                through[card] = found.union(*(through.get(maker, ()) for maker in makers))
        return [(i, j) for i, j in pairs if i != j]

    def _note_rows(self, root: Box, rows: Sequence[int]) -> None:
        for item, row in zip(root.items, rows, strict=False):
            for card in [item] if isinstance(item, Card) else item.cards():
                self.row_of_card[card] = row
            if isinstance(item, Box) and item.label is not None:
                self.row_of_label.setdefault(item.label.partition("/")[0], row)

    def _rows_of(self, root: Box, params: Mapping[int, Value | None]) -> list[int]:
        """The row of each item of a side lane: that of its layer, of the layer its param belongs to, or of what it reads."""
        rows: list[int] = []
        found: dict[Card, int] = {}
        for item in root.items:
            inside = [item] if isinstance(item, Card) else item.cards()
            row = None
            param = params.get(id(item))
            if param is not None:
                nodes = [card for card in self.row_of_card if card.node is not None and param in card.node.inputs]
                row = min((self.row_of_card[card] for card in nodes if card.lane == "forward"), default=None)
            elif isinstance(item, Box) and item.label is not None:
                row = self.row_of_label.get(item.label.partition("/")[0])
            if row is None:
                read = [self.placer.maker.get(value) for card in inside for value in card.reads]
                before = [found[card] for card in read if card is not None and card in found]
                beside = [self.row_of_card[card] for card in read if card is not None and card in self.row_of_card]
                row = min([max(beside, default=self.rows - 1), *before])
            rows.append(row)
            found.update(dict.fromkeys(inside, row))
        return rows

    def _group(self, root: Box, rows: list[int]) -> list[int]:
        """Items of one row that are linked become one group, which has a flow of its own inside."""
        row_of = {card: row for item, row in zip(root.items, rows, strict=True)
                  for card in ([item] if isinstance(item, Card) else item.cards())}
        item_of = {card: item for item in root.items for card in ([item] if isinstance(item, Card) else item.cards())}
        linked: set[int] = set()
        for card, row in row_of.items():
            for value in card.reads:
                maker = self.placer.maker.get(value)
                if maker in row_of and row_of[maker] == row and item_of[maker] is not item_of[card]:
                    linked.add(row)
        items: list[Card | Box] = []
        kept: list[int] = []
        groups: dict[int, Box] = {}
        for item, row in zip(root.items, rows, strict=True):
            if row not in linked:
                items.append(item)
                kept.append(row)
            elif row not in groups:
                groups[row] = Box(None, root.lane, [item])
                items.append(groups[row])
                kept.append(row)
            else:
                groups[row].items.append(item)
        root.items = items
        return kept

    def page(self) -> Page:
        page = Page()
        heights = [0.0] * self.rows
        for lane, (flow, _) in self.flows.items():
            for k, height in enumerate(flow.layer_heights):
                row = k if lane == "forward" else self.rows - 1 - k
                heights[row] = max(heights[row], height)
        tops: list[float] = []
        at = 0.0
        for height in heights:
            tops.append(at)
            at += height + ROW_GAP
        page.height = max(0.0, at - ROW_GAP)
        left = 0.0
        for lane in LANES:
            if lane not in self.flows:
                continue
            flow, links = self.flows[lane]
            count = len(flow.layer_heights)
            if lane == "forward":
                flow.stack(tops[:count], heights[:count])
            else:
                flow.stack([page.height - t - h for t, h in zip(tops, heights, strict=True)][::-1][:count], heights[::-1][:count])
            root = self.roots[lane]
            root.flow, root.size = flow, (flow.width, page.height)
            root.wires = self.placer.wires(root, flow, links)
            self._put(page, root, left, 0.0)
            page.lanes.append((lane, left, flow.width))
            left += flow.width + LANE_GAP
        page.width = max(0.0, left - LANE_GAP)
        self._across(page)
        return page

    def _put(self, page: Page, box: Box, left: float, top: float) -> None:
        """Note the contents of a box whose corner is at (left, top); side lanes are turned over."""
        flow = box.flow
        assert flow is not None, "a box is placed before it is put on the page"
        up = box.lane != "forward"
        for points, value, arrow in box.wires:
            turned = tuple((left + x, top + (box.size[1] - y if up else y)) for x, y in points)
            page.wires.append(Wire(turned, box.lane, value, arrow))
        for i, item in enumerate(box.items):
            width, height = item.size
            x, y = left + flow.x[i] - width / 2, flow.top(i)
            y = top + (box.size[1] - y - height if up else y)
            if isinstance(item, Card):
                page.cards.append((item, x, y))
            else:
                if item.label is not None:
                    page.boxes.append((item, x, y))
                self._put(page, item, x, y)

    def _across(self, page: Page) -> None:
        """Wires from lane to lane run from side to side."""
        at = {card: (x, y) for card, x, y in page.cards}
        for card, (x, y) in at.items():
            for value in card.reads:
                maker = self.placer.maker.get(value)
                if maker is None or maker.lane == card.lane:
                    continue
                from_x, from_y = at[maker]
                width, height = maker.size
                mine, my_height = card.size
                rightwards = LANES.index(maker.lane) < LANES.index(card.lane)
                start = (from_x + width if rightwards else from_x, from_y + height / 2)
                end = (x if rightwards else x + mine, y + my_height / 2)
                page.wires.append(Wire((start, end), maker.lane, value, True, across=True))
