"""A graph on a page: every node a card, every layer a box, all with their places.

The forward lane flows down, the others up, and each layer's gradient and update stand in the row of the layer itself. So
a training step reads like a map: right of a layer is its derivative, right of that what becomes of its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphnn.inspect.blocks import LANES, Box, boxes_by_layer, boxes_by_param, lane_of
from graphnn.inspect.cards import Card, constants_alone, input_card, is_chip, node_card, output_card
from graphnn.inspect.figures import layer_of
from graphnn.inspect.layered import Layered, Link, Point
from graphnn.inspect.placing import Placer
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import Constant

_Pair = tuple[Card, Card, Value]                         # a value with the card that makes it and one that reads it
ROW_GAP, LANE_GAP = 34.0, 90.0
_BESIDE = 3                                              # boxes of updates in one row


@dataclass(frozen=True)
class Wire:
    """A link as a drawing shows it: points from the source to the target. `across` leads from lane to lane."""

    points: tuple[Point, ...]
    lane: str
    value: Value
    arrow: bool
    across: bool = False


@dataclass
class Page:
    """Everything with its place: what the drawing writes down."""

    width: float = 0.0
    height: float = 0.0
    lanes: list[tuple[str, float, float]] = field(default_factory=list)          # name, left, width
    boxes: list[tuple[Box, float, float]] = field(default_factory=list)          # outer ones first
    cards: list[tuple[Card, float, float]] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)


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
    placer = Placer(everything)

    tops: dict[str, list[Card | Box]] = {}
    for lane in LANES[:2]:
        mine = [("", card) for card in inputs if lane == "forward"]
        mine += [(layer_of(node), card) for node, card in cards.items() if card.lane == lane]
        mine += [("", card) for card in outputs if card.lane == lane]
        tops[lane] = boxes_by_layer(mine, lane, nested=all(card.lane == "forward" for card in everything))
    updates = boxes_by_param(graph, [card for card in cards.values() if card.lane == "update"])
    tops["update"] = [box for _, box in updates]
    tops["update"] += [card for card in outputs if card.lane == "update"]
    return _Rows(placer, tops, {id(box): param for param, box in updates}).page()


class _Rows:
    """The lanes beside each other, their rows on the same heights."""

    def __init__(self, placer: Placer, tops: dict[str, list[Card | Box]], params: Mapping[int, Value | None]) -> None:
        self.placer = placer
        self.roots = {lane: Box(None, lane, items) for lane, items in tops.items() if items}
        self.row_of_card: dict[Card, int] = {}
        self.rows_of_label: dict[str, list[int]] = {}    # of the boxes of the forward lane, downwards
        self.flows: dict[str, tuple[Layered, list[Link]]] = {}
        forward = self.roots.setdefault("forward", Box(None, "forward"))
        flow = self._flow(forward, None)
        self.rows = max(1, len(flow.order))
        self._note_rows(forward, flow.layer)
        for item, row in sorted(zip(forward.items, flow.layer, strict=False), key=lambda pair: pair[1]):
            if isinstance(item, Box) and item.label is not None:
                self.rows_of_label.setdefault(item.label, []).append(row)
        for lane in LANES[1:]:
            if lane in self.roots:
                root = self.roots[lane]
                rows = self._rows_of(root, params)
                rows = self._group(root, rows)
                if lane == "update":
                    rows = self._wrap(root, rows)
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

    def _rows_of(self, root: Box, params: Mapping[int, Value | None]) -> list[int]:
        """The row of each item of a side lane: that of its layer, of the layer its param belongs to, or of what it reads."""
        rows: list[int] = []
        found: dict[Card, int] = {}
        beside_of = {label: list(rows) for label, rows in self.rows_of_label.items()}
        for item in root.items:
            inside = [item] if isinstance(item, Card) else item.cards()
            row = None
            param = params.get(id(item))
            if param is not None:
                nodes = [card for card in self.row_of_card if card.node is not None and param in card.node.inputs]
                row = min((self.row_of_card[card] for card in nodes if card.lane == "forward"), default=None)
            elif isinstance(item, Box) and item.label is not None:
                # The gradient of a layer in pieces begins with the last of them.
                free = beside_of.get(item.label, [])
                row = free.pop() if len(free) > 1 else free[0] if free else None
            if row is None:
                read = [self.placer.maker.get(value) for card in inside for value in card.reads]
                before = [found[card] for card in read if card is not None and card in found]
                beside = [self.row_of_card[card] for card in read if card is not None and card in self.row_of_card]
                row = min([max(beside, default=self.rows - 1), *before])
            rows.append(row)
            found.update(dict.fromkeys(inside, row))
        return rows

    def _wrap(self, root: Box, rows: list[int]) -> list[int]:
        """Many items of one row that are not linked stand a few beside each other, the next ones behind."""
        items: list[Card | Box] = []
        kept: list[int] = []
        for row in dict.fromkeys(rows):
            mine = [item for item, its_row in zip(root.items, rows, strict=True) if its_row == row]
            if len(mine) > _BESIDE:
                mine = [Box(None, root.lane, mine, order=[(i, i + _BESIDE) for i in range(len(mine) - _BESIDE)])]
            items += mine
            kept += [row] * len(mine)
        root.items = items
        return kept

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
        """Wires from lane to lane run from side to side; those that share a side are spread over it."""
        at = {card: (x, y) for card, x, y in page.cards}
        pairs = [(maker, card, value) for card in at for value in card.reads
                 if (maker := self.placer.maker.get(value)) is not None and maker.lane != card.lane]
        rightwards = {pair: LANES.index(pair[0].lane) < LANES.index(pair[1].lane) for pair in pairs}
        starts = self._spread([(pair, pair[0], pair[1], rightwards[pair]) for pair in pairs], at)
        ends = self._spread([(pair, pair[1], pair[0], not rightwards[pair]) for pair in pairs], at)
        for pair in pairs:
            page.wires.append(Wire((starts[pair], ends[pair]), pair[0].lane, pair[2], True, across=True))

    @staticmethod
    def _spread(ends: Sequence[tuple[_Pair, Card, Card, bool]], at: Mapping[Card, Point]) -> dict[_Pair, Point]:
        """Where wires touch a card: on its right side or its left, in the order of the heights of the other cards."""
        sides: dict[tuple[Card, bool], list[tuple[float, int, _Pair]]] = {}
        for k, (pair, card, other, right) in enumerate(ends):
            sides.setdefault((card, right), []).append((at[other][1] + other.size[1] / 2, k, pair))
        found: dict[_Pair, Point] = {}
        for (card, right), wires in sides.items():
            (x, y), (width, height) = at[card], card.size
            step = min(7.0, 0.7 * height / len(wires))
            for k, (_, _, pair) in enumerate(sorted(wires, key=lambda wire: wire[:2])):
                found[pair] = (x + width if right else x, y + height / 2 + (k - (len(wires) - 1) / 2) * step)
        return found
