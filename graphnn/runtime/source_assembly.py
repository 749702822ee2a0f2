"""Generated source -> LLVM assembly, without Numba's type inference: ten times as fast, for the little that it needs.

The source is Python, and Numba could compile it as well. It is one function of straight lines, `for ... in range(n)` and
`if`; no variable changes within a loop. Types follow from the arguments (a pointer to int64, then int64s) and from the
words, which are Numba intrinsics: they say their result's type and emit themselves.

    Written(source, words).assembly("symbol", integers=2)

Integers keep their width (where Numba would widen int32), a whole number in the text takes the type of what it meets.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from graphnn.runtime.intrinsics import CAST, I1, I64, LLVM_TYPE, NUMBA_TYPE

_ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_BITWISE = {ast.BitAnd: "and_", ast.BitOr: "or_"}
_SIGNS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


class Typed:
    """An LLVM value and its Numba type; a number written in the source has no type yet."""

    __slots__ = ("kind", "value")

    def __init__(self, value: Any, kind: Any = None) -> None:
        self.value, self.kind = value, kind


class _Context:
    """What intrinsics ask of Numba's context."""

    def get_dummy_value(self) -> Any:
        return None


class Written:
    """A kernel as source. `__graphnn_source__` is the text a reader should look at."""

    def __init__(self, source: str, words: Mapping[str, Any]) -> None:
        self.__graphnn_source__ = source
        self.words = words

    def assembly(self, symbol: str, integers: int) -> str:
        """The LLVM assembly of a function of that name: int64 symbol(int64*, int64...), `integers` of them."""
        (function,) = ast.parse(self.__graphnn_source__).body
        assert isinstance(function, ast.FunctionDef), "generated source is one function"
        module = ir.Module(symbol)
        module.triple, module.data_layout = _target()
        kind = ir.FunctionType(I64, [I64.as_pointer(), *[I64] * integers])
        emitted = ir.Function(module, kind, symbol)
        emitted.attributes.add("nounwind")
        values = [Typed(emitted.args[0], types.CPointer(types.int64)), *(Typed(a, types.int64) for a in emitted.args[1:])]
        names = {a.arg: value for a, value in zip(function.args.args, values, strict=True)}
        _Emitter(ir.IRBuilder(emitted.append_basic_block("entry")), names, self.words).run(function.body)
        return str(module)


@cache
def _target() -> tuple[str, str]:
    triple = llvm.get_process_triple()
    llvm.initialize_native_target()
    return triple, str(llvm.Target.from_triple(triple).create_target_machine().target_data)


@cache
def _definition(word: Any, given: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
    """An intrinsic's signature for these types, and what emits it."""
    made = word._defn(None, *given)
    assert made is not None, f"{word} does not take {given}"
    return made


class _Emitter:
    """Emits statements at a builder; `names` are the variables that are known."""

    def __init__(self, builder: ir.IRBuilder, names: dict[str, Typed], words: Mapping[str, Any]) -> None:
        self.b, self.names, self.words = builder, names, words

    # Statements.
    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            getattr(self, type(statement).__name__)(statement)

    def Assign(self, statement: ast.Assign) -> None:
        (target,) = statement.targets
        value = self.value(statement.value)
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        assert isinstance(target, ast.Subscript), "only names and elements are assigned"
        pointer, place = self.element(target)
        self.b.store(self.cast(value, pointer.kind.dtype), place)

    def Expr(self, statement: ast.Expr) -> None:
        self.value(statement.value)

    def Return(self, statement: ast.Return) -> None:
        assert statement.value is not None
        self.b.ret(self.cast(self.value(statement.value), types.int64))

    def If(self, statement: ast.If) -> None:
        with self.b.if_then(self.value(statement.test).value):
            self.inside(statement.body)

    def For(self, statement: ast.For) -> None:
        assert isinstance(statement.iter, ast.Call), "loops are over range(count)"
        assert isinstance(statement.target, ast.Name)
        (count,) = (self.cast(self.value(arg), types.int64) for arg in statement.iter.args)
        before = self.b.block
        header = self.b.append_basic_block("loop")
        body = self.b.append_basic_block("body")
        self.b.branch(header)
        self.b.position_at_end(header)
        index = self.b.phi(I64)
        index.add_incoming(I64(0), before)
        again = self.b.icmp_signed("<", index, count)
        self.b.position_at_end(body)
        outer = self.names
        self.names = {**outer, statement.target.id: Typed(index, types.int64)}
        self.run(statement.body)
        self.names = outer
        step: Any = self.b.add
        index.add_incoming(step(index, I64(1), flags=("nuw", "nsw")), self.b.block)
        self.b.branch(header)                           # the word at the loop's end may annotate this jump
        after = self.b.append_basic_block("after")
        self.b.position_at_end(header)
        self.b.cbranch(again, body, after)
        self.b.position_at_end(after)

    def inside(self, body: list[ast.stmt]) -> None:
        """What is assigned in a branch is not known after it."""
        outer = self.names
        self.names = dict(outer)
        self.run(body)
        self.names = outer

    # Expressions.
    def value(self, node: ast.expr) -> Typed:
        return getattr(self, type(node).__name__)(node)

    def Constant(self, node: ast.Constant) -> Typed:
        return Typed(node.value)

    def Name(self, node: ast.Name) -> Typed:
        return self.names[node.id] if node.id in self.names else Typed(self.words[node.id])

    def Subscript(self, node: ast.Subscript) -> Typed:
        pointer, place = self.element(node)
        return Typed(self.b.load(place), pointer.kind.dtype)

    def element(self, node: ast.Subscript) -> tuple[Typed, Any]:
        pointer = self.value(node.value)
        index = self.cast(self.value(node.slice), types.int64)
        return pointer, self.b.gep(pointer.value, [index], inbounds=True)

    def UnaryOp(self, node: ast.UnaryOp) -> Typed:
        x = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return Typed(self.b.not_(x.value), types.boolean)
        assert isinstance(node.op, ast.USub)
        if x.kind is None:
            return Typed(-x.value)
        return Typed(self.b.fneg(x.value) if isinstance(x.kind, types.Float) else self.b.neg(x.value), x.kind)

    def BinOp(self, node: ast.BinOp) -> Typed:
        x, y, kind = self.both(node.left, node.right)
        if kind is None:
            return Typed(eval(compile(ast.Expression(node), "<constants>", "eval"), dict(self.words)))
        if type(node.op) in _BITWISE:
            return Typed(getattr(self.b, _BITWISE[type(node.op)])(x, y), kind)
        name = _ARITHMETIC[type(node.op)]
        return Typed(getattr(self.b, ("f" if isinstance(kind, types.Float) else "") + name)(x, y), kind)

    def Compare(self, node: ast.Compare) -> Typed:
        x, y, kind = self.both(node.left, node.comparators[0])
        sign = _SIGNS[type(node.ops[0])]
        if isinstance(kind, types.Float):
            compare = self.b.fcmp_unordered if sign == "!=" else self.b.fcmp_ordered
        else:
            compare = self.b.icmp_signed if getattr(kind, "signed", False) else self.b.icmp_unsigned
        return Typed(compare(sign, x, y), types.boolean)

    def IfExp(self, node: ast.IfExp) -> Typed:
        x, y = self.value(node.body), self.value(node.orelse)
        kind = x.kind or y.kind or types.int64
        return Typed(self.b.select(self.value(node.test).value, self.cast(x, kind), self.cast(y, kind)), kind)

    def both(self, left: ast.expr, right: ast.expr) -> tuple[Any, Any, Any]:
        """Two operands in one type: that of the operand that has one."""
        x, y = self.value(left), self.value(right)
        kind = x.kind if x.kind is not None else y.kind
        return (x.value, y.value, None) if kind is None else (self.cast(x, kind), self.cast(y, kind), kind)

    def Call(self, node: ast.Call) -> Typed:
        assert isinstance(node.func, ast.Name), "words are called by name"
        name, args = node.func.id, [self.value(arg) for arg in node.args]
        if name in NUMBA_TYPE:                          # f32(x): a constant, or a conversion
            return self.converted(args[0], name)
        if name == "u8":
            return Typed(self.cast(args[0], types.uint8), types.uint8)
        word = self.words[name]
        given = tuple(types.int64 if arg.kind is None else arg.kind for arg in args)
        if args and args[0].kind is None and len(args) > 1 and args[1].kind is not None:
            given = (args[1].kind, *given[1:])          # select(c, 0, x), minimum(0, x)
        signature, emit = _definition(word, given)
        values = [self.cast(arg, kind) for arg, kind in zip(args, signature.args, strict=True)]
        return Typed(emit(_Context(), self.b, signature, values), signature.return_type)

    def converted(self, x: Typed, dtype: str) -> Typed:
        kind = NUMBA_TYPE[dtype]
        if x.kind is None or x.kind == kind:
            return Typed(self.cast(x, kind), kind)
        signature, emit = _definition(CAST[dtype], (x.kind,))
        return Typed(emit(_Context(), self.b, signature, [x.value]), kind)

    def cast(self, x: Typed, kind: Any) -> Any:
        """The LLVM value of `x` as `kind`: a number of the source takes the type, anything else has it already."""
        if x.kind is None:
            value = float(x.value) if isinstance(kind, types.Float) else int(x.value)
            return ir.Constant(LLVM_TYPE[kind], value)
        if x.kind == kind:
            return x.value
        assert (x.kind, kind) in ((types.boolean, types.uint8), (types.int32, types.int64)), f"{x.kind} where {kind} is needed"
        return self.b.zext(x.value, LLVM_TYPE[kind]) if x.value.type == I1 else self.b.sext(x.value, LLVM_TYPE[kind])

