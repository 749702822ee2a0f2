"""Graphs as text that people read and write: `print_graph` and its inverse `parse_graph`. The grammar: docs/text_format.md.

    >>> from graphnn import ir
    >>> graph = parse_graph("graph g(%x: f32[N,3]) { %0 = tanh(%x) : f32[N,3]  return %0 }")
    >>> print(graph)
    graph g(%x: f32[N,3]) {
      %0 = tanh(%x) : f32[N,3]
      return %0
    }
"""

from __future__ import annotations

from graphnn.ir.attrs import attributes_text
from graphnn.ir.graph import Graph, Node, Value, role_of
from graphnn.ir.loc import Loc
from graphnn.ir.text_parser import parse_graph

__all__ = ["loc_tail", "parse_graph", "print_graph"]

LINE = 110                  # signatures longer than this have one input a line
TAIL_COLUMN = 72            # where the places of nodes are lined up, at most


def print_graph(graph: Graph, *, locations: bool = True) -> str:
    """The text of a graph, then of the bodies it uses, each once; `parse_graph` reads it back.

    Values are numbered in order, so that equal graphs print alike. `locations=False` leaves out the places (file:line and
    layer) at the ends of lines.
    """
    printer = _Printer(locations)
    return "\n".join([*printer.graph(graph, graph.name, locations), *printer.printed])


class _Printer:
    def __init__(self, locations: bool) -> None:
        self.locations = locations
        self.printed: list[str] = []                     # the lines of the bodies, inner ones first
        self.names: dict[Graph, str] = {}                # by identity: a shared body is looked at once
        self.by_text: dict[str, str] = {}
        self.taken: set[str] = set()

    def body_name(self, body: Graph) -> str:
        """The name that stands for `body`; bodies that print alike share one."""
        known = self.names.get(body)
        if known is not None:
            return known
        text = "\n".join(self.graph(body, "", False))
        name = self.by_text.get(text)
        if name is None:
            name, count = body.name, 0
            while name in self.taken:
                count += 1
                name = f"{body.name}_{count}"
            self.taken.add(name)
            self.by_text[text] = name
            self.printed += self.graph(body, f"@{name}", self.locations)
        self.names[body] = name
        return name

    def graph(self, graph: Graph, name: str, locations: bool) -> list[str]:
        names: dict[Value, str] = {value: f"%{value.name}" for value in graph.inputs}
        lines: list[str] = []
        tails: list[str] = []
        count = 0
        for node in graph.nodes:
            for value in node.outputs:
                names[value] = f"%{count}"
                count += 1
            lines.append("  " + self.node(node, names))
            tails.append(loc_tail(node.loc) if locations else "")
        column = max((len(line) for line in lines if len(line) <= TAIL_COLUMN), default=0)
        lines = [f"{line:<{column}}  # {tail}" if tail else line for line, tail in zip(lines, tails, strict=True)]
        lines.append("  " + " ".join(["return", ", ".join(names[value] for value in graph.outputs)]).rstrip())
        lines += [f"  update {names[state]} = {names[new]}" for state, new in graph.updates]
        return [*self.signature(graph, name), *lines, "}"]

    def signature(self, graph: Graph, name: str) -> list[str]:
        inputs = [_input(value) for value in graph.inputs]
        line = f"graph {name}({', '.join(inputs)}) {{"
        if len(line) <= LINE or not inputs:
            return [line]
        return [f"graph {name}(", *(f"  {text}," for text in inputs[:-1]), f"  {inputs[-1]}", ") {"]

    def node(self, node: Node, names: dict[Value, str]) -> str:
        results = ", ".join(names[value] for value in node.outputs)
        operands = ", ".join(names[value] for value in node.inputs)
        attributes = attributes_text(node.op, self.body_name)
        types = ", ".join(str(value) for value in node.types)
        return f"{results} = {node.op.name}({operands})" + (f" {attributes}" if attributes else "") + f" : {types}"


def _input(value: Value) -> str:
    role = role_of(value)
    prefix = "" if role == "input" else f"{role} "
    return f"{prefix}%{value.name}: {value.type}"


def loc_tail(loc: Loc) -> str:
    """`file.py:12 layer (backward)`: a place as text and files keep it, without folders and white space; "" for none."""
    if not (loc.file or loc.scope or loc.backward):
        return ""
    file, scope = file_word(loc.file), plain_word(loc.scope)
    place = f"{file}:{loc.line}" if file else "?:0"
    return " ".join(part for part in (place, scope, "(backward)" if loc.backward else "") if part)


def file_word(path: str) -> str:
    """The last part of a path, without characters that mean something in the text format."""
    return plain_word(path.replace("\\", "/").rpartition("/")[2]).replace(":", "_").replace("#", "_")


def plain_word(text: str) -> str:
    """`text` without characters that could break a line or write to a terminal."""
    if text.isprintable() and " " not in text:
        return text
    return "".join(c if c.isprintable() and not c.isspace() else "_" for c in text)
