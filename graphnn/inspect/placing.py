"""The contents of boxes in their places: inner boxes first, wires from card to card by way of ports in the frames."""

from __future__ import annotations

from collections.abc import Sequence

from graphnn.inspect.blocks import LABEL_SIZE, MARGIN, WIRE_ROOM, Box
from graphnn.inspect.cards import Card
from graphnn.inspect.layered import Layered, Link, Point
from graphnn.ir.graph import Value

_LABEL_WIDTH = 0.64


class Placer:
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
        flow, links, incoming, outgoing = self.flow(box, gap=24.0, order=box.order)
        box.flow = flow
        side, begin, end = box.pads
        begin = max(begin, WIRE_ROOM) if incoming else begin
        end = max(end, WIRE_ROOM) if outgoing else end
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
