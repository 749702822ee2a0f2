"""draw: a graph as an SVG file, without any other program."""

from __future__ import annotations

from html import escape
from pathlib import Path

from graphnn.ir.graph import Graph, Value


def svg(graph: Graph) -> str:
    """The drawing as SVG text: nodes in order of execution, with arcs from where values are made to where they are read."""
    place: dict[Value, int] = {value: i for i, value in enumerate(graph.inputs)}
    labels = [f"{value.name} : {value.type}" for value in graph.inputs]
    arcs: list[tuple[int, int]] = []
    for node in graph.nodes:
        arcs += [(place[value], len(labels)) for value in node.inputs]
        place.update(dict.fromkeys(node.outputs, len(labels)))
        labels.append(f"{node.op.name} : {', '.join(map(str, node.types))}  {node.loc.scope}")
    height = 24 * len(labels) + 20
    lines = [f'<text x="120" y="{24 * i + 24}">{escape(label)}</text>' for i, label in enumerate(labels)]
    lines += [f'<path d="M110 {24 * a + 20} Q{110 - min(100, 12 * (b - a))} {12 * (a + b) + 20} 110 {24 * b + 20}" '
              f'fill="none" stroke="#789"/>' for a, b in arcs]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}" font-family="monospace" font-size="13">'
            + "".join(lines) + "</svg>")


def draw(graph: Graph, path: str | Path) -> None:
    """Write the drawing of a graph to an SVG file."""
    Path(path).write_text(svg(graph), encoding="utf-8")
