"""Profile: where the time of one run went, by node and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphnn.inspect.figures import body_names, bound, bytes_text, layer_of, node_bytes, node_flops, rate_text, time_text
from graphnn.inspect.summary import NO_LAYER, aligned
from graphnn.ir.graph import Graph, Node

COPIES = "copies of results"
_SHOWN_OPS = 3


@dataclass(frozen=True)
class Line:
    """One node of a profile. A node of several rows has the sum of their times."""

    name: str
    layer: str
    backward: bool
    types: str
    place: str
    inside: tuple[str, ...]                              # the ops of a fused body
    nanoseconds: float
    flops: int
    nbytes: int

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations a second."""
        return self.flops / self.nanoseconds if self.nanoseconds else 0.0

    @property
    def gigabytes(self) -> float:
        """10^9 bytes read and written a second, each operand counted once."""
        return self.nbytes / self.nanoseconds if self.nanoseconds else 0.0

    @property
    def label(self) -> str:
        """The op's name; for a fused one, how it begins: fused mul, add, tanh +4."""
        more = len(self.inside) - _SHOWN_OPS
        return f"{self.name} {', '.join(self.inside[:_SHOWN_OPS])}".rstrip() + (f" +{more}" if more > 0 else "")

    @property
    def full_layer(self) -> str:
        return f"{self.layer} (backward)".strip() if self.backward else self.layer


@dataclass(frozen=True)
class Profile:
    """Times of the nodes of one run, in order. `print(profile)` is a table, `save("profile.html")` a page."""

    name: str
    lines: tuple[Line, ...]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, graph: Graph, row_nodes: Sequence[Node | None], nanoseconds: Sequence[float] | np.ndarray,
           sizes: Mapping[str, int]) -> Profile:
        """The profile of a run: `row_nodes` says of which node each timed row is, None for a copy of a result."""
        times: dict[Node | None, float] = {}
        for node, spent in zip(row_nodes, nanoseconds, strict=True):
            times[node] = times.get(node, 0.0) + float(spent)
        lines: list[Line] = []
        for node, spent in times.items():
            if node is None:
                lines.append(Line(COPIES, "", False, "", "", (), spent, 0, 0))
                continue
            lines.append(Line(
                node.op.name, layer_of(node), node.loc.backward, ", ".join(str(type.bind(sizes)) for type in node.types),
                str(node.loc), tuple(body_names(node)), spent, bound(node_flops(node), sizes), bound(node_bytes(node), sizes),
            ))
        return cls(graph.name, tuple(lines), dict(sizes))

    @property
    def nanoseconds(self) -> float:
        """The time of all nodes together."""
        return sum(line.nanoseconds for line in self.lines)

    def by_time(self) -> list[Line]:
        """The nodes, slowest first."""
        return sorted(self.lines, key=lambda line: -line.nanoseconds)

    def by_layer(self) -> dict[str, list[Line]]:
        """The nodes of each layer, in order of execution; forward and backward together."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.layer or (COPIES if line.name == COPIES else NO_LAYER), []).append(line)
        return found

    def table(self, *, by_time: bool = False) -> str:
        """Nodes in order of execution, or slowest first; then the total of each layer."""
        lines = self.by_time() if by_time else self.lines
        rows = [["node", "layer", "output", "time", "share", "GFLOP/s", "bytes", "GB/s"]]
        rows += [self._row(line.label, line.full_layer, line.types, [line]) for line in lines]
        rows.append(self._row("total", "", "", self.lines))
        split = len(rows)
        for layer, mine in self.by_layer().items():
            rows.append(self._row("", layer, "", mine))
        texts = aligned(rows, right=frozenset(range(3, 8)))
        rule = "-" * max(map(len, texts))
        bound_to = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        title = f"profile of {self.name}" + (f" for {bound_to}" if bound_to else "")
        return "\n".join([title, texts[0], rule, *texts[1 : split - 1], rule, texts[split - 1], "", "by layer", *texts[split:]])

    def _row(self, name: str, layer: str, types: str, lines: Sequence[Line]) -> list[str]:
        spent, flops, nbytes = (sum(getattr(line, what) for line in lines) for what in ("nanoseconds", "flops", "nbytes"))
        per = 1 / spent if spent else 0.0
        return [name, layer, types, time_text(spent), f"{self.share(spent):.1%}", rate_text(flops * per),
                bytes_text(nbytes) if nbytes else "", rate_text(nbytes * per)]

    def share(self, nanoseconds: float) -> float:
        """Which part of the whole this time is."""
        whole = self.nanoseconds
        return nanoseconds / whole if whole else 0.0

    def __str__(self) -> str:
        return self.table()

    def save(self, path: str | Path) -> None:
        """Write one HTML page that needs nothing else: a chart of the layers and a table that sorts by a click."""
        from graphnn.inspect.profile_page import page

        Path(path).write_text(page(self), encoding="utf-8")
