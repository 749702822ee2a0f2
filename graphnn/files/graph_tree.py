"""Graphs as trees of numbers and strings for the header, and back. docs/file_format.md describes the tree.

Graphs of one file share their inputs, ops' names, places and bodies: each is a table, and graphs refer to it by number. The
reader trusts nothing: numbers are checked against their tables, ops against the registry, attributes against the op's fields,
and types are derived anew by the ops' rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphnn.errors import FileFormatError, GraphnnError, VerifyError
from graphnn.files.header import by_bytes, pack_header
from graphnn.ir import attribute_trees, attrs
from graphnn.ir.attrs import Array
from graphnn.ir.graph import IDENTIFIER, ROLES, Graph, Node, Value
from graphnn.ir.loc import Loc
from graphnn.ir.op import Op, make_node
from graphnn.ir.ops.inputs import Input
from graphnn.ir.text import file_word, plain_word
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify

INLINE_BYTES = 64               # constants up to here stand in the header, larger ones among the tensors
MAX_NAME = 1024                 # bytes of a name
MAX_BODY_DEPTH = 16             # bodies in bodies
OPSET = 1                       # the meaning of ops: a number for each change of meaning of an existing op


def check_name(name: Any, what: str) -> str:
    """`name`, if it can name something in a file. Raises VerifyError."""
    if not isinstance(name, str) or not IDENTIFIER.match(name):
        raise VerifyError(f"{attrs.describe_value(name)} cannot name {what}; use letters, digits, _ . / -")
    if not name.isascii() and (not unicodedata.is_normalized("NFC", name) or len(by_bytes(name)) > MAX_NAME):
        raise VerifyError(f"{name!r} cannot name {what}: it is too long, or not in Unicode's normal form C")
    if len(name) > MAX_NAME:
        raise VerifyError(f"a name of {len(name)} characters cannot name {what}; at most {MAX_NAME} can be")
    return name


def unfolded_limit(stored: int) -> int:
    """How many nodes a graph may have when every body is counted at each use, for this many nodes in the file."""
    return 16 * stored + (1 << 13)


class GraphWriter:
    """Collects the tables while graphs are turned into trees."""

    def __init__(self) -> None:
        self.ops: dict[str, int] = {}
        self.places: dict[Loc, int] = {}
        self.inputs: dict[tuple[str, str, TensorType], int] = {}
        self.input_rows: list[list[Any]] = []
        self.constants: dict[tuple[TensorType, bytes], int] = {}
        self.arrays: list[Array] = []
        self.bodies: list[list[Any]] = []
        self.by_identity: dict[Graph, int] = {}
        self.by_bytes: dict[bytes, int] = {}
        self.sizes: list[tuple[int, int]] = []           # of each body: nodes unfolded, depth
        self.stored = 0

    def tree(self, graphs: Mapping[str, Graph], *, verified: bool = False) -> dict[str, Any]:
        """The tree of several graphs. Raises VerifyError for one that is not well formed or cannot be written."""
        roles: dict[str, Value] = {}
        rows: dict[str, Any] = {}
        unfolded: dict[str, int] = {}
        for key in sorted(graphs, key=by_bytes):
            graph = graphs[check_name(key, "a graph of a file")]
            if not verified:
                verify(graph)
            for value in (*graph.by_role("param"), *graph.by_role("state")):
                other = roles.setdefault(value.name, value)
                if (other.type, other.node.op.role) != (value.type, value.node.op.role):  # pyright: ignore
                    raise VerifyError(f"two graphs of one file have different {value.name!r}: {other.type} and {value.type}")
            ids = [self.input_id(value) for value in graph.inputs]
            row, unfolded[key], depth = self.graph(graph, ids)
            if depth > MAX_BODY_DEPTH:
                raise VerifyError(f"the bodies of {key!r} are nested {depth} deep; at most {MAX_BODY_DEPTH} can be")
            rows[key] = row
        for key, count in unfolded.items():
            if count > unfolded_limit(self.stored):
                raise VerifyError(f"the graph {key!r} has {count} nodes when its bodies are unfolded: too many for a file")
        return {"bodies": self.bodies, "graphs": rows, "inputs": self.input_rows, "ops": list(self.ops), "opset": OPSET,
                "places": [[p.file, p.line, p.function, p.scope, p.backward] for p in self.places]}

    def graph(self, graph: Graph, inputs: list[Any]) -> tuple[list[Any], int, int]:
        numbers = {value: i for i, value in enumerate(graph.inputs)}
        nodes: list[Any] = []
        unfolded = depth = 0
        for node in graph.nodes:
            op = self.op_id(node.op.name)
            attributes = attribute_trees.attributes_tree(node.op, self)
            nodes.append([op, attributes, [numbers[value] for value in node.inputs], self.place_id(node.loc)])
            for value in node.outputs:
                numbers[value] = len(numbers)
            unfolded += 1
            if attributes is not None:
                for body in attrs.bodies_of(node.op):
                    size, inner = self.sizes[self.by_identity[body]]
                    unfolded, depth = unfolded + size, max(depth, inner + 1)
        self.stored += len(nodes)
        row = [check_name(graph.name, "a graph"), inputs, nodes, [numbers[value] for value in graph.outputs],
               [[numbers[state], numbers[new]] for state, new in graph.updates]]
        return row, unfolded, depth

    def input_id(self, value: Value) -> int:
        op = value.node.op
        assert isinstance(op, Input), "the graph was verified"
        key = (op.label, op.role, op.type)
        known = self.inputs.get(key)
        if known is None:
            known = self.inputs[key] = len(self.inputs)
            self.input_rows.append(self.input_row(value))
        return known

    def input_row(self, value: Value) -> list[Any]:
        op = value.node.op
        assert isinstance(op, Input), "the graph was verified"
        attrs.check_extent(op.type)
        return [check_name(op.label, "an input"), op.role, op.type.dtype.value, attribute_trees.shape_tree(op.type),
                self.place_id(value.node.loc)]

    def op_id(self, name: str) -> int:
        if name not in Op.registry:
            raise VerifyError(f"the op {name!r} is not registered")
        return self.ops.setdefault(name, len(self.ops))

    def place_id(self, loc: Loc) -> int:
        return self.places.setdefault(stored_place(loc), len(self.places))

    def array_tree(self, array: Array) -> Any:
        if len(array.bits) <= INLINE_BYTES:
            return [array.type.dtype.value, list(array.type.shape), little_endian(array.data).tobytes()]
        key = (array.type, array.bits)
        known = self.constants.get(key)
        if known is None:
            known = self.constants[key] = len(self.arrays)
            self.arrays.append(array)
        return known

    def body_id(self, body: Graph) -> int:
        known = self.by_identity.get(body)
        if known is not None:
            return known
        row, unfolded, depth = self.graph(body, [self.input_row(value) for value in body.inputs])
        packed = pack_header({"": row})
        known = self.by_bytes.get(packed)
        if known is None:
            known = self.by_bytes[packed] = len(self.bodies)
            self.bodies.append(row)
            self.sizes.append((unfolded, depth))
        else:
            self.stored -= len(body.nodes)
        self.by_identity[body] = known
        return known


def stored_place(loc: Loc) -> Loc:
    """What a file keeps of a place: no folders, nothing that a terminal would obey."""
    file = file_word(loc.file)[:MAX_NAME]
    line = min(max(loc.line, 0), (1 << 31) - 1) if file else 0
    return Loc(file, line, plain_word(loc.function)[:MAX_NAME] if file else "", plain_word(loc.scope)[:MAX_NAME], loc.backward)


def little_endian(data: np.ndarray) -> np.ndarray:
    """`data` as C-contiguous little-endian elements; the same object when it is so already."""
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<")).reshape(data.shape)


# ------------------------------------------------------------------------------------------------ reading

def _number(value: Any, count: int, what: str) -> int:
    if type(value) is not int or not 0 <= value < count:
        raise FileFormatError(f"{attrs.describe_value(value)} is no number of {what}; there are {count}")
    return value


def _row(value: Any, length: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise FileFormatError(f"{what} is {attrs.describe_value(value)}, not a list of {length}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise FileFormatError(f"{what} is {attrs.describe_value(value)}, not a list")
    return value


class GraphReader:
    """The inverse of GraphWriter. `constants` are the arrays that stand among the tensors, in the order of their numbers."""

    def __init__(self, tree: Any, constants: Sequence[Array]) -> None:
        import graphnn.ir.ops  # noqa: F401  its effect: the registry is filled

        keys = ["bodies", "graphs", "inputs", "ops", "opset", "places"]
        if not isinstance(tree, dict) or sorted(tree, key=repr) != sorted(keys, key=repr):
            raise FileFormatError(f"the part ir does not have the keys {', '.join(keys)}")
        if tree["opset"] != OPSET or type(tree["opset"]) is not int:
            raise FileFormatError(f"the ops have version {attrs.describe_value(tree['opset'])}; this graphnn knows {OPSET}",
                                  hint="upgrade graphnn")
        self.constants = constants
        self.ops = [self.known_op(name) for name in _list(tree["ops"], "the table of ops")]
        self.plain: list[Op | None] = [None] * len(self.ops)    # each op without attributes, made once
        self.places = [self.place(row) for row in _list(tree["places"], "the table of places")]
        self.inputs = [self.input(row) for row in _list(tree["inputs"], "the table of inputs")]
        self.bodies: list[Graph] = []
        self.sizes: dict[Graph, tuple[int, int]] = {}
        rows = tree["graphs"]
        if not isinstance(rows, dict):
            raise FileFormatError("the part graphs is no map")
        bodies = _list(tree["bodies"], "the table of bodies")
        self.limit = unfolded_limit(sum(len(row[2]) for row in (*bodies, *rows.values())
                                        if isinstance(row, list) and len(row) == 5 and isinstance(row[2], list)))
        for i, row in enumerate(bodies):
            inputs = [self.input(r) for r in _list(_row(row, 5, f"body {i}")[1], "the inputs of a body")]
            self.bodies.append(self.graph(row, inputs, f"body {i}"))
        self.graphs: dict[str, Graph] = {}
        for key, row in rows.items():
            numbers = _list(_row(row, 5, f"graph {key!r}")[1], "the inputs of a graph")
            inputs = [self.inputs[_number(i, len(self.inputs), "an input")] for i in numbers]
            self.graphs[key] = self.graph(row, inputs, f"graph {key[:40]!r}")
            verify(self.graphs[key])

    def known_op(self, name: Any) -> str:
        if not isinstance(name, str) or name not in Op.registry or name == "input":
            raise FileFormatError(f"there is no op {attrs.describe_value(name)}",
                                  hint="upgrade graphnn, or import the module that defines the op before loading")
        return name

    def place(self, row: Any) -> Loc:
        file, line, function, scope, backward = _row(row, 5, "a place")
        if not (isinstance(file, str) and isinstance(function, str) and isinstance(scope, str)) \
                or type(line) is not int or not isinstance(backward, bool):
            raise FileFormatError("a place is not file, line, function, layer, backward")
        loc = Loc(file, line, function, scope, backward)
        if stored_place(loc) != loc:
            raise FileFormatError(f"the place {attrs.describe_value(row)} is not in plain form")
        return loc

    def input(self, row: Any) -> Value:
        name, role, dtype, shape, place = _row(row, 5, "an input")
        if not isinstance(role, str) or role not in ROLES:
            raise FileFormatError(f"{attrs.describe_value(role)} is no role of an input; there are {', '.join(ROLES)}")
        op = Input(check_name(name, "an input"), role, attribute_trees.type_of_tree(dtype, shape))
        return make_node(op, (), self.places[_number(place, len(self.places), "a place")]).output

    def graph(self, row: list[Any], inputs: list[Value], where: str) -> Graph:
        name, _, nodes, outputs, updates = row
        values = list(inputs)
        made: list[Node] = []
        unfolded = depth = 0
        for i, node in enumerate(_list(nodes, f"the nodes of {where}")):
            try:
                new = self.node(node, values)
                made.append(new)
                unfolded += 1
                for body in attrs.bodies_of(new.op) if node[1] is not None else ():
                    size, inner = self.sizes[body]
                    unfolded, depth = unfolded + size, max(depth, inner + 1)
            except GraphnnError as error:
                raise FileFormatError(f"{where}, node {i}: {error}", hint=error.hint) from error
            if unfolded > self.limit or depth > MAX_BODY_DEPTH:
                raise FileFormatError(f"{where}: its bodies unfold to {unfolded} nodes, nested {depth} deep: too much")
            values += new.outputs
        results = self.values(outputs, values, f"the outputs of {where}")
        pairs = []
        for pair in _list(updates, f"the updates of {where}"):
            state, new = self.values(_row(pair, 2, "an update"), values, "an update")
            pairs.append((state, new))
        graph = Graph(check_name(name, "a graph"), tuple(inputs), results, tuple(made), tuple(pairs))
        self.sizes[graph] = (unfolded, depth)
        return graph

    def values(self, numbers: Any, values: list[Value], what: str) -> tuple[Value, ...]:
        return tuple(values[_number(i, len(values), "a value")] for i in _list(numbers, what))

    def node(self, row: Any, values: list[Value]) -> Node:
        op_number, attributes, operands, place = _row(row, 4, "a node")
        op_number = _number(op_number, len(self.ops), "an op")
        loc = self.places[_number(place, len(self.places), "a place")]
        op = self.plain[op_number] if attributes is None else None
        if op is None:
            op = attrs.build_op(self.ops[op_number], attribute_trees.read_attributes(attributes, self))
            if attributes is None:
                self.plain[op_number] = op
        node = make_node(op, self.values(operands, values, "the operands"), loc)
        for type in node.types:
            attrs.check_extent(type)
        return node

    def op_name(self, number: Any) -> str:
        return self.ops[_number(number, len(self.ops), "an op")]

    def body(self, number: Any) -> Graph:
        return self.bodies[_number(number, len(self.bodies), "an earlier body")]

    def array(self, tree: Any) -> Array:
        if isinstance(tree, list):
            dtype, shape, raw = _row(tree, 3, "an array")
            if not isinstance(raw, bytes):
                raise FileFormatError("an array in the header is not dtype, shape and bytes")
            return attrs.array_of_bytes(attribute_trees.type_of_tree(dtype, shape), raw)
        return self.constants[_number(tree, len(self.constants), "a constant")]
