"""draw: a graph as an SVG file, without any other program.

Cards are nodes, coloured by how they can be fused; boxes are layers; params, states and constants are chips in the cards that
read them. Hovering over a card shows its operands, attributes, cost and place in the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

from graphnn.errors import UnsupportedError
from graphnn.inspect.blocks import LABEL_SIZE, Box
from graphnn.inspect.cards import CHIP_GAP, CHIP_HEIGHT, CHIP_SIZE, LIST_SIZE, MINI_SIZE, NAME_SIZE, PAD, TYPE_SIZE, Card, clean
from graphnn.inspect.figures import bytes_text, count_text, total, try_flops
from graphnn.inspect.layered import Point
from graphnn.inspect.page import Page, Wire, arrange
from graphnn.ir.graph import Graph

# What stands in the legend: class, words, and its colours (fill, border, bar).
KINDS = {
    "contract": ("matmul, convolution", "#eef2ff", "#c7d2fe", "#4f46e5"),
    "epilogue": ("contraction with a tail", "#f5f0ff", "#ddd0fb", "#7c3aed"),
    "elementwise": ("elementwise", "#ecfdf5", "#a7e8cd", "#10a37f"),
    "fused": ("fused", "#ecfeff", "#a5e3ec", "#0891b2"),
    "reduce": ("reduction", "#fffbeb", "#f8dfa0", "#e69209"),
    "view": ("movement", "#f4f6f9", "#d5dce6", "#8695aa"),
    "opaque": ("other", "#fdf2f8", "#f6c9e0", "#d63384"),
}
LANE_WORDS = {"forward": "forward ↓", "backward": "backward ↑", "update": "update ↑"}
_STYLE = """
svg{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,"DejaVu Sans",sans-serif}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
text{fill:#1e293b}
.title{font-size:19px;font-weight:700;fill:#0f172a}.sub{font-size:12px;fill:#64748b}.legend{font-size:11px;fill:#475569}
.lane{font-size:12px;font-weight:600;letter-spacing:.08em;fill:#94a3b8}
.name{font-size:%(name)spx;font-weight:600}.type{font-size:%(type)spx;fill:#64748b}
.list{font-size:%(list)spx;fill:#475569}.chip{font-size:%(chip)spx;fill:#475569}
.mini{font-size:%(mini)spx;font-weight:600}
.label{font-size:%(label)spx;font-weight:600;fill:#475569;stroke:#f8fafc;stroke-width:4;stroke-linejoin:round;paint-order:stroke}
.label.backward{stroke:#fff8f4}.label.update{stroke:#f6faf3}
.card{stroke-width:1}g:hover>.card{stroke-width:2}
.box{fill:#f8fafc;stroke:#dbe3ec}.box.backward{fill:#fff8f4;stroke:#f6dccb}.box.update{fill:#f6faf3;stroke:#d6e6cb}
.c-param rect{fill:#fff;stroke:#c3cede}.c-state rect{fill:#fff;stroke:#c3cede;stroke-dasharray:2 2}
.c-constant rect{fill:#0f172a0d;stroke:none}.c-update rect{fill:#e2f3d8;stroke:#a9d193}.c-update text{fill:#3f6212}
.input rect{fill:#1e293b}.input .name{fill:#fff}.input .type{fill:#cbd5e1}
.output rect{fill:#fff;stroke:#1e293b;stroke-width:1.6}
.wire{fill:none;stroke-width:1.5;stroke:#7b8ca3}.wire.backward{stroke:#e07a4f}.wire.update{stroke:#79a85b}
.across{stroke-width:1;stroke-dasharray:4 3;opacity:.55}
"""
_EDGE = 28.0                                             # margin of the page
_HEAD = 106.0                                            # title and legend


def svg(graph: Graph) -> str:
    """The drawing as SVG text. Every node is in it: op, type, parameters, and for fused ones the ops inside."""
    page = arrange(graph)
    lanes = len(page.lanes) > 1
    kinds = {card.kind for card, _, _ in page.cards}
    legend = _legend([kind for kind in KINDS if kind in kinds])
    width = max(page.width + 2 * _EDGE, legend[1] + 2 * _EDGE, 420.0)
    top = _HEAD + (30.0 if lanes else 0.0)
    height = page.height + top + _EDGE
    shift = (width - page.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" '
        f'height="{_n(height)}" role="img">', f"<title>{escape(clean(graph.name))}</title>",
        f"<style>{_style()}</style>", _markers(),
        f'<rect width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>',
        f'<text class="title" x="{_n(_EDGE)}" y="36">{escape(clean(graph.name))}</text>',
        f'<text class="sub" x="{_n(_EDGE)}" y="56">{escape(_subtitle(graph))}</text>', legend[0],
        f'<g transform="translate({_n(shift)} {_n(top)})">',
    ]
    if lanes:
        parts += [f'<text class="lane" x="{_n(left + w / 2)}" y="-14" text-anchor="middle">{LANE_WORDS[lane].upper()}</text>'
                  for lane, left, w in page.lanes]
    parts += [_box(box, x, y) for box, x, y in page.boxes]
    parts += _wires(page)
    parts += [_label(box, x, y) for box, x, y in page.boxes]
    parts += [_card(card, x, y) for card, x, y in page.cards]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def draw(graph: Graph, path: str | Path) -> None:
    """Write the drawing of a graph to an SVG file. Raises UnsupportedError for the name of a file of another kind."""
    if Path(path).suffix.lower() not in (".svg", ""):
        raise UnsupportedError(f"drawings are SVG; {path} names a file of another kind", hint="give it the ending .svg")
    Path(path).write_text(svg(graph), encoding="utf-8")


def _style() -> str:
    sizes = {"name": NAME_SIZE, "type": TYPE_SIZE, "list": LIST_SIZE, "chip": CHIP_SIZE, "mini": MINI_SIZE, "label": LABEL_SIZE}
    text = _STYLE % {key: _n(size) for key, size in sizes.items()}
    return text + "\n".join(f".{kind} .card{{fill:{fill};stroke:{border}}}.{kind} .bar{{fill:{bar}}}"
                            for kind, (_, fill, border, bar) in KINDS.items()) + "\n"


def _markers() -> str:
    heads = "".join(
        f'<marker id="to-{lane}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 .8 7.2 4 0 7.2z" fill="{colour}"/></marker>'
        for lane, colour in (("forward", "#7b8ca3"), ("backward", "#e07a4f"), ("update", "#79a85b")))
    return f"<defs>{heads}</defs>"


def _subtitle(graph: Graph) -> str:
    params = graph.by_role("param")
    flops = [found for node in graph.nodes if (found := try_flops(node)) is not None]
    parts = [f"{len(graph.nodes)} nodes"]
    if params:
        count, nbytes = total(v.type.elements for v in params), total(v.type.nbytes for v in params)
        parts.append(f"{count_text(count)} parameters ({bytes_text(nbytes)})")
    if len(flops) == len(graph.nodes):
        parts.append(f"{count_text(total(flops))} FLOP")
    return "   ·   ".join(parts)


def _legend(kinds: Sequence[str]) -> tuple[str, float]:
    """The legend and its width."""
    at = 0.0
    parts: list[str] = []
    for kind in kinds:
        words = KINDS[kind][0]
        parts.append(f'<g class="{kind}"><rect class="bar" x="{_n(_EDGE + at)}" y="68" width="9" height="9" rx="2.5"/>'
                     f'<text class="legend" x="{_n(_EDGE + at + 14)}" y="76.5">{words}</text></g>')
        at += 14 + len(words) * 6.6 + 16
    return "".join(parts), at


def _box(box: Box, x: float, y: float) -> str:
    width, height = box.size
    return (f'<rect class="box {box.lane}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="10"/>')


def _label(box: Box, x: float, y: float) -> str:
    """The name of a box, above the wires, which shows through where a wire comes in."""
    return (f'<text class="label {box.lane}" x="{_n(x + 12)}" y="{_n(y + 19)}">{escape(clean(box.label or ""))}</text>')


# ------------------------------------------------------------------------------------------------ cards

def _card(card: Card, x: float, y: float) -> str:
    width, height = card.size
    head = f'<g class="{card.kind}" transform="translate({_n(x)} {_n(y)})"><title>{escape(card.tip)}</title>'
    if card.pill:
        return (f'{head}<rect width="{_n(width)}" height="{_n(height)}" rx="{_n(height / 2)}"/>'
                f'<text x="{_n(width / 2)}" y="18.5" text-anchor="middle"><tspan class="name">{escape(card.name)}</tspan>'
                f'<tspan class="type mono" dx="9">{escape(card.type_text)}</tspan></text></g>')
    if card.mini:
        chip = f'<tspan class="chip mono" dx="5">{escape(card.mini_chip)}</tspan>' if card.mini_chip else ""
        return (f'{head}<rect class="card" width="{_n(width)}" height="{_n(height)}" rx="5"/>'
                f'<rect class="bar" x="0" y="0" width="3.5" height="{_n(height)}" rx="1.75"/>'
                f'<text x="{_n(width / 2 + 1.5)}" y="13" text-anchor="middle"><tspan class="mini">{escape(card.name)}</tspan>'
                f"{chip}</text></g>")
    parts = [head, f'<rect class="card" width="{_n(width)}" height="{_n(height)}" rx="7"/>',
             f'<path class="bar" d="M7 0H5A5 7 0 0 0 0 7V{_n(height - 7)}A5 7 0 0 0 5 {_n(height)}H5V0z"/>',
             f'<text class="name" x="{_n(PAD)}" y="17.5">{escape(card.name)}</text>',
             f'<text class="type mono" x="{_n(PAD)}" y="32">{escape(card.type_text)}</text>']
    at = 40.0
    if card.inside:
        parts += [f'<text class="list" x="{_n(PAD)}" y="{_n(at + 13 * k + 9)}">{escape(line)}</text>'
                  for k, line in enumerate(card.inside)]
        at += 13.0 * len(card.inside) + 4.0
    for row in card.chip_rows:
        left = PAD
        for chip in row:
            parts.append(f'<g class="c-{chip.kind}"><rect x="{_n(left)}" y="{_n(at)}" width="{_n(chip.width)}" '
                         f'height="{_n(CHIP_HEIGHT)}" rx="4"/><text class="chip mono" x="{_n(left + 6)}" y="{_n(at + 11.4)}">'
                         f"{escape(chip.text)}</text></g>")
            left += chip.width + CHIP_GAP
        at += CHIP_HEIGHT + CHIP_GAP
    return "".join([*parts, "</g>"])


# ------------------------------------------------------------------------------------------------ wires

def _wires(page: Page) -> list[str]:
    """One path for each wire; those across lanes first, under the others."""
    parts: list[str] = []
    for wire in sorted(page.wires, key=lambda wire: not wire.across):
        path = _sideways(wire) if wire.across else _downwards(wire.points)
        marker = f' marker-end="url(#to-{wire.lane})"' if wire.arrow else ""
        parts.append(f'<path class="wire {wire.lane}{" across" if wire.across else ""}" d="{path}"{marker}/>')
    return parts


def _downwards(points: Sequence[Point]) -> str:
    """A curve through the points, upright at each of them."""
    x, y = points[0]
    parts = [f"M{_n(x)} {_n(y)}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 == x1:
            parts.append(f"V{_n(y1)}")
            continue
        bend = (y1 - y0) / 2
        parts.append(f"C{_n(x0)} {_n(y0 + bend)} {_n(x1)} {_n(y1 - bend)} {_n(x1)} {_n(y1)}")
    return "".join(parts)


def _sideways(wire: Wire) -> str:
    """A curve between lanes, level at both ends."""
    (x0, y0), (x1, y1) = wire.points
    bend = (x1 - x0) / 2
    return f"M{_n(x0)} {_n(y0)}C{_n(x0 + bend)} {_n(y0)} {_n(x1 - bend)} {_n(y1)} {_n(x1)} {_n(y1)}"


def _n(number: float) -> str:
    """A number of the drawing, to a tenth."""
    return f"{number:.1f}".removesuffix(".0")
