"""Sizes: plain integers, or `Dim`s: polynomials over names with floor division, min and max.

    >>> N = dim("N")
    >>> str(2 * N + 1), str((N + 1) // 2), (2 * N + 4) // 2 == N + 2
    ('2*N+1', '(N+1)//2', True)

A constant is always an `int`, never a `Dim`; a `Dim` is in normal form, so that `==` is equality of polynomials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphnn.errors import ShapeError

MAX_SIZE = 1 << 40          # one axis, and
MAX_ELEMENTS = 1 << 44      # one tensor: far above any memory, far below an overflow of int64 byte counts
MAX_DEPTH = 80              # nesting of one size expression read from text
MAX_TEXT = 2000             # characters of one size expression read from text
MAX_CALLS = 32              # nesting of floordiv, min and max in one size
MAX_FACTOR = 1 << 53        # a number within a size, and
MAX_ATOMS = 400             # names and calls in one size: a few slices and concats in a hostile file would double it each
NAME = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True)
class Call:
    """floordiv, min or max of two sizes: what a polynomial cannot say."""

    function: str
    left: Size
    right: Size

    @cached_property
    def extent(self) -> tuple[int, int]:
        """How many names and calls this holds, and how deep calls nest in it."""
        (left, left_depth), (right, right_depth) = _extent(self.left), _extent(self.right)
        return 1 + left + right, 1 + max(left_depth, right_depth)

    def __str__(self) -> str:
        if self.function == "floordiv":
            return f"{_factor(self.left)}//{_factor(self.right)}"
        return f"{self.function}({self.left},{self.right})"


Atom = str | Call
Monomial = tuple[Atom, ...]


def _factor(size: Size) -> str:
    if isinstance(size, int):
        return str(size) if size >= 0 else f"({size})"
    (atoms, coefficient), *more = size.terms
    is_name = not more and coefficient == 1 and len(atoms) == 1 and isinstance(atoms[0], str)
    return str(size) if is_name else f"({size})"


@dataclass(frozen=True)
class Dim:
    """A size that depends on names. Build with `dim("N")` and arithmetic; bind with `bind({"N": 3})`."""

    terms: tuple[tuple[Monomial, int], ...]

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def extent(self) -> tuple[int, int]:
        """How many names and calls this holds, and how deep calls nest in it."""
        atoms = depth = 0
        for monomial, _ in self.terms:
            for atom in monomial:
                more, inner = (1, 0) if isinstance(atom, str) else atom.extent
                atoms, depth = atoms + more, max(depth, inner)
        return atoms, depth

    @cached_property
    def text(self) -> str:
        parts: list[str] = []
        for atoms, coefficient in self.terms:
            alone = len(atoms) == 1 and coefficient in (1, -1)
            factors = [f"({a})" if isinstance(a, Call) and a.function == "floordiv" and not alone else str(a) for a in atoms]
            if coefficient not in (1, -1) or not atoms:
                factors.insert(0, str(abs(coefficient)))
            parts.append(("-" if coefficient < 0 else "+") + "*".join(factors))
        return "".join(parts).removeprefix("+")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Dim({self.text})"

    def __add__(self, other: Size) -> Size:
        return _from_dict(_merge(_terms(self), _terms(other)))

    def __mul__(self, other: Size) -> Size:
        product: dict[Monomial, int] = {}
        left, right = _terms(self), _terms(other)
        if len(left) * len(right) > MAX_ATOMS:
            raise ShapeError(f"a size has more than {MAX_ATOMS} terms")
        for atoms, coefficient in left:
            for more, factor in right:
                key = tuple(sorted(atoms + more, key=str))
                product[key] = product.get(key, 0) + coefficient * factor
        return _from_dict(product)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floordiv(other, self)

    def names(self) -> Iterator[str]:
        """The names this size depends on, with repeats."""
        for atoms, _ in self.terms:
            for atom in atoms:
                if isinstance(atom, str):
                    yield atom
                else:
                    yield from names_of(atom.left)
                    yield from names_of(atom.right)

    def bind(self, sizes: Mapping[str, int]) -> int:
        """The number this size is when names have these values. Raises ShapeError for an unbound name or a bad size."""
        total = 0
        for atoms, coefficient in self.terms:
            product = coefficient
            for atom in atoms:
                product *= _bind_atom(atom, sizes)
            total += product
        if not 0 <= total <= MAX_SIZE:
            raise ShapeError(f"the size {self} is {total} for {dict(sizes)}; sizes lie between 0 and 2**40")
        return total


Size = int | Dim


def _bind_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        if atom not in sizes:
            raise ShapeError(f"the size {atom} is not known here; known: {', '.join(sizes) or 'none'}")
        return sizes[atom]
    left, right = _bind_signed(atom.left, sizes), _bind_signed(atom.right, sizes)
    if atom.function == "floordiv":
        if right <= 0:
            raise ShapeError(f"the size {atom} divides by {right}")
        return left // right
    return min(left, right) if atom.function == "min" else max(left, right)


def _bind_signed(size: Size, sizes: Mapping[str, int]) -> int:
    """Like bind, but a part of a size may be negative: max(N-3,0)."""
    if isinstance(size, int):
        return size
    total = 0
    for atoms, coefficient in size.terms:
        product = coefficient
        for atom in atoms:
            product *= _bind_atom(atom, sizes)
        total += product
    return total


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def _merge(*many: tuple[tuple[Monomial, int], ...]) -> dict[Monomial, int]:
    total: dict[Monomial, int] = {}
    for terms in many:
        for atoms, coefficient in terms:
            total[atoms] = total.get(atoms, 0) + coefficient
    return total


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    return (-len(term[0]), "*".join(map(str, term[0])))


def _from_dict(total: dict[Monomial, int]) -> Size:
    terms = tuple(sorted(((a, c) for a, c in total.items() if c), key=_order))
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    return _bounded(Dim(terms))


def dim(name: str) -> Dim:
    """The size called `name`."""
    if not NAME.match(name):
        raise ShapeError(f"{name!r} cannot name a size; use letters, digits and underscores")
    return Dim((((name,), 1),))


def is_size(value: object) -> bool:
    return isinstance(value, Dim) or (isinstance(value, int) and not isinstance(value, bool))


def floordiv(left: Size, right: Size) -> Size:
    """left // right, exact where that can be seen: (2*N+5)//2 is N+2, (N*T)//T is N."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if left == right:
        return 1
    if isinstance(right, int):
        if right <= 0:
            raise ShapeError(f"cannot divide the size {left} by {right}")
        whole = {a: c // right for a, c in _terms(left) if c % right == 0 or not a}
        rest = _from_dict({a: (c % right if not a else c) for a, c in _terms(left) if c % right})
        quotient = _from_dict(whole)
        if isinstance(rest, int):                       # 0 <= rest < right adds nothing
            return quotient
        return quotient + _call("floordiv", rest, right)
    exact = _divide_by_monomial(left, right)
    return exact if exact is not None else _call("floordiv", left, right)


def ceildiv(left: Size, right: Size) -> Size:
    """left / right rounded up."""
    return floordiv(left + right - 1, right)


def dim_min(left: Size, right: Size) -> Size:
    """The smaller of two sizes."""
    if left == right:
        return left
    return min(left, right) if isinstance(left, int) and isinstance(right, int) else _call("min", left, right)


def dim_max(left: Size, right: Size) -> Size:
    """The larger of two sizes."""
    if left == right:
        return left
    return max(left, right) if isinstance(left, int) and isinstance(right, int) else _call("max", left, right)


def _call(function: str, left: Size, right: Size) -> Size:
    if any(isinstance(part, int) and abs(part) > MAX_FACTOR for part in (left, right)):
        raise ShapeError("a size has a number above 2**53 in it")
    return _bounded(Dim((((Call(function, left, right),), 1),)))


def _bounded(size: Dim) -> Dim:
    if any(abs(coefficient) > MAX_FACTOR for _, coefficient in size.terms):
        raise ShapeError("a size has a number above 2**53 in it")
    atoms, depth = size.extent
    if atoms > MAX_ATOMS or depth > MAX_CALLS:
        raise ShapeError(f"a size has {atoms} names and calls, nested {depth} deep; at most {MAX_ATOMS} and {MAX_CALLS} can be")
    return size


def _extent(size: Size) -> tuple[int, int]:
    return (0, 0) if isinstance(size, int) else size.extent


def _divide_by_monomial(left: Size, right: Dim) -> Size | None:
    if len(right.terms) != 1:
        return None
    ((atoms, coefficient),) = right.terms
    result: dict[Monomial, int] = {}
    for more, factor in _terms(left):
        rest = list(more)
        if factor % coefficient:
            return None
        for atom in atoms:
            if atom not in rest:
                return None
            rest.remove(atom)
        result[tuple(rest)] = factor // coefficient
    return _from_dict(result)


def bind_size(size: Size, sizes: Mapping[str, int]) -> int:
    """The number a size is, whether symbolic or not."""
    return size if isinstance(size, int) else size.bind(sizes)


def numbers(sizes: Sequence[Size]) -> tuple[int, ...]:
    """Sizes that are bound: numbers. Raises ShapeError for a name."""
    return tuple(bind_size(size, {}) for size in sizes)


def names_of(size: Size) -> Iterator[str]:
    """The names a size depends on."""
    if isinstance(size, Dim):
        yield from size.names()


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


# ------------------------------------------------------------------------------------------------ reading

_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|//|[-+*(),])")


def parse_size(text: str) -> Size:
    """The size written in `text`: the inverse of str. Raises ShapeError."""
    tokens: list[str] = []
    position = 0
    if len(text) > MAX_TEXT:
        raise ShapeError(f"the size {text[:40]!r}... is longer than {MAX_TEXT} characters")
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ShapeError(f"{text!r} is not a size: unexpected {text[position:].strip()[:1]!r}")
        tokens.append(match[1])
        position = match.end()
    reader = _SizeReader(text, tokens)
    size = reader.sum(0)
    if reader.tokens:
        raise ShapeError(f"{text!r} is not a size: unexpected {reader.tokens[0]!r}")
    return size


class _SizeReader:
    """Recursive descent over: sum = product (('+'|'-') product)*, product = factor (('*'|'//') factor)*."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text, self.tokens = text, tokens

    def take(self, expected: str | None = None) -> str:
        if not self.tokens or (expected is not None and self.tokens[0] != expected):
            found = repr(self.tokens[0]) if self.tokens else "the end"
            raise ShapeError(f"{self.text!r} is not a size: expected {expected or 'a size'}, found {found}")
        return self.tokens.pop(0)

    def sum(self, depth: int) -> Size:
        if depth > MAX_DEPTH:
            raise ShapeError(f"the size {self.text[:40]!r} is nested more than {MAX_DEPTH} deep")
        negative = bool(self.tokens) and self.tokens[0] == "-" and bool(self.take())
        total = self.product(depth)
        total = -total if negative else total
        while self.tokens and self.tokens[0] in "+-":
            total = total + self.product(depth) if self.take() == "+" else total - self.product(depth)
        return total

    def product(self, depth: int) -> Size:
        total = self.factor(depth)
        while self.tokens and self.tokens[0] in ("*", "//"):
            if self.take() == "*":
                total = total * self.factor(depth)
            else:
                divisor = self.factor(depth)
                if divisor == 0:
                    raise ShapeError(f"the size {self.text!r} divides by 0")
                total = floordiv(total, divisor)
        return total

    def factor(self, depth: int) -> Size:
        token = self.take()
        if token == "(":
            inner = self.sum(depth + 1)
            self.take(")")
            return inner
        if token in ("min", "max") and self.tokens and self.tokens[0] == "(":
            self.take("(")
            left = self.sum(depth + 1)
            self.take(",")
            right = self.sum(depth + 1)
            self.take(")")
            return dim_min(left, right) if token == "min" else dim_max(left, right)
        if token.isdigit():
            if len(token) > 16:
                raise ShapeError(f"the size {token[:20]}... is too large")
            return int(token)
        return dim(token)
