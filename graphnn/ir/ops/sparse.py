"""Products with a sparse matrix A (m, k) that has a fixed number of entries, at places that change rarely.

A is given by `values` [E] and a `pattern` i32[3, E]:

    pattern[0]  the row of each entry, in ascending order
    pattern[1]  the column of each entry
    pattern[2]  the numbers of the entries in the order of their columns

so that A @ x is made row by row in the order of the entries, and A^T @ x row by row in the order of pattern[2]: each row of a
result is one run of entries. The dense operands are features first, (features, N): an entry then multiplies N numbers that
lie next to each other. Two ops are closed under differentiation: the gradients of `sparse_matmul` are its transpose and
`sampled_matmul`, whose gradients are two `sparse_matmul`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.dims import Size, dim, is_size
from graphnn.ir.graph import Node, Value
from graphnn.ir.op import Cotangents, Fusion, Op, Sample, Types
from graphnn.ir.ops.operands import check_bound_size, located, require_float, require_same_dtype
from graphnn.ir.types import DType, TensorType

M, K = dim("M"), dim("K")


def require_pattern(pattern: TensorType, entries: Size | None = None) -> None:
    """For type rules: i32[3, entries]."""
    if pattern.dtype is not DType.i32:
        raise DTypeError(f"takes a pattern i32[3,E], not {pattern}")
    if pattern.rank != 2 or pattern.shape[0] != 3 or entries not in (None, pattern.shape[1]):
        raise ShapeError(f"the pattern is {pattern}; it must be i32[3,{'E' if entries is None else entries}]: rows, columns "
                         "and the order by columns of all entries")


def require_features_first(x: TensorType, what: str) -> None:
    """For type rules: a matrix of real numbers."""
    require_float(x)
    if x.rank != 2:
        raise ShapeError(f"{what} is {x}; it must have two axes, (features, N)")


def check_within(numbers: np.ndarray, size: int, what: str) -> None:
    """Raise NumericsError unless 0 <= numbers < size."""
    wrong = numbers[(numbers < 0) | (numbers >= size)]
    if wrong.size:
        raise NumericsError(f"the {what} {wrong[0]} of a pattern is out of range: at least 0, below {size}")


def check_ascending(numbers: np.ndarray, what: str) -> None:
    """Raise NumericsError unless each number is at least the one before."""
    if (numbers[1:] < numbers[:-1]).any():
        raise NumericsError(f"the {what} of a pattern are not in ascending order")


@dataclass(frozen=True)
class SparseMatMul(Op):
    """A @ x, or A^T @ x with `transposed`, for a sparse A: (size, N) from x (features, N); see graphnn/ir/ops/sparse.py."""

    name = "sparse_matmul"
    fusion = Fusion.OPAQUE
    may_fail = True
    size: Size
    transposed: bool = False

    def infer(self, values: TensorType, pattern: TensorType, x: TensorType) -> Types:
        if not is_size(self.size) or (isinstance(self.size, int) and self.size < 0):
            raise ShapeError(f"the number of rows is {self.size!r}; it must be a whole number, at least 0")
        require_features_first(x, "x")
        require_same_dtype(values, x)
        if values.rank != 1:
            raise ShapeError(f"the values are {values}; they must have one axis, the entries")
        require_pattern(pattern, values.shape[0])
        return (x.of_shape((self.size, x.shape[1])),)

    def numpy(self, values: np.ndarray, pattern: np.ndarray, x: np.ndarray) -> np.ndarray:
        size = check_bound_size(self.size)
        total = np.zeros((size, x.shape[1]))
        if total.size == 0:
            return total.astype(x.dtype)
        to, source, order = pattern
        if self.transposed:
            check_within(order, len(values), "entry")
            to, source, values = source[order], to[order], values[order]
        check_within(to, size, "row" if not self.transposed else "column")
        check_ascending(to, "rows" if not self.transposed else "columns")
        check_within(source, x.shape[0], "column" if not self.transposed else "row")
        np.add.at(total, to, values[:, None].astype(np.float64) * x[source])
        return total.astype(x.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        values, pattern, x = node.inputs
        dx = SparseMatMul(x.shape[0], not self.transposed).one(values, pattern, dy)
        dvalues = SampledMatMul().one(pattern, x, dy) if self.transposed else SampledMatMul().one(pattern, dy, x)
        return dvalues, None, dx

    def flops(self, *inputs: TensorType) -> Size:
        return 2 * inputs[0].elements * inputs[2].shape[1]

    def failure(self, code: int) -> str:
        return "the pattern is damaged: an index lies out of range, or the entries are not in their order"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(31)
        for pattern, (m, k) in example_patterns(rng):
            for transposed in (False, True):
                for n in (5, 1, 37) if m == 5 else (3,):
                    x = rng.normal(size=(m if transposed else k, n))
                    op = cls(k if transposed else m, transposed)
                    yield Sample(op, (rng.normal(size=pattern.shape[1]), pattern, x), ("E", "3,E", "K,N"))
        pattern = sorted_pattern(np.array([0, 2]), np.array([1, 1]))
        yield Sample(cls(M), (np.array([1.5, -2.0]), pattern, rng.normal(size=(2, 3))), ("E", "3,E", "K,M"))
        yield Sample(cls(3), (np.array([1.5, -2.0]), pattern, np.zeros((2, 0))), ("E", "3,E", "K,N"))
        yield Sample(cls(0), (np.zeros(0), np.zeros((3, 0), np.int32), np.zeros((2, 3))), ("E", "3,E", "K,N"))


@dataclass(frozen=True)
class SampledMatMul(Op):
    """For each entry (i, j) of a pattern, the dot product of row i of `a` and row j of `b`, both (features, N)."""

    name = "sampled_matmul"
    fusion = Fusion.OPAQUE
    may_fail = True

    def infer(self, pattern: TensorType, a: TensorType, b: TensorType) -> Types:
        require_pattern(pattern)
        require_features_first(a, "a")
        require_features_first(b, "b")
        require_same_dtype(a, b)
        if a.shape[1] != b.shape[1]:
            raise ShapeError(f"the last sizes differ: {a.shape[1]} and {b.shape[1]}")
        return (a.of_shape((pattern.shape[1],)),)

    def numpy(self, pattern: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rows, columns, _ = pattern
        check_within(rows, a.shape[0], "row")
        check_within(columns, b.shape[0], "column")
        return np.einsum("en,en->e", a[rows].astype(np.float64), b[columns].astype(np.float64)).astype(a.dtype)

    def grad(self, node: Node, dy: Value) -> Cotangents:
        pattern, a, b = node.inputs
        return (None, SparseMatMul(a.shape[0]).one(dy, pattern, b),
                SparseMatMul(b.shape[0], True).one(dy, pattern, a))

    def flops(self, *inputs: TensorType) -> Size:
        return 2 * inputs[0].shape[1] * inputs[1].shape[1]

    def failure(self, code: int) -> str:
        return "the pattern is damaged: an index lies out of range"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(32)
        for pattern, (m, k) in example_patterns(rng):
            for n in (5, 1, 37) if m == 5 else (3,):
                yield Sample(cls(), (pattern, rng.normal(size=(m, n)), rng.normal(size=(k, n))), ("3,E", "M,N", "K,N"))
        pattern = sorted_pattern(np.array([0, 2]), np.array([1, 1]))
        yield Sample(cls(), (pattern, np.zeros((3, 0)), np.zeros((2, 0))), ("3,E", "M,N", "K,N"))


def sorted_pattern(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pattern i32[3, E] of entries at these places, which come in any order and are sorted by row, then column."""
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    return np.stack((rows, columns, np.lexsort((rows, columns)))).astype(np.int32)


def example_patterns(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Patterns and the sizes (m, k) of their matrices: some rows and columns empty, all full, a single entry, none."""
    yield sorted_pattern(np.array([4, 0, 0, 2, 4, 2, 4]), np.array([3, 1, 3, 0, 0, 3, 6])), (5, 7)
    yield sorted_pattern(*np.nonzero(np.ones((3, 2)))), (3, 2)
    yield sorted_pattern(np.array([0]), np.array([0])), (1, 1)
    yield sorted_pattern(np.zeros(0, int), np.zeros(0, int)), (2, 4)
    places = np.sort(rng.choice(9 * 11, 40, replace=False))
    yield sorted_pattern(*np.divmod(places, 11)), (9, 11)


# ------------------------------------------------------------------------------------------------ what users call

@located
def sparse_matmul(values: Value, pattern: Value, x: Value, size: Size, *, transposed: bool = False) -> Value:
    """A @ x for a sparse A with `size` rows, x (features, N): (size, N). With `transposed`, A^T @ x, where A has `size` columns.

    `values` [E] are A's entries; `pattern` i32[3, E] says where they stand: their rows, ascending; their columns; and the
    numbers of the entries in the order of their columns. A damaged pattern is a NumericsError when the graph runs.

    >>> import graphnn as gnn, numpy as np
    >>> from graphnn import ir
    >>> pattern = ir.constant(np.array([[0, 0, 1], [0, 2, 1], [0, 2, 1]], np.int32))      # [[1, 0, 2], [0, 3, 0]]
    >>> x = gnn.Input((2,), name="x", batch=3)
    >>> y = ir.sparse_matmul(ir.constant([1.0, 2.0, 3.0]), pattern, x, 2)
    >>> gnn.compile(gnn.Graph.of("product", [x], [y]), backend="numpy")(np.ones((3, 2), np.float32)).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    return SparseMatMul(size, transposed).one(values, pattern, x)


@located
def sampled_matmul(pattern: Value, a: Value, b: Value) -> Value:
    """The elements of a @ b^T at the places of a pattern i32[3, E] alone: [E], from a (m, N) and b (k, N)."""
    return SampledMatMul().one(pattern, a, b)
