"""Each elementwise op as an expression of Python source, for the loops that fused_body writes.

`FORMULAS[OpClass](dtype, *names)` gives the text: `dtype` is that of the first operand (of the second for `where`), the names
are variables. Booleans are Numba booleans within an expression; they become bytes only in memory. The words in the texts
are those of `fused_words.vocabulary()`. A new elementwise op gets its kernel by one line here.
"""

from __future__ import annotations

from collections.abc import Callable

from graphnn.errors import UnsupportedError
from graphnn.ir.graph import Node
from graphnn.ir.op import Op, describe
from graphnn.ir.ops import arithmetic as a
from graphnn.ir.ops import casting, compare
from graphnn.ir.ops import functions as f

Formula = Callable[..., str]
FLOATS = ("f32", "f64")


def _arithmetic(sign: str) -> Formula:
    # Numba widens int32 arithmetic to int64; the cast takes it back, and LLVM makes 32-bit arithmetic of it.
    return lambda t, x, y: f"to_i32({x} {sign} {y})" if t == "i32" else f"({x} {sign} {y})"


def _word(name: str) -> Formula:
    return lambda t, *names: f"{name}_{t}({', '.join(names)})"


def _either(floats: str, integers: str) -> Formula:
    return lambda t, *names: f"{floats if t in FLOATS else integers}({', '.join(names)})"


def _infix(sign: str) -> Formula:
    return lambda t, x, y: f"({x} {sign} {y})"


FORMULAS: dict[type[Op], Formula] = {
    a.Add: _arithmetic("+"),
    a.Sub: _arithmetic("-"),
    a.Mul: _arithmetic("*"),
    a.Div: _infix("/"),
    a.Pow: _word("pow"),
    a.Minimum: _either("minimum", "imin"),
    a.Maximum: _either("maximum", "imax"),
    a.Mod: _word("mod"),
    a.FloorDiv: _word("floordiv"),
    f.Neg: lambda t, x: f"(-{x})" if t in FLOATS else f"ineg({x})",
    f.Abs: _either("fabs", "iabs"),
    f.Sign: lambda t, x: f"select({x} > {t}(0), {t}(1), select({x} < {t}(0), {t}(-1), select({x} == {t}(0), {t}(0), {x})))",
    f.Exp: _word("exp"),
    f.Expm1: _word("expm1"),
    f.Log: _word("log"),
    f.Log1p: _word("log1p"),
    f.Sqrt: lambda t, x: f"sqrt({x})",
    f.Rsqrt: lambda t, x: f"({t}(1) / sqrt({x}))",
    f.Tanh: _word("tanh"),
    f.Sigmoid: _word("sigmoid"),
    f.Erf: _word("erf"),
    f.Sin: _word("sin"),
    f.Cos: _word("cos"),
    f.Floor: lambda t, x: f"floor({x})",
    f.Ceil: lambda t, x: f"ceil({x})",
    f.Round: lambda t, x: f"rint({x})",
    f.Relu: lambda t, x: f"select({x} < {t}(0), {t}(0), {x})",
    compare.Equal: _infix("=="),
    compare.Less: _infix("<"),
    compare.LessEqual: _infix("<="),
    compare.LogicalAnd: _infix("&"),
    compare.LogicalOr: _infix("|"),
    compare.LogicalNot: lambda t, x: f"(not {x})",
    compare.IsFinite: lambda t, x: f"(fabs({x}) < {t}(inf))",
    compare.Where: lambda t, c, x, y: f"select({c}, {x}, {y})",
    casting.StopGradient: lambda t, x: x,
}

# What is worth keeping for a later sweep over a row, rather than computing again.
COSTLY: tuple[type[Op], ...] = (
    a.Pow, f.Exp, f.Expm1, f.Log, f.Log1p, f.Tanh, f.Sigmoid, f.Erf, f.Sin, f.Cos,
)  # fmt: skip


def formula(node: Node, names: list[str]) -> str:
    """The expression for an elementwise node whose operands are the variables `names`."""
    op, kinds = node.op, [value.dtype.value for value in node.inputs]
    if isinstance(op, casting.Cast):
        return cast(kinds[0], op.dtype.value, names[0])
    write = FORMULAS.get(type(op))
    if write is None:
        error = UnsupportedError(
            f"no scalar formula for the op {op.name!r}", hint='give it a decomposition, or compile with backend="numpy"'
        )
        error.locate("", describe(tuple(value.type for value in node.inputs), node.loc))
        raise error
    return write(kinds[-1], *names)


def cast(source: str, target: str, name: str) -> str:
    """The expression that converts a variable between dtypes."""
    if source == target:
        return name
    return f"({name} != {source}(0))" if target == "bool" else f"to_{target}({name})"


def load(dtype: str, text: str) -> str:
    """The expression for an element read from memory."""
    return f"({text} != u8(0))" if dtype == "bool" else text


def store(dtype: str, name: str) -> str:
    """The expression of an element as it lies in memory."""
    return f"to_bool({name})" if dtype == "bool" else name


IDENTITY = {
    "Sum": lambda t: f"{t}(0)",
    "Prod": lambda t: f"{t}(1)",
    "Max": lambda t: f"{t}(-inf)" if t in FLOATS else f"{t}({-2**31 if t == 'i32' else -2**63})",
    "Min": lambda t: f"{t}(inf)" if t in FLOATS else f"{t}({2**31 - 1 if t == 'i32' else 2**63 - 1})",
}
COMBINE: dict[str, Formula] = {
    "Sum": FORMULAS[a.Add],
    "Prod": FORMULAS[a.Mul],
    "Max": FORMULAS[a.Maximum],
    "Min": FORMULAS[a.Minimum],
}
