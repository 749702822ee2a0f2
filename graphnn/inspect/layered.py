"""Layered drawings: where boxes and the links between them go, without any other program.

The method of Sugiyama, Tagawa and Toda (1981): each item lies in the layer after its last predecessor (longest path); links
over several layers bend at invisible points, one a layer, shared by links that carry the same key; the order within layers
comes from barycentres, the places along a layer from a least-squares fit that keeps the order (isotonic regression).
Layers lie on top of each other here; whoever draws may turn the picture over.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 12
_BEND = 8.0                         # the width kept free for a link that passes a layer


@dataclass(frozen=True)
class Link:
    """From one item to another. `leave` and `enter` are offsets from the items' centres; links of a key run together."""

    source: int
    target: int
    key: Hashable
    leave: float = 0.0
    enter: float = 0.0


@dataclass(frozen=True)
class _Piece:
    """A part of a link between neighbouring layers."""

    upper: int
    lower: int
    weight: float
    leave: float
    enter: float


class Layered:
    """The layout of items with `sizes` (width, height). `first` and `last` lie alone in the outermost layers.

    With `rows` given, they are the layers. `order` has further pairs of items of which the second lies later; with
    `keep_first` the items of the first layer stay in their order. Links that do not lead to a later layer are `against` the
    flow and have no bends.
    """

    def __init__(self, sizes: Sequence[tuple[float, float]], links: Sequence[Link], *, first: Sequence[int] = (),
                 last: Sequence[int] = (), rows: Sequence[int] | None = None, gap: float = 26.0, spacing: float = 22.0,
                 order: Sequence[tuple[int, int]] = (), keep_first: bool = False) -> None:
        self.widths = [width for width, _ in sizes]
        self.heights = [height for _, height in sizes]
        self.links, self.gap, self.spacing = links, gap, spacing
        self._count, self._keep_first = len(sizes), keep_first
        self.layer = list(rows) if rows is not None else self._longest_paths(set(first), set(last), order)
        self.against = {link for link in links if self.layer[link.source] >= self.layer[link.target]}
        self._bends: dict[tuple[int, Hashable], dict[int, int]] = {}
        self._pieces = self._cut()
        self.order = self._ordered()
        self.x = self._places()
        self.layer_heights = [max((self.heights[i] for i in items), default=0.0) for items in self.order]
        self.stack()

    # -------------------------------------------------------------------------------------------- layers

    def _longest_paths(self, first: set[int], last: set[int], order: Sequence[tuple[int, int]]) -> list[int]:
        after: list[list[int]] = [[] for _ in range(self._count)]
        before: list[set[int]] = [set() for _ in range(self._count)]
        for source, target in [*((link.source, link.target) for link in self.links), *order]:
            if source != target and source not in before[target]:
                after[source].append(target)
                before[target].add(source)
        layer = [0 if i in first else int(bool(first)) for i in range(self._count)]
        waits = [len(sources) for sources in before]
        done = [False] * self._count
        ready = [i for i in range(self._count) if not waits[i]][::-1]
        for _ in range(self._count):
            if not ready:                                # a circle: its first item goes before those it waits for
                ready = [next(i for i in range(self._count) if not done[i])]
            i = ready.pop()
            done[i] = True
            for j in after[i]:
                if not done[j]:
                    layer[j] = max(layer[j], layer[i] + 1)
                    waits[j] -= 1
                    if not waits[j]:
                        ready.append(j)
        for i in range(self._count - 1, -1, -1):         # what nothing leads to lies next to its first reader
            later = [layer[j] for j in after[i] if layer[j] > layer[i]]
            if i not in first and not before[i] and later:
                layer[i] = min(later) - 1
        bottom = max((layer[i] for i in range(self._count) if i not in last), default=-1) + 1
        return [bottom if i in last else layer[i] for i in range(self._count)]

    def _cut(self) -> list[_Piece]:
        """Pieces of links from layer to layer; makes the bends."""
        pieces: list[_Piece] = []
        for link in self.links:
            if link in self.against:
                continue
            start, end = self.layer[link.source], self.layer[link.target]
            bends = self._bends.setdefault((link.source, link.key), {})
            upper, leave = link.source, link.leave
            for layer in range(start + 1, end):
                if layer not in bends:
                    bends[layer] = len(self.widths)
                    self.widths.append(_BEND)
                    self.heights.append(0.0)
                    self.layer.append(layer)
                    pieces.append(_Piece(upper, bends[layer], 2.0 if upper < self._count else 6.0, leave, 0.0))
                upper, leave = bends[layer], 0.0
            pieces.append(_Piece(upper, link.target, 1.0 if upper < self._count else 2.0, leave, link.enter))
        return pieces

    # -------------------------------------------------------------------------------------------- order

    def _ordered(self) -> list[list[int]]:
        up: list[list[int]] = [[] for _ in self.widths]
        down: list[list[int]] = [[] for _ in self.widths]
        for piece in self._pieces:
            up[piece.lower].append(piece.upper)
            down[piece.upper].append(piece.lower)
        order: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        seen = [False] * len(self.widths)
        for root in sorted(range(len(self.widths)), key=lambda i: (self.layer[i], i)):
            stack = [root]
            while stack:                                 # depth first: what hangs together starts side by side
                i = stack.pop()
                if not seen[i]:
                    seen[i] = True
                    order[self.layer[i]].append(i)
                    stack.extend(reversed(down[i]))
        best, fewest = [list(items) for items in order], self._crossings(order)
        for sweep in range(_ORDER_SWEEPS):
            if not fewest:
                break
            downwards = sweep % 2 == 0
            for items in order if downwards else reversed(order):
                self._sort_by_barycentre(items, up if downwards else down, order)
            crossings = self._crossings(order)
            if crossings < fewest:
                best, fewest = [list(items) for items in order], crossings
        return best

    def _sort_by_barycentre(self, items: list[int], neighbours: list[list[int]], order: list[list[int]]) -> None:
        if not items or (self._keep_first and self.layer[items[0]] == 0):
            return
        place = {i: k for k, i in enumerate(items)}
        near = {self.layer[n] for i in items for n in neighbours[i]}
        at = {n: k for layer in near for k, n in enumerate(order[layer])}
        scale = len(items) / max(1, max((len(order[layer]) for layer in near), default=1))
        centre = {i: sum(at[n] for n in neighbours[i]) / len(neighbours[i]) if neighbours[i] else place[i] / scale for i in items}
        items.sort(key=lambda i: (centre[i], place[i]))

    def _crossings(self, order: list[list[int]]) -> int:
        at = {i: k for items in order for k, i in enumerate(items)}
        by_layer: list[list[tuple[int, int]]] = [[] for _ in order]
        for piece in self._pieces:
            by_layer[self.layer[piece.upper]].append((at[piece.upper], at[piece.lower]))
        total = 0
        for pairs in by_layer:
            passed: list[int] = []
            for _, lower in sorted(pairs):
                total += len(passed) - bisect_right(passed, lower)
                insort(passed, lower)
        return total

    # -------------------------------------------------------------------------------------------- places

    def _places(self) -> list[float]:
        x = [0.0] * len(self.widths)
        for items in self.order:
            at = 0.0
            for i in items:
                x[i] = at + self.widths[i] / 2
                at += self.widths[i] + self.spacing
            for i in items:
                x[i] -= at / 2
        above: list[list[_Piece]] = [[] for _ in x]
        below: list[list[_Piece]] = [[] for _ in x]
        for piece in self._pieces:
            above[piece.lower].append(piece)
            below[piece.upper].append(piece)
        for sweep in range(_PLACE_SWEEPS):
            both = sweep >= _PLACE_SWEEPS - 4
            downwards = sweep % 2 == 0
            for items in self.order if downwards else reversed(self.order):
                wanted: list[float] = []
                weights: list[float] = []
                for i in items:
                    pulls = [(x[p.upper] + p.leave - p.enter, p.weight) for p in above[i]] if both or downwards else []
                    pulls += [(x[p.lower] + p.enter - p.leave, p.weight) for p in below[i]] if both or not downwards else []
                    weight = sum(w for _, w in pulls)
                    wanted.append(sum(at * w for at, w in pulls) / weight if pulls else x[i])
                    weights.append(weight or 0.05)
                for i, at in zip(items, self._apart(items, wanted, weights), strict=True):
                    x[i] = at
        left = min((x[i] - self.widths[i] / 2 for i in range(len(x))), default=0.0)
        return [at - left for at in x]

    def _apart(self, items: Sequence[int], wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
        """Places nearest to those wanted (weighted least squares) that keep order and distance: pool adjacent violators."""
        offsets = [0.0]
        for a, b in pairwise(items):
            narrow = a >= self._count or b >= self._count
            offsets.append(offsets[-1] + (self.widths[a] + self.widths[b]) / 2 + (self.spacing / 2 if narrow else self.spacing))
        pools: list[tuple[float, float, int]] = []       # mean, weight, count
        for at, offset, weight in zip(wanted, offsets, weights, strict=False):
            mean, count = at - offset, 1
            while pools and pools[-1][0] > mean:
                other, its_weight, its_count = pools.pop()
                mean = (mean * weight + other * its_weight) / (weight + its_weight)
                weight, count = weight + its_weight, count + its_count
            pools.append((mean, weight, count))
        means = [mean for mean, _, count in pools for _ in range(count)]
        return [mean + offset for mean, offset in zip(means, offsets, strict=False)]

    @property
    def width(self) -> float:
        return max((self.x[i] + self.widths[i] / 2 for i in range(len(self.x))), default=0.0)

    # -------------------------------------------------------------------------------------------- heights and routes

    def stack(self, tops: Sequence[float] | None = None, heights: Sequence[float] | None = None) -> None:
        """Give each layer its top: one under the other, or as told."""
        if heights is not None:
            self.layer_heights = list(heights)
        if tops is None:
            tops = []
            at = 0.0
            for k, height in enumerate(self.layer_heights):
                tops.append(at)
                at += height + (self.gap if k + 1 < len(self.layer_heights) else 0.0)
        self.tops = list(tops)
        self.height = self.tops[-1] + self.layer_heights[-1] if self.tops else 0.0

    def top(self, item: int) -> float:
        """Where an item begins: it stands in the middle of its layer."""
        layer = self.layer[item]
        return self.tops[layer] + (self.layer_heights[layer] - self.heights[item]) / 2

    def route(self, link: Link) -> list[Point]:
        """The points a link passes, from the lower side of its source to the upper side of its target."""
        start, end = self.layer[link.source], self.layer[link.target]
        x, y = self.x[link.source] + link.leave, self.top(link.source) + self.heights[link.source]
        points = [(x, y)]
        if link not in self.against:
            points.append((x, self.tops[start] + self.layer_heights[start]))
            bends = self._bends[link.source, link.key]
            for layer in range(start + 1, end):
                at = self.x[bends[layer]]
                points += [(at, self.tops[layer]), (at, self.tops[layer] + self.layer_heights[layer])]
            points.append((self.x[link.target] + link.enter, self.tops[end]))
        points.append((self.x[link.target] + link.enter, self.top(link.target)))
        return [point for k, point in enumerate(points) if not k or point != points[k - 1]]
