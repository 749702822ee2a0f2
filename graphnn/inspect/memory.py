"""memory_svg: the buffers of a plan, bytes against time, as a picture.

Each rectangle is a piece of the arena: as wide as it is alive, as high as it has bytes, standing at its offset. So no two
rectangles overlap; what is white is room that nobody needs then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Protocol

from graphnn.inspect.blocks import lane_of
from graphnn.inspect.cards import MONO, SANS, clean
from graphnn.inspect.figures import bytes_text, layer_of
from graphnn.ir.graph import Graph, Node, Value


class Buffer(Protocol):
    """What is drawn of a buffer: its values in turn, alive from node `start` to node `end`."""

    values: list[Value]
    start: int
    end: int


class Lifetimes(Protocol):
    """What is drawn of lifetimes."""

    @property
    def graph(self) -> Graph: ...
    @property
    def buffers(self) -> Sequence[Any]: ...


class BufferPlan(Protocol):
    """What is drawn of a `graphnn.passes.plan_buffers.BufferPlan`."""

    @property
    def life(self) -> Lifetimes: ...
    @property
    def slots(self) -> Mapping[Value, Any]: ...
    @property
    def nbytes(self) -> Mapping[Value, int]: ...
    @property
    def arena(self) -> int: ...
    @property
    def lower_bound(self) -> int: ...


COLOURS = {"forward": ("#c7d2fe", "#4f46e5"), "backward": ("#fed0b8", "#d9622b"), "update": ("#cfe8bd", "#5b8c3a")}
_LEFT, _TOP, _HEIGHT, _BAND = 86.0, 92.0, 420.0, 20.0
_STYLE = """
svg{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,"DejaVu Sans",sans-serif}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
text{fill:#475569;font-size:11px}.title{font-size:19px;font-weight:700;fill:#0f172a}.sub{font-size:12px;fill:#64748b}
.type{font-size:10px;fill:#1e293b}.who{font-size:9.5px;fill:#475569}.grid{stroke:#e8edf3}.axis{stroke:#94a3b8}
.bound{stroke:#0f172a;stroke-dasharray:5 4}.live{fill:none;stroke:#0f172a;stroke-width:1.4;opacity:.75}
.buffer rect{stroke-width:1}.buffer:hover rect{stroke-width:2.5}
.band{stroke:#fff;stroke-width:1}.bandname{font-size:10px;fill:#334155}
"""


def memory_svg(plan: BufferPlan) -> str:
    """The chart of a buffer plan as SVG text: `memory_svg(executable.plan.buffers)`.

    The line that climbs and falls is the memory alive at each node; the dashed one its peak, below which no plan can
    stay. Under the chart stand the layers of the nodes.
    """
    return _Chart(plan).text()


class _Chart:
    def __init__(self, plan: BufferPlan) -> None:
        self.plan, self.graph = plan, plan.life.graph
        self.lanes = lane_of(self.graph)
        self.buffers: list[Buffer] = [buffer for buffer in plan.life.buffers if plan.nbytes[buffer.values[0]]]
        self.steps = len(self.graph.nodes) + 2           # a step before the first node, and one for copies at the end
        self.step = max(6.0, min(46.0, 1100.0 / self.steps))
        self.width = self.steps * self.step
        self.scale = _HEIGHT / max(plan.arena, plan.lower_bound, 1)

    def x(self, step: float) -> float:
        return _LEFT + (step + 1) * self.step

    def y(self, nbytes: float) -> float:
        return _TOP + _HEIGHT - nbytes * self.scale

    def text(self) -> str:
        width, height = max(_LEFT + self.width + 30, 560.0), _TOP + _HEIGHT + _BAND + 62
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img">', f"<title>memory of {escape(clean(self.graph.name))}</title>",
            f"<style>{_STYLE}</style>", f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
            f'<text class="title" x="28" y="36">memory of {escape(clean(self.graph.name))}</text>',
            f'<text class="sub" x="28" y="56">{escape(self.figures())}</text>', *self.legend(), *self.grid(),
            *(self.rectangle(buffer) for buffer in self.buffers), self.live(), *self.layers(), "</svg>", "",
        ]
        return "\n".join(part for part in parts if part is not None)

    def figures(self) -> str:
        alone = sum(self.plan.nbytes[buffer.values[0]] * len(buffer.values) for buffer in self.buffers)
        parts = [f"arena {bytes_text(self.plan.arena)}", f"lower bound {bytes_text(self.plan.lower_bound)}"]
        if self.plan.lower_bound:
            parts.append(f"{self.plan.arena / self.plan.lower_bound:.3f} of it")
        if self.plan.arena:
            parts.append(f"{bytes_text(alone)} without reuse ({alone / self.plan.arena:.1f} times as much)")
        return "   ·   ".join(parts)

    def legend(self) -> list[str]:
        found = [lane for lane in COLOURS if lane in self.lanes.values()]
        parts: list[str] = []
        at = 28.0
        for lane in found if len(found) > 1 else []:
            fill, line = COLOURS[lane]
            parts.append(f'<rect x="{at:.1f}" y="67" width="10" height="10" rx="2" fill="{fill}" stroke="{line}"/>'
                         f'<text x="{at + 15:.1f}" y="76">{lane}</text>')
            at += 15 + len(lane) * 11 * SANS + 18
        return parts

    def grid(self) -> list[str]:
        parts: list[str] = []
        for nbytes in _ticks(self.plan.arena):
            y = self.y(nbytes)
            parts.append(f'<path class="grid" d="M{_LEFT:.1f} {y:.1f}h{self.width:.1f}"/>'
                         f'<text x="{_LEFT - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{bytes_text(nbytes)}</text>')
        parts.append(f'<path class="axis" d="M{_LEFT:.1f} {self.y(0):.1f}h{self.width:.1f}"/>')
        return parts

    def rectangle(self, buffer: Buffer) -> str:
        value = buffer.values[0]
        nbytes, offset = self.plan.nbytes[value], self.plan.slots[value].offset
        fill, line = COLOURS[self.lanes.get(value.node, "forward")]
        x, width = self.x(buffer.start), (buffer.end - buffer.start + 1) * self.step
        y, height = self.y(offset + nbytes), nbytes * self.scale
        lines = [f"{v.type} of {v.node.op.name} {layer_of(v)}".rstrip() for v in buffer.values]
        tip = "\n".join([f"{bytes_text(nbytes)} at {offset}, nodes {buffer.start} to {buffer.end}", *lines])
        parts = [f'<g class="buffer"><title>{escape(clean_lines(tip))}</title>'
                 f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0.6):.1f}" fill="{fill}" '
                 f'stroke="{line}" rx="{min(3.0, height / 2):.1f}"/>']
        label, who = str(value.type), clean(f"{value.node.op.name} {layer_of(value)}".rstrip())
        if height >= 13 and width >= len(label) * 10 * MONO + 10:
            both = height >= 27 and width >= len(who) * 9.5 * SANS + 10
            middle = y + height / 2 + (-2.5 if both else 3.5)
            parts.append(f'<text class="type mono" x="{x + width / 2:.1f}" y="{middle:.1f}" text-anchor="middle">{label}</text>')
            if both:
                parts.append(f'<text class="who" x="{x + width / 2:.1f}" y="{middle + 12.5:.1f}" text-anchor="middle">'
                             f"{escape(who)}</text>")
        return "".join([*parts, "</g>"])

    def live(self) -> str:
        """The steps of memory alive, and the dashed line of its peak."""
        change = [0] * (self.steps + 1)
        for buffer in self.buffers:
            nbytes = self.plan.nbytes[buffer.values[0]]
            change[buffer.start + 1] += nbytes
            change[min(buffer.end + 2, self.steps)] -= nbytes
        alive, path = 0, f"M{_LEFT:.1f} {self.y(0):.1f}"
        for step in range(self.steps):
            alive += change[step]
            path += f"V{self.y(alive):.1f}h{self.step:.2f}"
        y = self.y(self.plan.lower_bound)
        return f'<path class="bound" d="M{_LEFT:.1f} {y:.1f}h{self.width:.1f}"/><path class="live" d="{path}"/>'

    def layers(self) -> list[str]:
        """A band with the layer of each node."""
        parts: list[str] = []
        top = _TOP + _HEIGHT + 8
        nodes = self.graph.nodes
        keys = [(layer_of(node), self.lanes[node]) for node in nodes]
        starts = [i for i in range(len(nodes)) if not i or keys[i] != keys[i - 1]]
        for start, end in pairwise([*starts, len(nodes)]):
            layer, lane = keys[start]
            width = (end - start) * self.step
            parts.append(f'<g><title>{escape(self.span(nodes[start:end], layer, lane))}</title><rect class="band" '
                         f'x="{self.x(start):.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BAND:.1f}" rx="3" '
                         f'fill="{COLOURS[lane][0]}"/>')
            if layer and width >= len(layer) * 10 * SANS + 6:
                parts.append(f'<text class="bandname" x="{self.x(start) + width / 2:.1f}" y="{top + 13.5:.1f}" '
                             f'text-anchor="middle">{escape(clean(layer))}</text>')
            parts.append("</g>")
        words = f"time: {len(nodes)} nodes in the order of execution"
        parts.append(f'<text x="{_LEFT:.1f}" y="{top + _BAND + 18:.1f}">{words}</text>')
        return parts

    @staticmethod
    def span(nodes: Sequence[Node], layer: str, lane: str) -> str:
        return clean_lines(f"{layer or 'no layer'} ({lane})\n{', '.join(node.op.name for node in nodes)}")


def clean_lines(text: str) -> str:
    """`text` without characters that XML cannot hold, its line ends kept."""
    return "\n".join(clean(line) for line in text.split("\n"))


def _ticks(arena: int) -> list[int]:
    """Round numbers of bytes from 0 to the arena's size: four to eight of them."""
    step = 64
    while arena / step > 8:
        step *= 2
    return list(range(0, arena + 1, step))
