"""summary: a graph as a table of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphnn.inspect.figures import bytes_text, count_text, layer_of, node_flops, total
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.ops.inputs import Constant

NO_LAYER = "(no layer)"
_SHOWN_OPS = 3
_SHOWN_OUTPUTS = 2


@dataclass
class LayerRow:
    """What a layer is made of, in one graph."""

    name: str
    nodes: list[Node] = field(default_factory=list)          # of the forward part
    backward: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)       # what the rest of the graph reads, or its caller
    updates: int = 0                                         # how many next values of params and states it makes
    params: list[Value] = field(default_factory=list)
    states: list[Value] = field(default_factory=list)

    @property
    def flops(self) -> Size:
        return total(node_flops(node) for node in self.nodes)

    @property
    def backward_flops(self) -> Size:
        return total(node_flops(node) for node in self.backward)

    @property
    def param_count(self) -> Size:
        return total(value.type.elements for value in self.params)

    @property
    def param_bytes(self) -> Size:
        return total(value.type.nbytes for value in self.params)

    @property
    def ops(self) -> list[str]:
        """The names of the ops, each once, in order of appearance."""
        return list(dict.fromkeys(node.op.name for node in self.nodes if not isinstance(node.op, Constant)))


def layers(graph: Graph) -> list[LayerRow]:
    """The layers of a graph, in the order in which they finish. A node belongs to the layer of its `Loc.scope`."""
    rows: dict[str, LayerRow] = {}

    def row(name: str) -> LayerRow:
        return rows.setdefault(name, LayerRow(name))

    for node in graph.nodes:
        mine = row(layer_of(node))
        (mine.backward if node.loc.backward else mine.nodes).append(node)
    for value in graph.inputs:
        if role_of(value) == "param":
            row(layer_of(value)).params.append(value)
        elif role_of(value) == "state":
            row(layer_of(value)).states.append(value)
    outputs, new = set(graph.outputs), {value for _, value in graph.updates}
    for layer in rows.values():
        own = set(layer.nodes)
        for value in (value for node in layer.nodes if not isinstance(node.op, Constant) for value in node.outputs):
            readers = {use.node for use in graph.uses.get(value, ())}
            layer.updates += value in new
            if value in outputs or any(reader not in own and not reader.loc.backward for reader in readers):
                layer.outputs.append(value)
    last = {layer_of(node): i for i, node in enumerate(graph.nodes) if not node.loc.backward}
    return sorted((layer for layer in rows.values() if not _only_constants(layer)), key=lambda layer: last.get(layer.name, -1))


def _only_constants(layer: LayerRow) -> bool:
    made = [*layer.nodes, *layer.backward]
    return not layer.params and not layer.states and all(isinstance(node.op, Constant) for node in made)


def summary(graph: Graph) -> str:
    """The table of a graph's layers as text: ops, output type, parameters, bytes, FLOPs, and totals.

    FLOPs keep symbolic sizes: 1.81M*N is 1.81 million for each example. Bytes are those of the parameters.
    """
    found = layers(graph)
    backward = any(layer.backward for layer in found)
    header = ["layer", "made of", "output", "parameters", "bytes", "FLOPs"] + (["backward FLOPs"] if backward else [])
    table: list[list[str]] = [
        [value.name, "input", str(value.type), "", "", ""] + [""] * backward for value in graph.by_role("input")
    ]
    for layer in found:
        cells = [layer.name or NO_LAYER, _shortened(layer.ops), _outputs(layer), _nonzero(layer.param_count),
                 bytes_text(layer.param_bytes) if layer.params else "", _nonzero_count(layer.flops)]
        table.append(cells + ([_nonzero_count(layer.backward_flops)] if backward else []))
    flops, back = total(layer.flops for layer in found), total(layer.backward_flops for layer in found)
    count, nbytes = total(layer.param_count for layer in found), total(layer.param_bytes for layer in found)
    sums = ["total", f"{len(graph.nodes)} nodes", "", _thousands(count), bytes_text(nbytes), count_text(flops)]
    lines = aligned([header, *table, sums + ([count_text(back)] if backward else [])], right=frozenset(range(3, len(header))))
    rule = "-" * max(map(len, lines))
    states = graph.by_role("state")
    arrays = "1 array" if len(states) == 1 else f"{len(states)} arrays"
    tail = [f"states: {bytes_text(total(value.type.nbytes for value in states))} in {arrays}"] if states else []
    return "\n".join([f"graph {graph.name}", lines[0], rule, *lines[1:-1], rule, lines[-1], *tail])


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as lines with their columns under each other; those of `right` end together."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) if i in right else cell.ljust(width)
                      for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_OPS
    return ", ".join(names[:_SHOWN_OPS]) + (f" +{more}" if more > 0 else "")


def _outputs(layer: LayerRow) -> str:
    texts = [str(value.type) for value in layer.outputs]
    if not texts:
        return f"{layer.updates} new values" if layer.updates else ""
    if len(texts) > _SHOWN_OUTPUTS:
        return f"{texts[0]} and {len(texts) - 1} more"
    return ", ".join(texts)


def _thousands(count: Size) -> str:
    return f"{count:,}" if isinstance(count, int) else str(count)


def _nonzero(count: Size) -> str:
    return _thousands(count) if count != 0 else ""


def _nonzero_count(size: Size) -> str:
    return count_text(size) if size != 0 else ""
