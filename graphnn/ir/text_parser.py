"""Read graphs from text: a scanner and one function a rule of the grammar (docs/text_format.md).

Everything is checked on the way: ops and attributes by name, attribute values against the fields of the op, types against
the op's type rule. Whatever is wrong is a VerifyError that names the line and the column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from graphnn.errors import GraphnnError, VerifyError
from graphnn.ir import attrs
from graphnn.ir.attrs import Array
from graphnn.ir.dims import MAX_DEPTH, parse_size
from graphnn.ir.graph import ROLES, Graph, Node, Value
from graphnn.ir.loc import Loc
from graphnn.ir.op import Op, make_node
from graphnn.ir.types import DType, TensorType, as_dtype, parse_shape
from graphnn.ir.verify import verify

MAX_TEXT = 1 << 26          # characters of one text
MAX_BODY_DEPTH = 16         # bodies in bodies
MAX_UNFOLDED = 1 << 20      # nodes of a graph with every body counted at each of its uses

_SPACE = re.compile(r"(?:\s+|#[^\n]*)*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w./-]*")
_VALUE = re.compile(r"%([\w./-]+)")
_TYPE = re.compile(r"[a-z]\w*\[[^\]\n]*\]")
_FLOAT = re.compile(r"-?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|inf\b|nan\b)")
_INT = re.compile(r"-?\d+(?!\s*[*+\w./-])")
_SIZE_TOKEN = re.compile(r"[ \t]*(?:\d+|[A-Za-z_]\w*|//|[-+*(),])")
_STRING = re.compile(r'"((?:[^"\\\n]|\\["\\nt]|\\u\{[0-9a-f]{1,6}\})*)"')
_HEX = re.compile(r"0x([0-9a-fA-F]*)")
_HEADER = re.compile(r"^[ \t]*graph\s+@([A-Za-z_][\w./-]*)", re.MULTILINE)
_TAIL = re.compile(r"[ \t]*#[ \t]*(?P<file>[^\s#:][^\s:]*):(?P<line>\d{1,9})(?: (?P<scope>(?!\(backward\))\S+))?"
                   r"(?P<backward> \(backward\))?[ \t]*(?=\n|\Z)")


def parse_graph(text: str) -> Graph:
    """The graph written in `text`, followed by the bodies it uses. Raises VerifyError with line and column."""
    import graphnn.ir.ops  # noqa: F401  its effect: the registry is filled

    if len(text) > MAX_TEXT:
        raise VerifyError(f"the text has {len(text)} characters; at most {MAX_TEXT} can be read")
    return _Parser(text).main()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.types: dict[str, TensorType] = {}
        self.bodies: dict[str, Graph | None] = {}        # None while a body is being read
        self.depth = 0
        self.unfolded: dict[Graph, int] = {}
        self.starts: dict[str, int] = {}                 # where each body begins, and
        self.ends: dict[str, int] = {}                   # where those that were read end
        for match in _HEADER.finditer(text):
            if match[1] in self.starts:
                self.fail(f"two bodies are named @{match[1]}", match.start())
            self.starts[match[1]] = match.start()

    # -------------------------------------------------------------------------------------------- scanner

    def fail(self, message: str, at: int | None = None, cause: Exception | None = None) -> NoReturn:
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        raise VerifyError(f"line {line}, column {column}: {message}", hint=getattr(cause, "hint", None)) from cause

    def found(self) -> str:
        rest = self.text[self.at:self.at + 24].split("\n")[0]
        return repr(rest) if rest else "the end" if self.at >= len(self.text) else "the end of the line"

    def skip(self) -> None:
        self.at = self.next()

    def sees(self, literal: str) -> bool:
        return self.text.startswith(literal, self.next())

    def next(self) -> int:
        """Where the next token begins; stays before a comment, which may be a node's place."""
        match = _SPACE.match(self.text, self.at)
        return match.end() if match else self.at

    def accept(self, literal: str) -> bool:
        start = self.next()
        if not self.text.startswith(literal, start):
            return False
        self.at = start + len(literal)
        return True

    def expect(self, literal: str) -> None:
        if not self.accept(literal):
            self.skip()
            self.fail(f"expected {literal!r}, found {self.found()}")

    def match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        self.skip()
        match = pattern.match(self.text, self.at)
        if match is None:
            self.fail(f"expected {what}, found {self.found()}")
        self.at = match.end()
        return match

    def accept_word(self, word: str) -> bool:
        match = _WORD.match(self.text, self.next())
        if match is None or match[0] != word:
            return False
        self.at = match.end()
        return True

    def several(self, item: Callable[[], Any], end: str) -> list[Any]:
        """Items with commas between them up to `end`, which is taken."""
        items: list[Any] = []
        if self.accept(end):
            return items
        while True:
            items.append(item())
            if self.accept(end):
                return items
            self.expect(",")

    # -------------------------------------------------------------------------------------------- graphs

    def main(self) -> Graph:
        self.skip()
        graph = self.graph(body=False)
        while not self.at_end():
            self.skip_body()
        for name, start in self.starts.items():
            if name not in self.bodies:
                self.fail(f"the body @{name} is not used", start)
        try:
            verify(graph)
        except VerifyError as error:
            self.fail(str(error), 0, error)
        return graph

    def at_end(self) -> bool:
        self.skip()
        return self.at >= len(self.text)

    def skip_body(self) -> None:
        """Step over a body: it was read where it was used, or will be called unused."""
        start = self.at
        match = _HEADER.match(self.text, start) or _HEADER.match(self.text, self.text.rfind("\n", 0, start) + 1)
        if match is None or match.end() <= start:
            self.fail(f"expected a body (graph @name...), found {self.found()}", start)
        end = self.ends.get(match[1])
        if end is None:
            self.fail(f"the body @{match[1]} is not used", start)
        self.at = end

    def graph(self, body: bool) -> Graph:
        if not self.accept_word("graph"):
            self.fail(f"expected graph, found {self.found()}")
        if body:
            self.expect("@")
        name = self.match(_IDENTIFIER, "the name of the graph")[0]
        values: dict[str, Value] = {}
        nodes: list[Node] = []
        self.expect("(")
        inputs: list[Value] = self.several(lambda: self.input(values), ")")
        self.expect("{")
        outputs: list[Value] | None = None
        updates: list[tuple[Value, Value]] = []
        unfolded = 0
        while not self.accept("}"):
            if self.sees("%"):
                node = self.node(values)
                nodes.append(node)
                unfolded += 1 + sum(map(self.unfolded.__getitem__, attrs.bodies_of(node.op)))
                if unfolded > MAX_UNFOLDED:
                    self.fail(f"the graph has more than {MAX_UNFOLDED} nodes, bodies counted at each use")
            elif self.accept_word("return"):
                if outputs is not None:
                    self.fail("a second return")
                outputs = self.results(values)
            elif self.accept_word("update"):
                state = self.value(values)
                self.expect("=")
                updates.append((state, self.value(values)))
            else:
                self.fail(f"expected a node, return, update or '}}', found {self.found()}")
        if outputs is None:
            self.fail("the graph has no return", self.at - 1)
        graph = Graph(name, tuple(inputs), tuple(outputs), tuple(nodes), tuple(updates))
        self.unfolded[graph] = unfolded
        return graph

    def body(self) -> Graph:
        start = self.at
        name = self.match(_IDENTIFIER, "the name of a body")[0]
        if name in self.bodies:
            known = self.bodies[name]
            return known if known is not None else self.fail(f"the body @{name} contains itself", start)
        if name not in self.starts:
            self.fail(f"there is no body @{name}", start)
        if self.depth >= MAX_BODY_DEPTH:
            self.fail(f"bodies are nested more than {MAX_BODY_DEPTH} deep", start)
        here, self.at = self.at, self.starts[name]
        self.depth += 1
        self.bodies[name] = None
        graph = self.bodies[name] = self.graph(body=True)
        self.depth -= 1
        self.ends[name] = self.at
        self.at = here
        return graph

    def input(self, values: dict[str, Value]) -> Value:
        from graphnn.ir.ops.inputs import Input

        role = next((role for role in ROLES if self.accept_word(role)), "input")
        self.skip()
        start = self.at
        name = self.match(_VALUE, "an input such as %x: f32[N,3]")[1]
        self.expect(":")
        declared = self.type()
        try:
            value = make_node(Input(name, role, declared), (), Loc()).output
        except GraphnnError as error:
            self.fail(str(error), start, error)
        self.define(name, value, values, start)
        return value

    def define(self, name: str, value: Value, values: dict[str, Value], at: int) -> None:
        if name in values:
            self.fail(f"%{name} is defined twice", at)
        values[name] = value

    def value(self, values: dict[str, Value]) -> Value:
        self.skip()
        start = self.at
        name = self.match(_VALUE, "a value such as %0")[1]
        if name not in values:
            self.fail(f"%{name} is not defined before this", start)
        return values[name]

    def results(self, values: dict[str, Value]) -> list[Value]:
        if not self.sees("%"):
            return []
        found = [self.value(values)]
        while self.accept(","):
            found.append(self.value(values))
        return found

    def node(self, values: dict[str, Value]) -> Node:
        names: list[tuple[str, int]] = []
        while True:
            self.skip()
            start = self.at
            names.append((self.match(_VALUE, "a value such as %0")[1], start))
            if not self.accept(","):
                break
        self.expect("=")
        self.skip()
        start = self.at
        name = self.match(_WORD, "the name of an op")[0]
        if name not in Op.registry or name == "input":
            self.fail(f"there is no op {name!r}", start)
        self.expect("(")
        operands = self.several(lambda: self.value(values), ")")
        op = self.op(name, start, 0)
        written: list[tuple[TensorType, int]] | None = None
        if self.accept(":"):
            written = [self.placed_type()]
            while self.accept(","):
                written.append(self.placed_type())
        try:
            node = make_node(op, tuple(operands), self.tail())
            for derived in node.types:
                attrs.check_extent(derived)
        except GraphnnError as error:
            self.fail(str(error), start, error)
        if len(names) != len(node.types):
            self.fail(f"{name} has {len(node.types)} outputs, not {len(names)}", start)
        if written is not None and len(written) != len(node.types):
            self.fail(f"{name} has {len(node.types)} outputs; {len(written)} types are written", written[0][1])
        for (declared, at), derived in zip(written or (), node.types, strict=written is not None):
            if declared != derived:
                self.fail(f"{name} gives {derived}; the text says {declared}", at)
        for (label, at), value in zip(names, node.outputs, strict=True):
            self.define(label, value, values, at)
        return node

    def tail(self) -> Loc:
        """The place at the end of a node's line; another comment is none."""
        match = _TAIL.match(self.text, self.at)
        if match is None:
            return Loc()
        file = "" if match["file"] == "?" else match["file"]
        return Loc(file, int(match["line"]), "", match["scope"] or "", match["backward"] is not None)

    def op(self, name: str, at: int, depth: int) -> Op:
        """The op `name` with the attributes that follow."""
        attributes: dict[str, Any] = {}
        if self.accept("{"):
            for attribute, value in self.several(lambda: self.attribute(depth), "}"):
                if attribute in attributes:
                    self.fail(f"{name}: the attribute {attribute!r} is given twice", at)
                attributes[attribute] = value
        try:
            return attrs.build_op(name, attributes)
        except GraphnnError as error:
            self.fail(str(error), at, error)

    def attribute(self, depth: int) -> tuple[str, Any]:
        name = self.match(_WORD, "the name of an attribute")[0]
        self.expect("=")
        return name, self.literal(depth)

    # -------------------------------------------------------------------------------------------- types and literals

    def placed_type(self) -> tuple[TensorType, int]:
        self.skip()
        start = self.at
        return self.type(), start

    def type(self) -> TensorType:
        text = self.match(_TYPE, "a type such as f32[N,3]")[0]
        known = self.types.get(text)
        if known is None:
            dtype, _, shape = text[:-1].partition("[")
            try:
                known = attrs.check_extent(TensorType(as_dtype(dtype), parse_shape(shape)))
            except GraphnnError as error:
                self.fail(str(error), self.at - len(text), error)
            self.types[text] = known
        return known

    def literal(self, depth: int) -> Any:
        """Any attribute value."""
        self.skip()
        if depth > attrs.MAX_NESTING:
            self.fail(f"attributes are nested more than {attrs.MAX_NESTING} deep")
        for pattern, read in ((_FLOAT, self.float), (_INT, self.int), (_STRING, self.string)):
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return read(match)
        if self.accept("@"):
            return self.body()
        if self.sees("("):
            return self.tuple_or_size(depth)
        if self.text[self.at:self.at + 1] in "-0123456789":
            return self.size()
        start = self.at
        word = self.match(_WORD, "an attribute value")[0]
        match word:
            case "true" | "false":
                return word == "true"
            case "none":
                return None
            case "size":
                self.expect("(")
                size = self.size()
                self.expect(")")
                return size
            case "op":
                self.expect("(")
                self.skip()
                at = self.at
                name = self.match(_WORD, "the name of an op")[0]
                self.expect(")")
                return self.op(name, at, depth + 1)
            case "array":
                return self.array()
            case _ if word in DType.__members__:
                if not self.text.startswith("[", self.at):
                    return DType[word]
                self.at = start
                return self.type()
        self.at = start
        return self.size()

    def float(self, match: re.Match[str]) -> float:
        return float(match[0])

    def int(self, match: re.Match[str]) -> int:
        if len(match[0]) > 24:
            self.fail("an integer of more than 24 digits", match.start())
        return int(match[0])

    def string(self, match: re.Match[str]) -> str:
        return re.sub(r"\\(u\{([0-9a-f]+)\}|.)", lambda m: self.unescape(m, match.start()), match[1])

    def unescape(self, match: re.Match[str], at: int) -> str:
        if match[2] is None:
            return {"n": "\n", "t": "\t"}.get(match[1], match[1])
        number = int(match[2], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            self.fail("an escape that stands for no character", at)
        return chr(number)

    def tuple_or_size(self, depth: int) -> Any:
        """`(1, N)` is a tuple, `(1,)` too; `(N+1)//2` is a size."""
        start = self.at
        self.expect("(")
        items: list[Any] = []
        comma = False
        while not self.accept(")"):
            if items and not comma:
                self.fail(f"expected ',' or ')', found {self.found()}")
            items.append(self.literal(depth + 1))
            comma = self.accept(",")
        if len(items) == 1 and not comma:
            self.at = start
            return self.size()
        return tuple(items)

    def size(self) -> int | Any:
        """The longest run of size tokens up to a comma or parenthesis of the surroundings."""
        self.skip()
        start, depth = self.at, 0
        while True:
            match = _SIZE_TOKEN.match(self.text, self.at)
            if match is None:
                break
            token = match[0].lstrip()
            depth += (token == "(") - (token == ")")
            if depth < 0 or (token == "," and depth == 0):
                break
            if depth > MAX_DEPTH:
                self.fail(f"a size is nested more than {MAX_DEPTH} deep", start)
            self.at = match.end()
        if self.at == start:
            self.fail(f"expected an attribute value, found {self.found()}")
        try:
            return parse_size(self.text[start:self.at])
        except GraphnnError as error:
            self.fail(str(error), start, error)

    def array(self) -> Array:
        self.skip()
        start = self.at
        declared = self.type()
        if not declared.is_static:
            self.fail(f"an array has a static type, not {declared}", start)
        self.skip()
        try:
            if match := _HEX.match(self.text, self.at):
                self.at = match.end()
                return attrs.array_of_bytes(declared, bytes.fromhex(match[1]))
            self.expect("(")
            items = self.several(lambda: self.element(declared.dtype), ")")
            if len(items) != declared.elements:
                self.fail(f"{declared} has {declared.elements} elements; {len(items)} are written", start)
            shape = tuple(int(str(size)) for size in declared.shape)
            return Array(np.array(items, declared.dtype.numpy).reshape(shape))
        except (GraphnnError, ValueError, OverflowError) as error:
            if isinstance(error, VerifyError) and str(error).startswith("line "):
                raise
            self.fail(f"no {declared}: {error}", start, error)

    def element(self, dtype: DType) -> Any:
        self.skip()
        start = self.at
        value = self.literal(attrs.MAX_NESTING)
        if type(value) not in ((bool,) if dtype is DType.bool else (int, float) if dtype.is_float else (int,)):
            self.fail(f"expected an element of {dtype}, found {attrs.describe_value(value)}", start)
        return value
