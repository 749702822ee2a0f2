"""diff: what became of a graph, as text: `print(diff(before, after))`."""

from __future__ import annotations

from difflib import unified_diff

from graphnn.ir.graph import Graph, Node, Value


def diff(before: Graph, after: Graph) -> str:
    """A unified diff of two graphs; "" when they are alike.

    Values are named by the ops and operands they come from, not by their place in the order, so that one node more or
    less does not make every later line differ.
    """
    left, right = _lines(before), _lines(after)
    return "\n".join(unified_diff(left, right, before.name, after.name, n=2, lineterm=""))


def _lines(graph: Graph) -> list[str]:
    from graphnn.ir.attrs import attributes_text

    names: dict[Value, str] = {value: f"%{value.name}" for value in graph.inputs}
    count: dict[str, int] = {}

    def named(body: Graph) -> str:
        return "{" + "; ".join(_lines(body)) + "}"

    def line(node: Node) -> str:
        # An op's third use in a layer is conv2d/add.3: stable while other layers change.
        stem = f"{node.loc.scope}/{node.op.name}".lstrip("/") + (" backward" if node.loc.backward else "")
        for value in node.outputs:
            count[stem] = count.get(stem, 0) + 1
            names[value] = f"%{stem.replace(' backward', '~')}" + (f".{count[stem]}" if count[stem] > 1 else "")
        made, read = ", ".join(names[v] for v in node.outputs), ", ".join(names[v] for v in node.inputs)
        attributes = attributes_text(node.op, named)
        return f"{made} = {node.op.name}({read}){' ' + attributes if attributes else ''} : {', '.join(map(str, node.types))}"

    lines = [f"input %{value.name}: {value.type}" for value in graph.inputs]
    lines += [line(node) for node in graph.nodes]
    lines.append("return " + ", ".join(names[value] for value in graph.outputs))
    return lines + [f"update {names[state]} = {names[new]}" for state, new in graph.updates]
