"""Sparse evolutionary training: which entries of a sparse matrix go, and where new ones come (Mocanu et al., 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.dims import Size, dim, is_size
from graphnn.ir.graph import Value
from graphnn.ir.op import Fusion, Op, Sample, Types, make_node
from graphnn.ir.ops import arithmetic, casting, compare, functions, inputs, philox, reduce, slicing, sparse
from graphnn.ir.ops.operands import check_bound_size, located, require_float
from graphnn.ir.ops.random import check_scalars, check_stream
from graphnn.ir.types import DType, TensorType

K = dim("K")


@dataclass(frozen=True)
class Rewire(Op):
    """The pattern of a sparse (rows, columns) matrix after one rewiring, and where each entry was before: -1 for a new one.

    Of the entries >= 0 the many[0] closest to 0 go, of those < 0 the many[1] closest to 0, or all where there are fewer; of
    equal ones the first go. A NaN stays. As many new places are drawn, each set of them as likely, from all places that no kept
    entry has: the places just left are among them, so that a full matrix can be rewired too. The draw is Floyd's (Bentley &
    Floyd, 1987): for number i of d from M free places, t = floor(w (M - d + i + 1) / 2**64) with the i-th 64-bit word w of
    Philox, or M - d + i where t was drawn before. Entries must stand in the order of rows, then columns, no place twice; in the
    result they do.
    """

    name = "rewire"
    fusion = Fusion.OPAQUE
    may_fail = True
    rows: Size
    columns: Size
    stream: int

    def infer(self, values: TensorType, pattern: TensorType, many: TensorType, seed: TensorType, step: TensorType) -> Types:
        if not is_size(self.rows) or not is_size(self.columns):
            raise ShapeError(f"the matrix has the sizes {self.rows!r} and {self.columns!r}; they are whole numbers")
        self._check_sizes()
        check_stream(self.stream)
        require_float(values)
        if values.rank != 1:
            raise ShapeError(f"the values are {values}; they must have one axis, the entries")
        sparse.require_pattern(pattern, values.shape[0])
        if many != TensorType(DType.i64, (2,)):
            raise DTypeError(f"takes how many entries go as i64[2], not {many}")
        check_scalars(seed, step)
        return pattern, TensorType(DType.i32, (values.shape[0],))

    def numpy(self, values: np.ndarray, pattern: np.ndarray, many: np.ndarray, seed: np.ndarray,
              step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = check_bound_size(self.rows), check_bound_size(self.columns)
        self._check_sizes()
        sparse.check_within(pattern[0], rows, "row")
        sparse.check_within(pattern[1], columns, "column")
        place = pattern[0].astype(np.int64) * columns + pattern[1]
        if (place[1:] <= place[:-1]).any():
            raise NumericsError("the entries of a pattern are not in the order of rows, then columns, or one stands twice")
        kept = np.ones(len(values), bool)
        for of_sign, go in zip((values >= 0, values < 0), many, strict=True):
            found = np.flatnonzero(of_sign)
            nearest = np.argsort(np.abs(values[found]), kind="stable")
            kept[found[nearest[:max(0, go)]]] = False
        old = np.flatnonzero(kept)
        ranks = distinct(rows * columns - len(old), len(values) - len(old), int(seed), int(step), self.stream)
        # Before the free place of rank r stand the kept ones that have at most r free places before them.
        new = ranks + np.searchsorted(place[old] - np.arange(len(old)), ranks, side="right")
        every = np.concatenate((place[old], new))
        origin = np.concatenate((old, np.full(len(new), -1)))[np.argsort(every)]
        return sparse.sorted_pattern(*np.divmod(every, max(columns, 1))), origin.astype(np.int32)

    def _check_sizes(self) -> None:
        for size in (self.rows, self.columns):
            if isinstance(size, int) and not 0 <= size <= 1 << 31:
                raise ShapeError(f"the matrix has the sizes {self.rows} and {self.columns}; its pattern holds i32 numbers")

    def flops(self, *inputs: TensorType) -> Size:
        return 0

    def failure(self, code: int) -> str:
        return "the pattern is damaged: an index lies out of range, or the entries are not in the order of rows, then columns"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(33)
        kinds = ("E", "3,E", "2", "", "")

        def numbers(positive: int, negative: int, seed: int, step: int) -> tuple[np.ndarray, ...]:
            return np.array([positive, negative]), np.array(seed, np.int64), np.array(step, np.int64)

        for pattern, (m, k) in sparse.example_patterns(rng):
            for many in ((0, 0), (1, 2), (5, 3), (2**40, 2**40)):
                values = rng.normal(size=pattern.shape[1])
                yield Sample(cls(m, k, 7), (values, pattern, *numbers(*many, 11, 2**40)), kinds, smooth=False)
        pattern = sparse.sorted_pattern(*np.divmod(np.arange(1, 12, 2), 4))
        odd = np.array([0.5, -0.0, 0.0, -0.5, np.nan, np.inf])
        yield Sample(cls(3, 4, 0), (odd, pattern, *numbers(3, 1, -3, 0)), kinds, smooth=False)
        yield Sample(cls(3, 4, 0), (np.full(6, -2.0), pattern, *numbers(-1, 3, 0, -1)), kinds, smooth=False)
        yield Sample(cls(4, K, 1), (np.ones(4), sparse.sorted_pattern(np.array([0, 1, 1, 2]), np.array([1, 0, 3, 1])),
                                    *numbers(2, 0, 1, 1)), ("K", "3,K", "2", "", ""), smooth=False)


def distinct(free: int, count: int, seed: int, step: int, stream: int) -> np.ndarray:
    """`count` different numbers below `free`, every set of them as likely, by Floyd's method."""
    words = philox.words(seed, step, stream, -(-count // 2)).reshape(-1, 2)[:count]
    drawn: dict[int, None] = {}
    for i, (low, high) in enumerate(words.tolist()):
        last = free - count + i
        t = ((high << 32 | low) * (last + 1)) >> 64
        drawn[last if t in drawn else t] = None
    return np.fromiter(drawn, np.int64, count)


# ------------------------------------------------------------------------------------------------ what users call

@located
def rewire(values: Value, pattern: Value, shape: tuple[Size, Size], zeta: Value | float, seed: Value, step: Value, *,
           stream: int = 0) -> tuple[Value, Value]:
    """(pattern, origin) after a rewiring of the sparse matrix of this shape (Mocanu et al., 2018).

    Of the n entries >= 0 the floor(zeta n) closest to 0, and so of those < 0, give way to as many at new places, drawn by seed
    and step (i64[]) from all that are free then, the places just left included. `zeta` is a number from 0 to 1, or f64[].
    `origin` i32[E] has the number that each entry had before, -1 for a new one.

    >>> import graphnn as gnn, numpy as np
    >>> from graphnn import ir
    >>> pattern = ir.constant(np.array([[0, 0, 1], [0, 2, 1], [0, 2, 1]], np.int32))
    >>> values = ir.constant([1.0, 0.1, 2.0])
    >>> new = ir.rewire(values, pattern, (2, 3), 0.4, ir.constant(0), ir.constant(0))
    >>> gnn.compile(gnn.Graph.of("rewire", [], list(new)), backend="numpy")()[1]
    array([ 0,  2, -1], dtype=int32)
    """
    share = zeta if isinstance(zeta, Value) else inputs.constant(zeta, DType.f64)
    signs = compare.greater_equal(values, 0.0), compare.less(values, 0.0)
    counts = [reduce.sum(casting.cast(sign, DType.f64)) for sign in signs]
    many = casting.cast(functions.floor(arithmetic.mul(slicing.stack(counts), share)), DType.i64)
    after, origin = make_node(Rewire(shape[0], shape[1], stream), (values, pattern, many, seed, step)).outputs
    return after, origin
